package access_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/access"
)

const day = 24 * time.Hour

func TestASessionIsStoredByItsHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, withPassword)
		c := r.mustLogin()
		if raw, err := base64.RawURLEncoding.DecodeString(c.Value); err != nil || len(raw) != 32 {
			t.Errorf("the cookie's value is no 32 bytes: %d, %v", len(raw), err)
		}
		sum := sha256.Sum256([]byte(c.Value))
		stored := r.sessions.all()[0]
		kind, _, _ := strings.Cut(stored.Kind, ":")
		stored.Kind = kind
		now := time.Now()
		want := access.Session{Hash: hex.EncodeToString(sum[:]), Created: now, Seen: now, Expires: now.Add(30 * day), Kind: "password"}
		if stored != want {
			t.Errorf("stored %+v, want %+v", stored, want)
		}
		if other := r.mustLogin(); other.Value == c.Value {
			t.Error("two logins gave one session")
		}
	})
}

func TestSessionsLiveForThirtyDaysAfterTheLastUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, withPassword)
		cookie := asCookie(r.mustLogin())
		use := func(want int) *httptest.ResponseRecorder {
			t.Helper()
			return r.wantStatus(want, request("GET", "/", "Cookie", cookie))
		}
		begun := time.Now()
		time.Sleep(time.Hour - time.Nanosecond)
		if w := use(200); len(w.Result().Cookies()) != 0 || !r.sessions.all()[0].Seen.Equal(begun) {
			t.Error("a use within the hour is stored")
		}
		time.Sleep(time.Nanosecond)
		if c := r.cookie(use(200)); asCookie(c) != cookie || c.MaxAge != 30*24*3600 {
			t.Errorf("the cookie is not renewed: max-age %d", c.MaxAge)
		}
		if s := r.sessions.all()[0]; !s.Seen.Equal(time.Now()) || !s.Expires.Equal(time.Now().Add(30*day)) {
			t.Errorf("the use after an hour is stored as %v, ending %v", s.Seen, s.Expires)
		}
		for range 12 { // far beyond 30 days, always used in time
			time.Sleep(29 * day)
			use(200)
		}
		time.Sleep(30*day - time.Nanosecond)
		use(200)
		time.Sleep(30 * day)
		use(401)
		if len(r.sessions.all()) != 0 {
			t.Error("the session that has expired is still stored")
		}
	})
}

func TestLogoutEndsTheSessionAndNoOther(t *testing.T) {
	r := newRig(t, withPassword)
	one, two := r.mustLogin(), r.mustLogin()
	w := httptest.NewRecorder()
	ctx, gone := context.WithCancel(t.Context())
	gone() // a browser that has left is signed out all the same
	if err := r.gate.Logout(w, request("POST", "/logout", "Cookie", asCookie(one)).WithContext(ctx)); err != nil {
		t.Fatal(err)
	}
	if c := r.cookie(w); c.Name != one.Name || c.MaxAge >= 0 || c.Value != "" || c.Path != "/" {
		t.Errorf("the cookie is not taken away: %v", c)
	}
	r.wantStatus(401, request("GET", "/", "Cookie", asCookie(one)))
	r.wantStatus(200, request("GET", "/", "Cookie", asCookie(two)))
	if err := r.gate.Logout(httptest.NewRecorder(), request("POST", "/logout")); err != nil {
		t.Errorf("a logout of nobody: %v", err)
	}
	r.sessions.fail(errors.New("disk is full"))
	w = httptest.NewRecorder()
	if err := r.gate.Logout(w, request("POST", "/logout", "Cookie", asCookie(two))); err == nil || len(w.Result().Cookies()) != 0 {
		t.Errorf("a logout that was not stored looks like one: %v", err)
	}
}

