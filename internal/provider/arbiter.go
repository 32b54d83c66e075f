package provider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Class says who gives way to whom in the line for a provider.
type Class string

// The classes, first served first.
const (
	Interactive Class = "interactive" // somebody sits and waits for it
	Batch       Class = "batch"       // a job
)

// ErrUnknownProvider is returned for a name that the arbiter was not given.
var ErrUnknownProvider = errors.New("no such provider in the configuration")

// Arbiter gives out the places of all providers: no more calls run at once at
// one provider than its limit. It is the only keeper of these limits.
//
// While a place is free nobody waits for it: a place that is given back goes
// straight to the first in line. Interactive callers stand before batch ones,
// each class in the order in which it came; an endless row of interactive
// callers would therefore hold up batch for ever, which one owner does not make.
//
// While a provider is slowed down its free places are given to nobody; all else
// holds as ever, and the line is served when it ends.
//
// An Arbiter is safe for concurrent use. It runs no goroutine, but has a timer
// for each provider that is slowed down.
type Arbiter struct {
	now   func() time.Time
	freed chan struct{}

	mu    sync.Mutex // guards everything in lines, and Place.released
	lines map[string]*line
}

// line is one provider: len(held) <= limit always, and nobody waits while
// len(held) < limit and slow is nil.
type line struct {
	name    string
	limit   int
	held    []*Place
	waiting []*waiter // interactive ones first
	slow    *slow     // nil while places are given out
}

// free says that a place can be given out now.
func (l *line) free() bool { return len(l.held) < l.limit && l.slow == nil }

// waiter is one blocked Acquire. Whoever grants sets place before it closes
// granted, under the arbiter's lock.
type waiter struct {
	Holder
	granted chan struct{}
	place   *Place
}

// Place is the right to have one call at a provider.
type Place struct {
	arbiter  *Arbiter
	line     *line
	holder   Holder
	released bool
}

// Holder is one who has a place, or waits for one, since Since.
type Holder struct {
	Who   string    `json:"who"`
	Class Class     `json:"class"`
	Since time.Time `json:"since"`
}

// Line is a provider's places as they are at one moment. Waiting is in the order
// in which it will be served.
type Line struct {
	Name    string   `json:"name"`
	Limit   int      `json:"limit"`
	Held    []Holder `json:"held"`
	Waiting []Holder `json:"waiting"`
	// SlowUntil is until when no place is given out, for Reason; zero while
	// places are.
	SlowUntil time.Time `json:"slow_until,omitzero"`
	Reason    string    `json:"reason,omitempty"`
}

// NewArbiter returns an Arbiter for the named providers and how many calls each
// may have at once. A limit below 1 can never be served: such a name is treated
// as unknown. The times in Lines come from now.
func NewArbiter(limits map[string]int, now func() time.Time) *Arbiter {
	a := &Arbiter{now: now, freed: make(chan struct{}, 1), lines: make(map[string]*line)}
	for name, limit := range limits {
		if limit > 0 {
			a.lines[name] = &line{name: name, limit: limit}
		}
	}
	return a
}

// Acquire waits for a place at the named provider; who is shown to others in
// line. When ctx ends first it leaves the line and returns an error that wraps
// ctx.Err(). A name that is not configured is ErrUnknownProvider at once.
func (a *Arbiter) Acquire(ctx context.Context, provider string, class Class, who string) (*Place, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("wait for a place at %s: %w", provider, err)
	}
	l, err := a.find(provider, class)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	h := Holder{Who: who, Class: class, Since: a.now()}
	if l.free() {
		p := a.grant(l, h)
		a.mu.Unlock()
		return p, nil
	}
	w := &waiter{Holder: h, granted: make(chan struct{})}
	l.enqueue(w)
	a.mu.Unlock()

	select {
	case <-w.granted:
		return w.place, nil
	case <-ctx.Done():
	}
	a.mu.Lock()
	place := w.place
	if place == nil {
		l.waiting = slices.DeleteFunc(l.waiting, func(o *waiter) bool { return o == w })
	}
	a.mu.Unlock()
	if place != nil { // granted in the same moment: the next in line must not lose it
		place.Release()
	}
	return nil, fmt.Errorf("wait for a place at %s: %w", provider, ctx.Err())
}

