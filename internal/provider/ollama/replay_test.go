package ollama

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/wire"
)

// reply writes an answer to one request, as bytes. The connection is closed
// behind it.
type reply func(conn net.Conn)

// server plays a host: each connection is a pipe, each request is answered with
// recorded or made-up bytes. It works inside a synctest bubble.
type server struct {
	t *testing.T
	// replies by what is asked: "tags", "ps", "show", "version", "load", "ask".
	replies map[string]reply
	// byModel replaces the reply to what is asked of one model.
	byModel map[string]reply

	running sync.WaitGroup

	mu    sync.Mutex
	asked []exchange
}

// exchange is a request as the server saw it.
type exchange struct {
	what   string
	header http.Header
	last   bool // the connection serves no further request
	body   string
}

// newServer answers as the recorded server did.
func newServer(t *testing.T) *server {
	s := &server{t: t, byModel: map[string]reply{}, replies: map[string]reply{
		"tags":    recorded(t, "tags"),
		"ps":      recorded(t, "ps"),
		"show":    recorded(t, "show"),
		"version": recorded(t, "version"),
		"load":    recorded(t, "load"),
		"ask":     recorded(t, "whole"),
	}}
	t.Cleanup(s.running.Wait)
	return s
}

// provider returns a provider whose connections all lead here.
func (s *server) provider(t *testing.T, change func(*Config)) *Provider {
	t.Helper()
	config := Config{Name: "davas", URL: "http://canary.example:11434", Deadlines: provider.DefaultDeadlines(), Version: "1.2.3"}
	if change != nil {
		change(&config)
	}
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	p.client.Transport = wire.NewTransport(config.Deadlines.Connect, func(context.Context, string, string) (net.Conn, error) {
		client, conn := net.Pipe()
		s.running.Go(func() { s.serve(conn) })
		return client, nil
	})
	return p
}

func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return // the client went away
	}
	data, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	var body struct {
		Model    string
		Messages []json.RawMessage
	}
	if len(data) > 0 {
		if err := json.Unmarshal(data, &body); err != nil {
			s.t.Errorf("the body %q is not JSON: %v", data, err)
		}
	}
	what, ok := strings.CutPrefix(req.URL.Path, "/api/")
	if !ok {
		s.t.Errorf("a request for %s, outside of the native API", req.URL.Path)
	}
	switch {
	case what == "chat" && body.Messages == nil:
		what = "load"
	case what == "chat":
		what = "ask"
	}
	s.mu.Lock()
	s.asked = append(s.asked, exchange{what, req.Header, req.Close, string(data)})
	answer, ok := s.byModel[what+" "+body.Model]
	if !ok {
		answer = s.replies[what]
	}
	s.mu.Unlock()
	if answer == nil {
		s.t.Errorf("nothing to answer %s with", req.URL.Path)
		return
	}
	answer(conn)
}

// bodies are those of all requests of one sort.
func (s *server) bodies(what string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var bodies []string
	for _, e := range s.asked {
		if e.what == what {
			bodies = append(bodies, e.body)
		}
	}
	return bodies
}

func recording(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".http"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func recorded(t *testing.T, name string) reply { return raw(recording(t, name)) }

// raw writes bytes as they are. That the client may have gone is no failure.
func raw(data []byte) reply {
	return func(conn net.Conn) { _, _ = conn.Write(data) }
}

// made is an answer that no real server was brought to give.
func made(status, contentType, body string) reply {
	return raw(fmt.Appendf(nil, "HTTP/1.1 %s\r\nContent-Type: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		status, contentType, len(body), body))
}

// stream is a made-up streamed answer, ended by the end of the connection.
func stream(lines ...string) reply {
	return raw([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n" + strings.Join(lines, "\n") + "\n"))
}

// silence says nothing until the client goes away.
func silence(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// then gives one answer after the other.
func then(replies ...reply) reply {
	return func(conn net.Conn) {
		for _, answer := range replies {
			answer(conn)
		}
	}
}

// hangUp closes the connection without an answer.
func hangUp(net.Conn) {}

// chunked is the head of a recorded stream with its first n chunks.
func chunked(t *testing.T, name string, n int) reply {
	t.Helper()
	data := recording(t, name)
	end := bytes.Index(data, []byte("\r\n\r\n")) + 4
	for range n {
		next := bytes.Index(data[end:], []byte("}\n\r\n"))
		if next < 0 {
			t.Fatalf("%s has not %d chunks", name, n)
		}
		end += next + 4
	}
	return raw(data[:end])
}
