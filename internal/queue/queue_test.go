package queue

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/vault/vaulttest"
)

const (
	good  = "---\njob_type: text\n---\nWhy?\n"
	wrong = "No frontmatter.\n"
)

func withKeys(keys string) string { return "---\njob_type: text\n" + keys + "\n---\nWhy?\n" }

func TestTheGuardCountsFromItsOwnFirstSight(t *testing.T) {
	b := newBox(t, guard)
	b.write("_queue/a.md", good)
	b.pass(0)
	b.status("a.md", Settling, "")
	if next := b.Next(); !next.Equal(b.now.Add(guard)) {
		t.Errorf("the next look is due at %v, want %v", next, b.now.Add(guard))
	}
	b.pass(guard - time.Nanosecond)
	b.status("a.md", Settling, "")
	b.line("")
	b.pass(time.Nanosecond)
	b.status("a.md", Ready, "")
	b.line("a.md")
	if next := b.Next(); !next.IsZero() {
		t.Errorf("something is due at %v, want nothing", next)
	}

	b.Queue = newQueue(b.vault, guard) // a restart
	b.pass(time.Hour)
	b.status("a.md", Settling, "")
	b.pass(guard)
	b.line("a.md")
}

func TestFileTimesProveNothing(t *testing.T) {
	for name, at := range map[string]int64{
		"an hour ago": -int64(time.Hour), "in a year": int64(365 * 24 * time.Hour), "1970": -1 << 62,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, guard)
			b.fs.alter = func(_ string, info vault.Info) vault.Info {
				info.Mtime += at
				return info
			}
			b.write("_queue/b.md", good)
			b.pass(0)
			b.write("_queue/a.md", good)
			b.pass(guard - 1)
			b.status("b.md", Settling, "")
			b.pass(1)
			b.line("b.md")
			b.pass(guard)
			b.line("b.md a.md")
		})
	}
}

func TestAnyChangeRestartsTheGuard(t *testing.T) {
	for name, change := range map[string]func(*vault.Info){
		"another size":   func(i *vault.Info) { i.Size++ },
		"another inode":  func(i *vault.Info) { i.Inode++ },
		"another device": func(i *vault.Info) { i.Dev++ },
		"a later mtime":  func(i *vault.Info) { i.Mtime++ },
		"an older mtime": func(i *vault.Info) { i.Mtime -= int64(time.Hour) },
		"another ctime":  func(i *vault.Info) { i.Ctime++ },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, guard)
			b.write("_queue/a.md", good)
			b.pass(0)
			b.pass(guard - 1)
			b.fs.alter = func(_ string, info vault.Info) vault.Info {
				change(&info)
				return info
			}
			b.pass(1)
			b.status("a.md", Settling, "")
			b.pass(guard - 1)
			b.status("a.md", Settling, "")
			b.pass(1)
			b.status("a.md", Ready, "")

			b.fs.alter = nil // changed once more, in line already
			b.pass(0)
			b.status("a.md", Settling, "")
			b.line("")
		})
	}
}

func TestAChangeBetweenTheLookAndTheReadRestartsTheGuard(t *testing.T) {
	b := newBox(t, guard)
	more := b.typist("_queue/a.md", good)
	b.pass(0)
	more("And why not?\n")
	b.now = b.now.Add(guard)
	b.Advance(b.now) // without a look
	b.status("a.md", Settling, "")
	b.now = b.now.Add(guard)
	b.Advance(b.now)
	b.line("a.md")
}

func TestAReplacedNoteKeepsItsPlaceInLine(t *testing.T) {
	b := newBox(t, guard)
	b.write("_queue/b.md", good)
	b.pass(0)
	b.write("_queue/a.md", good)
	b.pass(guard)
	b.pass(guard)
	b.line("b.md a.md")

	first := b.Item("b.md").FirstSeen
	b.must(b.fs.Remove("_queue/b.md"))
	b.Refresh([]string{"b.md"}, b.now)
	b.status("b.md", Gone, "")
	b.line("a.md")
	b.write("_queue/b.md", withKeys("title: edited"))
	b.Refresh([]string{"b.md"}, b.now)
	b.status("b.md", Settling, "")
	b.pass(guard - 1)
	b.line("a.md")
	b.pass(1)
	b.line("b.md a.md")
	if it := b.Item("b.md"); !it.FirstSeen.Equal(first) || it.Spec.Title != "edited" {
		t.Errorf("first seen %v, title %q; want %v and the edited one", it.FirstSeen, it.Spec.Title, first)
	}

	b.must(b.fs.Remove("_queue/b.md"))
	b.pass(0)
	b.pass(replacing - 1)
	b.status("b.md", Gone, "")
	b.pass(1)
	if it := b.Item("b.md"); it != nil {
		t.Errorf("a note that is gone for good is still known as %s", it.Status)
	}
	b.write("_queue/b.md", good)
	b.pass(0)
	b.pass(guard)
	b.line("a.md b.md")
}

