package vault_test

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/vault/vaulttest"
)

func TestProbe(t *testing.T) {
	dirs := []string{"_queue", "_active", "_completed"}
	rows := []struct {
		what  string
		fault vaulttest.Fault
		says  []string // nil: no error
		is    error
	}{
		{"a sound vault", vaulttest.Fault{}, nil, nil},
		{"a mount for one folder", vaulttest.Fault{Err: syscall.EXDEV, Match: func(c vaulttest.Call) bool { return c.Op == vaulttest.Rename && strings.HasPrefix(c.To, "_active/") }},
			[]string{"_active", "one mount for the whole vault"}, syscall.EXDEV},
		{"a folder that cannot be synced", vaulttest.Fault{Err: syscall.EACCES, Match: func(c vaulttest.Call) bool { return c.Op == vaulttest.SyncDir && c.Name == "_completed" }},
			[]string{"_completed", "movable"}, syscall.EACCES},
		{"a full disk", vaulttest.Fault{Err: syscall.ENOSPC, Match: vaulttest.Is(vaulttest.FileWrite)}, []string{"not full"}, syscall.ENOSPC},
		{"no exchange", vaulttest.Fault{Err: errors.ErrUnsupported, Match: vaulttest.Is(vaulttest.Exchange)}, []string{"ext4"}, vault.ErrNoExchange},
		{"an exchange that does nothing", vaulttest.Fault{Half: vaulttest.Done, Match: vaulttest.Is(vaulttest.Exchange)}, nil, nil},
	}
	for _, row := range rows {
		for name, w := range map[string]world{"memory": memWorld(vaulttest.NewMem()), "disk": diskWorld(t)} {
			t.Run(row.what+" in "+name, func(t *testing.T) {
				f := vaulttest.NewFaults(w.fs)
				f.Inject(row.fault)
				w.put("_queue/.runner-probe", "")
				err := vault.New(f).Probe(dirs...)
				if (err == nil) != (row.says == nil) || !errors.Is(err, row.is) {
					t.Fatalf("got %v", err)
				}
				for _, words := range row.says {
					if !strings.Contains(err.Error(), words) {
						t.Errorf("%q does not say %q", err, words)
					}
				}
				check(t, vault.New(w.fs).Probe(dirs...))
				if files := w.files(); len(files) != 0 {
					t.Errorf("left behind: %q", files)
				}
			})
		}
	}
}

// replacing has a file system's moves replace, and its exchanges lie.
type replacing struct{ *vaulttest.Mem }

func (r replacing) Rename(from, to string) error {
	if _, err := r.Lstat(to); err == nil {
		check := r.Mem.Remove(to)
		if check != nil {
			return check
		}
	}
	return r.Mem.Rename(from, to)
}

type lying struct{ *vaulttest.Mem }

func (lying) Exchange(a, b string) error { return nil }

func TestProbeRefusesAFileSystemThatLies(t *testing.T) {
	for want, fsys := range map[string]vault.FS{
		"replaced an existing file": replacing{vaulttest.NewMem()},
		"did not happen":            lying{vaulttest.NewMem()},
	} {
		if err := vault.New(fsys).Probe(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestProbeMissingFolderIsNamed(t *testing.T) {
	dir, v := hostile(t)
	for _, name := range []string{"no", "linked"} {
		if err := v.Probe("_queue", name); err == nil || !strings.Contains(err.Error(), "probe "+name+":") {
			t.Errorf("%s: %v", name, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*", ".runner-probe*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestProbeRemovesOldTemporaryFilesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vaulttest.NewMem()
		m.Put(vault.TempDir+"/write-old", "")
		m.Put(vault.TempDir+"/job", "a note's text")
		time.Sleep(2 * time.Hour) // the bubble's clock
		m.Put(vault.TempDir+"/write-new", "")
		check(t, vault.New(m).Probe())
		if files := m.Files(); len(files) != 2 || files[vault.TempDir+"/write-old"] != "" {
			t.Errorf("left: %q", files)
		}
		if _, there := m.Files()[vault.TempDir+"/write-old"]; there {
			t.Error("the old one is still there")
		}
	})
}
