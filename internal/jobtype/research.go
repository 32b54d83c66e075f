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
	return job.Result{}, Unavailable(j.Type)
}

// Unavailable is why jobs of a type cannot be run by this version, nil if they
// can. No provider is to blame for it.
func Unavailable(t job.Type) error {
	if t != job.Research {
		return nil
	}
	return &provider.Error{Kind: provider.Refused,
		Reason: "job_type research is not available yet: it needs a search service and tools for the model, and this version has neither",
		Advice: "use job_type: text or chain, and paste the sources into the prompt"}
}
