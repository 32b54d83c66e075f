package roomtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"davidcockson.com/runner/internal/peertest"
)

// plain has no pool: what a test opens is gone with its answer.
var plain = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true, ExpectContinueTimeout: peertest.Patience},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// do sends a request and reads all of the answer.
func do(t testing.TB, r *http.Request) (int, http.Header, string) {
	t.Helper()
	resp, err := plain.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	return resp.StatusCode, resp.Header, string(data)
}

// ask asks the control room and wants a status.
func (s *server) ask(want int, method, path, body string) string {
	s.t.Helper()
	status, _, text := do(s.t, s.asks(method, path, body))
	if status != want {
		s.t.Fatalf("%s %s answers %d, want %d: %s", method, path, status, want, text)
	}
	return text
}

// say asks in a conversation for a script.
func (s *server) say(conversation, script string) {
	s.t.Helper()
	s.ask(http.StatusAccepted, "POST", "/chat/"+conversation+"/messages", fmt.Sprintf(`{"text": "say %s"}`, script))
}

// message is a message of a conversation as JSON.
type message struct {
	Turn, Version                     int
	Role, Text, State, Reason, Advice string
	Written                           int
	Trace                             string
}

// messages are those of a conversation.
func (s *server) messages(conversation string) []message {
	s.t.Helper()
	var got struct{ Messages []message }
	if err := json.Unmarshal([]byte(s.ask(http.StatusOK, "GET", "/chat/"+conversation, "")), &got); err != nil {
		s.t.Fatal(err)
	}
	return got.Messages
}

// answered waits until nothing runs in a conversation.
func (s *server) answered(conversation string) {
	s.t.Helper()
	s.until("the conversation "+conversation+" is answered", func() bool {
		var got struct {
			Running  bool
			Messages []message
		}
		if err := json.Unmarshal([]byte(s.ask(http.StatusOK, "GET", "/chat/"+conversation, "")), &got); err != nil {
			s.t.Fatal(err)
		}
		return !got.Running && len(got.Messages) > 0
	})
}

// answer is the last message of a conversation, which must be an answer.
func (s *server) answer(conversation string) message {
	s.t.Helper()
	all := s.messages(conversation)
	if len(all) == 0 || all[len(all)-1].Role != "assistant" {
		s.t.Fatalf("the conversation %s ends with no answer: %+v", conversation, all)
	}
	return all[len(all)-1]
}

// event is one event of a stream.
type event struct {
	ID, Name, Data string
	Turn           int
	Text, End      string
}

// follower reads the stream of a conversation, as a program does. It is safe for
// concurrent use.
type follower struct {
	url    string
	header http.Header
	client *http.Client

	mu     sync.Mutex
	text   strings.Builder
	lastID string
	events []string // their names, text left out
	resets int
	status int
	// full, where it is set, is all that is to come: then what came is compared with
	// it and not kept, and at is how much of it was.
	full    string
	at      int
	answer  http.Header
	changed chan struct{}
}

// follows makes a reader of a conversation that has seen nothing.
func (s *server) follows(conversation string) *follower {
	return newFollower(s.url+"/chat/"+conversation+"/stream", s.token)
}

func newFollower(url, token string) *follower {
	f := &follower{url: url, header: make(http.Header), client: plain, changed: make(chan struct{})}
	if token != "" {
		f.header.Set("Authorization", "Bearer "+token)
	}
	return f
}

// read reads until the stream ends, which it says by an error, or ctx does.
func (f *follower) read(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, "GET", f.url, nil)
	if err != nil {
		return err
	}
	r.Header = f.header.Clone()
	f.mu.Lock()
	if f.lastID != "" {
		r.Header.Set("Last-Event-ID", f.lastID)
	}
	f.mu.Unlock()
	resp, err := f.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f.mu.Lock()
	f.status, f.answer = resp.StatusCode, resp.Header
	f.mu.Unlock()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return f.consume(resp.Body)
}

// consume reads events until the stream ends.
func (f *follower) consume(stream io.Reader) error {
	lines := bufio.NewReader(stream)
	var e event
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimSuffix(line, "\n")
		switch field, value, _ := strings.Cut(line, ": "); field {
		case "id":
			e.ID = value
		case "event":
			e.Name = value
		case "data":
			e.Data += value
		}
		if line == "" {
			if err := f.take(e); err != nil {
				return err
			}
			e = event{}
		}
	}
}

func (f *follower) take(e event) error {
	if e.Data != "" {
		if err := json.Unmarshal([]byte(e.Data), &e); err != nil {
			return fmt.Errorf("%s: %w: %s", e.Name, err, e.Data)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.ID != "" {
		f.lastID = e.ID
	}
	switch {
	case e.Name == "text" && f.full != "":
		if !strings.HasPrefix(f.full[f.at:], e.Text) {
			return fmt.Errorf("after %d bytes came %.40q, want %.40q", f.at, e.Text, f.full[f.at:])
		}
		f.at += len(e.Text)
	case e.Name == "text":
		f.text.WriteString(e.Text)
	case e.Name == "reset":
		f.text.Reset()
		f.at = 0
		f.resets++
	}
	if e.Name != "text" && e.Name != "" {
		f.events = append(f.events, strings.TrimSpace(e.Name+" "+e.End))
	}
	close(f.changed)
	f.changed = make(chan struct{})
	return nil
}

// has is the text so far.
func (f *follower) has() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.String()
}

// took is how much of what is to come has come, in bytes.
func (f *follower) took() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

// saw says whether there was such an event: its name, and how the answer ended.
func (f *follower) saw(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.events, name)
}

// names are those of all events but text.
func (f *follower) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.events)
}

// await waits until cond holds, which is looked at after each event.
func (f *follower) await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), peertest.Patience)
	defer cancel()
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			f.mu.Lock()
			defer f.mu.Unlock()
			t.Fatalf("never: %s; status %d, events %v, text %q", what, f.status, f.events, tail(f.text.String(), 200))
		}
	}
}

// begin reads in the background until end is called, which waits for it.
func (f *follower) begin(t testing.TB) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.read(ctx) // the test looks at what came
	}()
	end = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(end)
	return end
}
