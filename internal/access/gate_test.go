package access_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"davidcockson.com/runner/internal/access"
)

const (
	goodPassword = "canary-correct-horse"
	lanHost      = "runner.lan:8080"
	publicHost   = "runner.example.com"
)

// memory keeps sessions as a store does, and fails when told to or given up.
type memory struct {
	mu   sync.Mutex
	rows map[string]access.Session
	err  error
}

func newMemory() *memory { return &memory{rows: make(map[string]access.Session)} }

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) SaveSession(ctx context.Context, s access.Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := cmp.Or(m.err, ctx.Err())
	if err == nil {
		m.rows[s.Hash] = s
	}
	return err
}

func (m *memory) Session(ctx context.Context, hash string) (access.Session, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.rows[hash]
	err := cmp.Or(m.err, ctx.Err())
	return s, ok && err == nil, err
}

func (m *memory) TouchSession(ctx context.Context, hash string, seen, expires time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.rows[hash]
	err := cmp.Or(m.err, ctx.Err())
	if ok && err == nil {
		s.Seen, s.Expires = seen, expires
		m.rows[hash] = s
	}
	return err
}

func (m *memory) DeleteSession(ctx context.Context, hash string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := cmp.Or(m.err, ctx.Err())
	if err == nil {
		delete(m.rows, hash)
	}
	return err
}

// all returns the stored sessions.
func (m *memory) all() []access.Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []access.Session
	for s := range maps.Values(m.rows) {
		out = append(out, s)
	}
	return out
}

// syncBuffer is a log that handlers of several requests may write.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// rig is a gate and what stands around it.
type rig struct {
	t        *testing.T
	gate     *access.Gate
	handler  http.Handler
	sessions *memory
	log      *syncBuffer
	dir      string
}

// setup is how one test's gate is configured.
type setup func(*rig, *access.Options)

func withPassword(r *rig, o *access.Options) {
	o.PasswordFile = filepath.Join(r.dir, "password")
	r.write("password", quickHash(goodPassword)+"\n")
}

// withTokens makes a token file with one token, which it stores in *token.
func withTokens(token *string) setup {
	return func(r *rig, o *access.Options) {
		made, line, err := access.NewToken("phone")
		if err != nil {
			r.t.Fatal(err)
		}
		*token = made
		o.TokenFile = filepath.Join(r.dir, "tokens")
		r.write("tokens", line+"\n")
	}
}

func withNames(_ *rig, o *access.Options) {
	o.PublicURL = "https://" + publicHost
	o.Hosts = []string{"runner.lan"}
}

func withAccess(team *fakeTeam) setup {
	return func(_ *rig, o *access.Options) {
		o.Team, o.Aud = "myteam", "aud-tag"
		o.Client = &http.Client{Transport: team}
	}
}

// newRig wraps a handler that tells who it was called by. /login and /healthz are
// open.
func newRig(t *testing.T, setups ...setup) *rig {
	t.Helper()
	r := &rig{t: t, sessions: newMemory(), log: &syncBuffer{}, dir: t.TempDir()}
	o := access.Options{
		Listen:     lanHost,
		StateToken: filepath.Join(r.dir, "token"),
		Sessions:   r.sessions,
		Log:        slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, s := range setups {
		s(r, &o)
	}
	gate, err := access.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r.gate = gate
	inner := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if login := req.Header.Get("Test-Password"); login != "" {
			fmt.Fprintln(w, gate.Login(w, req, login))
			return
		}
		id := access.Who(req.Context())
		fmt.Fprintf(w, "in by %q %q", id.Kind, id.Email)
	})
	r.handler = gate.Wrap(inner, func(req *http.Request) bool {
		return req.URL.Path == "/login" || req.URL.Path == "/healthz"
	})
	return r
}

func (r *rig) write(name, content string) {
	r.t.Helper()
	// By a new file, as editors and runner passwd do.
	temp := filepath.Join(r.dir, name+".new")
	if err := errors.Join(os.WriteFile(temp, []byte(content), 0o600), os.Rename(temp, filepath.Join(r.dir, name))); err != nil {
		r.t.Fatal(err)
	}
}

// request is one by a program on the LAN, unless headers say otherwise. Host and
// peer are given as the headers "Host" and "Peer".
func request(method, target string, headers ...string) *http.Request {
	req := httptest.NewRequest(method, target, nil)
	req.Host = lanHost
	req.RemoteAddr = "192.0.2.7:5000"
	for i := 0; i < len(headers); i += 2 {
		switch name, value := headers[i], headers[i+1]; name {
		case "Host":
			req.Host = value
		case "Peer":
			req.RemoteAddr = value
		default:
			req.Header.Add(name, value)
		}
	}
	return req
}

func (r *rig) do(req *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	return w
}

// wantStatus sends a request and compares the status.
func (r *rig) wantStatus(want int, req *http.Request) *httptest.ResponseRecorder {
	r.t.Helper()
	w := r.do(req)
	if w.Code != want {
		r.t.Errorf("%s %s at %s: %d %s, want %d", req.Method, req.URL, req.Host, w.Code, strings.TrimSpace(w.Body.String()), want)
	}
	return w
}

// login logs in and returns the cookie, or the error.
func (r *rig) login(password string, headers ...string) (*http.Cookie, error) {
	r.t.Helper()
	w := httptest.NewRecorder()
	if err := r.gate.Login(w, request("POST", "/login", headers...), password); err != nil {
		return nil, err
	}
	return r.cookie(w), nil
}

func (r *rig) mustLogin(headers ...string) *http.Cookie {
	r.t.Helper()
	c, err := r.login(goodPassword, headers...)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) cookie(w *httptest.ResponseRecorder) *http.Cookie {
	r.t.Helper()
	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		r.t.Fatalf("%d cookies are set, want 1", len(cookies))
	}
	return cookies[0]
}

// asCookie is the header by which a browser sends a cookie back.
func asCookie(c *http.Cookie) string { return c.Name + "=" + c.Value }

// quickHash is the password file's form at the lowest cost, so that tests do not
// spend their time on Argon2.
func quickHash(password string) string {
	salt := []byte(password + "salt-of-a-test")[:16]
	hash := argon2.IDKey([]byte(password), salt, 1, 8, 1, 32)
	b64 := base64.RawStdEncoding.EncodeToString
	return "$argon2id$v=19$m=8,t=1,p=1$" + b64(salt) + "$" + b64(hash)
}
