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
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"davidcockson.com/runner/internal/queue"
)

// patience bounds a wait for something that happens at once unless it is broken.
const patience = time.Minute

var binDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "opstest")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// build builds the program in the way of this test binary, so that most of it is
// in Go's cache.
var build = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(binDir, "runner")
	args := []string{"build", "-buildvcs=false", "-o", binary}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "davidcockson.com/runner/cmd/runner")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return binary, nil
})

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
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, binary: binary, vault: filepath.Join(t.TempDir(), "vault"), state: filepath.Join(t.TempDir(), "state"),
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
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "RUNNER_") }), w.env...)
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
	w     *world
	cmd   *exec.Cmd
	url   string // of metrics and health
	log   *log
	ended chan struct{}
}

type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve starts a worker and waits until it serves metrics and health.
func (w *world) serve() *server {
	w.t.Helper()
	s := &server{w: w, cmd: w.command("worker"), log: new(log), ended: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait() // ProcessState tells
		close(s.ended)
	}()
	w.t.Cleanup(func() {
		s.cmd.Process.Kill()
		<-s.ended
	})
	w.until("it serves metrics and health", s.log.String, func() bool {
		select {
		case <-s.ended:
			w.t.Fatalf("it ended:\n%s", s.log)
		default:
		}
		address := addressIn(s.log.String())
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

// stop stops the program as a service manager does.
func (s *server) stop() {
	s.w.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.w.t.Fatal(err)
	}
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.w.t.Fatalf("it does not stop:\n%s", s.log)
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.w.t.Errorf("it ended with %d:\n%s", code, s.log)
	}
	s.w.made.WriteString(s.log.String())
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
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
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
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	guard := time.NewTimer(patience)
	defer guard.Stop()
	for !cond() {
		select {
		case <-look.C:
		case <-guard.C:
			w.t.Fatalf("never: %s\n%s", what, state())
		}
	}
}
