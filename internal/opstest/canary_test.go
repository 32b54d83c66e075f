package opstest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"davidcockson.com/runner/internal/queue"
)

// The secrets, which no more than their own requests may carry.
var canaries = map[string]string{
	"the OpenAI key by variable": "sk-canary0env0b1d2f3",
	"the OpenAI key by file":     "sk-canary0file0c4e5",
	"the Gemini key by file":     "AIzaCanary0gemini0d6f7",
	"the Langfuse secret":        "sk-lf-canary0trace0e8a9",
	"the webhook's id":           "918273645546372819",
	"the webhook's token":        "canary0webhook0f0b1c2",
}

// The ways in which a server misbehaves. Each tells in its answer, where it gives
// one, all that it was told: that is how keys get into logs.
var ways = []string{"401", "403", "404", "400", "429", "500", "frame", "garbage", "redirect", "cut", "hang", "abort"}

// spiteful misbehaves in one of the ways.
func spiteful(w http.ResponseWriter, r *http.Request, way, elsewhere string) {
	said := fmt.Sprintf("%s %s://%s%s %v", r.Method, "http", r.Host, r.RequestURI, r.Header)
	body := fmt.Sprintf(`{"error": {"message": %q, "type": %[1]q, "code": %[1]q, "status": %[1]q}}`, said)
	switch way {
	case "frame": // an error within a stream
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: %s\n\n", body)
	case "garbage":
		io.WriteString(w, said)
	case "redirect":
		w.Header().Set("Location", elsewhere+r.RequestURI+"?said="+base64.URLEncoding.EncodeToString([]byte(said))+"&key="+r.Header.Get("Authorization")+r.Header.Get("X-Goog-Api-Key"))
		w.WriteHeader(http.StatusTemporaryRedirect)
		io.WriteString(w, said)
	case "cut":
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, `data: {"choices": [{"delta": {"content": "some"}}], "candidates": [{"content": {"parts": [{"text": "some"}]}}]}`+"\n\n"+said)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case "hang": // for longer than the providers' deadlines
		select {
		case <-r.Context().Done():
		case <-time.After(3 * time.Second):
		}
		panic(http.ErrAbortHandler)
	case "abort":
		panic(http.ErrAbortHandler)
	default:
		status := 0
		fmt.Sscan(way, &status)
		w.Header().Set("X-Said", strings.ReplaceAll(said, "\n", " "))
		if way == "429" {
			w.Header().Set("Retry-After", "0")
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// outside is all servers on one address, by the first parts of the path:
// /openai/LIST and /gemini/LIST, of which LIST is how the list of models is given;
// all else is Langfuse or Discord. elsewhere is where redirects lead.
type outside struct {
	*httptest.Server
	elsewhere         string
	discord, langfuse atomic.Int64 // how often they were asked
	discordWays       []string     // one for each request, the last for all later
}

func newOutside(t *testing.T, discordWays ...string) *outside {
	o := &outside{discordWays: discordWays}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all := fmt.Sprint(r.Header)
		for what, canary := range canaries {
			if strings.Contains(all, canary) {
				t.Errorf("a redirect took %s to another server", what)
			}
		}
		spiteful(w, r, "500", "")
	}))
	o.elsewhere = other.URL
	o.Server = httptest.NewServer(o)
	t.Cleanup(func() {
		for _, s := range []*httptest.Server{o.Server, other} {
			s.CloseClientConnections()
			s.Close()
		}
	})
	return o
}

func (o *outside) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	switch {
	case parts[0] == "openai" || parts[0] == "gemini":
		way := parts[1]
		if r.Method == http.MethodPost {
			way = asked(r.URL.Path, string(body))
		}
		if way == "fine" {
			list(w, parts[0])
			return
		}
		spiteful(w, r, way, o.elsewhere)
	case strings.Contains(r.URL.Path, "/webhooks/"):
		n := int(o.discord.Add(1)) - 1
		spiteful(w, r, o.discordWays[min(n, len(o.discordWays)-1)], o.elsewhere)
	default:
		n := int(o.langfuse.Add(1)) - 1
		spiteful(w, r, ways[n%len(ways)], o.elsewhere)
	}
}

// asked is the way that the model of a call names.
func asked(path, body string) string {
	for _, way := range ways {
		if strings.Contains(path, "/m-"+way+":") || strings.Contains(body, `"m-`+way+`"`) {
			return way
		}
	}
	return "500"
}

