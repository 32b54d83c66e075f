package access_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/access"
)

func TestOnlyOurOwnNamesAreAnswered(t *testing.T) {
	r := newRig(t, withPassword, func(_ *rig, o *access.Options) {
		o.PublicURL = "https://Runner.Example.com/"
		o.Hosts = []string{"runner.lan", "tail.net:8080", "web.lan:80", "fd00::5"}
		o.Listen = "192.0.2.1:8080"
	})
	for _, row := range []struct {
		name, host string
		want       int
	}{
		{"the public name", "runner.example.com", 200},
		{"the public name with its port", "runner.example.com:443", 200},
		{"the public name with another port", "runner.example.com:8443", 200},
		{"the public name in other case and with the last dot", "RUNNER.example.COM.", 200},
		{"a further name", "runner.lan", 200},
		{"a further name with any port", "runner.lan:9", 200},
		{"a name with its port", "tail.net:8080", 200},
		{"a name with another port than its own", "tail.net:8081", 421},
		{"a name without the port that it needs", "tail.net", 421},
		{"a name with the scheme's own port, which browsers leave out", "web.lan", 200},
		{"the address that is listened on", "192.0.2.1:8080", 200},
		{"loopback by number", "127.0.0.1:1234", 200},
		{"loopback by name", "localhost", 200},
		{"loopback by IPv6", "[::1]:8080", 200},
		{"loopback by IPv6 in its long form", "[0:0:0:0:0:0:0:1]", 200},
		{"an IPv6 name", "[fd00::5]:8080", 200},
		{"a foreign name", "evil.example", 421},
		{"a foreign name that points at us, as in DNS rebinding", "rebind.evil.example:8080", 421},
		{"a name that ends as ours", "evil-runner.example.com", 421},
		{"a name that begins as ours", "runner.example.com.evil.example", 421},
		{"a neighbour of the public name", "other.example.com", 421},
		{"another address of this machine", "192.0.2.2:8080", 421},
		{"another loopback address", "127.0.0.2", 421},
		{"a mapped loopback address", "[::ffff:127.0.0.1]", 421},
		{"any address", "0.0.0.0:8080", 421},
		{"no name", "", 421},
		{"a port alone", ":8080", 421},
		{"a port that is none", "localhost:http", 421},
		{"a port beyond the last", "localhost:65536", 421},
		{"two ports", "localhost:80:80", 421},
		{"user information", "localhost@evil.example", 421},
		{"an unclosed bracket", "[::1", 421},
		{"an address with a zone", "[::1%25lo]", 421},
		{"a list", "localhost,evil.example", 421},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := r.do(request("GET", "/healthz", "Host", row.host)).Code; got != row.want {
				t.Errorf("an open path at %q: %d, want %d", row.host, got, row.want)
			}
		})
	}
	t.Run("what a proxy says of the name is not believed", func(t *testing.T) {
		r.wantStatus(421, request("GET", "/healthz", "Host", "evil.example", "X-Forwarded-Host", "runner.lan", "Forwarded", "host=runner.lan"))
	})
	t.Run("listening on every address adds no name", func(t *testing.T) {
		for _, listen := range []string{":8080", "0.0.0.0:8080", "[::]:8080"} {
			r := newRig(t, withPassword, func(_ *rig, o *access.Options) { o.Listen = listen })
			r.wantStatus(421, request("GET", "/healthz", "Host", "0.0.0.0:8080"))
			r.wantStatus(421, request("GET", "/healthz", "Host", "[::]:8080"))
			r.wantStatus(421, request("GET", "/healthz", "Host", ""))
			r.wantStatus(200, request("GET", "/healthz", "Host", "localhost:8080"))
		}
	})
}

