package jobtype

import (
	"errors"
	"reflect"
	"testing"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/provider"
)

func chainJob() job.Job {
	return job.Job{Type: job.Chain, System: "Be brief.", Preamble: "About tea.", Steps: []job.Step{
		{Title: "First", Prompt: "Name three.", Provider: "p", Model: "m"},
		{Title: "Second", Prompt: "Choose one.", Provider: "q", Model: "n"},
		{Title: "Third", Prompt: "Say why.", Provider: "p", Model: "m"},
	}}
}

func TestAChainIsOneConversation(t *testing.T) {
	a := new(asker)
	r, events, err := run(t, chainJob(), a)
	if err != nil {
		t.Fatal(err)
	}
	a.check(t,
		"step 1 to p m\nsystem: Be brief.\nuser: About tea.\n\nName three.",
		"step 2 to q n\nsystem: Be brief.\nuser: About tea.\n\nName three.\nassistant: Answer 1.\nuser: Choose one.",
		"step 3 to p m\nsystem: Be brief.\nuser: About tea.\n\nName three.\nassistant: Answer 1.\nuser: Choose one.\nassistant: Answer 2.\nuser: Say why.")
	if reused(r) != "asked asked asked" || r.Steps[1].Step != chainJob().Steps[1] || r.Steps[2].Answer != answer(3) {
		t.Errorf("the result is %+v", r)
	}
	want := []provider.Event{
		{Kind: provider.StepEvent, Step: 1, Text: "First"}, {Kind: provider.StepEvent, Step: 2, Text: "Second"}, {Kind: provider.StepEvent, Step: 3, Text: "Third"},
	}
	if !reflect.DeepEqual(events, want) {
		t.Errorf("events %+v, want %+v", events, want)
	}
}

func TestAChainWithoutSystemAndPreamble(t *testing.T) {
	j := chainJob()
	j.System, j.Preamble, j.Steps = "", "", j.Steps[:2]
	a := new(asker)
	if _, _, err := run(t, j, a); err != nil {
		t.Fatal(err)
	}
	a.check(t, "step 1 to p m\nuser: Name three.", "step 2 to q n\nuser: Name three.\nassistant: Answer 1.\nuser: Choose one.")
}

