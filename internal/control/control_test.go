package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
)

var _ Office = (*Client)(nil)

// fakeOffice knows one job and answers further refs with the error it is named for.
type fakeOffice struct{}

var oneJob = Job{ID: "20260102-ab", Name: "a note/with ümläut?.md", State: "failed", Reason: "cut", Attempt: 2,
	FirstSeen: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}

func (fakeOffice) find(ref string) (Job, error) {
	switch ref {
	case oneJob.ID, oneJob.Name, "..":
		return oneJob, nil
	case "panic":
		panic("canary")
	case "broken":
		return Job{}, errors.New("canary: database is locked")
	case "2026":
		return Job{}, fmt.Errorf("find: %w", errorf(Ambiguous, "2 jobs begin with 2026."))
	}
	return Job{}, errorf(NotFound, "No job %q.", ref)
}

func (o fakeOffice) List(_ context.Context, f Filter) ([]Job, error) {
	if reflect.DeepEqual(f, Filter{States: []string{"failed", "held"}, Limit: 5}) {
		return []Job{oneJob}, nil
	}
	return nil, nil
}

func (o fakeOffice) Show(_ context.Context, ref string) (Detail, error) {
	j, err := o.find(ref)
	return Detail{Job: j, Error: "cut", Calls: []Call{{Step: 1, State: "failed", Billed: true, Took: time.Second}}}, err
}

func (o fakeOffice) Cancel(_ context.Context, ref string) (Job, error) {
	j, err := o.find(ref)
	j.State = "cancelled"
	return j, err
}

func (o fakeOffice) Retry(_ context.Context, ref string) (Job, error) {
	j, err := o.find(ref)
	j.State = "waiting"
	return j, err
}

func (o fakeOffice) Status(context.Context) (Status, error) {
	return Status{Host: "davas", PID: 7, Claiming: true, Lines: []provider.Line{{Name: "davas", Limit: 1}}}, nil
}

