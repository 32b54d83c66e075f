package ledger

import (
	"errors"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/job"
)

func names(rows []Row) string {
	var all []string
	for _, r := range rows {
		all = append(all, r.Name)
	}
	return strings.Join(all, " ")
}

func TestListsTellWhatIsOpenAndWhatEndedLast(t *testing.T) {
	l := open(t)
	ctx := t.Context()
	for i, s := range []job.State{job.Waiting, job.Held, job.Claiming, job.Active, job.Completed, job.Failed, job.Cancelled} {
		r := inState(t, l, candidate(string(s)+".md", strings.Repeat(string(s)+" ", 5)), s)
		if s.Final() {
			_, err := l.db.Write.ExecContext(ctx, "UPDATE jobs SET ended = ? WHERE id = ?", millis(noon.Add(time.Duration(i)*time.Minute)), r.ID)
			must(t, err)
		}
		if s == job.Completed || s == job.Failed {
			must(t, l.Settle(ctx, r.Ref(), r.File))
		}
	}
	for _, c := range []struct {
		name string
		list func() ([]Row, error)
		want string
	}{
		{"unsettled is what is not at its end", func() ([]Row, error) { return l.Unsettled(ctx) }, "waiting.md held.md claiming.md active.md cancelled.md"},
		{"recent is what ended, the last first", func() ([]Row, error) { return l.Recent(ctx, 10) }, "cancelled.md failed.md completed.md"},
		{"recent is bounded", func() ([]Row, error) { return l.Recent(ctx, 2) }, "cancelled.md failed.md"},
		{"recent of one state", func() ([]Row, error) { return l.Recent(ctx, 2, job.Completed) }, "completed.md"},
		{"recent of two states", func() ([]Row, error) { return l.Recent(ctx, 2, job.Completed, job.Failed) }, "failed.md completed.md"},
	} {
		if rows, err := c.list(); err != nil || names(rows) != c.want {
			t.Errorf("%s: %s, %v; want %s", c.name, names(rows), err, c.want)
		}
	}
}

func TestAJobIsFoundByWhatItsOwnerMaySay(t *testing.T) {
	l := open(t)
	ctx := t.Context()
	with := candidate("Tea.md", asked)
	with.NoteID = "20261124-tea"
	tea := inState(t, l, with, job.Failed)
	must(t, l.Settle(ctx, tea.Ref(), "Tea-x.md"))
	with.Force = true
	twin := claim(t, l, with)
	coffee := claim(t, l, candidate("coffee.md", other))
	for _, c := range []struct{ name, reference, want string }{
		{"an id is that job alone", "20261124-tea", tea.ID},
		{"the id of a job that runs again", twin.ID, twin.ID},
		{"a file name", "coffee.md", coffee.ID},
		{"a file name without its end and in other letters", "Coffee", coffee.ID},
		{"a first name that two jobs have had, the newest first", "tea.md", twin.ID + " " + tea.ID},
		{"the name that the note has now", "tea-x", tea.ID},
		{"the beginning of an id", "20261124", twin.ID + " " + tea.ID},
		{"a beginning that is too short", "202", ""},
		{"nothing of the kind", "water", ""},
		{"a pattern is no name", "%", ""},
	} {
		rows, err := l.Find(ctx, c.reference)
		var ids []string
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		if got := strings.Join(ids, " "); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	if _, err := l.Get(ctx, "water"); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown job: %v", err)
	}
}

func TestAReaderBesideTheWriterSeesWhatIsCommitted(t *testing.T) {
	path := t.TempDir() + "/ledger.db"
	l, err := Open(t.Context(), path)
	must(t, err)
	defer l.Close()
	r := claim(t, l, candidate("a.md", asked))
	reader, err := OpenReadOnly(t.Context(), path)
	must(t, err)
	defer reader.Close()
	if got := get(t, reader, r.ID); got != r {
		t.Errorf("the reader sees %+v, want %+v", got, r)
	}
	if err := reader.SetMeta(t.Context(), "k", "v"); err == nil {
		t.Error("the reader wrote")
	}
}
