package vault_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/vault/vaulttest"
)

// aliasLines reads aliases for these tests: "---", then one alias a line, then "---".
func aliasLines(head []byte) []string {
	_, rest, _ := strings.Cut(string(head), "---\n")
	rest, _, _ = strings.Cut(rest, "\n---")
	return strings.Split(rest, "\n")
}

var skipped = []string{"_queue", "_active", "_completed", "_failed"}

func newIndex(fsys vault.FS) *vault.Index {
	return vault.NewIndex(vault.New(fsys), aliasLines, skipped...)
}

// sampleVault holds some 200 notes, most of them in the way.
func sampleVault() *vaulttest.Mem {
	m := vaulttest.NewMem()
	put := func(names ...string) {
		for _, name := range names {
			m.Put(name, "text of "+name)
		}
	}
	for area := range 6 {
		for n := range 30 {
			put(fmt.Sprintf("Areas/Area %d/Log %02d-%d.md", area, n, area))
		}
	}
	put("Home.md", "Ideas.md", "Deep/One/Two/Three/Bottom.md", "Projects/Home.md", "Projects/Plan.md", "Archive/Plan.md", "Archive/Old/Plan.md",
		"Projects.md", "Projects/Projects.md",
		"Case/log.md", "Case/Log.md", "Other/Mixed Case.md", "Third/MIXED case.md",
		"Cafe\u0301.md", "Reise/Ärger.md", "Reise/Cafe\u0301 noir.md",
		"Emoji/🚀 Launch.md", "Emoji/日本 メモ.md", "Releases/v1.2 notes.md", "Releases/v1.2.md", "Releases/figure.png.md",
		"Space/two  spaces.md", "Space/hard\u00a0space.md", "Upper/SHOUT.MD", "Big/ΟΔΟΣ.md",
		"files/photo.png", "files/paper.pdf", "files/board.canvas", "files/figure.png", "files/LICENSE",
		"_queue/waiting.md", "_active/running.md", "_completed/done.md", "_failed/broken.md", "_Queue/twin.md",
		"runner-outputs/20261124-answer.md", "notes/_queue/inner.md",
		".obsidian/hidden.md", "notes/.trash/deleted.md", ".dotfile.md")
	m.Put("notes/line\nbreak.md", "---\nBreaker\n---\n")
	m.Put("People/Ada Lovelace.md", "---\nAda\nThe Countess\nHome\n---\n")
	m.Put("People/Ada Yonath.md", "---\nNobel\nada\n---\n")
	m.Put("People/Bob.md", "---\nBobby\nBobby\nCafe\u0301 owner\n---\n")
	return m
}

