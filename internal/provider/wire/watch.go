// Package wire is what the clients of model servers share below their protocols:
// deadlines for silence, a transport that reaches the configured server and no
// other, the limits of what is read, and the words for what went wrong.
//
// It promises that one call is one request: a Transport refuses the second of a
// Call, whatever the client above it thinks of retries, redirects or
// continuations. Redirects are never followed, no proxy is asked, a key travels
// in a header alone, and no text that it makes for the owner holds a URL or a key.
//
// Faults below a client end its reading as a plain end would; the Call remembers
// what it really was. Nothing is stored here.
package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"davidcockson.com/runner/internal/provider"
)

// Deadline is one of the configured limits. As the cause of a context it says
// which of them struck.
type Deadline struct {
	Length time.Duration
	What   string // what did not happen, with %s for the length
	Key    string // in the configuration
}

func (d *Deadline) Error() string { return fmt.Sprintf(d.What, d.Length.Round(time.Millisecond)) }

// Watch is a context that one deadline at a time can end. It belongs to one
// goroutine.
type Watch struct {
	context.Context
	parent context.Context
	cancel context.CancelCauseFunc

	// mu guards what follows, which the timer looks at too. The timer is not moved
	// with each piece of an answer, but when it rings too early.
	mu       sync.Mutex
	deadline *Deadline
	due      time.Time // of the deadline
	rings    time.Time // the timer's, not after due
	timer    *time.Timer
	stopped  bool
}

// NewWatch must be followed by Stop.
func NewWatch(parent context.Context, d *Deadline) *Watch {
	w := &Watch{parent: parent, deadline: d, due: time.Now().Add(d.Length)}
	w.Context, w.cancel = context.WithCancelCause(parent)
	w.mu.Lock() // the timer may ring before it is set
	defer w.mu.Unlock()
	w.rings = w.due
	w.timer = time.AfterFunc(d.Length, w.ring)
	return w
}

// Within puts another deadline, counted from now, in the place of the last.
func (w *Watch) Within(d *Deadline) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline, w.due = d, time.Now().Add(d.Length)
	if w.due.Before(w.rings) {
		w.rings = w.due
		w.timer.Reset(d.Length)
	}
}

// ring is called by the timer.
func (w *Watch) ring() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	if left := time.Until(w.due); left > 0 {
		w.rings = w.due
		w.timer.Reset(left)
		return
	}
	w.cancel(w.deadline)
}

// Stop ends the watch and its context.
func (w *Watch) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
	w.cancel(nil)
}

// Ended says why the context is over, nil while it is not.
func (w *Watch) Ended() *provider.Error {
	if w.Err() == nil {
		return nil
	}
	cause := context.Cause(w)
	if d, ok := errors.AsType[*Deadline](cause); ok {
		return &provider.Error{
			Kind:   provider.Timeout,
			Reason: d.Error(),
			Advice: "raise deadlines." + d.Key + " if the host needs longer",
			Cause:  cause,
		}
	}
	return &provider.Error{Kind: provider.Cancelled, Reason: "stopped before the answer was whole", Cause: context.Cause(w.parent)}
}
