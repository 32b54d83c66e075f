// Package ask makes provider calls as everything that may be billed is made, for
// jobs and for chat alike: a place, an intent that is durable and held against the
// caps, the call, its trace and its count, its end.
//
// It promises that nothing is asked before its intent is in the Book; that only
// what cannot be paid twice is asked again; that the end of a call is written down
// also when the caller has given up; and that who answered is who was asked: there
// is no other host. What a Book, a line or a cap says reaches the caller as it is.
// Nothing is stored here.
package ask

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/metrics"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/trace"
)

// Host is a configured provider.
type Host struct {
	Name string
	// Kind is its kind in the configuration, for traces.
	Kind     string
	Provider provider.Provider
	// Models in the order of the config; empty: whatever the server lists.
	Models []string
	// Probed hosts are asked whether they are there before a note is claimed.
	Probed bool
	// Paid says that its calls count for the caps; Prices are in US dollars for a
	// million tokens, by model, where they are known.
	Paid   bool
	Prices map[string]ledger.Price
	// Patient hosts may be away: who wants them waits. Others fail.
	Patient bool
}

// Book is where a caller's calls are written down.
type Book interface {
	// Intend is durable before it returns. A *ledger.CapError forbids the call.
	Intend(ctx context.Context, c ledger.Call, a ledger.Allowance) (int64, error)
	Answered(ctx context.Context, call int64, a provider.Answer, price ledger.Price) error
	Failed(ctx context.Context, call int64, a provider.Answer, e *provider.Error, price ledger.Price) error
}

// Call is one request of a caller, which is sent up to three times.
type Call struct {
	Host    Host
	Request provider.Request
	// Step counts from 1 where a job has several; chat has one.
	Step int
	Book Book
	// Place waits for a place at the host and returns what gives it back. It tells
	// of the waiting by itself. What it returns may be called more than once.
	Place func(ctx context.Context) (release func(), err error)
	// Once makes no second try of a call that was sent. Patient returns at once
	// when the host cannot be reached: its caller waits by itself.
	Once, Patient bool
	// For says for the log whose call it is: "job" or "chat", and its id.
	For slog.Attr
}

// Asker makes calls. It is safe for concurrent use.
type Asker struct {
	Caps ledger.Caps
	// Location is the owner's zone, in which days begin.
	Location *time.Location
	// Tracer and Metrics may be nil.
	Tracer  *trace.Tracer
	Metrics *metrics.Metrics
	Log     *slog.Logger
}

const (
	// mostTries is how often one call is made.
	mostTries = 3
	// firstPause is the wait before the second try of a call; it doubles after.
	firstPause = time.Second
	// mostPause is the longest wait that a server may ask for.
	mostPause = 5 * time.Minute
)

// Ask makes a call, and again where that cannot be paid twice or the server asked
// for it: refused connections, 429, 502, 503 and 504, three tries in all. After
// anything else the call may have been billed, and is not repeated.
func (a *Asker) Ask(ctx context.Context, c Call, sink provider.Sink) (provider.Answer, error) {
	for try := 1; ; try++ {
		answer, err := a.try(ctx, c, try, sink)
		e := AsError(err)
		if err == nil || e == nil || !e.Again() || try == mostTries || !c.repeats(e) {
			return answer, err
		}
		pause := pause(try, e)
		if pause > mostPause {
			e.Reason += fmt.Sprintf("; it asks to wait %s, which is too long within an attempt", pause.Round(time.Second))
			return answer, e
		}
		a.Metrics.Retried(c.Host.Name, e.Kind)
		a.Log.Warn("asking again", c.For, "provider", c.Host.Name, "reason", e.Reason, "try", try+1, "pause", pause)
		sink(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Waiting, Text: "asking again, since " + e.Reason})
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return answer, c.cancelled()
		}
	}
}

// repeats says whether the caller wants a second try after a failure that allows
// one.
func (c Call) repeats(e *provider.Error) bool {
	if e.Kind == provider.Unreachable {
		return !c.Patient && (!c.Once || !e.Sent)
	}
	return !c.Once
}

// pause is what the server asked for, or a second, doubled for each try, plus up
// to half of it by chance, so that many do not come back at once.
func pause(try int, e *provider.Error) time.Duration {
	pause := max(e.RetryAfter, firstPause<<(try-1))
	return pause + rand.N(pause/2)
}

