package web

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"davidcockson.com/runner/internal/access"
)

// withPassword makes a gate that asks for a password.
func withPassword(t *testing.T) func(*access.Options) {
	t.Helper()
	line, err := access.HashPassword("open sesame", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(o *access.Options) { o.PasswordFile = file }
}

// withTokens makes a gate that knows only a program's token.
func withTokens(t *testing.T) func(*access.Options) {
	t.Helper()
	_, line, err := access.NewToken("monitor")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(o *access.Options) { o.TokenFile = file }
}

func location(w *httptest.ResponseRecorder) string { return w.Header().Get("Location") }

func TestTheLoginPageOffersWhatIsConfigured(t *testing.T) {
	for _, row := range []struct {
		name  string
		alter []func(*access.Options)
		want  string
		form  bool
	}{
		{"a link", nil, "runner link", false},
		{"a password", []func(*access.Options){withPassword(t)}, "Password", true},
		{"tokens of programs alone", []func(*access.Options){withTokens(t)}, "Only programs get in here", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPanel(t, newFakeJobs(t), row.alter...)
			p.token = ""
			d := p.page("/login?next=/queue%3Fstate%3Dfailed", 200)
			d.says("Sign in", row.want)
			d.saysNot("Queue", "Sign out")
			if forms := d.class("login"); (len(forms) == 1) != row.form {
				t.Fatalf("there are %d forms", len(forms))
			}
			if row.form && d.field("next").attr("value") != "/queue?state=failed" {
				t.Errorf("it leads to %q", d.field("next").attr("value"))
			}
			for _, n := range d.all(func(n *html.Node) bool { return n.Data == "link" || n.Data == "script" }) {
				at := attr(n, "href") + attr(n, "src")
				if w := p.get(at, "text/css"); w.Code != 200 || w.Body.Len() == 0 {
					t.Errorf("the page loads %s, which is %d for who is not in", at, w.Code)
				}
			}
		})
	}
}

func TestOnlyTheLoginPagesFilesAreOpen(t *testing.T) {
	p := newPanel(t, newFakeJobs(t))
	p.token = ""
	for name, status := range map[string]int{"app.css": 200, "favicon.svg": 200, "app.js": 404, "vendor/htmx.min.js": 404, "../login.go": 404, "/etc/passwd": 404} {
		if w := p.get("/login?asset="+url.QueryEscape(name), "*/*"); w.Code != status {
			t.Errorf("%s: %d, want %d", name, w.Code, status)
		}
	}
}

func TestTheLoginLinkSignsInAndLeavesTheAddress(t *testing.T) {
	p := newPanel(t, newFakeJobs(t))
	p.token = ""
	p.read(p.get("/login?token=wrong", asPage), 401).says("no longer valid", "runner link")
	p = newPanel(t, newFakeJobs(t)) // the next try of one client has to wait
	token := p.token
	p.token = ""
	w := p.get("/login?token="+token+"&next=/health", asPage)
	if w.Code != 303 || location(w) != "/health" {
		t.Fatalf("%d to %q", w.Code, location(w))
	}
	cookie := strings.SplitN(w.Header().Get("Set-Cookie"), ";", 2)[0]
	if w := p.do("GET", "/queue", "", "Accept", asPage, "Cookie", cookie); w.Code != 200 || !strings.Contains(w.Body.String(), "Sign out") {
		t.Errorf("with the session: %d", w.Code)
	}
	if w := p.do("GET", "/login?next=/queue", "", "Accept", asPage, "Cookie", cookie); w.Code != 303 || location(w) != "/queue" {
		t.Errorf("who is in already: %d to %q", w.Code, location(w))
	}
	if w := p.do("POST", "/logout", "", "Accept", asPage, "Cookie", cookie); w.Code != 303 || location(w) != "/login" {
		t.Errorf("signing out: %d to %q", w.Code, location(w))
	}
	if w := p.do("GET", "/queue", "", "Accept", asPage, "Cookie", cookie); w.Code != 303 || !strings.HasPrefix(location(w), "/login") {
		t.Errorf("after signing out: %d to %q", w.Code, location(w))
	}
}

func TestSigningInByPassword(t *testing.T) {
	for _, row := range []struct {
		name, next, to string
	}{
		{"back to where one was", "/queue?state=failed", "/queue?state=failed"},
		{"to the beginning", "", "/"},
		{"never elsewhere", "https://evil.example/", "/"},
		{"never elsewhere without a scheme", "//evil.example/", "/"},
		{"never elsewhere by a backslash", `/\evil.example/`, "/"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPanel(t, newFakeJobs(t), withPassword(t))
			w := p.post("/login", url.Values{"password": {"open sesame"}, "next": {row.next}})
			if w.Code != 303 || location(w) != row.to || !strings.Contains(w.Header().Get("Set-Cookie"), "HttpOnly") {
				t.Errorf("%d to %q, %q", w.Code, location(w), w.Header().Get("Set-Cookie"))
			}
		})
	}
}

func TestAFailedLoginSaysWhyInItsForm(t *testing.T) {
	p := newPanel(t, newFakeJobs(t), withPassword(t))
	d := p.read(p.post("/login", url.Values{"password": {"guess"}, "next": {"/queue"}}), 401)
	d.id("login-error").says("This is not the password.")
	if d.field("password").attr("aria-invalid") != "true" || d.field("password").has("value") || d.field("next").attr("value") != "/queue" {
		t.Error("the form has lost its way, or kept the password")
	}
	w := p.post("/login", url.Values{"password": {"open sesame"}})
	p.read(w, 429).id("login-error").says("Try again in 1 s")
	if w.Header().Get("Retry-After") != "1" || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("too early: %v", w.Header())
	}
	w = p.do("POST", "/login", `{"password":"guess"}`, "Content-Type", "application/json")
	if w.Code != 429 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"field":"password"`) {
		t.Errorf("a program too early: %d %s", w.Code, w.Body)
	}

	p = newPanel(t, newFakeJobs(t))
	p.token = ""
	p.read(p.post("/login", url.Values{"password": {"x"}}), 403).says("not configured")
}

func TestAPasswordFileThatIsGoneLetsNobodyIn(t *testing.T) {
	file := ""
	p := newPanel(t, newFakeJobs(t), withPassword(t), func(o *access.Options) { file = o.PasswordFile })
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	w := p.post("/login", url.Values{"password": {"open sesame"}})
	p.read(w, 503).says("cannot be found out now")
	if strings.Contains(w.Body.String(), file) {
		t.Error("the page names the file")
	}
}

func TestErrorsAreShownInTheFormThatIsRead(t *testing.T) {
	p := newPanel(t, newFakeJobs(t))
	p.page("/nowhere", 404).says("Not Found", "there is no such page", "Queue")
	if w := p.get("/nowhere", asProgram); w.Code != http.StatusNotFound || strings.TrimSpace(w.Body.String()) != `{"error":"there is no such page"}` {
		t.Errorf("a program: %d %s", w.Code, w.Body)
	}
	p.token = ""
	d := p.page("/login?asset=x", 404)
	d.says("Sign in")
	d.saysNot("Health")
}

func TestHostsAreAPartOfTheErrorPage(t *testing.T) {
	p := newPanel(t, newFakeJobs(t))
	html, err := p.app.showHosts(t.Context())
	if err != nil || !strings.Contains(string(html), `id="hosts"`) {
		t.Errorf("%s, %v", html, err)
	}
}
