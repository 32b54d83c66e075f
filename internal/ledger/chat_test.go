package ledger

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/provider"
)

var turn = ChatRef{Conversation: "c1", Turn: 1, Version: 1}

func TestJobsAndChatShareTheDaysCap(t *testing.T) {
	call := Call{Step: 1, Try: 1, Provider: "groq", Paid: true, SpentTokens: 100, SpentUSD: 0.01, Started: noon}
	today := noon.Add(-12 * time.Hour)
	tests := []struct {
		name string
		caps Caps
		want Scope // of a chat call, after a job's call
	}{
		{"both fit", Caps{DayTokens: number(200)}, ""},
		{"the job has spent the day's tokens", Caps{DayTokens: number(199)}, DayCap},
		{"the job has spent the day's money", Caps{DayUSD: amount(0.015)}, DayCap},
		{"a turn alone over the day's cap", Caps{DayTokens: number(50)}, AloneCap},
		{"a job's own caps do not bind chat", Caps{JobTokens: number(1), JobUSD: amount(0)}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := open(t)
			r := begun(t, l, claim(t, l, candidate("a.md", "hello")))
			if _, err := l.Intend(t.Context(), r.Ref(), call, Allowance{}); err != nil {
				t.Fatal(err)
			}
			_, err := l.IntendChat(t.Context(), turn, call, Allowance{Caps: tt.caps, Day: today})
			var capped *CapError
			if errors.As(err, &capped); tt.want == "" && err != nil || tt.want != "" && (capped == nil || capped.Scope != tt.want) {
				t.Fatalf("%v, want scope %q", err, tt.want)
			}
			if calls, _ := l.ChatCalls(t.Context(), "c1"); (len(calls) == 0) != (err != nil) {
				t.Errorf("%d calls are written after %v", len(calls), err)
			}
		})
	}
	t.Run("the other way round", func(t *testing.T) {
		l := open(t)
		if _, err := l.IntendChat(t.Context(), turn, call, Allowance{}); err != nil {
			t.Fatal(err)
		}
		r := begun(t, l, claim(t, l, candidate("a.md", "hello")))
		_, err := l.Intend(t.Context(), r.Ref(), call, Allowance{Caps: Caps{DayTokens: number(199)}, Day: today})
		if capped, ok := errors.AsType[*CapError](err); !ok || capped.Scope != DayCap || capped.DayTokens != 100 {
			t.Errorf("%v, want the day's cap with 100 tokens spent", err)
		}
	})
}

