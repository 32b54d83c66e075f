package access_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"davidcockson.com/runner/internal/access"
)

var rsaKeys = sync.OnceValue(func() (keys [3]*rsa.PrivateKey) {
	for i := range keys {
		var err error
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
	}
	return keys
})

// fakeTeam is Cloudflare Access's certs endpoint, and who signs with its keys.
type fakeTeam struct {
	mu      sync.Mutex
	keys    map[string]any // by key id, public
	fetches int
	answer  func(*http.Request) (*http.Response, error) // in place of the keys
}

func newFakeTeam() *fakeTeam {
	return &fakeTeam{keys: map[string]any{"kid-1": rsaKeys()[0].Public()}}
}

func (f *fakeTeam) RoundTrip(req *http.Request) (*http.Response, error) {
	f.mu.Lock()
	f.fetches++
	answer, keys := f.answer, jose.JSONWebKeySet{}
	for id, key := range f.keys {
		keys.Keys = append(keys.Keys, jose.JSONWebKey{Key: key, KeyID: id, Use: "sig"})
	}
	f.mu.Unlock()
	if req.URL.String() != "https://myteam.cloudflareaccess.com/cdn-cgi/access/certs" {
		return nil, fmt.Errorf("asked at %s", req.URL)
	}
	if answer != nil {
		return answer(req)
	}
	body, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	return response(200, body), nil
}

func response(status int, body []byte) *http.Response {
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}
}

func (f *fakeTeam) change(keys map[string]any, answer func(*http.Request) (*http.Response, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys, f.answer = keys, answer
}

func (f *fakeTeam) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fetches
}

func down(*http.Request) (*http.Response, error) { return nil, errors.New("no route to host") }

// sign makes a right assertion, changed by change.
func (f *fakeTeam) sign(t *testing.T, change func(claims map[string]any)) string {
	return signWith(t, jose.RS256, rsaKeys()[0], "kid-1", change)
}

