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
	timer  *time.Timer
}

// NewWatch must be followed by Stop.
func NewWatch(parent context.Context, d *Deadline) *Watch {
	w := &Watch{parent: parent}
	w.Context, w.cancel = context.WithCancelCause(parent)
	w.timer = time.AfterFunc(d.Length, func() { w.cancel(d) })
	return w
}

// Within puts another deadline, counted from now, in the place of the last.
func (w *Watch) Within(d *Deadline) {
	w.timer.Stop()
	w.timer = time.AfterFunc(d.Length, func() { w.cancel(d) })
}

// Stop ends the watch and its context.
func (w *Watch) Stop() {
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