func TestOtherSitesChangeNothing(t *testing.T) {
	var token string
	r := newRig(t, withPassword, withTokens(&token), withNames)
	cookie := asCookie(r.mustLogin())
	for _, row := range []struct {
		name, method, path string
		headers            []string
		want               int
	}{
		{"our own page", "POST", "/x", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"another site's page", "POST", "/x", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"a neighbouring domain's page", "POST", "/x", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"another site's page in an old browser", "POST", "/x", []string{"Origin", "http://evil.example"}, 403},
		{"a page of another port in an old browser", "POST", "/x", []string{"Origin", "http://runner.lan:9"}, 403},
		{"a page without an origin in an old browser", "POST", "/x", []string{"Origin", "null"}, 403},
		{"our own page in an old browser", "POST", "/x", []string{"Origin", "http://" + lanHost}, 200},
		{"a program", "POST", "/x", nil, 200},
		{"another site's page with any method", "DELETE", "/x", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another site's page at the login", "POST", "/login", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another site's link", "GET", "/x", []string{"Sec-Fetch-Site", "cross-site"}, 200},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, proof := range [][]string{{"Cookie", cookie}, {"Authorization", "Bearer " + token}} {
				r.wantStatus(row.want, request(row.method, row.path, append(proof, row.headers...)...))
			}
		})
	}
}

// identityHeaders are what proxies and login services add. Anybody can send them.
var identityHeaders = []string{
	"X-Forwarded-For", "127.0.0.1", "X-Real-Ip", "127.0.0.1", "Forwarded", "for=127.0.0.1",
	"Remote-User", "owner", "X-Forwarded-User", "owner", "X-Forwarded-Email", "owner@example.com",
	"X-Webauth-User", "owner", "X-Authenticated-User", "owner", "X-Forwarded-Proto", "https",
}

func TestNobodyGetsInUnauthenticated(t *testing.T) {
	var token string
	modes := map[string][]setup{
		"nothing configured": nil,
		"password":           {withPassword, withNames},
		"tokens":             {withTokens(&token), withNames},
		"access alone":       {withAccess(newFakeTeam()), withNames},
		"access and auth":    {withAccess(newFakeTeam()), withPassword, withTokens(&token), withNames},
	}
	for name, setups := range modes {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setups...)
			refused := http.StatusUnauthorized
			if name == "access alone" {
				refused = http.StatusForbidden
			}
			bare := []string{"Host", "127.0.0.1", "Peer", "127.0.0.1:4321"}
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"} {
				for _, path := range []string{"/", "/queue", "/chat/x/stream", "/healthzz", "/login/", "/static/app.css"} {
					r.wantStatus(refused, request(method, path, bare...))
					r.wantStatus(refused, request(method, path, append(bare, identityHeaders...)...))
				}
			}
			for _, wrong := range []string{"Bearer wrong", "Bearer ", "Bearer", "Basic b3duZXI6", "wrong"} {
				r.wantStatus(refused, request("GET", "/", append(bare, "Authorization", wrong)...))
			}
			for _, cookie := range []string{"runner_session_8080=", "runner_session_8080=wrong", "__Host-runner_session_8080=wrong", "CF_Authorization=wrong"} {
				r.wantStatus(refused, request("GET", "/", append(bare, "Cookie", cookie)...))
			}
			r.wantStatus(http.StatusOK, request("GET", "/healthz", bare...))
			r.wantStatus(http.StatusOK, request("GET", "/login", bare...))
		})
	}
}