// try is one call: a place, the intent, the call, its end.
func (a *Asker) try(ctx context.Context, c Call, try int, sink provider.Sink) (provider.Answer, error) {
	release, err := c.Place(ctx)
	if err != nil && ctx.Err() == nil {
		return provider.Answer{}, fmt.Errorf("get a place at %s: %w", c.Host.Name, err)
	}
	if err != nil {
		return provider.Answer{}, c.cancelled()
	}
	defer release()
	if ctx.Err() != nil {
		return provider.Answer{}, c.cancelled()
	}
	// What is written down must not depend on whether the caller is stopped.
	keep := context.WithoutCancel(ctx)
	name, req := c.Host.Name, c.Request
	price, intent := c.Host.Prices[req.Model], ledger.Call{Step: c.Step, Try: try, Provider: name, Model: req.Model, Hash: req.Hash(name),
		Estimate: provider.Likely(req.Messages), Paid: c.Host.Paid, Started: time.Now()}
	if c.Host.Paid {
		read, written := Likely(req)
		intent.SpentTokens, intent.SpentUSD = read+written, price.Cost(read, written)
	}
	call, err := c.Book.Intend(keep, intent, ledger.Allowance{Caps: a.Caps, Day: Midnight(intent.Started, a.Location)})
	if err != nil {
		return provider.Answer{}, err
	}
	generation := a.Tracer.Generation(ctx, trace.Call{Step: c.Step, Try: try, Provider: name, Kind: c.Host.Kind, Request: req})
	spoke := false
	answer, err := c.Host.Provider.Ask(ctx, req, func(e provider.Event) {
		if !spoke && (e.Kind == provider.TextEvent || e.Kind == provider.ThinkingEvent) {
			spoke = true
			generation.FirstToken(time.Now())
		}
		sink(e)
	})
	release()
	cost := c.Host.cost(price, answer)
	if cost != nil {
		generation.Cost(*cost)
	}
	generation.End(answer, Traced(ctx, err))
	a.Metrics.Called(name, req.Model, answer, err, cost)
	if err == nil {
		return answer, c.Book.Answered(keep, call, answer, price)
	}
	e := AsError(err)
	if e == nil {
		e = &provider.Error{Kind: provider.Failed, Provider: name, Model: req.Model, Reason: "the provider failed in a way it does not explain", Sent: true, Cause: err}
	}
	e.Advice = e.Advise()
	a.Log.Warn("call failed", c.For, "step", c.Step, "try", try, "provider", name, "model", req.Model, "kind", string(e.Kind),
		"reason", e.Reason, "sent", e.Sent, "cause", e.Cause)
	if err := c.Book.Failed(keep, call, answer, e, price); err != nil {
		return answer, err
	}
	return answer, e
}

// cancelled is the failure of a call that was stopped before it was asked.
func (c Call) cancelled() *provider.Error {
	return &provider.Error{Kind: provider.Cancelled, Provider: c.Host.Name, Model: c.Request.Model, Reason: "stopped before it was asked"}
}

// cost is what an answer cost, in US dollars: nothing at a host that is not paid,
// nil where no price is known.
func (h Host) cost(price ledger.Price, answer provider.Answer) *float64 {
	usd := price.Cost(answer.Usage.Read, answer.Usage.Written)
	if _, known := h.Prices[answer.Model]; h.Paid && !known && price == (ledger.Price{}) {
		return nil
	}
	return &usd
}

// unboundedAnswer is how many tokens an answer counts for the caps before it has
// come, where the request sets no bound.
const unboundedAnswer = 2000

// Likely is what a request may spend, in tokens, before it is known: what its prompt
// likely comes to, and the longest answer that it allows.
func Likely(req provider.Request) (read, written int) {
	written = req.MaxTokens
	if written == 0 {
		written = unboundedAnswer
	}
	return provider.Likely(req.Messages), written
}

// Midnight is the last one before t in the owner's zone.
func Midnight(t time.Time, location *time.Location) time.Time {
	year, month, day := t.In(location).Date()
	return time.Date(year, month, day, 0, 0, 0, 0, location)
}

// Clock shows a moment of the owner's day, with the date if it is not today's; the
// zone is named, since whoever reads it may be in another.
func Clock(t time.Time, location *time.Location) string {
	t, now := t.In(location), time.Now().In(location)
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04 MST")
	}
	return t.Format("2006-01-02 15:04 MST")
}

// Traced is how an error is traced: with the cause for which a call was stopped,
// where it was.
func Traced(ctx context.Context, err error) error {
	if err == nil || provider.KindOf(err) != provider.Cancelled {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return &provider.Error{Kind: provider.Cancelled, Reason: cause.Error()}
	}
	return err
}

// AsError returns the *provider.Error in err's tree, nil if there is none.
func AsError(err error) *provider.Error {
	e, _ := errors.AsType[*provider.Error](err)
	return e
}
