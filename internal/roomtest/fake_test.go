package roomtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// models is a fake model server. Who asks it "say NAME" gets the pieces that the
// test gives to the script of that name, as they are given.
type models struct {
	*httptest.Server
	gone chan struct{} // closed at the end of the test

	mu      sync.Mutex
	scripts map[string]*script
	calls   map[string]int // by the script's name
	order   []string       // the scripts in the order in which they were asked for
	busy    map[string]int // how many further calls of a script are refused with 503
}

// script is one answer: its pieces so far, and whether that is all. Every call for
// it gets all of them from the beginning.
type script struct {
	mu      sync.Mutex
	pieces  []string
	whole   bool
	changed chan struct{} // closed when there is more
	ended   int           // calls whose reader went before the end
	// onSent, where it is set, is called after each piece, which is sent by itself.
	onSent func(n int)
}

func newModels(t *testing.T) *models {
	m := &models{gone: make(chan struct{}), scripts: make(map[string]*script), calls: make(map[string]int), busy: make(map[string]int)}
	m.Server = httptest.NewServer(m)
	t.Cleanup(func() {
		close(m.gone)
		m.CloseClientConnections()
		m.Close()
	})
	return m
}

// provider is the server as a line of the configuration's providers.
func (m *models) provider(name string, concurrency int) string {
	return fmt.Sprintf("  - {name: %s, kind: openai, url: '%s', concurrency: %d, offline: fail, models: [{name: one}, {name: two}]}\n", name, m.URL, concurrency)
}

func (m *models) script(name string) *script {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.scripts[name]
	if s == nil {
		s = &script{changed: make(chan struct{})}
		m.scripts[name] = s
	}
	return s
}

// asked is how often a script was asked for.
func (m *models) asked(name string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[name]
}

// refuses has the next calls of a script refused with 503.
func (m *models) refuses(name string, calls int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy[name] = calls
}

// asksSeen are the scripts in the order in which they were asked for.
func (m *models) asksSeen() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.order)
}

// give adds pieces to a script.
func (s *script) give(pieces ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pieces = append(s.pieces, pieces...)
	close(s.changed)
	s.changed = make(chan struct{})
}

// eachSent has f called with the number of each piece that was sent, from 1.
func (s *script) eachSent(f func(n int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onSent = f
}

// finish says that no further piece follows.
func (s *script) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whole = true
	close(s.changed)
	s.changed = make(chan struct{})
}

// text is what the script has said so far.
func (s *script) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.pieces, "")
}

// cut is how many calls were ended by who asked.
func (s *script) cut() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// numbered are the pieces from one number to before another.
func numbered(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("w%d ", i))
	}
	return all
}

func (m *models) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/models") {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"object": "list", "data": [{"id": "one", "object": "model"}, {"id": "two", "object": "model"}]}`)
		return
	}
	var asked struct {
		Model    string
		Messages []struct{ Role, Content string }
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || len(asked.Messages) == 0 {
		http.Error(w, "not understood", http.StatusBadRequest)
		return
	}
	_, name, _ := strings.Cut(asked.Messages[len(asked.Messages)-1].Content, "say ")
	name, _, _ = strings.Cut(strings.TrimSpace(name), "\n")
	s := m.script(name)
	m.mu.Lock()
	m.calls[name]++
	m.order = append(m.order, name)
	busy := m.busy[name] > 0
	if busy {
		m.busy[name]--
	}
	m.mu.Unlock()
	if busy {
		http.Error(w, `{"error": {"message": "no room"}}`, http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	read := 0
	for _, message := range asked.Messages {
		read += 7 + len(message.Content)/3
	}
	if !s.play(w, r, asked.Model, read, m.gone) {
		s.mu.Lock()
		s.ended++
		s.mu.Unlock()
	}
}

// play sends the pieces as they are given, to the end or until the reader goes.
func (s *script) play(w http.ResponseWriter, r *http.Request, model string, read int, gone <-chan struct{}) (whole bool) {
	flush := w.(http.Flusher).Flush
	next := 0
	for {
		s.mu.Lock()
		pieces, done, changed, onSent := s.pieces[next:], s.whole, s.changed, s.onSent
		s.mu.Unlock()
		for _, piece := range pieces {
			frame, err := json.Marshal(map[string]any{"id": "1", "object": "chat.completion.chunk", "model": model,
				"choices": []any{map[string]any{"index": 0, "delta": map[string]string{"content": piece}}}})
			if err != nil {
				panic(err)
			}
			if _, err := fmt.Fprintf(w, "data: %s\n\n", frame); err != nil {
				return false
			}
			next++
			if onSent != nil {
				flush()
				onSent(next)
			}
		}
		flush()
		if done {
			fmt.Fprintf(w, `data: {"id": "1", "object": "chat.completion.chunk", "model": %q, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}`+"\n\n", model)
			fmt.Fprintf(w, `data: {"id": "1", "object": "chat.completion.chunk", "model": %q, "choices": [], "usage": {"prompt_tokens": %d, "completion_tokens": %d, "total_tokens": %d}}`+"\n\n", model, read, next, read+next)
			io.WriteString(w, "data: [DONE]\n\n")
			return true
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return false
		case <-gone:
			return false
		}
	}
}
