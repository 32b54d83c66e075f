package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/sqlite/sqlitetest"
	"davidcockson.com/runner/internal/vault/vaulttest"
)

// story is a job's life into which each fault is put once.
type story struct {
	name  string
	notes map[string]string
	// script is the model's; nil answers all.
	script func(m *fakeModel) func(context.Context, int, provider.Request) (provider.Answer, error)
}

func stories() []story {
	return []story{
		{name: "a text job", notes: map[string]string{"a.md": textNote("hello")}},
		{name: "a chain", notes: map[string]string{"a.md": "---\njob_type: chain\n---\n## One\nfirst\n## Two\nsecond\n"}},
		{
			name:  "a job that fails",
			notes: map[string]string{"a.md": textNote("hello")},
			script: func(*fakeModel) func(context.Context, int, provider.Request) (provider.Answer, error) {
				return func(_ context.Context, _ int, req provider.Request) (provider.Answer, error) {
					return provider.Answer{Text: "half", Provider: "davas", Model: "m"},
						&provider.Error{Kind: provider.Cut, Provider: "davas", Model: "m", Reason: "cut", Sent: true}
				}
			},
		},
	}
}

// check is the whole check, but that the chain's output has no single answer.
func (st story) check(r *rig) error {
	err := r.wholeCheck(st.notes)
	if err != nil && st.name == "a chain" {
		if file := r.file(queue.Outputs, ""); r.in(queue.Completed, "a.md") && file != "" {
			err = nil
		}
	}
	return err
}

// ended says whether every note of the story is at its end, and the ledger too.
func (st story) ended(s *session) bool {
	for name := range st.notes {
		if !s.in(queue.Completed, name) && !s.in(queue.Failed, name) {
			return false
		}
	}
	return s.settled()
}

func (st story) rig(t *testing.T) *rig {
	r := newRig(t)
	if st.script != nil {
		r.models["davas"].script = st.script(r.models["davas"])
	}
	for name, text := range st.notes {
		r.drop(name, text)
	}
	return r
}

// TestEveryFaultOfTheFileSystem fails each changing call of a job's life once,
// without doing it and after it was done: the job ends all the same, and nothing
// is lost, doubled or asked twice.
func TestEveryFaultOfTheFileSystem(t *testing.T) {
	for _, st := range stories() {
		for _, half := range []vaulttest.Half{vaulttest.Undone, vaulttest.Done} {
			for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
				t.Run(fmt.Sprintf("%s, %v, half %d", st.name, fault, half), func(t *testing.T) {
					t.Parallel()
					for n := 1; ; n++ {
						fired := false
						synctest.Test(t, func(t *testing.T) {
							r := st.rig(t)
							s := r.start()
							<-s.Ready()
							s.files.Inject(vaulttest.Fault{At: n, Match: vaulttest.Changing, Half: half, Err: fault})
							r.until(fmt.Sprintf("ended with fault %d", n), func() bool { return st.ended(s) })
							fired = s.files.Fired()
							s.stop()
							if err := st.check(r); err != nil {
								t.Fatalf("fault %d: %v\ncalls: %v\nlog:\n%s", n, err, s.files.Log(), tail(r.log.String()))
							}
						})
						if !fired || t.Failed() {
							break
						}
					}
				})
			}
		}
	}
}

// TestEveryFaultOfTheLedger does the same for each write of the ledger.
func TestEveryFaultOfTheLedger(t *testing.T) {
	for _, st := range stories() {
		for _, half := range []sqlitetest.Half{sqlitetest.Undone, sqlitetest.Done} {
			t.Run(fmt.Sprintf("%s, half %d", st.name, half), func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n++ {
					last := false
					synctest.Test(t, func(t *testing.T) {
						r := st.rig(t)
						s := r.start()
						<-s.Ready()
						at := s.db.Writes() + n
						s.db.Inject(sqlitetest.Fault{At: at, Half: half, Err: errors.New("disk I/O error")})
						r.until(fmt.Sprintf("ended with fault %d", n), func() bool { return st.ended(s) })
						last = s.db.Writes() < at
						s.stop()
						if err := st.check(r); err != nil {
							t.Fatalf("fault %d: %v\nlog:\n%s", n, err, tail(r.log.String()))
						}
					})
					if last || t.Failed() {
						break
					}
				}
			})
		}
	}
}

// TestPowerLossAtEveryStep ends the world before and after each changing call and
// each write of the ledger; what was not synced is lost, in several ways. The
// next start goes on from there.
func TestPowerLossAtEveryStep(t *testing.T) {
	for _, st := range stories() {
		for _, keep := range vaulttest.Keeps(peertest.Soak(t, 1, 3)) {
			t.Run(fmt.Sprintf("%s, %v", st.name, keep), func(t *testing.T) {
				t.Parallel()
				for _, half := range []vaulttest.Half{vaulttest.Undone, vaulttest.Done} {
					for n := 1; lose(t, st, keep, n, func(s *session, crash func()) {
						s.files.Inject(vaulttest.Fault{At: n, Match: vaulttest.Changing, Half: half, Crash: true, Hook: func(vaulttest.Call) { crash() }})
					}); n++ {
					}
				}
				for _, half := range []sqlitetest.Half{sqlitetest.Undone, sqlitetest.Done} {
					for n := 1; lose(t, st, keep, n, func(s *session, crash func()) {
						s.db.Inject(sqlitetest.Fault{At: s.db.Writes() + n, Half: half, Crash: true, Hook: func(int) { crash() }})
					}); n++ {
					}
				}
			})
		}
	}
}

