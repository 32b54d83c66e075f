package queue

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"
)

const run = "abc234"

// ready is a box with one note in line, loaded.
func ready(t *testing.T) (*box, Loaded) {
	b := newBox(t, guard)
	b.write("_queue/a.md", withKeys("run: old"))
	b.pass(0)
	b.pass(guard)
	b.line("a.md")
	l, err := b.Load("a.md")
	b.must(err)
	return b, l
}

func TestLoadReadsAllOfANote(t *testing.T) {
	b, l := ready(t)
	it := b.Item("a.md")
	if l.Run != "old" || it.Run != "old" || l.Hash != it.Hash || l.Sum != it.Sum || l.Info.Inode == 0 || string(l.Data) != withKeys("run: old") {
		t.Errorf("loaded %+v, the item is %+v", l, it)
	}
	if l.Spec.Steps[0].Prompt != "Why?" || it.Spec.Steps[0].Prompt != "" {
		t.Errorf("prompts %q and, of the item, %q", l.Spec.Steps[0].Prompt, it.Spec.Steps[0].Prompt)
	}
	b.write("_queue/b.md", withKeys("run: new"))
	if other, err := b.Load("b.md"); err != nil || other.Hash != l.Hash || other.Sum == l.Sum {
		t.Errorf("what we wrote counts as content: %v", err)
	}
	b.write("_active/a.md", good)
	if active, err := b.LoadActive("a.md"); err != nil || string(active.Data) != good {
		t.Errorf("from the active folder %q, %v", active.Data, err)
	}
}

// files lists what lies in the folders, by name, with its text.
func (b *box) files(want map[string]string) {
	b.t.Helper()
	got := b.fs.Files()
	for name, text := range want {
		if got[name] != text {
			b.t.Errorf("%s is %q, want %q", name, got[name], text)
		}
	}
	if len(got) != len(want) {
		b.t.Errorf("the files are %q, want %q", got, want)
	}
}

func TestTakeMovesExactlyWhatWasLoaded(t *testing.T) {
	mine := withKeys("run: old")
	for _, c := range []struct {
		name    string
		between func(*box) // what happens between the load and the take
		file    string
		err     error
		files   map[string]string
	}{
		{"nothing happens", func(*box) {}, "a.md", nil, map[string]string{"_active/a.md": mine}},
		{"the name is taken", func(b *box) { b.write("_active/a.md", "other") }, "a-abc234.md", nil,
			map[string]string{"_active/a.md": "other", "_active/a-abc234.md": mine}},
		{"it is replaced by another text", func(b *box) { b.write("_queue/a.md", good) }, "a.md", ErrChanged, map[string]string{"_queue/a.md": good}},
		{"it is replaced by the same text", func(b *box) { b.write("_queue/a.md", mine) }, "a.md", ErrChanged, map[string]string{"_queue/a.md": mine}},
		{"it grows beyond the limit", func(b *box) { b.write("_queue/a.md", strings.Repeat("x", 1<<20+1)) }, "a.md", ErrChanged,
			map[string]string{"_queue/a.md": strings.Repeat("x", 1<<20+1)}},
		{"it vanishes", func(b *box) { b.must(b.fs.Remove("_queue/a.md")) }, "a.md", fs.ErrNotExist, map[string]string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, l := ready(t)
			c.between(b)
			file, err := b.Take("a.md", run, l)
			if file != c.file || !errors.Is(err, c.err) {
				t.Errorf("%s, %v; want %s, %v", file, err, c.file, c.err)
			}
			b.files(c.files)
		})
	}
}

func TestAnEditInPlaceDuringTheClaimIsPutBack(t *testing.T) {
	b := newBox(t, guard)
	more := b.typist("_queue/a.md", good)
	b.pass(0)
	b.pass(guard)
	l, err := b.Load("a.md")
	b.must(err)
	more("And why not?\n")
	if file, err := b.Take("a.md", run, l); file != "a.md" || !errors.Is(err, ErrChanged) {
		t.Errorf("%s, %v; want a.md back", file, err)
	}
	b.files(map[string]string{"_queue/a.md": good + "And why not?\n"})
}

func TestPutNeverReplacesAndSaysWhereTheFileIs(t *testing.T) {
	b := newBox(t, guard)
	long := strings.Repeat("x", 252) + ".md"
	shortened := strings.Repeat("x", 245) + "-" + run + ".md"
	for _, name := range []string{"a.md", long} {
		b.write("_active/"+name, "mine")
		b.write("_failed/"+name, "theirs")
	}
	for name, want := range map[string]string{"a.md": "a-abc234.md", long: shortened} {
		if file, err := b.Put(Active, name, Failed, run); err != nil || file != want {
			t.Errorf("%s, %v; want %s", file, err, want)
		}
	}
	b.write("_active/a.md", "second")
	if file, err := b.Put(Active, "a.md", Failed, run); !errors.Is(err, fs.ErrExist) || file != "a.md" {
		t.Errorf("both names taken: %s, %v", file, err)
	}
	if _, err := b.Put(Active, "none.md", Failed, run); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	b.files(map[string]string{"_failed/a.md": "theirs", "_failed/" + long: "theirs", "_failed/a-abc234.md": "mine", "_failed/" + shortened: "mine", "_active/a.md": "second"})
}

func TestATakenNoteIsOutOfLineUntilItIsReleasedOrRestored(t *testing.T) {
	b, _ := ready(t)
	b.write("_queue/b.md", good)
	b.pass(0)
	b.pass(guard)
	it := b.Item("a.md")
	first := it.FirstSeen

	b.MarkTaken(it)
	b.line("b.md")
	b.Restore(it)
	b.line("a.md b.md") // at its old place, without a guard

	b.MarkTaken(it)
	b.write("_queue/a.md", good) // not looked at while it is taken
	b.pass(time.Hour)
	b.status("a.md", Taken, "")
	b.line("b.md")
	b.Release("a.md", b.now)
	b.status("a.md", Settling, "")
	b.pass(guard)
	b.line("a.md b.md")

	b.MarkTaken(it)
	b.must(b.fs.Remove("_queue/a.md")) // claimed
	b.pass(time.Hour)
	b.status("a.md", Taken, "")
	b.Release("a.md", b.now)
	b.status("a.md", Gone, "")
	b.pass(replacing)
	if b.Item("a.md") != nil {
		t.Error("a claimed note is still known")
	}
	if !it.FirstSeen.Equal(first) {
		t.Errorf("first seen %v, was %v", it.FirstSeen, first)
	}

	b.Release("b.md", b.now) // not taken: nothing happens
	b.Restore(b.Item("b.md"))
	b.Release("none.md", b.now)
	b.line("b.md")
}

func TestARestoredNoteThatChangedBeginsItsGuardAnew(t *testing.T) {
	b, _ := ready(t)
	it := b.Item("a.md")
	b.MarkTaken(it)
	b.write("_queue/a.md", good)
	b.Restore(it)
	b.pass(0)
	b.status("a.md", Settling, "")
	b.line("")
}
