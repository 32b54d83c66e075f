package worker

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
)

// paid has the worker's hosts count for caps, in a zone where midnight is an hour
// away.
func paid(caps ledger.Caps) func(*Options) {
	return func(o *Options) {
		o.Caps, o.Location = caps, time.FixedZone("", 23*60*60)
		for i := range o.Hosts {
			o.Hosts[i].Paid = true
		}
	}
}

// costs answers with 60 tokens read and 60 written, after a while.
func costs(m *fakeModel, d time.Duration) {
	m.script = func(ctx context.Context, _ int, req provider.Request) (provider.Answer, error) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return provider.Answer{}, ctx.Err()
		}
		a := m.answer(req)
		a.Usage.Read, a.Usage.Written = 60, 60
		return a, nil
	}
}

func limit(n int) *int { return &n }

func short100(body string) string { return "---\njob_type: text\nmax_tokens: 100\n---\n" + body + "\n" }

func TestTwoJobsAtOnceCannotBothPassTheDaysCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		costs(r.models["davas"], time.Minute)
		r.change = paid(ledger.Caps{DayTokens: limit(200)})
		r.drop("a.md", short100("alpha"))
		r.drop("b.md", short100("beta"))
		began := time.Now()
		s := r.start()
		m := r.models["davas"]
		r.until("one completes", func() bool {
			return r.in(queue.Completed, "a.md") || r.in(queue.Completed, "b.md")
		})
		other, prompt := "b.md", "beta"
		if r.in(queue.Completed, "b.md") {
			other, prompt = "a.md", "alpha"
		}
		if n := m.asked("alpha") + m.asked("beta"); n != 1 {
			t.Fatalf("%d calls passed", n)
		}
		if j := s.listed(other); !strings.HasPrefix(j.Reason, "waits until midnight: caps.day_tokens is 200") {
			t.Errorf("it is listed as %q", j.Reason)
		}
		if !r.in(queue.Waiting, other) {
			t.Errorf("it does not lie in the queue: %v", r.mem.Files())
		}
		<-time.After(time.Until(began.Add(time.Hour - time.Second)))
		if n := m.asked(prompt); n != 0 {
			t.Errorf("asked %d times before midnight", n)
		}
		r.until("the other completes", func() bool { return r.in(queue.Completed, other) })
		if took := time.Since(began); took > time.Hour+2*time.Minute {
			t.Errorf("it ended %s after the start, midnight was after an hour", took)
		}
		if n := m.asked(prompt); n != 1 {
			t.Errorf("asked %d times", n)
		}
		s.stop()
	})
}

// TestTheDaysCapKeepsTheSteps has a chain reach the cap before its second step,
// with a restart before midnight.
func TestTheDaysCapKeepsTheSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		costs(r.models["davas"], time.Second)
		r.change = paid(ledger.Caps{DayTokens: limit(200)})
		r.drop("a.md", "---\njob_type: chain\nmax_tokens: 100\n---\n## One\nfirst\n## Two\nsecond\n")
		began := time.Now()
		s := r.start()
		r.until("the cap is reached", func() bool { return strings.HasPrefix(s.listed("a.md").Reason, "waits until midnight") })
		s.stop()
		s = r.start()
		r.until("it waits again", func() bool { return strings.HasPrefix(s.listed("a.md").Reason, "waits until midnight") })
		r.until("it completes", func() bool { return r.in(queue.Completed, "a.md") })
		if took := time.Since(began); took < time.Hour {
			t.Errorf("it ended %s after the start, midnight was after an hour", took)
		}
		if one := r.models["davas"].asked("first"); one != 1 {
			t.Errorf("the first step was asked %d times", one)
		}
		if text := r.text(queue.Completed, "a.md"); !strings.Contains(text, "attempts: 1") {
			t.Errorf("the wait counts as an attempt:\n%s", text)
		}
		s.stop()
	})
}

func TestCapsOfOneJob(t *testing.T) {
	usd := func(x float64) *float64 { return &x }
	tests := []struct {
		name   string
		caps   ledger.Caps
		change func(*Options)
		reason string // "" completes
	}{
		{"it is over its own cap of tokens", ledger.Caps{JobTokens: limit(50)}, nil, "not asked: caps.job_tokens is 50 tokens"},
		{"it is over its own cap of money", ledger.Caps{JobUSD: usd(0.00001)}, nil, "not asked: caps.job_usd is"},
		{"it alone is over the day's cap", ledger.Caps{DayTokens: limit(50)}, nil, "not asked: caps.day_tokens is 50 tokens"},
		{"nothing may be spent", ledger.Caps{JobTokens: limit(0)}, nil, "not asked: caps.job_tokens is 0 tokens"},
		{"it fits", ledger.Caps{JobTokens: limit(200), DayTokens: limit(200)}, nil, ""},
		{"its host is not paid", ledger.Caps{JobTokens: limit(50), DayTokens: limit(50)}, func(o *Options) { o.Hosts[0].Paid = false }, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.change = func(o *Options) {
					paid(test.caps)(o)
					o.Hosts[0].Prices = map[string]ledger.Price{"m": {In: 1, Out: 2}}
					if test.change != nil {
						test.change(o)
					}
				}
				r.drop("a.md", short100("alpha"))
				s := r.start()
				r.until("it ends", func() bool { return s.settled() && !r.in(queue.Waiting, "a.md") })
				defer s.stop()
				if test.reason == "" {
					if !r.in(queue.Completed, "a.md") {
						t.Errorf("it does not run:\n%s", r.text(queue.Failed, "a.md"))
					}
					return
				}
				if text := r.text(queue.Failed, "a.md"); !strings.Contains(text, test.reason) || !strings.Contains(text, "raise the cap") {
					t.Errorf("its note says:\n%s", text)
				}
				if n := r.models["davas"].asked("alpha"); n != 0 {
					t.Errorf("asked %d times", n)
				}
			})
		})
	}
}

func TestAJobOverItsOwnCapFailsAlsoWhenTheDayIsUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		costs(r.models["davas"], time.Second)
		r.change = paid(ledger.Caps{DayTokens: limit(120), JobTokens: limit(150)})
		r.drop("a.md", short100("alpha"))
		s := r.start()
		defer s.stop()
		r.until("the day is used up", func() bool { return r.in(queue.Completed, "a.md") && s.settled() })
		r.drop("small.md", short100("beta"))
		r.drop("large.md", "---\njob_type: text\nmax_tokens: 1000\n---\ngamma\n")
		r.until("the large one fails", func() bool { return r.in(queue.Failed, "large.md") })
		if text := r.text(queue.Failed, "large.md"); !strings.Contains(text, "not asked: caps.job_tokens is 150 tokens") || !strings.Contains(text, "What to do: raise the cap") {
			t.Errorf("the note:\n%s", text)
		}
		if j := s.listed("small.md"); !strings.HasPrefix(j.Reason, "waits until midnight: caps.day_tokens is 120: 120 spent") {
			t.Errorf("the small one is listed as %q", j.Reason)
		}
	})
}
