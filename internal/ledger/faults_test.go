package ledger

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/sqlite/sqlitetest"
)

var errDisk = errors.New("the disk failed")

// world is all that a ledger knows of the tests' jobs.
type world struct {
	Rows   []Row
	Calls  []Call
	Stored []job.StoredStep
	Meta   string
	Sights int
}

func look(t *testing.T, l *Ledger) world {
	t.Helper()
	ctx := t.Context()
	var w world
	var err error
	w.Rows, err = l.rows(ctx, "ORDER BY rowid")
	must(t, err)
	for i, r := range w.Rows {
		calls, err := l.Calls(ctx, r.ID)
		must(t, err)
		stored, err := l.Stored(ctx, r.ID, "")
		must(t, err)
		w.Calls, w.Stored = append(w.Calls, calls...), append(w.Stored, stored...)
		if i > 0 {
			w.Rows[i].ID, w.Rows[i].Run = "new", "new" // made by chance
		}
	}
	w.Meta, err = l.Meta(ctx, "k")
	must(t, err)
	sights, err := l.Sightings(ctx)
	must(t, err)
	w.Sights = len(sights)
	return w
}

// TestAWriteHappensWhollyOrNotAtAll has every write fail in both halves, as an
// error of the disk and as the end of the process, and looks at all that is kept.
func TestAWriteHappensWhollyOrNotAtAll(t *testing.T) {
	for _, w := range []struct {
		name string
		in   job.State
		do   func(context.Context, *Ledger, Row, int64) error
		// again is what the same write brings after one that was done and failed
		again error
	}{
		{"Claim of a new job", job.Completed, func(ctx context.Context, l *Ledger, _ Row, _ int64) error {
			_, err := l.Claim(ctx, candidate("new.md", other), noon)
			return err
		}, nil},
		{"Claim of a waiting job", job.Waiting, func(ctx context.Context, l *Ledger, r Row, _ int64) error {
			d, err := l.Claim(ctx, candidate("a.md", edited), noon)
			if err == nil && (d.Verdict != RunSame || d.Row.Ref() != r.Ref()) {
				err = errors.New("not the same job")
			}
			return err
		}, nil},
		{"Discard", job.Completed, func(ctx context.Context, l *Ledger, _ Row, _ int64) error {
			_, err := l.Discard(ctx, candidate("new.md", other), "no", noon)
			return err
		}, nil},
		{"Refuse", job.Completed, func(ctx context.Context, l *Ledger, _ Row, _ int64) error {
			_, err := l.Refuse(ctx, "new.md", "sum", job.Fail, End{Reason: "wrong"}, noon, noon)
			return err
		}, nil},
		{"Begin", job.Claiming, func(ctx context.Context, l *Ledger, r Row, _ int64) error {
			_, err := l.Begin(ctx, r.Ref(), "f", "o", noon)
			return err
		}, ErrStale},
		{"PutBack", job.Active, func(ctx context.Context, l *Ledger, r Row, _ int64) error {
			return l.PutBack(ctx, r.Ref(), job.Active, "f", "r", "p", true)
		}, ErrStale},
		{"Complete", job.Active, func(ctx context.Context, l *Ledger, r Row, _ int64) error {
			return l.Complete(ctx, r.Ref(), job.Active, "o", "", noon, nil)
		}, ErrStale},
		{"Fail", job.Active, func(ctx context.Context, l *Ledger, r Row, _ int64) error {
			return l.Fail(ctx, r.Ref(), job.Active, End{Reason: "r"}, noon)
		}, ErrStale},
		{"Hold", job.Active, func(ctx context.Context, l *Ledger, r Row, _ int64) error {
			return l.Hold(ctx, r.Ref(), job.Active, "f", "r")
		}, ErrStale},
		{"Retry", job.Failed, func(ctx context.Context, l *Ledger, r Row, _ int64) error {
			return l.Retry(ctx, r.Ref(), job.Failed, "f")
		}, ErrStale},
		{"Settle", job.Failed, func(ctx context.Context, l *Ledger, r Row, _ int64) error { return l.Settle(ctx, r.Ref(), "f") }, nil},
		{"SettleGone", job.Failed, func(ctx context.Context, l *Ledger, r Row, _ int64) error {
			return l.SettleGone(ctx, r.Ref(), "gone")
		}, nil},
		{"Rename", job.Waiting, func(ctx context.Context, l *Ledger, r Row, _ int64) error { return l.Rename(ctx, r.Ref(), "f") }, nil},
		{"Intend", job.Active, func(ctx context.Context, l *Ledger, r Row, _ int64) error {
			_, err := l.Intend(ctx, r.Ref(), Call{Step: 2, Try: 1, Provider: "p"}, Allowance{})
			return err
		}, nil},
		{"Answer", job.Active, func(ctx context.Context, l *Ledger, r Row, call int64) error {
			return l.Answer(ctx, r.Ref(), call, answer("one"), Price{}, noon)
		}, ErrStale},
		{"CallFailed", job.Active, func(ctx context.Context, l *Ledger, r Row, call int64) error {
			return l.CallFailed(ctx, r.Ref(), call, answer("par"), &provider.Error{Kind: provider.Cut, Sent: true}, Price{}, noon)
		}, ErrStale},
		{"SetMeta", job.Completed, func(ctx context.Context, l *Ledger, _ Row, _ int64) error { return l.SetMeta(ctx, "k", "v") }, nil},
		{"Sight", job.Completed, func(ctx context.Context, l *Ledger, _ Row, _ int64) error {
			err := l.Sight(ctx, nil, map[string]time.Time{"s.md": noon})
			return err
		}, nil},
	} {
		t.Run(w.name, func(t *testing.T) {
			// start makes a ledger with one job, and one call where it may have one.
			start := func(t *testing.T) (l *Ledger, f *sqlitetest.Faults, path string, r Row, call int64) {
				path, f = filepath.Join(t.TempDir(), "ledger.db"), new(sqlitetest.Faults)
				l = New(sqlitetest.Open(t, path, Migrations(), f))
				c := candidate("a.md", asked)
				c.NoteID, c.Spec.Steps = "", make([]job.Step, 2)
				r = inState(t, l, c, w.in)
				if w.in == job.Active {
					call = intend(t, l, r, 1, "h1")
				}
				return l, f, path, r, call
			}
			normal := func(world world) world { // the ids of two ledgers differ
				world.Rows[0].ID, world.Rows[0].Run = "", ""
				for i := range world.Calls {
					world.Calls[i].Job, world.Calls[i].Run = "", ""
				}
				return world
			}
			l, _, _, r, call := start(t)
			before := normal(look(t, l))
			must(t, w.do(t.Context(), l, r, call))
			after := normal(look(t, l))
			if reflect.DeepEqual(before, after) {
				t.Fatal("the write changes nothing")
			}
			for _, half := range []sqlitetest.Half{sqlitetest.Undone, sqlitetest.Done} {
				want, again := before, error(nil)
				if half == sqlitetest.Done {
					want, again = after, w.again
				}
				l, f, _, r, call := start(t)
				f.Inject(sqlitetest.Fault{At: f.Writes() + 1, Half: half, Err: errDisk})
				if err := w.do(t.Context(), l, r, call); !errors.Is(err, errDisk) {
					t.Errorf("half %d: %v, want the disk's error", half, err)
				}
				if got := normal(look(t, l)); !reflect.DeepEqual(got, want) {
					t.Errorf("half %d: the ledger has\n%+v, want\n%+v", half, got, want)
				}
				if err := w.do(t.Context(), l, r, call); !errors.Is(err, again) {
					t.Errorf("half %d: the same again: %v, want %v", half, err, again)
				}

				l, f, path, r, call := start(t)
				f.Inject(sqlitetest.Fault{At: f.Writes() + 1, Half: half, Crash: true})
				if err := w.do(t.Context(), l, r, call); !errors.Is(err, sqlitetest.ErrCrashed) {
					t.Errorf("half %d: %v, want the crash", half, err)
				}
				l.Close()
				reopened, err := Open(t.Context(), path)
				must(t, err)
				if got := normal(look(t, reopened)); !reflect.DeepEqual(got, want) {
					t.Errorf("half %d: after a crash the ledger has\n%+v, want\n%+v", half, got, want)
				}
				must(t, reopened.Close())
			}
		})
	}
}
