package vault_test

import (
	"bytes"
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

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, nil, 0o644))
	for name, dir := range map[string]string{
		"a file":          file,
		"a missing path":  file + "-missing",
		"an empty path":   "",
		"below something": file + "/x",
	} {
		if v, err := vault.Open(dir); err == nil {
			v.Close()
			t.Errorf("%s was opened", name)
		}
	}
}

func TestClosedVaultFails(t *testing.T) {
	v, err := vault.Open(t.TempDir())
	check(t, err)
	check(t, v.Close())
	if _, err := v.List("."); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("list: %v", err)
	}
	if err := v.Write("x", nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("write: %v", err)
	}
}

// hostile is a folder with everything that a reader must not fall for.
func hostile(t *testing.T) (dir string, v *vault.Vault) {
	base := t.TempDir()
	dir = filepath.Join(base, "vault")
	check(t, os.MkdirAll(filepath.Join(dir, "_queue", "folder.md"), 0o755))
	check(t, os.Mkdir(filepath.Join(base, "outside"), 0o755))
	for name, text := range map[string]string{"vault/_queue/ten.md": "0123456789", "vault/_queue/con.md": "device-like", "outside/secret.md": "secret"} {
		check(t, os.WriteFile(filepath.Join(base, name), []byte(text), 0o644))
	}
	check(t, syscall.Mkfifo(filepath.Join(dir, "_queue/fifo.md"), 0o644))
	check(t, os.Symlink("ten.md", filepath.Join(dir, "_queue/link.md")))
	check(t, os.Symlink("../outside", filepath.Join(dir, "out")))
	check(t, os.Symlink("_queue", filepath.Join(dir, "linked")))
	v, err := vault.Open(dir)
	check(t, err)
	t.Cleanup(func() { v.Close() })
	return dir, v
}

func TestRead(t *testing.T) {
	_, v := hostile(t)
	any := errors.New("any error")
	rows := []struct {
		what, name string
		limit      int64
		want       error
	}{
		{"a file of exactly the limit", "_queue/ten.md", 10, nil},
		{"a file under the limit", "_queue/ten.md", 99, nil},
		{"a name that is a device elsewhere", "_queue/con.md", 99, nil},
		{"a file over the limit", "_queue/ten.md", 9, vault.ErrTooLarge},
		{"a file that is not there", "_queue/no.md", 99, fs.ErrNotExist},
		{"a file in a folder that is not there", "no/no.md", 99, fs.ErrNotExist},
		{"a folder", "_queue/folder.md", 99, vault.ErrNotRegular},
		{"a FIFO, without waiting for its writer", "_queue/fifo.md", 99, vault.ErrNotRegular},
		{"a link that stays inside", "_queue/link.md", 99, vault.ErrNotRegular},
		{"a folder that is a link to the outside", "out/secret.md", 99, any},
		{"a folder that is a link to the inside", "linked/ten.md", 99, any},
		{"a way up", "../outside/secret.md", 99, fs.ErrInvalid},
		{"a way up from within", "_queue/../../outside/secret.md", 99, fs.ErrInvalid},
		{"an absolute name", "/etc/passwd", 99, fs.ErrInvalid},
		{"an empty name", "", 99, fs.ErrInvalid},
		{"a name with a zero byte", "_queue/ten.md\x00", 99, fs.ErrInvalid},
	}
	for _, row := range rows {
		t.Run(row.what, func(t *testing.T) {
			data, info, err := v.Read(row.name, row.limit)
			switch {
			case row.want == any && err == nil, row.want != any && !errors.Is(err, row.want):
				t.Fatalf("got %q, %v, want %v", data, err, row.want)
			case err == nil && int64(len(data)) != info.Size, err != nil && data != nil:
				t.Fatalf("got %q of %d bytes", data, info.Size)
			}
			if err == nil {
				seen, err := v.Lstat(row.name)
				if err != nil || seen != info {
					t.Errorf("Lstat says %+v, %v, Read says %+v", seen, err, info)
				}
			}
		})
	}
}

func TestReadTellsOfAWriteInMidRead(t *testing.T) {
	m := vaulttest.NewMem()
	m.Put("x.md", "half")
	f := vaulttest.NewFaults(m)
	v := vault.New(f)
	before, err := v.Lstat("x.md")
	check(t, err)
	f.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.FileRead), At: 1, Hook: func(vaulttest.Call) { m.Edit("x.md", "half and half") }})
	data, info, err := v.Read("x.md", 99)
	if err != nil || info == before || string(data) != "half and half" {
		t.Errorf("got %q, %v, with the Info of before", data, err)
	}
}

func TestListNamesTypesWithoutFollowing(t *testing.T) {
	_, v := hostile(t)
	entries, err := v.List("_queue")
	check(t, err)
	got := map[string]fs.FileMode{}
	for _, e := range entries {
		got[e.Name] = e.Type
	}
	want := map[string]fs.FileMode{"ten.md": 0, "con.md": 0, "folder.md": fs.ModeDir, "fifo.md": fs.ModeNamedPipe, "link.md": fs.ModeSymlink}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, dir := range []string{"linked", "out", "_queue/ten.md", "..", "no"} {
		if _, err := v.List(dir); err == nil {
			t.Errorf("%s was listed", dir)
		}
	}
}

