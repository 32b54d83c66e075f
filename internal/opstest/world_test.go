// Package opstest runs the built program as a server's owner does, and looks at it
// from outside: a real Prometheus scrapes it, monitors ask for its health, and
// whatever it makes is searched for secrets. Only tests are in it.
package opstest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/queue"
)

func TestMain(m *testing.M) { os.Exit(peertest.Main(m)) }

// world is a vault, a state folder and a configuration.
type world struct {
	t                    *testing.T
	binary               string
	vault, state, config string
	env                  []string
	made                 bytes.Buffer // all that the program has said
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
	text := fmt.Sprintf("vault: %q\nstate_dir: %q\nguard: 0s\nlisten: 127.0.0.1:0\nops_listen: 127.0.0.1:0\n%s", w.vault, w.state, further)
	if err := os.WriteFile(w.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(w.binary, append(args, "--config", w.config)...)
	cmd.Env = peertest.Environ(w.env...)
	return cmd
}

// run runs the program to its end and returns all that it said.
func (w *world) run(args ...string) string {
	out, _ := w.command(args...).CombinedOutput() // some fail by intent
	w.made.Write(out)
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

// count is how many notes a folder of the vault has.
func (w *world) count(folder string) int {
	names, err := filepath.Glob(filepath.Join(w.vault, folder, "*.md"))
	if err != nil {
		w.t.Fatal(err)
	}
	return len(names)
}

// server is the program at work.
type server struct {
	*peertest.Process
	w   *world
	url string // of metrics and health
}

// serve starts a worker and waits until it serves metrics and health.
func (w *world) serve() *server {
	w.t.Helper()
	s := &server{Process: peertest.Start(w.t, w.command("worker")), w: w}
	w.until("it serves metrics and health", s.Log.String, func() bool {
		if s.Ended() {
			w.t.Fatalf("it ended:\n%s", s.Log)
		}
		address := addressIn(s.Log.String())
		s.url = "http://" + address
		return address != ""
	})
	return s
}

// addressIn finds the address that a log in text or JSON tells.
func addressIn(text string) string {
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "metrics and health are served") || !strings.HasSuffix(line, "\n") {
			continue
		}
		var entry struct{ Address string }
		if json.Unmarshal([]byte(line), &entry) == nil {
			return entry.Address
		}
		_, after, _ := strings.Cut(line, " address=")
		return strings.TrimSpace(after)
	}
	return ""
}

// stop stops the program and keeps what it said.
func (s *server) stop() {
	s.w.t.Helper()
	s.Terminate()
	s.w.made.WriteString(s.Log.String())
}

// get asks one of its pages.
func (s *server) get(path string) (int, string) {
	s.w.t.Helper()
	code, body, err := fetch(s.url + path)
	if err != nil {
		s.w.t.Fatal(err)
	}
	s.w.made.WriteString(body)
	return code, body
}

func fetch(url string) (int, string, error) {
	client := &http.Client{Timeout: peertest.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(bufio.NewReader(resp.Body))
	return resp.StatusCode, string(data), err
}

// until waits for a condition; state is shown if it never holds.
func (w *world) until(what string, state func() string, cond func() bool) {
	w.t.Helper()
	peertest.Until(w.t, what, state, cond)
}
