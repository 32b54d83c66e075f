package roomtest

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/sqlite"
)

// route is a route of the control room, with an address of it and what is posted.
type route struct{ pattern, path, body string }

// routes are all that there are. In the addresses JOB is a job that has ended and
// talk a conversation with an answer.
var routes = []route{
	{"GET /{$}", "/", ""},
	{"GET /chat", "/chat", ""},
	{"GET /chat/{conversation}", "/chat/talk", ""},
	{"GET /chat/{conversation}/messages", "/chat/talk/messages?before=5", ""},
	{"GET /chat/{conversation}/stream", "/chat/talk/stream", ""},
	{"POST /chat/{conversation}/messages", "/chat/talk/messages", `{"text": "say more"}`},
	{"POST /chat/{conversation}/turns/{turn}/again", "/chat/talk/turns/1/again", `{}`},
	{"POST /chat/{conversation}/stop", "/chat/talk/stop", `{}`},
	{"POST /chat/{conversation}/settings", "/chat/talk/settings", `{"title": "another"}`},
	{"POST /chat/{conversation}/delete", "/chat/talk/delete", `{}`},
	{"POST /chat/{conversation}/undelete", "/chat/talk/undelete", `{}`},
	{"GET /conversations", "/conversations", ""},
	{"GET /models", "/models", ""},
	{"GET /stream", "/stream", ""},
	{"GET /queue", "/queue?state=failed&more=1", ""},
	{"GET /queue/stream", "/queue/stream", ""},
	{"GET /queue/active", "/queue/active", ""},
	{"GET /queue/recent", "/queue/recent?limit=5", ""},
	{"GET /queue/jobs/{job}", "/queue/jobs/JOB", ""},
	{"POST /queue/jobs", "/queue/jobs", `{"job_type": "text", "body": "say more"}`},
	{"POST /queue/jobs/{job}/retry", "/queue/jobs/JOB/retry", `{}`},
	{"POST /queue/jobs/{job}/cancel", "/queue/jobs/JOB/cancel", `{}`},
	{"GET /health", "/health", ""},
	{"GET /health/stream", "/health/stream", ""},
	{"GET /healthz", "/healthz", ""},
	{"GET /metrics", "/metrics", ""},
	{"GET /login", "/login", ""},
	{"POST /login", "/login", `{"password": "not the password"}`},
	{"POST /logout", "/logout", `{}`},
	{"GET /static/", "/static/app.js", ""},
	{"/", "/nowhere", ""},
}

func (r route) method() string {
	method, _, found := strings.Cut(r.pattern, " ")
	if !found {
		return "GET"
	}
	return method
}

func (r route) open() bool { return r.path == "/healthz" || r.path == "/login" }

// TestNoRouteIsForgotten reads the patterns out of the product's source.
func TestNoRouteIsForgotten(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "web", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	pattern := regexp.MustCompile(`(?:page|Handle|HandleFunc)\(\s*"((?:[A-Z]+ )?/[^"]*)"`)
	known := make(map[string]bool)
	for _, r := range routes {
		known[r.pattern] = true
	}
	found := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range pattern.FindAllStringSubmatch(string(text), -1) {
			found++
			if !known[match[1]] {
				t.Errorf("%s has the route %q, which is not in the table of this test", file, match[1])
			}
			delete(known, match[1])
		}
		if served := regexp.MustCompile(`\.Handle(Func)?\(`).FindAllString(string(text), -1); filepath.Base(file) != "app.go" && len(served) > 0 {
			t.Errorf("%s serves routes, which only app.go may", file)
		}
	}
	for pattern := range known {
		t.Errorf("there is no route %q any more", pattern)
	}
	if found < 20 {
		t.Fatalf("only %d routes were found", found)
	}
}

const accessConfig = "public_url: https://runner.example.com\naccess: {team: example, aud: 0123456789abcdef}\n"

// noNet keeps a process from reaching Access's keys, at once.
const noNet = "HTTPS_PROXY=http://127.0.0.1:1"

