package notify

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"davidcockson.com/runner/internal/secret"
)

// canary stands in the path of every webhook of the tests.
const canary = "canary-7f3a"

const webhook = "https://discord.com/api/webhooks/123456789/" + canary

// exchange is one request as the fake Discord got it.
type exchange struct {
	method, target, agent, kind, body string
}

// fakeDiscord answers over pipes in place of Discord, in a test's own bubble.
type fakeDiscord struct {
	// answer writes what it likes and returns; the connection is closed then.
	answer func(c net.Conn, n int)
	// refuse, if set, fails the n-th dial.
	refuse func(n int) error

	group sync.WaitGroup // of the connections
	mu    sync.Mutex
	dials int
	got   []exchange
}

func (f *fakeDiscord) dial(context.Context, string, string) (net.Conn, error) {
	f.mu.Lock()
	f.dials++
	n := f.dials
	refuse := f.refuse
	f.mu.Unlock()
	if refuse != nil {
		if err := refuse(n); err != nil {
			return nil, err
		}
	}
	client, server := net.Pipe()
	f.group.Go(func() { f.serve(server, n) })
	return client, nil
}

func (f *fakeDiscord) serve(c net.Conn, n int) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	f.got = append(f.got, exchange{r.Method, r.RequestURI, r.UserAgent(), r.Header.Get("Content-Type"), string(body)})
	answer := f.answer
	f.mu.Unlock()
	answer(c, n)
}

// exchanges is what was asked so far.
func (f *fakeDiscord) exchanges() []exchange {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]exchange(nil), f.got...)
}

func (f *fakeDiscord) set(answer func(net.Conn, int)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// discord is a Discord whose connections lead to the fake, without TLS.
func (f *fakeDiscord) discord(t *testing.T) *Discord {
	t.Helper()
	d, err := NewDiscord(secret.New(webhook), "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	d.webhook = secret.New(strings.Replace(d.webhook.Reveal(), "https://", "http://", 1))
	d.transport.DialContext = f.dial
	t.Cleanup(f.group.Wait)
	return d
}

// raw is an answer as it is written.
func raw(head, body string) func(net.Conn, int) {
	return func(c net.Conn, _ int) {
		fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body)
	}
}

// delivered confirms each message with an id of its own.
func delivered(c net.Conn, n int) { raw("200 OK", fmt.Sprintf(`{"id": "%d"}`, n))(c, n) }

// recorded is an answer from testdata. The lines at its head that say where it is
// from are left out.
func recorded(t *testing.T, name string) func(net.Conn, int) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".http"))
	if err != nil {
		t.Fatal(err)
	}
	for bytes.HasPrefix(data, []byte("# ")) {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	head, body, _ := strings.Cut(string(data), "\n\n")
	return raw(strings.ReplaceAll(strings.TrimPrefix(head, "HTTP/1.1 "), "\n", "\r\n"), body)
}
