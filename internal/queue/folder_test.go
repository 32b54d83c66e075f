package queue

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"davidcockson.com/runner/internal/vault"
)

// realFolder is a vault on the disk, with its queue folder.
func realFolder(tb testing.TB) (*vault.Vault, string) {
	tb.Helper()
	dir := tb.TempDir()
	waiting := filepath.Join(dir, Waiting)
	if err := os.Mkdir(waiting, 0o755); err != nil {
		tb.Fatal(err)
	}
	v, err := vault.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { v.Close() })
	return v, waiting
}

func TestWhatIsNoJobNoteIsShownOrNotSeen(t *testing.T) {
	v, dir := realFolder(t)
	b := &box{t: t, Queue: newQueue(v, guard), now: time.Now()}
	at := func(name string) string { return filepath.Join(dir, name) }
	seen := map[string]string{
		"link.md": "not a regular file", "dangling.md": "not a regular file", "fifo.md": "not a regular file", "folder.md": "not a regular file",
		"a.sync-conflict-20261124-100000-ABCDEFG.md": "conflict copy",
	}
	b.must(os.WriteFile(at("real.md"), []byte(good), 0o644))
	b.must(os.WriteFile(at("👩‍🚀 go.md"), []byte(good), 0o644))
	b.must(os.Symlink("real.md", at("link.md")))
	b.must(os.Symlink("/nowhere", at("dangling.md")))
	b.must(unix.Mkfifo(at("fifo.md"), 0o644))
	b.must(os.Mkdir(at("folder.md"), 0o755))
	b.must(os.WriteFile(at("a.sync-conflict-20261124-100000-ABCDEFG.md"), []byte(good), 0o644))
	for _, name := range []string{".syncthing.real.md.tmp", "~syncthing~real.md.tmp", ".hidden.md", "~real.md", ".md", "real.md.bak", "real.txt", "REAL.MD"} {
		b.must(os.WriteFile(at(name), []byte(good), 0o644))
	}
	for _, d := range []time.Duration{0, guard, 100 * patience * guard} {
		if failed := b.pass(d); len(failed) > 0 {
			t.Errorf("%s failed", names(failed))
		}
	}
	for name, reason := range seen {
		b.status(name, Ignored, reason)
	}
	b.line("real.md 👩‍🚀 go.md")
	if len(b.Items()) != len(seen)+2 {
		t.Errorf("%d files are seen, want %d", len(b.Items()), len(seen)+2)
	}

	b.must(os.Remove(at("link.md")))
	b.must(os.WriteFile(at("link.md"), []byte(good), 0o644))
	b.pass(0)
	b.pass(guard)
	b.status("link.md", Ready, "")
}

func TestANoteThatBecomesAFIFOIsNotWaitedFor(t *testing.T) {
	v, dir := realFolder(t)
	b := &box{t: t, Queue: newQueue(v, guard), now: time.Now()}
	name := filepath.Join(dir, "a.md")
	b.must(os.WriteFile(name, []byte(good), 0o644))
	b.pass(0)
	b.must(os.Remove(name))
	b.must(unix.Mkfifo(name, 0o644))
	b.now = b.now.Add(guard)
	b.Advance(b.now) // without a look
	b.status("a.md", Ignored, "not a regular file")
	b.pass(guard)
	b.status("a.md", Ignored, "not a regular file")
}

func TestAnUnlinkAndRenameIsOneNoteThatChanged(t *testing.T) {
	v, dir := realFolder(t)
	b := &box{t: t, Queue: newQueue(v, guard), now: time.Now()}
	name, temp := filepath.Join(dir, "a.md"), filepath.Join(dir, ".syncthing.a.md.tmp")
	b.must(os.WriteFile(name, []byte(good), 0o644))
	b.pass(0)
	first := b.now
	b.pass(guard)
	b.line("a.md")

	b.must(os.WriteFile(temp, []byte(withKeys("title: second")), 0o644))
	b.must(os.Remove(name))
	b.pass(0)
	b.status("a.md", Gone, "")
	b.must(os.Rename(temp, name))
	hourAgo := time.Now().Add(-time.Hour) // Syncthing sets the origin's time last
	b.pass(time.Millisecond)
	b.must(os.Chtimes(name, hourAgo, hourAgo))
	b.pass(guard - time.Millisecond)
	b.status("a.md", Settling, "")
	b.pass(guard)
	b.line("a.md")
	if it := b.Item("a.md"); !it.FirstSeen.Equal(first) || it.Spec.Title != "second" {
		t.Errorf("first seen %v with title %q, want %v and the second version", it.FirstSeen, it.Spec.Title, first)
	}
}

func TestAFolderThatIsGoneIsAnErrorAndForgetsNothing(t *testing.T) {
	v, dir := realFolder(t)
	b := &box{t: t, Queue: newQueue(v, guard), now: time.Now()}
	b.must(os.WriteFile(filepath.Join(dir, "a.md"), []byte(good), 0o644))
	b.pass(0)
	b.pass(guard)
	b.must(os.Rename(dir, dir+"-away"))
	if err := b.Scan(b.now); err == nil {
		t.Error("a missing folder was scanned")
	}
	b.line("a.md")
	b.must(os.Rename(dir+"-away", dir))
	b.pass(0)
	b.line("a.md")
}

func BenchmarkScan(b *testing.B) {
	v, dir := realFolder(b)
	const notes = 10_000
	for i := range notes {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d.md", i)), []byte(good), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	q := newQueue(v, 0)
	if err := q.Scan(time.Now()); err != nil {
		b.Fatal(err)
	}
	for more := true; more; {
		_, more = q.Advance(time.Now())
	}
	if len(q.Ready()) != notes {
		b.Fatalf("%d in line, want %d", len(q.Ready()), notes)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := q.Scan(time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
