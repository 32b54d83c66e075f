// Package providertest is the suite that every implementation of
// provider.Provider passes: what package provider promises, as tests.
//
// The server behind the provider is the caller's affair: a recording, a local
// server or none at all. The suite never sleeps; where it waits for something
// that must happen it gives up after half a minute.
package providertest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"davidcockson.com/runner/internal/provider"
)

// patience is how long the suite waits for what must come. Nothing is measured
// against it.
const patience = 30 * time.Second

// Suite says what to test, and by which models.
type Suite struct {
	// Open returns a provider that is ready for use. What it needs it cleans up
	// by t.Cleanup.
	Open func(t *testing.T) provider.Provider
	// Whole is a model that answers any prompt, and stops by itself. It is among
	// those that the provider lists.
	Whole string
	// Slow is a model that has not finished its answer when its first piece has
	// been handed on.
	Slow string
	// Unknown is a model that the provider does not have.
	Unknown string
}

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	t.Run("a whole answer is its text events together, and all of its fields are filled", s.whole)
	t.Run("the events come in order and end with one end event", s.order)
	t.Run("a call that is cancelled returns what had come", s.cancelled)
	t.Run("a call whose context is over before it begins is cancelled", s.stillborn)
	t.Run("a model that is not there is named as such", s.unknown)
	t.Run("the models are listed", s.models)
	t.Run("a ping is answered", s.ping)
	t.Run("calls at once do not mix their answers", s.concurrent)
}

// recorder is a sink that keeps what it gets, and complains when it gets
// something after its call has returned.
type recorder struct {
	t *testing.T

	mu       sync.Mutex
	events   []provider.Event
	returned bool

	first chan struct{} // closed at the first piece of text
	once  sync.Once
}

func newRecorder(t *testing.T) *recorder {
	return &recorder{t: t, first: make(chan struct{})}
}

func (r *recorder) sink(e provider.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.returned {
		r.t.Errorf("the sink was given %+v after Ask had returned", e)
	}
	r.events = append(r.events, e)
	if e.Kind == provider.TextEvent {
		r.once.Do(func() { close(r.first) })
	}
}

// ask makes the call and closes the sink behind it.
func (r *recorder) ask(ctx context.Context, p provider.Provider, req provider.Request) (provider.Answer, error) {
	answer, err := p.Ask(ctx, req, r.sink)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.returned = true
	return answer, err
}

// text is what the text events make together, as an answer's Text shows it:
// without the blanks it begins with.
func (r *recorder) text(kind provider.EventKind) string {
	var all strings.Builder
	for _, e := range r.events {
		if e.Kind == kind {
			all.WriteString(e.Text)
		}
	}
	return all.String()
}

func request(model, prompt string) provider.Request {
	return provider.Request{Model: model, Messages: []provider.Message{{Role: provider.User, Content: prompt}}}
}