// TryAcquire returns a place if one is free now, and false if not or if the name
// is not configured. It never passes anybody who waits.
func (a *Arbiter) TryAcquire(provider string, class Class, who string) (*Place, bool) {
	l, err := a.find(provider, class)
	if err != nil {
		return nil, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !l.free() {
		return nil, false
	}
	return a.grant(l, Holder{Who: who, Class: class, Since: a.now()}), true
}

// Release gives the place back. Further calls do nothing.
func (p *Place) Release() {
	a, l := p.arbiter, p.line
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.released {
		return
	}
	p.released = true
	l.held = slices.DeleteFunc(l.held, func(o *Place) bool { return o == p })
	a.serve(l)
}

// serve gives the free places of l to those who wait, and signals the ones that
// nobody waits for. The caller holds the lock, and has just made a place free.
func (a *Arbiter) serve(l *line) {
	for l.free() && len(l.waiting) > 0 {
		w := l.waiting[0]
		l.waiting = slices.Delete(l.waiting, 0, 1)
		h := w.Holder
		h.Since = a.now()
		w.place = a.grant(l, h)
		close(w.granted)
	}
	if !l.free() {
		return
	}
	select {
	case a.freed <- struct{}{}:
	default: // a signal is already there and covers this place too
	}
}

// Provider is the configured name of whom the place is at.
func (p *Place) Provider() string { return p.line.name }

// Freed is signalled when a place has become free that nobody waited for. The
// channel holds one signal, which stands for any number of places; it is meant
// for one receiver, who then tries all that it wants.
func (a *Arbiter) Freed() <-chan struct{} { return a.freed }

// Lines tells who has a place and who waits, sorted by the provider's name.
func (a *Arbiter) Lines() []Line {
	a.mu.Lock()
	defer a.mu.Unlock()
	lines := make([]Line, 0, len(a.lines))
	for _, name := range slices.Sorted(maps.Keys(a.lines)) {
		l := a.lines[name]
		out := Line{Name: name, Limit: l.limit,
			Held: make([]Holder, 0, len(l.held)), Waiting: make([]Holder, 0, len(l.waiting))}
		if l.slow != nil {
			out.SlowUntil, out.Reason = l.slow.until, l.slow.reason
		}
		for _, p := range l.held {
			out.Held = append(out.Held, p.holder)
		}
		for _, w := range l.waiting {
			out.Waiting = append(out.Waiting, w.Holder)
		}
		lines = append(lines, out)
	}
	return lines
}

// find needs no lock: the map is never changed after NewArbiter.
func (a *Arbiter) find(provider string, class Class) (*line, error) {
	l, ok := a.lines[provider]
	if !ok {
		return nil, fmt.Errorf("place at %q: %w", provider, ErrUnknownProvider)
	}
	if class != Interactive && class != Batch {
		return nil, fmt.Errorf("place at %q: class %q is neither %s nor %s", provider, class, Interactive, Batch)
	}
	return l, nil
}

// grant hands out one place of l. The caller holds the lock and has seen that
// one is free.
func (a *Arbiter) grant(l *line, h Holder) *Place {
	p := &Place{arbiter: a, line: l, holder: h}
	l.held = append(l.held, p)
	return p
}

// enqueue puts w behind all of its class: batch at the end, interactive before
// the first batch.
func (l *line) enqueue(w *waiter) {
	at := len(l.waiting)
	if w.Class == Interactive {
		if i := slices.IndexFunc(l.waiting, func(o *waiter) bool { return o.Class == Batch }); i >= 0 {
			at = i
		}
	}
	l.waiting = slices.Insert(l.waiting, at, w)
}
