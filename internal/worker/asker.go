package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/trace"
)

// asker asks providers for one attempt of a job, and is the only one who writes
// down what was asked and answered: an intent before each call, its end after.
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

const (
	// firstPause is the wait before the second try of a call; it doubles after.
	firstPause = time.Second
	// mostPause is the longest wait that a server may ask for within an attempt.
	mostPause = 5 * time.Minute
)

// Ask makes a call, and again where that cannot be paid twice or the server asked
// for it: refused connections, 429, 502, 503 and 504, three tries in all. After
// anything else the call may have been billed, and is not repeated.
func (a *asker) Ask(ctx context.Context, step int, name string, req provider.Request, sink provider.Sink) (answer provider.Answer, err error) {
	if a.steps.Type == job.Chain {
		below, span := a.span.Step(ctx, step, a.steps.Steps[step-1].Title)
		ctx = below
		defer func() { span.End(answer.Text, traceError(ctx, err)) }()
	}
	for try := 1; ; try++ {
		answer, err = a.try(ctx, step, try, name, req, sink)
		e := asError(err)
		if err == nil || e == nil || !e.Again() || try == mostTries || a.never && e.Sent || e.Kind == provider.Unreachable && a.w.patient(name) {
			return answer, err
		}
		if a.never && e.Kind != provider.Unreachable {
			return answer, err
		}
		pause := a.pause(try, e)
		if pause > mostPause {
			e.Reason += fmt.Sprintf("; it asks to wait %s, which is too long within an attempt", pause.Round(time.Second))
			return answer, e
		}
		a.w.o.Metrics.Retried(name, e.Kind)
		a.w.o.Log.Warn("asking again", "job", a.row.ID, "provider", name, "reason", e.Reason, "try", try+1, "pause", pause)
		sink(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Waiting})
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return answer, a.cancelled(name, req, false)
		}
	}
}

// pause is what the server asked for, or a second, doubled for each try, plus up
// to half of it by chance, so that many do not come back at once.
func (a *asker) pause(try int, e *provider.Error) time.Duration {
	pause := max(e.RetryAfter, firstPause<<(try-1))
	return pause + rand.N(pause/2)
}

// try is one call: a place, the intent, the call, its end.
func (a *asker) try(ctx context.Context, step, try int, name string, req provider.Request, sink provider.Sink) (provider.Answer, error) {
	h, ok := a.w.hosts[name]
	if !ok {
		return provider.Answer{}, fmt.Errorf("the provider %q is not configured", name)
	}
	place, err := a.take(ctx, name, sink)
	if err != nil {
		return provider.Answer{}, a.cancelled(name, req, false)
	}
	defer place.Release()
	if ctx.Err() != nil {
		return provider.Answer{}, a.cancelled(name, req, false)
	}
	// What is written down must not depend on whether the job is stopped.
	keep := context.WithoutCancel(ctx)
	price, intent := h.Prices[req.Model], ledger.Call{Step: step, Try: try, Provider: name, Model: req.Model, Hash: req.Hash(name),
		Estimate: provider.Estimate(req.Messages), Paid: h.Paid, Started: time.Now()}
	if h.Paid {
		read, written := Likely(req)
		intent.SpentTokens, intent.SpentUSD = read+written, price.Cost(read, written)
	}
	call, err := a.w.o.Ledger.Intend(keep, a.row.Ref(), intent, ledger.Allowance{Caps: a.w.o.Caps, Day: midnight(intent.Started, a.w.o.Location)})
	var capped *ledger.CapError
	if errors.As(err, &capped) {
		return provider.Answer{}, capped
	}
	if err != nil {
		return provider.Answer{}, &recordError{err, true}
	}
	generation := a.w.o.Tracer.Generation(ctx, trace.Call{Step: step, Try: try, Provider: name, Kind: h.Kind, Request: req})
	answer, err := h.Provider.Ask(ctx, req, func(e provider.Event) {
		if e.Kind == provider.TextEvent || e.Kind == provider.ThinkingEvent {
			generation.FirstToken(time.Now()) // the first counts
		}
		sink(e)
	})
	a.budget.stop()
	place.Release()
	cost := a.cost(h, price, answer)
	if cost != nil {
		generation.Cost(*cost)
	}
	generation.End(answer, traceError(ctx, err))
	a.w.o.Metrics.Called(name, req.Model, answer, err, cost)
	if err == nil {
		a.reached = name
		return answer, a.store(keep, call, answer, price)
	}
	e := asError(err)
	if e == nil {
		e = &provider.Error{Kind: provider.Failed, Provider: name, Model: req.Model, Reason: "the provider failed in a way it does not explain", Sent: true, Cause: err}
	}
	if e.Kind != provider.Unreachable {
		a.reached = name
	}
	a.w.o.Log.Warn("call failed", "job", a.row.ID, "step", step, "try", try, "provider", name, "model", req.Model, "kind", string(e.Kind),
		"reason", e.Reason, "sent", e.Sent, "cause", e.Cause)
	if err := a.w.o.Ledger.CallFailed(keep, a.row.Ref(), call, answer, e, price, time.Now()); err != nil {
		return answer, &recordError{err, false}
	}
	return answer, e
}

// cost is what an answer cost, in US dollars: nothing at a host that is not paid,
// nil where no price is known.
func (a *asker) cost(h *host, price ledger.Price, answer provider.Answer) *float64 {
	usd := price.Cost(answer.Usage.Read, answer.Usage.Written)
	if _, known := h.Prices[answer.Model]; h.Paid && !known && price == (ledger.Price{}) {
		return nil
	}
	return &usd
}

// unboundedAnswer is how many tokens an answer counts for the caps before it has
// come, where the note sets no max_tokens.
const unboundedAnswer = 2000

// Likely is what a request may spend, in tokens, before it is known: a token for
// four bytes of prompt, or our lower bound if that is more, and the longest answer
// that it allows.
func Likely(req provider.Request) (read, written int) {
	bytes := 0
	for _, m := range req.Messages {
		bytes += len(m.Content)
	}
	written = req.MaxTokens
	if written == 0 {
		written = unboundedAnswer
	}
	return max(bytes/4, provider.Estimate(req.Messages)), written
}

// midnight is the last one before t in the owner's zone.
func midnight(t time.Time, location *time.Location) time.Time {
	year, month, day := t.In(location).Date()
	return time.Date(year, month, day, 0, 0, 0, 0, location)
}

// store writes an answer down. It was paid for: if the ledger fails, that is
// tried again, and after that the answer goes on to the output note, from which
// a start knows that it came.
func (a *asker) store(ctx context.Context, call int64, answer provider.Answer, price ledger.Price) error {
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
func (a *asker) take(ctx context.Context, name string, sink provider.Sink) (*provider.Place, error) {
	if place := a.place; place != nil {
		a.place = nil
		if place.Provider() == name {
			return place, nil
		}
		place.Release()
	}
	if place, ok := a.w.o.Arbiter.TryAcquire(name, provider.Batch, a.row.ID); ok {
		return place, nil
	}
	sink(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Waiting})
	return a.w.o.Arbiter.Acquire(ctx, name, provider.Batch, a.row.ID)
}

func (a *asker) cancelled(name string, req provider.Request, sent bool) *provider.Error {
	return &provider.Error{Kind: provider.Cancelled, Provider: name, Model: req.Model, Reason: "stopped before it was asked", Sent: sent}
}
