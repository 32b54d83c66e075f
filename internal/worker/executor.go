package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/jobtype"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/provider"
)

// outcome is what an executor reports to the poller of a note in the queue.
type outcome struct {
	name string
	// held is the ledger's decision where the note was not claimed.
	held *ledger.Decision
	// claimed says that the ledger has the claim, of a content with this hash.
	claimed bool
	hash    string
	// ledgerErr is why the ledger could not be written.
	ledgerErr error
	// capped is why paid hosts may not be asked any more today, nil if they may.
	capped *ledger.CapError
	// row is the job where it was put back.
	row ledger.Row
	// repair is the id of a job whose record and file may not agree.
	repair string
	// unreachable or reached name the host that was found to be so.
	unreachable, reached string
	hostErr              error
	// orphan is the id of a job whose note another job has now.
	orphan string
	// ending is how the job to repair ended, where that could not be written.
	ending *ending
}

// execute runs one attempt of a claimed job and brings it to its end. cancel ends
// ctx.
func (w *Worker) execute(ctx context.Context, cancel context.CancelCauseFunc, row ledger.Row, spec job.Spec, place *provider.Place, r *outcome) {
	running := w.runOf(row.ID)
	w.mu.Lock()
	running.file = row.File
	w.mu.Unlock()
	stream, err := w.o.Hub.Open(row.ID, func() { cancel(errCancelled) })
	if err != nil {
		w.o.Log.Error("open the live events", "job", row.ID, "error", err)
		w.putBack(context.WithoutCancel(ctx), row, "its last attempt has not ended yet", "", r)
		return
	}
	end := string(provider.Failed)
	defer func() { stream.Close(end) }()

	limit := spec.Timeout
	if limit == 0 {
		limit = w.o.JobLimit
	}
	budget := newBudget(limit, func() { cancel(limitError{limit}) })
	defer budget.stop()
	sink := func(e provider.Event) {
		budget.see(e)
		if e.Step > 0 {
			w.mu.Lock()
			running.step = e.Step
			w.mu.Unlock()
		}
		if e.Kind != provider.EndEvent { // a call's end is not yet the job's
			stream.Publish(e)
		}
	}
	ctx, span := w.trace(ctx, row, spec)
	row.Trace = span.TraceID()
	a := &asker{w: w, row: row, never: spec.RetryNever, place: place, budget: budget, span: span, steps: spec}
	result, err := w.runJob(ctx, &row, spec, a, sink)
	span.End(lastText(result), ask.Traced(ctx, err))
	if err == nil {
		end = "stop"
		r.reached = a.reached
		w.complete(ctx, row, spec, result, r)
		return
	}
	if kind := provider.KindOf(err); kind != "" {
		end = string(kind)
	}
	r.reached = a.reached
	w.failed(ctx, row, spec, result, err, r)
}

// runJob prepares a job and executes it under recover: a panic is a failure of
// this job alone.
func (w *Worker) runJob(ctx context.Context, row *ledger.Row, spec job.Spec, a *asker, sink provider.Sink) (result job.Result, err error) {
	defer func() {
		if v := recover(); v != nil {
			w.o.Log.Error("a job panicked", "job", row.ID, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	if spec, err = w.prepare(ctx, row, spec); err != nil {
		return result, err
	}
	j := job.Job{ID: row.ID, Run: row.Run, Attempt: row.Attempt, Type: spec.Type, System: spec.System, Temperature: spec.Temperature,
		MaxTokens: spec.MaxTokens, Preamble: spec.Preamble, Steps: spec.Steps}
	if j.Stored, err = w.o.Ledger.Stored(ctx, row.ID, ""); err != nil {
		return result, &recordError{err, true}
	}
	runner, err := jobtype.For(spec.Type)
	if err != nil {
		return result, err
	}
	return runner.Run(ctx, j, a, sink)
}

var errPanic = errors.New("the program failed inside this job; the log has the details")

// recordError is a failure to write down what is about to happen or has: the
// ledger's, not the job's. before says that nothing was asked yet.
type recordError struct {
	err    error
	before bool
}

func (e *recordError) Error() string { return e.err.Error() }

func (e *recordError) Unwrap() error { return e.err }

// survive keeps the process alive if a job's bookkeeping panics; the job is
// looked at again.
func (w *Worker) survive(r *outcome) {
	if v := recover(); v != nil {
		w.o.Log.Error("a job's bookkeeping panicked", "note", r.name, "job", r.repair, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	}
}
