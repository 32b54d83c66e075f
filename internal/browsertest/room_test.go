package browsertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/queue"
)

// room is the program with a vault, a state folder and a model server beside it.
type room struct {
	t                    *testing.T
	binary               string
	vault, state, config string
	listen               string // host:port
	davas                *davas
	*peertest.Process    // nil before start
}

// newRoom starts the program. further are lines of its configuration.
func newRoom(t *testing.T, further ...string) *room {
	t.Helper()
	r := prepareRoom(t, further...)
	r.start()
	return r
}

// prepareRoom makes all that the program needs.
func prepareRoom(t *testing.T, further ...string) *room {
	t.Helper()
	theBrowser.start(t) // a test that lacks it ends here
	r := &room{t: t, binary: peertest.Build(t), vault: filepath.Join(t.TempDir(), "vault"), state: filepath.Join(t.TempDir(), "state"),
		config: filepath.Join(t.TempDir(), "runner.yaml"), listen: peertest.Address(t), davas: newDavas(t)}
	for _, folder := range queue.Folders() {
		if err := os.MkdirAll(filepath.Join(r.vault, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.configure(further...)
	return r
}

// configure writes the configuration. further are its last lines; the first may go on
// with the providers.
func (r *room) configure(further ...string) {
	r.t.Helper()
	text := fmt.Sprintf(`vault: %q
state_dir: %q
guard: 0s
grace: 2s
timezone: Europe/London
listen: %s
ops_listen: 127.0.0.1:0
deadlines: {connect: 2s}
providers:
  - {name: echo, kind: echo}
  - {name: davas, kind: ollama, url: "http://%s", models: [{name: "gemma3:12b", num_ctx: 8192}, {name: "small:1b", num_ctx: 512}]}
%s`, r.vault, r.state, r.listen, r.davas.address, strings.Join(further, "\n"))
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// unlisted is a line of the configuration for the same model server once more, as the
// provider open, of which all models may be asked.
func (r *room) unlisted() string {
	return fmt.Sprintf("  - {name: open, kind: ollama, url: %q}\n", "http://"+r.davas.address)
}

func (r *room) base() string { return "http://" + r.listen }

func (r *room) command(args ...string) *exec.Cmd {
	cmd := exec.Command(r.binary, append(args, "--config", r.config)...)
	cmd.Env = peertest.Environ()
	return cmd
}

// start starts the program and waits until it serves the control room.
func (r *room) start() {
	r.t.Helper()
	r.Process = peertest.Start(r.t, r.command("up"))
	r.until("it serves the control room", func() bool {
		if r.Ended() {
			r.t.Fatal("it ended")
		}
		return strings.Contains(r.Log.String(), "The control room: ")
	})
}

// kill ends the program at once, wherever it is.
func (r *room) kill() {
	r.t.Helper()
	if err := r.Cmd.Process.Kill(); err != nil {
		r.t.Fatal(err)
	}
	r.until("it is killed", r.Ended)
}

var linkLine = regexp.MustCompile(`The control room: http://[^/]+(/\S*)`)

// link is the path of the login link that the program printed.
func (r *room) link() string {
	r.t.Helper()
	m := linkLine.FindStringSubmatch(r.Log.String())
	if m == nil {
		r.t.Fatal("no login link was printed")
	}
	return m[1]
}

// enter opens a tab and signs in by the link.
func (r *room) enter() *tab {
	r.t.Helper()
	p := r.tab()
	p.open(r.link())
	p.has("main")
	return p
}

// drop puts a note into the queue, whole.
func (r *room) drop(name, text string) {
	r.t.Helper()
	temp := filepath.Join(r.t.TempDir(), name)
	if err := os.WriteFile(temp, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(r.vault, queue.Waiting, name)); err != nil {
		r.t.Fatal(err)
	}
}

// until waits for a condition.
func (r *room) until(what string, cond func() bool) {
	r.t.Helper()
	peertest.Until(r.t, what, nil, cond)
}

// within returns once a channel is closed, and how long that took.
func within(t *testing.T, what string, c <-chan struct{}) time.Duration {
	t.Helper()
	began := time.Now()
	select {
	case <-c:
	case <-time.After(peertest.Patience):
		t.Fatalf("never: %s", what)
	}
	return time.Since(began)
}

// count is how many notes a folder of the vault has.
func (r *room) count(folder string) int {
	r.t.Helper()
	names, err := filepath.Glob(filepath.Join(r.vault, folder, "*.md"))
	if err != nil {
		r.t.Fatal(err)
	}
	return len(names)
}
