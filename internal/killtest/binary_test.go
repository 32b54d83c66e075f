package killtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

	"davidcockson.com/runner/internal/control"
)

// binDir is where the product's binary is built, if a test needs it.
var binDir string

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "killtest")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binDir = dir
	return m.Run()
}

// build builds the product's binary, in the way of this test binary, so that most
// of it is in Go's cache.
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

// service is the product's worker as it is run on a server.
type service struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr locked
	ended  chan struct{} // closed once it has
	socket string
}

type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve starts the product's worker on a world's vault; further lines are added to
// its configuration.
func (w *world) serve(stateDir, further string) *service {
	w.t.Helper()
	binary, err := build()
	if err != nil {
		w.t.Fatal(err)
	}
	file, err := os.CreateTemp(w.t.TempDir(), "*.yaml")
	if err != nil {
		w.t.Fatal(err)
	}
	fmt.Fprintf(file, "vault: %q\nstate_dir: %q\nguard: 0s\nlisten: 127.0.0.1:0\nops_listen: 127.0.0.1:0\nproviders: [{name: echo, kind: echo}]\n%s", w.Vault, stateDir, further)
	if err := file.Close(); err != nil {
		w.t.Fatal(err)
	}
	s := &service{t: w.t, cmd: exec.Command(binary, "worker", "--config", file.Name()), ended: make(chan struct{}), socket: filepath.Join(stateDir, "runner.sock")}
	s.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "RUNNER_") }), atOnce)
	s.cmd.Stderr = &s.stderr
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
	return s
}

// until waits for a condition.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	guard := time.NewTimer(patience)
	defer guard.Stop()
	for !cond() {
		select {
		case <-look.C:
		case <-guard.C:
			w.t.Fatalf("never: %s\n%s", what, w.state())
		}
	}
}

// ready says whether the worker answers on its socket.
func (s *service) ready() bool {
	_, err := control.Dial(s.socket).Status(context.Background())
	return err == nil
}

func (s *service) hasEnded() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// terminate sends SIGTERM and waits for the end, which must be in order.
func (s *service) terminate() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Fatal(err)
	}
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.t.Fatalf("it does not end\n%s", s.stderr.String())
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Fatalf("it ended with %v, want exit code 0\n%s", s.cmd.ProcessState, s.stderr.String())
	}
}
