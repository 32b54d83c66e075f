package access

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// refusal is the answer to a request that is not let in. Its reason is for whoever
// asked: it holds nothing of the request and no inner error.
type refusal struct {
	status     int
	reason     string
	retryAfter int // seconds; 0 is none
}

var (
	refusedHost   = &refusal{status: http.StatusMisdirectedRequest, reason: "this server does not answer to that host name; names of its own are added under hosts"}
	refusedOrigin = &refusal{status: http.StatusForbidden, reason: "this request was sent by a page of another site"}
	refusedNobody = &refusal{status: http.StatusUnauthorized, reason: "signed out; sign in at /login, or send a token"}
	refusedStore  = &refusal{status: http.StatusServiceUnavailable, reason: "who you are cannot be looked up now; the log says why", retryAfter: 10}
	refusedDirect = &refusal{status: http.StatusForbidden, reason: "the only way in is the public name, through Cloudflare Access; other names need auth to be configured"}
)

// Wrap returns next behind the gate. In this order: a foreign Host gets 421; what
// another site's page sends to change something gets 403; what comes through
// Cloudflare Access is let in or refused by its assertion; paths that open reports
// are let in; a session or token is let in; everybody else is sent to /login, or
// gets 401 where no page was asked for. Refusals are JSON: {"error": reason}.
func (g *Gate) Wrap(next http.Handler, open func(*http.Request) bool) http.Handler {
	sameSite := http.NewCrossOriginProtection()
	sameSite.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { refuse(w, refusedOrigin) }))
	inside := sameSite.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, why := g.admit(w, r, open)
		if why != nil {
			turnAway(w, r, why)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, id)))
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.names.allow(r.Host) {
			refuse(w, refusedHost)
			return
		}
		inside.ServeHTTP(w, r)
	})
}

// admit returns who may go in, or a refusal.
func (g *Gate) admit(w http.ResponseWriter, r *http.Request, open func(*http.Request) bool) (Identity, *refusal) {
	if g.access != nil && g.throughAccess(r) {
		return g.access.verify(r)
	}
	if open(r) {
		return Identity{}, nil
	}
	if m := g.Modes(); !m.Password && !m.Tokens && !m.Link {
		return Identity{}, refusedDirect
	}
	id, sessionErr := g.bySession(w, r)
	if id.Kind != "" {
		return id, nil
	}
	id, tokenErr := g.byToken(r)
	if id.Kind != "" {
		return id, nil
	}
	if err := errors.Join(sessionErr, tokenErr); err != nil {
		if r.Context().Err() != nil { // who asked has gone, and the look-up with it
			return Identity{}, refusedStore
		}
		g.log.Error("a request cannot be judged", "reason", err)
		return Identity{}, refusedStore
	}
	return Identity{}, refusedNobody
}

// Still reports whether a request that was let in would be let in now: its session
// or assertion may have ended while its answer, an event stream, goes on. What
// cannot be judged now stays in.
func (g *Gate) Still(w http.ResponseWriter, r *http.Request) bool {
	_, why := g.admit(w, r, func(*http.Request) bool { return false })
	return why == nil || why.status == http.StatusServiceUnavailable
}

// throughAccess reports whether a request must carry Access's assertion: it was
// sent to the public name, or carries a header as Cloudflare adds them. A tunnel
// may rewrite the Host, hence the headers; who strips them is not the tunnel and
// needs a session.
func (g *Gate) throughAccess(r *http.Request) bool {
	if g.isPublic(r) {
		return true
	}
	for name := range r.Header {
		if strings.HasPrefix(http.CanonicalHeaderKey(name), "Cf-") {
			return true
		}
	}
	return false
}

// isPublic reports whether a request was sent to the public name, under any port.
func (g *Gate) isPublic(r *http.Request) bool {
	name, _, ok := splitHost(r.Host)
	return ok && g.public != "" && name == g.public
}

// turnAway answers a request that was not admitted.
func turnAway(w http.ResponseWriter, r *http.Request, why *refusal) {
	if why == refusedNobody && wantsPage(r) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Location", "/login?next="+url.QueryEscape(LocalPath(r.URL.RequestURI())))
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	refuse(w, why)
}

// refuse writes a refusal.
func refuse(w http.ResponseWriter, why *refusal) {
	body, err := json.Marshal(map[string]string{"error": why.reason})
	if err != nil {
		panic(err) // a map of strings can be marshalled
	}
	head := w.Header()
	head.Set("Content-Type", "application/json")
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	if why.status == http.StatusUnauthorized {
		head.Set("WWW-Authenticate", "Bearer")
	}
	if why.retryAfter > 0 {
		head.Set("Retry-After", strconv.Itoa(why.retryAfter))
	}
	w.WriteHeader(why.status)
	_, _ = w.Write(append(body, '\n')) // who is turned away and gone misses nothing
}

// wantsPage reports whether a browser asks for a whole page, which may be
// redirected. A part of a page (htmx), a stream and a program must see the 401:
// behind a redirect they would take the login page for their answer.
func wantsPage(r *http.Request) bool {
	mode := r.Header.Get("Sec-Fetch-Mode")
	if r.Method != http.MethodGet || r.Header.Get("HX-Request") != "" || (mode != "" && mode != "navigate") {
		return false
	}
	page := false
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		kind, _, err := mime.ParseMediaType(part)
		switch {
		case err != nil:
		case kind == "text/html":
			page = true
		case kind == "text/event-stream", kind == "application/json":
			return false
		}
	}
	return page
}

// longestNext bounds, in bytes, what LocalPath takes.
const longestNext = 2048

// LocalPath returns next if it is a path on this server, with its query, to which
// a login may lead, and "/" otherwise. Browsers read a second slash or a backslash
// as the beginning of another host, and leave out control characters, which
// url.Parse refuses, before they look. The login page is no place to be led to.
func LocalPath(next string) string {
	if len(next) > longestNext || !strings.HasPrefix(next, "/") {
		return "/"
	}
	u, err := url.Parse(next)
	if err != nil || u.Host != "" || u.User != nil || strings.HasPrefix(u.Path, "//") || strings.Contains(u.Path, `\`) {
		return "/"
	}
	if u.Path == "/login" || strings.HasPrefix(u.Path, "/login/") {
		return "/"
	}
	return next
}