// TestNobodyGetsIn asks every route in every way without a session, token or JWT.
func TestNobodyGetsIn(t *testing.T) {
	t.Parallel()
	for _, config := range []struct {
		name, text string
		password   bool
		// tunnel is what is answered where a request comes as from the tunnel.
		tunnel int
	}{
		{"with nothing configured", "", false, http.StatusUnauthorized},
		{"with a password and tokens", "", true, http.StatusUnauthorized},
		{"with Access", accessConfig, false, http.StatusForbidden},
		{"with Access, a password and tokens", accessConfig, true, http.StatusForbidden},
	} {
		t.Run(config.name, func(t *testing.T) {
			t.Parallel()
			m := newModels(t)
			text := config.text
			dir := t.TempDir()
			if config.password {
				text += fmt.Sprintf("auth: {password_file: %q, token_file: %q}\n", filepath.Join(dir, "password"), filepath.Join(dir, "tokens"))
			}
			w := newWorld(t, text+"providers:\n"+m.provider("fake", 1), noNet)
			if config.password {
				w.run("correct horse battery\n", "passwd")
				w.run("", "passwd", "--token", "program")
			}
			s := w.start("up")
			n := before(t, s)
			for name, front := range n.fronts(s) {
				want := http.StatusUnauthorized
				if config.text != "" && !config.password {
					want = http.StatusForbidden // only the public name is a way in
				}
				tunnel := name == "as cloudflared comes"
				if tunnel {
					want = config.tunnel
				}
				for _, r := range routes {
					for what, header := range strangers {
						refused(t, s, front, name+", "+what, r, header, want, tunnel && config.text != "")
					}
				}
			}
			if got := m.asked("more"); got != 0 {
				t.Errorf("the model was asked %d times", got)
			}
			if notes, _ := filepath.Glob(filepath.Join(w.vault, queue.Waiting, "*")); len(notes) > 0 {
				t.Errorf("the queue has %v", notes)
			}
		})
	}
}

// strangers are the headers of those who must not get in; NAME is the cookie's.
var strangers = map[string]http.Header{
	"with nothing":                  {},
	"with a wrong token":            {"Authorization": {"Bearer AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}},
	"with a wrong cookie":           {"Cookie": {"NAME=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; __Host-NAME=AAAA"}},
	"with a name that nobody gave":  {"Cf-Access-Authenticated-User-Email": {"owner@example.com"}, "X-Forwarded-User": {"owner"}, "X-Forwarded-For": {"127.0.0.1"}},
	"with a JWT that nobody signed": {"Cf-Access-Jwt-Assertion": {"eyJhbGciOiJub25lIn0.eyJhdWQiOiIwMTIzNDU2Nzg5YWJjZGVmIn0."}},
}

// refused asks one route and wants a refusal, except where the route is open.
func refused(t *testing.T, s *server, front, how string, r route, header http.Header, want int, tunnel bool) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), r.method(), front+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(request.Header, header)
	if cookie := header.Get("Cookie"); cookie != "" {
		request.Header.Set("Cookie", strings.ReplaceAll(cookie, "NAME", s.cookie()))
	}
	request.Header.Set("Content-Type", "application/json")
	status, _, body := do(t, request)
	accept := []int{want}
	switch {
	case r.open() && !tunnel && (r.path == "/healthz" || r.method() == "GET"):
		accept = []int{http.StatusOK, http.StatusServiceUnavailable}
		if len(header.Values("Cf-Access-Authenticated-User-Email"))+len(header.Values("Cf-Access-Jwt-Assertion")) > 0 {
			accept = append(accept, http.StatusForbidden) // whoever comes with Access's headers has to prove it
		}
	case r.path == "/login": // a wrong password, or one that was not tried
		accept = []int{http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusForbidden}
	case header.Get("Cf-Access-Jwt-Assertion") != "" || header.Get("Cf-Access-Authenticated-User-Email") != "":
		accept = []int{http.StatusUnauthorized, http.StatusForbidden}
	}
	if !slices.Contains(accept, status) {
		t.Errorf("%s: %s %s answers %d, want one of %v: %s", how, r.method(), r.path, status, accept, body)
	}
	if r.open() && status == http.StatusOK && r.path == "/healthz" && len(body) > 10 {
		t.Errorf("%s: /healthz tells more than a word: %s", how, body)
	}
}

