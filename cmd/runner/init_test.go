package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/vault"
)

// The stories cannot hold files without a last line end.
func TestInitAddsOneLineToStignore(t *testing.T) {
	for _, test := range []struct{ name, before, after string }{
		{"an empty file gets the line", "", "/.runner/tmp\n"},
		{"a last line without an end stays a line of its own", "(?d).DS_Store", "(?d).DS_Store\n/.runner/tmp\n"},
		{"line ends of another system keep their bytes", "a\r\nb\r\n", "a\r\nb\r\n/.runner/tmp\n"},
		{"bytes that are no text stay", "caf\xe9\n", "caf\xe9\n/.runner/tmp\n"},
		{"a line that is there already is not added", "/.runner/tmp\nb\n", "/.runner/tmp\nb\n"},
		{"so too with another line end", "a\r\n/.runner/tmp\r\n", "a\r\n/.runner/tmp\r\n"},
		{"a longer line is another one", "/.runner/tmp2\n", "/.runner/tmp2\n/.runner/tmp\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			conf := filepath.Join(dir, "runner.yaml")
			ignore := filepath.Join(dir, "vault", ".stignore")
			write(t, conf, "vault: vault\nstate_dir: state\nproviders: [{name: echo, kind: echo}]\n")
			write(t, ignore, test.before)
			for range 2 { // a second init changes nothing more
				var out bytes.Buffer
				if code := run(t.Context(), []string{"init", "--config", conf}, environment{stdout: &out, stderr: &out}); code != exitOK {
					t.Fatalf("exit code %d: %s", code, out.String())
				}
				got, err := os.ReadFile(ignore)
				if err != nil {
					t.Fatal(err)
				}
				if string(got) != test.after {
					t.Fatalf(".stignore is %q, want %q", got, test.after)
				}
			}
		})
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// Templates go where the plugin looks for them, and never outside the vault, into
// Obsidian's settings, or into the queue.
func TestTemplatesFolder(t *testing.T) {
	for _, test := range []struct{ name, settings, want, fault string }{
		{"no settings", "", "_templates", ""},
		{"no folder is set", `{"dateFormat": "YYYY"}`, "_templates", ""},
		{"the root is set", `{"folder": "/"}`, "_templates", ""},
		{"a folder", `{"folder": "Templates"}`, "Templates", ""},
		{"a folder in a folder", `{"folder": "meta/Vorlagen für alles/"}`, "meta/Vorlagen für alles", ""},
		{"out of the vault", `{"folder": "../elsewhere"}`, "", "no folder for notes"},
		{"a path of Windows", `{"folder": "D:\\vault\\Templates"}`, "", "no folder for notes"},
		{"a folder that Obsidian hides", `{"folder": "meta/.templates"}`, "", "no folder for notes"},
		{"the queue", `{"folder": "_queue/templates"}`, "", "the queue's"},
		{"settings that are no JSON", `folder: Templates`, "", "cannot be read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if test.settings != "" {
				write(t, filepath.Join(dir, ".obsidian", "templates.json"), test.settings)
			}
			got, err := templatesFolder(openVault(t, dir))
			if got != test.want || (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
				t.Errorf("%q, %v; want %q, %s", got, err, test.want, test.fault)
			}
		})
	}
}

func openVault(t *testing.T, dir string) *vault.Vault {
	t.Helper()
	v, err := vault.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}
