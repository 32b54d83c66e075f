package worker

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/sqlite/sqlitetest"
	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/vault/vaulttest"
)

// fakeModel answers what its script says and remembers each call, over the
// restarts of the worker: it is the one who would send the bill.
type fakeModel struct {
	name string
	// script answers call n (from 1 for each prompt) of a request; nil answers
	// "answer to " and the prompt.
	script func(ctx context.Context, n int, req provider.Request) (provider.Answer, error)
	// loads is how long it loads before it reads.
	loads time.Duration
	// down is why it cannot be reached, nil if it can.
	down error
	// stored says whether the ledger has an answer to a request already.
	stored func(hash string) bool

	mu    sync.Mutex
	calls map[string]int
	paid  []string // prompts that were asked although an answer was stored
	pings int
}

func (m *fakeModel) Ask(ctx context.Context, req provider.Request, sink provider.Sink) (provider.Answer, error) {
	prompt := req.Messages[len(req.Messages)-1].Content
	m.mu.Lock()
	if m.down != nil {
		defer m.mu.Unlock()
		return provider.Answer{}, m.down
	}
	if m.calls == nil {
		m.calls = make(map[string]int)
	}
	m.calls[prompt]++
	n := m.calls[prompt]
	if m.stored != nil && m.stored(req.Hash(m.name)) {
		m.paid = append(m.paid, prompt)
	}
	m.mu.Unlock()
	if m.loads > 0 {
		sink(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Loading})
		<-time.After(m.loads)
	}
	sink(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Reading})
	if m.script != nil {
		return m.script(ctx, n, req)
	}
	return m.answer(req), nil
}

func (m *fakeModel) answer(req provider.Request) provider.Answer {
	return provider.Answer{Text: "answer to " + req.Messages[len(req.Messages)-1].Content, Provider: m.name, Model: req.Model, Finish: "stop",
		Usage: provider.Usage{Estimate: 1, Read: 2, Written: 3}, Started: time.Now(), Took: time.Millisecond}
}

func (m *fakeModel) Models(context.Context) ([]provider.Model, error) {
	return []provider.Model{{Name: "m"}}, nil
}

func (m *fakeModel) Ping(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pings++
	return m.down
}

func (m *fakeModel) setDown(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = err
}

// asked is how often a prompt was asked.
func (m *fakeModel) asked(prompt string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[prompt]
}

// rig is a vault and a ledger that outlive the workers which run on them.
type rig struct {
	t      *testing.T
	mem    *vaulttest.Mem
	path   string
	models map[string]*fakeModel
	log    *lockedBuffer
	// change adjusts the options of each worker that is started.
	change func(*Options)
	free   int64
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newLedger is the file of a ledger to which nothing has happened. To copy it is
// cheaper than to migrate each anew.
var newLedger = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "ledger.db")
	l, err := ledger.Open(context.Background(), file)
	if err != nil {
		return nil, err
	}
	if err := l.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
})

func newRig(t *testing.T, names ...string) *rig {
	t.Helper()
	if len(names) == 0 {
		names = []string{"davas"}
	}
	r := &rig{t: t, mem: vaulttest.NewMem(), path: filepath.Join(t.TempDir(), "ledger.db"), models: make(map[string]*fakeModel), log: new(lockedBuffer), free: 1 << 40}
	r.mem.MkdirAll(queue.Folders()...)
	data, err := newLedger()
	if err == nil {
		err = os.WriteFile(r.path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		r.models[name] = &fakeModel{name: name}
	}
	return r
}

// session is one worker's life on a rig.
type session struct {
	*rig
	*Worker
	files *vaulttest.Faults
	db    *sqlitetest.Faults
	stop  func() error
	err   chan error
}

// start runs a worker until stop is called.
func (r *rig) start() *session {
	r.t.Helper()
	s := &session{rig: r, files: vaulttest.NewFaults(r.mem), db: new(sqlitetest.Faults), err: make(chan error, 1)}
	db := sqlitetest.Open(r.t, r.path, ledger.Migrations(), s.db)
	// Here a ledger outlives processes, not the machine: nothing has to be synced.
	if _, err := db.Write.Exec("PRAGMA synchronous = OFF"); err != nil {
		r.t.Fatal(err)
	}
	l := ledger.New(db)
	limits := make(map[string]int)
	o := Options{
		Vault: vault.New(s.files), Ledger: l, Hub: live.NewHub(64, time.Now), Location: time.UTC, Guard: 2 * time.Second, Concurrency: 4,
		JobLimit: 15 * time.Minute, Grace: 10 * time.Second, Hostname: "here", Version: "test", StateID: "state", Poll: time.Second,
		StateFree: func() (int64, error) { return r.free, nil },
		Log:       slog.New(slog.NewTextHandler(r.log, nil)),
	}
	var names []string
	for name := range r.models {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		m := r.models[name]
		m.stored = func(hash string) bool {
			var n int
			err := db.Read.QueryRow("SELECT count(*) FROM calls JOIN answers ON answers.call = calls.id WHERE hash = ? AND state = 'answered'", hash).Scan(&n)
			return err == nil && n > 0
		}
		o.Hosts = append(o.Hosts, ask.Host{Name: name, Provider: m, Models: []string{"m"}, Probed: true, Patient: true})
		limits[name] = 2
	}
	o.Arbiter = provider.NewArbiter(limits, time.Now)
	if r.change != nil {
		r.change(&o)
	}
	s.Worker = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { s.err <- s.Run(ctx) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		err := <-s.err
		db.Close()
		return err
	})
	r.t.Cleanup(func() { s.stop() })
	return s
}

