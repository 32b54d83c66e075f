package chat

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
)

// fakeModel answers what its script says and keeps the requests.
type fakeModel struct {
	script func(ctx context.Context, n int, req provider.Request, sink provider.Sink) (provider.Answer, error)

	mu   sync.Mutex
	asks []provider.Request
}

func (m *fakeModel) Ask(ctx context.Context, req provider.Request, sink provider.Sink) (provider.Answer, error) {
	m.mu.Lock()
	m.asks = append(m.asks, req)
	n := len(m.asks)
	m.mu.Unlock()
	sink(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Reading})
	return m.script(ctx, n, req, sink)
}

func (m *fakeModel) Models(context.Context) ([]provider.Model, error) {
	return []provider.Model{{Name: "m"}}, nil
}

func (m *fakeModel) Ping(context.Context) error { return nil }

func (m *fakeModel) requests() []provider.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]provider.Request(nil), m.asks...)
}

// says streams words and ends well.
func says(words ...string) func(context.Context, int, provider.Request, provider.Sink) (provider.Answer, error) {
	return func(_ context.Context, _ int, req provider.Request, sink provider.Sink) (provider.Answer, error) {
		for _, w := range words {
			sink(provider.Event{Kind: provider.TextEvent, Text: w})
		}
		return provider.Answer{Text: strings.Join(words, ""), Provider: "davas", Model: req.Model, Finish: "stop", Usage: provider.Usage{Estimate: 2, Read: 5, Written: len(words)}}, nil
	}
}

// hangs streams some words and then waits to be stopped.
func hangs(words ...string) func(context.Context, int, provider.Request, provider.Sink) (provider.Answer, error) {
	return func(ctx context.Context, _ int, req provider.Request, sink provider.Sink) (provider.Answer, error) {
		for _, w := range words {
			sink(provider.Event{Kind: provider.TextEvent, Text: w})
		}
		<-ctx.Done()
		return provider.Answer{Text: strings.Join(words, ""), Provider: "davas", Model: req.Model}, &provider.Error{Kind: provider.Cancelled, Provider: "davas", Reason: "cancelled", Sent: true}
	}
}

func fails(e provider.Error) func(context.Context, int, provider.Request, provider.Sink) (provider.Answer, error) {
	return func(context.Context, int, provider.Request, provider.Sink) (provider.Answer, error) {
		e.Provider = "davas"
		return provider.Answer{}, &e
	}
}

// arbiter has places as Places wants them.
type arbiter struct{ *provider.Arbiter }

func (a arbiter) Acquire(ctx context.Context, name string, class provider.Class, who string) (func(), error) {
	p, err := a.Arbiter.Acquire(ctx, name, class, who)
	if err != nil {
		return nil, err
	}
	return p.Release, nil
}

func (a arbiter) Lines(context.Context) []provider.Line { return a.Arbiter.Lines() }

// rig is a chat over real stores, with one host that is a fakeModel.
type rig struct {
	*Chat
	t       *testing.T
	model   *fakeModel
	history *history.History
	ledger  *ledger.Ledger
	hub     *live.Hub
	arbiter *provider.Arbiter
	end     func() error
}

// inBubble runs a test with a rig in a bubble of its own time.
func inBubble(t *testing.T, f func(t *testing.T, r *rig), change ...func(*Options)) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h, err := history.Open(t.Context(), filepath.Join(dir, "history.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		l, err := ledger.Open(t.Context(), filepath.Join(dir, "ledger.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		r := &rig{t: t, model: &fakeModel{script: says("Hello", ", ", "world")}, history: h, ledger: l, hub: live.NewHub(256, time.Now),
			arbiter: provider.NewArbiter(map[string]int{"davas": 1}, time.Now)}
		log := slog.New(slog.NewTextHandler(io.Discard, nil))
		o := Options{History: h, Ledger: l, Hub: r.hub, Hosts: []ask.Host{{Name: "davas", Kind: "ollama", Provider: r.model, Patient: true}}, Places: arbiter{r.arbiter},
			Limit: 15 * time.Minute, Grace: 20 * time.Second, Location: time.UTC, Log: log, Asker: &ask.Asker{Location: time.UTC, Log: log}}
		for _, c := range change {
			c(&o)
		}
		r.Chat = New(o)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		synctest.Wait() // it has begun, so that an end is one in order
		r.end = sync.OnceValue(func() error { cancel(); return <-ended })
		defer func() {
			if err := r.end(); err != nil {
				t.Error(err)
			}
		}()
		f(t, r)
	})
}

func (r *rig) send(text string) Turn {
	r.t.Helper()
	turn, err := r.Send(r.t.Context(), "c1", Post{Text: text})
	if err != nil {
		r.t.Fatal(err)
	}
	return turn
}

// await waits until nothing runs in the conversation.
func (r *rig) await() {
	for r.Running()["c1"] {
		time.Sleep(10 * time.Millisecond) // of the bubble's time
	}
}

func (r *rig) messages() []history.Message {
	r.t.Helper()
	all, err := r.history.Since(r.t.Context(), "c1", 1)
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// newest is the conversation's newest answer.
func (r *rig) newest() history.Message {
	r.t.Helper()
	all := r.messages()
	if m := all[len(all)-1]; m.Role == history.Assistant {
		return m
	}
	r.t.Fatalf("the conversation ends without an answer: %+v", all)
	return history.Message{}
}

// shown reads all that the conversation's stream shows until its end.
func (r *rig) shown() (text string, phases []string, end string) {
	r.t.Helper()
	reader, err := r.hub.Subscribe(Topic("c1"), 0)
	if err != nil {
		r.t.Fatal(err)
	}
	for {
		items, err := reader.Next(r.t.Context())
		if errors.Is(err, io.EOF) {
			return text, phases, end
		}
		if err != nil {
			r.t.Fatal(err)
		}
		for _, it := range items {
			switch it.Event.Kind {
			case provider.TextEvent:
				text += it.Event.Text
			case provider.PhaseEvent:
				phases = append(phases, strings.TrimSpace(string(it.Event.Phase)+" "+it.Event.Text))
			case provider.EndEvent:
				end = it.Event.Text
			}
		}
	}
}
