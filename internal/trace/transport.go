package trace

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

// responseLimit bounds what is read of an answer, in bytes.
const responseLimit = 1 << 20

// ErrKeys says that Langfuse answers and does not accept the keys.
var ErrKeys = errors.New("the keys are not accepted by Langfuse")

// errStranger is an answer that Langfuse does not give: a login page before it, or
// another server.
var errStranger = errors.New("what answers at the host is not Langfuse")

// encounter is what a post met, kept apart from the library's error, which quotes
// what the server said. One post uses it at a time.
type encounter struct {
	status int // of the last answer, 0 if none came
	err    error
}

type encounterKey struct{}

// reason says in our own words why a post failed with err.
func (m *encounter) reason(err error) string {
	switch {
	case m.err != nil:
		return plain(m.err)
	case m.status != 0:
		return statusReason(m.status)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return plain(err)
	}
	return "the spans could not be encoded: " + err.Error() // names sizes and fields, no content
}

// statusReason says what a status means for the owner.
func statusReason(status int) string {
	text := fmt.Sprintf("Langfuse answers %d %s", status, http.StatusText(status))
	switch {
	case status == http.StatusUnauthorized:
		return text + ": the keys are not accepted"
	case status == http.StatusForbidden:
		return text + ": the keys are not a project's"
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
		return text + ": Langfuse 3.22 or newer is needed"
	case status == http.StatusRequestEntityTooLarge:
		return text + ": a proxy before it takes only smaller posts"
	case status >= 300 && status < 400:
		return text + ": the host must be the address to which it sends us on"
	}
	return text
}

// plain is a network error without URLs: one for a proxy's could hold a password.
func plain(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, errStranger):
		return errStranger.Error()
	case errors.Is(err, context.Canceled):
		return "the program stopped while they were sent"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "Langfuse did not answer in time"
	case errors.Is(err, io.EOF):
		return "the connection was closed before an answer"
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e.Error()
	}
	return "the request failed before an answer came"
}

// transport makes the requests. It notes what they met, takes a web page for a
// failure, and marks what a restart of Langfuse looks like as worth another try.
type transport struct {
	base *http.Transport
	// closing says that there is no time for another try.
	closing atomic.Bool
}

func newTransport() *transport {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 1
	return &transport{base: base}
}

// client returns a client whose requests take at most limit. It follows no
// redirect: the answer to a POST that was sent on is that of a GET.
func (t *transport) client(limit time.Duration) *http.Client {
	return &http.Client{Transport: t, Timeout: limit, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// RoundTrip makes one request.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	met, ok := req.Context().Value(encounterKey{}).(*encounter)
	if !ok {
		met = &encounter{}
	}
	met.status, met.err = 0, nil
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		met.err = err
		if !t.closing.Load() && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)) {
			return nil, passing{err}
		}
		return nil, err
	}
	met.status = resp.StatusCode
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/html" && resp.StatusCode/100 == 2 {
		resp.Body.Close() // nothing of it is wanted
		met.err = errStranger
		return nil, errStranger
	}
	return resp, nil
}

// passing is an error after which the exporter tries again.
type passing struct{ error }

// Temporary is what the exporter asks for.
func (passing) Temporary() bool { return true }

// Unwrap returns the cause.
func (p passing) Unwrap() error { return p.error }

// Check asks Langfuse for the project of the keys, which stores and costs nothing.
// The error wraps ErrKeys where Langfuse is up and does not accept them; any other
// means that traces do not get through now. It shows no key and no URL.
func (t *Tracer) Check(ctx context.Context) error {
	if t == nil {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.host+"/api/public/projects", nil)
	if err != nil {
		return errors.New("ask Langfuse for its project: the request cannot be made")
	}
	req.Header.Set("Authorization", t.auth)
	resp, err := t.http.client(requestLimit).Do(req)
	if err != nil {
		if met := errors.Unwrap(err); met != nil {
			err = met // without the URL
		}
		return fmt.Errorf("ask Langfuse for its project: %s", plain(err))
	}
	defer resp.Body.Close() // only read: nothing can be lost by closing
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: it answers %d", ErrKeys, resp.StatusCode)
	default:
		return fmt.Errorf("ask Langfuse for its project: %s", statusReason(resp.StatusCode))
	}
	var projects struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, responseLimit)).Decode(&projects); err != nil || len(projects.Data) == 0 {
		return fmt.Errorf("ask Langfuse for its project: %w", errStranger)
	}
	return nil
}
