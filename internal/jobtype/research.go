package jobtype

import (
	"context"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/provider"
)

// research needs tools that fetch and search, which do not exist yet. It fails
// before anything is sent, rather than answer from the model's memory.
type research struct{}

func (research) Run(_ context.Context, j job.Job, _ Asker, _ provider.Sink) (job.Result, error) {
	s := j.Steps[0]
	return job.Result{}, &provider.Error{Kind: provider.Refused, Provider: s.Provider, Model: s.Model,
		Reason: "job_type research is not available yet: it needs a search service and tools for the model, and this version has neither",
		Advice: "use job_type: text or chain, and paste the sources into the prompt"}
}
