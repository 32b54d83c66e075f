package roomtest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/queue"
)

// ways are those in which a server misbehaves: each tells in its answer all that it
// was told, for that is how keys get out.
var ways = []string{"401", "403", "404", "429", "500", "frame", "garbage", "redirect", "cut", "abort"}

// spiteful is every server on one address: the way is in the model's name, or for
// Discord and Langfuse in the path.
func spiteful(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		said := fmt.Sprintf("%s http://%s%s %v", r.Method, r.Host, r.RequestURI, r.Header)
		if strings.HasSuffix(r.URL.Path, "/models") && r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/fine") {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"object": "list", "data": [{"id": "m-401"}], "models": [{"name": "models/m-401", "supportedGenerationMethods": ["generateContent"]}]}`)
			return
		}
		way := "500"
		for _, one := range ways {
			if strings.Contains(r.URL.Path, "m-"+one) || bytes.Contains(body, []byte(`"m-`+one+`"`)) {
				way = one
			}
		}
		misbehave(w, r, way, said)
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

func misbehave(w http.ResponseWriter, r *http.Request, way, said string) {
	failure := fmt.Sprintf(`{"error": {"message": %q, "type": %[1]q, "code": %[1]q, "status": %[1]q}}`, said)
	switch way {
	case "frame":
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: %s\n\n", failure)
	case "garbage":
		io.WriteString(w, said)
	case "redirect":
		w.Header().Set("Location", "http://"+r.Host+"/elsewhere?said="+base64.URLEncoding.EncodeToString([]byte(said)))
		w.WriteHeader(http.StatusTemporaryRedirect)
	case "cut":
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, `data: {"choices": [{"index": 0, "delta": {"content": "some"}}], "candidates": [{"content": {"parts": [{"text": "some"}]}}]}`+"\n\n"+said)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case "abort":
		panic(http.ErrAbortHandler)
	default:
		status := 0
		fmt.Sscan(way, &status)
		w.Header().Set("X-Said", strings.ReplaceAll(said, "\n", " "))
		w.WriteHeader(status)
		io.WriteString(w, failure)
	}
}

// canaryWorld is a world in which all that can be secret is known to the test, and
// what was seen of it from outside.
type canaryWorld struct {
	*world
	s       *server
	secrets map[string]string // by what they are

	mu   sync.Mutex
	seen bytes.Buffer // what was answered
}

// record keeps what the control room answered, its headers too.
func (c *canaryWorld) record(r *http.Request) int {
	c.t.Helper()
	resp, err := plain.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body []byte
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		body = make([]byte, 64<<10)
		n, _ := resp.Body.Read(body) // its beginning
		body = body[:n]
	} else if body, err = io.ReadAll(resp.Body); err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(&c.seen, "%s %s: %d\n", r.Method, r.URL.Path, resp.StatusCode)
	for key, values := range resp.Header {
		if key != "Set-Cookie" { // that is how a session is given
			fmt.Fprintln(&c.seen, key, values)
		}
	}
	c.seen.Write(body)
	return resp.StatusCode
}

// TestNoSecretIsSeen drives chat and jobs through every way in which the servers that
// have our keys misbehave, asks every route in every form, in right ways and wrong,
// and searches all that came out and all that is kept.
func TestNoSecretIsSeen(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name     string
		password bool
		log      string
	}{
		{"with a password and tokens, logged as text", true, "log: text\nlog_level: debug\n"},
		{"with the login link, logged as JSON", false, "log: json\nlog_level: debug\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := newCanaryWorld(t, row.password, row.log)
			cookie := c.enter(row.password)
			conversations := c.chats()
			for _, header := range []http.Header{{}, {"Accept": {"text/html"}}, {"Accept": {"text/html"}, "Hx-Request": {"true"}}} {
				for _, way := range []string{"token", "cookie", "wrong token", "nothing"} {
					c.everyRoute(conversations[0], header, way, cookie)
				}
			}
			for _, id := range conversations {
				c.record(c.s.asks("GET", "/chat/"+id, ""))
				page := c.s.asks("GET", "/chat/"+id, "")
				page.Header.Set("Accept", "text/html")
				c.record(page)
			}
			c.search() // while the databases are open
			c.s.Terminate()
			c.search()
			for _, want := range []string{"wrong key", "some", "a ping was", "Langfuse"} {
				if !strings.Contains(c.seen.String()+c.s.Log.String(), want) {
					t.Errorf("nothing that was seen has %q: there was nothing to find", want)
				}
			}
		})
	}
}

