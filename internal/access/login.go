package access

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"
)

var (
	// ErrWrong is returned for a wrong password or a wrong link.
	ErrWrong = errors.New("wrong password, or a link that is no longer valid")
	// ErrNotOffered is returned for a way in that is not configured.
	ErrNotOffered = errors.New("this way of signing in is not configured")
)

// DelayedError says that nothing was tried, since a login by the same client has
// failed shortly before or too many clients try at once.
type DelayedError struct {
	RetryAfter time.Duration // whole seconds, at least one
}

func (e *DelayedError) Error() string {
	return fmt.Sprintf("too many tries; try again in %s", e.RetryAfter)
}

const (
	// hashesAtOnce bounds the memory, 19 MiB each, and the processors that logins
	// take from everything else.
	hashesAtOnce = 2
	// hashingWait is how long a login waits for its turn.
	hashingWait = 5 * time.Second
)

// Login signs the browser in that sends the right password: a session begins, and
// its cookie is set on w. It returns ErrWrong, ErrNotOffered, a *DelayedError, or
// what kept the password file from being read or the session from being stored.
func (g *Gate) Login(w http.ResponseWriter, r *http.Request, password string) error {
	if g.password == nil {
		return ErrNotOffered
	}
	client := g.client(r)
	if err := g.begin(client); err != nil {
		return err
	}
	// Read once: who signs in with the old password at the moment of its change
	// gets a session of the old one, which ends at once.
	p, err := g.password.get()
	if err != nil {
		return err
	}
	right, err := g.check(r.Context(), p, password)
	if err != nil {
		return err
	}
	if !right {
		return g.failed(client)
	}
	g.delays.forgive(client)
	return g.open(w, r, "password:"+fingerprint(p.line))
}

// Redeem signs the browser in that follows the link of Gate.Link. The caller then
// redirects, so that the token does not stay in the address. Errors are Login's.
func (g *Gate) Redeem(w http.ResponseWriter, r *http.Request, token string) error {
	if g.link.IsZero() {
		return ErrNotOffered
	}
	client := g.client(r)
	if err := g.begin(client); err != nil {
		return err
	}
	if !g.isLinkToken(token) {
		return g.failed(client)
	}
	g.delays.forgive(client)
	return g.open(w, r, "link:"+fingerprint(g.link.Reveal()))
}

// begin charges a client for a login that is about to be tried.
func (g *Gate) begin(client netip.Prefix) error {
	if wait := g.delays.begin(client); wait > 0 {
		return delayed(wait)
	}
	return nil
}

func (g *Gate) failed(client netip.Prefix) error {
	g.log.Warn("a login failed", "client", client)
	return ErrWrong
}

// check compares a password, a few at a time.
func (g *Gate) check(ctx context.Context, p password, given string) (bool, error) {
	timer := time.NewTimer(hashingWait)
	defer timer.Stop()
	select {
	case g.hashing <- struct{}{}:
	case <-timer.C:
		return false, delayed(hashingWait)
	case <-ctx.Done():
		return false, fmt.Errorf("wait to check a password: %w", context.Cause(ctx))
	}
	defer func() { <-g.hashing }()
	return p.is(given), nil
}

// delayed rounds up, so that who comes at the named second is not early.
func delayed(wait time.Duration) error {
	return &DelayedError{RetryAfter: (wait + time.Second - 1).Truncate(time.Second)}
}

// client is whose failed logins are counted together: behind Access the address
// that Cloudflare saw, else the peer; of IPv6 the /64, which is what one customer
// gets. What other proxies say of their clients is not believed, since anybody can
// say it: behind a proxy on this machine all clients are one, and a wrong guess of
// one delays the others' logins too, 30 s at most.
func (g *Gate) client(r *http.Request) netip.Prefix {
	addr := peer(r)
	if Who(r.Context()).Kind == ByAccess {
		if said, err := netip.ParseAddr(r.Header.Get("Cf-Connecting-Ip")); err == nil {
			addr = said.Unmap()
		}
	}
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	client, err := addr.Prefix(bits)
	if err != nil { // no address: all of these are one client
		return netip.Prefix{}
	}
	return client
}
