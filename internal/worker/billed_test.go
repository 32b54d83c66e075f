package worker

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
)

func TestUnaccounted(t *testing.T) {
	call := func(step int, hash string, state ledger.CallState, billed bool) ledger.Call {
		return ledger.Call{Step: step, Hash: hash, State: state, Billed: billed}
	}
	holds := func(hash, text string) job.StepResult {
		return job.StepResult{Hash: hash, Answer: provider.Answer{Text: text}}
	}
	tests := []struct {
		name  string
		calls []ledger.Call
		held  []job.StepResult
		want  []int // indexes of calls
	}{
		{"the answer that the note holds", []ledger.Call{call(1, "a", ledger.Answered, true)}, []job.StepResult{holds("a", "yes")}, nil},
		{"an answer that was thrown away", []ledger.Call{call(1, "old", ledger.Answered, true), call(1, "a", ledger.Answered, true)}, []job.StepResult{holds("a", "yes")}, []int{0}},
		{"an answer of a step that is no more", []ledger.Call{call(1, "a", ledger.Answered, true), call(2, "b", ledger.Answered, true)}, []job.StepResult{holds("a", "yes")}, []int{1}},
		{"the same asked twice, since the first was forgotten", []ledger.Call{call(1, "a", ledger.Answered, true), call(1, "a", ledger.Answered, true)}, []job.StepResult{holds("a", "yes")}, []int{0}},
		{"a call without an end", []ledger.Call{call(1, "a", ledger.Intent, true), call(1, "a", ledger.Answered, true)}, []job.StepResult{holds("a", "yes")}, []int{0}},
		{"tries that were refused unbilled", []ledger.Call{call(1, "a", ledger.CallLost, false), call(1, "a", ledger.Answered, true)}, []job.StepResult{holds("a", "yes")}, nil},
		{"a failed call whose text the note holds", []ledger.Call{call(1, "a", ledger.CallLost, true)}, []job.StepResult{holds("a", "half")}, nil},
		{"a failed call that left no text", []ledger.Call{call(1, "a", ledger.Answered, true), call(2, "b", ledger.CallLost, true)}, []job.StepResult{holds("a", "yes"), holds("b", "")}, []int{1}},
		{"no note at all", []ledger.Call{call(1, "a", ledger.CallLost, true), call(1, "a", ledger.CallLost, true), call(1, "a", ledger.CallLost, true)}, nil, []int{0, 1, 2}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for i := range test.calls {
				test.calls[i].ID = int64(i)
			}
			var got []int
			for _, c := range unaccounted(test.calls, test.held) {
				got = append(got, int(c.ID))
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestManyCallsAreToldInShort(t *testing.T) {
	calls := make([]ledger.Call, mostTold+3)
	lines := describe(calls, "id", "", time.UTC)
	if len(lines) != mostTold+1 || lines[mostTold] != "and 3 more; `runner show id` lists all" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
}

func TestAThrownAwayAnswerIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.change = told
		r.models["davas"].script = func(_ context.Context, n int, req provider.Request) (provider.Answer, error) {
			if req.Messages[len(req.Messages)-1].Content == "second" && n == 1 {
				return provider.Answer{}, &provider.Error{Kind: provider.Refused, Provider: "davas", Reason: "not so"}
			}
			return r.models["davas"].answer(req), nil
		}
		r.drop("a.md", "---\njob_type: chain\n---\n## One\nfirst\n## Two\nsecond\n")
		s := r.start()
		r.until("it fails", func() bool { return r.in(queue.Failed, "a.md") && s.settled() })
		if text := r.text(queue.Failed, "a.md"); strings.Contains(text, "may have been billed") {
			t.Errorf("the partial output holds what was billed:\n%s", text)
		}
		if body := string(s.takePings()[0].Body); strings.Contains(body, "may have been billed") {
			t.Errorf("the ping tells of the run's own call: %s", body)
		}
		r.mem.Put(queue.Failed+"/a.md", strings.Replace(r.text(queue.Failed, "a.md"), "first", "the first, edited", 1))
		if _, err := s.Retry(context.Background(), "a.md"); err != nil {
			t.Fatal(err)
		}
		r.until("it completes", func() bool { return r.in(queue.Completed, "a.md") && s.settled() })
		defer s.stop()
		out := ""
		for file, text := range r.mem.Files() {
			if strings.HasPrefix(file, queue.Outputs) && strings.Contains(text, "finish: stop") {
				out = text
			}
		}
		for _, want := range []string{"earlier_calls_maybe_billed: 1\n", "Asked anew from step 1 on", "May have been billed more than once", ": step 1, attempt 1 of run ", " (m): answered\n"} {
			if !strings.Contains(out, want) {
				t.Errorf("the output lacks %q:\n%s", want, out)
			}
		}
		if body := string(s.takePings()[0].Body); !strings.Contains(body, `"1 call that may have been billed"`) {
			t.Errorf("the ping does not tell of it: %s", body)
		}
	})
}

func TestAFailureNamesEveryCallThatMayHaveBeenBilled(t *testing.T) {
	tests := []struct {
		name   string
		kind   provider.Kind
		text   string // that had come
		callo  []string
		pinged string // "" for nothing
	}{
		{"three tries at a gateway", provider.Gateway, "", []string{"> Calls that may have been billed:\n", ": step 1, attempt 1, davas (m): 504", ": step 1, attempt 1, try 2, davas (m): 504", ": step 1, attempt 1, try 3, davas (m): 504"}, "3 calls that may"},
		{"a call that left no text", provider.Timeout, "", []string{": step 1, attempt 1, davas (m): 504"}, "1 call that may"},
		{"a call whose text is kept", provider.Cut, "half", nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.change = told
				r.models["davas"].script = func(context.Context, int, provider.Request) (provider.Answer, error) {
					return provider.Answer{Text: test.text}, &provider.Error{Kind: test.kind, Provider: "davas", Model: "m", Reason: "504", Sent: true}
				}
				r.drop("a.md", textNote("hello"))
				s := r.start()
				r.until("it fails", func() bool { return r.in(queue.Failed, "a.md") && s.settled() })
				defer s.stop()
				text, body := r.text(queue.Failed, "a.md"), string(s.takePings()[0].Body)
				for _, want := range test.callo {
					if !strings.Contains(text, want) {
						t.Errorf("the callout lacks %q:\n%s", want, text)
					}
				}
				if test.callo == nil && strings.Contains(text, "may have been billed") {
					t.Errorf("the callout tells of a call whose text is kept:\n%s", text)
				}
				if strings.Contains(body, "may have been billed") != (test.pinged != "") || !strings.Contains(body, test.pinged) {
					t.Errorf("the ping lacks %q: %s", test.pinged, body)
				}
			})
		})
	}
}

func TestEveryFailureSaysWhatToDo(t *testing.T) {
	for _, kind := range []provider.Kind{provider.Busy, provider.Gateway, provider.Auth, provider.NoModel, provider.Refused, provider.TooLong, provider.Failed,
		provider.Timeout, provider.Cut, provider.Empty, provider.Unfinished, provider.Unread, provider.Blocked, provider.Malformed, provider.Cancelled, "panic"} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.models["davas"].script = func(context.Context, int, provider.Request) (provider.Answer, error) {
					if kind == "panic" {
						panic("boom")
					}
					return provider.Answer{}, &provider.Error{Kind: kind, Provider: "davas", Model: "m", Reason: "so it is"}
				}
				r.drop("a.md", textNote("hello"))
				s := r.start()
				r.until("it fails", func() bool { return r.in(queue.Failed, "a.md") && s.settled() })
				s.stop()
				if text := r.text(queue.Failed, "a.md"); !strings.Contains(text, "\n> What to do: ") {
					t.Errorf("no advice:\n%s", text)
				}
			})
		})
	}
}
