package notify

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/sqlite/sqlitetest"
)

// journal is a log that the test may read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// rig is a ledger, a fake Discord, and outboxes between them, one after the other.
type rig struct {
	*testing.T
	fake   *fakeDiscord
	faults *sqlitetest.Faults
	ledger *ledger.Ledger
	dir    string
	log    journal
	box    *Outbox
	end    func()
}

func newRig(t *testing.T, answer func(net.Conn, int)) *rig {
	r := &rig{T: t, fake: &fakeDiscord{answer: answer}, faults: new(sqlitetest.Faults), dir: t.TempDir()}
	r.ledger = ledger.New(sqlitetest.Open(t, filepath.Join(r.dir, "ledger.db"), ledger.Migrations(), r.faults))
	return r
}

// start runs a new outbox, as a new process would.
func (r *rig) start() {
	r.Helper()
	log := slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.box = NewOutbox(r.ledger, r.fake.discord(r.T), log)
	ctx, cancel := context.WithCancel(r.Context())
	var group sync.WaitGroup
	box := r.box
	group.Go(func() {
		if err := box.Run(ctx); err != nil {
			r.Errorf("Run: %v", err)
		}
	})
	r.end = func() { cancel(); group.Wait() }
}

// queue queues a ping and wakes the outbox, as the worker does.
func (r *rig) queue(key string) {
	r.Helper()
	if err := r.ledger.Enqueue(r.Context(), ledger.Ping{Job: key, Kind: ledger.PingHeld, Key: key, Body: []byte(`"` + key + `"`)}, time.Now()); err != nil {
		r.Fatal(err)
	}
	if r.box != nil {
		r.box.Wake()
	}
}

// after lets a time pass for everything but the test.
func (r *rig) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (r *rig) bodies() []string {
	var all []string
	for _, e := range r.fake.exchanges() {
		all = append(all, strings.Trim(e.body, `"`))
	}
	return all
}

func (r *rig) want(what string, bodies ...string) {
	r.Helper()
	if got := r.bodies(); !slices.Equal(got, bodies) {
		r.Errorf("%s: Discord got %q, want %q", what, got, bodies)
	}
}

func (r *rig) status(want Status) {
	r.Helper()
	got := r.box.Status()
	got.LastSuccess = want.LastSuccess
	if got != want {
		r.Errorf("status %+v, want %+v", got, want)
	}
}

// noSecret looks for the webhook's path in all that is kept.
func (r *rig) noSecret() {
	r.Helper()
	kept := map[string]string{"the log": r.log.String(), "the status": fmt.Sprintf("%+v", r.box.Status())}
	files, err := filepath.Glob(filepath.Join(r.dir, "*"))
	if err != nil || len(files) == 0 {
		r.Fatal(files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			r.Fatal(err)
		}
		kept[file] = string(data)
	}
	for where, text := range kept {
		if strings.Contains(text, canary) {
			r.Errorf("%s holds the webhook's path", where)
		}
	}
}

func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel() // they wait for the disk
		synctest.Test(t, f)
	})
}

// finish completes a job with its ping, as the worker does.
func (r *rig) finish(name string) {
	r.Helper()
	ctx := r.Context()
	d, err := r.ledger.Claim(ctx, ledger.Candidate{Name: name + ".md", NoteID: name, Hash: name, Spec: job.Spec{Type: job.Text, Steps: []job.Step{{}}},
		Gone: func(string) bool { return false }, Running: func(string) bool { return false }}, time.Now())
	if err != nil {
		r.Fatal(err)
	}
	ref, err := r.ledger.Begin(ctx, d.Row.Ref(), name+".md", "out.md", time.Now())
	if err != nil {
		r.Fatal(err)
	}
	if err := r.ledger.Complete(ctx, ref, job.Active, "out.md", "", time.Now(), &ledger.Ping{Kind: ledger.PingCompleted, Body: []byte(`"` + name + `"`)}); err != nil {
		r.Fatal(err)
	}
}
