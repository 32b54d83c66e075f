package roomtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A thousand readers of twenty conversations. In two of them half a hundred each
// never read, and the answers are long, for they must fill what lies between.
const (
	conversations = 20
	longOnes      = 2
	slowEach      = 50 // of a long one
	besideSlow    = 9  // who read as fast as they can, of a long one
	readersEach   = 49 // of the others
	floodPieces   = 200
	longPiece     = 2 << 10 // bytes
	mostMemory    = 128 << 20
)

// flood is the server, the model server and the readers.
type flood struct {
	t *testing.T
	m *models
	s *server
	// pieces are those of each conversation's answer.
	pieces [conversations][]string

	readers []*fastReader
	slow    []*slowReader
	ends    []func()
}

// fill makes the answers: pieces with numbers.
func (f *flood) fill() {
	for i := range f.pieces {
		f.pieces[i] = numbered(0, floodPieces)
		for n := range f.pieces[i] {
			if i < longOnes {
				f.pieces[i][n] += strings.Repeat(".", longPiece)
			}
		}
	}
}

// fastReader reads the conversation of that number.
type fastReader struct {
	*follower
	number int
}

// slowReader opens a stream and does not read it.
type slowReader struct {
	*follower
	conn net.Conn
}

// TestAThousandReaders has a thousand streams open on the program as it is released,
// of which a hundred never read, while all conversations go on.
func TestAThousandReaders(t *testing.T) {
	t.Parallel()
	binary := buildRelease(t)
	f := &flood{t: t, m: newModels(t)}
	f.m.Config.SetKeepAlivesEnabled(false)
	w := newWorld(t, "providers:\n"+f.m.provider("fake", conversations))
	w.binary = binary
	f.s = w.start("up")
	f.warm()
	goroutines := f.s.gauge("go_goroutines")

	f.fill()
	for i := range conversations {
		f.s.say(talk(i), talk(i))
	}
	f.open()
	f.caps()
	opened := f.s.descriptors()
	f.play()
	f.s.until("those who never read are cut", func() bool { return f.s.descriptors() <= opened-len(f.slow) })
	f.resume()
	for i := range conversations {
		f.m.script(talk(i)).finish()
	}
	for _, r := range f.readers {
		r.await(t, "the end is told", func() bool { return r.saw("end stop") })
	}
	for i, r := range f.readers {
		if r.took() != len(r.full) || r.resets != 1 {
			t.Errorf("reader %d has %d bytes of %d, and was told %d times to forget what it had", i, r.took(), len(r.full), r.resets)
		}
	}
	for i := range conversations {
		if got := f.m.asked(talk(i)); got != 1 {
			t.Errorf("conversation %d was asked %d times", i, got)
		}
		if got := f.s.answer(talk(i)); got.Text != strings.Join(f.pieces[i], "") || got.State != "done" {
			t.Errorf("conversation %d keeps an answer %s of %d bytes", i, got.State, len(got.Text))
		}
	}
	for _, end := range f.ends {
		end()
	}
	f.s.until("all goroutines are gone", func() bool { return f.s.gauge("go_goroutines") <= goroutines })
	most := f.s.memory("VmHWM")
	t.Logf("most memory with %d streams: %d MiB; goroutines: %v", len(f.readers)+len(f.slow), most>>20, goroutines)
	if most > mostMemory {
		t.Errorf("the server held %d MiB", most>>20)
	}
	f.s.Terminate()
}

// buildRelease builds the program as it is released.
func buildRelease(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "runner")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", binary, "davidcockson.com/runner/cmd/runner")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	return binary
}

func talk(i int) string { return fmt.Sprintf("talk-%d", i) }

// warm has everything done once that is kept ready after.
func (f *flood) warm() {
	f.m.script("warm").give("warm")
	f.m.script("warm").finish()
	f.s.say("warm", "warm")
	r := f.s.follows("warm")
	end := r.begin(f.t)
	r.await(f.t, "the end is told", func() bool { return r.saw("end stop") })
	end()
	f.s.until("the stream is closed", func() bool { return f.s.gauge("go_goroutines") == f.s.gauge("go_goroutines") })
}

// open opens all streams, and waits until each has begun.
func (f *flood) open() {
	for i := range conversations {
		full, readers := strings.Join(f.pieces[i], ""), readersEach
		if i < longOnes {
			readers = besideSlow
			for range slowEach {
				f.slow = append(f.slow, f.openSlow(talk(i), full))
			}
		}
		for range readers {
			r := &fastReader{f.s.follows(talk(i)), i}
			r.full = full
			f.readers = append(f.readers, r)
			f.ends = append(f.ends, r.begin(f.t))
		}
	}
	for _, r := range f.readers {
		r.await(f.t, "it has begun", func() bool { return r.saw("reset") })
	}
}