// worker is a served socket and all that stands behind it.
type worker struct {
	path    string
	hub     *live.Hub
	arbiter *provider.Arbiter
	log     *lockedBuffer
	stop    func() error // stops once and returns what serve returned
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func startAt(t *testing.T, path string) *worker {
	t.Helper()
	w := &worker{path: path, hub: live.NewHub(256, time.Now), log: &lockedBuffer{},
		arbiter: provider.NewArbiter(map[string]int{"davas": 1}, time.Now)}
	ln, err := listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() {
		served <- serve(ctx, ln, path, fakeOffice{}, w.hub, w.arbiter, slog.New(slog.NewTextHandler(w.log, nil)))
	}()
	w.stop = sync.OnceValue(func() error { cancel(); return <-served })
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func start(t *testing.T) *worker {
	t.Helper()
	return startAt(t, filepath.Join(t.TempDir(), "runner.sock"))
}

// line returns the arbiter's one line.
func (w *worker) line() provider.Line { return w.arbiter.Lines()[0] }

// free waits until nobody holds the only place, and takes it.
func (w *worker) free(t *testing.T) *provider.Place {
	t.Helper()
	p, err := w.arbiter.Acquire(t.Context(), "davas", provider.Batch, "test")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// waiting waits until n callers stand in line.
func (w *worker) waiting(t *testing.T, n int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for len(w.line().Waiting) != n {
		<-tick.C
	}
}

func TestEveryCallReachesTheOfficeAndComesBack(t *testing.T) {
	c, ctx := Dial(start(t).path), t.Context()
	cancelled, waiting := oneJob, oneJob
	cancelled.State, waiting.State = "cancelled", "waiting"
	for _, tc := range []struct {
		name string
		call func() (any, error)
		want any
	}{
		{"a list with a filter", func() (any, error) { return c.List(ctx, Filter{States: []string{"failed", "held"}, Limit: 5}) }, []Job{oneJob}},
		{"an empty list is no null", func() (any, error) { return c.List(ctx, Filter{}) }, []Job{}},
		{"a job by its id", func() (any, error) { return c.Show(ctx, oneJob.ID) }, Detail{Job: oneJob, Error: "cut",
			Calls: []Call{{Step: 1, State: "failed", Billed: true, Took: time.Second}}}},
		{"a job by a name that is no URL", func() (any, error) { return c.Cancel(ctx, oneJob.Name) }, cancelled},
		{"a ref that looks like a path", func() (any, error) { return c.Retry(ctx, "..") }, waiting},
		{"the heartbeat", func() (any, error) { return c.Status(ctx) },
			Status{Host: "davas", PID: 7, Claiming: true, Lines: []provider.Line{{Name: "davas", Limit: 1}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.call()
			if err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %+v, err %v\nwant %+v", got, err, tc.want)
			}
		})
	}
}

func TestRefusalsComeBackTyped(t *testing.T) {
	w := start(t)
	c, ctx := Dial(w.path), t.Context()
	for _, tc := range []struct {
		name string
		call func() error
		want Error
	}{
		{"an unknown job", func() error { _, err := c.Show(ctx, "x"); return err }, Error{NotFound, `No job "x".`}},
		{"a wrapped refusal", func() error { _, err := c.Cancel(ctx, "2026"); return err }, Error{Ambiguous, "2 jobs begin with 2026."}},
		{"an inner error stays in the log", func() error { _, err := c.Retry(ctx, "broken"); return err },
			Error{Internal, "The worker could not do this; its log says why."}},
		{"a limit below zero", func() error { _, err := c.List(ctx, Filter{Limit: -1}); return err },
			Error{Invalid, `The limit "-1" is not a number of jobs.`}},
		{"an unknown provider", func() error { _, err := c.Acquire(ctx, "davos", provider.Batch, "x"); return err },
			Error{NotFound, `The configuration of the worker has no provider "davos".`}},
		{"an unknown class", func() error { _, err := c.Acquire(ctx, "davas", "urgent", "x"); return err },
			Error{Invalid, `The class "urgent" is neither interactive nor batch.`}},
		{"an unknown topic", func() error {
			for _, err := range c.Events(ctx, "x", 0) {
				return err
			}
			return nil
		}, Error{NotFound, `Nothing runs under "x".`}},
		{"a newer client's call", func() error { _, err := call[Job](ctx, c, http.MethodPost, "/job/pause", nil); return err },
			Error{NotFound, "The worker does not know POST /job/pause: is it of another version?"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.call()
			if e, ok := errors.AsType[*Error](err); !ok || *e != tc.want {
				t.Errorf("got  %#v\nwant %#v", err, tc.want)
			}
		})
	}
	if !strings.Contains(w.log.String(), "canary: database is locked") {
		t.Error("the log does not say why")
	}
}

func TestAPanicInOneCallLeavesTheOthers(t *testing.T) {
	c := Dial(start(t).path)
	if _, err := c.Show(t.Context(), "panic"); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("err = %v", err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWhereNothingAnswersItIsErrNoWorker(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runner.sock")
	if _, err := Dial(path).Status(t.Context()); !errors.Is(err, ErrNoWorker) {
		t.Errorf("absent: err = %v", err)
	}
	leaveStale(t, path)
	_, err := Dial(path).List(t.Context(), Filter{})
	if !errors.Is(err, ErrNoWorker) || !strings.Contains(err.Error(), path) {
		t.Errorf("dead: err = %v", err)
	}
}

// leaveStale leaves a socket as a killed server does.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTheSocketIsTakenOverOnlyWhenNothingAnswers(t *testing.T) {
	t.Run("a dead one is replaced, by one for the owner alone, and removed at the end", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "runner.sock")
		leaveStale(t, path)
		w := startAt(t, path)
		if _, err := Dial(path).Status(t.Context()); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("mode %v, err %v", info.Mode(), err)
		}
		if err := w.stop(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left behind: err = %v", err)
		}
	})
	t.Run("a living one is left alone", func(t *testing.T) {
		w := start(t)
		err := Serve(t.Context(), w.path, fakeOffice{}, w.hub, w.arbiter, slog.Default())
		if !errors.Is(err, ErrInUse) {
			t.Errorf("err = %v", err)
		}
		if _, err := Dial(w.path).Status(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("what is no socket is left alone", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "runner.sock")
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Serve(t.Context(), path, fakeOffice{}, nil, nil, slog.Default())
		if data, _ := os.ReadFile(path); err == nil || string(data) != "mine" {
			t.Errorf("err = %v, content %q", err, data)
		}
	})
}

func TestAStateFolderWithALongPathWorks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 200))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "runner.sock")
	if _, err := Dial(path).Status(t.Context()); !errors.Is(err, ErrNoWorker) {
		t.Errorf("before the start: err = %v", err)
	}
	w := startAt(t, path)
	if _, err := Dial(path).Status(t.Context()); err != nil {
		t.Error(err)
	}
	if err := Serve(t.Context(), path, fakeOffice{}, nil, nil, slog.Default()); !errors.Is(err, ErrInUse) {
		t.Errorf("a second server: err = %v", err)
	}
	if err := w.stop(); err != nil {
		t.Error(err)
	}
}
