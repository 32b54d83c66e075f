package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/trace"
)

// asker asks providers for one attempt of a job, and writes its calls into the
// ledger.
type asker struct {
	w     *Worker
	row   ledger.Row
	never bool // at most one call: the note says retry: never
	// place is the place with which the job was claimed, nil once it was used.
	place  *provider.Place
	budget *budget
	// span is the trace's root; steps the job as the note says it, for titles.
	span  *trace.Span
	steps job.Spec
	// reached is the last host that answered at all.
	reached string
}

// Ask makes one step's call, as package ask does.
func (a *asker) Ask(ctx context.Context, step int, name string, req provider.Request, sink provider.Sink) (answer provider.Answer, err error) {
	h, ok := a.w.hosts[name]
	if !ok {
		return provider.Answer{}, fmt.Errorf("the provider %q is not configured", name)
	}
	if a.steps.Type == job.Chain {
		below, span := a.span.Step(ctx, step, a.steps.Steps[step-1].Title)
		ctx = below
		defer func() { span.End(answer.Text, ask.Traced(ctx, err)) }()
	}
	host := h.Host
	host.Provider = timed{h.Provider, a.budget}
	answer, err = a.w.asks.Ask(ctx, ask.Call{Host: host, Request: req, Step: step, Book: a, Once: a.never, Patient: h.Patient,
		Place: func(ctx context.Context) (func(), error) { return a.take(ctx, name, sink) }, For: slog.String("job", a.row.ID)}, sink)
	if e := ask.AsError(err); err == nil || e != nil && e.Kind != provider.Unreachable && e.Kind != provider.Cancelled {
		a.reached = name
	}
	return answer, err
}

// timed is a provider whose calls, once over, take no more of a job's time.
type timed struct {
	provider.Provider
	budget *budget
}

// Ask asks the provider, then stops the clock.
func (t timed) Ask(ctx context.Context, req provider.Request, sink provider.Sink) (provider.Answer, error) {
	defer t.budget.stop()
	return t.Provider.Ask(ctx, req, sink)
}

// Intend writes that a call of this attempt is about to be made.
func (a *asker) Intend(ctx context.Context, c ledger.Call, allowance ledger.Allowance) (int64, error) {
	call, err := a.w.o.Ledger.Intend(ctx, a.row.Ref(), c, allowance)
	var capped *ledger.CapError
	if err == nil || errors.As(err, &capped) {
		return call, err
	}
	return 0, &recordError{err, true}
}

// Answered stores an answer. It was paid for: if the ledger fails, that is tried
// again, and after that the answer goes on to the output note, from which a start
// knows that it came.
func (a *asker) Answered(ctx context.Context, call int64, answer provider.Answer, price ledger.Price) error {
	var err error
	for range 3 {
		if err = a.w.o.Ledger.Answer(ctx, a.row.Ref(), call, answer, price, time.Now()); err == nil {
			return nil
		}
		if errors.Is(err, ledger.ErrStale) {
			if a.stored(ctx, call) {
				return nil // the commit had happened although it failed
			}
			return &recordError{err, false}
		}
	}
	a.w.o.Log.Error("an answer could not be stored; it goes on to the output note", "job", a.row.ID, "error", err)
	return nil
}

// Failed stores how a call failed.
func (a *asker) Failed(ctx context.Context, call int64, answer provider.Answer, e *provider.Error, price ledger.Price) error {
	if err := a.w.o.Ledger.CallFailed(ctx, a.row.Ref(), call, answer, e, price, time.Now()); err != nil {
		return &recordError{err, false}
	}
	return nil
}

// stored says whether the ledger has an answer to a call after all.
func (a *asker) stored(ctx context.Context, call int64) bool {
	calls, err := a.w.o.Ledger.Calls(ctx, a.row.ID)
	if err != nil {
		return false
	}
	for _, c := range calls {
		if c.ID == call {
			return c.State == ledger.Answered
		}
	}
	return false
}

// take gets a place at a provider: the one that the claim came with, or one in
// line.
func (a *asker) take(ctx context.Context, name string, sink provider.Sink) (func(), error) {
	if place := a.place; place != nil {
		a.place = nil
		if place.Provider() == name {
			return place.Release, nil
		}
		place.Release()
	}
	if place, ok := a.w.o.Arbiter.TryAcquire(name, provider.Batch, a.row.ID); ok {
		return place.Release, nil
	}
	sink(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Waiting, Text: a.w.placeReason(name)})
	place, err := a.w.o.Arbiter.Acquire(ctx, name, provider.Batch, a.row.ID)
	if err != nil {
		return nil, err
	}
	return place.Release, nil
}
