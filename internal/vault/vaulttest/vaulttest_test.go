package vaulttest_test

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/vault/vaulttest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, m vault.FS, name, text string) vault.File {
	t.Helper()
	f, err := m.Create(name)
	must(t, err)
	_, err = f.Write([]byte(text))
	must(t, err)
	return f
}

func TestWhatAPowerLossLeaves(t *testing.T) {
	rows := []struct {
		what string
		act  func(t *testing.T, m *vaulttest.Mem)
		want map[string]string // with nothing unsynced kept
		all  map[string]string // with all kept; nil: the same
	}{
		{"a new file without any sync is gone",
			func(t *testing.T, m *vaulttest.Mem) { create(t, m, "q/x", "text") },
			map[string]string{"q/a": "A"}, map[string]string{"q/a": "A", "q/x": "text"}},
		{"a synced file whose folder was not is gone",
			func(t *testing.T, m *vaulttest.Mem) { must(t, create(t, m, "q/x", "text").Sync()) },
			map[string]string{"q/a": "A"}, map[string]string{"q/a": "A", "q/x": "text"}},
		{"a synced name without synced bytes is an empty file",
			func(t *testing.T, m *vaulttest.Mem) { create(t, m, "q/x", "text"); must(t, m.SyncDir("q")) },
			map[string]string{"q/a": "A", "q/x": ""}, map[string]string{"q/a": "A", "q/x": "text"}},
		{"both synced is whole",
			func(t *testing.T, m *vaulttest.Mem) {
				must(t, create(t, m, "q/x", "text").Sync())
				must(t, m.SyncDir("q"))
			},
			map[string]string{"q/a": "A", "q/x": "text"}, nil},
		{"bytes after the sync are lost",
			func(t *testing.T, m *vaulttest.Mem) {
				f := create(t, m, "q/x", "text")
				must(t, f.Sync())
				must(t, m.SyncDir("q"))
				_, err := f.Write([]byte(" more"))
				must(t, err)
			},
			map[string]string{"q/a": "A", "q/x": "text"}, map[string]string{"q/a": "A", "q/x": "text more"}},
		{"a move without a sync is undone",
			func(t *testing.T, m *vaulttest.Mem) { must(t, m.Rename("q/a", "r/a")) },
			map[string]string{"q/a": "A"}, map[string]string{"r/a": "A"}},
		{"a move is one step, whichever folder is synced",
			func(t *testing.T, m *vaulttest.Mem) { must(t, m.Rename("q/a", "r/a")); must(t, m.SyncDir("q")) },
			map[string]string{"r/a": "A"}, nil},
		{"a sync takes along what the change depends on",
			func(t *testing.T, m *vaulttest.Mem) {
				must(t, create(t, m, "q/x", "X").Sync())
				must(t, m.Exchange("q/a", "q/x"))
				must(t, m.Rename("q/x", "r/x"))
				must(t, m.SyncDir("r"))
			},
			map[string]string{"q/a": "X", "r/x": "A"}, nil},
		{"a sync of another folder changes nothing",
			func(t *testing.T, m *vaulttest.Mem) { must(t, m.Remove("q/a")); must(t, m.SyncDir("r")) },
			map[string]string{"q/a": "A"}, map[string]string{}},
		{"an exchange without a sync is undone",
			func(t *testing.T, m *vaulttest.Mem) {
				m.Put("r/b", "B")
				must(t, m.Exchange("q/a", "r/b"))
			},
			map[string]string{"q/a": "A", "r/b": "B"}, map[string]string{"q/a": "B", "r/b": "A"}},
		{"a folder whose own name was not synced is gone with all in it",
			func(t *testing.T, m *vaulttest.Mem) {
				must(t, m.Mkdir("s"))
				must(t, create(t, m, "s/x", "X").Sync())
				must(t, m.SyncDir("s"))
			},
			map[string]string{"q/a": "A"}, map[string]string{"q/a": "A", "s/x": "X"}},
		{"a file that never had a name is gone",
			func(t *testing.T, m *vaulttest.Mem) {
				f, err := m.CreateUnnamed("q")
				must(t, err)
				must(t, f.Sync())
				must(t, m.SyncDir("q"))
			},
			map[string]string{"q/a": "A"}, nil},
	}
	for _, row := range rows {
		t.Run(row.what, func(t *testing.T) {
			if row.all == nil {
				row.all = row.want
			}
			for _, keep := range vaulttest.Keeps(20) {
				m := vaulttest.NewMem()
				m.MkdirAll("q", "r")
				m.Put("q/a", "A")
				row.act(t, m)
				m.Crash(keep)
				got := fmt.Sprint(m.Files())
				switch keep.String() {
				case "nothing":
					if want := fmt.Sprint(row.want); got != want {
						t.Errorf("keeping nothing: %s, want %s", got, want)
					}
				case "all":
					if want := fmt.Sprint(row.all); got != want {
						t.Errorf("keeping all: %s, want %s", got, want)
					}
				}
				m.Crash(vaulttest.KeepNothing())
				if again := fmt.Sprint(m.Files()); again != got {
					t.Errorf("what a power loss left, %s, became %s at the next", got, again)
				}
			}
		})
	}
}