func signWith(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, change func(map[string]any)) string {
	t.Helper()
	claims := map[string]any{
		"iss": "https://myteam.cloudflareaccess.com", "aud": []string{"aud-tag"}, "email": "owner@example.com",
		"exp": time.Now().Add(time.Hour).Unix(), "nbf": time.Now().Unix(), "iat": time.Now().Unix(), "sub": "canary-sub",
	}
	if change != nil {
		change(claims)
	}
	options := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func set(name string, value any) func(map[string]any) {
	return func(c map[string]any) { c[name] = value }
}

func ago(d time.Duration) int64 { return time.Now().Add(-d).Unix() }

func TestAssertions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		team := newFakeTeam()
		ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		team.keys["kid-ec"] = ec.Public()
		r := newRig(t, withAccess(team), withNames)
		good := team.sign(t, nil)
		parts := strings.Split(good, ".")
		der, err := x509.MarshalPKIXPublicKey(rsaKeys()[0].Public())
		if err != nil {
			t.Fatal(err)
		}
		public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		b64 := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
		for _, row := range []struct {
			name, assertion string
			want            int
		}{
			{"right", good, 200},
			{"the audience as one text", team.sign(t, set("aud", "aud-tag")), 200},
			{"one of several audiences", team.sign(t, set("aud", []string{"other", "aud-tag"})), 200},
			{"expired within the leeway", team.sign(t, set("exp", ago(50*time.Second))), 200},
			{"from a clock that is a little ahead", team.sign(t, set("nbf", ago(-50*time.Second))), 200},
			{"none", "", 403},
			{"expired", team.sign(t, set("exp", ago(2*time.Minute))), 401},
			{"without an end", team.sign(t, func(c map[string]any) { delete(c, "exp") }), 401},
			{"not yet valid", team.sign(t, set("nbf", ago(-2*time.Minute))), 403},
			{"issued in the future", team.sign(t, set("iat", ago(-2*time.Minute))), 403},
			{"of another application", team.sign(t, set("aud", []string{"other"})), 403},
			{"of an application whose tag begins alike", team.sign(t, set("aud", "aud-tag-2")), 403},
			{"for nobody", team.sign(t, func(c map[string]any) { delete(c, "aud") }), 403},
			{"of another team", team.sign(t, set("iss", "https://other.cloudflareaccess.com")), 403},
			{"without an issuer", team.sign(t, func(c map[string]any) { delete(c, "iss") }), 403},
			{"alg none, unsigned", b64(`{"alg":"none","kid":"kid-1"}`) + "." + parts[1] + ".", 403},
			{"alg none, with the signature", b64(`{"alg":"none","kid":"kid-1"}`) + "." + parts[1] + "." + parts[2], 403},
			{"HS256 with the public key as PEM", signWith(t, jose.HS256, public, "kid-1", nil), 403},
			{"HS256 with the public key as DER", signWith(t, jose.HS256, der, "kid-1", nil), 403},
			{"ES256 by a key of the team", signWith(t, jose.ES256, ec, "kid-ec", nil), 403},
			{"PS256 by the right key", signWith(t, jose.PS256, rsaKeys()[0], "kid-1", nil), 403},
			{"RS512 by the right key", signWith(t, jose.RS512, rsaKeys()[0], "kid-1", nil), 403},
			{"another's key under a known id", signWith(t, jose.RS256, rsaKeys()[1], "kid-1", nil), 403},
			{"another's key under its own id", signWith(t, jose.RS256, rsaKeys()[1], "kid-9", nil), 403},
			{"without a key id", signWith(t, jose.RS256, rsaKeys()[0], "", nil), 403},
			{"claims exchanged", parts[0] + "." + b64(`{"iss":"https://myteam.cloudflareaccess.com","aud":"aud-tag","exp":9999999999}`) + "." + parts[2], 403},
			{"unsigned", parts[0] + "." + parts[1] + ".", 403},
			{"two parts", parts[0] + "." + parts[1], 403},
			{"JSON form", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, 403},
			{"no JWT", "wrong", 403},
			{"too long", good + strings.Repeat("A", 16<<10), 403},
		} {
			w := r.do(request("GET", "/", "Host", publicHost, "Cf-Access-Jwt-Assertion", row.assertion))
			if w.Code != row.want {
				t.Errorf("%s: %d %s, want %d", row.name, w.Code, w.Body, row.want)
			}
		}
		time.Sleep(2 * time.Hour)
		r.wantStatus(401, request("GET", "/", "Host", publicHost, "Cf-Access-Jwt-Assertion", good))
	})
}

// An assertion may carry a key of its own, which must not be what it is checked by.
func TestAnAssertionDoesNotBringItsKey(t *testing.T) {
	r := newRig(t, withAccess(newFakeTeam()), withNames)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: rsaKeys()[1]},
		(&jose.SignerOptions{EmbedJWK: true}).WithHeader("kid", "kid-1"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(map[string]any{"iss": "https://myteam.cloudflareaccess.com", "aud": "aud-tag", "exp": time.Now().Add(time.Hour).Unix()}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	r.wantStatus(403, request("GET", "/", "Host", publicHost, "Cf-Access-Jwt-Assertion", text))
}

func TestAFloodOfUnknownKeyIDsFetchesOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		team := newFakeTeam()
		r := newRig(t, withAccess(team), withNames) // the first fetch
		flood := func() {
			var all sync.WaitGroup
			for i := range 200 {
				assertion := signWith(t, jose.RS256, rsaKeys()[1], fmt.Sprintf("kid-%d-x", i), nil)
				all.Go(func() {
					r.wantStatus(403, request("GET", "/", "Host", publicHost, "Cf-Access-Jwt-Assertion", assertion))
				})
			}
			all.Wait()
		}
		for minute, want := range []int{1, 2, 3} {
			flood()
			flood()
			if got := team.count(); got != want {
				t.Errorf("minute %d: %d fetches, want %d", minute, got, want)
			}
			r.wantStatus(200, request("GET", "/", "Host", publicHost, "Cf-Access-Jwt-Assertion", team.sign(t, nil)))
			time.Sleep(time.Minute)
		}
	})
}

