package killtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/sqlite"
	"davidcockson.com/runner/internal/sqlite/sqlitetest"
	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/vault/vaulttest"
	"davidcockson.com/runner/internal/worker"
)

// ordersKey is the variable that makes the test binary a child; its value is the
// orders as JSON.
const ordersKey = "KILLTEST_ORDERS"

// orders is what a child process is told at its start.
type orders struct {
	// Writer makes it one that only writes a ledger.
	Writer             bool
	Vault, State, Bill string
	StateID            string
	TakeOver           bool
	Guard              time.Duration
	// Think is the longest time that the model takes for an answer.
	Think time.Duration
	// Trapped puts the trap into file calls and commits.
	Trapped bool
}

func TestMain(m *testing.M) {
	text, child := os.LookupEnv(ordersKey)
	if !child {
		os.Exit(peertest.Main(m))
	}
	var o orders
	err := json.Unmarshal([]byte(text), &o)
	if err == nil && o.Writer {
		err = writeLedger(o)
	} else if err == nil {
		err = runWorker(o)
	}
	if err != nil {
		say("refused %v", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// say tells the parent a line.
func say(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }

// die ends this process as kill -9 does; it does not return.
func die() {
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// trap kills the process before or after the n-th step since it was set. A step
// is a changing file call or a commit of the ledger.
type trap struct {
	mu    sync.Mutex
	after bool
	left  int // 0: not set
}

func (t *trap) set(side string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.after, t.left = side == "after", n
}

func (t *trap) step(after bool, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left == 0 || after != t.after {
		return
	}
	if t.left--; t.left == 0 {
		say("killed %s", what)
		die()
	}
}

// rival makes files under names that the worker is about to give, in the instant
// before it does, once in each folder.
type rival struct {
	mu  sync.Mutex
	dir string          // the vault's
	won map[string]bool // folders; nil: it does nothing
}

func (r *rival) before(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	folder := path.Dir(name)
	if r.won == nil || r.won[folder] || strings.HasPrefix(name, ".") {
		return
	}
	r.won[folder] = true
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(rivalText), 0o600); err != nil {
		say("the rival failed: %v", err)
		die()
	}
	say("rival %s", name)
}

const rivalText = "a rival's bytes\n"

// child is a worker process from the inside.
type child struct {
	orders
	*worker.Worker
	trap   trap
	rival  rival
	ledger *ledger.Ledger
	model  *model
	cancel context.CancelFunc
}

func runWorker(o orders) error {
	say("booting")
	c := &child{orders: o, rival: rival{dir: o.Vault}}
	v, err := vault.Open(o.Vault)
	if err != nil {
		return err
	}
	file := filepath.Join(o.State, "ledger.db")
	if o.Trapped {
		v = vault.New(c.traps(v.FS()))
		var commits sqlitetest.Faults
		commits.Inject(sqlitetest.Fault{Half: sqlitetest.Undone, Hook: func(int) { c.trap.step(false, "commit") }})
		commits.Inject(sqlitetest.Fault{Half: sqlitetest.Done, Hook: func(int) { c.trap.step(true, "commit") }})
		db, err := sqlitetest.OpenDB(file, ledger.Migrations(), &commits)
		if err != nil {
			return err
		}
		c.ledger = ledger.New(db)
	} else if c.ledger, err = ledger.Open(context.Background(), file); err != nil {
		return err
	}
	defer c.ledger.Close()
	if c.model, err = newModel(o, file); err != nil {
		return err
	}
	defer c.model.db.Close()
	log, err := os.OpenFile(filepath.Join(o.State, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	c.Worker = worker.New(worker.Options{
		Vault: v, Ledger: c.ledger, Hosts: []ask.Host{{Name: "davas", Provider: c.model, Models: []string{"m"}}},
		Arbiter: provider.NewArbiter(map[string]int{"davas": 4}, time.Now), Hub: live.NewHub(64, time.Now), Location: time.UTC,
		Guard: o.Guard, Concurrency: 4, JobLimit: 15 * time.Minute, Hostname: "here", Version: "test", StateID: o.StateID,
		TakeOver: o.TakeOver, StateFree: func() (int64, error) { return 1 << 40, nil }, Poll: 5 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	go func() {
		<-c.Ready()
		c.until(func() bool { // what the first look at the folder does belongs to the start
			s, err := c.Status(context.Background())
			return err == nil && !s.LastPoll.IsZero()
		})
		say("ready")
		c.obey(os.Stdin)
	}()
	return c.Run(ctx)
}

// traps puts trap and rival into a file system.
func (c *child) traps(fsys vault.FS) vault.FS {
	files := vaulttest.NewFaults(fsys)
	var reads sync.Map // the files that were opened for reading; to close them changes nothing
	files.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.Open), Hook: func(call vaulttest.Call) { reads.Store(call.File, nil) }})
	changing := func(call vaulttest.Call) bool {
		_, read := reads.Load(call.File)
		return call.Op.Changes() && !read
	}
	for half, after := range map[vaulttest.Half]bool{vaulttest.Undone: false, vaulttest.Done: true} {
		files.Inject(vaulttest.Fault{Match: changing, Half: half, Hook: func(call vaulttest.Call) { c.trap.step(after, string(call.Op)) }})
	}
	files.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.Rename), Hook: func(call vaulttest.Call) { c.rival.before(call.To) }})
	files.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.Link), Hook: func(call vaulttest.Call) { c.rival.before(call.Name) }})
	return files
}

