package access_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/access"
)

// wantDelay expects a login to be refused without a try, for so long.
func wantDelay(t *testing.T, err error, want time.Duration) {
	t.Helper()
	delayed, ok := errors.AsType[*access.DelayedError](err)
	if !ok || delayed.RetryAfter != want {
		t.Errorf("got %v, want a delay of %s", err, want)
	}
}

func wantWrong(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, access.ErrWrong) {
		t.Errorf("got %v, want ErrWrong", err)
	}
}

func TestFailedLoginsAreDelayedAndNeverLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, withPassword)
		wrong := func() error { _, err := r.login("canary-wrong"); return err }
		for i, seconds := range []int{1, 2, 4, 8, 16, 30, 30, 30} {
			delay := time.Duration(seconds) * time.Second
			wantWrong(t, wrong())
			wantDelay(t, wrong(), delay)
			_, err := r.login(goodPassword) // not even looked at
			wantDelay(t, err, delay)
			time.Sleep(delay - time.Nanosecond)
			wantDelay(t, wrong(), time.Second)
			if len(r.sessions.all()) != 0 {
				t.Fatalf("a session exists after %d failures", i+1)
			}
			time.Sleep(time.Nanosecond)
		}
		r.mustLogin()         // after the delay the right password works
		wantWrong(t, wrong()) // and the count has begun anew
		wantDelay(t, wrong(), time.Second)
		time.Sleep(time.Second)
		wantWrong(t, wrong())
		wantDelay(t, wrong(), 2*time.Second)
		time.Sleep(10 * time.Minute) // as it does after a quiet time
		wantWrong(t, wrong())
		wantDelay(t, wrong(), time.Second)
	})
}

func TestADelayIsItsClientsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		team := newFakeTeam()
		r := newRig(t, withPassword, withNames, withAccess(team))
		through := func(ip string, more ...string) []string { // the wrapped handler logs in
			return append([]string{"Test-Password", "canary-wrong", "Host", publicHost, "Peer", "127.0.0.1:9", "Cf-Connecting-Ip", ip, "Cf-Access-Jwt-Assertion", team.sign(t, nil)}, more...)
		}
		try := func(headers ...string) string {
			return strings.TrimSpace(r.wantStatus(200, request("POST", "/login", headers...)).Body.String())
		}
		direct := func(peer string, more ...string) []string {
			return append([]string{"Test-Password", "canary-wrong", "Peer", peer}, more...)
		}
		wrong, delayed := access.ErrWrong.Error(), (&access.DelayedError{RetryAfter: time.Second}).Error()
		for _, row := range []struct {
			name    string
			headers []string
			want    string
		}{
			{"a first client fails", direct("192.0.2.7:1"), wrong},
			{"it is delayed, from any port", direct("192.0.2.7:2"), delayed},
			{"and as a mapped address", direct("[::ffff:192.0.2.7]:2"), delayed},
			{"and whatever it says of its address", direct("192.0.2.7:3", "X-Forwarded-For", "198.51.100.1", "X-Real-Ip", "198.51.100.1"), delayed},
			{"another is not", direct("192.0.2.8:1"), wrong},
			{"an IPv6 client fails", direct("[2001:db8:1:2::3]:1"), wrong},
			{"its whole /64 is delayed", direct("[2001:db8:1:2:ffff::9]:1"), delayed},
			{"the next /64 is not", direct("[2001:db8:1:3::3]:1"), wrong},
			{"a client behind Access fails", through("203.0.113.1"), wrong},
			{"it is delayed", through("203.0.113.1"), delayed},
			{"whatever it says of its address", through("203.0.113.1", "X-Forwarded-For", "198.51.100.1"), delayed},
			{"another behind Access is not, though the tunnel's address is the same", through("203.0.113.2"), wrong},
			{"nor is who comes from the tunnel's address itself", direct("127.0.0.1:9"), wrong},
			{"all behind a proxy on this machine are one", direct("127.0.0.1:10", "X-Forwarded-For", "192.0.2.99"), delayed},
		} {
			if got := try(row.headers...); got != row.want {
				t.Errorf("%s: %s, want %s", row.name, got, row.want)
			}
		}
	})
}

func TestWithoutAccessItsAddressHeaderIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, withPassword)
		_, err := r.login("canary-wrong", "Cf-Connecting-Ip", "203.0.113.1")
		wantWrong(t, err)
		_, err = r.login("canary-wrong", "Cf-Connecting-Ip", "203.0.113.2")
		wantDelay(t, err, time.Second)
	})
}

func TestSessionsAndTokensAreUntouchedByDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var token string
		r := newRig(t, withPassword, withTokens(&token))
		cookie := asCookie(r.mustLogin())
		_, err := r.login("canary-wrong")
		wantWrong(t, err)
		r.wantStatus(200, request("GET", "/", "Cookie", cookie))
		r.wantStatus(200, request("GET", "/", "Authorization", "Bearer "+token))
		for range 50 { // wrong tokens delay nothing
			r.wantStatus(401, request("GET", "/", "Authorization", "Bearer wrong"))
		}
		r.wantStatus(200, request("GET", "/", "Authorization", "Bearer "+token))
	})
}

// Guesses that are sent together must not all be looked at before the first has
// failed.
func TestManyGuessesAtOnceAreOneTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, withPassword)
		var tried sync.Map
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				if _, err := r.login("canary-wrong"); errors.Is(err, access.ErrWrong) {
					tried.Store(i, true)
				}
			})
		}
		all.Wait()
		n := 0
		tried.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Errorf("%d guesses were looked at, want 1", n)
		}
	})
}

func TestLoginTakesOnlyThePassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, withPassword)
		for name, given := range map[string]string{
			"nothing": "", "another": "canary-wrong", "its beginning": goodPassword[:8], "more than it": goodPassword + "x",
			"other case": strings.ToUpper(goodPassword), "a space more": goodPassword + " ", "a very long one": strings.Repeat("x", 1<<20),
		} {
			if _, err := r.login(given); !errors.Is(err, access.ErrWrong) {
				t.Errorf("%s: %v", name, err)
			}
			time.Sleep(time.Minute)
		}
		r.mustLogin()
	})
}

func TestAWayInThatIsNotConfiguredIsRefused(t *testing.T) {
	var token string
	for name, r := range map[string]*rig{"nothing": newRig(t), "tokens": newRig(t, withTokens(&token)), "access": newRig(t, withNames, withAccess(newFakeTeam()))} {
		if _, err := r.login(""); !errors.Is(err, access.ErrNotOffered) {
			t.Errorf("%s: a password gives %v", name, err)
		}
	}
	for name, r := range map[string]*rig{"password": newRig(t, withPassword), "tokens": newRig(t, withTokens(&token)), "access": newRig(t, withNames, withAccess(newFakeTeam()))} {
		for _, given := range []string{"", "wrong"} {
			if err := r.gate.Redeem(httptest.NewRecorder(), request("GET", "/login"), given); !errors.Is(err, access.ErrNotOffered) {
				t.Errorf("%s: a link with token %q gives %v", name, given, err)
			}
		}
		if r.gate.Link() != "" {
			t.Errorf("%s: there is a link", name)
		}
		if _, err := os.Stat(filepath.Join(r.dir, "token")); err == nil {
			t.Errorf("%s: a token was made", name)
		}
	}
}

func TestTheLinkSignsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		if got := r.gate.Modes(); got != (access.Modes{Link: true}) {
			t.Errorf("modes %+v", got)
		}
		token, found := strings.CutPrefix(r.gate.Link(), "http://"+lanHost+"/login?token=")
		if !found || len(token) != 43 {
			t.Fatalf("the link has not the form expected: %d bytes", len(r.gate.Link()))
		}
		redeem := func(token string) (*httptest.ResponseRecorder, error) {
			w := httptest.NewRecorder()
			return w, r.gate.Redeem(w, request("GET", "/login", "Host", "127.0.0.1:8080", "Peer", "127.0.0.1:1"), token)
		}
		for _, wrong := range []string{"", "wrong", token[:42], token + "A", strings.ToLower(token)} {
			_, err := redeem(wrong)
			wantWrong(t, err)
			_, err = redeem(token)
			if _, ok := errors.AsType[*access.DelayedError](err); !ok {
				t.Errorf("after a wrong link: %v, want a delay", err)
			}
			time.Sleep(time.Minute)
		}
		w, err := redeem(token)
		if err != nil {
			t.Fatal(err)
		}
		home := []string{"Host", "127.0.0.1:8080", "Peer", "127.0.0.1:1"}
		r.wantStatus(200, request("GET", "/", append(home, "Cookie", asCookie(r.cookie(w)))...))
		r.wantStatus(200, request("GET", "/", append(home, "Authorization", "Bearer "+token)...))
		r.wantStatus(401, request("GET", "/?token="+token, home...)) // the link works at the login alone
	})
}

