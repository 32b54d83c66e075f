//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// proxyTarget is the variable that makes this test binary a bare reverse proxy.
const proxyTarget = "BENCH_PROXY_TARGET"

func TestMain(m *testing.M) {
	if target := os.Getenv(proxyTarget); target != "" {
		if err := runProxy(target); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runProxy prints its address and passes on. The request's body is read before: a
// proxy that still reads it when the answer begins may break the answer off.
func runProxy(target string) error {
	to, err := url.Parse(target)
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, FlushInterval: -1, // at once
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}} // a host may sleep: the product asks over a new connection each time too
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
}

// models is a fake model server: "say N PAUSE" is answered with N tokens, PAUSE
// nanoseconds after one another.
type models struct {
	*httptest.Server
	sent  atomic.Int64  // tokens
	begun chan struct{} // has one for each of the first answers whose first token was sent
}

// newModels starts one that tells of so many answers that they have begun.
func newModels(b *testing.B, answers int) *models {
	m := &models{begun: make(chan struct{}, answers)}
	m.Server = httptest.NewServer(m)
	b.Cleanup(func() { m.CloseClientConnections(); m.Close() })
	return m
}

// protocol is how a kind of provider speaks: where it is asked, what is told of its
// models, and the form of its pieces.
type protocol struct {
	kind, ask    string
	told         map[string]string // by path
	header       string
	piece, ended string
}

func protocols() []protocol {
	return []protocol{
		{kind: "openai", ask: "/chat/completions", header: "text/event-stream",
			told:  map[string]string{"/models": `{"object": "list", "data": [{"id": "fake", "object": "model"}]}`},
			piece: `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"fake","choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}` + "\n\n",
			ended: `data: {"id":"chatcmpl-1","model":"fake","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":4000,"completion_tokens":1}}` + "\n\ndata: [DONE]\n\n"},
		{kind: "ollama", ask: "/api/chat", header: "application/x-ndjson",
			told: map[string]string{"/api/tags": `{"models": [{"name": "fake:latest", "size": 1, "digest": "d1"}]}`, "/api/ps": `{"models": []}`, "/api/version": `{"version": "0.12.0"}`,
				"/api/show": `{"model_info": {"general.architecture": "llama", "llama.context_length": 8192}}`},
			piece: `{"model":"fake","created_at":"2024-01-01T00:00:00.000000000Z","message":{"role":"assistant","content":" token"},"done":false}` + "\n",
			ended: `{"model":"fake","created_at":"2024-01-01T00:00:00.000000000Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":4000,"eval_count":1,"eval_duration":1}` + "\n"},
	}
}

func (m *models) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for _, p := range protocols() {
		if told, ok := p.told[r.URL.Path]; ok {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, told)
		} else if r.URL.Path == p.ask {
			m.answer(w, r, p)
		}
	}
}

func (m *models) answer(w http.ResponseWriter, r *http.Request, p protocol) {
	var asked struct{ Messages []struct{ Content string } }
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, "not understood", http.StatusBadRequest)
		return
	}
	if len(asked.Messages) == 0 { // how Ollama is told to load a model
		io.WriteString(w, `{"model": "fake", "done": true, "done_reason": "load"}`)
		return
	}
	var n int
	var pause time.Duration
	if _, err := fmt.Sscanf(asked.Messages[len(asked.Messages)-1].Content, "say %d %d", &n, &pause); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", p.header)
	flush := http.NewResponseController(w).Flush
	tick := time.NewTicker(max(pause, 1))
	defer tick.Stop()
	for i := range n {
		if pause > 0 {
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
		if _, err := io.WriteString(w, p.piece); err != nil || flush() != nil {
			return
		}
		m.sent.Add(1)
		if i == 0 {
			select {
			case m.begun <- struct{}{}:
			default: // nobody asked for more
			}
		}
	}
	io.WriteString(w, p.ended)
}

// postModel asks a model server, or a proxy before it, and returns the stream.
func postModel(ctx context.Context, base string, p protocol, prompt string) (io.ReadCloser, error) {
	body := fmt.Sprintf(`{"model": "fake", "stream": true, "messages": [{"role": "user", "content": %q}]}`, prompt)
	req, err := http.NewRequestWithContext(ctx, "POST", base+p.ask, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("the model server answers %s", resp.Status)
	}
	return resp.Body, nil
}

// askModel is how long the first piece takes.
func askModel(ctx context.Context, base string, p protocol, prompt string) (time.Duration, error) {
	began := time.Now()
	body, err := postModel(ctx, base, p, prompt)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	events := newEvents(body)
	if err := events.until(p.piece[:6]); err != nil {
		return 0, err
	}
	took := time.Since(began)
	_, err = io.Copy(io.Discard, events.lines) // so that the connection is used again
	return took, err
}

// events reads an event stream.
type events struct{ lines *bufio.Reader }

func newEvents(stream io.Reader) *events { return &events{bufio.NewReader(stream)} }

// until reads to the line that begins in some way.
func (e *events) until(begin string) error {
	for {
		line, err := e.lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("read to %q: %w", begin, err)
		}
		if strings.HasPrefix(line, begin) {
			return nil
		}
	}
}
