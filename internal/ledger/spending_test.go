package ledger

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"davidcockson.com/runner/internal/provider"
)

func number(n int) *int         { return &n }
func amount(x float64) *float64 { return &x }

func TestCapsForbidACallBeforeItIsMade(t *testing.T) {
	paid := Call{Step: 1, Try: 1, Provider: "groq", Paid: true, SpentTokens: 100, SpentUSD: 0.01, Started: noon}
	free := paid
	free.Paid = false
	tests := []struct {
		name   string
		caps   Caps
		before []Call // intents of the same run
		call   Call
		scope  Scope // "" is allowed
	}{
		{"no cap forbids nothing", Caps{}, []Call{paid}, paid, ""},
		{"what fits exactly is allowed", Caps{DayTokens: number(200)}, []Call{paid}, paid, ""},
		{"an open intent counts with its estimate", Caps{DayTokens: number(199)}, []Call{paid}, paid, DayCap},
		{"money is counted likewise", Caps{DayUSD: amount(0.015)}, []Call{paid}, paid, DayCap},
		{"a call alone over the day's cap can never be made", Caps{DayTokens: number(99)}, nil, paid, AloneCap},
		{"the job's own cap is looked at first", Caps{JobTokens: number(150), DayTokens: number(150)}, []Call{paid}, paid, JobCap},
		{"a job's money", Caps{JobUSD: amount(0.005)}, nil, paid, JobCap},
		{"a free provider counts for nothing", Caps{DayTokens: number(0), JobUSD: amount(0)}, []Call{free}, free, ""},
		{"a cap of zero allows nothing", Caps{DayTokens: number(0)}, nil, paid, AloneCap},
		{"yesterday is another day", Caps{DayTokens: number(150)}, []Call{{Step: 1, Try: 1, Paid: true, SpentTokens: 100, Started: noon.Add(-24 * time.Hour)}}, paid, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := open(t)
			r := begun(t, l, claim(t, l, candidate("a.md", "hello")))
			for _, c := range tt.before {
				if _, err := l.Intend(t.Context(), r.Ref(), c, Allowance{}); err != nil {
					t.Fatal(err)
				}
			}
			_, err := l.Intend(t.Context(), r.Ref(), tt.call, Allowance{Caps: tt.caps, Day: noon.Add(-12 * time.Hour)})
			var capped *CapError
			if errors.As(err, &capped); tt.scope == "" && err != nil || tt.scope != "" && (capped == nil || capped.Scope != tt.scope) {
				t.Fatalf("%v, want scope %q", err, tt.scope)
			}
			if calls, _ := l.Calls(t.Context(), r.ID); err != nil && len(calls) != len(tt.before) {
				t.Errorf("%d calls are written, want the %d before", len(calls), len(tt.before))
			}
		})
	}
}

