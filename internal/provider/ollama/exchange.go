package ollama

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"syscall"
	"time"

	"davidcockson.com/runner/internal/provider"
)

// maxReply bounds what is read of a reply that is not a stream, in bytes. The
// description of a model holds the names of all its tensors.
const maxReply = 16 << 20

// newTransport returns a transport that reaches the configured server and no
// other: no proxy from the environment, and a new connection for each request,
// so that a host which went to sleep is noticed by the dial, and not by a
// request that vanishes in an old connection.
func newTransport(limit time.Duration, dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return dial(ctx, network, address)
		},
		TLSHandshakeTimeout:    limit,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// deadline is one of the configured limits. As the cause of a context it says
// which of them struck.
type deadline struct {
	length time.Duration
	what   string // what did not happen, with %s for the length
	key    string // in the configuration
}

func (d *deadline) Error() string { return fmt.Sprintf(d.what, d.length.Round(time.Millisecond)) }

// watch is a context that one deadline at a time can end. It belongs to one
// goroutine.
type watch struct {
	context.Context
	parent context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// newWatch must be followed by stop.
func newWatch(parent context.Context, d *deadline) *watch {
	w := &watch{parent: parent}
	w.Context, w.cancel = context.WithCancelCause(parent)
	w.timer = time.AfterFunc(d.length, func() { w.cancel(d) })
	return w
}

// within puts another deadline, counted from now, in the place of the last.
func (w *watch) within(d *deadline) {
	w.timer.Stop()
	w.timer = time.AfterFunc(d.length, func() { w.cancel(d) })
}

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// ended says why the context is over, nil while it is not.
func (w *watch) ended() *provider.Error {
	if w.Err() == nil {
		return nil
	}
	cause := context.Cause(w)
	if d, ok := errors.AsType[*deadline](cause); ok {
		return &provider.Error{
			Kind:   provider.Timeout,
			Reason: d.Error(),
			Advice: "raise deadlines." + d.key + " if the host needs longer",
			Cause:  cause,
		}
	}
	return &provider.Error{Kind: provider.Cancelled, Reason: "stopped before the answer was whole", Cause: context.Cause(w.parent)}
}

// send makes one request; body is nil or becomes JSON. The response has status
// 200 and must be closed. The error is an *provider.Error, whose Sent says that
// the request reached a server which may have begun to work on it.
func (p *Provider) send(w *watch, method, path string, body any) (*http.Response, error) {
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil { // a temperature that is no number
			return nil, &provider.Error{Kind: provider.Refused, Reason: "the request cannot be written as JSON", Cause: err}
		}
		payload = bytes.NewReader(data)
	}
	var reached atomic.Bool
	ctx := httptrace.WithClientTrace(w, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { reached.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, method, p.base.JoinPath(path).String(), payload)
	if err != nil {
		return nil, &provider.Error{Kind: provider.Refused, Reason: "the request cannot be built", Cause: err}
	}
	req.Header.Set("User-Agent", p.agent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, p.lost(w, err, reached.Load())
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, p.refusal(resp)
	}
	return resp, nil
}

// lost explains a request that brought no response.
func (p *Provider) lost(w *watch, err error, reached bool) *provider.Error {
	e := w.ended()
	switch {
	case e != nil && (reached || e.Kind == provider.Cancelled):
	case reached:
		e = &provider.Error{Kind: provider.Failed, Reason: "connection lost before the first byte", Cause: err}
	default:
		reason := p.unreachable(err)
		if e != nil {
			reason = "unreachable: " + e.Reason
		}
		e = &provider.Error{
			Kind:   provider.Unreachable,
			Reason: reason,
			Advice: "check that Ollama runs there, that it listens on the network (OLLAMA_HOST), and the provider's url",
			Cause:  err,
		}
	}
	e.Sent = reached
	return e
}

// unreachable says in a few words why no connection came about. The error's own
// text holds the URL.
func (p *Provider) unreachable(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok && !dns.IsTimeout {
		return "unreachable: host name not found"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "unreachable: its certificate is not trusted"
	}
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "unreachable: connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable: no route to the host"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "unreachable: it speaks http, not https"
	case ok && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Sprintf("unreachable: timed out after %s", p.deadlines.Connect)
	}
	return "unreachable: no connection came about"
}

// fetch makes one request whose whole reply is decoded into out, within d.
func (p *Provider) fetch(ctx context.Context, d *deadline, method, path string, body, out any) error {
	w := newWatch(ctx, d)
	defer w.stop()
	resp, err := p.send(w, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		if e := w.ended(); e != nil {
			return e
		}
		return &provider.Error{Kind: provider.Failed, Reason: "connection lost within the reply", Cause: err}
	}
	if len(data) > maxReply {
		return &provider.Error{Kind: provider.Malformed, Reason: "a reply is longer than 16 MiB"}
	}
	if err := json.Unmarshal(data, out); err != nil {
		return &provider.Error{
			Kind:   provider.Malformed,
			Reason: "the server answered with status 200, but not with what Ollama says",
			Advice: adviceURL,
			Cause:  err,
		}
	}
	return nil
}
