package worker

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
)

func TestSinceWhenAHostIsAwayOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.models["davas"]
		m.down = &provider.Error{Kind: provider.Unreachable, Provider: "davas", Reason: "refused the connection"}
		r.drop("a.md", textNote("hello"))
		s := r.start()
		since := func() string {
			_, rest, _ := strings.Cut(s.listed("a.md").Reason, "unreachable since ")
			return rest
		}
		r.until("it waits", func() bool { return since() != "" })
		first := since()
		<-time.After(3 * time.Hour)
		s.stop()
		s = r.start()
		r.until("it waits again", func() bool { return since() != "" })
		if again := since(); again != first {
			t.Errorf("after the restart it is away since %q, before it was %q", again, first)
		}
		if known, err := s.o.Ledger.Away(context.Background(), "davas", time.Now()); err != nil || known.Format("15:04 MST") != first[:len("15:04 UTC")] {
			t.Errorf("others are told %s, %v; the queue says %s", known, err, first)
		}
		m.setDown(nil)
		r.until("done", func() bool { return r.in(queue.Completed, "a.md") && s.settled() })
		m.setDown(&provider.Error{Kind: provider.Unreachable, Provider: "davas", Reason: "refused the connection"})
		<-time.After(time.Hour)
		r.drop("b.md", textNote("other"))
		r.until("the next waits", func() bool { return strings.Contains(s.listed("b.md").Reason, "unreachable since") })
		if strings.Contains(s.listed("b.md").Reason, first) {
			t.Error("a host that was back is away since before that")
		}
		s.stop()
	})
}

func TestAHostIsShownUpOnlyOnceItWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.start()
		defer s.stop()
		<-s.Ready()
		shown := func() (up, known bool) {
			state, err := s.Snapshot(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			up, known = state.Hosts["davas"]
			return up, known
		}
		if _, known := shown(); known {
			t.Error("it is shown before anybody asked it")
		}
		s.Heard(context.Background(), "davas", &provider.Error{Kind: provider.Unreachable, Provider: "davas", Reason: "refused"})
		if up, known := shown(); up || !known {
			t.Errorf("after a look that failed it is shown: %v, up: %v", known, up)
		}
		s.Heard(context.Background(), "davas", nil)
		if up, _ := shown(); !up {
			t.Error("after a look that reached it, it is shown as down")
		}
		s.Heard(context.Background(), "moon", nil)
	})
}

func TestAPauseSaysUntilWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.drop("a.md", textNote("hello"))
		s := r.start()
		defer s.stop()
		s.o.Arbiter.Slow("davas", time.Now().Add(90*time.Second), "no requests are left")
		r.until("it waits", func() bool {
			return strings.HasPrefix(s.listed("a.md").Reason, "waits until 00:01:30 UTC for davas, which asks for a pause: no requests are left")
		})
		r.until("it completes", func() bool { return r.in(queue.Completed, "a.md") })
	})
}

func TestAWrongKeyIsNotCalledUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.models["davas"].down = &provider.Error{Kind: provider.Auth, Provider: "davas", Reason: "status 401: no"}
		r.drop("a.md", textNote("hello"))
		s := r.start()
		defer s.stop()
		r.until("it waits", func() bool { return strings.Contains(s.listed("a.md").Reason, "waits for davas, wrong key since ") })
	})
}
