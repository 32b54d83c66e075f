package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"davidcockson.com/runner/internal/provider"
)

// NewTransport returns a transport that reaches the configured server and no
// other: no proxy from the environment, and a new connection for each request,
// so that a host which went to sleep is noticed by the dial, and not by a
// request that vanishes in an old connection. A connection, and its TLS
// handshake, may take the given time each.
func NewTransport(limit time.Duration, dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
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

// Agent names us to a server, with our version, which may be "".
func Agent(version string) string {
	if version == "" {
		return "runner"
	}
	return "runner/" + version
}

// ParseURL says what is wrong with a URL without repeating it: it may hold a
// password or a key.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("url cannot be read")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("url must begin with http:// or https://")
	case u.User != nil:
		return nil, errors.New("url must not hold a user or a password")
	case u.Hostname() == "":
		return nil, errors.New("url must name a host")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("url must not hold a query or a fragment")
	}
	return u, nil
}

// Lost explains a request that brought no response; advice is for a host that
// was not reached within the time for connecting.
func Lost(w *Watch, err error, reached bool, connect time.Duration, advice string) *provider.Error {
	e := w.Ended()
	switch {
	case e != nil && (reached || e.Kind == provider.Cancelled):
	case reached:
		e = &provider.Error{Kind: provider.Failed, Reason: "connection lost before the first byte", Cause: err}
	default:
		reason := unreachable(err, connect)
		if e != nil {
			reason = "unreachable: " + e.Reason
		}
		e = &provider.Error{Kind: provider.Unreachable, Reason: reason, Advice: advice, Cause: err}
	}
	e.Sent = reached
	return e
}

// unreachable says in a few words why no connection came about. The error's own
// text holds the URL.
func unreachable(err error, connect time.Duration) string {
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
		return fmt.Sprintf("unreachable: timed out after %s", connect)
	}
	return "unreachable: no connection came about"
}