func list(w http.ResponseWriter, kind string) {
	var ids, names []string
	for _, way := range ways {
		ids = append(ids, fmt.Sprintf(`{"id": "m-%s", "object": "model"}`, way))
		names = append(names, fmt.Sprintf(`{"name": "models/m-%s", "supportedGenerationMethods": ["generateContent"]}`, way))
	}
	w.Header().Set("Content-Type", "application/json")
	if kind == "openai" {
		fmt.Fprintf(w, `{"object": "list", "data": [%s]}`, strings.Join(ids, ","))
		return
	}
	fmt.Fprintf(w, `{"models": [%s]}`, strings.Join(names, ","))
}

// canaryWorld is a world in which everything that can be secret is a canary, and
// every server is o. With all, there are also providers that cannot list models.
func canaryWorld(t *testing.T, o *outside, further string, all bool) *world {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	openai := file("openai", canaries["the OpenAI key by file"])
	gemini := file("gemini", canaries["the Gemini key by file"])
	langfuse := file("langfuse", canaries["the Langfuse secret"])
	var b strings.Builder
	b.WriteString(further)
	b.WriteString("concurrency: 40\ngrace: 1s\ndeadlines: {connect: 1s, first_byte: 1s, silence: 1s}\nproviders:\n  - {name: echo, kind: echo}\n")
	provider := func(name, kind, how, key string) {
		fmt.Fprintf(&b, "  - {name: %s, kind: %s, url: '%s/%s/%s', %s, concurrency: 20, offline: fail}\n", name, kind, o.URL, kind, how, key)
	}
	provider("env", "openai", "fine", "api_key_env: CANARY_OPENAI")
	provider("file", "openai", "fine", "api_key_file: '"+openai+"'")
	provider("gem", "gemini", "fine", "api_key_file: '"+gemini+"'")
	if all {
		for _, way := range ways {
			provider("openai-"+way, "openai", way, "api_key_env: CANARY_OPENAI")
			provider("gemini-"+way, "gemini", way, "api_key_file: '"+gemini+"'")
		}
	}
	fmt.Fprintf(&b, "discord: {webhook_env: CANARY_WEBHOOK}\nlangfuse: {host: '%s', public_key: pk-lf-open, secret_key_file: '%s'}\n", o.URL, langfuse)
	fmt.Fprintf(&b, "services: {qdrant: '%s', searxng: '%[1]s'}\n", o.URL)
	return newWorld(t, b.String(), "CANARY_OPENAI="+canaries["the OpenAI key by variable"],
		fmt.Sprintf("CANARY_WEBHOOK=%s/api/webhooks/%s/%s", o.URL, canaries["the webhook's id"], canaries["the webhook's token"]))
}

// TestNoSecretGetsOut drives jobs through every way in which the servers that have
// our keys can misbehave, asks the program in every way what became of them, and
// searches all that it made.
func TestNoSecretGetsOut(t *testing.T) {
	sessions := []struct {
		name, log string
		discord   []string
		// models asks every provider in every way; else there are two jobs.
		models bool
		// said must be in what the program said: else there was nothing to find.
		said []string
	}{
		{"every provider in every way", "log: text\nlog_level: debug\n", []string{"400"}, true, []string{"wrong key", "m-redirect", "runner_jobs_total", "a ping was given up", "Langfuse"}},
		{"Discord redirects", "log: json\nlog_level: debug\n", []string{"redirect"}, false, []string{"a ping was not delivered"}},
		{"Discord fails", "log: text\n", []string{"500"}, false, []string{"a ping was not delivered"}},
		{"Discord hangs up", "log: json\n", []string{"abort"}, false, []string{"a ping was not delivered"}},
		{"Discord has no such webhook", "log: json\nlog_level: debug\n", []string{"404"}, false, []string{"pings are not sent any more"}},
		{"Discord takes no more", "log: text\n", []string{"400", "429"}, false, []string{"a ping was not delivered"}},
		{"Discord says something else", "log: text\n", []string{"garbage"}, false, []string{"a ping was not delivered"}},
	}
	for i, session := range sessions {
		t.Run(session.name, func(t *testing.T) {
			t.Parallel()
			o := newOutside(t, session.discord...)
			o.langfuse.Store(int64(2 * i)) // another way first in each
			asked := o.langfuse.Load()
			w := canaryWorld(t, o, session.log, session.models)
			s := w.serve()
			n := 0
			drop := func(provider, model string) {
				w.drop(provider+" "+model+".md", fmt.Sprintf("---\njob_type: text\nprovider: %s\nmodel: %s\n---\nHello %[1]s %[2]s.\n", provider, model))
				n++
			}
			drop("echo", "echo")
			drop("echo", "cut")
			if session.models {
				for _, way := range ways {
					for _, provider := range []string{"env", "file", "gem", "openai-" + way, "gemini-" + way} {
						drop(provider, "m-"+way)
					}
				}
			}
			w.until("all jobs end", s.Log.String, func() bool { return w.count(queue.Completed)+w.count(queue.Failed) == n })
			w.until("Discord and Langfuse were asked, and it is said", s.Log.String, func() bool {
				return o.discord.Load() >= int64(len(session.discord)) && o.langfuse.Load() > asked && strings.Contains(s.Log.String(), session.said[len(session.said)-1])
			})
			s.askAll()
			report(t, w.search()) // while the ledger is open
			s.stop()
			report(t, w.search())
			if got := w.count(queue.Completed); got != 1 {
				t.Errorf("%d jobs are completed", got)
			}
			for _, said := range session.said {
				if !strings.Contains(w.made.String(), said) {
					t.Errorf("nothing of what it said has %q", said)
				}
			}
		})
	}
}