func TestWithoutKeysTheAnswerIs503(t *testing.T) {
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: rsaKeys()[0].Public(), KeyID: "kid-1"}}})
	if err != nil {
		t.Fatal(err)
	}
	huge := append(set, bytes.Repeat([]byte(" "), 300<<10)...)
	for name, answer := range map[string]func(*http.Request) (*http.Response, error){
		"no connection":      down,
		"a failure":          func(*http.Request) (*http.Response, error) { return response(500, []byte(`{}`)), nil },
		"no JSON":            func(*http.Request) (*http.Response, error) { return response(200, []byte(`<html>`)), nil },
		"no key":             func(*http.Request) (*http.Response, error) { return response(200, []byte(`{"keys":[]}`)), nil },
		"an answer too long": func(*http.Request) (*http.Response, error) { return response(200, huge), nil },
		"a redirect": func(req *http.Request) (*http.Response, error) {
			resp := response(302, nil)
			resp.Header.Set("Location", req.URL.String())
			return resp, nil
		},
		"silence": func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, context.Cause(req.Context())
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				team := newFakeTeam()
				team.answer = answer
				r := newRig(t, withAccess(team), withNames, withPassword)
				send := func() *http.Request {
					return request("GET", "/", "Host", publicHost, "Cf-Access-Jwt-Assertion", team.sign(t, nil))
				}
				w := r.wantStatus(503, send())
				if w.Header().Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
				r.wantStatus(503, request("GET", "/healthz", "Host", publicHost, "Cf-Access-Jwt-Assertion", team.sign(t, nil)))
				if got := team.count(); got != 1 {
					t.Errorf("%d fetches within the first minute, want 1", got)
				}
				r.wantStatus(200, request("GET", "/", "Cookie", asCookie(r.mustLogin())))
				if !strings.Contains(r.log.String(), "keys cannot be fetched") {
					t.Errorf("the log does not tell: %s", r.log)
				}
				time.Sleep(time.Minute)
				r.wantStatus(503, send())
				team.change(team.keys, nil)
				time.Sleep(time.Minute)
				r.wantStatus(200, send())
			})
		})
	}
}

func TestKeysAreChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		team := newFakeTeam()
		r := newRig(t, withAccess(team), withNames)
		send := func(key crypto.Signer, kid string) *http.Request {
			return request("GET", "/", "Host", publicHost, "Cf-Access-Jwt-Assertion", signWith(t, jose.RS256, key, kid, nil))
		}
		time.Sleep(2 * time.Minute)
		team.change(map[string]any{"kid-1": rsaKeys()[0].Public(), "kid-2": rsaKeys()[1].Public()}, nil)
		r.wantStatus(200, send(rsaKeys()[1], "kid-2")) // fetched at once
		r.wantStatus(200, send(rsaKeys()[0], "kid-1"))

		team.change(nil, down)
		time.Sleep(30 * time.Hour) // known keys stay in use while the fetch fails
		r.wantStatus(200, send(rsaKeys()[0], "kid-1"))
		r.wantStatus(403, send(rsaKeys()[2], "kid-3"))

		team.change(map[string]any{"kid-2": rsaKeys()[1].Public(), "kid-3": rsaKeys()[2].Public()}, nil)
		time.Sleep(time.Minute)
		r.wantStatus(200, send(rsaKeys()[2], "kid-3"))
		r.wantStatus(200, send(rsaKeys()[1], "kid-2"))
		r.wantStatus(403, send(rsaKeys()[0], "kid-1")) // the old key is gone
	})
}

