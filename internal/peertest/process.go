package peertest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience bounds a wait for what happens at once unless it is broken.
const Patience = 2 * time.Minute

// Log keeps what a process writes. It is safe for concurrent use.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Environ is this process's environment without the product's own settings, and
// with further entries. Under the race detector a process would sleep for a
// second at its end; it does not.
func Environ(further ...string) []string {
	own := slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "RUNNER_") })
	return append(append(own, "GORACE=atexit_sleep_ms=0"), further...)
}

// Process is a program that runs beside the test.
type Process struct {
	Cmd *exec.Cmd
	// Log is what it has written to both its outputs.
	Log   *Log
	t     testing.TB
	ended chan struct{}
}

// Start starts a program. If it still runs at the end of the test it is killed, with
// its process group if the command gives it one of its own. A failed test shows the
// end of its log.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Cmd: cmd, Log: new(Log), t: t, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.Log, p.Log
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // ProcessState tells
		close(p.ended)
	}()
	t.Cleanup(func() {
		if !p.Ended() {
			pid := cmd.Process.Pid
			if cmd.SysProcAttr != nil && cmd.SysProcAttr.Setpgid {
				pid = -pid
			}
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may end by itself just now
			<-p.ended
		}
		if text := p.Log.String(); t.Failed() {
			t.Logf("%s:\n%s", cmd.Path, text[max(0, len(text)-4000):])
		}
	})
	return p
}

// Ended says whether the program has.
func (p *Process) Ended() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Terminate sends SIGTERM, as a service manager does, and waits for the end, which
// must be in order.
func (p *Process) Terminate() {
	p.t.Helper()
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
	guard := time.NewTimer(Patience)
	defer guard.Stop()
	select {
	case <-p.ended:
	case <-guard.C:
		p.t.Fatal("it does not end by SIGTERM")
	}
	if code := p.Cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Fatalf("it ended with %v, want exit code 0", p.Cmd.ProcessState)
	}
}

// Until waits for a condition, at which it looks ever less often, for it may cost
// something. state, which may be nil, is shown if it never holds.
func Until(t testing.TB, what string, state func() string, cond func() bool) {
	t.Helper()
	guard := time.NewTimer(Patience)
	defer guard.Stop()
	for pause := 5 * time.Millisecond; !cond(); pause = min(2*pause, 40*time.Millisecond) {
		select {
		case <-time.After(pause):
		case <-guard.C:
			text := ""
			if state != nil {
				text = "\n" + state()
			}
			t.Fatalf("never: %s%s", what, text)
		}
	}
}
