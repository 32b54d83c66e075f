package roomtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/peertest"
)

// TestRequestsAreBounded sends to every route that takes anything what is too large
// or of another type.
func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	s := newWorld(t, "providers: [{name: echo, kind: echo}]\n").start("up")
	large := `{"text": "` + strings.Repeat("x", 2<<20) + `"}`
	for _, row := range []struct {
		name, kind, body string
		want             int
	}{
		{"2 MiB of JSON", "application/json", large, http.StatusRequestEntityTooLarge},
		{"2 MiB of a form", "application/x-www-form-urlencoded", "text=" + large, http.StatusRequestEntityTooLarge},
		{"plain text", "text/plain", "hello", http.StatusUnsupportedMediaType},
		{"a form with files", "multipart/form-data; boundary=b", "--b--", http.StatusUnsupportedMediaType},
		{"what has no type", "", "hello", http.StatusUnsupportedMediaType},
		{"a type that is none", "application/json; =", "{}", http.StatusUnsupportedMediaType},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, r := range routes {
				if r.method() != "POST" {
					continue
				}
				request := s.asks("POST", r.path, row.body)
				request.Header.Set("Expect", "100-continue") // what is refused at once is not sent
				request.Header.Set("Content-Type", row.kind)
				if row.kind == "" {
					request.Header.Del("Content-Type")
				}
				if status, _, text := do(t, request); status != row.want {
					t.Errorf("POST %s answers %d, want %d: %s", r.path, status, row.want, text)
				}
			}
		})
	}
	t.Run("2 MiB of no known length", func(t *testing.T) {
		request := s.asks("POST", "/chat/c1/messages", "")
		request.Body, request.ContentLength = io.NopCloser(strings.NewReader(large)), -1
		request.Header.Set("Content-Type", "application/json")
		resp, err := plain.Do(request)
		if err != nil {
			return // the server closed while we wrote: so it may
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("it answers %d", resp.StatusCode)
		}
	})
	t.Run("a header over 64 KiB", func(t *testing.T) {
		request := s.asks("GET", "/chat", "")
		request.Header.Set("Cookie", strings.Repeat("x", 80<<10))
		if status, _, _ := do(t, request); status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("it answers %d", status)
		}
	})
	s.Terminate()
}

// TestSlowRequestsAreEnded begins requests that never come to their end.
func TestSlowRequestsAreEnded(t *testing.T) {
	t.Parallel()
	s := newWorld(t, "providers: [{name: echo, kind: echo}]\n").start("up")
	for _, row := range []struct{ name, sent string }{
		{"a header that does not end", "GET /chat HTTP/1.1\r\nHost: localhost\r\nX-Slow: "},
		{"nothing at all", ""},
		{"a body that does not end", "POST /chat/c1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer " + s.token + "\r\nContent-Length: 1000\r\n\r\n{\"text\": "},
		{"a body that nobody reads and that does not end", "POST /chat/c1/stop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer " + s.token + "\r\nContent-Length: 1000\r\n\r\n{"},
		{"a body of one who is not let in", "POST /chat/c1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, row.sent); err != nil {
				t.Fatal(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(2 * peertest.Patience)); err != nil { // guards against a hang alone
				t.Fatal(err)
			}
			answer, err := io.ReadAll(bufio.NewReader(conn))
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the connection stays open")
			}
			if strings.HasPrefix(string(answer), "HTTP/1.1 2") {
				t.Errorf("it is answered: %s", answer)
			}
		})
	}
}