func TestFind(t *testing.T) {
	const missing, ambiguous, refused, noNote = vault.LinkMissing, vault.LinkAmbiguous, vault.LinkRefused, vault.LinkNoNote
	rows := []struct {
		name, target, want string
		fault              vault.LinkFault
		candidates         string
	}{
		{"a unique name anywhere", "Bottom", "Deep/One/Two/Three/Bottom.md", "", ""},
		{"case makes no difference", "bOTTOM", "Deep/One/Two/Three/Bottom.md", "", ""},
		{"the extension may be written", "Bottom.md", "Deep/One/Two/Three/Bottom.md", "", ""},
		{"in any case", "Bottom.MD", "Deep/One/Two/Three/Bottom.md", "", ""},
		{"a file whose extension is in capitals", "shout", "Upper/SHOUT.MD", "", ""},
		{"the path from the root", "Deep/One/Two/Three/Bottom", "Deep/One/Two/Three/Bottom.md", "", ""},
		{"the path in another case", "deep/one/TWO/three/bottom", "Deep/One/Two/Three/Bottom.md", "", ""},
		{"the end of a path", "Two/Three/Bottom", "Deep/One/Two/Three/Bottom.md", "", ""},
		{"the end of a path has to be whole names", "wo/Three/Bottom", "", missing, "Deep/One/Two/Three/Bottom.md"},
		{"a path with a gap", "Deep/Three/Bottom", "", missing, "Deep/One/Two/Three/Bottom.md"},
		{"the root's note comes before its twin", "Home", "Home.md", "", ""},
		{"the twin by its path", "Projects/Home", "Projects/Home.md", "", ""},
		{"twins are refused and named", "Plan", "", ambiguous, "Archive/Old/Plan.md, Archive/Plan.md, Projects/Plan.md"},
		{"a twin by the end of its path", "Old/Plan", "Archive/Old/Plan.md", "", ""},
		{"a path from the root is not the end of another", "Archive/Plan", "Archive/Plan.md", "", ""},
		{"a note called like a folder", "Projects", "Projects.md", "", ""},
		{"the one inside the folder", "Projects/Projects", "Projects/Projects.md", "", ""},
		{"a folder is no note", "Deep/One", "", missing, ""},
		{"names that differ in case are twins", "Mixed Case", "", ambiguous, "Other/Mixed Case.md, Third/MIXED case.md"},
		{"twins in one folder", "log", "", ambiguous, "Case/Log.md, Case/log.md"},
		{"one of them as it is spelt", "Case/log", "Case/log.md", "", ""},
		{"the other as it is spelt", "Case/Log", "Case/Log.md", "", ""},
		{"neither as it is spelt", "Case/LOG", "", ambiguous, "Case/Log.md, Case/log.md"},
		{"composed for decomposed", "Caf\u00e9", "Cafe\u0301.md", "", ""},
		{"decomposed for composed", "A\u0308rger", "Reise/Ärger.md", "", ""},
		{"accents in capitals", "ÄRGER", "Reise/Ärger.md", "", ""},
		{"an accent is not left out", "Cafe", "", missing, "Cafe\u0301.md"},
		{"emoji", "🚀 Launch", "Emoji/🚀 Launch.md", "", ""},
		{"another script", "日本 メモ", "Emoji/日本 メモ.md", "", ""},
		{"the two small sigmas are one letter", "οδος", "Big/ΟΔΟΣ.md", "", ""},
		{"a hard space for a plain one", "🚀\u00a0Launch", "Emoji/🚀 Launch.md", "", ""},
		{"a plain space for a hard one", "hard space", "Space/hard\u00a0space.md", "", ""},
		{"the number of spaces counts", "two spaces", "", missing, "Space/two  spaces.md"},
		{"a dot in a name", "v1.2 notes", "Releases/v1.2 notes.md", "", ""},
		{"what looks like an extension", "v1.2", "Releases/v1.2.md", "", ""},
		{"an image", "photo.png", "", noNote, "files/photo.png"},
		{"a document by its path", "files/paper.pdf", "", noNote, "files/paper.pdf"},
		{"a canvas", "board.canvas", "", noNote, "files/board.canvas"},
		{"the image comes before a note with its name and .md", "figure.png", "", noNote, "files/figure.png"},
		{"that note by its whole name", "figure.png.md", "Releases/figure.png.md", "", ""},
		{"another extension has to be named", "photo", "", missing, ""},
		{"a file without an extension is no note", "LICENSE", "", missing, ""},
		{"an alias", "The Countess", "People/Ada Lovelace.md", "", ""},
		{"an alias in another case and form", "CAF\u00c9 OWNER", "People/Bob.md", "", ""},
		{"an alias that is set twice in one note", "Bobby", "People/Bob.md", "", ""},
		{"an alias of two notes", "ada", "", ambiguous, "People/Ada Lovelace.md, People/Ada Yonath.md"},
		{"a name comes before an alias", "home", "Home.md", "", ""},
		{"an alias of a note that no link can spell", "Breaker", "", missing, ""},
		{"an alias has no path", "People/The Countess", "", missing, ""},
		{"an answer of an earlier job", "20261124-answer", "runner-outputs/20261124-answer.md", "", ""},
		{"a folder with the queue's name elsewhere", "inner", "notes/_queue/inner.md", "", ""},
		{"misspelt", "Ideass", "", missing, "Ideas.md"},
		{"a part of a name", "Lovelace", "", missing, "People/Ada Lovelace.md"},
		{"nothing near", "Xylophone concert", "", missing, ""},
		{"a note in the queue", "waiting", "", missing, ""},
		{"a job that is done", "done", "", missing, ""},
		{"a note in a dot folder", "hidden", "", missing, ""},
		{"a note in a dot folder below", "deleted", "", missing, ""},
		{"a name with a line break", "line\nbreak", "", refused, ""},
		{"the queue by its path", "_queue/waiting", "", refused, ""},
		{"the queue in another case", "_QUEUE/twin", "", refused, ""},
		{"the active folder", "_active/running", "", refused, ""},
		{"the completed folder", "_completed/done", "", refused, ""},
		{"the failed folder", "_failed/broken", "", refused, ""},
		{"a dot folder", ".obsidian/hidden", "", refused, ""},
		{"a dot folder below", "notes/.trash/deleted", "", refused, ""},
		{"a dot file", ".dotfile", "", refused, ""},
		{"a path out", "../outside", "", refused, ""},
		{"a path out and in again", "Projects/../Home", "", refused, ""},
		{"a relative path", "./Home", "", refused, ""},
		{"an absolute path", "/Home", "", refused, ""},
		{"a path of the system", "/etc/passwd", "", refused, ""},
		{"two slashes", "Projects//Home", "", refused, ""},
		{"a slash at the end", "Projects/", "", refused, ""},
		{"nothing", "", "", refused, ""},
		{"a NUL", "Home\x00", "", refused, ""},
	}
	for where, fsys := range map[string]vault.FS{"memory": sampleVault(), "disk": onDisk(t, sampleVault())} {
		look, err := newIndex(fsys).Lookup(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			t.Run(where+": "+row.name, func(t *testing.T) {
				got, err := look.Find(t.Context(), row.target)
				var link *vault.LinkError
				if row.fault == "" {
					if err != nil || got != row.want {
						t.Errorf("got %q, %v; want %q", got, err, row.want)
					}
					return
				}
				if !errors.As(err, &link) || link.Fault != row.fault || got != "" {
					t.Fatalf("got %q, %v; want it %s", got, err, row.fault)
				}
				if list := strings.Join(link.Candidates, ", "); list != row.candidates {
					t.Errorf("candidates %q, want %q", list, row.candidates)
				}
				for _, c := range link.Candidates {
					if !strings.Contains(err.Error(), c) {
						t.Errorf("%q does not name %q", err, c)
					}
				}
			})
		}
	}
}

