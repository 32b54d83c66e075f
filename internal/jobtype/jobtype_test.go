package jobtype

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/provider"
)

// asker answers what its script says, by step, and writes down what it was asked.
type asker struct {
	script map[int]func(provider.Sink) (provider.Answer, error)
	asked  []string
}

func (a *asker) Ask(_ context.Context, step int, name string, req provider.Request, sink provider.Sink) (provider.Answer, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "step %d to %s %s", step, name, req.Model)
	if req.Temperature != nil {
		fmt.Fprintf(&b, " temperature %g", *req.Temperature)
	}
	if req.MaxTokens > 0 {
		fmt.Fprintf(&b, " max %d", req.MaxTokens)
	}
	for _, m := range req.Messages {
		fmt.Fprintf(&b, "\n%s: %s", m.Role, m.Content)
	}
	a.asked = append(a.asked, b.String())
	if say := a.script[step]; say != nil {
		return say(sink)
	}
	return answer(step), nil
}

// answer is what a step is told where the script says nothing else.
func answer(step int) provider.Answer {
	return provider.Answer{Text: fmt.Sprintf("Answer %d.", step), Thinking: fmt.Sprintf("Thought %d.", step), Provider: "p", Model: "m", Finish: "stop"}
}

func run(t *testing.T, j job.Job, a *asker) (job.Result, []provider.Event, error) {
	t.Helper()
	runner, err := For(j.Type)
	if err != nil {
		t.Fatal(err)
	}
	var events []provider.Event
	result, err := runner.Run(t.Context(), j, a, func(e provider.Event) { events = append(events, e) })
	return result, events, err
}

func (a *asker) check(t *testing.T, want ...string) {
	t.Helper()
	if len(a.asked) != len(want) {
		t.Errorf("%d calls, want %d:\n%s", len(a.asked), len(want), strings.Join(a.asked, "\n\n"))
		return
	}
	for i := range want {
		if a.asked[i] != want[i] {
			t.Errorf("call %d was\n%s\nwant\n%s", i+1, a.asked[i], want[i])
		}
	}
}

// stored turns the steps of a result into what the ledger gives back.
func stored(r job.Result) []job.StoredStep {
	var all []job.StoredStep
	for _, s := range r.Steps {
		all = append(all, job.StoredStep{Hash: s.Hash, Answer: s.Answer})
	}
	return all
}

// reused says by step whether its answer was a stored one, and what Anew is.
func reused(r job.Result) string {
	var b strings.Builder
	for _, s := range r.Steps {
		if s.Reused {
			b.WriteString("stored ")
		} else {
			b.WriteString("asked ")
		}
	}
	if r.Anew > 0 {
		fmt.Fprintf(&b, "anew from %d", r.Anew)
	}
	return strings.TrimSpace(b.String())
}

func TestForKnowsTheThreeTypesAndNoOther(t *testing.T) {
	for kind, want := range map[job.Type]Runner{job.Text: text{}, job.Chain: chain{}, job.Research: research{}} {
		if got, err := For(kind); err != nil || reflect.TypeOf(got) != reflect.TypeOf(want) {
			t.Errorf("%s: %T, %v; want %T", kind, got, err, want)
		}
	}
	for _, kind := range []job.Type{"", "Text", "poem"} {
		if _, err := For(kind); err == nil || !strings.Contains(err.Error(), "say text, chain or research") {
			t.Errorf("%q: %v", kind, err)
		}
	}
}

// askerFunc answers each step by one function.
type askerFunc func(step int, req provider.Request) (provider.Answer, error)

func (f askerFunc) Ask(_ context.Context, step int, _ string, req provider.Request, _ provider.Sink) (provider.Answer, error) {
	return f(step, req)
}