func TestEachProofHasItsNames(t *testing.T) {
	team := newFakeTeam()
	var token string
	r := newRig(t, withAccess(team), withPassword, withTokens(&token), withNames)
	cookie := asCookie(r.mustLogin())
	hostCookie := asCookie(r.mustLogin("Host", publicHost))
	assertion := team.sign(t, nil)
	for _, row := range []struct {
		name    string
		headers []string
		want    int
		in      string
	}{
		{"session at a LAN name", []string{"Cookie", cookie}, 200, `in by "session" ""`},
		{"token at a LAN name", []string{"Authorization", "Bearer " + token}, 200, `in by "token" ""`},
		{"the scheme's case does not matter", []string{"Authorization", "bearer " + token}, 200, `in by "token" ""`},
		{"assertion at the public name", []string{"Host", publicHost, "Cf-Access-Jwt-Assertion", assertion}, 200, `in by "access" "owner@example.com"`},
		{"assertion through a tunnel that rewrites the Host", []string{"Host", "localhost", "Cf-Ray", "1", "Cf-Access-Jwt-Assertion", assertion}, 200, `in by "access" "owner@example.com"`},
		{"session at the public name", []string{"Host", publicHost, "Cookie", hostCookie}, 403, ""},
		{"token at the public name", []string{"Host", publicHost, "Authorization", "Bearer " + token}, 403, ""},
		{"token at the public name in other case, with a port and a last dot", []string{"Host", "RUNNER.example.com.:8443", "Authorization", "Bearer " + token}, 403, ""},
		{"session through a tunnel", []string{"Cookie", cookie, "Cf-Connecting-Ip", "203.0.113.9"}, 403, ""},
		{"token through a tunnel", []string{"Authorization", "Bearer " + token, "Cf-Ray", "1"}, 403, ""},
		{"tunnel headers of any name", []string{"Authorization", "Bearer " + token, "Cf-Anything-New", "1"}, 403, ""},
		{"a plain header with an address", []string{"Host", publicHost, "Cf-Access-Authenticated-User-Email", "owner@example.com"}, 403, ""},
		{"a wrong assertion beside a session", []string{"Cookie", cookie, "Cf-Access-Jwt-Assertion", "wrong"}, 403, ""},
		{"two assertions", []string{"Host", publicHost, "Cf-Access-Jwt-Assertion", assertion, "Cf-Access-Jwt-Assertion", assertion}, 403, ""},
		{"the assertion as Access's cookie", []string{"Host", publicHost, "Cookie", "CF_Authorization=" + assertion}, 403, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := r.wantStatus(row.want, request("GET", "/", row.headers...))
			if row.in != "" && w.Body.String() != row.in {
				t.Errorf("got %s, want %s", w.Body, row.in)
			}
		})
	}
	t.Run("paths that are open need the assertion too", func(t *testing.T) {
		r.wantStatus(403, request("GET", "/healthz", "Host", publicHost))
		r.wantStatus(403, request("GET", "/login", "Cf-Ray", "1"))
		r.wantStatus(200, request("GET", "/login", "Host", publicHost, "Cf-Access-Jwt-Assertion", assertion))
	})
}

func TestWithoutAccessThePublicNameTakesPasswordAndTokens(t *testing.T) {
	var token string
	r := newRig(t, withPassword, withTokens(&token), withNames)
	cookie := asCookie(r.mustLogin("Host", publicHost))
	r.wantStatus(200, request("GET", "/", "Host", publicHost, "Cookie", cookie))
	r.wantStatus(200, request("GET", "/", "Host", publicHost, "Authorization", "Bearer "+token))
	r.wantStatus(200, request("GET", "/", "Host", publicHost, "Authorization", "Bearer "+token, "Cf-Ray", "1"))
	r.wantStatus(401, request("GET", "/", "Host", publicHost, "Cf-Access-Jwt-Assertion", newFakeTeam().sign(t, nil)))
}

func TestIdentityIsTheSameForOneSessionAndToken(t *testing.T) {
	team := newFakeTeam()
	var token string
	r := newRig(t, withAccess(team), withPassword, withTokens(&token), withNames)
	key := func(headers ...string) (k string) {
		h := r.gate.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { k = access.Who(req.Context()).Key }),
			func(*http.Request) bool { return false })
		h.ServeHTTP(discard{}, request("GET", "/", headers...))
		return k
	}
	one, two := asCookie(r.mustLogin()), asCookie(r.mustLogin())
	assertion := team.sign(t, nil)
	keys := map[string]bool{}
	for _, headers := range [][]string{
		{"Cookie", one}, {"Cookie", two}, {"Authorization", "Bearer " + token},
		{"Host", publicHost, "Cf-Access-Jwt-Assertion", assertion},
	} {
		k := key(headers...)
		if k == "" || k != key(headers...) || keys[k] {
			t.Errorf("%s: key %q is empty, changes or is another's", headers[0], k)
		}
		keys[k] = true
	}
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

