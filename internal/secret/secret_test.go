package secret_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"davidcockson.com/runner/internal/secret"
)

const canary = "canary-7f3a"

// holder has its keys where fmt calls methods.
type holder struct {
	Key    secret.Key
	Keys   []secret.Key
	ByName map[string]secret.Key
	Ptr    *secret.Key
}

// hidden has its key where fmt cannot call methods.
type hidden struct{ key secret.Key }

func TestKeyNeverShowsItsText(t *testing.T) {
	key := secret.New(canary)
	in := holder{key, []secret.Key{key}, map[string]secret.Key{"a": key}, &key}
	forms := map[string]string{
		"String":   key.String(),
		"GoString": key.GoString(),
	}
	for _, verb := range []string{"v", "+v", "#v", "s", "q", "x", "X", "d", "t", "e", "c", "U", "p", "T", "20s", "-20q", "z"} {
		forms["a key by %"+verb] = fmt.Sprintf("%"+verb, key)
		forms["a pointer by %"+verb] = fmt.Sprintf("%"+verb, &key)
		forms["inside a struct by %"+verb] = fmt.Sprintf("%"+verb, in)
		forms["inside an unexported field by %"+verb] = fmt.Sprintf("%"+verb, hidden{key})
	}
	for name, marshal := range map[string]func(any) ([]byte, error){"JSON": json.Marshal, "YAML": yaml.Marshal} {
		out, err := marshal(in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n := strings.Count(string(out), secret.Redacted); n != 4 {
			t.Errorf("%s shows %d redacted keys, want 4: %s", name, n, out)
		}
		forms[name] = string(out)
	}
	out, err := xml.Marshal(in.Keys)
	if err != nil {
		t.Fatal(err)
	}
	forms["XML"] = string(out)
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var log bytes.Buffer
		slog.New(handler(&log)).Info("m", "key", key, "holder", in, "pointer", &key, "hidden", hidden{key})
		forms[name] = log.String()
	}
	for name, form := range forms {
		if strings.Contains(form, canary) || strings.Contains(form, fmt.Sprintf("%x", canary)) {
			t.Errorf("%s shows the secret: %s", name, form)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, key); got != secret.Redacted {
			t.Errorf("%s gives %q, want %q", verb, got, secret.Redacted)
		}
	}
}

func TestZeroKeyLooksLikeAnyOther(t *testing.T) {
	for name, key := range map[string]secret.Key{"zero value": {}, "made from nothing": secret.New("")} {
		if !key.IsZero() || key.Reveal() != "" {
			t.Errorf("%s: IsZero %v, Reveal %q", name, key.IsZero(), key.Reveal())
		}
		if got := fmt.Sprint(key); got != secret.Redacted {
			t.Errorf("%s prints %q", name, got)
		}
	}
	if key := secret.New(canary); key.IsZero() || key.Reveal() != canary {
		t.Errorf("a set key: IsZero %v, Reveal %q", key.IsZero(), key.Reveal())
	}
}

func TestFromFile(t *testing.T) {
	tests := []struct {
		name, content, want, wantErr string
	}{
		{"a text without newline is taken whole", canary, canary, ""},
		{"one newline at the end is left out", canary + "\n", canary, ""},
		{"a Windows newline at the end is left out", canary + "\r\n", canary, ""},
		{"only one newline is left out", canary + "\n\n", canary + "\n", ""},
		{"a carriage return alone stays", canary + "\r", canary + "\r", ""},
		{"spaces stay", " " + canary + " ", " " + canary + " ", ""},
		{"the largest file is taken", strings.Repeat("k", secret.MaxFile), strings.Repeat("k", secret.MaxFile), ""},
		{"a larger file is refused", canary + strings.Repeat("k", secret.MaxFile), "", "the secret's file is larger than 64 KiB"},
		{"an empty file is refused", "", "", "the secret's file is empty"},
		{"a file with a newline alone is refused", "\n", "", "the secret's file is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			key, err := secret.FromFile(path)
			if tt.wantErr != "" {
				if err == nil || err.Error() != tt.wantErr || !key.IsZero() {
					t.Fatalf("got error %v, zero %v; want %q", err, key.IsZero(), tt.wantErr)
				}
				return
			}
			if err != nil || key.Reveal() != tt.want {
				t.Fatalf("got %d bytes, error %v; want %d bytes", len(key.Reveal()), err, len(tt.want))
			}
		})
	}
}

func TestFromFileRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, canary+"-fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, canary)
	for name, path := range map[string]string{"a folder": dir, "a FIFO that nobody writes": fifo, "a missing file": missing} {
		_, err := secret.FromFile(path)
		if err == nil {
			t.Errorf("%s is taken", name)
			continue
		}
		if strings.Contains(err.Error(), dir) {
			t.Errorf("%s: the error shows the path: %v", name, err)
		}
	}
	if _, err := secret.FromFile(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file gives %v, want one that is fs.ErrNotExist", err)
	}
}
