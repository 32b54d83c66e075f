// Package worker drains the queue: it alone decides the order between the vault
// and the ledger.
//
// It promises that every job ends in exactly one folder with a reason that can be
// read; that nothing is asked again whose answer is stored; that a call which may
// have been billed before is named when a job is asked again; and that whatever
// fails here (a full disk, a lost folder, a killed process) leaves a state from
// which the next look goes on. Waits (a sleeping host, not_before, a full disk)
// are seen in the list and are no failures.
//
// One goroutine, the poller, owns what is known of the queue folder; each running
// job is a goroutine of its own that reports back to it.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/metrics"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/notify"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/trace"
	"davidcockson.com/runner/internal/vault"
)

// Options is what a Worker is made of. All fields must be set unless they say
// otherwise.
type Options struct {
	Vault   *vault.Vault
	Ledger  *ledger.Ledger
	Hosts   []ask.Host
	Arbiter *provider.Arbiter
	Hub     *live.Hub
	// Location is the owner's zone.
	Location *time.Location
	// Guard is how long a note must lie unchanged, 0 for not at all.
	Guard time.Duration
	// Concurrency is how many jobs may run at once.
	Concurrency int
	// Caps bounds spending with paid hosts.
	Caps ledger.Caps
	// JobLimit bounds a job, without loading and waiting; a note may set its own.
	JobLimit time.Duration
	// Grace is how long a stop waits for running jobs.
	Grace time.Duration
	// Hostname and Version are shown; StateID names the state folder.
	Hostname, Version, StateID string
	// TakeOver takes the vault from a worker with another state folder.
	TakeOver bool
	// Tracer, Metrics and Outbox may be nil: nothing is traced, counted or told.
	Tracer  *trace.Tracer
	Metrics *metrics.Metrics
	Outbox  *notify.Outbox
	// VaultName is the vault's name on the owner's devices, for links.
	VaultName string
	// StateFree is the free space of the state folder in bytes.
	StateFree func() (int64, error)
	// Watch tells names that changed in the queue folder; nil or a closed channel
	// leaves it to polling. A name of "" says that some were missed.
	Watch <-chan string
	// Poll is the time between two looks at the whole folder.
	Poll time.Duration
	Log  *slog.Logger
}

const (
	// mostAttempts is how often a job may be interrupted before it fails.
	mostAttempts = 3
	// mostPatience is how long a note waits for a host, from its first sight.
	mostPatience = 72 * time.Hour
	// LeastFree is the space below which nothing is claimed, in bytes.
	LeastFree = 64 << 20
	// vanished is how long a note may be nowhere: Syncthing unlinks a file before
	// it renames the new one into its place.
	vanished = 5 * time.Second
	// kept is how long stored answers stay after their output is durable.
	kept = 30 * 24 * time.Hour
)

// Worker is the one that holds the vault. Its exported methods are safe for
// concurrent use, and answer while Run runs.
type Worker struct {
	o     Options
	asks  *ask.Asker
	queue *queue.Queue
	index *vault.Index     // safe for all
	hosts map[string]*host // the map is fixed; each host is the poller's

	// The poller's own, touched by no other goroutine:
	waits     map[string]wait       // unclaimed notes that do not run, by name
	rows      map[string]ledger.Row // jobs that were put back, by file name
	sights    map[string]time.Time  // first sights that the ledger remembers
	newSights map[string]time.Time  // those that it does not know yet
	oldSights []string              // those that it may forget
	forced    map[string]bool       // notes that the owner wants run whatever is known
	foreseen  map[string]foreseen   // notes that wait for the day's cap, by name
	recent    map[string]time.Time  // when a content was claimed last, by its hash
	repairs   map[string]*repair    // jobs whose record and file do not agree yet, by id
	strays    map[string]stray      // files in the active folder that no job owns
	missing   map[string]time.Time  // since when the file of a running job is gone, by id
	lastScan  time.Time
	lastTidy  time.Time
	ready     chan struct{} // closed once the start is done
	changed   map[string]struct{}
	told      map[string]bool // notes in the queue of which the owner was told, by the ping's key
	rescan    bool
	owner     owner
	capped    string           // why nothing is claimed for paid hosts today, "" if something is
	cappedDay time.Time        // the midnight from which capped counts
	cappedBy  *ledger.CapError // the call that did not fit, nil if none would
	quiet     time.Time        // nothing is claimed before, since the ledger failed
	backoff   time.Duration    // how long the last such pause was

	requests chan func(context.Context) // what other goroutines want done by the poller
	outcomes chan outcome

	group errgroup.Group // of the claims, runs and questions under way

	mu      sync.Mutex
	running map[string]*run      // by job id
	busy    int                  // claims and runs under way; at most Concurrency
	paused  string               // why nothing is claimed, "" if something is
	gone    map[string]time.Time // since when a job's note is nowhere, by id
	polled  time.Time
	started time.Time
}