// openSlow opens a stream over a connection with small buffers: as over a radio
// link, not as on one machine.
func (f *flood) openSlow(id, full string) *slowReader {
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096), unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 536))
		}), err)
	}}
	conn, err := dialer.DialContext(f.t.Context(), "tcp", strings.TrimPrefix(f.s.url, "http://"))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	if err := f.s.asks("GET", "/chat/"+id+"/stream", "").Write(conn); err != nil {
		f.t.Fatal(err)
	}
	r := f.s.follows(id)
	r.full = full
	return &slowReader{r, conn}
}

// caps opens what is still allowed, and wants the next to be refused.
func (f *flood) caps() {
	t, s := f.t, f.s
	cookie := s.signIn(s.url, s.token)
	status := func(r *http.Request) (int, func()) {
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := plain.Do(r.WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusOK { // it has begun
			if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		return resp.StatusCode, func() { cancel(); resp.Body.Close() }
	}
	bySession := func() *http.Request {
		r := s.asks("GET", "/stream", "")
		r.Header.Del("Authorization")
		r.AddCookie(cookie)
		return r
	}
	var closers []func()
	open := func(n int, request func() *http.Request, what string) {
		for i := range n {
			code, end := status(request())
			closers = append(closers, end)
			if code != http.StatusOK {
				t.Fatalf("stream %d of %s answers %d", i+1, what, code)
			}
		}
		code, end := status(request())
		end()
		if code != http.StatusServiceUnavailable {
			t.Errorf("one more stream of %s answers %d", what, code)
		}
	}
	open(64, bySession, "a session")
	open(1100-1000-64, func() *http.Request { return s.asks("GET", "/stream", "") }, "all")
	for _, end := range closers {
		end()
	}
	s.until("a stream may be opened again", func() bool {
		code, end := status(bySession())
		end()
		return code == http.StatusOK
	})
}

// play has all conversations go on piece by piece: a piece is made when each reader
// has the one before, so that what nobody reads hinders nobody.
func (f *flood) play() {
	var made [conversations]int
	for n := range floodPieces {
		for i := range conversations {
			f.m.script(talk(i)).give(f.pieces[i][n])
			made[i] += len(f.pieces[i][n])
		}
		for _, r := range f.readers {
			r.await(f.t, fmt.Sprintf("piece %d is there", n), func() bool { return r.took() == made[r.number] })
		}
	}
}

// resume lets those who were cut read what they had got, and come back.
func (f *flood) resume() {
	var group sync.WaitGroup
	for _, r := range f.slow {
		group.Go(func() {
			resp, err := http.ReadResponse(bufio.NewReader(r.conn), nil)
			if err != nil {
				return // not even the beginning came
			}
			if err := r.consume(resp.Body); errors.Is(err, io.EOF) && r.took() == len(r.full) {
				f.t.Error("one who never read got all: it was not cut")
			}
		})
	}
	group.Wait()
	for _, r := range f.slow {
		f.ends = append(f.ends, r.begin(f.t))
	}
	for _, r := range f.slow {
		r.await(f.t, "who was cut has all", func() bool { return r.took() == len(r.full) })
	}
}

// gauge is a figure of /metrics.
func (s *server) gauge(name string) float64 {
	s.t.Helper()
	status, _, text := do(s.t, must(http.NewRequestWithContext(s.t.Context(), "GET", s.ops+"/metrics", nil)))
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(text)
	if status != http.StatusOK || found == nil {
		s.t.Fatalf("/metrics answers %d without %s", status, name)
	}
	return must(strconv.ParseFloat(found[1], 64))
}

// must is a value that cannot fail to be made here.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// descriptors is how many files and sockets the server has open.
func (s *server) descriptors() int {
	s.t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(all)
}

// memory is a line of /proc/PID/status in bytes.
func (s *server) memory(key string) int64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	found := regexp.MustCompile(key + `:\s+(\d+) kB`).FindSubmatch(text)
	if found == nil {
		s.t.Fatalf("/proc has no %s", key)
	}
	return must(strconv.ParseInt(string(found[1]), 10, 64)) << 10
}

// signIn follows the login link at one of the server's addresses, and returns the
// session's cookie.
func (s *server) signIn(base, token string) *http.Cookie {
	s.t.Helper()
	resp, err := plain.Do(must(http.NewRequestWithContext(s.t.Context(), "GET", base+"/login?token="+token, nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther || len(resp.Cookies()) != 1 {
		s.t.Fatalf("the link answers %d and sets %v", resp.StatusCode, resp.Cookies())
	}
	return resp.Cookies()[0]
}