// lose runs a story with a power loss and starts again. It returns whether the
// power was lost at all, so that a further step may exist.
func lose(t *testing.T, st story, keep vaulttest.Keep, n int, arm func(s *session, crash func())) (lost bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := st.rig(t)
		s := r.start()
		<-s.Ready()
		dark := make(chan struct{}, 1)
		arm(s, func() {
			s.db.Crash()
			s.files.Inject(vaulttest.Fault{Crash: true})
			select {
			case dark <- struct{}{}:
			default:
			}
		})
		r.until("ended or dark", func() bool { return len(dark) > 0 || st.ended(s) })
		lost = len(dark) > 0
		s.stop()
		if lost {
			r.mem.Crash(keep)
		}
		s = r.start()
		<-s.Ready()
		r.until(fmt.Sprintf("ended after the loss at step %d", n), func() bool { return st.ended(s) })
		s.stop()
		if err := st.check(r); err != nil {
			t.Fatalf("step %d: %v\nlog:\n%s", n, err, tail(r.log.String()))
		}
		if asked := r.models["davas"].asked("hello"); asked > 2 {
			t.Fatalf("step %d: asked %d times", n, asked)
		}
	})
	return lost && !t.Failed()
}

// TestAJobThatEndsTheProcessEachTimeFailsAfterThreeAttempts kills the worker in
// each call; the next job runs.
func TestAJobThatEndsTheProcessEachTimeFailsAfterThreeAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.models["davas"]
		died := make(chan struct{}, 1)
		var now atomic.Pointer[session]
		m.script = func(ctx context.Context, _ int, req provider.Request) (provider.Answer, error) {
			if req.Messages[0].Content == "good" {
				return m.answer(req), nil
			}
			now.Load().db.Crash()
			now.Load().files.Inject(vaulttest.Fault{Crash: true})
			died <- struct{}{}
			<-ctx.Done()
			return provider.Answer{}, &provider.Error{Kind: provider.Cancelled, Provider: "davas", Reason: "stopped", Sent: true}
		}
		r.change = func(o *Options) { o.Grace = 0 }
		r.drop("bad.md", textNote("bad"))
		for range 3 {
			current := r.start()
			now.Store(current)
			<-died
			current.stop()
			r.mem.Crash(vaulttest.KeepAll())
		}
		r.drop("good.md", textNote("good"))
		current := r.start()
		r.until("both ended", func() bool {
			return r.in(queue.Failed, "bad.md") && r.in(queue.Completed, "good.md") && current.settled()
		})
		current.stop()
		if n := m.asked("bad"); n != 3 {
			t.Errorf("asked %d times, want 3", n)
		}
		if text := r.text(queue.Failed, "bad.md"); !strings.Contains(text, "interrupted 3 times") {
			t.Errorf("note:\n%s", text)
		}
	})
}

// TestARestoredLedgerHoldsWhatIsActive: what lies there may have been billed.
func TestARestoredLedgerHoldsWhatIsActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.models["davas"]
		died := make(chan struct{}, 1)
		m.script = func(ctx context.Context, n int, req provider.Request) (provider.Answer, error) {
			if n > 1 || req.Messages[0].Content != "hello" {
				return m.answer(req), nil
			}
			died <- struct{}{}
			<-ctx.Done()
			return provider.Answer{}, &provider.Error{Kind: provider.Cancelled, Provider: "davas", Reason: "stopped", Sent: true}
		}
		r.change = func(o *Options) { o.Grace = 0 }
		r.drop("known.md", textNote("hello"))
		s := r.start()
		<-died
		s.db.Crash()
		s.files.Inject(vaulttest.Fault{Crash: true})
		s.stop()
		r.mem.Crash(vaulttest.KeepAll())
		r.mem.Put(queue.Active+"/unknown.md", textNote("from another time"))

		db := sqlitetest.Open(t, r.path, ledger.Migrations(), nil)
		if err := MarkRestored(t.Context(), ledger.New(db)); err != nil {
			t.Fatal(err)
		}
		db.Close()
		s = r.start()
		r.until("both held", func() bool {
			return s.listed("known.md").State == "held" && s.listed("unknown.md").State == "held"
		})
		<-time.After(time.Minute)
		if n := m.asked("hello"); n != 1 {
			t.Errorf("asked %d times while held", n)
		}
		for _, ref := range []string{"known.md", "unknown.md"} {
			if _, err := s.Retry(t.Context(), ref); err != nil {
				t.Fatalf("retry %s: %v", ref, err)
			}
		}
		r.until("both done", func() bool {
			return r.in(queue.Completed, "known.md") && r.in(queue.Completed, "unknown.md") && s.settled()
		})
		s.stop()
	})
}
