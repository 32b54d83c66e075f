package browsertest

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"davidcockson.com/runner/internal/history"
)

func TestTheLoginLink(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.tab()
	p.allow(`^network: .*status of 401`)
	for _, path := range []string{"/", "/queue", "/chat/some-id"} {
		p.open(path)
		p.sees("h1", "Sign in")
		p.sees("main", "runner link")
	}
	p.open(r.link())
	p.until("the token is no longer in the address", `location.pathname === "/" && location.search === ""`)
	p.has("#text")
	p.click(`form[action="/logout"] button`)
	p.sees("h1", "Sign in")
	p.open("/queue")
	p.sees("h1", "Sign in")
	p.open("/login?token=wrong")
	p.sees("[role=alert]", "no longer valid")
}

func TestThePassword(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	r := prepareRoom(t, "auth: {password_file: "+file+"}")
	set := r.command("passwd")
	set.Stdin = strings.NewReader("correct horse battery\n")
	if out, err := set.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.start()
	p := r.tab()
	p.allow(`^network: .*status of (401|429)`)
	p.open("/queue")
	p.until("the field has the focus", `document.activeElement.id === "password"`)
	p.accessible("the login with a password")
	p.insert("incorrect horse")
	p.press(kb.Enter)
	p.sees("[role=alert]", "This is not the password.")
	// A failed login delays the next, and the page says for how long.
	p.until("the password lets in after the delay", `(() => {
		if (document.querySelector("#recent")) return true;
		const field = document.querySelector("#password");
		if (!field || field.value) return false; // on its way
		field.value = "correct horse battery";
		field.form.requestSubmit();
		return false;
	})()`)
	if path := eval[string](p, "location.pathname"); path != "/queue" {
		t.Errorf("the login leads to %s", path)
	}
}

// forgetSessions makes every session expire.
func (r *room) forgetSessions() {
	r.t.Helper()
	h, err := history.Open(r.t.Context(), filepath.Join(r.state, "history.db"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer h.Close()
	if err := h.PurgeSessions(r.t.Context(), time.Now().AddDate(1, 0, 0)); err != nil {
		r.t.Fatal(err)
	}
}

func TestASessionExpiresUnderAnOpenPage(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.allow(`^network: .*status of 401`)
	p.allowLoss()
	p.choose("echo/echo")
	p.write("a thought that must not be lost")
	r.forgetSessions()
	p.press(kb.Enter)
	p.sees("#connection", "You are signed out. What you typed is kept.")
	p.sees("#connection a", "Reload to sign in")
	p.click("#connection a")
	p.sees("h1", "Sign in")
	p.open(r.link())
	p.open("/chat")
	p.until("the draft is there", `document.querySelector("#text").value === "a thought that must not be lost"`)

	// Where nothing is typed the stream tells, at its next connection.
	for _, path := range []string{"/queue", "/health"} {
		p.open(path)
		p.until("the stream is open", `document.querySelector("#stream")._htmx?.sse?.status === 200`)
		r.forgetSessions()
		r.kill()
		r.start()
		p.sees("#connection", "You are signed out.")
		p.open(r.link())
	}
}

// TestASessionOfCloudflareAccessExpires stands where Access does: a proxy that
// sends who is no longer known to another site.
func TestASessionOfCloudflareAccessExpires(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte("<title>Who are you?</title>"))
	}))
	defer elsewhere.Close()
	target, err := url.Parse(r.base())
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	var expired atomic.Bool
	var refused atomic.Int32
	edge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if expired.Load() {
			refused.Add(1)
			http.Redirect(w, q, elsewhere.URL+"/login", http.StatusFound)
			return
		}
		proxy.ServeHTTP(w, q)
	}))
	defer edge.Close()

	p := openTab(t, theBrowser.start(t), edge.URL, chromedp.WithNewBrowserContext())
	p.open(r.link())
	p.open("/queue")
	p.until("the stream is open", `document.querySelector("#stream")._htmx?.sse?.status === 200`)
	p.allowLoss()
	p.allow("^security: .*" + elsewhere.URL)
	p.allow("^javascript: .*" + elsewhere.URL)
	p.allow(`^console: "policy: connect-src ` + elsewhere.URL)
	p.allow(`^console: "policy: img-src ` + edge.URL + `/static/favicon`) // asked for when the browser finds time
	p.allow("^request to " + elsewhere.URL)
	expired.Store(true)
	edge.CloseClientConnections()
	p.sees("#connection", "You are signed out.")
	p.sees("#connection a", "Reload to sign in")
	// It does not go on trying, and says the same all the while, also when it is looked
	// at anew and has asked once more.
	eval[bool](p, `(() => { globalThis.said = 0; new MutationObserver(() => said++).observe(document.querySelector("#connection"), { childList: true, characterData: true, subtree: true }); return true; })()`)
	p.until("the stream is given up", `!document.querySelector("#stream")._htmx?.sse`)
	before := refused.Load()
	eval[bool](p, `new Promise((done) => setTimeout(() => done(true), 8000))`) // a pause between two tries was 5 s
	if n := refused.Load() - before; n > 0 {
		t.Errorf("signed out it asked %d times more", n)
	}
	eval[bool](p, `(document.dispatchEvent(new Event("visibilitychange")), true)`)
	r.until("it tries again", func() bool { return refused.Load() > before })
	if n := eval[int](p, "said"); n > 0 {
		t.Errorf("the page changed its mind %d times", n)
	}
	expired.Store(false) // signed in beside it
	p.until("it finds that it may come in again", `(document.dispatchEvent(new Event("visibilitychange")), document.querySelector("#connection").hidden && document.querySelector("#stream")._htmx?.sse?.status === 200)`)
	expired.Store(true)
	edge.CloseClientConnections()
	p.sees("#connection", "You are signed out.")
	p.click("#connection a")
	p.until("Access asks who it is", `document.title === "Who are you?"`)
}
