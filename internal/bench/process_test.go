//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/sqlite"
)

// many is how many notes are done in the full world.
const many = 100_000

// guard is the guard of the worlds' configurations.
const guard = 200 * time.Millisecond

// worlds makes the program, and the two worlds that it is measured in, when they
// are first needed.
type worlds struct {
	// binary is the program as make build makes it, empty and full are worlds of
	// it where nothing was done yet and where many notes were.
	binary, empty, full func() string
}

// newWorlds makes nothing yet; what is made goes at the end of b.
func newWorlds(b *testing.B) *worlds {
	binary := sync.OnceValue(func() string {
		path := filepath.Join(b.TempDir(), "runner")
		build := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, "davidcockson.com/runner/cmd/runner")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			b.Fatalf("build the program: %v\n%s", err, out)
		}
		return path
	})
	world := func(done int) func() string {
		return sync.OnceValue(func() string { return makeWorld(b, binary(), done) })
	}
	return &worlds{binary: binary, empty: world(0), full: world(many)}
}

// makeWorld makes a configuration, a vault and a ledger with some notes done, and
// returns the configuration's file.
func makeWorld(b *testing.B, binary string, done int) string {
	b.Helper()
	root := makeVault(b, 0)
	state := filepath.Join(b.TempDir(), "state")
	file := filepath.Join(b.TempDir(), "runner.yaml")
	text := fmt.Sprintf("vault: %s\nstate_dir: %s\nguard: %s\nlisten: 127.0.0.1:0\nops_listen: 127.0.0.1:0\nproviders:\n  - name: echo\n    kind: echo\n", root, state, guard)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	p := startProcess(b, binary, file) // makes the ledger
	p.stop(b)
	for i := range done {
		note := fmt.Sprintf("---\njob_type: text\nstatus: completed\nrun: %06d\n---\nDone %d.\n", i, i)
		if err := os.WriteFile(filepath.Join(root, queue.Completed, fmt.Sprintf("done %06d.md", i)), []byte(note), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	if err := fillLedger(b.Context(), filepath.Join(state, "ledger.db"), done); err != nil {
		b.Fatal(err)
	}
	syscall.Sync()
	return file
}

// fillLedger makes the rows of n jobs that were done, a minute apart.
func fillLedger(ctx context.Context, path string, n int) error {
	db, err := sqlite.Open(ctx, path, ledger.Migrations())
	if err != nil {
		return err
	}
	defer db.Close()
	now := time.Now().UnixMilli()
	for _, statement := range []string{
		`INSERT INTO jobs (id, note_id, name, name_key, file, file_key, hash, state, job_type, provider, model, title, priority, retry_never, run, attempt, steps,
			output, first_seen, claimed, started, ended, settled)
			SELECT printf('20200101-000000-%06d', i), '', name, name, name, name, printf('%064x', i), 'completed', 'text', 'echo', 'echo', '', 0, 0, printf('%06d', i), 1, 1,
			printf('runner-outputs/20200101T000000Z-done-%06d-%06d.md', i, i), at, at, at, at, 1 FROM made`,
		"INSERT INTO bodies (job, body) SELECT printf('20200101-000000-%06d', i), printf('Done %d.', i) FROM made",
		`INSERT INTO calls (job, run, attempt, step, try, provider, model, hash, state, estimate, read, written, started, ended, answer)
			SELECT printf('20200101-000000-%06d', i), printf('%06d', i), 1, 1, 1, 'echo', 'echo', printf('%064x', i), 'answered', 4, 4, 4, at, at, '{}' FROM made`,
	} {
		made := `WITH RECURSIVE n (i) AS (SELECT 0 WHERE ? > 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?),
			made AS (SELECT i, printf('done %06d.md', i) AS name, ? - 60000 * (? - i) AS at FROM n) `
		if _, err := db.Write.ExecContext(ctx, made+statement, n, n, now, n); err != nil {
			return err
		}
	}
	return nil
}

// vaultOf is the vault of a world.
func vaultOf(b *testing.B, world string) string {
	b.Helper()
	text, err := os.ReadFile(world)
	if err != nil {
		b.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimPrefix(line, "vault: ")
}

// process is the program at work on a world.
type process struct {
	cmd *exec.Cmd
	// ready is the time from its start to the line that says so.
	ready time.Duration
	read  chan struct{} // closed when its log has ended
}

// startProcess starts a worker and waits until it is ready.
func startProcess(b *testing.B, binary, world string) *process {
	b.Helper()
	p := &process{cmd: exec.Command(binary, "worker", "--config", world), read: make(chan struct{})}
	log, err := p.cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	ready := make(chan time.Duration, 1)
	var early bytes.Buffer
	go func() {
		defer close(p.read)
		lines := bufio.NewScanner(log)
		said := false
		for lines.Scan() {
			if !said && bytes.Contains(lines.Bytes(), []byte(`msg="ready`)) {
				said = true
				ready <- time.Since(began)
			} else if !said {
				early.Write(append(lines.Bytes(), '\n'))
			}
		}
	}()
	select {
	case p.ready = <-ready:
	case <-p.read:
		b.Fatalf("the worker ended at its start: %v\n%s", p.cmd.Wait(), early.String())
	}
	return p
}

// stop ends the worker in its orderly way.
func (p *process) stop(b *testing.B) {
	b.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	<-p.read
	if err := p.cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

// memory is a line of /proc/PID/status in bytes: VmRSS is what it holds now, VmHWM
// the most it ever held, RssAnon the part that is no file's.
func (p *process) memory(b *testing.B, key string) int64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib << 10
		}
	}
	b.Fatalf("/proc has no %s", key)
	return 0
}

// cpu is the processor time of all threads so far, by the scheduler's own count,
// which is in nanoseconds where the other one is in ticks.
func (p *process) cpu(b *testing.B) time.Duration {
	b.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		b.Fatalf("/proc has no threads of the process: %v", err)
	}
	var sum int64
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += ns
	}
	return time.Duration(sum)
}

// startWaiting starts the program as a command that waits for its input, which
// never comes: what the program costs before it does anything.
func startWaiting(b *testing.B, binary, world string) *process {
	b.Helper()
	p := &process{cmd: exec.Command(binary, "submit", "--config", world, "-")}
	if _, err := p.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return p
}

func (p *process) kill(b *testing.B) {
	b.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		b.Fatal(err)
	}
	_ = p.cmd.Wait() // it says that it was killed
}

// timed is how long the program takes with some arguments.
func timed(b *testing.B, binary string, args ...string) time.Duration {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), binary, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("%v: %v\n%s", args, err, stderr.String())
	}
	return time.Since(began)
}