func report(t *testing.T, hits []string) {
	t.Helper()
	for _, hit := range hits {
		t.Error(hit)
	}
}

// TestTheSearchFindsWhatIsThere hides each secret where the search must find it.
func TestTheSearchFindsWhatIsThere(t *testing.T) {
	for what, canary := range canaries {
		for _, hide := range []struct {
			where string
			do    func(w *world) error
		}{
			{"a note", func(w *world) error {
				return os.WriteFile(filepath.Join(w.vault, queue.Failed, "a.md"), []byte("error: "+canary+"\n"), 0o600)
			}},
			{"a file of the ledger", func(w *world) error {
				return os.WriteFile(filepath.Join(w.state, "ledger.db-wal"), []byte("\x00\x01"+canary+"\x00"), 0o600)
			}},
			{"what it said", func(w *world) error { _, err := w.made.WriteString("level=ERROR " + canary); return err }},
			{"what it said, as a header", func(w *world) error {
				_, err := w.made.WriteString("Basic " + base64.StdEncoding.EncodeToString([]byte("pk-lf-open:"+canary)))
				return err
			}},
		} {
			w := newWorld(t, echo)
			if err := os.MkdirAll(w.state, 0o700); err != nil {
				t.Fatal(err)
			}
			if hits := w.search(); len(hits) > 0 {
				t.Fatal(hits)
			}
			if err := hide.do(w); err != nil {
				t.Fatal(err)
			}
			if hits := w.search(); len(hits) == 0 {
				t.Errorf("%s is not found in %s", what, hide.where)
			}
		}
	}
}

// askAll asks the program everything that it can be asked.
func (s *server) askAll() {
	w := s.w
	for _, path := range []string{"/metrics", "/health", "/healthz"} {
		s.get(path)
	}
	for _, args := range [][]string{{"list"}, {"list", "--json"}, {"check"}} {
		w.run(args...)
	}
	ids := regexp.MustCompile(`"id": *"([^"]+)"`).FindAllStringSubmatch(w.run("list", "--json"), -1)
	if len(ids) == 0 {
		w.t.Error("no job is listed")
	}
	for _, id := range ids {
		if shown := w.run("show", "--json", id[1]); !strings.Contains(shown, id[1]) {
			w.t.Errorf("show %s says %s", id[1], shown)
		}
	}
	notes, err := filepath.Glob(filepath.Join(w.vault, queue.Failed, "*.md"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, note := range notes[:min(3, len(notes))] {
		w.run("check", note)
	}
}

// search looks for the secrets in the vault, the state folder and what was said.
func (w *world) search() (hits []string) {
	look := func(where string, data []byte) {
		for what, canary := range canaries {
			// The whole groups of a Basic header, which end in the midst of the secret.
			header := base64.StdEncoding.EncodeToString([]byte("pk-lf-open:" + canary))
			for _, form := range []string{canary, header[:len(header)-4]} {
				if i := bytes.Index(data, []byte(form)); i >= 0 {
					hits = append(hits, fmt.Sprintf("%s is in %s: …%q…", what, where, data[max(0, i-200):min(len(data), i+60)]))
				}
			}
		}
	}
	for _, dir := range []string{w.vault, w.state} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			look("a file's name", []byte(path))
			if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
				return nil
			}
			data, err := os.ReadFile(path)
			look(path, data)
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a temporary one
			}
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	look("what the program said", w.made.Bytes())
	return hits
}