// TestForeignersAreRefused asks under names that are not ours and from pages of
// others, with a token that is right.
func TestForeignersAreRefused(t *testing.T) {
	t.Parallel()
	s := newWorld(t, "providers: [{name: echo, kind: echo}]\n").start("up")
	cookie := s.signIn(s.url, s.token)
	for _, row := range []struct {
		name, host string
		header     http.Header
		get, post  int // 0: anything but a refusal
	}{
		{"our own name", "", nil, 0, 0},
		{"our own page", "", http.Header{"Origin": {s.url}, "Sec-Fetch-Site": {"same-origin"}}, 0, 0},
		{"a foreign name", "evil.example", nil, http.StatusMisdirectedRequest, http.StatusMisdirectedRequest},
		{"a name that ends like ours", "localhost.evil.example", nil, http.StatusMisdirectedRequest, http.StatusMisdirectedRequest},
		{"no name", "_", nil, http.StatusMisdirectedRequest, http.StatusMisdirectedRequest},
		{"a page of another site", "", http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}, 0, http.StatusForbidden},
		{"a page of a neighbour", "", http.Header{"Origin": {"http://localhost:1"}, "Sec-Fetch-Site": {"same-site"}}, 0, http.StatusForbidden},
		{"an old browser on another site", "", http.Header{"Origin": {"https://evil.example"}}, 0, http.StatusForbidden},
		{"a page without an origin", "", http.Header{"Origin": {"null"}}, 0, http.StatusForbidden},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, r := range routes {
				request := s.asks(r.method(), r.path, r.body)
				request.Header.Del("Authorization")
				request.AddCookie(cookie)
				if r.path == "/logout" {
					continue // it would end the session of those after it
				}
				if row.host != "" {
					request.Host = row.host
				}
				for key, values := range row.header {
					request.Header[key] = values
				}
				want := row.get
				if r.method() == "POST" {
					want = row.post
				}
				status := look(t, request)
				refused := status == http.StatusForbidden && r.path != "/login" || status == http.StatusMisdirectedRequest || status == http.StatusUnauthorized && r.path != "/login"
				if want != 0 && status != want || want == 0 && refused {
					t.Errorf("%s %s answers %d, want %d", r.method(), r.path, status, want)
				}
			}
		})
	}
}

// TestTheCookieIsSecureWhereItCanBe signs in by password in every way that a request
// may come.
func TestTheCookieIsSecureWhereItCanBe(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	w := newWorld(t, fmt.Sprintf("public_url: https://runner.example.com\nhosts: [runner.lan]\nauth: {password_file: %q}\nproviders: [{name: echo, kind: echo}]\n", file))
	w.run("correct horse battery\n", "passwd")
	s := w.start("up")
	for _, row := range []struct {
		name, host, forwarded string
		secure                bool
	}{
		{"on this machine", "", "", false},
		{"in the LAN", "runner.lan", "", false},
		{"by the public name", "runner.example.com", "", true},
		{"through a proxy that says https", "runner.lan", "https", true},
		{"through a proxy that says http", "runner.lan", "http", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			ask := func(method, path, body string, cookies ...*http.Cookie) (int, []*http.Cookie) {
				r := s.asks(method, path, body)
				r.Header.Set("X-Forwarded-Proto", row.forwarded)
				if row.host != "" {
					r.Host = row.host
				}
				for _, c := range cookies {
					r.AddCookie(c)
				}
				status, header, _ := do(t, r)
				return status, (&http.Response{Header: header}).Cookies()
			}
			status, cookies := ask("POST", "/login", `{"password": "correct horse battery"}`)
			if status != http.StatusOK || len(cookies) != 1 {
				t.Fatalf("the login answers %d and sets %v", status, cookies)
			}
			c := cookies[0]
			if c.Secure != row.secure || strings.HasPrefix(c.Name, "__Host-") != row.secure {
				t.Errorf("the cookie %s is secure: %v", c.Name, c.Secure)
			}
			if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
				t.Errorf("the cookie is %s", c)
			}
			if status, _ := ask("GET", "/models", "", c); status != http.StatusOK {
				t.Errorf("with the cookie one gets %d", status)
			}
			if status, _ := ask("POST", "/logout", "", c); status != http.StatusOK {
				t.Errorf("signing out answers %d", status)
			}
			if status, _ := ask("GET", "/models", "", c); status != http.StatusUnauthorized {
				t.Errorf("who has signed out gets %d", status)
			}
		})
	}
}