// onDisk copies a vault to a folder with links around it and in it.
func onDisk(t *testing.T, m *vaulttest.Mem) vault.FS {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "vault")
	for name, text := range m.Files() {
		file := filepath.Join(dir, filepath.FromSlash(name))
		check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(t, os.WriteFile(file, []byte(text), 0o644))
	}
	v, err := vault.Open(dir)
	check(t, err)
	t.Cleanup(func() { v.Close() })
	return v.FS()
}

func TestFindFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	root := filepath.Join(dir, "vault")
	check(t, os.MkdirAll(filepath.Join(root, "real"), 0o755))
	check(t, os.MkdirAll(outside, 0o755))
	check(t, os.WriteFile(filepath.Join(outside, "secret.md"), nil, 0o644))
	check(t, os.WriteFile(filepath.Join(root, "real", "inside.md"), nil, 0o644))
	check(t, os.Symlink(outside, filepath.Join(root, "linked")))
	check(t, os.Symlink(filepath.Join(outside, "secret.md"), filepath.Join(root, "stolen.md")))
	check(t, os.Symlink("real/inside.md", filepath.Join(root, "second.md")))
	check(t, os.Symlink(".", filepath.Join(root, "loop")))
	check(t, syscall.Mkfifo(filepath.Join(root, "pipe.md"), 0o644))
	v, err := vault.Open(root)
	check(t, err)
	defer v.Close()
	look, err := newIndex(v.FS()).Lookup(t.Context())
	check(t, err)
	for _, target := range []string{"secret", "linked/secret", "stolen", "second", "pipe", "loop/real/inside"} {
		if got, err := look.Find(t.Context(), target); err == nil {
			t.Errorf("%s leads to %s", target, got)
		}
	}
	if got, err := look.Find(t.Context(), "inside"); got != "real/inside.md" {
		t.Errorf("got %q, %v", got, err)
	}
}

// counted counts what an Index asks of a file system.
type counted struct {
	vault.FS
	mu    sync.Mutex
	calls []string
}

func (c *counted) see(op, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, op+" "+name)
}

func (c *counted) ReadDir(dir string) ([]vault.Entry, error) {
	c.see("list", dir)
	return c.FS.ReadDir(dir)
}

func (c *counted) Open(name string) (vault.File, error) {
	c.see("open", name)
	return c.FS.Open(name)
}

func (c *counted) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	slices.Sort(calls)
	return calls
}

func TestIndexReadsOnlyWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vaulttest.NewMem()
		for _, name := range []string{"a/one.md", "b/two.md", "b/c/three.md"} {
			m.Put(name, "---\n"+path.Base(name)+" alias\n---\n")
		}
		c := &counted{FS: m}
		x := newIndex(c)
		look := func(target, want string, calls ...string) {
			t.Helper()
			l, err := x.Lookup(t.Context())
			check(t, err)
			if got, err := l.Find(t.Context(), target); got != want {
				t.Errorf("%s is %q, want %q: %v", target, got, want, err)
			}
			slices.Sort(calls)
			if got := c.take(); !slices.Equal(got, calls) {
				t.Errorf("%s: asked for %q, want %q", target, got, calls)
			}
		}
		everything := []string{"list .", "list a", "list b", "list b/c"}
		opened := []string{"open a/one.md", "open b/c/three.md", "open b/two.md"}
		look("one", "a/one.md", everything...)
		look("one", "a/one.md", everything...) // all has changed just now, and a further change might not show
		time.Sleep(3 * time.Second)            // the bubble's clock
		look("one", "a/one.md", everything...)
		look("two", "b/two.md")
		m.Put("b/c/four.md", "")
		look("four", "b/c/four.md", "list b/c")
		m.Put("b/d/five.md", "")
		look("five", "b/d/five.md", "list b", "list b/c", "list b/d")
		check(t, m.Remove("a/one.md"))
		check(t, m.Rename("b/c", "a/c"))
		look("c/four", "a/c/four.md", "list a", "list a/c", "list b", "list b/d")

		time.Sleep(3 * time.Second)
		check(t, m.Rename("a/c", "b/c"))
		m.Put("a/one.md", "---\none.md alias\n---\n")
		time.Sleep(3 * time.Second)
		look("three.md alias", "b/c/three.md", slices.Concat(everything[1:], []string{"list b/d"}, opened, []string{"open b/c/four.md", "open b/d/five.md"})...)
		look("three.md alias", "b/c/three.md")
		m.Edit("b/two.md", "---\nnew\n---\n")
		look("new", "b/two.md", "open b/two.md")
		look("new", "b/two.md", "open b/two.md")
		time.Sleep(3 * time.Second)
		look("new", "b/two.md", "open b/two.md")
		look("new", "b/two.md")
		m.Put("six.md", "")
		look("six", "six.md", "list .")
	})
}

// A folder that appears, vanishes or changes its kind while the vault is looked
// through is one that was not there.
func TestIndexWhileTheVaultChanges(t *testing.T) {
	for _, row := range []struct {
		name  string
		fault vaulttest.Fault
		ok    bool
	}{
		{"a folder is gone before it is looked at", vaulttest.Fault{At: 1, Err: syscall.ENOENT, Match: on(vaulttest.Lstat, "a")}, true},
		{"a folder is gone before it is read", vaulttest.Fault{At: 1, Err: syscall.ENOENT, Match: on(vaulttest.ReadDir, "a")}, true},
		{"a folder became a file", vaulttest.Fault{At: 1, Err: syscall.ENOTDIR, Match: on(vaulttest.ReadDir, "a")}, true},
		{"a folder became a link", vaulttest.Fault{At: 1, Err: syscall.ELOOP, Match: on(vaulttest.ReadDir, "a")}, true},
		{"a folder cannot be read", vaulttest.Fault{At: 1, Err: syscall.EACCES, Match: on(vaulttest.ReadDir, "a")}, false},
		{"the disk fails", vaulttest.Fault{At: 1, Err: syscall.EIO, Match: on(vaulttest.Lstat, "a")}, false},
		{"a note is gone before its aliases are read", vaulttest.Fault{At: 1, Err: syscall.ENOENT, Match: on(vaulttest.Open, "b/two.md")}, true},
		{"a note cannot be read", vaulttest.Fault{At: 1, Err: syscall.EACCES, Match: on(vaulttest.Open, "b/two.md")}, false},
		{"the disk fails while aliases are read", vaulttest.Fault{At: 1, Err: syscall.EIO, Match: on(vaulttest.FileRead, "b/two.md")}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := vaulttest.NewMem()
			m.Put("a/one.md", "")
			m.Put("b/two.md", "---\nsecond\n---\n")
			m.Put("c/three.md", "---\nthird\n---\n")
			f := vaulttest.NewFaults(m)
			f.Inject(row.fault)
			x := newIndex(f)
			look, err := x.Lookup(t.Context())
			if err == nil {
				_, err = look.Find(t.Context(), "third")
			}
			if (err == nil) != row.ok || !row.ok && !errors.Is(err, row.fault.Err) {
				t.Fatalf("got %v", err)
			}
			for range 2 {
				look, err = x.Lookup(t.Context())
				check(t, err)
			}
			for target, want := range map[string]string{"one": "a/one.md", "second": "b/two.md"} {
				if got, err := look.Find(t.Context(), target); got != want {
					t.Errorf("afterwards %s is %q, %v", target, got, err)
				}
			}
		})
	}
}

// The same where the folders are known: what is not there now is not found.
func TestIndexForgetsAFolderThatIsAway(t *testing.T) {
	m := vaulttest.NewMem()
	m.Put("a/one.md", "")
	f := vaulttest.NewFaults(m)
	x := newIndex(f)
	f.Inject(vaulttest.Fault{At: 2, Err: syscall.ENOENT, Match: on(vaulttest.Lstat, "a")})
	for i, want := range []string{"a/one.md", "", "a/one.md"} {
		look, err := x.Lookup(t.Context())
		check(t, err)
		if got, err := look.Find(t.Context(), "one"); got != want {
			t.Errorf("look %d: %q, %v", i+1, got, err)
		}
	}
}

