package provider_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/provider"
)

// pass lets time pass in a synctest bubble, where it costs nothing.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func freed(a *provider.Arbiter) bool {
	select {
	case <-a.Freed():
		return true
	default:
		return false
	}
}

// wait sends who to the end of the line and notes in got when it is served; the
// place is kept.
func wait(t *testing.T, a *provider.Arbiter, class provider.Class, who string, got chan<- string) {
	go func() {
		if _, err := a.Acquire(t.Context(), "groq", class, who); err != nil {
			t.Error(err)
			return
		}
		got <- who
	}()
	synctest.Wait()
}

func TestASlowProviderGivesNoPlaceUntilItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := provider.NewArbiter(map[string]int{"groq": 2, "davas": 1}, time.Now)
		held := mustTry(t, a, "groq", provider.Batch, "running")
		start := time.Now()
		a.Slow("groq", start.Add(time.Minute), "no requests are left")
		if _, ok := a.TryAcquire("groq", provider.Interactive, "chat"); ok {
			t.Error("an interactive caller got a place")
		}
		mustTry(t, a, "davas", provider.Batch, "elsewhere")
		got := make(chan string, 3)
		wait(t, a, provider.Batch, "job", got)
		wait(t, a, provider.Interactive, "chat", got)
		held.Release()
		pass(59 * time.Second)
		l := a.Lines()[1]
		if len(got) != 0 || freed(a) || !slices.Equal(names(l.Waiting), []string{"chat", "job"}) || len(l.Held) != 0 {
			t.Errorf("before its time: %d served, line %+v", len(got), l)
		}
		if !l.SlowUntil.Equal(start.Add(time.Minute)) || l.Reason != "no requests are left" {
			t.Errorf("the line shows %s, %q", l.SlowUntil, l.Reason)
		}
		pass(time.Second)
		l = a.Lines()[1]
		if len(got) != 2 || freed(a) || len(l.Held) != 2 || !l.SlowUntil.IsZero() || l.Reason != "" {
			t.Errorf("after its time: %d served, line %+v", len(got), l)
		}
	})
}

func TestTheEndOfASlowTimeIsSignalledOnceWhereNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := provider.NewArbiter(map[string]int{"groq": 1}, time.Now)
		a.Slow("groq", time.Now().Add(time.Minute), "x")
		pass(59 * time.Second)
		if freed(a) {
			t.Error("signalled before its time")
		}
		pass(time.Second)
		if !freed(a) || freed(a) {
			t.Error("want exactly one signal")
		}
		mustTry(t, a, "groq", provider.Batch, "job")
		a.Slow("groq", time.Now().Add(time.Minute), "x")
		pass(time.Minute)
		if freed(a) {
			t.Error("signalled although no place is free")
		}
	})
}

func TestOfSeveralSlowTimesTheLatestCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := provider.NewArbiter(map[string]int{"groq": 1}, time.Now)
		start := time.Now()
		a.Slow("groq", start.Add(time.Minute), "first")
		a.Slow("groq", start.Add(2*time.Minute), "longer")
		a.Slow("groq", start.Add(time.Second), "shorter")
		if l := a.Lines()[0]; !l.SlowUntil.Equal(start.Add(2*time.Minute)) || l.Reason != "longer" {
			t.Errorf("the line shows %s, %q", l.SlowUntil, l.Reason)
		}
		pass(time.Minute)
		if _, ok := a.TryAcquire("groq", provider.Batch, "early"); ok {
			t.Error("the first one's timer ended the later one")
		}
		pass(time.Minute)
		mustTry(t, a, "groq", provider.Batch, "job")
	})
}

func TestASlowTimeCanBeEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := provider.NewArbiter(map[string]int{"groq": 1}, time.Now)
		a.Slow("nowhere", time.Now().Add(time.Minute), "x")
		a.Slow("groq", time.Now().Add(time.Minute), "x")
		got := make(chan string, 1)
		wait(t, a, provider.Batch, "job", got)
		a.Slow("groq", time.Time{}, "")
		synctest.Wait()
		if len(got) != 1 || !a.Lines()[0].SlowUntil.IsZero() {
			t.Errorf("%d served, line %+v", len(got), a.Lines()[0])
		}
		a.Slow("groq", time.Time{}, "")
		pass(time.Hour)
		if freed(a) {
			t.Error("the timer of a time that was ended has struck")
		}
	})
}

// The clock is read while a time is replaced. Letting the first one's timer strike
// there makes it wait for the lock until the later one has taken its place, which
// it must not end.
func TestATimerThatStrikesWhileItsTimeIsReplacedEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := func() {}
		a := provider.NewArbiter(map[string]int{"groq": 1}, func() time.Time { read(); return time.Now() })
		start := time.Now()
		a.Slow("groq", start.Add(time.Minute), "first")
		read = func() { <-time.After(time.Minute) }
		a.Slow("groq", start.Add(time.Hour), "later")
		read = func() {}
		synctest.Wait()
		if l := a.Lines()[0]; l.Reason != "later" {
			t.Errorf("the line shows %+v", l)
		}
	})
}
