package jobtype

import (
	"errors"
	"reflect"
	"testing"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/provider"
)

func textJob() job.Job {
	return job.Job{Type: job.Text, Steps: []job.Step{{Prompt: "Why?\n\n## Not a step\n", Provider: "p", Model: "m"}}}
}

func TestATextJobSendsItsBodyInOneCall(t *testing.T) {
	warm, cold := 0.7, 0.0
	for _, c := range []struct {
		name   string
		change func(*job.Job)
		want   string
	}{
		{"the body alone", func(*job.Job) {}, "step 1 to p m\nuser: Why?\n\n## Not a step\n"},
		{"the system prompt first", func(j *job.Job) { j.System = "Be brief." }, "step 1 to p m\nsystem: Be brief.\nuser: Why?\n\n## Not a step\n"},
		{"what the note sets", func(j *job.Job) { j.Temperature, j.MaxTokens = &warm, 50 }, "step 1 to p m temperature 0.7 max 50\nuser: Why?\n\n## Not a step\n"},
		{"a temperature of zero is set", func(j *job.Job) { j.Temperature = &cold }, "step 1 to p m temperature 0\nuser: Why?\n\n## Not a step\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := textJob()
			c.change(&j)
			a := new(asker)
			r, _, err := run(t, j, a)
			if err != nil {
				t.Fatal(err)
			}
			a.check(t, c.want)
			if len(r.Steps) != 1 || r.Steps[0].Answer != answer(1) || r.Steps[0].Step != j.Steps[0] || r.Steps[0].Reused || r.Anew != 0 {
				t.Errorf("the result is %+v", r)
			}
		})
	}
}

func TestATextJobPassesEventsOn(t *testing.T) {
	a := &asker{script: map[int]func(provider.Sink) (provider.Answer, error){1: func(sink provider.Sink) (provider.Answer, error) {
		sink(provider.Event{Kind: provider.TextEvent, Text: "Be"})
		sink(provider.Event{Kind: provider.TextEvent, Text: "cause."})
		return answer(1), nil
	}}}
	_, events, err := run(t, textJob(), a)
	want := []provider.Event{{Kind: provider.TextEvent, Step: 1, Text: "Be"}, {Kind: provider.TextEvent, Step: 1, Text: "cause."}}
	if err != nil || !reflect.DeepEqual(events, want) {
		t.Errorf("events %+v, %v; want %+v", events, err, want)
	}
}

// TestAStoredAnswerCountsOnlyForExactlyWhatWouldBeSent changes one thing at a time
// after an answer was stored.
func TestAStoredAnswerCountsOnlyForExactlyWhatWouldBeSent(t *testing.T) {
	warm := 0.7
	first, _, err := run(t, textJob(), new(asker))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*job.Job)
		want   string
	}{
		{"nothing changed", func(*job.Job) {}, "stored"},
		{"another attempt of another run", func(j *job.Job) { j.ID, j.Run, j.Attempt = "x", "y", 3 }, "stored"},
		{"another prompt", func(j *job.Job) { j.Steps[0].Prompt += "!" }, "asked anew from 1"},
		{"another provider", func(j *job.Job) { j.Steps[0].Provider = "q" }, "asked anew from 1"},
		{"another model", func(j *job.Job) { j.Steps[0].Model = "n" }, "asked anew from 1"},
		{"a system prompt", func(j *job.Job) { j.System = "Be brief." }, "asked anew from 1"},
		{"a temperature", func(j *job.Job) { j.Temperature = &warm }, "asked anew from 1"},
		{"a limit", func(j *job.Job) { j.MaxTokens = 5 }, "asked anew from 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := textJob()
			j.Stored = stored(first)
			c.change(&j)
			a := new(asker)
			r, _, err := run(t, j, a)
			if err != nil || reused(r) != c.want {
				t.Errorf("%s, %v; want %s", reused(r), err, c.want)
			}
			if calls := len(a.asked); (calls == 0) != (c.want == "stored") || r.Steps[0].Answer != answer(1) {
				t.Errorf("%d calls, answer %+v", calls, r.Steps[0].Answer)
			}
		})
	}
}

func TestAFailedTextJobKeepsWhatHadCome(t *testing.T) {
	failure := &provider.Error{Kind: provider.Cut, Provider: "p", Reason: "too long", Sent: true}
	a := &asker{script: map[int]func(provider.Sink) (provider.Answer, error){1: func(provider.Sink) (provider.Answer, error) {
		return provider.Answer{Text: "Bec"}, failure
	}}}
	r, _, err := run(t, textJob(), a)
	if !errors.Is(err, failure) || len(r.Steps) != 1 || r.Steps[0].Answer.Text != "Bec" || r.Steps[0].Reused {
		t.Errorf("%+v, %v", r, err)
	}
}
