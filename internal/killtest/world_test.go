package killtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/sqlite"
	"davidcockson.com/runner/internal/vault"
)

// world is a vault and a state folder that outlive the processes on them.
type world struct {
	t *testing.T
	orders
	vault *vault.Vault
	notes []expected
}

// expected is a note that was dropped, and how it may end.
type expected struct {
	name, text string
	// answers are what the output of a completed one holds.
	answers []string
	// failure is what the reason of a failed one is like; nil: it must complete.
	failure *regexp.Regexp
	// must is the folder in which it must end, "" if either will do.
	must string
}

func newWorld(t *testing.T, o orders) *world {
	t.Helper()
	dir := t.TempDir()
	o.Vault, o.State, o.Bill = filepath.Join(dir, "vault"), filepath.Join(dir, "state"), filepath.Join(dir, "bill")
	if o.StateID == "" {
		o.StateID = "state"
	}
	for _, d := range append(queue.Folders(), ".") {
		if err := os.MkdirAll(filepath.Join(o.Vault, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(o.State, 0o700); err != nil {
		t.Fatal(err)
	}
	v, err := vault.Open(o.Vault)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return &world{t: t, orders: o, vault: v}
}

// textNote and chainNote are notes with the one prompt, and with two steps.
func textNote(name, prompt string) expected {
	return expected{name: name, text: "---\njob_type: text\nowner: me\n---\n" + prompt + "\n", answers: []string{"answer to " + prompt}}
}

func chainNote(name, prompt string) expected {
	return expected{name: name, text: "---\njob_type: chain\n---\n## One\n" + prompt + ", first\n## Two\n" + prompt + ", second\n",
		answers: []string{"answer to " + prompt + ", first", "answer to " + prompt + ", second"}}
}

// drop puts a note into the queue as its owner's editor does.
func (w *world) drop(e expected) {
	w.t.Helper()
	w.notes = append(w.notes, e)
	if err := w.vault.Write(path.Join(queue.Waiting, e.name), []byte(e.text)); err != nil {
		w.t.Fatal(err)
	}
}

// process is a child from the outside.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string // what it says; closed at its end
	world *world
}

// start runs a child; through is a program, with its arguments, that runs it.
func (w *world) start(through ...string) *process {
	w.t.Helper()
	data, err := json.Marshal(w.orders)
	if err != nil {
		w.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	line := append(slices.Clone(through), self)
	p := &process{t: w.t, cmd: exec.Command(line[0], line[1:]...), lines: make(chan string, 64), world: w}
	p.cmd.Env = peertest.Environ(ordersKey + "=" + string(data))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.in.Close(); p.cmd.Process.Kill() })
	go func() {
		defer close(p.lines)
		for lines := bufio.NewScanner(bufio.NewReaderSize(out, 1<<20)); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	return p
}

// next is the next line that the child says; ok is false once it has ended.
func (p *process) next() (line string, ok bool) {
	p.t.Helper()
	guard := time.NewTimer(peertest.Patience)
	defer guard.Stop()
	select {
	case line, ok = <-p.lines:
		return line, ok
	case <-guard.C:
		p.t.Fatalf("the child hangs\n%s", p.world.state())
		return "", false
	}
}

// await reads what the child says up to a line that begins so. It returns false
// if the child ended before.
func (p *process) await(begin string) (line string, ok bool) {
	p.t.Helper()
	for {
		line, ok := p.next()
		if !ok || strings.HasPrefix(line, begin) {
			return line, ok
		}
		if strings.HasPrefix(line, "refused") || strings.HasPrefix(line, "the ") {
			p.t.Fatalf("the child: %s\n%s", line, p.world.state())
		}
	}
}

// must is await of a child that must not end.
func (p *process) must(begin string) string {
	p.t.Helper()
	line, ok := p.await(begin)
	if !ok {
		p.t.Fatalf("the child ended before it said %q: %v\n%s", begin, p.cmd.Wait(), p.world.state())
	}
	return line
}

// order tells the child to do something. A child that was killed hears nothing.
func (p *process) order(format string, args ...any) {
	_, _ = fmt.Fprintf(p.in, format+"\n", args...)
}

// stop lets the child end by itself, which it must do without an error.
func (p *process) stop() {
	p.t.Helper()
	p.in.Close()
	if line, ok := p.await("refused"); ok {
		p.t.Fatalf("the child: %s", line)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatalf("the child stopped with %v\n%s", err, p.world.state())
	}
}

// kill is SIGKILL. It returns when the process is gone.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.gone()
}

// gone waits for the end of a child that was killed.
func (p *process) gone() {
	for {
		if _, ok := p.next(); !ok {
			p.in.Close()
			_ = p.cmd.Wait() // says that it was killed
			return
		}
	}
}

// finish runs a child without kills until everything is at its end.
func (w *world) finish() {
	w.t.Helper()
	p := w.start()
	p.must("ready")
	p.order("settle")
	p.must("settled")
	p.stop()
}

// state tells a failed test's reader how things stand.
func (w *world) state() string {
	var b strings.Builder
	for _, folder := range append(queue.Folders(), vault.TempDir) {
		entries, _ := os.ReadDir(filepath.Join(w.Vault, folder))
		for _, e := range entries[max(0, len(entries)-20):] {
			fmt.Fprintf(&b, "%s/%s\n", folder, e.Name())
		}
	}
	log, _ := os.ReadFile(filepath.Join(w.State, "log"))
	b.Write(log[max(0, len(log)-6000):])
	return b.String()
}

// check is the one check of the whole, once everything is at its end.
func (w *world) check() error {
	if err := w.checkNotes(); err != nil {
		return err
	}
	return w.checkBill()
}

// contents is what lies in a vault.
type contents struct {
	files map[string][]byte
	// at are the names of the notes in the queue's folders by their content without
	// what the product writes into it, notes those notes by name.
	at    map[string][]string
	notes map[string]*note.Note
}

func (w *world) contents() (contents, error) {
	c := contents{files: make(map[string][]byte), at: make(map[string][]string), notes: make(map[string]*note.Note)}
	for _, folder := range append(queue.Folders(), vault.TempDir) {
		entries, err := w.vault.List(folder)
		if err != nil {
			return c, err
		}
		for _, e := range entries {
			name := path.Join(folder, e.Name)
			text, err := os.ReadFile(filepath.Join(w.Vault, name))
			if err != nil {
				return c, err
			}
			// Where a file system has no unnamed files a killed write leaves one.
			if folder == vault.TempDir && !strings.HasPrefix(e.Name, "write-") || strings.HasPrefix(e.Name, ".") {
				return c, fmt.Errorf("the temporary file %s is left", name)
			}
			c.files[name] = text
			if n, err := note.Parse(text); err == nil && folder != queue.Outputs && folder != vault.TempDir {
				c.notes[name] = n
				c.at[string(n.Content())] = append(c.at[string(n.Content())], name)
			}
		}
	}
	return c, nil
}

func (w *world) checkNotes() error {
	c, err := w.contents()
	if err != nil {
		return err
	}
	for _, e := range w.notes {
		if err := e.check(c); err != nil {
			return err
		}
	}
	return nil
}

func (e expected) check(c contents) error {
	original, err := note.Parse([]byte(e.text))
	if err != nil {
		return err
	}
	at := c.at[string(original.Content())]
	if len(at) != 1 {
		return fmt.Errorf("%s lies at %q, want exactly one place", e.name, at)
	}
	files, found := c.files, c.notes[at[0]]
	outputs, whole := 0, 0
	for name, text := range files {
		if path.Dir(name) != queue.Outputs || !bytes.Contains(text, []byte(e.answers[0]+"\n")) || !bytes.Contains(text, []byte("\nfinish: stop\n")) {
			continue
		}
		outputs++
		if !slices.ContainsFunc(e.answers, func(a string) bool { return !bytes.Contains(text, []byte(a+"\n")) }) {
			whole++
		}
	}
	folder := path.Dir(at[0])
	if e.must != "" && folder != e.must {
		return fmt.Errorf("%s ended in %s, want %s:\n%s", e.name, folder, e.must, files[at[0]])
	}
	switch folder {
	case queue.Completed:
		if outputs != 1 || whole != 1 {
			return fmt.Errorf("%s is completed and has %d outputs, %d of them whole; its note:\n%s", e.name, outputs, whole, files[at[0]])
		}
		target := strings.Trim(text(found, "output"), "[]") + ".md"
		if !bytes.Contains(files[target], []byte(e.answers[0])) {
			return fmt.Errorf("%s links to %s, which does not hold its answer:\n%s", e.name, target, files[target])
		}
	case queue.Failed:
		if outputs != 0 {
			return fmt.Errorf("%s failed and has %d outputs", e.name, outputs)
		}
		if reason := text(found, "error"); e.failure == nil || !e.failure.MatchString(reason) {
			return fmt.Errorf("%s failed: %q", e.name, reason)
		}
	default:
		return fmt.Errorf("%s lies in %s, which is no end", e.name, folder)
	}
	return nil
}

// text is a key's value, "" if the note does not have it.
func text(n *note.Note, key string) string {
	f, ok := n.Field(key)
	if !ok {
		return ""
	}
	value, _ := f.String()
	return value
}

// checkBill holds the bill against the ledger, which must be whole itself.
func (w *world) checkBill() error {
	file := filepath.Join(w.State, "ledger.db")
	if err := sqlite.Check(context.Background(), file); err != nil {
		return err
	}
	l, err := ledger.OpenReadOnly(context.Background(), file)
	if err != nil {
		return err
	}
	defer l.Close()
	data, err := os.ReadFile(w.Bill)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	seen := make(map[charge]bool)
	for line := range strings.Lines(string(data)) {
		var c charge
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			return fmt.Errorf("the bill is torn: %q: %w", line, err)
		}
		if c.Stored > 0 {
			return fmt.Errorf("asked again although the answer was stored: %+v", c)
		}
		c.Hash = ""
		if seen[c] {
			return fmt.Errorf("one attempt asked for a step twice: %+v", c)
		}
		seen[c] = true
		row, err := l.Get(context.Background(), c.Job)
		if err != nil {
			return err
		}
		if c.Run == row.Run && c.Attempt > row.Attempt || row.Attempt > 3 {
			return fmt.Errorf("asked in attempt %d, but the ledger knows %d of run %s", c.Attempt, row.Attempt, row.Run)
		}
		stored, err := l.Stored(context.Background(), row.ID, row.Run)
		if err != nil {
			return err
		}
		if strings.HasPrefix(row.Reason, "interrupted") && len(stored) == row.Steps {
			return fmt.Errorf("%s failed although all its answers were stored: %s", row.File, row.Reason)
		}
	}
	rows, err := l.Unsettled(context.Background())
	if err == nil && len(rows) > 0 {
		err = fmt.Errorf("%d jobs are not at their end, the first: %+v", len(rows), rows[0])
	}
	return err
}
