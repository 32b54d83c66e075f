package ledger

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/provider"
)

func intend(t *testing.T, l *Ledger, r Row, step int, hash string) int64 {
	t.Helper()
	id, err := l.Intend(t.Context(), r.Ref(), Call{Step: step, Try: 1, Provider: "p", Model: "m", Hash: hash, Estimate: 7, Started: noon}, Allowance{})
	must(t, err)
	return id
}

func answer(text string) provider.Answer {
	return provider.Answer{Text: text, Thinking: "hm " + text, Provider: "p", Model: "m-2026", Digest: "d", Finish: "stop",
		Usage: provider.Usage{Estimate: 7, Read: 9, Written: 3, Reasoning: 1}, Context: 4096,
		Load: time.Second, FirstToken: 2 * time.Second, Took: 3 * time.Second, Rate: 1.5, Started: noon.UTC()}
}

func TestACallIsKeptFromItsIntentToItsEnd(t *testing.T) {
	l := open(t)
	ctx := t.Context()
	r := inState(t, l, candidate("a.md", asked), job.Active)
	first, second, third := intend(t, l, r, 1, "h1"), intend(t, l, r, 2, "h2"), intend(t, l, r, 2, "h2")
	base := Call{Job: r.ID, Run: r.Run, Attempt: 1, Step: 1, Try: 1, Provider: "p", Model: "m", Hash: "h1", State: Intent, Billed: true, Estimate: 7, Started: noon}
	want := []Call{base, base, base}
	for i, id := range []int64{first, second, third} {
		want[i].ID = id
		if i > 0 {
			want[i].Step, want[i].Hash = 2, "h2"
		}
	}
	check := func(after string) {
		t.Helper()
		got, err := l.Calls(ctx, r.ID)
		must(t, err)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("after %s\n%+v, want\n%+v", after, got, want)
		}
	}
	check("the intents")

	end := noon.Add(time.Minute)
	must(t, l.Answer(ctx, r.Ref(), first, answer("one"), Price{}, end))
	want[0].State, want[0].Read, want[0].Written, want[0].Ended = Answered, 9, 3, end
	check("the answer")

	failure := &provider.Error{Kind: provider.Unreachable, Provider: "p", Reason: "nobody there"}
	must(t, l.CallFailed(ctx, r.Ref(), second, provider.Answer{}, failure, Price{}, end))
	want[1].State, want[1].Billed, want[1].Kind, want[1].Reason, want[1].Ended = CallLost, false, provider.Unreachable, "nobody there", end
	check("a failure before anything was sent")

	failure = &provider.Error{Kind: provider.Cut, Provider: "p", Reason: "too long", Sent: true}
	must(t, l.CallFailed(ctx, r.Ref(), third, answer("par"), failure, Price{}, end))
	want[2].State, want[2].Kind, want[2].Reason, want[2].Read, want[2].Written, want[2].Ended = CallLost, provider.Cut, "too long", 9, 3, end
	check("a failure in the middle")

	stored, err := l.Stored(ctx, r.ID, "")
	must(t, err)
	if !reflect.DeepEqual(stored, []job.StoredStep{{Hash: "h1", Answer: answer("one")}}) {
		t.Errorf("stored is %+v; a failed call's text is no answer", stored)
	}
	for name, err := range map[string]error{
		"a second answer":            l.Answer(ctx, r.Ref(), first, answer("two"), Price{}, end),
		"an answer after a failure":  l.Answer(ctx, r.Ref(), second, answer("two"), Price{}, end),
		"a failure after the answer": l.CallFailed(ctx, r.Ref(), first, answer("two"), failure, Price{}, end),
		"an answer to no call":       l.Answer(ctx, r.Ref(), 999, answer("two"), Price{}, end),
	} {
		if !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v, want ErrStale", name, err)
		}
	}
	check("ends that came too late")
}

