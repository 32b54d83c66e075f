package web

import (
	"errors"
	"net/http"
	"strconv"

	"davidcockson.com/runner/internal/access"
	"davidcockson.com/runner/internal/web/static"
)

// errorPage says why something else than what was asked for is shown.
type errorPage struct {
	frame
	Fault *fault
}

// Heading is the status in words.
func (p errorPage) Heading() string { return http.StatusText(p.Fault.Status) }

// loginPage is the way in.
type loginPage struct {
	frame
	Modes access.Modes
	// Next is where it leads, a path of ours.
	Next string
	// Error is why the last try failed, "" where there was none.
	Error string
}

// login shows the way in, or follows the login link. It also serves the two files
// that its page loads, since no other route is open to who is not in.
func (a *App) login(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if name := q.Get("asset"); name != "" {
		return asset(w, r, name)
	}
	next := access.LocalPath(q.Get("next"))
	if a.isIn(r) {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return nil
	}
	token := q.Get("token")
	if token == "" {
		return a.writeLogin(w, r, http.StatusOK, next, "")
	}
	if err := a.o.Gate.Redeem(w, r, token); err != nil {
		return a.turnedAway(w, r, next, err, "This link is no longer valid: the token has changed, or it was not copied whole. `runner link` prints the one that is.")
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
	return nil
}

// asset serves a file of the login page.
func asset(w http.ResponseWriter, r *http.Request, name string) error {
	if name != "app.css" && name != "favicon.svg" {
		return notFound("file")
	}
	same := r.Clone(r.Context())
	same.URL.Path = "/static/" + name
	static.Handler().ServeHTTP(w, same)
	return nil
}

// isIn says whether a request would be let in elsewhere: the gate itself decides, as
// it does for every other page.
func (a *App) isIn(r *http.Request) bool {
	in := false
	probe := a.o.Gate.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { in = true }), func(*http.Request) bool { return false })
	probe.ServeHTTP(unread{}, r)
	return in
}

// unread is an answer that nobody reads.
type unread struct{}

func (unread) Header() http.Header         { return http.Header{} }
func (unread) Write(p []byte) (int, error) { return len(p), nil }
func (unread) WriteHeader(int)             {}

func (a *App) writeLogin(w http.ResponseWriter, r *http.Request, status int, next, failure string) error {
	p := loginPage{frame: a.frame(r, "Sign in", ""), Modes: a.o.Gate.Modes(), Next: next, Error: failure}
	p.SignedOut, p.CanSignOut = true, false
	return a.pages.write(w, r, status, "login", p)
}

// signIn begins a session for who knows the password.
func (a *App) signIn(w http.ResponseWriter, r *http.Request) error {
	var sent struct {
		Password string `json:"password"`
		Next     string `json:"next"`
	}
	if err := readForm(r, &sent, func(get func(string) string) { sent.Password, sent.Next = get("password"), get("next") }); err != nil {
		return err
	}
	next := access.LocalPath(sent.Next)
	if err := a.o.Gate.Login(w, r, sent.Password); err != nil {
		return a.turnedAway(w, r, next, err, "This is not the password.")
	}
	return done(w, r, next, map[string]bool{"signed_in": true})
}

// turnedAway says why a login failed, in the form for who sees one.
func (a *App) turnedAway(w http.ResponseWriter, r *http.Request, next string, err error, wrong string) error {
	f := &fault{Status: http.StatusServiceUnavailable, Text: "Whether you may sign in cannot be found out now; the server's log says why."}
	var delayed *access.DelayedError
	switch {
	case errors.Is(err, access.ErrWrong):
		f = &fault{Status: http.StatusUnauthorized, Text: wrong, Field: "password"}
	case errors.As(err, &delayed):
		seconds := strconv.Itoa(int(delayed.RetryAfter.Seconds()))
		w.Header().Set("Retry-After", seconds)
		f = &fault{Status: http.StatusTooManyRequests, Text: "A login has failed shortly before; this one was not tried. Try again in " + seconds + " s.", Field: "password"}
	case errors.Is(err, access.ErrNotOffered):
		f = &fault{Status: http.StatusForbidden, Text: "This way of signing in is not configured here."}
	default:
		a.o.Log.Error("a login cannot be judged", "reason", err)
	}
	if fromPage(r) || !wantsHTML(r) {
		return f
	}
	return a.writeLogin(w, r, f.Status, next, f.Text)
}

// signOut ends the session.
func (a *App) signOut(w http.ResponseWriter, r *http.Request) error {
	if err := a.o.Gate.Logout(w, r); err != nil {
		return err
	}
	if fromPage(r) {
		w.Header().Set("HX-Redirect", "/login")
	}
	return done(w, r, "/login", map[string]bool{"signed_out": true})
}
