package jobtype

import (
	"context"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/provider"
)

// text is a single call: the body is the prompt.
type text struct{}

func (text) Run(ctx context.Context, j job.Job, ask Asker, sink provider.Sink) (job.Result, error) {
	var r job.Result
	var messages []provider.Message
	if j.System != "" {
		messages = append(messages, provider.Message{Role: provider.System, Content: j.System})
	}
	messages = append(messages, provider.Message{Role: provider.User, Content: j.Steps[0].Prompt})
	err := step(ctx, j, 0, request(j, j.Steps[0].Model, messages), ask, sink, &r)
	return r, err
}
