package providertest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
)

// Reply writes an answer to one request, as bytes. The connection is closed
// behind it.
type Reply func(conn net.Conn)

// Request is a request as a server saw it.
type Request struct {
	*http.Request
	Body string
}

// Server plays a host: each connection is a pipe, each request is answered with
// the bytes that Handle chooses. It works inside a synctest bubble.
type Server struct {
	// Handle chooses the answer; nil refuses the request as a failure of the test.
	Handle func(Request) Reply
	t      testing.TB

	running sync.WaitGroup
	mu      sync.Mutex
	asked   []Request
}

// NewServer returns a server that waits for its connections by t.Cleanup.
func NewServer(t testing.TB, handle func(Request) Reply) *Server {
	s := &Server{Handle: handle, t: t}
	t.Cleanup(s.running.Wait)
	return s
}

// Dial opens a connection to the server, whatever the address.
func (s *Server) Dial(context.Context, string, string) (net.Conn, error) {
	client, conn := net.Pipe()
	s.running.Go(func() { s.serve(conn) })
	return client, nil
}

// Nobody is a Dial to a port where nobody listens.
func Nobody(context.Context, string, string) (net.Conn, error) {
	return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
}

// Asked are the requests so far.
func (s *Server) Asked() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.asked...)
}

func (s *Server) serve(conn net.Conn) {
	defer conn.Close()
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return // the client went away
	}
	data, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r := Request{req, string(data)}
	s.mu.Lock()
	s.asked = append(s.asked, r)
	s.mu.Unlock()
	reply := s.Handle(r)
	if reply == nil {
		s.t.Errorf("nothing to answer %s with", req.URL)
		return
	}
	reply(conn)
}

// Raw writes bytes as they are. That the client may have gone is no failure.
func Raw(data string) Reply {
	return func(conn net.Conn) { _, _ = io.WriteString(conn, data) }
}

// Made is a whole answer of the given status line, such as "200 OK", with
// further header lines, each ended by CRLF.
func Made(status, header, body string) Reply {
	return Raw(fmt.Sprintf("HTTP/1.1 %s\r\n%sConnection: close\r\nContent-Length: %d\r\n\r\n%s", status, header, len(body), body))
}

// Silence says nothing until the client goes away.
func Silence(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// HangUp closes the connection without an answer.
func HangUp(net.Conn) {}

// Then gives one answer after the other.
func Then(replies ...Reply) Reply {
	return func(conn net.Conn) {
		for _, reply := range replies {
			reply(conn)
		}
	}
}

// Quoted reads an answer that is quoted from elsewhere: lines that begin with #
// and say from where, then status line, header, an empty line and the body. Its
// header lacks what belongs to the connection, which ends the body.
func Quoted(t testing.TB, file string) Reply {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(data, []byte("# ")) {
		t.Fatalf("%s does not say where it is from", file)
	}
	for bytes.HasPrefix(data, []byte("#")) {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	head, body, found := bytes.Cut(data, []byte("\n\n"))
	if !found || !bytes.HasPrefix(head, []byte("HTTP/1.1 ")) {
		t.Fatalf("%s is not an answer", file)
	}
	head = bytes.ReplaceAll(head, []byte("\n"), []byte("\r\n"))
	return Raw(string(head) + "\r\nConnection: close\r\n\r\n" + string(body))
}
