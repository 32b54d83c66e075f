package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"davidcockson.com/runner/internal/provider"
)

// maxErrorBody bounds what is read of an error's body, in bytes.
const maxErrorBody = 64 << 10

var (
	errRefused = errors.New("the server refused the request")
	errSecond  = errors.New("a second request within one call")
)

// Refusal is a response whose status is not 200.
type Refusal struct {
	Status int
	Header http.Header
	Body   []byte // 64 KiB of it at most
}

// Call is one request that somebody else's client makes. It belongs to one
// goroutine.
type Call struct {
	watch   *Watch
	silence *Deadline
	// answered is called with the header of a response of status 200, before any
	// of its body is read.
	answered func(http.Header)

	begun   atomic.Bool // set by the request that this call allows
	reached atomic.Bool // a connection came about, so that something may have been sent
	lost    error       // the request brought no response
	refusal *Refusal
	header  http.Header // of a response of status 200
	body    *body
}

// callKey finds the Call in a context.
type callKey struct{}

// NewStream begins a call whose answer comes in pieces: the first byte within
// first, each further piece within silence. It must be followed by Stop.
func NewStream(ctx context.Context, first, silence *Deadline, answered func(http.Header)) *Call {
	return &Call{watch: NewWatch(ctx, first), silence: silence, answered: answered}
}

// NewReply begins a call whose whole reply comes within d. It must be followed
// by Stop.
func NewReply(ctx context.Context, d *Deadline) *Call {
	return &Call{watch: NewWatch(ctx, d), answered: func(http.Header) {}}
}

// Context is that of the request.
func (c *Call) Context() context.Context { return context.WithValue(c.watch, callKey{}, c) }

// Stop ends the call and its deadlines.
func (c *Call) Stop() { c.watch.Stop() }

// Refusal is the server's answer where it was no 200, nil otherwise.
func (c *Call) Refusal() *Refusal { return c.refusal }

// Header is that of a response of status 200, nil where there was none.
func (c *Call) Header() http.Header { return c.header }

// Fault says what went wrong below the client, nil for nothing, or for a
// refusal. The arguments are those of Lost.
func (c *Call) Fault(connect time.Duration, advice string) *provider.Error {
	switch {
	case c.refusal != nil:
		return nil
	case c.lost != nil:
		return Lost(c.watch, c.lost, c.reached.Load(), connect, advice)
	case c.body != nil && c.body.fault != nil:
		return c.broken()
	case c.body == nil: // the client did not get as far as to a request
		return c.watch.Ended()
	}
	return nil
}

// broken explains a body that ended in disorder.
func (c *Call) broken() *provider.Error {
	fault := c.body.fault
	e := &provider.Error{Kind: provider.Malformed, Reason: fault.Error(), Cause: fault}
	switch {
	case errors.Is(fault, errLongPiece), errors.Is(fault, errLongReply):
	case c.watch.Err() != nil:
		e = c.watch.Ended()
	case c.silence == nil:
		e.Kind, e.Reason = provider.Failed, "connection lost within the reply"
	default:
		e.Kind, e.Reason = provider.Unfinished, "connection lost in the middle of the answer"
	}
	e.Sent = true
	return e
}

// Transport carries the requests of Calls. It is safe for concurrent use.
type Transport struct {
	// Next is made by NewTransport.
	Next http.RoundTripper
	// Authorize sets the headers that name us: the client above knows no key.
	Authorize func(http.Header)
}

// NewClient returns an HTTP client for the Calls of one provider, each of whose
// connections may take the given time.
func NewClient(connect time.Duration, authorize func(http.Header)) (*http.Client, *Transport) {
	t := &Transport{Next: NewTransport(connect, new(net.Dialer).DialContext), Authorize: authorize}
	return &http.Client{Transport: t}, t
}

// RoundTrip makes the one request of a Call. All that is no response of status
// 200 is an error to the client, and kept in the Call; so a redirect is never
// seen by anybody who would follow it.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c, ok := req.Context().Value(callKey{}).(*Call)
	if !ok || !c.begun.CompareAndSwap(false, true) {
		if req.Body != nil {
			_ = req.Body.Close() // a RoundTripper must; it is never read
		}
		return nil, errSecond
	}
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { c.reached.Store(true) }})
	req = req.Clone(ctx)
	t.Authorize(req.Header)
	resp, err := t.Next.RoundTrip(req)
	if err != nil {
		c.lost = err
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
		if err != nil {
			data = nil // half an error says less than its status
		}
		c.refusal = &Refusal{Status: resp.StatusCode, Header: resp.Header, Body: data}
		return nil, errRefused
	}
	c.header = resp.Header
	c.body = &body{ReadCloser: resp.Body, watch: c.watch, silence: c.silence}
	resp.Body = c.body
	c.answered(resp.Header)
	return resp, nil
}

// Failure explains what a call that was not refused came to, nil for a success. err
// is the client's own, which may quote what was sent and what came: it is not kept.
func (c *Call) Failure(err error, connect time.Duration) *provider.Error {
	if e := c.Fault(connect, AdviceReach); e != nil {
		return e
	}
	switch {
	case err == nil:
		return nil
	case c.Header() == nil:
		return &provider.Error{Kind: provider.Refused, Reason: "the request cannot be built"}
	}
	return &provider.Error{
		Kind: provider.Malformed, Sent: true,
		Reason: "the server answered with status 200, but not with what the protocol says",
		Advice: AdviceURL,
	}
}

// Named completes an error with who it is about.
func Named(name string, err error, model string) error {
	if e, ok := errors.AsType[*provider.Error](err); ok {
		e.Provider, e.Model = name, model
	}
	return err
}