// wait is why an unclaimed note does not run.
type wait struct {
	sum    [32]byte
	state  string // waiting, held or duplicate
	reason string
	// decided says that the ledger was asked.
	decided bool
}

// run is an attempt under way.
type run struct {
	row    ledger.Row
	file   string // in the active folder, "" before it is there; guarded by Worker.mu
	cancel context.CancelCauseFunc
	since  time.Time
	// step and steps are guarded by Worker.mu.
	step, steps int
}

// New makes a Worker; it touches nothing before Run.
func New(o Options) *Worker {
	w := &Worker{
		o: o, asks: &ask.Asker{Caps: o.Caps, Location: o.Location, Tracer: o.Tracer, Metrics: o.Metrics, Log: o.Log}, hosts: make(map[string]*host),
		waits: make(map[string]wait), rows: make(map[string]ledger.Row), sights: make(map[string]time.Time), newSights: make(map[string]time.Time), forced: make(map[string]bool), foreseen: make(map[string]foreseen), told: make(map[string]bool), recent: make(map[string]time.Time),
		repairs: make(map[string]*repair), strays: make(map[string]stray), missing: make(map[string]time.Time),
		ready: make(chan struct{}), changed: make(map[string]struct{}),
		requests: make(chan func(context.Context)), outcomes: make(chan outcome, o.Concurrency+1),
		running: make(map[string]*run), gone: make(map[string]time.Time), started: time.Now(),
	}
	rules := job.Rules{Location: o.Location}
	for _, h := range o.Hosts {
		rules.Providers = append(rules.Providers, job.ProviderRule{Name: h.Name, Models: h.Models})
		w.hosts[h.Name] = newHost(h)
	}
	w.queue = queue.New(o.Vault, o.Guard, rules)
	w.index = Index(o.Vault)
	return w
}

// Index looks up what the links in job notes name: all of the vault but the
// queue's own folders. Outputs may be context.
func Index(v *vault.Vault) *vault.Index {
	return vault.NewIndex(v, note.Aliases, queue.Waiting, queue.Active, queue.Completed, queue.Failed)
}

// Ready is closed when the start is done: what was stuck is finished or put
// back, and the queue is polled.
func (w *Worker) Ready() <-chan struct{} { return w.ready }

// The causes for which a running job is stopped.
var (
	errCancelled = errors.New("cancelled by its owner")
	errStopping  = errors.New("the worker stops")
	errNoteGone  = errors.New("its note is gone")
)

// limitError is the cause of a job that ran out of its own time.
type limitError struct{ limit time.Duration }

func (e limitError) Error() string { return fmt.Sprintf("the job took longer than %s", e.limit) }

// Run drains the queue until ctx ends; then it claims no more, gives running
// jobs their grace time and puts back what is left. It returns nil after such a
// stop, and an error where it could not start.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.start(ctx); err != nil {
		return err
	}
	// Jobs outlive ctx by the grace time.
	jobs, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	w.poll(ctx, jobs)

	w.pause(stopping)
	deadline := time.AfterFunc(w.o.Grace, func() { stop(errStopping) })
	defer deadline.Stop()
	if n := w.active(); n > 0 {
		w.o.Log.Info("stopping: running jobs have their grace time", "jobs", n, "grace", w.o.Grace)
	}
	for w.active() > 0 {
		select {
		case r := <-w.outcomes:
			w.settleOutcome(r)
		case f := <-w.requests:
			f(jobs)
		}
	}
	return w.group.Wait()
}

// stopping is why nothing is claimed at the end.
const stopping = "the worker stops"

func (w *Worker) active() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.busy
}

func (w *Worker) pause(reason string) {
	w.mu.Lock()
	was := w.paused
	w.paused = reason
	w.mu.Unlock()
	switch {
	case was == reason:
	case reason == "":
		w.o.Log.Info("claiming again")
	case reason == stopping:
		w.o.Log.Info("claiming nothing", "reason", reason)
	default:
		w.o.Log.Warn("claiming nothing", "reason", reason)
	}
}

// transition logs a move of a job's note and tells those who watch.
func (w *Worker) transition(row ledger.Row, from, to, reason string) {
	w.o.Log.Info("moved", "job", row.ID, "note", row.File, "from", from, "to", to, "reason", reason, "attempt", row.Attempt, "run", row.Run)
	w.announce(row.ID, to)
}

// ended counts a job that came to its end, and wakes who tells of it.
func (w *Worker) ended(row ledger.Row) {
	began := row.Started
	if began.IsZero() {
		began = row.Ended
	}
	w.o.Metrics.JobEnded(string(row.Type), row.Provider, string(row.State), row.Ended.Sub(began))
	if w.o.Outbox != nil {
		w.o.Outbox.Wake()
	}
}

func (w *Worker) announce(id, state string) {
	w.o.Hub.Announce(id, provider.Event{Kind: live.State, Text: strings.TrimPrefix(state, "_")})
}