func TestTheResultOfACancelledOrOlderAttemptIsRefused(t *testing.T) {
	for name, move := range map[string]func(*testing.T, *Ledger, Row){
		"cancelled": func(t *testing.T, l *Ledger, r Row) {
			must(t, l.Cancel(t.Context(), r.Ref(), job.Active, End{Reason: "enough"}, noon))
		},
		"put back and begun again": func(t *testing.T, l *Ledger, r Row) {
			must(t, l.PutBack(t.Context(), r.Ref(), job.Active, r.File, "", "", false))
			begun(t, l, claim(t, l, candidate("a.md", asked)))
		},
		"failed and retried": func(t *testing.T, l *Ledger, r Row) {
			must(t, l.Fail(t.Context(), r.Ref(), job.Active, End{Reason: "x"}, noon))
			must(t, l.Retry(t.Context(), r.Ref(), job.Failed, r.File))
			begun(t, l, claim(t, l, candidate("a.md", asked)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t)
			r := inState(t, l, candidate("a.md", asked), job.Active)
			call := intend(t, l, r, 1, "h1")
			move(t, l, r)
			failure := &provider.Error{Kind: provider.Failed, Reason: "x", Sent: true}
			for what, err := range map[string]error{
				"the answer":  l.Answer(t.Context(), r.Ref(), call, answer("late"), Price{}, noon),
				"the failure": l.CallFailed(t.Context(), r.Ref(), call, answer("late"), failure, Price{}, noon),
			} {
				if !errors.Is(err, ErrStale) {
					t.Errorf("%s: %v, want ErrStale", what, err)
				}
			}
			calls, err := l.Calls(t.Context(), r.ID)
			must(t, err)
			if len(calls) != 1 || calls[0].State != Intent {
				t.Errorf("calls %+v, want the intent alone", calls)
			}
			if stored, err := l.Stored(t.Context(), r.ID, ""); err != nil || len(stored) != 0 {
				t.Errorf("stored %+v, %v", stored, err)
			}
		})
	}
}

func TestStoredAnswersAreTheNewestByStepUpToTheFirstGap(t *testing.T) {
	l := open(t)
	ctx := t.Context()
	c := candidate("a.md", asked)
	r := inState(t, l, c, job.Active)
	other := inState(t, l, candidate("b.md", other), job.Active)
	give := func(r Row, step int, text string) {
		t.Helper()
		must(t, l.Answer(ctx, r.Ref(), intend(t, l, r, step, "h "+text), answer(text), Price{}, noon))
	}
	texts := func(run string) string {
		t.Helper()
		stored, err := l.Stored(ctx, r.ID, run)
		must(t, err)
		var all []string
		for _, s := range stored {
			if s.Hash != "h "+s.Answer.Text || !reflect.DeepEqual(s.Answer, answer(s.Answer.Text)) {
				t.Errorf("an answer changed: %+v", s)
			}
			all = append(all, s.Answer.Text)
		}
		return strings.Join(all, " ")
	}
	check := func(run, want string) {
		t.Helper()
		if got := texts(run); got != want {
			t.Errorf("stored of run %q: %q, want %q", run, got, want)
		}
	}
	give(other, 1, "foreign")
	check("", "")
	give(r, 2, "two") // a gap: step 1 has none
	check("", "")
	give(r, 4, "four")
	give(r, 1, "one")
	check("", "one two")
	give(r, 1, "uno")
	check("", "uno two")
	intend(t, l, r, 3, "h three")
	check("", "uno two")
	check(r.Run, "uno two")

	must(t, l.Fail(ctx, r.Ref(), job.Active, End{Reason: "x"}, noon))
	must(t, l.Retry(ctx, r.Ref(), job.Failed, r.File))
	again := begun(t, l, claim(t, l, c))
	check(again.Run, "")
	give(again, 1, "eins")
	check(again.Run, "eins")
	check(r.Run, "uno two")
	check("", "eins two")
	give(again, 3, "drei")
	check(again.Run, "eins")
	check("", "eins two drei four")
}

func TestForgetRemovesOldTextsAndNothingElse(t *testing.T) {
	l := open(t)
	ctx := t.Context()
	var rows []Row
	for _, s := range []struct {
		name, body string
		ended      time.Time
		settled    bool
	}{
		{"old.md", "first of all", noon.Add(-time.Hour), true},
		{"unsettled.md", "second to none", noon.Add(-time.Hour), false},
		{"young.md", "third time lucky", noon, true},
		{"active.md", "fourth estate", time.Time{}, false},
	} {
		r := inState(t, l, candidate(s.name, s.body), job.Active)
		must(t, l.Answer(ctx, r.Ref(), intend(t, l, r, 1, "h"), answer(s.name), Price{}, noon))
		if !s.ended.IsZero() {
			must(t, l.Complete(ctx, r.Ref(), job.Active, "o", "", s.ended, nil))
		}
		if s.settled {
			must(t, l.Settle(ctx, r.Ref(), r.File))
		}
		rows = append(rows, get(t, l, r.ID))
	}
	for _, want := range []int64{1, 0} {
		if n, err := l.Forget(ctx, noon); err != nil || n != want {
			t.Errorf("removed %d, %v; want %d", n, err, want)
		}
	}
	for i, r := range rows {
		stored, err := l.Stored(ctx, r.ID, "")
		must(t, err)
		if want := i > 0; (len(stored) == 1) != want {
			t.Errorf("%s: %d stored answers, want one: %v", r.Name, len(stored), want)
		}
		calls, err := l.Calls(ctx, r.ID)
		must(t, err)
		if get(t, l, r.ID) != r || len(calls) != 1 || calls[0].State != Answered {
			t.Errorf("%s lost more than its text", r.Name)
		}
	}
}
