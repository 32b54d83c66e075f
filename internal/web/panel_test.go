package web

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"davidcockson.com/runner/internal/access"
	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/chat"
	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/health"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/echo"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/vault/vaulttest"
)

// fakeJobs is a worker that does nothing: its jobs are what a test says. Notes that
// are handed in go through the real rules into a vault in memory.
type fakeJobs struct {
	hub   *live.Hub
	vault *vault.Vault
	away  bool // nothing answers

	mu      sync.Mutex // guards what follows
	jobs    []control.Job
	details map[string]control.Detail
	notes   map[string]string // texts of output notes by path
	refused map[string]error  // by the ref of a retry or cancel
	asked   []control.Filter
	moved   []string // "retry REF", "cancel REF"
	status  control.Status
	broken  error // of List
}

func newFakeJobs(t *testing.T, jobs ...control.Job) *fakeJobs {
	t.Helper()
	mem := vaulttest.NewMem()
	for _, dir := range queue.Folders() {
		if err := mem.Mkdir(dir); err != nil {
			t.Fatal(err)
		}
	}
	return &fakeJobs{hub: live.NewHub(256, time.Now), vault: vault.New(mem), jobs: jobs, details: map[string]control.Detail{}, notes: map[string]string{}, refused: map[string]error{},
		status: control.Status{Host: "davas", Claiming: true, Started: noon, Lines: nil}}
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func (f *fakeJobs) set(jobs ...control.Job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.jobs = jobs
}

func (f *fakeJobs) List(_ context.Context, filter control.Filter) ([]control.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, filter)
	if f.broken != nil {
		return nil, f.broken
	}
	var all []control.Job
	for _, j := range f.jobs {
		if len(filter.States) > 0 && !slices.Contains(filter.States, j.State) {
			continue
		}
		if all = append(all, j); len(all) == filter.Limit {
			break
		}
	}
	return all, nil
}

func (f *fakeJobs) Show(_ context.Context, ref string) (control.Detail, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d, ok := f.details[ref]; ok {
		return d, nil
	}
	return control.Detail{}, &control.Error{Code: control.NotFound, Text: "there is no job " + ref}
}

func (f *fakeJobs) move(verb, ref string) (control.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return control.Job{}, control.ErrNoWorker
	}
	if err := f.refused[ref]; err != nil {
		return control.Job{}, err
	}
	f.moved = append(f.moved, verb+" "+ref)
	return control.Job{ID: ref, State: "waiting"}, nil
}

func (f *fakeJobs) Cancel(_ context.Context, ref string) (control.Job, error) {
	return f.move("cancel", ref)
}
func (f *fakeJobs) Retry(_ context.Context, ref string) (control.Job, error) {
	return f.move("retry", ref)
}

func (f *fakeJobs) Status(context.Context) (control.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return control.Status{}, control.ErrNoWorker
	}
	return f.status, nil
}

func (f *fakeJobs) Events(ctx context.Context, topic string, after uint64) iter.Seq2[live.Item, error] {
	return func(yield func(live.Item, error) bool) {
		if f.away {
			yield(live.Item{}, control.ErrNoWorker)
			return
		}
		reader := f.hub.SubscribeAll(after)
		if topic != "" {
			var err error
			if reader, err = f.hub.Subscribe(topic, after); err != nil {
				yield(live.Item{}, &control.Error{Code: control.NotFound, Text: "Nothing runs under it."})
				return
			}
		}
		for {
			items, err := reader.Next(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(live.Item{}, err)
				return
			}
			for _, it := range items {
				if !yield(it, nil) {
					return
				}
			}
		}
	}
}

func (f *fakeJobs) Submit(_ context.Context, fields []note.KV, body string) (id, path string, err error) {
	rules := job.Rules{Providers: []job.ProviderRule{{Name: "echo", Models: []string{"echo", "org/slow"}}}}
	return queue.Submit(f.vault, rules, fields, body, noon)
}

func (f *fakeJobs) Preview(_ context.Context, path string, bytes int) (string, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, ok := f.notes[path]
	if !ok {
		return "", false, fs.ErrNotExist
	}
	return text[:min(len(text), bytes)], len(text) <= bytes, nil
}