// drop puts a note into the queue.
func (r *rig) drop(name, text string) { r.mem.Put(path.Join(queue.Waiting, name), text) }

func textNote(body string) string { return "---\njob_type: text\n---\n" + body + "\n" }

// until waits, in the bubble's time, for a condition.
func (r *rig) until(what string, cond func() bool) {
	r.t.Helper()
	end := time.Now().Add(2 * time.Hour)
	for !cond() {
		if time.Now().After(end) {
			r.t.Fatalf("never: %s\nfiles: %v\nlog:\n%s", what, r.mem.Files(), tail(r.log.String()))
		}
		<-time.After(500 * time.Millisecond)
		synctest.Wait()
	}
}

func tail(s string) string {
	if len(s) > 6000 {
		return "…" + s[len(s)-6000:]
	}
	return s
}

// in says whether a folder has a file that a name begins.
func (r *rig) in(folder, name string) bool { return r.file(folder, name) != "" }

// file is the path of the one file in a folder whose name begins so, "" if none.
func (r *rig) file(folder, name string) string {
	stem := strings.TrimSuffix(name, ".md")
	for file := range r.mem.Files() {
		if path.Dir(file) == folder && strings.HasPrefix(path.Base(file), stem) {
			return file
		}
	}
	return ""
}

// text is the content of the one file in a folder whose name begins so.
func (r *rig) text(folder, name string) string {
	r.t.Helper()
	file := r.file(folder, name)
	if file == "" {
		r.t.Fatalf("%s has no %s: %v\nlog:\n%s", folder, name, r.mem.Files(), tail(r.log.String()))
	}
	return r.mem.Files()[file]
}

func (s *session) listed(name string) control.Job {
	jobs, err := s.List(context.Background(), control.Filter{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, j := range jobs {
		if j.Name == name {
			return j
		}
	}
	return control.Job{}
}

// settled says whether the ledger has nothing left to do.
func (s *session) settled() bool {
	rows, err := s.o.Ledger.Unsettled(context.Background())
	if err != nil {
		return false
	}
	return len(rows) == 0 && s.active() == 0
}

// wholeCheck is the one check after every fault: each note is in exactly one
// folder with its bytes, each completed one has its one whole answer, nothing
// was asked again whose answer was stored, and no temporary file is left.
func (r *rig) wholeCheck(notes map[string]string) error {
	files := r.mem.Files()
	for name, original := range notes {
		o, err := note.Parse([]byte(original))
		if err != nil {
			return err
		}
		var at []string
		for file, text := range files {
			dir := path.Dir(file)
			if !slices.Contains(queue.Folders(), dir) || dir == queue.Outputs {
				continue
			}
			n, err := note.Parse([]byte(text))
			if err == nil && bytes.Equal(n.Content(), o.Content()) {
				at = append(at, dir)
			}
		}
		if len(at) != 1 {
			return fmt.Errorf("%s lies in %v, want exactly one folder", name, at)
		}
		if at[0] != queue.Completed && at[0] != queue.Failed {
			return fmt.Errorf("%s lies in %s, which is no end", name, at[0])
		}
		outputs := 0
		for file, text := range files {
			if path.Dir(file) != queue.Outputs {
				continue
			}
			if !strings.HasSuffix(text, "\n") || !strings.HasPrefix(text, "---\n") {
				return fmt.Errorf("the output %s is torn: %q", file, text)
			}
			if strings.Contains(text, "answer to "+o.Body()) && strings.Contains(text, "finish: stop") {
				outputs++
			}
		}
		if at[0] == queue.Completed && outputs != 1 {
			return fmt.Errorf("%s is completed and has %d outputs", name, outputs)
		}
	}
	for file := range files {
		if strings.HasPrefix(file, vault.TempDir+"/") {
			return fmt.Errorf("the temporary file %s is left", file)
		}
	}
	for _, m := range r.models {
		if len(m.paid) > 0 {
			return fmt.Errorf("asked again although the answer was stored: %q", m.paid)
		}
	}
	return nil
}