func (s Suite) whole(t *testing.T) {
	p, r := s.Open(t), newRecorder(t)
	before := time.Now()
	answer, err := r.ask(t.Context(), p, request(s.Whole, "Where is the note?"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := answer.Text, strings.TrimLeftFunc(r.text(provider.TextEvent), unicode.IsSpace); got != want {
		t.Errorf("Text is %q, but the text events make %q", got, want)
	}
	if got, want := answer.Thinking, r.text(provider.ThinkingEvent); got != want {
		t.Errorf("Thinking is %q, but the thinking events make %q", got, want)
	}
	for field, filled := range map[string]bool{
		"Text":           strings.TrimSpace(answer.Text) != "",
		"Provider":       answer.Provider != "",
		"Model":          answer.Model != "",
		"Finish":         answer.Finish != "",
		"Usage.Estimate": answer.Usage.Estimate > 0,
		"Usage.Read":     answer.Usage.Read >= answer.Usage.Estimate,
		"Usage.Written":  answer.Usage.Written > 0,
		"FirstToken":     answer.FirstToken > 0,
		"Took":           answer.Took >= answer.FirstToken,
		"Started":        !answer.Started.Before(before),
	} {
		if !filled {
			t.Errorf("%s is not filled as it should be: %+v", field, answer)
		}
	}
}

func (s Suite) order(t *testing.T) {
	for _, model := range []string{s.Whole, s.Unknown} {
		p, r := s.Open(t), newRecorder(t)
		_, err := r.ask(t.Context(), p, request(model, "Where is the note?"))
		phases := []provider.Phase{provider.Waiting, provider.Connecting, provider.Loading, provider.Reading, provider.Answering}
		at := -1
		for i, e := range r.events {
			switch e.Kind {
			case provider.PhaseEvent:
				next := slices.Index(phases, e.Phase)
				if next <= at {
					t.Errorf("%s: phase %q came at the wrong place", model, e.Phase)
				}
				at = next
			case provider.TextEvent, provider.ThinkingEvent:
				if at != slices.Index(phases, provider.Answering) {
					t.Errorf("%s: a piece came before the phase %q", model, provider.Answering)
				}
				if e.Text == "" {
					t.Errorf("%s: an empty piece came", model)
				}
			case provider.UsageEvent:
				if e.Usage == nil {
					t.Errorf("%s: a usage event without usage", model)
				}
			case provider.EndEvent:
				if i != len(r.events)-1 {
					t.Errorf("%s: an end event came before the end", model)
				}
			default:
				t.Errorf("%s: an event of kind %q", model, e.Kind)
			}
		}
		want := "stop"
		if err != nil {
			want = string(provider.KindOf(err))
		}
		if last := r.events[len(r.events)-1]; last.Kind != provider.EndEvent || last.Text != want {
			t.Errorf("%s: the last event is %+v, want the end with %q", model, last, want)
		}
	}
}

func (s Suite) cancelled(t *testing.T) {
	p, r := s.Open(t), newRecorder(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type result struct {
		answer provider.Answer
		err    error
	}
	done := make(chan result, 1)
	go func() {
		answer, err := r.ask(ctx, p, request(s.Slow, "Count the words of this sentence for me, please, one by one."))
		done <- result{answer, err}
	}()
	select {
	case <-r.first:
	case got := <-done:
		t.Fatalf("the call ended before a piece of text came: %v", got.err)
	case <-time.After(patience):
		t.Fatal("no piece of text came")
	}
	cancel()
	select {
	case got := <-done:
		check(t, got.err, provider.Cancelled)
		if got.answer.Text == "" || got.answer.Text != strings.TrimLeftFunc(r.text(provider.TextEvent), unicode.IsSpace) {
			t.Errorf("Text is %q, but the text events make %q", got.answer.Text, r.text(provider.TextEvent))
		}
		if got.answer.Took <= 0 {
			t.Error("Took is not filled")
		}
	case <-time.After(patience):
		t.Fatal("the call did not return after it was cancelled")
	}
}

func (s Suite) stillborn(t *testing.T) {
	p, r := s.Open(t), newRecorder(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.ask(ctx, p, request(s.Whole, "Where is the note?"))
	check(t, err, provider.Cancelled)
}

func (s Suite) unknown(t *testing.T) {
	p, r := s.Open(t), newRecorder(t)
	answer, err := r.ask(t.Context(), p, request(s.Unknown, "Where is the note?"))
	check(t, err, provider.NoModel)
	if answer.Text != "" {
		t.Errorf("a model that is not there wrote %q", answer.Text)
	}
	if e, ok := errors.AsType[*provider.Error](err); ok && (e.Sent || e.Advice == "" || e.Model != s.Unknown) {
		t.Errorf("Sent %v, Advice %q, Model %q: want nothing sent, an advice and the model's name", e.Sent, e.Advice, e.Model)
	}
}

func (s Suite) models(t *testing.T) {
	models, err := s.Open(t).Models(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range models {
		if m.Name == s.Whole || strings.TrimSuffix(m.Name, ":latest") == s.Whole {
			return
		}
	}
	t.Errorf("the model %q is not listed in %+v", s.Whole, models)
}

func (s Suite) ping(t *testing.T) {
	if err := s.Open(t).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func (s Suite) concurrent(t *testing.T) {
	p := s.Open(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			r := newRecorder(t)
			answer, err := r.ask(t.Context(), p, request(s.Whole, "Where is the note?"))
			if err != nil {
				t.Error(err)
			}
			if got, want := answer.Text, strings.TrimLeftFunc(r.text(provider.TextEvent), unicode.IsSpace); got != want {
				t.Errorf("Text is %q, but the text events make %q", got, want)
			}
		})
		all.Go(func() {
			if _, err := p.Models(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// check wants an *Error of the given kind with all that its reader needs.
func check(t *testing.T, err error, kind provider.Kind) {
	t.Helper()
	e, ok := err.(*provider.Error)
	if !ok {
		t.Fatalf("the error is %T %v, want a *provider.Error of kind %q", err, err, kind)
	}
	if e.Kind != kind || e.Provider == "" || e.Reason == "" || strings.ContainsAny(e.Reason, "\r\n") {
		t.Errorf("the error is %+v, want kind %q, a provider and a reason of one line", e, kind)
	}
}
