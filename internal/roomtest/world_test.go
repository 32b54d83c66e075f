// Package roomtest runs the built control room as its owner does and looks at it
// from outside: through a real nginx, with a thousand readers, killed, stopped, with
// keys that must not get out. Only tests are in it.
//
// The model server is a fake that speaks OpenAI's protocol and gives its pieces when
// the test says so; each piece has a number, so that one that is lost or doubled is
// seen. Nothing here depends on how fast the machine is: what must come is waited
// for, and the wait guards against hangs alone.
package roomtest

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/queue"
)

func TestMain(m *testing.M) {
	// Most tests wait for other processes, and some for the end of a deadline.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(peertest.Main(m))
}

// world is a vault, a state folder and a configuration.
type world struct {
	t                    *testing.T
	binary               string
	vault, state, config string
	env                  []string
}

// newWorld writes a configuration of a vault, a state folder and further lines.
func newWorld(t *testing.T, further string, env ...string) *world {
	t.Helper()
	w := &world{t: t, binary: peertest.Build(t), vault: filepath.Join(t.TempDir(), "vault"), state: filepath.Join(t.TempDir(), "state"),
		config: filepath.Join(t.TempDir(), "runner.yaml"), env: env}
	for _, folder := range queue.Folders() {
		if err := os.MkdirAll(filepath.Join(w.vault, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf("vault: %q\nstate_dir: %q\nguard: 0s\n%s", w.vault, w.state, further)
	if !strings.Contains(further, "\nlisten:") && !strings.HasPrefix(further, "listen:") {
		text += "listen: 127.0.0.1:0\n"
	}
	text += "ops_listen: 127.0.0.1:0\n"
	if err := os.WriteFile(w.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// command is the program with some arguments in this world.
func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(w.binary, append(args, "--config", w.config)...)
	cmd.Env = peertest.Environ(w.env...)
	return cmd
}

// run runs the program to its end, which must be a good one, and returns what it
// said.
func (w *world) run(input string, args ...string) string {
	w.t.Helper()
	cmd := w.command(args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("runner %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// drop puts a note into the queue, whole.
func (w *world) drop(name, text string) {
	w.t.Helper()
	temp := filepath.Join(w.t.TempDir(), name)
	if err := os.WriteFile(temp, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(w.vault, queue.Waiting, name)); err != nil {
		w.t.Fatal(err)
	}
}

// has says whether a folder of the vault has a note of this name.
func (w *world) has(folder, name string) bool {
	_, err := os.Stat(filepath.Join(w.vault, folder, name))
	return err == nil
}

// server is the program at work.
type server struct {
	*peertest.Process
	t *testing.T
	// url is the control room's, ops that of metrics and health, "" where the
	// process has none; token opens the control room where nothing is configured.
	url, ops, token string
}

var (
	roomAddress = regexp.MustCompile(`the control room is served.*\baddress"?[=:]"?([0-9.:]+)`)
	roomLink    = regexp.MustCompile(`The control room: \S+\?token=(\S+)`)
	roomSaid    = regexp.MustCompile(`The control room: \S+\n`)
	opsAddress  = regexp.MustCompile(`metrics and health are served.*\baddress"?[=:]"?([0-9.:]+)`)
)

// start starts the program as one of its commands: up, web or worker.
func (w *world) start(command string) *server {
	w.t.Helper()
	s := &server{Process: peertest.Start(w.t, w.command(command)), t: w.t}
	s.until("it serves", func() bool {
		text := s.Log.String()
		if command != "worker" {
			if !roomSaid.MatchString(text) {
				return false
			}
			s.url = "http://" + roomAddress.FindStringSubmatch(text)[1]
			if link := roomLink.FindStringSubmatch(text); link != nil {
				s.token = link[1]
			}
		}
		if command != "web" {
			found := opsAddress.FindStringSubmatch(text)
			if found == nil || !strings.Contains(text, "ready: drop notes here") {
				return false
			}
			s.ops = "http://" + found[1]
		}
		return true
	})
	return s
}

// kill ends the program at once.
func (s *server) kill() {
	s.t.Helper()
	if err := s.Cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	peertest.Until(s.t, "it ends by SIGKILL", nil, s.Ended)
}

// until waits for a condition of a program that lives on.
func (s *server) until(what string, cond func() bool) {
	s.t.Helper()
	peertest.Until(s.t, what, nil, func() bool {
		ended := s.Ended()
		holds := cond()
		if ended && !holds {
			s.t.Fatalf("it ended before: %s", what)
		}
		return holds
	})
}

// tail is the end of a long text.
func tail(text string, most int) string {
	if len(text) > most {
		return "…" + text[len(text)-most:]
	}
	return text
}

// cookie is the name of a session's cookie over http.
func (s *server) cookie() string {
	return "runner_session_" + s.url[strings.LastIndex(s.url, ":")+1:]
}

// asks is a request for a server, with its token where it has one.
func (s *server) asks(method, path, body string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}