func TestNothingIsWrittenThroughALink(t *testing.T) {
	dir, v := hostile(t)
	for _, name := range []string{"out/x.md", "linked/x.md", "../x.md", "_queue/link.md", "_queue/fifo.md", "_queue/folder.md"} {
		if err := v.Write(name, []byte("text")); err == nil {
			t.Errorf("%s was written", name)
		}
		if err := v.Move("_queue/ten.md", name); err == nil {
			t.Errorf("a file was moved to %s", name)
		}
	}
	outside, err := os.ReadDir(filepath.Join(dir, "../outside"))
	if err != nil || len(outside) != 1 {
		t.Errorf("outside: %v, %v", outside, err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "_queue/ten.md")); string(text) != "0123456789" {
		t.Errorf("the file is now %q, %v", text, err)
	}
}

func TestAFolderMadeAgainIsFound(t *testing.T) {
	dir, v := hostile(t)
	check(t, os.RemoveAll(filepath.Join(dir, "_queue")))
	if err := v.Write("_queue/x.md", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the folder: %v", err)
	}
	check(t, os.Mkdir(filepath.Join(dir, "_queue"), 0o755))
	check(t, v.Write("_queue/x.md", nil))
}

func TestLongNames(t *testing.T) {
	_, v := hostile(t)
	longest := strings.Repeat("n", 252) + ".md"
	check(t, v.Write("_queue/"+longest, []byte("text")))
	suffixed := vault.WithSuffix(longest, "r7k2")
	check(t, v.Move("_queue/"+longest, "_queue/"+suffixed))
	if err := v.Move("_queue/"+suffixed, "_queue/n"+longest); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("256 bytes: %v", err)
	}
	if data, _, err := v.Read("_queue/"+suffixed, 99); string(data) != "text" {
		t.Errorf("got %q, %v", data, err)
	}
}

func TestNamesThatAreNotUnicodeMove(t *testing.T) {
	dir, v := hostile(t)
	name := "caf\xe9.md"
	if err := os.WriteFile(filepath.Join(dir, "_queue", name), []byte("text"), 0o644); errors.Is(err, syscall.EILSEQ) {
		return // the volume itself refuses such names
	}
	check(t, v.Move("_queue/"+name, "_queue/x.md"))
}

// In root's hands the vault belongs to somebody else; otherwise to who runs this.
func TestModesFollowTheUmaskAndFilesTheVaultsOwner(t *testing.T) {
	dir, owner := t.TempDir(), os.Getuid()
	if owner == 0 {
		owner = 4711
		check(t, os.Chown(dir, owner, owner))
	}
	defer syscall.Umask(syscall.Umask(0o027))
	v, err := vault.Open(dir)
	check(t, err)
	defer v.Close()
	noUnnamed := vaulttest.NewFaults(v.FS())
	noUnnamed.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.CreateUnnamed), Err: errors.ErrUnsupported})
	check(t, v.Write("unnamed.md", []byte("x")))
	check(t, vault.New(noUnnamed).Write("named.md", []byte("x")))
	for name, mode := range map[string]fs.FileMode{"unnamed.md": 0o640, "named.md": 0o640, ".runner": fs.ModeDir | 0o750, vault.TempDir: fs.ModeDir | 0o750} {
		info, err := os.Lstat(filepath.Join(dir, name))
		check(t, err)
		if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), mode)
		}
		if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != owner {
			t.Errorf("%s belongs to %d, want %d", name, st.Uid, owner)
		}
	}
}

func TestAFullDisk(t *testing.T) {
	for _, noUnnamed := range []bool{false, true} {
		m := vaulttest.NewMem()
		m.NoUnnamed = noUnnamed
		memWorld(m)
		m.Put("_queue/x.md", "text")
		m.SetFree(3)
		v := vault.New(m)
		if err := v.Write("runner-outputs/x.md", []byte("four")); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("write: %v", err)
		}
		if free, err := v.Free(); free != 0 || err != nil {
			t.Errorf("free: %d, %v", free, err)
		}
		check(t, v.Move("_queue/x.md", "_active/x.md"))
		if files := m.Files(); len(files) != 1 {
			t.Errorf("left behind: %q", files)
		}
	}
}

func TestAFailedSyncGetsOneFreshFile(t *testing.T) {
	for _, noUnnamed := range []bool{false, true} {
		m := vaulttest.NewMem()
		m.NoUnnamed = noUnnamed
		f := vaulttest.NewFaults(m)
		f.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.FileSync), At: 1, Err: syscall.EIO})
		check(t, vault.New(f).Write("x.md", []byte("text")))
		f.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.FileSync), Err: syscall.EIO})
		before := len(f.Log())
		if err := vault.New(f).Write("y.md", []byte("text")); !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v", err)
		}
		syncs := 0
		for _, c := range f.Log()[before:] {
			if c.Op == vaulttest.FileSync {
				syncs++
			}
		}
		if syncs != 2 {
			t.Errorf("%d files were tried, want 2:\n%s", syncs, lines(f))
		}
		noSyncTwice(t, f)
		if files := m.Files(); len(files) != 1 || files["x.md"] != "text" {
			t.Errorf("files: %q", files)
		}
	}
}