func TestWhatWasAskedDoesNotGrowAfterwards(t *testing.T) {
	var kept provider.Request
	var sizes []int
	keep := askerFunc(func(step int, req provider.Request) (provider.Answer, error) {
		if step == 1 {
			kept = req
			kept.Messages = kept.Messages[:len(kept.Messages):cap(kept.Messages)]
		}
		sizes = append(sizes, len(req.Messages))
		req.Messages[0].Content = "overwritten" // by one who was asked: not ours
		return answer(step), nil
	})
	runner, err := For(job.Chain)
	if err != nil {
		t.Fatal(err)
	}
	r, err := runner.Run(t.Context(), chainJob(), keep, func(provider.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	plain, _, err := run(t, chainJob(), new(asker))
	if err != nil || !reflect.DeepEqual(r, plain) {
		t.Errorf("the result depends on what the asker does with its request: %+v, %v; want %+v", r, err, plain)
	}
	if !reflect.DeepEqual(sizes, []int{2, 4, 6}) || len(kept.Messages) != 2 {
		t.Errorf("messages %v, and the first request has %d now", sizes, len(kept.Messages))
	}
}

func TestAChainResumesAfterTheLastStoredStepThatStillFits(t *testing.T) {
	first, _, err := run(t, chainJob(), new(asker))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		stored int // how many answers are stored
		change func(*job.Job)
		want   string
		calls  int
	}{
		{"nothing is stored", 0, func(*job.Job) {}, "asked asked asked", 3},
		{"the first is stored", 1, func(*job.Job) {}, "stored asked asked", 2},
		{"all are stored", 3, func(*job.Job) {}, "stored stored stored", 0},
		{"more are stored than there are steps", 3, func(j *job.Job) { j.Steps = j.Steps[:2] }, "stored stored", 0},
		{"a step was added", 3, func(j *job.Job) {
			j.Steps = append(j.Steps, job.Step{Title: "Fourth", Prompt: "Sum up.", Provider: "p", Model: "m"})
		}, "stored stored stored asked", 1},
		{"a title is not sent", 3, func(j *job.Job) { j.Steps[1].Title = "Zwei" }, "stored stored stored", 0},
		{"the last prompt changed", 3, func(j *job.Job) { j.Steps[2].Prompt = "Why?" }, "stored stored asked anew from 3", 1},
		{"a middle prompt changed: it and all after it", 3, func(j *job.Job) { j.Steps[1].Prompt = "Choose two." }, "stored asked asked anew from 2", 2},
		{"a middle model changed: it and all after it", 3, func(j *job.Job) { j.Steps[1].Model = "other" }, "stored asked asked anew from 2", 2},
		{"the text for all changed", 3, func(j *job.Job) { j.Preamble = "About coffee." }, "asked asked asked anew from 1", 3},
		{"the system prompt changed", 2, func(j *job.Job) { j.System = "" }, "asked asked asked anew from 1", 3},
		{"a stored answer changed: what follows saw another", 3, func(j *job.Job) { j.Stored[0].Answer.Text = "Other." }, "stored asked asked anew from 2", 2},
		{"a stored thought changed: nobody sees it", 3, func(j *job.Job) { j.Stored[0].Answer.Thinking = "Other." }, "stored stored stored", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := chainJob()
			j.Stored = stored(first)[:c.stored]
			c.change(&j)
			a := new(asker)
			r, _, err := run(t, j, a)
			if err != nil || reused(r) != c.want || len(a.asked) != c.calls {
				t.Errorf("%s with %d calls, %v; want %s with %d", reused(r), len(a.asked), err, c.want, c.calls)
			}
		})
	}
}

func TestAfterAChangedStepAStoredAnswerIsNotUsedEvenIfItWouldFit(t *testing.T) {
	first, _, err := run(t, chainJob(), new(asker))
	if err != nil {
		t.Fatal(err)
	}
	j := chainJob()
	j.Stored = stored(first)
	j.Stored[1].Hash = "of something else"
	a := new(asker) // gives the same answer 2 again, so that step 3 would be sent as before
	r, _, err := run(t, j, a)
	if err != nil || reused(r) != "stored asked asked anew from 2" {
		t.Errorf("%s, %v", reused(r), err)
	}
}

func TestAChainThatFailsKeepsTheEarlierAnswers(t *testing.T) {
	failure := &provider.Error{Kind: provider.Failed, Provider: "q", Reason: "broken", Sent: true}
	a := &asker{script: map[int]func(provider.Sink) (provider.Answer, error){2: func(sink provider.Sink) (provider.Answer, error) {
		sink(provider.Event{Kind: provider.TextEvent, Text: "Ear"})
		return provider.Answer{Text: "Ear"}, failure
	}}}
	r, events, err := run(t, chainJob(), a)
	if !errors.Is(err, failure) || len(a.asked) != 2 {
		t.Errorf("%v after %d calls, want the failure of the second", err, len(a.asked))
	}
	if len(r.Steps) != 2 || r.Steps[0].Answer != answer(1) || r.Steps[1].Answer.Text != "Ear" {
		t.Errorf("the result is %+v", r)
	}
	if last := events[len(events)-1]; last != (provider.Event{Kind: provider.TextEvent, Step: 2, Text: "Ear"}) {
		t.Errorf("the last event is %+v", last)
	}
	j := chainJob()
	j.Stored = stored(r)[:1]
	if r, _, err = run(t, j, new(asker)); err != nil || reused(r) != "stored asked asked" {
		t.Errorf("after the failure: %s, %v", reused(r), err)
	}
}
