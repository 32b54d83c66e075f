package roomtest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"davidcockson.com/runner/internal/peertest"
)

// nginx is a real one before a control room, with a server for each way in which it
// may pass requests on.
type nginx struct {
	t      *testing.T
	config string
	program,
	bare, forwarding, cloudflared string // addresses
	process *peertest.Process
}

// before starts nginx before a control room.
func before(t *testing.T, s *server) *nginx {
	t.Helper()
	n := &nginx{t: t, program: peertest.Need(t, "nginx"), bare: peertest.Address(t), forwarding: peertest.Address(t), cloudflared: peertest.Address(t)}
	text, err := os.ReadFile(filepath.Join("testdata", "nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	filled := strings.NewReplacer("%DIR%", dir, "%ROOM%", strings.TrimPrefix(s.url, "http://"),
		"%BARE%", n.bare, "%FORWARDING%", n.forwarding, "%CLOUDFLARED%", n.cloudflared).Replace(string(text))
	n.config = filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(n.config, []byte(filled), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	return n
}

func (n *nginx) start() {
	n.t.Helper()
	args := []string{"-c", n.config, "-e", "stderr"}
	if os.Geteuid() == 0 {
		args = append(args, "-g", "user root;") // else it cannot enter the test's folder
	}
	cmd := exec.Command(n.program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	n.process = peertest.Start(n.t, cmd)
	peertest.Until(n.t, "nginx listens", n.process.Log.String, func() bool {
		conn, err := net.Dial("tcp", n.cloudflared) // the last that it listens on
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// kill ends nginx with its workers, at once.
func (n *nginx) kill() {
	n.t.Helper()
	if err := syscall.Kill(-n.process.Cmd.Process.Pid, syscall.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	peertest.Until(n.t, "nginx ends by SIGKILL", nil, n.process.Ended)
}

// fronts are all ways to a control room, by name.
func (n *nginx) fronts(s *server) map[string]string {
	return map[string]string{"directly": s.url, "by a bare proxy_pass": "http://" + n.bare,
		"by nginx with forwarding headers": "http://" + n.forwarding, "as cloudflared comes": "http://" + n.cloudflared}
}

// TestNginxHoldsNothingBack has the model server wait after its first piece until a
// reader behind nginx, who asks for gzip, has it.
func TestNginxHoldsNothingBack(t *testing.T) {
	t.Parallel()
	m := newModels(t)
	s := newWorld(t, "providers:\n"+m.provider("fake", 9)).start("up")
	n := before(t, s)
	for name, front := range n.fronts(s) {
		t.Run(name, func(t *testing.T) {
			id := strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), "_", "-")
			answer := m.script(id)
			s.say(id, id)
			f := newFollower(front+"/chat/"+id+"/stream", s.token)
			f.header.Set("Accept-Encoding", "gzip")
			f.begin(t)
			for i := range 20 {
				answer.give(numbered(i, i+1)...)
				f.await(t, fmt.Sprintf("piece %d is there before the next is made", i), func() bool { return f.has() == answer.text() })
			}
			answer.finish()
			f.await(t, "the end is told", func() bool { return f.saw("end stop") })
			if got := f.answer.Get("Content-Encoding"); got != "" {
				t.Errorf("the stream is compressed: %s", got)
			}
			if got := f.answer.Get("Content-Type"); got != "text/event-stream" {
				t.Errorf("the stream is %s", got)
			}
		})
	}
	t.Run("pages and files are compressed", func(t *testing.T) {
		for _, path := range []string{"/static/app.css", "/queue"} {
			r := s.asks("GET", path, "")
			r.URL.Host = n.forwarding
			r.Header.Set("Accept-Encoding", "gzip")
			r.Header.Set("Accept", "text/html")
			if status, header, _ := do(t, r); status != http.StatusOK || header.Get("Content-Encoding") != "gzip" {
				t.Errorf("%s answers %d with the encoding %q", path, status, header.Get("Content-Encoding"))
			}
		}
	})
}

// TestAKilledNginxLosesNothing kills nginx in the midst of an answer, again and
// again: who comes back by the last id gets every piece once.
func TestAKilledNginxLosesNothing(t *testing.T) {
	t.Parallel()
	m := newModels(t)
	s := newWorld(t, "providers:\n"+m.provider("fake", 1)).start("up")
	n := before(t, s)
	answer := m.script("long")
	s.say("c1", "long")
	f := newFollower("http://"+n.forwarding+"/chat/c1/stream", s.token)
	const rounds, each = 5, 30
	for round := range rounds {
		ended := make(chan error, 1)
		go func() { ended <- f.read(t.Context()) }()
		for i := range each { // one after another, so that there are as many events
			answer.give(numbered(round*each*2+i, round*each*2+i+1)...)
			f.await(t, "what was made is there", func() bool { return f.has() == answer.text() })
		}
		n.kill()
		if err := <-ended; err == nil {
			t.Fatal("the stream did not break off")
		}
		answer.give(numbered(round*each*2+each, (round+1)*each*2)...) // while nobody reads
		n.start()
	}
	answer.finish()
	f.begin(t)
	f.await(t, "the end is told", func() bool { return f.saw("end stop") })
	if got := f.has(); got != answer.text() {
		t.Errorf("the reader has\n%s\nwant\n%s", got, answer.text())
	}
	if f.resets != 1 { // the one that begins it
		t.Errorf("the reader was told %d times to forget what it had", f.resets)
	}
	if got := m.asked("long"); got != 1 {
		t.Errorf("the model was asked %d times", got)
	}
	if got := s.answer("c1"); got.Text != answer.text() || got.State != "done" {
		t.Errorf("kept is the answer %s: %q", got.State, got.Text)
	}
	s.Terminate()
}