// obey does what the parent says, a line each, until it says no more; then the
// worker stops. So a child never outlives its parent.
func (c *child) obey(from io.Reader) {
	defer c.cancel()
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "arm": // arm before|after N
			var side string
			var n int
			fmt.Sscan(rest, &side, &n)
			c.trap.set(side, n)
			say("armed")
		case "rival":
			c.rival.mu.Lock()
			c.rival.won = make(map[string]bool)
			c.rival.mu.Unlock()
			say("waiting")
		case "settle": // until nothing waits or runs and every row is at its end
			c.until(c.settled)
			c.trap.set("", 0)
			say("settled")
		case "asked": // until the model has a call of this prompt
			c.until(func() bool { return c.model.has(rest) })
			say("asked")
		case "shown": // until the queue is known to have the note, with a reason why it waits
			c.until(func() bool {
				d, err := c.Show(context.Background(), rest)
				return err == nil && strings.Contains(d.Reason, "waits until 2")
			})
			say("shown")
		case "cancel": // until the job is
			c.until(func() bool { return c.decided(c.Cancel, rest, "cancelled") })
			say("cancelled")
		case "retry": // until the job is completed, or has its turn again
			c.until(func() bool { return c.decided(c.Retry, rest, "completed", "waiting", "active") })
			say("retried")
		case "list":
			jobs, err := c.List(context.Background(), control.Filter{})
			data, jerr := json.Marshal(jobs)
			if err = errors.Join(err, jerr); err != nil {
				say("list: %v", err)
			}
			say("%s", data)
		}
	}
}

// until returns once a condition holds. The parent guards against hangs.
func (c *child) until(cond func() bool) {
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for !cond() {
		<-look.C
	}
}

// decided says whether a job has come to one of these states, and else does what
// its owner does for it.
func (c *child) decided(do func(context.Context, string) (control.Job, error), ref string, states ...string) bool {
	for range 2 {
		if d, err := c.Show(context.Background(), ref); err == nil {
			for _, s := range states {
				if d.State == s {
					return true
				}
			}
		}
		_, _ = do(context.Background(), ref) // what counts is the state it comes to
	}
	return false
}

func (c *child) settled() bool {
	for _, folder := range []string{queue.Waiting, queue.Active} {
		entries, err := os.ReadDir(filepath.Join(c.Vault, folder))
		if err != nil {
			return false
		}
		for _, e := range entries {
			if queue.Candidate(e.Name()) {
				return false
			}
		}
	}
	rows, err := c.ledger.Unsettled(context.Background())
	return err == nil && len(rows) == 0
}

// model answers, and writes every call into the bill first.
type model struct {
	bill  *os.File
	db    *sqlite.DB
	think time.Duration

	mu    sync.Mutex
	calls []string
}

// charge is one line of the bill.
type charge struct {
	Job, Run      string
	Attempt, Step int
	Hash          string
	// Stored is how many answers to this very request the ledger had.
	Stored int
}

func newModel(o orders, ledgerFile string) (*model, error) {
	bill, err := os.OpenFile(o.Bill, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	db, err := sqlite.OpenReadOnly(context.Background(), ledgerFile, len(ledger.Migrations()))
	return &model{bill: bill, db: db, think: o.Think}, err
}

func (m *model) has(prompt string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.calls {
		if strings.Contains(c, prompt) {
			return true
		}
	}
	return false
}

// Ask answers "answer to " and the prompt. A prompt that begins with "fail" gets
// half an answer, with "once" the first time, and one with "block" never an end.
func (m *model) Ask(ctx context.Context, req provider.Request, sink provider.Sink) (provider.Answer, error) {
	prompt := req.Messages[len(req.Messages)-1].Content
	failed, err := m.charge(req)
	answer := provider.Answer{Provider: "davas", Model: req.Model, Started: time.Now()}
	if err != nil {
		say("the bill: %v", err)
		die()
	}
	sink(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Reading})
	m.mu.Lock()
	m.calls = append(m.calls, prompt)
	m.mu.Unlock()
	var done <-chan time.Time
	if !strings.HasPrefix(prompt, "block") {
		done = time.After(rand.N(m.think + 1))
	}
	select {
	case <-done:
	case <-ctx.Done():
		return answer, &provider.Error{Kind: provider.Cancelled, Provider: "davas", Model: req.Model, Reason: "stopped", Sent: true}
	}
	if strings.HasPrefix(prompt, "fail") && !(strings.HasPrefix(prompt, "fail once") && failed > 0) {
		answer.Text = "half an answer"
		return answer, &provider.Error{Kind: provider.Cut, Provider: "davas", Model: req.Model, Reason: "cut half-way", Sent: true}
	}
	answer.Text, answer.Finish, answer.Took = "answer to "+prompt, "stop", time.Since(answer.Started)
	return answer, nil
}

// charge writes a call into the bill. It returns how many calls of this request
// are known to have failed.
func (m *model) charge(req provider.Request) (failed int, err error) {
	c := charge{Hash: req.Hash("davas")}
	if err := m.db.Read.QueryRow(`SELECT job, run, attempt, step FROM calls WHERE hash = ? AND state = 'intent' ORDER BY id DESC LIMIT 1`,
		c.Hash).Scan(&c.Job, &c.Run, &c.Attempt, &c.Step); err != nil {
		return 0, fmt.Errorf("asked without an intent: %w", err)
	}
	if err := m.db.Read.QueryRow(`SELECT count(*) FILTER (WHERE state = 'answered'), count(*) FILTER (WHERE state = 'failed') FROM calls WHERE hash = ?`,
		c.Hash).Scan(&c.Stored, &failed); err != nil {
		return 0, err
	}
	line, err := json.Marshal(c)
	if err == nil {
		_, err = m.bill.Write(append(line, '\n'))
	}
	return failed, err
}

func (m *model) Models(context.Context) ([]provider.Model, error) {
	return []provider.Model{{Name: "m"}}, nil
}

func (m *model) Ping(context.Context) error { return nil }