func TestAHalfWrittenNoteWaitsUntilItIsWhole(t *testing.T) {
	for _, c := range []struct{ name, half, reason, rest string }{
		{"nothing yet", "", "the note is empty", good},
		{"the frontmatter is open", "---\njob_type: te", "not closed", "xt\n---\nWhy?\n"},
		{"the prompt is missing", "---\njob_type: text\n---\n", "the prompt is missing", "Why?\n"},
		{"a chain has no step", "---\njob_type: chain\n---\nFor all.\n", "at least one step", "## One\nWhy?\n"},
		{"a step has no prompt", "---\njob_type: chain\n---\n## One\nWhy?\n## Two\n", `the step "Two" has no prompt`, "Why not?\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, guard)
			more := b.typist("_queue/a.md", c.half)
			for _, d := range []time.Duration{0, guard, 2 * patience * guard, 240 * time.Hour} {
				if failed := b.pass(d); len(failed) > 0 {
					t.Fatalf("it failed: %s", failed[0].Reason)
				}
			}
			b.status("a.md", Unfinished, c.reason)
			b.line("")
			more(c.rest)
			b.pass(1)
			b.status("a.md", Settling, "")
			b.pass(guard)
			b.status("a.md", Ready, "")
		})
	}
}

func TestAWrongNoteFailsOnlyAfterSixtyGuardsUnchanged(t *testing.T) {
	long := strings.Repeat("x", 1<<20) + "y"
	for _, c := range []struct{ name, text, reason string }{
		{"no frontmatter", wrong, "no frontmatter"},
		{"broken YAML", "---\na: [\n---\nWhy?\n", "not valid YAML"},
		{"an unknown type", "---\njob_type: poem\n---\nWhy?\n", `"poem" is not known`},
		{"a bad value", withKeys("priority: high"), `line 3: key "priority"`},
		{"more than a MiB", "---\njob_type: text\n---\n" + long, "larger than 1 MiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, guard)
			b.write("_queue/a.md", c.text)
			b.pass(0)
			since := b.now
			b.pass(guard)
			b.status("a.md", Wrong, c.reason)
			if due := b.Item("a.md").Due; !due.Equal(since.Add(60*guard)) || !b.Next().Equal(due) {
				t.Errorf("it fails at %v and the next look is at %v, want %v", due, b.Next(), since.Add(60*guard))
			}
			if failed := b.pass(59*guard - 1); len(failed) > 0 {
				t.Fatal("it failed too early")
			}
			b.write("_queue/a.md", c.text) // the same again: somebody is at it
			b.pass(1)
			if failed := b.pass(60*guard - 1); len(failed) > 0 {
				t.Fatal("it failed although it was written to")
			}
			b.status("a.md", Wrong, c.reason)
			if failed := b.pass(1); names(failed) != "a.md" || !strings.Contains(failed[0].Reason, c.reason) {
				t.Fatalf("failed are %q, want a.md", names(failed))
			}
			b.MarkTaken(b.Item("a.md"))
			if failed := b.pass(time.Hour); len(failed) > 0 {
				t.Error("it failed twice")
			}
		})
	}
}

func TestAMendedNoteDoesNotFail(t *testing.T) {
	b := newBox(t, guard)
	b.write("_queue/a.md", wrong)
	b.pass(0)
	b.pass(60*guard - 1)
	b.write("_queue/a.md", good)
	for range 3 {
		if failed := b.pass(guard); len(failed) > 0 {
			t.Fatal("a mended note failed")
		}
	}
	b.line("a.md")
}

