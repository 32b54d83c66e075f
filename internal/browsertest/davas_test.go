package browsertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"davidcockson.com/runner/internal/peertest"
)

// davas is a model server that speaks Ollama's API, with the bytes that a real one
// (0.24.0) was seen to send. It does what the test says.
type davas struct {
	t       *testing.T
	address string
	// calls holds the prompts that wait for the test to answer.
	calls chan *call

	mu     sync.Mutex
	server *http.Server // nil while it sleeps
	loaded map[string]bool
	// names are the models, replies what is said at once to a prompt that contains
	// the key; gate, while it is not nil, holds up loads until it is closed.
	names   []string
	replies map[string][]string
	gate    chan struct{}
}

// call is a prompt that waits for its answer.
type call struct {
	prompt string // its last message
	system string // its system prompt, "" for none
	// gone is closed when the one who asked has gone.
	gone <-chan struct{}
	// pieces are lines of the answer; closed at its end.
	pieces chan any
}

func newDavas(t *testing.T) *davas {
	t.Helper()
	d := &davas{t: t, address: peertest.Address(t), calls: make(chan *call, 16), loaded: make(map[string]bool), names: []string{"gemma3:12b", "small:1b"}, replies: make(map[string][]string)}
	d.wake()
	t.Cleanup(d.sleep)
	return d
}

// wake makes it answer.
func (d *davas) wake() {
	d.t.Helper()
	l, err := net.Listen("tcp", d.address)
	if err != nil {
		d.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"version":"0.24.0"}`) })
	mux.HandleFunc("GET /api/tags", func(w http.ResponseWriter, _ *http.Request) { d.list(w, false) })
	mux.HandleFunc("GET /api/ps", func(w http.ResponseWriter, _ *http.Request) { d.list(w, true) })
	mux.HandleFunc("POST /api/show", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"model_info":{"general.architecture":"llama","llama.context_length":32768}}`)
	})
	mux.HandleFunc("POST /api/chat", d.chat)
	server := &http.Server{Handler: mux}
	d.mu.Lock()
	d.server = server
	d.mu.Unlock()
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			d.t.Errorf("the model server: %v", err)
		}
	}()
}

// sleep makes it refuse connections and breaks those that are open.
func (d *davas) sleep() {
	d.mu.Lock()
	server := d.server
	d.server = nil
	d.mu.Unlock()
	if server != nil {
		_ = server.Close() // a listener's error leaves nothing behind
	}
}

// slow holds up loads until the returned function is called.
func (d *davas) slow() (load func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	gate := make(chan struct{})
	d.gate = gate
	return sync.OnceFunc(func() { close(gate) })
}

// answer says pieces at once to each prompt that contains some words.
func (d *davas) answer(words string, pieces ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.replies[words] = pieces
}

func (d *davas) list(w http.ResponseWriter, loaded bool) {
	type model struct {
		Name   string `json:"name"`
		Size   int64  `json:"size"`
		Digest string `json:"digest"`
	}
	all := struct {
		Models []model `json:"models"`
	}{[]model{}}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, name := range d.names {
		if !loaded || d.loaded[name] {
			all.Models = append(all.Models, model{name, 8_149_190_253 / int64(1+6*i), fmt.Sprintf("%064x", i+1)})
		}
	}
	_ = json.NewEncoder(w).Encode(all) // who asked may have gone
}

// words is a line of an answer.
type words struct {
	Content  string `json:"content"`
	Thinking string `json:"thinking,omitempty"`
}

func (d *davas) chat(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Model    string
		Messages []struct{ Role, Content string }
		Options  struct {
			NumCtx int `json:"num_ctx"`
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, `{"error":"json"}`, http.StatusBadRequest)
		return
	}
	if len(asked.Messages) == 0 {
		d.load(w, r.Context(), asked.Model)
		return
	}
	all := ""
	for _, m := range asked.Messages {
		all += m.Content + "\n"
	}
	system := ""
	if first := asked.Messages[0]; first.Role == "system" {
		system = first.Content
	}
	last := asked.Messages[len(asked.Messages)-1].Content
	out := json.NewEncoder(w)
	say := func(v any) {
		_ = out.Encode(v) // who asked may have gone
		_ = http.NewResponseController(w).Flush()
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	for piece := range d.pieces(r.Context(), system, last) {
		if _, ok := piece.(words); ok {
			piece = map[string]any{"model": asked.Model, "message": piece, "done": false}
		}
		say(piece)
		if _, ok := piece.(failure); ok {
			return
		}
	}
	if r.Context().Err() == nil {
		read := min(max(len(strings.Fields(all))+8, len(all)/4), asked.Options.NumCtx-2)
		say(map[string]any{"model": asked.Model, "message": words{}, "done": true, "done_reason": "stop", "prompt_eval_count": read, "eval_count": 42, "eval_duration": 2_100_000_000})
	}
}

// failure is what a server says that fails within an answer.
type failure struct {
	Error string `json:"error"`
}

func (d *davas) load(w http.ResponseWriter, ctx context.Context, model string) {
	d.mu.Lock()
	gate := d.gate
	d.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return
		}
	}
	d.mu.Lock()
	d.loaded[model] = true
	d.mu.Unlock()
	fmt.Fprintf(w, `{"model":%q,"message":{"role":"assistant","content":""},"done":true,"done_reason":"load"}`, model)
}

// pieces are what is answered to a prompt: at once, or as the test says.
func (d *davas) pieces(ctx context.Context, system, prompt string) <-chan any {
	c := &call{system: system, prompt: prompt, gone: ctx.Done(), pieces: make(chan any, 1024)}
	d.mu.Lock()
	for key, reply := range d.replies {
		if strings.Contains(prompt, key) {
			for piece := range slices.Values(reply) {
				c.say(piece)
			}
			c.end()
			d.mu.Unlock()
			return c.pieces
		}
	}
	d.mu.Unlock()
	d.calls <- c
	out := make(chan any)
	go func() {
		defer close(out)
		for {
			select {
			case piece, more := <-c.pieces:
				if !more {
					return
				}
				select {
				case out <- piece:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// next is the next prompt that waits for its answer.
func (d *davas) next() *call {
	d.t.Helper()
	select {
	case c := <-d.calls:
		return c
	case <-time.After(peertest.Patience):
		d.t.Fatal("never: the model server is asked")
		return nil
	}
}

func (c *call) say(text string)   { c.pieces <- words{Content: text} }
func (c *call) think(text string) { c.pieces <- words{Thinking: text} }
func (c *call) end()              { close(c.pieces) }
func (c *call) fail(text string)  { c.pieces <- failure{text} }