func newCanaryWorld(t *testing.T, password bool, further string) *canaryWorld {
	o := spiteful(t)
	dir := t.TempDir()
	c := &canaryWorld{secrets: map[string]string{
		"the OpenAI key":    "sk-canary0openai0a1b2",
		"the Gemini key":    "AIzaCanary0gemini0c3d4",
		"the Langfuse key":  "sk-lf-canary0trace0e5",
		"the webhook's id":  "918273645546372819",
		"the webhook":       "canary0webhook0f6a7",
		"the password":      "canary0password0b8c9",
		"a wrong password":  "canary0guess0d0e1",
		"a wrong token":     "canary0bearer0f2a3",
		"a wrong link":      "canary0link0b4c5",
		"a foreign session": "canary0session0d6e7",
	}}
	text := further + "grace: 1s\ndeadlines: {connect: 1s, first_byte: 2s, silence: 2s}\nproviders:\n  - {name: echo, kind: echo}\n"
	for _, kind := range []string{"openai", "gemini"} {
		for _, list := range []string{"fine", "m-403", "m-garbage", "m-redirect"} {
			text += fmt.Sprintf("  - {name: %[1]s-%[2]s, kind: %[1]s, url: '%[3]s/%[2]s', api_key_env: CANARY_%[4]s, concurrency: 20, offline: fail}\n", kind, list, o.URL, strings.ToUpper(kind))
		}
	}
	text += fmt.Sprintf("discord: {webhook_env: CANARY_WEBHOOK}\nlangfuse: {host: %q, public_key: pk-lf-open, secret_key_env: CANARY_LANGFUSE}\n", o.URL)
	if password {
		text += fmt.Sprintf("auth: {password_file: %q, token_file: %q}\n", filepath.Join(dir, "password"), filepath.Join(dir, "tokens"))
	}
	c.world = newWorld(t, text, "CANARY_OPENAI="+c.secrets["the OpenAI key"], "CANARY_GEMINI="+c.secrets["the Gemini key"], "CANARY_LANGFUSE="+c.secrets["the Langfuse key"],
		fmt.Sprintf("CANARY_WEBHOOK=%s/api/webhooks/%s/%s", o.URL, c.secrets["the webhook's id"], c.secrets["the webhook"]))
	if password {
		c.run(c.secrets["the password"]+"\n", "passwd")
		c.secrets["the program's token"] = strings.TrimSpace(c.run("", "passwd", "--token", "program"))
	}
	c.s = c.start("up")
	if password {
		c.s.token = c.secrets["the program's token"]
	} else {
		c.secrets["the link's token"] = c.s.token
	}
	return c
}

// enter signs in, in wrong ways first.
func (c *canaryWorld) enter(password bool) *http.Cookie {
	for _, header := range []http.Header{{}, {"Accept": {"text/html"}}, {"Hx-Request": {"true"}}} {
		for _, r := range []*http.Request{
			c.s.asks("POST", "/login", fmt.Sprintf(`{"password": %q}`, c.secrets["a wrong password"])),
			c.s.asks("POST", "/login", fmt.Sprintf(`{"password": %q`, c.secrets["a wrong password"])), // is no JSON
			c.s.asks("GET", "/login?token="+c.secrets["a wrong link"], ""),
		} {
			r.Header.Del("Authorization")
			maps.Copy(r.Header, header)
			c.record(r)
		}
	}
	var cookie *http.Cookie
	peertest.Until(c.t, "the login is no longer delayed", nil, func() bool {
		r := c.s.asks("GET", "/login?token="+c.s.token, "")
		if password {
			r = c.s.asks("POST", "/login", fmt.Sprintf(`{"password": %q}`, c.secrets["the password"]))
		}
		r.Header.Del("Authorization")
		_, header, _ := do(c.t, r)
		if all := (&http.Response{Header: header}).Cookies(); len(all) == 1 {
			cookie = all[0]
		}
		return cookie != nil
	})
	c.secrets["the session"] = cookie.Value
	return cookie
}

