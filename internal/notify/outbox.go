package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"davidcockson.com/runner/internal/ledger"
)

const (
	firstPause = 5 * time.Second // after the first failure of a ping; doubled with each
	longPause  = 15 * time.Minute
	longestAge = 3 * 24 * time.Hour // of a ping, from when it was queued
	mostTries  = 200
	// lookAgain bounds how long a ping lies unseen if nobody called Wake.
	lookAgain = time.Minute
	// ledgerPause is how long a ledger that fails is left alone.
	ledgerPause = 30 * time.Second
	// parting is what a send under way gets at the end, so that its answer is noted
	// and the ping not sent twice.
	parting = 2 * time.Second
)

// Outbox delivers the pings that the ledger has queued, oldest first, one at a
// time. A ping that fails holds up those behind it: they would fail too.
type Outbox struct {
	ledger  *ledger.Ledger
	discord *Discord
	log     *slog.Logger
	wake    chan struct{}

	mu     sync.Mutex
	status Status
}

// Status is what health and metrics show of an Outbox.
type Status struct {
	Configured bool
	// Queued, Sent and Dropped are of all that the ledger knows, Failed counts the
	// tries that failed since the start.
	Queued, Sent, Failed, Dropped int64
	// Gone says that the webhook does not exist any more: nothing is sent until a
	// restart.
	Gone bool
	// LastSuccess is since the start, zero for none.
	LastSuccess time.Time
	// LastError is why the last try failed, "" once one succeeded.
	LastError string
}

// NewOutbox is an outbox that does nothing before Run. Without a Discord, nil, it
// sends nothing, and pings should not be queued.
func NewOutbox(l *ledger.Ledger, d *Discord, log *slog.Logger) *Outbox {
	return &Outbox{ledger: l, discord: d, log: log, wake: make(chan struct{}, 1), status: Status{Configured: d != nil}}
}

// Wake says that a ping was queued. It never waits and may be called by anybody.
func (o *Outbox) Wake() {
	select {
	case o.wake <- struct{}{}:
	default: // it is awake or about to be
	}
}

// Status is how things stand. It never waits for Discord or the ledger.
func (o *Outbox) Status() Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.status
}

func (o *Outbox) change(f func(*Status)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f(&o.status)
}

// Run delivers until ctx ends, and returns nil then: what is left is delivered by
// the next process. It is called once.
func (o *Outbox) Run(ctx context.Context) error {
	if o.discord == nil {
		<-ctx.Done()
		return nil
	}
	if counts, err := o.ledger.PingCounts(ctx); err != nil {
		o.ledgerFailed(ctx, err)
	} else {
		o.change(func(s *Status) { s.Queued, s.Sent, s.Dropped = counts.Queued, counts.Sent, counts.Dropped })
	}
	for ctx.Err() == nil {
		o.turn(ctx)
	}
	return nil
}

// turn deals with the oldest ping, or waits for one.
func (o *Outbox) turn(ctx context.Context) {
	p, err := o.ledger.NextPing(ctx)
	switch {
	case errors.Is(err, ledger.ErrNoPing):
		o.idle(ctx)
		return
	case err != nil:
		o.ledgerFailed(ctx, err)
		o.rest(ctx, ledgerPause)
		return
	}
	age := time.Since(p.Created)
	switch {
	case p.Tries >= mostTries:
		o.drop(ctx, p, fmt.Sprintf("not delivered in %d tries", p.Tries))
		return
	case age >= longestAge:
		o.drop(ctx, p, fmt.Sprintf("not delivered within %d hours", longestAge/time.Hour))
		return
	case o.Status().Gone: // it lies until it is too old, for the next process to send
		o.rest(ctx, min(longestAge-age, time.Hour))
		return
	}
	// Once this much has passed by our own clock it is tried, whatever a wall clock
	// that was set says by then.
	if wait := min(time.Until(p.Next), mostPause); !o.rest(ctx, max(wait, o.discord.ready())) {
		return
	}
	o.deliver(ctx, p)
}