func TestAFailedCloseIsReported(t *testing.T) {
	for _, noUnnamed := range []bool{false, true} {
		m := vaulttest.NewMem()
		m.NoUnnamed = noUnnamed
		f := vaulttest.NewFaults(m)
		f.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.FileClose), Err: syscall.EIO})
		if err := vault.New(f).Write("x.md", []byte("text")); !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v", err)
		}
	}
}

// The process was killed after the exchange, before its sync; later the power fails.
func TestRecoverRewriteMakesTheExchangeDurable(t *testing.T) {
	m := vaulttest.NewMem()
	m.Put(note, old)
	m.Put(temp, old+mark)
	check(t, m.Exchange(note, temp))
	check(t, vault.New(m).RecoverRewrite(note, temp, annotate))
	m.Crash(vaulttest.KeepNothing())
	if files := m.Files(); files[note] != old+mark {
		t.Errorf("after the power loss: %q", files)
	}
}

func TestRecoverRewriteSeesAWriteIntoTheOldFile(t *testing.T) {
	m := vaulttest.NewMem()
	m.Put(note, old+mark)
	m.Put(temp, old)
	f := vaulttest.NewFaults(m)
	f.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.SyncDir), At: 1, Hook: func(vaulttest.Call) { m.Edit(temp, "late edit") }})
	var kept *vault.KeptError
	err := vault.New(f).RecoverRewrite(note, temp, annotate)
	if !errors.As(err, &kept) || m.Files()[kept.Kept] != "late edit" {
		t.Errorf("got %v, %q", err, m.Files())
	}
}

// An editor that opened the note before the exchange writes into what came out.
func TestRewriteSeesAWriteIntoTheOldFile(t *testing.T) {
	m := vaulttest.NewMem()
	m.Put(note, old)
	f := vaulttest.NewFaults(m)
	exchanged := false
	f.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.Exchange), Hook: func(vaulttest.Call) { exchanged = true }})
	wrote := false
	f.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.SyncDir), Hook: func(vaulttest.Call) {
		if exchanged && !wrote {
			wrote = true
			m.Edit(temp, "late edit")
		}
	}})
	err := vault.New(f).Rewrite(note, temp, []byte(old), annotate([]byte(old)))
	if files := m.Files(); !errors.Is(err, vault.ErrChanged) || files[note] != "late edit" || len(files) != 1 {
		t.Errorf("got %v, %q", err, files)
	}
}

func TestRewriteOfWhatIsNoLongerThere(t *testing.T) {
	m := vaulttest.NewMem()
	v := vault.New(m)
	m.MkdirAll("_completed")
	if err := v.Rewrite(note, temp, []byte(old), annotate([]byte(old))); !errors.Is(err, fs.ErrNotExist) || len(m.Files()) != 0 {
		t.Errorf("a missing note: %v, %q", err, m.Files())
	}
	m.PutSpecial(note, fs.ModeSymlink)
	err := v.Rewrite(note, temp, []byte(old), annotate([]byte(old)))
	if info, lerr := v.Lstat(note); !errors.Is(err, vault.ErrChanged) || lerr != nil || info.Mode.Type() != fs.ModeSymlink {
		t.Errorf("a note that became a link: %v, %v, %v", err, info, lerr)
	}
	m.Put(note, old)
	m.Put(temp, "left by a crash")
	if err := v.Rewrite(note, temp, []byte(old), annotate([]byte(old))); !errors.Is(err, fs.ErrExist) || m.Files()[temp] != "left by a crash" {
		t.Errorf("a stale temporary file: %v, %q", err, m.Files())
	}
}

func TestFreeIsThatOfTheDisk(t *testing.T) {
	dir, v := hostile(t)
	free, err := v.Free()
	check(t, err)
	var st syscall.Statfs_t
	check(t, syscall.Statfs(dir, &st))
	if total := int64(st.Blocks) * int64(st.Bsize); free <= 0 || free > total {
		t.Errorf("%d bytes free of %d", free, total)
	}
}

func BenchmarkWrite(b *testing.B) {
	v, err := vault.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	data := bytes.Repeat([]byte("answer "), 600)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := v.Write(fmt.Sprintf("%d.md", i), data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMove(b *testing.B) {
	dir := b.TempDir()
	v, err := vault.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	at, to := "_queue/x.md", "_active/x.md"
	for _, d := range []string{"_queue", "_active"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	if err := v.Write(at, []byte("job")); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Move(at, to); err != nil {
			b.Fatal(err)
		}
		at, to = to, at
	}
}