// chats begins a conversation with each model in each way, follows it to its end, and
// has jobs do the same. It returns the conversations.
func (c *canaryWorld) chats() []string {
	var all []string
	var group sync.WaitGroup
	for _, name := range []string{"openai-fine", "gemini-fine", "openai-m-403"} {
		for _, way := range ways {
			id := name + "-" + way
			all = append(all, id)
			c.s.ask(http.StatusAccepted, "POST", "/chat/"+id+"/messages", fmt.Sprintf(`{"provider": %q, "model": "m-%s", "text": "hello"}`, name, way))
			r := c.s.follows(id)
			r.begin(c.t)
			group.Go(func() {
				r.await(c.t, "it ends", func() bool {
					return slices.ContainsFunc(r.names(), func(name string) bool { return strings.HasPrefix(name, "end ") })
				})
				c.mu.Lock()
				defer c.mu.Unlock()
				fmt.Fprintln(&c.seen, r.names(), r.has())
			})
			c.s.ask(http.StatusCreated, "POST", "/queue/jobs", fmt.Sprintf(`{"job_type": "text", "provider": %q, "model": "m-%s", "body": "hello %[1]s %[2]s"}`, name, way))
		}
	}
	group.Wait()
	c.s.until("the jobs have failed", func() bool {
		notes, err := filepath.Glob(filepath.Join(c.vault, queue.Failed, "*.md"))
		return err == nil && len(notes) == len(all)
	})
	return all
}

// everyRoute asks each route in one form, by one way in.
func (c *canaryWorld) everyRoute(conversation string, header http.Header, way string, cookie *http.Cookie) {
	for _, r := range routes {
		if r.path == "/logout" && way == "cookie" {
			continue
		}
		request := c.s.asks(r.method(), strings.ReplaceAll(r.path, "/talk", "/"+conversation), r.body)
		maps.Copy(request.Header, header)
		switch way {
		case "cookie":
			request.Header.Del("Authorization")
			request.AddCookie(cookie)
		case "wrong token":
			request.Header.Set("Authorization", "Bearer "+c.secrets["a wrong token"])
			request.AddCookie(&http.Cookie{Name: c.s.cookie(), Value: c.secrets["a foreign session"]})
		case "nothing":
			request.Header.Del("Authorization")
		}
		c.record(request)
	}
}

// search looks for the secrets in all that was answered, logged and is kept.
func (c *canaryWorld) search() {
	c.t.Helper()
	look := func(where string, data []byte) {
		for what, secret := range c.secrets {
			header := base64.StdEncoding.EncodeToString([]byte("pk-lf-open:" + secret))
			for _, form := range []string{secret, header[:len(header)-4], base64.StdEncoding.EncodeToString([]byte(secret))[:8+len(secret)/2]} {
				if i := bytes.Index(data, []byte(form)); i >= 0 {
					c.t.Errorf("%s is in %s: …%q…", what, where, data[max(0, i-200):min(len(data), i+60)])
				}
			}
		}
	}
	c.mu.Lock()
	look("what was answered", c.seen.Bytes())
	c.mu.Unlock()
	logged := c.s.Log.String()
	if link := roomSaid.FindString(logged); c.secrets["the link's token"] != "" && link != "" {
		logged = strings.Replace(logged, link, "", 1) // the line that is for the owner
	}
	look("the log", []byte(logged))
	for _, dir := range []string{c.vault, c.state} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			look("a file's name", []byte(path))
			if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() || path == filepath.Join(c.state, "token") {
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
			c.t.Fatal(err)
		}
	}
}
