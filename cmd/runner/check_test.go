package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/examples"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/queue"
)

func TestOwnerTrouble(t *testing.T) {
	const me, owner, group, other = 1001, 1000, 100, 101
	for _, row := range []struct {
		name   string
		writer writer
		folder owned
		want   []string // none for no trouble
	}{
		{"the owner itself", writer{owner, other, 0o077}, owned{"_queue", owner, group, 0o700}, nil},
		{"another user, all open", writer{me, other, 0o022}, owned{"_queue", owner, group, 0o777}, nil},
		{"another user keeps files to itself", writer{me, other, 0o077}, owned{"_queue", owner, group, 0o777}, []string{"read what is written into _queue; "}},
		{"the group may read what its members write", writer{me, group, 0o027}, owned{"_queue", owner, group, 0o770}, nil},
		{"a folder hands its group down", writer{me, other, 0o027}, owned{"_queue", owner, group, fs.ModeSetgid | 0o770}, nil},
		{"without that the file has the writer's group", writer{me, other, 0o027}, owned{"_queue", owner, group, 0o770}, []string{"read what is written into _queue; "}},
		{"another user's folder lets nobody delete", writer{me, other, 0o022}, owned{"_failed", me, other, 0o755}, []string{"could not delete it from _failed; "}},
		{"another user's folder lets the group delete", writer{me, group, 0o002}, owned{"_failed", me, group, 0o775}, nil},
		{"a folder that only its maker may enter", writer{me, other, 0o077}, owned{"_failed", me, other, 0o700}, []string{"read what is written into _failed, and not delete it from _failed; "}},
		{"in a sticky folder each deletes its own", writer{me, other, 0o022}, owned{"_failed", me, other, fs.ModeSticky | 0o777}, []string{"could not delete it from _failed; "}},
		{"a sticky folder of the owner's", writer{me, other, 0o022}, owned{"_failed", owner, group, fs.ModeSticky | 0o777}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			root := owned{".", owner, group, 0o755}
			got := ownerTrouble(row.writer, root, []owned{row.folder})
			if (got == "") != (len(row.want) == 0) {
				t.Fatalf("%q, want %q", got, row.want)
			}
			for _, want := range row.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q, want %q", got, want)
				}
			}
		})
	}
}

func TestCheckTypes(t *testing.T) {
	for _, row := range []struct {
		name, file string // "" for no file
		warn       bool
		want       string
	}{
		{"nothing is set", "", false, "none set"},
		{"ours as they should be, and others", `{"types": {"draft": "checkbox", "tags": "tags", "rating": "number"}}`, false, "none of ours set to another type"},
		{"no types in it", `{}`, false, "none of ours"},
		{"one of ours differs", `{"types": {"draft": "text"}}`, true, "draft is text and should be checkbox; "},
		{"several differ", `{"types": {"not_before": "date", "attempts": "text"}}`, true, "attempts is text and should be number, not_before is date and should be datetime; "},
		{"in another case", `{"types": {"Draft": "text"}}`, true, "Draft is text and should be checkbox; "},
		{"a type that is no word", `{"types": {"draft": {"kind": "toggle"}}}`, true, "draft is map[kind:toggle] and should be checkbox; "},
		{"no JSON", `types: {}`, true, "cannot be read: "},
	} {
		t.Run(row.name, func(t *testing.T) {
			v := openVault(t, t.TempDir())
			if row.file != "" {
				if err := makeFolders(v, examples.Settings); err != nil {
					t.Fatal(err)
				}
				if err := v.Write(examples.PropertyTypes, []byte(row.file)); err != nil {
					t.Fatal(err)
				}
			}
			f := checkTypes(v)
			if !f.OK || f.Warn != row.warn || !strings.Contains(f.Text, row.want) {
				t.Errorf("%s %q, want %q", f.mark(), f.Text, row.want)
			}
		})
	}
}

// The types in the example vault are those of what is really written: into notes
// that ended well and badly, and into their output notes.
func TestPropertyTypesFitTheNotes(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "runner.yaml")
	write(t, conf, "vault: vault\nstate_dir: state\nlisten: 127.0.0.1:0\nops_listen: 127.0.0.1:0\nguard: 0s\nproviders: [{name: echo, kind: echo}]\n")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	command := func(ctx context.Context, args ...string) (string, int) {
		var out, log bytes.Buffer
		code := run(ctx, append(args, "--config", conf), environment{stdin: strings.NewReader("Hello."), stdout: &out, stderr: &log})
		return out.String() + log.String(), code
	}
	if out, code := command(ctx, "init"); code != exitOK {
		t.Fatal(out)
	}
	go func() {
		_, code := command(ctx, "up")
		ended <- code
	}()
	defer func() {
		stop()
		if code := <-ended; code != exitOK {
			t.Errorf("up ended with exit code %d", code)
		}
	}()
	hang, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	look := time.NewTicker(lookEach)
	defer look.Stop()
	for {
		out, code := command(hang, "check", "--live")
		if code == exitOK {
			break
		}
		select {
		case <-look.C:
		case <-hang.Done():
			t.Fatal(out)
		}
	}
	for _, row := range []struct {
		model string
		code  int
	}{{"echo", exitOK}, {"cut", exitJob}} {
		if out, code := command(hang, "submit", "--wait", "--title", "First", "--model", row.model, "-"); code != row.code {
			t.Fatalf("%s: exit code %d: %s", row.model, code, out)
		}
	}
	types, err := readTypes(fs.ReadFile(examples.Vault(), examples.PropertyTypes))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{queue.Completed, queue.Failed, queue.Outputs} {
		files, err := filepath.Glob(filepath.Join(dir, "vault", folder, "*.md"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no note (%v)", folder, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			n, err := note.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range n.Fields() {
				if err := fits(f, types[f.Key]); err != nil {
					t.Errorf("%s in %s: %v", f.Key, folder, err)
				}
			}
		}
	}
}

// fits says why Obsidian would find a property faulty that has a type. A date &
// time is written as help.obsidian.md, Properties, shows it.
func fits(f note.Field, kind any) error {
	switch kind {
	case "text":
		_, err := f.String()
		_, noNumber := f.Float()
		_, noBool := f.Bool()
		if err == nil && (noNumber == nil || noBool == nil) {
			return errors.New("it is no text")
		}
		return err
	case "number":
		_, err := f.Float()
		return err
	case "checkbox":
		_, err := f.Bool()
		return err
	case "multitext", "tags":
		_, err := f.Strings()
		return err
	case "datetime":
		text, err := f.String()
		if err == nil {
			_, err = time.Parse("2006-01-02T15:04:05", text)
		}
		return err
	}
	return fmt.Errorf("it is written, and has the type %v", kind)
}