func TestTheCookieFitsTheWayTheRequestCame(t *testing.T) {
	r := newRig(t, withPassword, withNames)
	for _, row := range []struct {
		name    string
		headers []string
		secure  bool
	}{
		{"LAN over http", nil, false},
		{"loopback over http", []string{"Host", "localhost:8080", "Peer", "127.0.0.1:1"}, false},
		{"the public name", []string{"Host", publicHost, "Peer", "127.0.0.1:1"}, true},
		{"the public name with a port", []string{"Host", publicHost + ":443"}, true},
		{"a proxy on this machine says https", []string{"Peer", "127.0.0.1:1", "X-Forwarded-Proto", "https"}, true},
		{"a proxy on this machine says so by IPv6", []string{"Peer", "[::1]:1", "X-Forwarded-Proto", "HTTPS"}, true},
		{"a proxy on this machine says http", []string{"Peer", "127.0.0.1:1", "X-Forwarded-Proto", "http"}, false},
		{"somebody else says https", []string{"X-Forwarded-Proto", "https"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := r.mustLogin(row.headers...)
			name := map[bool]string{true: "__Host-runner_session_8080", false: "runner_session_8080"}[row.secure]
			if c.Name != name || c.Secure != row.secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
				t.Errorf("cookie %s: %v", name, c)
			}
			r.wantStatus(200, request("GET", "/", append(row.headers, "Cookie", asCookie(c))...))
		})
	}
	t.Run("our own TLS", func(t *testing.T) {
		w, req := httptest.NewRecorder(), request("POST", "/login")
		req.TLS = &tls.ConnectionState{}
		if err := r.gate.Login(w, req, goodPassword); err != nil || !r.cookie(w).Secure {
			t.Errorf("not Secure, or %v", err)
		}
	})
	t.Run("on https the plain name, which a neighbouring domain can set, is not taken", func(t *testing.T) {
		c := r.mustLogin()
		r.wantStatus(401, request("GET", "/", "Host", publicHost, "Cookie", asCookie(c)))
	})
}

func TestANewPasswordEndsSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var token string
		r := newRig(t, withPassword, withTokens(&token))
		old := asCookie(r.mustLogin())
		r.write("password", quickHash("canary-other-horse"))
		r.wantStatus(401, request("GET", "/", "Cookie", old))
		r.wantStatus(200, request("GET", "/", "Authorization", "Bearer "+token))
		_, err := r.login(goodPassword)
		wantWrong(t, err)
		time.Sleep(time.Second)
		now, err := r.login("canary-other-horse")
		if err != nil {
			t.Fatal(err)
		}
		r.wantStatus(200, request("GET", "/", "Cookie", asCookie(now)))
		r.write("password", quickHash(goodPassword)) // the former line, as from a backup
		r.wantStatus(401, request("GET", "/", "Cookie", old))
	})
}

func TestANewTokenFileCountsAtOnce(t *testing.T) {
	var token string
	r := newRig(t, withTokens(&token))
	r.wantStatus(200, request("GET", "/", "Authorization", "Bearer "+token))
	other, line, err := access.NewToken("laptop")
	if err != nil {
		t.Fatal(err)
	}
	r.write("tokens", "# replaced\n\n"+line)
	r.wantStatus(401, request("GET", "/", "Authorization", "Bearer "+token))
	r.wantStatus(200, request("GET", "/", "Authorization", "Bearer "+other))
	r.write("tokens", "")
	r.wantStatus(401, request("GET", "/", "Authorization", "Bearer "+other))
}

// A password or token that was taken away must not work from memory.
func TestAFileThatBreaksLetsNobodyIn(t *testing.T) {
	breaks := map[string]func(r *rig, name string) error{
		"gone":               func(r *rig, name string) error { return os.Remove(filepath.Join(r.dir, name)) },
		"broken":             func(r *rig, name string) error { r.write(name, "broken"); return nil },
		"too long":           func(r *rig, name string) error { r.write(name, strings.Repeat("#\n", 64<<10)); return nil },
		"readable by others": func(r *rig, name string) error { return os.Chmod(filepath.Join(r.dir, name), 0o644) },
	}
	for name, break_ := range breaks {
		t.Run(name, func(t *testing.T) {
			var token string
			r := newRig(t, withPassword, withTokens(&token))
			cookie := asCookie(r.mustLogin())
			if err := errors.Join(break_(r, "password"), break_(r, "tokens")); err != nil {
				t.Fatal(err)
			}
			r.wantStatus(503, request("GET", "/", "Cookie", cookie))
			r.wantStatus(503, request("GET", "/", "Authorization", "Bearer "+token))
			r.wantStatus(401, request("GET", "/"))
			if _, err := r.login(goodPassword); err == nil || errors.Is(err, access.ErrWrong) {
				t.Errorf("a login gives %v", err)
			}
			r.write("password", quickHash(goodPassword)+"\n")
			r.wantStatus(200, request("GET", "/", "Cookie", cookie)) // mended: the session was kept
		})
	}
}

