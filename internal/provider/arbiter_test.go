package provider_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/provider"
)

func mustTry(t *testing.T, a *provider.Arbiter, name string, class provider.Class, who string) *provider.Place {
	t.Helper()
	p, ok := a.TryAcquire(name, class, who)
	if !ok {
		t.Fatalf("no place at %s for %s", name, who)
	}
	return p
}

func names(holders []provider.Holder) []string {
	var out []string
	for _, h := range holders {
		out = append(out, h.Who)
	}
	return out
}

func TestWaitersAreServedInTheirOrder(t *testing.T) {
	type caller struct {
		who   string
		class provider.Class
	}
	for _, tc := range []struct {
		name string
		come []caller
		want []string
	}{
		{"batch is served first come first served",
			[]caller{{"a", provider.Batch}, {"b", provider.Batch}, {"c", provider.Batch}}, []string{"a", "b", "c"}},
		{"interactive goes before batch that came earlier",
			[]caller{{"job", provider.Batch}, {"chat", provider.Interactive}}, []string{"chat", "job"}},
		{"interactive ones keep their own order before all batch",
			[]caller{{"job1", provider.Batch}, {"chat1", provider.Interactive}, {"job2", provider.Batch}, {"chat2", provider.Interactive}},
			[]string{"chat1", "chat2", "job1", "job2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := provider.NewArbiter(map[string]int{"davas": 1}, time.Now)
				first := mustTry(t, a, "davas", provider.Batch, "first")
				var got []string // written by one holder of the only place at a time
				for _, c := range tc.come {
					go func() {
						p, err := a.Acquire(t.Context(), "davas", c.class, c.who)
						if err != nil {
							t.Error(err)
							return
						}
						got = append(got, c.who)
						p.Release()
					}()
					synctest.Wait()
				}
				if line := names(a.Lines()[0].Waiting); !slices.Equal(line, tc.want) {
					t.Errorf("the line shows %v, want %v", line, tc.want)
				}
				first.Release()
				synctest.Wait()
				if !slices.Equal(got, tc.want) {
					t.Errorf("served %v, want %v", got, tc.want)
				}
			})
		})
	}
}

func TestTryAcquireNeverPassesAWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := provider.NewArbiter(map[string]int{"davas": 1}, time.Now)
		first := mustTry(t, a, "davas", provider.Batch, "first")
		done := make(chan *provider.Place, 1)
		go func() {
			p, err := a.Acquire(t.Context(), "davas", provider.Batch, "waiter")
			if err != nil {
				t.Error(err)
			}
			done <- p
		}()
		synctest.Wait()
		first.Release() // the waiter owns the place from here, whether it has run or not
		if _, ok := a.TryAcquire("davas", provider.Interactive, "late"); ok {
			t.Error("a late caller took the waiter's place")
		}
		(<-done).Release()
		mustTry(t, a, "davas", provider.Batch, "after")
	})
}

func TestAWaiterWhoseContextEndsLeavesTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := provider.NewArbiter(map[string]int{"davas": 1}, time.Now)
		first := mustTry(t, a, "davas", provider.Batch, "first")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := a.Acquire(ctx, "davas", provider.Batch, "gone")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v, want the context's", err)
		}
		if w := a.Lines()[0].Waiting; len(w) != 0 {
			t.Errorf("still in line: %v", w)
		}
		if _, err := a.Acquire(ctx, "davas", provider.Batch, "ended before"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended context: err = %v", err)
		}
		first.Release()
		mustTry(t, a, "davas", provider.Batch, "next")
	})
}

// The clock is read while a place is handed over. Ending the context there makes
// the waiter give up in the very moment in which it is granted the place, which
// must then go on to the next.
func TestAGrantToAWaiterThatJustGaveUpIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handOver := func() {}
		a := provider.NewArbiter(map[string]int{"davas": 1}, func() time.Time { handOver(); return time.Now() })
		first := mustTry(t, a, "davas", provider.Batch, "first")
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if _, err := a.Acquire(ctx, "davas", provider.Batch, "wavering"); !errors.Is(err, context.Canceled) {
				t.Errorf("the wavering one: err = %v", err)
			}
		}()
		synctest.Wait()
		served := false
		go func() {
			p, err := a.Acquire(t.Context(), "davas", provider.Batch, "next")
			if err != nil {
				t.Error(err)
				return
			}
			served = true
			p.Release()
		}()
		synctest.Wait()
		handOver = cancel
		first.Release()
		synctest.Wait()
		if l := a.Lines()[0]; !served || len(l.Held)+len(l.Waiting) != 0 {
			t.Errorf("next served: %t, left: %+v", served, l)
		}
	})
}

func TestASecondReleaseLetsNobodyIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := provider.NewArbiter(map[string]int{"davas": 1}, time.Now)
		first := mustTry(t, a, "davas", provider.Batch, "first")
		ctx, cancel := context.WithCancel(t.Context())
		for _, who := range []string{"second", "third"} {
			go func() {
				if _, err := a.Acquire(ctx, "davas", provider.Batch, who); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		first.Release()
		first.Release()
		synctest.Wait()
		l := a.Lines()[0]
		if got := names(l.Held); !slices.Equal(got, []string{"second"}) {
			t.Errorf("held by %v at a provider of one", got)
		}
		cancel()
	})
}

func TestFreedIsSignalledOnceForAnyNumberOfPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := provider.NewArbiter(map[string]int{"groq": 2}, time.Now)
		p, q := mustTry(t, a, "groq", provider.Batch, "a"), mustTry(t, a, "groq", provider.Batch, "b")
		signalled := func() bool {
			select {
			case <-a.Freed():
				return true
			default:
				return false
			}
		}
		if signalled() {
			t.Error("signalled before anything was free")
		}
		p.Release()
		q.Release()
		if !signalled() || signalled() {
			t.Error("want exactly one signal for two places")
		}
		p, q = mustTry(t, a, "groq", provider.Batch, "a"), mustTry(t, a, "groq", provider.Batch, "b")
		go func() {
			if _, err := a.Acquire(t.Context(), "groq", provider.Batch, "c"); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		p.Release()
		if signalled() {
			t.Error("signalled although the place went to a waiter")
		}
		q.Release()
		if !signalled() {
			t.Error("not signalled for the second place")
		}
	})
}

func TestWhatCannotBeServedIsRefusedAtOnce(t *testing.T) {
	a := provider.NewArbiter(map[string]int{"davas": 1, "none": 0}, time.Now)
	for _, name := range []string{"davos", "none", ""} {
		if _, err := a.Acquire(t.Context(), name, provider.Batch, "x"); !errors.Is(err, provider.ErrUnknownProvider) {
			t.Errorf("%q: err = %v", name, err)
		}
		if _, ok := a.TryAcquire(name, provider.Batch, "x"); ok {
			t.Errorf("%q: got a place", name)
		}
	}
	if _, err := a.Acquire(t.Context(), "davas", "urgent", "x"); err == nil {
		t.Error("an unknown class got a place")
	}
}

func TestLinesAreSortedAndTellSinceWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := provider.NewArbiter(map[string]int{"groq": 4, "davas": 1}, time.Now)
		start := time.Now()
		first := mustTry(t, a, "davas", provider.Batch, "job 1")
		time.Sleep(time.Minute)
		go func() {
			if _, err := a.Acquire(t.Context(), "davas", provider.Interactive, "chat"); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		got := a.Lines()
		want := []provider.Line{
			{Name: "davas", Limit: 1,
				Held:    []provider.Holder{{Who: "job 1", Class: provider.Batch, Since: start}},
				Waiting: []provider.Holder{{Who: "chat", Class: provider.Interactive, Since: start.Add(time.Minute)}}},
			{Name: "groq", Limit: 4, Held: []provider.Holder{}, Waiting: []provider.Holder{}},
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		time.Sleep(time.Minute)
		first.Release()
		synctest.Wait()
		if h := a.Lines()[0].Held; len(h) != 1 || !h[0].Since.Equal(start.Add(2*time.Minute)) {
			t.Errorf("held since the grant: %v", h)
		}
	})
}

func TestTheLimitHoldsUnderManyCallers(t *testing.T) {
	const limit = 3
	a := provider.NewArbiter(map[string]int{"groq": limit}, time.Now)
	var running atomic.Int32
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			if i%5 == 0 {
				go cancel()
			}
			defer cancel()
			p, err := a.Acquire(ctx, "groq", []provider.Class{provider.Batch, provider.Interactive}[i%2], "x")
			if err != nil {
				if i%5 != 0 {
					t.Error(err)
				}
				return
			}
			if n := running.Add(1); n > limit {
				t.Errorf("%d at once", n)
			}
			running.Add(-1)
			p.Release()
		})
	}
	wg.Wait()
	if l := a.Lines()[0]; len(l.Held)+len(l.Waiting) != 0 {
		t.Errorf("leaked: %+v", l)
	}
}