func TestTheLinkNamesAnAddressThatCanBeOpened(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8080": "http://127.0.0.1:8080/login?token=", ":8080": "http://localhost:8080/login?token=",
		"0.0.0.0:80": "http://localhost:80/login?token=", "[::]:8080": "http://localhost:8080/login?token=",
		"[::1]:8080": "http://[::1]:8080/login?token=", "192.0.2.1:8080": "http://192.0.2.1:8080/login?token=",
	} {
		r := newRig(t, func(_ *rig, o *access.Options) { o.Listen = listen })
		if link := r.gate.Link(); !strings.HasPrefix(link, want) {
			t.Errorf("listening on %s gives a link that does not begin with %s", listen, want)
		}
	}
}

// No secret may be seen in a log line, an error or an answer, whatever goes wrong.
func TestSecretsAreNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		team := newFakeTeam()
		var token string
		r := newRig(t, withAccess(team), withPassword, withTokens(&token), withNames)
		link := newRig(t)
		cookie := r.mustLogin()
		good, forged := team.sign(t, nil), "canary-jwt."+team.sign(t, set("aud", "other"))
		secrets := []string{goodPassword, "canary-", token, cookie.Value, good, forged, strings.Split(good, ".")[2],
			strings.TrimPrefix(link.gate.Link(), "http://"+lanHost+"/login?token=")}
		var seen strings.Builder
		send := func(headers ...string) {
			w := r.do(request("GET", "/?canary-query", append(headers, "Accept", "application/json")...))
			fmt.Fprintln(&seen, w.Code, w.Body, w.Header())
		}
		all := func() {
			for _, assertion := range []string{good, forged, "canary-x", signWith(t, "RS256", rsaKeys()[1], "canary-kid", nil), team.sign(t, set("iss", "canary-iss"))} {
				send("Host", publicHost, "Cf-Access-Jwt-Assertion", assertion)
			}
			send("Cookie", asCookie(cookie))
			send("Authorization", "Bearer "+token)
			send("Authorization", "Bearer canary-bearer", "Cookie", "runner_session_8080=canary-cookie")
			send("Host", "canary-host")
			for _, given := range []string{"canary-guess", goodPassword} {
				_, err := r.login(given)
				fmt.Fprintln(&seen, err, link.gate.Redeem(httptest.NewRecorder(), request("GET", "/"), given))
			}
			fmt.Fprintln(&seen, r.gate.Logout(httptest.NewRecorder(), request("POST", "/", "Cookie", asCookie(cookie))))
			time.Sleep(time.Hour)
		}
		all()
		r.sessions.fail(errors.New("disk is full"))
		team.change(nil, down)
		all()
		r.sessions.fail(nil)
		cookie = r.mustLogin()
		r.write("password", goodPassword+"\n")
		r.write("tokens", "phone "+token+"\n")
		all()
		for _, o := range []access.Options{{PasswordFile: filepath.Join(r.dir, "password")}, {TokenFile: filepath.Join(r.dir, "tokens")},
			{PasswordFile: goodPassword}, {TokenFile: token}, {StateToken: filepath.Join(r.dir, "tokens")}} {
			o.Sessions = r.sessions
			_, err := access.New(t.Context(), o)
			if err == nil {
				t.Error("a broken file is taken")
			}
			fmt.Fprintln(&seen, err)
		}
		fmt.Fprintf(&seen, "%v %+v", r.gate.Modes(), link.gate.Modes())
		text := seen.String() + r.log.String() + link.log.String()
		for _, want := range []string{"a login failed", "keys cannot be fetched", "cannot be judged"} {
			if !strings.Contains(text, want) {
				t.Errorf("the test did not provoke %q", want)
			}
		}
		for i, secret := range secrets {
			if secret == "" {
				t.Fatalf("secret %d is empty", i)
			}
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("secret %d is seen: …%s…", i, text[max(0, at-80):min(len(text), at+80)])
			}
		}
	})
}