func TestTheTruthReplacesTheEstimate(t *testing.T) {
	l := open(t)
	r := begun(t, l, claim(t, l, candidate("a.md", "hello")))
	call := Call{Step: 1, Try: 1, Provider: "groq", Paid: true, SpentTokens: 1000, SpentUSD: 1, Started: noon}
	price := Price{In: 2, Out: 10}
	tests := []struct {
		name   string
		close  func(id int64) error
		tokens int
		usd    float64
		// estimated is how much of all tokens may turn out to be less.
		estimated int
	}{
		{"a call under way counts its estimate", func(int64) error { return nil }, 1000, 1, 1000},
		{"an answer counts what was used", func(id int64) error {
			return l.Answer(t.Context(), r.Ref(), id, provider.Answer{Usage: provider.Usage{Read: 300, Written: 200}}, price, noon)
		}, 500, 0.0026, 1000},
		{"a failure that was not sent counts nothing", func(id int64) error {
			return l.CallFailed(t.Context(), r.Ref(), id, provider.Answer{}, &provider.Error{Kind: provider.Busy}, price, noon)
		}, 0, 0, 1000},
		{"a failure that may have been billed keeps the estimate", func(id int64) error {
			return l.CallFailed(t.Context(), r.Ref(), id, provider.Answer{}, &provider.Error{Kind: provider.Timeout, Sent: true}, price, noon)
		}, 1000, 1, 2000},
	}
	var tokens int
	var usd float64
	for _, tt := range tests {
		id, err := l.Intend(t.Context(), r.Ref(), call, Allowance{})
		if err != nil {
			t.Fatal(err)
		}
		if err := tt.close(id); err != nil {
			t.Fatal(err)
		}
		tokens, usd = tokens+tt.tokens, usd+tt.usd
		got, err := l.Spent(t.Context(), noon.Add(-time.Hour))
		if err != nil || got.Tokens != tokens || got.USD < usd-1e-9 || got.USD > usd+1e-9 {
			t.Errorf("%s: %+v, %v; want %d, $%f", tt.name, got, err, tokens, usd)
		}
		if got.EstimatedTokens != tt.estimated || got.EstimatedUSD != float64(tt.estimated)/1000 {
			t.Errorf("%s: %d tokens and $%f are estimates, want %d", tt.name, got.EstimatedTokens, got.EstimatedUSD, tt.estimated)
		}
	}
}

func TestTwoCallsAtOnceCannotBothPassACap(t *testing.T) {
	l := open(t)
	r := begun(t, l, claim(t, l, candidate("a.md", "hello")))
	var group sync.WaitGroup
	errs := make(chan error, 8)
	for range 8 {
		group.Go(func() {
			_, err := l.Intend(t.Context(), r.Ref(), Call{Step: 1, Try: 1, Paid: true, SpentTokens: 100, Started: noon}, Allowance{Caps: Caps{DayTokens: number(250)}, Day: noon})
			errs <- err
		})
	}
	group.Wait()
	close(errs)
	passed := 0
	for err := range errs {
		if err == nil {
			passed++
		} else if !strings.Contains(err.Error(), "caps.day_tokens") {
			t.Error(err)
		}
	}
	if passed != 2 {
		t.Errorf("%d calls passed, want 2", passed)
	}
}

func TestACapSaysWhatIsAnEstimate(t *testing.T) {
	caps := Caps{DayTokens: number(100), DayUSD: amount(0.01)}
	const estimates = " of it estimates of calls under way or without a count"
	tests := []struct {
		name    string
		day     Spending
		reached string // "" while something is left
		forbid  string
	}{
		{"nothing is", Spending{Tokens: 100}, "caps.day_tokens is 100: 100 spent",
			"caps.day_tokens is 100 tokens: 100 tokens spent, and this call needs about 2 tokens"},
		{"a part of the tokens is", Spending{Tokens: 120, EstimatedTokens: 20}, "caps.day_tokens is 100: 120 spent, 20 tokens" + estimates,
			"caps.day_tokens is 100 tokens: 120 tokens spent, 20 tokens" + estimates + ", and this call needs about 2 tokens"},
		{"all of the money is", Spending{USD: 0.02, EstimatedUSD: 0.02}, "caps.day_usd is $0.0100: $0.0200 spent, $0.0200" + estimates,
			"caps.day_usd is $0.0100: $0.0200 spent, $0.0200" + estimates + ", and this call needs about $0.0002"},
		{"some is left, and too little", Spending{Tokens: 99, EstimatedTokens: 99, USD: 0.0099}, "",
			"caps.day_tokens is 100 tokens: 99 tokens spent, 99 tokens" + estimates + ", and this call needs about 2 tokens"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := caps.Reached(tt.day); got != tt.reached {
				t.Errorf("%q, want %q", got, tt.reached)
			}
			e := caps.Forbid(Call{Paid: true, SpentTokens: 2, SpentUSD: 0.0002}, Spending{}, tt.day)
			if e == nil || e.Scope != DayCap || e.Reason != tt.forbid {
				t.Errorf("%+v, want %q", e, tt.forbid)
			}
		})
	}
}
