package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const (
	sessionLife = 30 * 24 * time.Hour // after the last use
	// touchAfter is how much of its life a session may lose before that is stored
	// and the cookie renewed: not each request writes.
	touchAfter = time.Hour
	// secretBytes is the length of a cookie's value and of a token, before encoding.
	secretBytes = 32

	plainCookie = "runner_session"
	// hostPrefix begins the name for https: browsers refuse one that was set without
	// Secure or by a neighbouring domain (RFC 6265bis, 4.1.3.2).
	hostPrefix = "__Host-"
)

// bySession returns the identity of a request's session, nobody without one, or
// an error if that cannot be found out. It lets the session live on.
func (g *Gate) bySession(w http.ResponseWriter, r *http.Request) (Identity, error) {
	if m := g.Modes(); !m.Password && !m.Link {
		return Identity{}, nil
	}
	cookie, err := r.Cookie(g.cookieName(r))
	if err != nil {
		return Identity{}, nil
	}
	hash := hashSecret(cookie.Value)
	s, found, err := g.sessions.Session(r.Context(), hash)
	if err != nil {
		return Identity{}, fmt.Errorf("look up a session: %w", err)
	}
	if !found {
		return Identity{}, nil
	}
	kind, err := g.sessionKind()
	if err != nil {
		return Identity{}, err
	}
	now := g.now()
	if !now.Before(s.Expires) || subtle.ConstantTimeCompare([]byte(s.Kind), []byte(kind)) != 1 {
		if err := g.sessions.DeleteSession(r.Context(), hash); err != nil {
			g.log.Warn("a session that has ended stays stored", "reason", err) // it stays refused
		}
		return Identity{}, nil
	}
	if now.Sub(s.Seen) >= touchAfter {
		if err := g.sessions.TouchSession(r.Context(), hash, now, now.Add(sessionLife)); err != nil {
			g.log.Warn("a session's use is not stored", "reason", err) // the next request tries again
		} else {
			g.setCookie(w, r, cookie.Value)
		}
	}
	return Identity{Kind: BySession, Key: "session:" + hash[:16]}, nil
}

// sessionKind is the Session.Kind of sessions that are valid today: those of the
// password as it is now, or of the link's token as it is now.
func (g *Gate) sessionKind() (string, error) {
	if g.password == nil {
		return "link:" + fingerprint(g.link.Reveal()), nil
	}
	p, err := g.password.get()
	if err != nil {
		return "", err
	}
	return "password:" + fingerprint(p.line), nil
}

// open begins a session of a kind and sets its cookie.
func (g *Gate) open(w http.ResponseWriter, r *http.Request, kind string) error {
	value := newSecret()
	now := g.now()
	s := Session{Hash: hashSecret(value), Created: now, Seen: now, Expires: now.Add(sessionLife), Kind: kind}
	if err := g.sessions.SaveSession(r.Context(), s); err != nil {
		return fmt.Errorf("store the session: %w", err)
	}
	g.setCookie(w, r, value)
	return nil
}

// Logout ends the request's session, if it has one, and takes the cookie away. If
// the store fails the session goes on elsewhere, and the error must be shown.
// Access's own sessions end at /cdn-cgi/access/logout.
func (g *Gate) Logout(w http.ResponseWriter, r *http.Request) error {
	name := g.cookieName(r)
	cookie, err := r.Cookie(name)
	if err != nil || g.sessions == nil {
		return nil
	}
	// The browser may be gone already: that must not keep the session alive.
	if err := g.sessions.DeleteSession(context.WithoutCancel(r.Context()), hashSecret(cookie.Value)); err != nil {
		return fmt.Errorf("end the session: %w", err)
	}
	http.SetCookie(w, &http.Cookie{Name: name, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: strings.HasPrefix(name, hostPrefix)})
	return nil
}

// setCookie hands a session to the browser. SameSite is Lax: with Strict a link
// from a ping or a note would come without the cookie and end at the login page,
// and what changes anything is refused to other sites' pages anyhow.
func (g *Gate) setCookie(w http.ResponseWriter, r *http.Request, value string) {
	name := g.cookieName(r)
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(sessionLife / time.Second),
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: strings.HasPrefix(name, hostPrefix),
	})
}

// cookieName is decided by the way a request came. A Secure cookie for everybody
// would make each login over plain http, on a LAN or tailnet, end at the login
// page again; the plain name on https would let a neighbouring domain set it. The
// port that is listened on is in the name, where there is one: browsers send a cookie
// to all ports of a host, and two control rooms there would sign each other out.
func (g *Gate) cookieName(r *http.Request) string {
	name := plainCookie
	if _, port, err := net.SplitHostPort(g.listen); err == nil {
		name += "_" + port
	}
	switch {
	case r.TLS != nil,
		g.publicHTTPS && g.isPublic(r),
		peer(r).IsLoopback() && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"):
		return hostPrefix + name
	default:
		return name
	}
}

// peer is the address that dialled us, the zero Addr where there is none. Proxies
// beside us on loopback are believed when they say https, and nothing else: a wrong
// word of theirs costs a login, no more.
func peer(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// byToken returns the identity of a request's bearer token (RFC 6750), nobody
// without a valid one, or an error if that cannot be found out. Tokens are 32
// random bytes: nobody guesses them, so wrong ones are not delayed.
func (g *Gate) byToken(r *http.Request) (Identity, error) {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || given == "" {
		return Identity{}, nil
	}
	if !g.link.IsZero() {
		if !g.isLinkToken(given) {
			return Identity{}, nil
		}
		return Identity{Kind: ByToken, Key: "token:link"}, nil
	}
	if g.tokens == nil {
		return Identity{}, nil
	}
	tokens, err := g.tokens.get()
	if err != nil {
		return Identity{}, err
	}
	sum := sha256.Sum256([]byte(given))
	var id Identity
	for _, t := range tokens { // all of them, so that the time tells nothing
		if subtle.ConstantTimeCompare(sum[:], t.hash[:]) == 1 {
			id = Identity{Kind: ByToken, Key: "token:" + t.name}
		}
	}
	return id, nil
}

// isLinkToken compares the hashes, which are of one length.
func (g *Gate) isLinkToken(given string) bool {
	want, got := sha256.Sum256([]byte(g.link.Reveal())), sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// newSecret makes a cookie's value or a token.
func newSecret() string {
	raw := make([]byte, secretBytes)
	rand.Read(raw) // never fails: the process ends if the system has no randomness
	return base64.RawURLEncoding.EncodeToString(raw)
}

// isSecret reports whether text has the form of newSecret's.
func isSecret(text string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(raw) == secretBytes
}

// hashSecret is how a secret that nobody can guess is stored.
func hashSecret(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
