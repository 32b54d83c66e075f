package history

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"testing"

	"davidcockson.com/runner/internal/sqlite/sqlitetest"
)

var errDisk = errors.New("the disk failed")

// everything is all that a history holds.
func everything(t *testing.T, h *History) []string {
	t.Helper()
	var all []string
	for _, table := range []string{"messages", "conversations", "running", "pieces", "purging", "sessions"} {
		all = append(all, dump(t, h, table)...)
	}
	return all
}

// TestAWriteHappensWhollyOrNotAtAll has every write fail in both halves, as an
// error of the disk and as the end of the process, and looks at all that is kept.
func TestAWriteHappensWhollyOrNotAtAll(t *testing.T) {
	for _, w := range []struct {
		name string
		do   func(context.Context, *History, Running) error
		// again is what the same write brings after one that was done and failed
		again error
	}{
		{"Ask, of a new conversation", func(ctx context.Context, h *History, _ Running) error {
			_, err := h.Ask(ctx, "new", settings, "q", at(9))
			return err
		}, nil},
		{"Ask, with other settings", func(ctx context.Context, h *History, _ Running) error {
			_, err := h.Ask(ctx, "c", Settings{Title: "other"}, "q", at(9))
			return err
		}, nil},
		{"Start", func(ctx context.Context, h *History, _ Running) error {
			_, err := h.Start(ctx, Running{Conversation: "c", Turn: 1, Created: at(9)})
			return err
		}, nil},
		{"Describe", func(ctx context.Context, h *History, r Running) error { return h.Describe(ctx, r.ID, 5, "t") }, nil},
		{"Record", func(ctx context.Context, h *History, r Running) error {
			return h.Record(ctx, []Piece{{Running: r.ID, Text: "x"}, {Running: r.ID, Thinking: true, Text: "y"}})
		}, nil},
		{"Settle", func(ctx context.Context, h *History, r Running) error {
			_, err := h.Settle(ctx, r.ID, Message{Text: "a", State: Done, Ended: at(9)})
			return err
		}, ErrStale},
		{"Recover", func(ctx context.Context, h *History, _ Running) error {
			_, err := h.Recover(ctx, at(9))
			return err
		}, nil},
		{"Change", func(ctx context.Context, h *History, _ Running) error {
			return h.Change(ctx, "c", Settings{Title: "other"}, at(9))
		}, nil},
		{"Delete", func(ctx context.Context, h *History, _ Running) error { return h.Delete(ctx, "c", at(9)) }, ErrUnknown},
		{"Undelete", func(ctx context.Context, h *History, _ Running) error { return h.Undelete(ctx, "gone", at(9)) }, ErrUnknown},
		{"Purge", func(ctx context.Context, h *History, _ Running) error {
			_, err := h.Purge(ctx, at(9))
			return err
		}, nil},
		{"Rebuild", func(ctx context.Context, h *History, _ Running) error { return h.Rebuild(ctx) }, nil},
		{"SaveSession", func(ctx context.Context, h *History, _ Running) error {
			return h.SaveSession(ctx, Session{Hash: "s2", Kind: "password", Created: at(1), Seen: at(2), Expires: at(9)})
		}, nil},
		{"TouchSession", func(ctx context.Context, h *History, _ Running) error { return h.TouchSession(ctx, "s1", at(5), at(9)) }, nil},
		{"DeleteSession", func(ctx context.Context, h *History, _ Running) error { return h.DeleteSession(ctx, "s1") }, nil},
		{"DeleteSessions", func(ctx context.Context, h *History, _ Running) error { return h.DeleteSessions(ctx, "") }, nil},
		{"PurgeSessions", func(ctx context.Context, h *History, _ Running) error { return h.PurgeSessions(ctx, at(9)) }, nil},
	} {
		t.Run(w.name, func(t *testing.T) {
			// begin makes a history with one of everything.
			begin := func(t *testing.T) (h *History, f *sqlitetest.Faults, path string, r Running) {
				path, f = filepath.Join(t.TempDir(), "history.db"), new(sqlitetest.Faults)
				h = New(sqlitetest.Open(t, path, Migrations(), f))
				ask(t, h, "gone", "q", at(0))
				must(t, h.Delete(t.Context(), "gone", at(1)))
				ask(t, h, "c", "q", at(2))
				settle(t, h, start(t, h, "c", 1), "a", at(3))
				r = start(t, h, "c", 1)
				must(t, h.Record(t.Context(), []Piece{{Running: r.ID, Text: "z"}}))
				must(t, h.SaveSession(t.Context(), Session{Hash: "s1", Kind: "password", Created: at(1), Seen: at(1), Expires: at(8)}))
				if w.name == "Rebuild" {
					_, err := h.db.Write.Exec("DELETE FROM conversations WHERE id = 'c'")
					must(t, err)
				}
				return h, f, path, r
			}
			h, f, _, r := begin(t)
			before, writes := everything(t, h), f.Writes()
			must(t, w.do(t.Context(), h, r))
			after := everything(t, h)
			if reflect.DeepEqual(before, after) || f.Writes() != writes+1 {
				t.Fatalf("%d writes, which changed\n%q to\n%q; want one that changes something", f.Writes()-writes, before, after)
			}
			for _, half := range []sqlitetest.Half{sqlitetest.Undone, sqlitetest.Done} {
				want, again := before, error(nil)
				if half == sqlitetest.Done {
					want, again = after, w.again
				}
				h, f, _, r := begin(t)
				f.Inject(sqlitetest.Fault{At: f.Writes() + 1, Half: half, Err: errDisk})
				if err := w.do(t.Context(), h, r); !errors.Is(err, errDisk) {
					t.Errorf("half %d: %v, want the disk's error", half, err)
				}
				if got := everything(t, h); !reflect.DeepEqual(got, want) {
					t.Errorf("half %d: kept is\n%q, want\n%q", half, got, want)
				}
				if err := w.do(t.Context(), h, r); !errors.Is(err, again) {
					t.Errorf("half %d: the same again: %v, want %v", half, err, again)
				}

				h, f, path, r := begin(t)
				f.Inject(sqlitetest.Fault{At: f.Writes() + 1, Half: half, Crash: true})
				if err := w.do(t.Context(), h, r); !errors.Is(err, sqlitetest.ErrCrashed) {
					t.Errorf("half %d: %v, want the crash", half, err)
				}
				h.Close()
				reopened := New(sqlitetest.Open(t, path, Migrations(), nil))
				if got := everything(t, reopened); !reflect.DeepEqual(got, want) {
					t.Errorf("half %d: after a crash kept is\n%q, want\n%q", half, got, want)
				}
				must(t, reopened.Close())
			}
		})
	}
}