func TestSomeKeepsEachPrefixAndTearsBytes(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(200) {
		m := vaulttest.NewMem()
		create(t, m, "x", "12345678")
		must(t, m.Rename("x", "y"))
		m.Crash(vaulttest.KeepSome(seed))
		for name, text := range m.Files() {
			seen[name+"="+text] = true
		}
		if len(m.Files()) == 0 {
			seen["gone"] = true
		}
	}
	for _, want := range []string{"gone", "x=12345678", "y=12345678", "x=", "y=1234", "y=\x00\x00\x00\x00\x00\x00\x00\x00"} {
		if !seen[want] {
			t.Errorf("never seen: %q", want)
		}
	}
}

func TestFilesOpenAtTheCrashAreDead(t *testing.T) {
	m := vaulttest.NewMem()
	f := create(t, m, "x", "text")
	m.Crash(vaulttest.KeepAll())
	if err := f.Sync(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("sync: %v", err)
	}
	if _, err := f.Write(nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("write: %v", err)
	}
}

func TestFaults(t *testing.T) {
	m := vaulttest.NewMem()
	f := vaulttest.NewFaults(m)
	f.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.Mkdir), At: 1, Err: syscall.EIO})
	f.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.Mkdir), At: 2, Half: vaulttest.Done, Err: syscall.ENOSPC})
	f.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.FileWrite), At: 1, Short: 2})
	if err := f.Mkdir("undone"); err != syscall.EIO {
		t.Errorf("undone: %v", err)
	}
	if err := f.Mkdir("done"); err != syscall.ENOSPC {
		t.Errorf("done: %v", err)
	}
	must(t, f.Mkdir("healthy"))
	entries, err := m.ReadDir(".")
	if err != nil || len(entries) != 2 {
		t.Errorf("folders: %v, %v", entries, err)
	}
	file, err := f.Create("x")
	must(t, err)
	if n, err := file.Write([]byte("text")); n != 2 || err != nil {
		t.Errorf("a short write: %d, %v", n, err)
	}
	var order []string
	f.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.FileSync), Hook: func(vaulttest.Call) { order = append(order, "before") }})
	f.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.FileSync), Half: vaulttest.Done, Crash: true, Hook: func(vaulttest.Call) { order = append(order, "after") }})
	if err := file.Sync(); err != vaulttest.ErrCrashed || fmt.Sprint(order) != "[before after]" {
		t.Errorf("crash: %v, %v", err, order)
	}
	for op, err := range map[string]error{"close": file.Close(), "mkdir": f.Mkdir("late"), "rename": f.Rename("x", "y")} {
		if err != vaulttest.ErrCrashed {
			t.Errorf("%s after the crash: %v", op, err)
		}
	}
	m.Crash(vaulttest.KeepAll())
	if got := m.Files(); got["x"] != "te" || !f.Crashed() || !f.Fired() {
		t.Errorf("got %q", got)
	}
}