func TestWhoIsSignedOutIsRedirectedOnlyWithAWholePage(t *testing.T) {
	r := newRig(t, withPassword)
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for _, row := range []struct {
		name, method, target string
		headers              []string
		location             string // "" is a 401
	}{
		{"a browser", "GET", "/queue", []string{"Accept", browser}, "/login?next=%2Fqueue"},
		{"a browser that says so", "GET", "/", []string{"Accept", browser, "Sec-Fetch-Mode", "navigate"}, "/login?next=%2F"},
		{"a query stays", "GET", "/queue?state=failed&x=1", []string{"Accept", browser}, "/login?next=%2Fqueue%3Fstate%3Dfailed%26x%3D1"},
		{"a path that would lead elsewhere does not", "GET", "//evil.example/", []string{"Accept", browser}, "/login?next=%2F"},
		{"a part of a page for htmx", "GET", "/queue/active", []string{"Accept", browser, "HX-Request", "true"}, ""},
		{"a script's fetch", "GET", "/queue", []string{"Accept", browser, "Sec-Fetch-Mode", "cors"}, ""},
		{"a stream", "GET", "/chat/x/stream", []string{"Accept", "text/event-stream"}, ""},
		{"a stream of htmx", "GET", "/chat/x/stream", []string{"Accept", "text/html, text/event-stream"}, ""},
		{"a program that asks for JSON", "GET", "/queue", []string{"Accept", "application/json"}, ""},
		{"a program that takes anything", "GET", "/queue", []string{"Accept", "*/*"}, ""},
		{"a program that says nothing", "GET", "/queue", nil, ""},
		{"a form", "POST", "/queue/jobs", []string{"Accept", browser, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate"}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			req := request(row.method, "/", append(row.headers, "Host", "localhost")...)
			u, err := url.ParseRequestURI(row.target)
			if err != nil {
				t.Fatal(err)
			}
			req.URL = u
			w := r.do(req)
			if row.location != "" {
				if got := w.Header().Get("Location"); w.Code != 303 || got != row.location {
					t.Errorf("%d to %q, want 303 to %q", w.Code, got, row.location)
				}
				return
			}
			var answer struct{ Error string }
			if err := json.Unmarshal(w.Body.Bytes(), &answer); w.Code != 401 || err != nil || !strings.HasPrefix(answer.Error, "signed out") {
				t.Errorf("%d %s (%v), want 401 and a JSON error", w.Code, w.Body, err)
			}
			if w.Header().Get("WWW-Authenticate") != "Bearer" || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("headers %v lack the challenge or no-store", w.Header())
			}
		})
	}
}

func TestLocalPath(t *testing.T) {
	for _, row := range []struct{ name, next, want string }{
		{"a path", "/queue", "/queue"},
		{"a path with a query", "/queue?state=failed", "/queue?state=failed"},
		{"a query that holds a URL", "/x?u=https://evil.example//", "/x?u=https://evil.example//"},
		{"nothing", "", "/"},
		{"a relative path", "queue", "/"},
		{"a URL", "https://evil.example/", "/"},
		{"a URL without scheme", "//evil.example/", "/"},
		{"three slashes", "///evil.example/", "/"},
		{"a slash and a backslash", `/\evil.example`, "/"},
		{"a backslash", `\\evil.example`, "/"},
		{"a backslash further on", `/x\..\\evil.example`, "/"},
		{"an encoded slash", "/%2Fevil.example", "/"},
		{"an encoded backslash", "/%5Cevil.example", "/"},
		{"a tab, which browsers leave out", "/\t/evil.example", "/"},
		{"a newline", "/\n/evil.example", "/"},
		{"a header", "/x\r\nSet-Cookie: a=b", "/"},
		{"a leading space", " //evil.example", "/"},
		{"a script", "javascript:alert(1)", "/"},
		{"data", "data:text/html,x", "/"},
		{"a user", "//owner@evil.example", "/"},
		{"a broken encoding", "/%zz", "/"},
		{"the login page", "/login?next=/queue", "/"},
		{"a part of the login page", "/login/x", "/"},
		{"a path that begins like the login page", "/login-log", "/login-log"},
		{"a very long path", "/" + strings.Repeat("x", 2048), "/"},
	} {
		if got := access.LocalPath(row.next); got != row.want {
			t.Errorf("%s: %q gives %q, want %q", row.name, row.next, got, row.want)
		}
	}
}

func TestWhoHasGoneIsNoError(t *testing.T) {
	r := newRig(t, withPassword)
	cookie := asCookie(r.mustLogin())
	req := request("GET", "/", "Cookie", cookie)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	r.do(req.WithContext(gone))
	if strings.Contains(r.log.String(), "level=ERROR") {
		t.Errorf("the log says\n%s", r.log)
	}
	r.sessions.fail(errors.New("the disk is full"))
	r.wantStatus(503, req)
	if !strings.Contains(r.log.String(), "level=ERROR") {
		t.Errorf("a store that fails is not told: the log says\n%s", r.log)
	}
}
