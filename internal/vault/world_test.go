package vault_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/vault/vaulttest"
)

// world is a file system under test and the hands of its user.
type world struct {
	fs    vault.FS
	mem   *vaulttest.Mem // nil: a real folder
	put   func(name, text string)
	edit  func(name, text string) // in place
	files func() map[string]string
}

func memWorld(m *vaulttest.Mem) world {
	m.MkdirAll("_queue", "_active", "_completed", "runner-outputs")
	return world{m, m, m.Put, m.Edit, m.Files}
}

func diskWorld(t *testing.T) world {
	dir := t.TempDir()
	for _, d := range []string{"_queue", "_active", "_completed", "runner-outputs"} {
		check(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	v, err := vault.Open(dir)
	check(t, err)
	t.Cleanup(func() { check(t, v.Close()) })
	edit := func(name, text string) { check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)) }
	put := func(name, text string) {
		edit("user.tmp", text)
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		check(t, os.Rename(filepath.Join(dir, "user.tmp"), filepath.Join(dir, name)))
	}
	files := func() map[string]string {
		found := map[string]string{}
		check(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(p)
			name, _ := filepath.Rel(dir, p)
			found[name] = string(text)
			return err
		}))
		return found
	}
	return world{v.FS(), nil, put, edit, files}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scene is an operation that every fault is thrown at.
type scene struct {
	name  string
	setup func(w world)
	// hooks are a user's deeds in the midst of the operation.
	hooks func(w world, f *vaulttest.Faults)
	act   func(v *vault.Vault) error
	want  error // what act returns when nothing fails
	// whole fails the test if the state is not what the promise says. err is what
	// act returned: nil or want when it was done to its end.
	whole func(t *testing.T, files map[string]string, err error)
	// settle is what a start does; settled then judges the outcome.
	settle  func(v *vault.Vault) error
	settled func(t *testing.T, files map[string]string, err error)
}

func (s scene) run(t *testing.T) {
	kinds := []struct {
		name  string
		world func(t *testing.T) world
	}{
		{"in memory", func(*testing.T) world { return memWorld(vaulttest.NewMem()) }},
		{"in memory without unnamed files", func(*testing.T) world {
			m := vaulttest.NewMem()
			m.NoUnnamed = true
			return memWorld(m)
		}},
		{"on disk", diskWorld},
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			halves := []vaulttest.Half{vaulttest.Undone, vaulttest.Done}
			for _, half := range halves {
				s.everyCall(t, kind.world, vaulttest.Fault{Half: half, Err: syscall.EIO}, nil)
			}
			if kind.world(t).mem == nil {
				return // real fsyncs take their time
			}
			for _, half := range halves {
				s.everyCall(t, kind.world, vaulttest.Fault{Half: half, Err: syscall.ENOSPC}, nil)
				s.everyCall(t, kind.world, vaulttest.Fault{Half: half, Crash: true}, nil)
			}
			s.everyCall(t, kind.world, vaulttest.Fault{Short: 2, Match: vaulttest.Is(vaulttest.FileWrite)}, nil)
			for i := range 12 {
				for _, half := range halves {
					power := func() vaulttest.Keep { return vaulttest.Keeps(10)[i] }
					s.everyCall(t, kind.world, vaulttest.Fault{Half: half, Crash: true}, power)
				}
			}
		})
	}
}

// everyCall runs the scene with the fault at its first call, then at its second,
// and so on until it ends before the fault. With power given, the power fails after
// each run, the last one included.
func (s scene) everyCall(t *testing.T, make func(*testing.T) world, fault vaulttest.Fault, power func() vaulttest.Keep) {
	t.Helper()
	for n := 1; ; n++ {
		if n > 200 {
			t.Fatal("the operation does not end")
		}
		w := make(t)
		if s.setup != nil {
			s.setup(w)
		}
		f := vaulttest.NewFaults(w.fs)
		if s.hooks != nil {
			s.hooks(w, f)
		}
		fault.At = n
		f.Inject(fault)
		err := s.act(vault.New(f))
		if !f.Fired() && !errors.Is(err, s.want) {
			t.Fatalf("without a fault: %v, want %v", err, s.want)
		}
		what := fmt.Sprintf("call %d, fault %+v, result %v", n, fault, err)
		if power != nil {
			keep := power()
			what += ", power loss keeping " + keep.String()
			w.mem.Crash(keep)
		}
		ok := t.Run("", func(t *testing.T) {
			s.whole(t, w.files(), err)
			noSyncTwice(t, f)
			if s.settle != nil {
				err := s.settle(vault.New(w.fs))
				what += fmt.Sprintf(", settled: %v", err)
				s.settled(t, w.files(), err)
			}
		})
		if !ok {
			t.Fatalf("%s\n%v\n%q", what, lines(f), w.files())
		}
		if !f.Fired() {
			return
		}
	}
}

func lines(f *vaulttest.Faults) string {
	var b strings.Builder
	for _, c := range f.Log() {
		fmt.Fprintln(&b, c)
	}
	return b.String()
}

func noSyncTwice(t *testing.T, f *vaulttest.Faults) {
	synced := map[int]bool{}
	for _, c := range f.Log() {
		if c.Op == vaulttest.FileSync {
			if synced[c.File] {
				t.Errorf("fsync was tried twice on one file: %v", c)
			}
			synced[c.File] = true
		}
	}
}