// Who hangs up must not spend the minute's fetch, and who has a known key must not
// wait for a fetch that another began.
func TestAFetchIsNobodysHostage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		team := newFakeTeam()
		r := newRig(t, withAccess(team), withNames)
		time.Sleep(2 * time.Hour) // stale, yet usable
		slow := make(chan struct{})
		keys := func() (*http.Response, error) {
			body, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: rsaKeys()[1].Public(), KeyID: "kid-2"}, {Key: rsaKeys()[0].Public(), KeyID: "kid-1"}}})
			return response(200, body), err
		}
		team.change(nil, func(req *http.Request) (*http.Response, error) {
			select {
			case <-slow:
				return keys()
			case <-req.Context().Done():
				return nil, context.Cause(req.Context())
			}
		})
		ctx, hangUp := context.WithCancel(t.Context())
		fresh := signWith(t, jose.RS256, rsaKeys()[1], "kid-2", nil)
		begun := make(chan int)
		go func() {
			begun <- r.do(request("GET", "/", "Host", publicHost, "Cf-Access-Jwt-Assertion", fresh).WithContext(ctx)).Code
		}()
		synctest.Wait()
		hangUp()
		synctest.Wait()
		start := time.Now()
		r.wantStatus(200, request("GET", "/", "Host", publicHost, "Cf-Access-Jwt-Assertion", team.sign(t, nil)))
		if waited := time.Since(start); waited != 0 {
			t.Errorf("a known key waited %s for a fetch", waited)
		}
		close(slow)
		if code := <-begun; code != 200 {
			t.Errorf("the fetch ended with the request that began it: %d", code)
		}
		r.wantStatus(200, request("GET", "/", "Host", publicHost, "Cf-Access-Jwt-Assertion", fresh))
		if got := team.count(); got != 2 {
			t.Errorf("%d fetches, want 2", got)
		}
	})
}

func TestKeysOfOtherKindsSpoilNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		team := newFakeTeam()
		good, err := json.Marshal(jose.JSONWebKey{Key: rsaKeys()[0].Public(), KeyID: "kid-1", Use: "sig", Algorithm: "RS256"})
		if err != nil {
			t.Fatal(err)
		}
		other, err := json.Marshal(jose.JSONWebKey{Key: rsaKeys()[1].Public(), KeyID: "kid-2", Use: "enc"})
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Appendf(nil, `{"keys":[{"kty":"NEW","kid":"a"},{"kty":"RSA","kid":"b"},5,%s,%s],"public_certs":[]}`, other, good)
		team.answer = func(*http.Request) (*http.Response, error) { return response(200, body), nil }
		r := newRig(t, withAccess(team), withNames)
		r.wantStatus(200, request("GET", "/", "Host", publicHost, "Cf-Access-Jwt-Assertion", team.sign(t, nil)))
		r.wantStatus(403, request("GET", "/", "Host", publicHost, "Cf-Access-Jwt-Assertion", signWith(t, jose.RS256, rsaKeys()[1], "kid-2", nil)))
	})
}

func TestTheTeamMayBeWrittenInThreeWays(t *testing.T) {
	for team, fine := range map[string]bool{
		"myteam": true, "MyTeam": true, "myteam.cloudflareaccess.com": true, "https://myteam.cloudflareaccess.com": true,
		"https://myteam.cloudflareaccess.com/": true,
		"http://myteam.cloudflareaccess.com":   false, "evil.example/x": false, "evil.example": false, "my team": false,
		"myteam@evil": false, "https://": false, "-x": false,
	} {
		o := access.Options{Team: team, Aud: "aud-tag", PublicURL: "https://" + publicHost, Client: &http.Client{Transport: newFakeTeam()}}
		gate, err := access.New(t.Context(), o)
		if (err == nil) != fine {
			t.Errorf("%q: %v", team, err)
			continue
		}
		if fine {
			r := &rig{t: t, handler: gate.Wrap(http.NotFoundHandler(), func(*http.Request) bool { return false })}
			r.wantStatus(404, request("GET", "/", "Host", publicHost, "Cf-Access-Jwt-Assertion", newFakeTeam().sign(t, nil)))
		}
	}
}