// TestGetChangesNothing reads everything, in every form, and compares what there was
// before with what there is after.
func TestGetChangesNothing(t *testing.T) {
	t.Parallel()
	m := newModels(t)
	m.script("hello").give("hello")
	m.script("hello").finish()
	w := newWorld(t, "providers:\n"+m.provider("fake", 4))
	s := w.start("up")
	s.say("talk", "hello")
	s.until("the answer is there", func() bool { return len(s.messages("talk")) == 2 })
	w.drop("well.md", "---\njob_type: text\n---\nsay hello\n")
	w.drop("wrong.md", "---\njob_type: nonsense\n---\nsay hello\n")
	w.drop("draft.md", "---\njob_type: text\ndraft: true\n---\nsay hello\n")
	s.until("the notes have come to their ends", func() bool {
		return slices.Equal(w.rows(t, "ledger.db", "SELECT settled FROM jobs"), []string{"1", "1"})
	})
	job := regexp.MustCompile(`"id": *"([^"]+)"`).FindStringSubmatch(s.ask(http.StatusOK, "GET", "/queue/recent", ""))
	if job == nil {
		t.Fatal("no job is listed")
	}
	before := w.everything(t)
	calls := m.asked("hello")
	for _, r := range routes {
		for form, header := range map[string]http.Header{
			"a program":       {},
			"JSON":            {"Accept": {"application/json"}},
			"a page":          {"Accept": {"text/html"}},
			"a page's script": {"Accept": {"text/html"}, "Hx-Request": {"true"}},
		} {
			request := s.asks("GET", strings.Replace(r.path, "JOB", job[1], 1), "")
			maps.Copy(request.Header, header)
			status := look(t, request)
			switch {
			case r.method() == "GET" && r.pattern != "/" && status >= 400:
				t.Errorf("GET %s for %s answers %d", r.path, form, status)
			case r.method() != "GET" && !slices.ContainsFunc(routes, func(other route) bool { return other.method() == "GET" && other.path == r.path }) && status < 400 && r.path != "/chat/talk/messages":
				t.Errorf("GET %s, a route for POST, answers %d", r.path, status)
			}
		}
	}
	after := w.everything(t)
	for _, what := range slices.Sorted(maps.Keys(after)) {
		if before[what] != after[what] {
			t.Errorf("%s was\n%s\nand is\n%s", what, before[what], after[what])
		}
	}
	for what := range before {
		if _, is := after[what]; !is {
			t.Errorf("%s is gone", what)
		}
	}
	if got := m.asked("hello"); got != calls {
		t.Errorf("the model was asked %d times for a look", got-calls)
	}
	s.Terminate()
}

// look reads a page, or the beginning of a stream.
func look(t *testing.T, r *http.Request) int {
	t.Helper()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	resp, err := plain.Do(r.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		_, err = resp.Body.Read(make([]byte, 1))
	} else {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// everything is all that is kept: each file of the vault, each row of both
// databases.
func (w *world) everything(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(w.vault, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		all[path] = fmt.Sprintf("%x, of %s", sha256.Sum256(data), info.ModTime())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range migrations {
		db := w.open(t, name)
		for table, rows := range dump(t, db.Read) {
			all[name+" "+table] = rows
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// migrations are those of the databases, by file name.
var migrations = map[string][]string{"ledger.db": ledger.Migrations(), "history.db": history.Migrations()}

// open opens a database to be read.
func (w *world) open(t *testing.T, name string) *sqlite.DB {
	t.Helper()
	db, err := sqlite.OpenReadOnly(t.Context(), filepath.Join(w.state, name), len(migrations[name]))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// rows are what a query finds in a database, each as one text.
func (w *world) rows(t *testing.T, name, query string, args ...any) []string {
	t.Helper()
	db := w.open(t, name)
	defer db.Close()
	return texts(t, db.Read, query, args...)
}

// dump is the rows of each table.
func dump(t *testing.T, db *sql.DB) map[string]string {
	t.Helper()
	tables := make(map[string]string)
	for _, table := range texts(t, db, "SELECT name FROM sqlite_schema WHERE type = 'table'") {
		tables[table] = strings.Join(texts(t, db, fmt.Sprintf("SELECT * FROM %q", table)), "\n")
	}
	return tables
}

// texts are the rows of a query, each as one text.
func texts(t *testing.T, db *sql.DB, query string, args ...any) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(sql.NullString)
		}
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		var row []string
		for _, v := range values {
			row = append(row, v.(*sql.NullString).String)
		}
		all = append(all, strings.Join(row, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
