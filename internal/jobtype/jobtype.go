// Package jobtype runs jobs: a job in, answers out. There is one file for each
// type.
//
// It promises that a job needs nothing but itself, someone to ask and a sink for
// events: no vault, no ledger. A step whose stored answer is to exactly the
// request that would be sent again is not asked again; after the first step that
// has to be asked, all are. An error is the asker's, of the step at which
// it happened, and the Result holds every answer up to there. Nothing is stored.
package jobtype

import (
	"context"
	"fmt"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/provider"
)

// Asker gets one step's answer from the provider that the step names.
type Asker interface {
	// Ask is given the step's number, from 1. The error is an *provider.Error,
	// or one that says why the answer could not be asked for or kept.
	Ask(ctx context.Context, step int, providerName string, req provider.Request, sink provider.Sink) (provider.Answer, error)
}

// Runner runs the jobs of one type.
type Runner interface {
	Run(ctx context.Context, j job.Job, ask Asker, sink provider.Sink) (job.Result, error)
}

// For returns the Runner of a job type.
func For(t job.Type) (Runner, error) {
	switch t {
	case job.Text:
		return text{}, nil
	case job.Chain:
		return chain{}, nil
	case job.Research:
		return research{}, nil
	}
	return nil, fmt.Errorf("the job type %q is not known; say text, chain or research", t)
}

// request makes what is sent for messages of a job.
func request(j job.Job, model string, messages []provider.Message) provider.Request {
	return provider.Request{Model: model, Messages: messages, Temperature: j.Temperature, MaxTokens: j.MaxTokens}
}

// step answers step i (from 0) from what is stored or by asking, and adds it to
// the result.
func step(ctx context.Context, j job.Job, i int, req provider.Request, ask Asker, sink provider.Sink, r *job.Result) error {
	s := j.Steps[i]
	hash := req.Hash(s.Provider)
	if r.Anew == 0 && i < len(j.Stored) {
		if j.Stored[i].Hash == hash {
			r.Steps = append(r.Steps, job.StepResult{Step: s, Hash: hash, Answer: j.Stored[i].Answer, Reused: true})
			return nil
		}
		r.Anew = i + 1
	}
	number := i + 1
	answer, err := ask.Ask(ctx, number, s.Provider, req, func(e provider.Event) {
		e.Step = number
		sink(e)
	})
	r.Steps = append(r.Steps, job.StepResult{Step: s, Hash: hash, Answer: answer})
	return err
}