func TestADraftIsNeverTaken(t *testing.T) {
	b := newBox(t, guard)
	b.write("_queue/a.md", "---\ndraft: true\njob_type: nonsense\n---\n")
	for _, d := range []time.Duration{0, guard, 1000 * time.Hour} {
		if failed := b.pass(d); len(failed) > 0 {
			t.Fatal("a draft failed")
		}
	}
	b.status("a.md", Draft, "untick draft")
	b.line("")
	b.write("_queue/a.md", withKeys("draft: false"))
	b.pass(0)
	b.pass(guard)
	b.line("a.md")
}

func TestTheOrderOfWorkIsPriorityThenFirstSeenThenName(t *testing.T) {
	b := newBox(t, guard)
	for _, batch := range []map[string]string{
		{"c.md": "", "d.md": "", "low.md": "priority: -1"}, {"a.md": "", "b.md": "priority: 0", "high.md": "priority: 5"}, {"higher.md": "priority: 5"},
	} {
		for name, keys := range batch {
			b.write("_queue/"+name, withKeys(keys))
		}
		b.pass(time.Millisecond)
	}
	b.pass(guard)
	b.line("high.md higher.md c.md d.md a.md b.md low.md")

	b.SawFirst("higher.md", b.now.Add(-time.Hour).Round(0)) // as an earlier process remembers
	b.SawFirst("b.md", b.now.Add(-time.Hour))
	b.SawFirst("a.md", b.now.Add(time.Hour)) // later than now is nothing new
	b.SawFirst("none.md", b.now)
	b.line("higher.md high.md b.md c.md d.md a.md low.md")
}

func TestAnUnreadableNoteIsLookedAtAgain(t *testing.T) {
	faults := vaulttest.NewFaults(vaulttest.NewMem())
	v := vault.New(faults)
	if err := faults.Mkdir(Waiting); err != nil {
		t.Fatal(err)
	}
	if err := v.Write("_queue/a.md", []byte(good)); err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, Queue: newQueue(v, guard), now: time.Now()}
	faults.Inject(vaulttest.Fault{At: 1, Match: vaulttest.Is(vaulttest.FileRead), Err: fs.ErrPermission})
	b.pass(0)
	b.pass(guard)
	b.status("a.md", Settling, "it cannot be read")
	b.pass(guard)
	b.status("a.md", Ready, "")
}

func TestAGuardOfZeroWaitsForNothing(t *testing.T) {
	b := newBox(t, 0)
	b.write("_queue/a.md", good)
	b.write("_queue/half.md", "---\n")
	b.write("_queue/wrong.md", wrong)
	failed := b.pass(0)
	b.line("a.md")
	b.status("half.md", Unfinished, "not closed")
	if names(failed) != "wrong.md" {
		t.Errorf("failed are %q, want wrong.md", names(failed))
	}
}

func TestThousandsOfNotesAreReadInTurnsAndInOrder(t *testing.T) {
	const notes = 10_000
	b := newBox(t, guard)
	var want []string
	for i := range notes {
		name := fmt.Sprintf("%05d.md", i)
		f, err := b.fs.Create("_queue/" + name)
		b.must(err)
		_, err = f.Write([]byte(good))
		b.must(err)
		want = append(want, name)
	}
	b.must(b.Scan(b.now))
	b.now = b.now.Add(guard)
	b.must(b.Scan(b.now))
	turns := 0
	for more := true; more; turns++ {
		_, more = b.Advance(b.now)
		if done := min((turns+1)*mostReads, notes); names(b.Ready()) != strings.Join(want[:done], " ") {
			t.Fatalf("after turn %d the first %d notes are not in line, but %d", turns+1, done, len(b.Ready()))
		}
	}
	if least := notes / mostReads; turns < least {
		t.Errorf("%d turns, want at least %d", turns, least)
	}
	if len(b.open) != 0 {
		t.Errorf("%d notes are still open", len(b.open))
	}
	for i := range notes {
		if i%2 == 0 {
			b.must(b.fs.Remove("_queue/" + want[i]))
		}
	}
	b.pass(0)
	b.pass(replacing)
	if len(b.Ready()) != notes/2 || len(b.Items()) != notes/2 {
		t.Errorf("%d in line of %d known, want %d", len(b.Ready()), len(b.Items()), notes/2)
	}
}