func TestAStoreThatFailsLetsNobodyInByCookie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var token string
		r := newRig(t, withPassword, withTokens(&token))
		cookie := asCookie(r.mustLogin())
		r.sessions.fail(errors.New("disk is full"))
		r.wantStatus(503, request("GET", "/", "Cookie", cookie))
		r.wantStatus(200, request("GET", "/", "Cookie", cookie, "Authorization", "Bearer "+token))
		if _, err := r.login(goodPassword); err == nil {
			t.Error("a login whose session is not stored succeeds")
		}
		r.sessions.fail(nil)
		r.wantStatus(200, request("GET", "/", "Cookie", cookie))
	})
}

func TestTokensNeedNoSessions(t *testing.T) {
	var token string
	r := newRig(t, withTokens(&token), func(_ *rig, o *access.Options) { o.Sessions = nil })
	r.wantStatus(401, request("GET", "/", "Cookie", "runner_session_8080=x"))
	r.wantStatus(200, request("GET", "/", "Cookie", "runner_session_8080=x", "Authorization", "Bearer "+token))
	if err := r.gate.Logout(httptest.NewRecorder(), request("POST", "/logout", "Cookie", "runner_session_8080=x")); err != nil {
		t.Error(err)
	}
}

func TestSessionsOfAnotherSetupAreNone(t *testing.T) {
	link := newRig(t)
	w := httptest.NewRecorder()
	_, token, _ := strings.Cut(link.gate.Link(), "token=")
	if err := link.gate.Redeem(w, request("GET", "/login"), token); err != nil {
		t.Fatal(err)
	}
	cookie := asCookie(link.cookie(w))
	shared := func(_ *rig, o *access.Options) { o.Sessions = link.sessions }
	state := func(_ *rig, o *access.Options) { o.StateToken = filepath.Join(link.dir, "token") }
	newRig(t, shared, state).wantStatus(200, request("GET", "/", "Host", "localhost", "Cookie", cookie)) // a restart
	var unused string
	newRig(t, shared, withTokens(&unused)).wantStatus(401, request("GET", "/", "Host", "localhost", "Cookie", cookie))
	newRig(t, shared, withPassword).wantStatus(401, request("GET", "/", "Host", "localhost", "Cookie", cookie))
}

func TestARequestThatGoesOnIsLetGoWithItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, withPassword)
		c := asCookie(r.mustLogin())
		stream := request("GET", "/", "Cookie", c)
		if !r.gate.Still(httptest.NewRecorder(), stream) {
			t.Error("a session that holds is let go")
		}
		time.Sleep(30*day + time.Second)
		if r.gate.Still(httptest.NewRecorder(), stream) {
			t.Error("an expired session stays in")
		}
	})
}

// TestControlRoomsOnOneHostKeepTheirSessionsApart has two, at different ports:
// browsers send a host's cookies to all of its ports.
func TestControlRoomsOnOneHostKeepTheirSessionsApart(t *testing.T) {
	one := newRig(t, withPassword)
	other := newRig(t, withPassword, func(_ *rig, o *access.Options) { o.Listen = "runner.lan:8090" })
	for name, headers := range map[string][]string{"over http": nil, "over https": {"Peer", "127.0.0.1:1", "X-Forwarded-Proto", "https"}} {
		t.Run(name, func(t *testing.T) {
			mine, theirs := one.mustLogin(headers...), other.mustLogin(headers...)
			if mine.Name == theirs.Name {
				t.Errorf("both are %s: the second sign-in replaces the first", mine.Name)
			}
			both := append([]string{"Cookie", asCookie(mine), "Cookie", asCookie(theirs)}, headers...)
			one.wantStatus(200, request("GET", "/", both...))
			other.wantStatus(200, request("GET", "/", append(both, "Host", "runner.lan:8090")...))
		})
	}
}