func on(op vaulttest.Op, name string) func(vaulttest.Call) bool {
	return func(c vaulttest.Call) bool { return c.Op == op && c.Name == name }
}

func TestLstatOfTheVaultItself(t *testing.T) {
	m := sampleVault()
	for where, fsys := range map[string]vault.FS{"memory": m, "disk": onDisk(t, m)} {
		before, err := fsys.Lstat(".")
		check(t, err)
		again, err := fsys.Lstat(".")
		check(t, err)
		after := again
		for i := 0; after == again; i++ { // until the file system's clock has moved on
			f, err := fsys.Create(fmt.Sprintf("new %d.md", i))
			check(t, err)
			check(t, f.Close())
			after, err = fsys.Lstat(".")
			check(t, err)
		}
		if !before.Mode.IsDir() || before != again || before.Inode != after.Inode {
			t.Errorf("%s: %+v, then %+v, with a new file %+v", where, before, again, after)
		}
	}
}

func TestLookupEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	x := newIndex(sampleVault())
	look, err := x.Lookup(ctx)
	check(t, err)
	cancel()
	if _, err := look.Find(ctx, "The Countess"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := x.Lookup(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAliasesBehindALongFrontmatter(t *testing.T) {
	m := vaulttest.NewMem()
	m.Put("long.md", "---\n"+strings.Repeat("an alias that fills the page\n", 1000)+"last\n---\n")
	m.Put("crlf.md", "\ufeff---\r\nfirst\r\n---\r\n"+strings.Repeat("x", 9000)+"\n---\n")
	m.Put("endless.md", "---\n"+strings.Repeat("never\n", 1<<20))
	var heads []int
	x := vault.NewIndex(vault.New(m), func(head []byte) []string {
		heads = append(heads, len(head))
		return aliasLines(head)
	})
	look, err := x.Lookup(t.Context())
	check(t, err)
	if got, err := look.Find(t.Context(), "last"); got != "long.md" {
		t.Errorf("got %q, %v", got, err)
	}
	if slices.Max(heads) > 256<<10 || slices.Min(heads) > 4<<10 {
		t.Errorf("read %d bytes of notes", heads)
	}
}

func TestIndexIsSafeForConcurrentUse(t *testing.T) {
	m := sampleVault()
	x := newIndex(m)
	var group sync.WaitGroup
	for n := range 8 {
		group.Go(func() {
			for i := range 20 {
				if n == 0 {
					m.Put(fmt.Sprintf("new/%d.md", i), "---\nx\n---\n")
				}
				look, err := x.Lookup(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := look.Find(t.Context(), "The Countess"); got != "People/Ada Lovelace.md" {
					t.Errorf("got %q, %v", got, err)
				}
			}
		})
	}
	group.Wait()
}

func FuzzFind(f *testing.F) {
	for _, target := range []string{"Home", "Plan", "../x", "/x", "_queue/waiting", "a//b", "Cafe\u0301", "photo.png", "ada", "\x00", "İ", "ǅ", "ᾳ", ".", "_QUEUE", "x.md.md"} {
		f.Add(target, "some/folder/"+target+".md")
	}
	f.Fuzz(func(t *testing.T, target, extra string) {
		m := sampleVault()
		if fs.ValidPath(extra) && len(extra) < 200 && m.Mkdir("dir") == nil {
			m.Put("dir/"+extra, "")
		}
		files := m.Files()
		look, err := newIndex(m).Lookup(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{target, "dir/" + extra} {
			got, err := look.Find(t.Context(), target)
			var link *vault.LinkError
			if err != nil {
				if !errors.As(err, &link) {
					t.Fatal(err)
				}
				for _, c := range link.Candidates {
					inside(t, files, c)
				}
				continue
			}
			inside(t, files, got)
			if again, err := look.Find(t.Context(), got); again != got {
				t.Fatalf("%q leads to %q, and that to %q, %v", target, got, again, err)
			}
		}
	})
}

// inside checks that a path is one of the files, and of those that may be read.
func inside(t *testing.T, files map[string]string, name string) {
	t.Helper()
	if _, ok := files[name]; !ok {
		t.Fatalf("%q does not exist", name)
	}
	first, _, _ := strings.Cut(name, "/")
	for part := range strings.SplitSeq(name, "/") {
		if part[0] == '.' || slices.Contains(skipped, strings.ToLower(first)) {
			t.Fatalf("%q is not to be read", name)
		}
	}
}