func TestAChatCallEndsOnce(t *testing.T) {
	l := open(t)
	price := Price{In: 2, Out: 10}
	call := Call{Try: 1, Provider: "groq", Model: "m", Paid: true, SpentTokens: 1000, SpentUSD: 1, Started: noon}
	id, err := l.IntendChat(t.Context(), turn, call, Allowance{})
	if err != nil {
		t.Fatal(err)
	}
	a := provider.Answer{Text: "secret of the house", Provider: "groq", Usage: provider.Usage{Read: 100, Written: 50}}
	if err := l.ChatAnswered(t.Context(), id, a, price, noon.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	calls, err := l.ChatCalls(t.Context(), "c1")
	if err != nil || len(calls) != 1 {
		t.Fatal(calls, err)
	}
	if c := calls[0]; c.State != Answered || !c.Billed || c.Step != 1 || c.Attempt != 1 || c.SpentTokens != 150 || c.SpentUSD != price.Cost(100, 50) || !c.Ended.Equal(noon.Add(time.Second)) {
		t.Errorf("%+v", c)
	}
	if err := l.ChatFailed(t.Context(), id, a, &provider.Error{Kind: provider.Cut}, price, noon); !errors.Is(err, ErrStale) {
		t.Errorf("a second end: %v, want ErrStale", err)
	}
	id, _ = l.IntendChat(t.Context(), turn, call, Allowance{})
	if err := l.ChatFailed(t.Context(), id, provider.Answer{}, &provider.Error{Kind: provider.Unreachable, Reason: "refused"}, price, noon); err != nil {
		t.Fatal(err)
	}
	calls, _ = l.ChatCalls(t.Context(), "c1")
	if c := calls[1]; c.State != CallLost || c.Billed || c.SpentTokens != 0 || c.Reason != "refused" {
		t.Errorf("a call that was not sent: %+v", c)
	}
	var text string
	if err := l.db.Read.QueryRow("SELECT answer FROM chat_calls WHERE id = ?", calls[0].ID).Scan(&text); err != nil || strings.Contains(text, "secret") {
		t.Errorf("the ledger keeps a text of chat: %q, %v", text, err)
	}
}

func TestACallThatBrokeOffCountsForWhatCame(t *testing.T) {
	price := Price{In: 2, Out: 10}
	stopped := &provider.Error{Kind: provider.Cancelled, Sent: true}
	long := strings.Repeat("word ", 4000) // 20,000 bytes
	tests := []struct {
		name   string
		answer provider.Answer
		fails  *provider.Error
		tokens int
		usd    float64
	}{
		{"a few words came", provider.Answer{Text: "Hello, world"}, stopped, 100 + 2*3, price.Cost(100, 2*3)},
		{"thinking counts too", provider.Answer{Thinking: "Hm, let me", Text: "Hello"}, stopped, 100 + 2*4, price.Cost(100, 2*4)},
		{"more came than was expected", provider.Answer{Text: long}, stopped, 100 + 2*5000, price.Cost(100, 2*5000)},
		{"a script without blanks costs more than a token for four bytes", provider.Answer{Text: strings.Repeat("你好", 2000)}, stopped, 100 + 2*3000, price.Cost(100, 2*3000)},
		{"the provider has counted the prompt alone", provider.Answer{Text: long, Usage: provider.Usage{Read: 90}}, stopped, 90 + 2*5000, price.Cost(90, 2*5000)},
		{"nothing came", provider.Answer{}, stopped, 2100, 1},
		{"the provider has counted", provider.Answer{Text: "Hello", Usage: provider.Usage{Read: 90, Written: 7}}, stopped, 97, price.Cost(90, 7)},
		{"it was not sent", provider.Answer{}, &provider.Error{Kind: provider.Unreachable}, 0, 0},
	}
	call := Call{Step: 1, Try: 1, Provider: "groq", Model: "m", Paid: true, Estimate: 100, SpentTokens: 2100, SpentUSD: 1, Started: noon}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := open(t)
			id, err := l.IntendChat(t.Context(), turn, call, Allowance{})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.ChatFailed(t.Context(), id, tt.answer, tt.fails, price, noon); err != nil {
				t.Fatal(err)
			}
			chat, _ := l.ChatCalls(t.Context(), "c1")
			r := begun(t, l, claim(t, l, candidate("a.md", "hello")))
			if id, err = l.Intend(t.Context(), r.Ref(), call, Allowance{}); err != nil {
				t.Fatal(err)
			}
			if err := l.CallFailed(t.Context(), r.Ref(), id, tt.answer, tt.fails, price, noon); err != nil {
				t.Fatal(err)
			}
			ofJob, _ := l.Calls(t.Context(), r.ID)
			for who, c := range map[string]Call{"chat": chat[0], "a job": ofJob[0]} {
				if c.SpentTokens != tt.tokens || math.Abs(c.SpentUSD-tt.usd) > 1e-12 {
					t.Errorf("a call of %s counts for %d tokens and $%g, want %d and $%g", who, c.SpentTokens, c.SpentUSD, tt.tokens, tt.usd)
				}
			}
			s, err := l.Spent(t.Context(), noon.Add(-time.Hour))
			if uncounted := tt.answer.Usage.Read == 0; err != nil || (s.EstimatedTokens > 0) != (uncounted && tt.tokens > 0) {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

func TestCallsOfADeadProcessAreEnded(t *testing.T) {
	l := open(t)
	call := Call{Try: 1, Provider: "groq", Model: "m", Paid: true, Estimate: 100, SpentTokens: 2100, SpentUSD: 1, Started: noon}
	id, _ := l.IntendChat(t.Context(), turn, call, Allowance{})
	if err := l.ChatFailed(t.Context(), id, provider.Answer{}, &provider.Error{Kind: provider.Cut, Reason: "cut", Sent: true}, Price{}, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := l.IntendChat(t.Context(), turn, call, Allowance{}); err != nil {
		t.Fatal(err)
	}
	later := noon.Add(time.Minute)
	if n, err := l.RecoverChat(t.Context(), later); n != 1 || err != nil {
		t.Fatalf("%d calls ended, %v", n, err)
	}
	calls, err := l.ChatCalls(t.Context(), "c1")
	if err != nil || len(calls) != 2 || calls[0].Reason != "cut" {
		t.Fatalf("%+v, %v", calls, err)
	}
	if c := calls[1]; c.State != CallLost || c.Kind != interrupted || !c.Billed || c.SpentTokens != 2100 || c.SpentUSD != 1 || !c.Ended.Equal(later) {
		t.Errorf("%+v", c)
	}
}

func TestWhatWasSpentIsLookedUp(t *testing.T) {
	l := open(t)
	for _, where := range []string{"started >= 1", "job = 'a' AND run = 'b'"} {
		rows, err := l.db.Read.Query("EXPLAIN QUERY PLAN SELECT sum(spent_tokens) FROM spending WHERE paid = 1 AND " + where)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var a, b, c int
			var plan string
			if err := rows.Scan(&a, &b, &c, &plan); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(plan, "SCAN calls") || strings.HasPrefix(plan, "SCAN chat_calls") && strings.HasPrefix(where, "started") {
				t.Errorf("%s: %s", where, plan)
			}
		}
		rows.Close()
	}
}
