package jobtype

import (
	"context"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/provider"
)

// chain asks its steps one after another as one conversation: each sees the
// prompts and answers before it, without the thinking. The text before the first
// heading stands above the first prompt, and so before every step.
type chain struct{}

func (chain) Run(ctx context.Context, j job.Job, ask Asker, sink provider.Sink) (job.Result, error) {
	var r job.Result
	var messages []provider.Message
	if j.System != "" {
		messages = append(messages, provider.Message{Role: provider.System, Content: j.System})
	}
	for i, s := range j.Steps {
		prompt := s.Prompt
		if i == 0 && j.Preamble != "" {
			prompt = j.Preamble + "\n\n" + prompt
		}
		messages = append(messages, provider.Message{Role: provider.User, Content: prompt})
		sink(provider.Event{Kind: provider.StepEvent, Step: i + 1, Text: s.Title})
		// A copy: what was asked must not grow under the one who was asked.
		req := request(j, s.Model, append([]provider.Message(nil), messages...))
		if err := step(ctx, j, i, req, ask, sink, &r); err != nil {
			return r, err
		}
		messages = append(messages, provider.Message{Role: provider.Assistant, Content: r.Steps[i].Answer.Text})
	}
	return r, nil
}