func (o *Outbox) deliver(ctx context.Context, p ledger.Ping) {
	sending, cancel := lingering(ctx)
	id, err := o.discord.Send(sending, p.Body)
	cancel()
	if err == nil {
		o.sent(ctx, p, id)
		return
	}
	if errors.Is(err, context.Canceled) {
		return // we stop: the next process sends it
	}
	o.change(func(s *Status) { s.Failed++; s.LastError = err.Error() })
	if _, gone := errors.AsType[*GoneError](err); gone {
		o.change(func(s *Status) { s.Gone = true })
		o.log.Error("pings are not sent any more", "reason", err.Error())
		return
	}
	if _, refused := errors.AsType[*RefusedError](err); refused {
		o.drop(ctx, p, err.Error())
		return
	}
	o.log.Warn("a ping was not delivered", "job", p.Job, "kind", string(p.Kind), "attempt", p.Tries+1, "reason", err.Error())
	if limited, ok := errors.AsType[*LimitedError](err); ok && limited.RetryAfter > 0 {
		return // the ping did not fail, it was early; the pause is kept by ready
	}
	pause := backoff(p.Tries)
	if err := o.ledger.PingFailed(context.WithoutCancel(ctx), p.ID, time.Now().Add(pause), err.Error()); err != nil {
		o.ledgerFailed(ctx, err)
		o.rest(ctx, pause)
	}
}

// sent notes a delivery. Until that is on disk nothing else is sent: looking again
// would find the same ping queued and send it a second time.
func (o *Outbox) sent(ctx context.Context, p ledger.Ping, id string) {
	o.log.Debug("a ping was delivered", "job", p.Job, "kind", string(p.Kind), "message", id)
	o.write(ctx, func(ctx context.Context) error { return o.ledger.PingSent(ctx, p.ID, id, time.Now()) })
	o.change(func(s *Status) { s.Sent++; s.Queued = max(0, s.Queued-1); s.LastSuccess, s.LastError = time.Now(), "" })
}

func (o *Outbox) drop(ctx context.Context, p ledger.Ping, reason string) {
	o.log.Error("a ping was given up", "job", p.Job, "kind", string(p.Kind), "attempt", p.Tries, "reason", reason)
	o.write(ctx, func(ctx context.Context) error { return o.ledger.PingDropped(ctx, p.ID, reason, time.Now()) })
	o.change(func(s *Status) { s.Dropped++; s.Queued = max(0, s.Queued-1); s.LastError = reason })
}

// write tries a write of the ledger until it is done or ctx ends, once at least. A
// row that has moved on was written by a try that was reported as failed.
func (o *Outbox) write(ctx context.Context, do func(context.Context) error) {
	for {
		err := do(context.WithoutCancel(ctx))
		if err == nil || errors.Is(err, ledger.ErrStale) {
			return
		}
		o.ledgerFailed(ctx, err)
		if !o.rest(ctx, ledgerPause) {
			return
		}
	}
}

func (o *Outbox) ledgerFailed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // it was only interrupted
	}
	o.log.Error("the outbox cannot use the ledger", "error", err)
	o.change(func(s *Status) { s.LastError = err.Error() })
}

// idle waits for a ping to be queued.
func (o *Outbox) idle(ctx context.Context) {
	o.change(func(s *Status) { s.Queued = 0 })
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-o.wake:
		o.count(ctx)
	}
}

// rest lets a time pass and keeps the count of what is queued meanwhile. It is
// false if ctx ended.
func (o *Outbox) rest(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-o.wake:
			o.count(ctx)
		}
	}
}

func (o *Outbox) count(ctx context.Context) {
	n, err := o.ledger.PingsQueued(ctx)
	if err != nil {
		o.ledgerFailed(ctx, err)
		return
	}
	o.change(func(s *Status) { s.Queued = n })
}

// backoff is the pause after one more failure of a ping that has failed so many
// times: doubled each time, a fifth more or less, so that many runners do not
// come back to Discord at once.
func backoff(failed int) time.Duration {
	d := longPause
	if failed < 10 {
		d = min(d, firstPause<<failed)
	}
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// lingering is a context that ends a little after ctx.
func lingering(ctx context.Context) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(parting)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-late.Done():
		}
		cancel()
	})
	return late, func() { stop(); cancel() }
}