// submitted reads back the only note in the queue folder.
func (f *fakeJobs) submitted(t *testing.T) string {
	t.Helper()
	entries, err := f.vault.List(queue.Waiting)
	if err != nil || len(entries) != 1 {
		t.Fatalf("the queue folder holds %v, %v; want one note", entries, err)
	}
	data, _, err := f.vault.Read(queue.Waiting+"/"+entries[0].Name, note.MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// sessions keeps sessions in memory.
type sessions struct {
	mu sync.Mutex
	of map[string]access.Session
}

func (s *sessions) SaveSession(_ context.Context, one access.Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[one.Hash] = one
	return nil
}

func (s *sessions) Session(_ context.Context, hash string) (access.Session, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.of[hash]
	return one, ok, nil
}

func (s *sessions) TouchSession(context.Context, string, time.Time, time.Time) error { return nil }

func (s *sessions) DeleteSession(_ context.Context, hash string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, hash)
	return nil
}

// panel is a control room over fakeJobs, with a token that lets requests in.
type panel struct {
	t     *testing.T
	app   *App
	http  http.Handler
	jobs  *fakeJobs
	token string
	// report is how everything is.
	report health.Report
}

// absences is the ledger's memory of who is away, without any.
type absences struct{}

func (absences) Away(_ context.Context, _ string, now time.Time) (time.Time, error) { return now, nil }
func (absences) Back(context.Context, string) error                                 { return nil }

// newPanel makes a control room; alter may change its options and its gate's.
func newPanel(t *testing.T, jobs *fakeJobs, alter ...func(*access.Options)) *panel {
	t.Helper()
	dir := t.TempDir()
	gate := access.Options{Listen: "127.0.0.1:8080", StateToken: filepath.Join(dir, "token"), Sessions: &sessions{of: map[string]access.Session{}}}
	for _, f := range alter {
		f(&gate)
	}
	g, err := access.New(t.Context(), gate)
	if err != nil {
		t.Fatal(err)
	}
	p := &panel{t: t, jobs: jobs, report: health.Report{Status: health.Healthy, Time: noon}}
	if data, err := os.ReadFile(gate.StateToken); err == nil {
		p.token = strings.TrimSpace(string(data))
	}
	p.app, err = New(Options{
		Metrics: http.NotFoundHandler(), Hub: jobs.hub, Roster: chat.NewRoster([]ask.Host{{Name: "echo", Kind: "echo", Provider: echo.New("echo", provider.Deadlines{}), Paid: true, Models: []string{"echo", "org/slow"}}}, absences{}, slog.New(slog.DiscardHandler)),
		Jobs: jobs, Health: func(context.Context) health.Report { return p.report }, Gate: g, TraceLink: func(string) string { return "" },
		VaultName: "My Vault", Location: time.UTC, Version: "1", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	p.http = p.app.Handler()
	return p
}

const (
	asPage    = "text/html,application/xhtml+xml"
	asProgram = "application/json"
)

// do sends a request; headers come in pairs.
func (p *panel) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	p.t.Helper()
	r := httptest.NewRequestWithContext(p.t.Context(), method, target, strings.NewReader(body))
	r.Host = "localhost:8080"
	if p.token != "" {
		r.Header.Set("Authorization", "Bearer "+p.token)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	p.http.ServeHTTP(w, r)
	return w
}

func (p *panel) get(target, accept string) *httptest.ResponseRecorder {
	p.t.Helper()
	return p.do(http.MethodGet, target, "", "Accept", accept)
}

// post sends a form as a browser without scripts does; from adds headers.
func (p *panel) post(target string, form url.Values, from ...string) *httptest.ResponseRecorder {
	p.t.Helper()
	return p.do(http.MethodPost, target, form.Encode(), append([]string{"Content-Type", "application/x-www-form-urlencoded", "Accept", asPage}, from...)...)
}

// page reads a page and checks what holds of every page.
func (p *panel) page(target string, status int) *dom {
	p.t.Helper()
	return p.read(p.get(target, asPage), status)
}

func (p *panel) read(w *httptest.ResponseRecorder, status int) *dom {
	p.t.Helper()
	if w.Code != status || w.Header().Get("Content-Type") != "text/html; charset=utf-8" || w.Header().Get("Cache-Control") != "no-store" {
		p.t.Fatalf("got %d, %v, want %d and a page: %s", w.Code, w.Header(), status, w.Body)
	}
	d := parse(p.t, w.Body.String())
	d.check()
	return d
}
