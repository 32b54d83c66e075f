package chat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/trace"
)

// The causes for which a running answer is ended.
var (
	errStopped  = errors.New("stopped by its owner")
	errStopping = errors.New("the process stopped")
	errEndless  = fmt.Errorf("the answer is longer than %d MiB; its beginning is kept", history.MostText>>20)
)

// limitError is the cause of an answer that took too long.
type limitError struct{ limit time.Duration }

func (e limitError) Error() string { return fmt.Sprintf("the answer took longer than %s", e.limit) }

const (
	// patience is how long a message waits for a host that is away, and askAgain the
	// time between two looks.
	patience = 10 * time.Minute
	askAgain = 5 * time.Second
	// saveAgain is the time between two tries to keep an answer that has ended.
	saveAgain = 2 * time.Second
)

// answer is one answer under way, and the ledger's book of its calls.
type answer struct {
	c        *Chat
	running  history.Running
	settings history.Settings
	host     ask.Host
	stream   *live.Stream
	cancel   context.CancelCauseFunc
	past     func(context.Context, int) (recalled, error) // see remember
	span     *trace.Span
	kept     bool // in the history, as a message
}

// question is what an answer is begun for.
type question struct {
	conversation string
	settings     history.Settings
	known        int    // the turns that the conversation was seen to have
	text         string // "": a further version of the answer to the last of them
}

// begin makes room for an answer, writes the question down, and starts it.
func (c *Chat) begin(ctx context.Context, q question) (Turn, error) {
	select {
	case <-c.begun:
	case <-ctx.Done():
		return Turn{}, ctx.Err()
	}
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	a := &answer{c: c, settings: q.settings, host: c.hosts[q.settings.Provider], cancel: cancel}
	if err := c.reserve(q.conversation, a); err != nil {
		cancel(nil)
		return Turn{}, err
	}
	started := false
	defer func() {
		if !started {
			c.end(q.conversation, a, func() {})
		}
	}()
	a.past = c.remember(work, q)
	// From here on the request's end changes nothing: the message is written.
	keep := context.WithoutCancel(ctx)
	number, err := c.write(keep, q)
	if err != nil {
		return Turn{}, err
	}
	a.running, err = c.o.History.Start(keep, history.Running{Conversation: q.conversation, Turn: number,
		Provider: q.settings.Provider, Model: q.settings.Model, Created: time.Now()})
	if err != nil {
		return Turn{}, err
	}
	if a.stream, err = c.o.Hub.Open(Topic(q.conversation), func() { cancel(errStopped) }); err != nil {
		return Turn{}, fmt.Errorf("show the answer: %w", err)
	}
	started = true
	go func() {
		end := a.run(work)
		c.end(q.conversation, a, func() { a.stream.Close(end) })
	}()
	runtime.Gosched() // the answer goes first: its reader waits longer than the sender for the reply
	return Turn{q.conversation, number, a.running.Version, q.settings.Provider, q.settings.Model}, nil
}

// write returns the number of the turn that is asked.
func (c *Chat) write(ctx context.Context, q question) (int, error) {
	if q.text == "" {
		return q.known, c.o.History.Change(ctx, q.conversation, q.settings, time.Now())
	}
	return c.o.History.Ask(ctx, q.conversation, q.settings, q.text, time.Now())
}

// remember begins to read what the model is given of a conversation, so that the question is
// written meanwhile. What it returns waits for that, and puts the question at the end; it is
// told the number under which the question was written: where another came before it, the
// conversation is read again.
func (c *Chat) remember(ctx context.Context, q question) func(context.Context, int) (recalled, error) {
	var r recalled
	var err error
	done := make(chan struct{})
	if q.known == 0 {
		r.size, r.scale = c.measure(nil, q.settings)
		close(done)
	} else {
		go func() {
			defer close(done)
			defer c.survive(q.conversation, &err)
			r, err = c.recall(ctx, q.conversation, q.settings, q.known+1, 0)
		}()
	}
	return func(ctx context.Context, number int) (recalled, error) {
		<-done
		switch {
		case q.text == "" || err != nil:
		case number == q.known+1:
			r.turns = append(r.turns, turn{number: number, asked: q.text})
		default:
			return c.recall(ctx, q.conversation, q.settings, 0, 0)
		}
		return r, err
	}
}

// reserve lets one answer at a time into a conversation.
func (c *Chat) reserve(conversation string, a *answer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return ErrStopping
	}
	if c.running[conversation] != nil {
		return ErrRunning
	}
	c.running[conversation] = a
	c.answers.Add(1)
	return nil
}

// end lets the next answer into a conversation and tells the end of this one: whoever
// hears of it may ask at once.
func (c *Chat) end(conversation string, a *answer, tell func()) {
	a.cancel(nil)
	c.mu.Lock()
	tell()
	delete(c.running, conversation)
	c.mu.Unlock()
	c.answers.Done()
}

// run asks, shows and keeps one answer, and returns how it ended.
func (a *answer) run(ctx context.Context) (end string) {
	got, err := a.ask(ctx)
	a.c.rec.flush()
	m := a.message(ctx, got, err)
	a.keep(m)
	a.span.End(got.Text, ask.Traced(ctx, err))
	end = string(provider.KindOf(err))
	switch {
	case m.State == history.Done:
		end = "stop"
	case m.State != history.Failed:
		end = string(m.State)
	case end == "":
		end = string(provider.Failed)
	}
	return end
}

// survive, deferred, makes a panic the error of one answer.
func (c *Chat) survive(conversation string, err *error) {
	if v := recover(); v != nil {
		c.o.Log.Error("an answer panicked", "chat", conversation, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		*err = errors.New("the program failed inside this answer; its log has the details")
	}
}

// ask makes the call.
func (a *answer) ask(ctx context.Context) (got provider.Answer, err error) {
	c := a.c
	defer c.survive(a.running.Conversation, &err)
	r, err := a.past(ctx, a.running.Turn)
	if err != nil {
		return got, err
	}
	ctx, a.span = c.o.Tracer.Start(ctx, trace.Root{Name: a.settings.Title, Type: "chat", ID: fmt.Sprintf("%s/%d/%d", a.running.Conversation, a.running.Turn, a.running.Version),
		Session: a.running.Conversation, Kind: trace.Chain, Input: r.turns[len(r.turns)-1].asked})
	a.running.Trace = a.span.TraceID()

	got, err = a.call(ctx, compose(a.settings.System, r.turns, r.size, r.scale))
	// A server that has just told how small its context is, unasked, is asked for
	// less.
	if e := ask.AsError(err); e != nil && e.Kind == provider.TooLong && !e.Sent && r.size == 0 && got.Context > 0 {
		got, err = a.call(ctx, compose(a.settings.System, r.turns, got.Context, r.scale))
	}
	return got, err
}

// call asks for a prompt, and again while a host that may be away is away.
func (a *answer) call(ctx context.Context, p prompt) (provider.Answer, error) {
	c := a.c
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var limit *time.Timer
	defer func() {
		if limit != nil {
			limit.Stop()
		}
	}()
	var since time.Time // since when the host is away, zero while it is not
	var said int
	sink := func(e provider.Event) {
		if e.Kind == provider.PhaseEvent && e.Phase == provider.Connecting && !since.IsZero() {
			return // one look more; what is shown says more
		}
		if e.Kind == provider.PhaseEvent && e.Phase == provider.Reading && limit == nil {
			limit = time.AfterFunc(c.o.Limit, func() { cancel(limitError{c.o.Limit}) })
		}
		// The last megabyte is for what is already on its way.
		if said += len(e.Text); said > history.MostText-1<<20 {
			cancel(errEndless)
		}
		if e.Kind != provider.EndEvent { // a call's end is not yet the answer's
			a.show(e)
		}
	}
	order := ask.Call{Host: a.host, Request: provider.Request{Model: a.settings.Model, Messages: p.messages, Temperature: a.settings.Temperature},
		Step: 1, Book: a, Patient: a.host.Patient, Place: a.place, For: slog.String("chat", a.running.Conversation)}
	began := time.Now()
	for {
		got, err := c.o.Asker.Ask(limited, order, sink)
		e := ask.AsError(err)
		if err == nil {
			if err := c.o.Ledger.Back(context.WithoutCancel(ctx), a.host.Name); err != nil {
				c.o.Log.Error("remember that a host is back", "provider", a.host.Name, "error", err)
			}
		}
		if e == nil || e.Kind != provider.Unreachable || !a.host.Patient || time.Since(began) > patience {
			return got, a.cause(limited, err)
		}
		if since.IsZero() {
			var failed error
			if since, failed = c.o.Ledger.Away(context.WithoutCancel(ctx), a.host.Name, time.Now()); failed != nil {
				c.o.Log.Error("remember since when a host is away", "provider", a.host.Name, "error", failed)
			}
		}
		a.show(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Connecting,
			Text: fmt.Sprintf("%s cannot be reached since %s (%s)", a.host.Name, ask.Clock(since, c.o.Location), strings.TrimPrefix(e.Reason, "unreachable: "))})
		select {
		case <-time.After(askAgain):
		case <-limited.Done():
			return got, a.cause(limited, err)
		}
	}
}

// cause says of an answer that ran out of time or of room that it did.
func (a *answer) cause(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errEndless) && err != nil {
		return a.endless()
	}
	limit, ok := errors.AsType[limitError](context.Cause(ctx))
	if !ok || err == nil {
		return err
	}
	return &provider.Error{Kind: provider.Timeout, Provider: a.host.Name, Model: a.settings.Model, Reason: limit.Error(), Advice: "set a longer deadlines.job in the config", Sent: true, Cause: err}
}

// endless is the failure of an answer that the history would not take.
func (a *answer) endless() *provider.Error {
	return &provider.Error{Kind: provider.Cut, Provider: a.host.Name, Model: a.settings.Model, Reason: errEndless.Error(),
		Advice: "ask for less, or queue it as a job with max_tokens", Sent: true}
}

func (a *answer) show(e provider.Event) {
	a.c.rec.add(event{stream: a.stream, running: a.running.ID, event: e})
}

// place waits for a place at the host, and tells who stands before.
func (a *answer) place(ctx context.Context) (func(), error) {
	c, who := a.c, Topic(a.running.Conversation)
	soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	release, err := c.o.Places.Acquire(soon, a.host.Name, provider.Interactive, who)
	cancel()
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return release, err
	}
	a.show(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Waiting, Text: c.behind(ctx, a.host.Name)})
	return c.o.Places.Acquire(ctx, a.host.Name, provider.Interactive, who)
}

// behind says who has the places at a provider.
func (c *Chat) behind(ctx context.Context, name string) string {
	for _, l := range c.o.Places.Lines(ctx) {
		if l.Name != name {
			continue
		}
		if time.Now().Before(l.SlowUntil) {
			return fmt.Sprintf("%s asked for a pause until %s: %s", name, l.SlowUntil.In(c.o.Location).Format("15:04:05 MST"), l.Reason)
		}
		var who []string
		for _, h := range l.Held {
			if _, chat := Conversation(h.Who); chat {
				who = append(who, "another conversation")
			} else {
				who = append(who, "the job "+h.Who)
			}
		}
		if len(who) > 0 {
			return fmt.Sprintf("in line at %s behind %s", name, strings.Join(who, " and "))
		}
	}
	return "in line at " + name
}

// message is what the history keeps of an answer that has ended.
func (a *answer) message(ctx context.Context, got provider.Answer, err error) history.Message {
	r := a.running
	// What the history refuses would be tried for ever.
	if room := history.MostText - len(got.Thinking); len(got.Text) > room {
		got.Thinking = got.Thinking[:min(len(got.Thinking), history.MostText/2)]
		got.Text = got.Text[:min(len(got.Text), history.MostText-len(got.Thinking)-utf8.UTFMax)]
		if err == nil {
			err = a.endless()
		}
	}
	m := history.Message{Conversation: r.Conversation, Turn: r.Turn, Version: r.Version, Role: history.Assistant, State: history.Done,
		Text: got.Text, Thinking: got.Thinking, Provider: r.Provider, Model: r.Model, Answer: got, Trace: r.Trace, Created: r.Created, Ended: time.Now()}
	cause := context.Cause(ctx)
	var capped *ledger.CapError
	switch {
	case err == nil:
	case errors.Is(cause, errStopped):
		m.State, m.Reason = history.Stopped, errStopped.Error()
	case errors.Is(cause, errStopping):
		m.State, m.Reason = history.Interrupted, errStopping.Error()
	case errors.As(err, &capped):
		m.State, m.Reason, m.Advice = history.Failed, "not asked: "+capped.Reason, "raise the cap in the config, or wait until midnight"
	default:
		m.State, m.Reason = history.Failed, err.Error()
		if e := ask.AsError(err); e != nil {
			m.Reason, m.Advice = e.Error(), e.Advice
		}
	}
	return m
}

// keep puts an answer into the history as a message, and tries until it is there:
// its pieces are, and a start would find them. It gives up when the process ends.
func (a *answer) keep(m history.Message) {
	if a.kept {
		return
	}
	c := a.c
	for try := 1; ; try++ {
		_, err := c.o.History.Settle(context.Background(), a.running.ID, m)
		if err == nil || errors.Is(err, history.ErrStale) {
			a.kept = true
			return
		}
		if try == 1 {
			c.o.Log.Error("an answer cannot be kept as a message; it is tried again", "chat", m.Conversation, "turn", m.Turn, "error", err)
			a.show(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Answering, Text: "the answer is whole, but the history cannot be written: look at the disk of the state folder"})
		}
		c.mu.Lock()
		stopped := c.stopped
		c.mu.Unlock()
		if stopped {
			return
		}
		time.Sleep(saveAgain)
	}
}

// Intend writes down that the answer is about to be asked for.
func (a *answer) Intend(ctx context.Context, call ledger.Call, allowance ledger.Allowance) (int64, error) {
	id, err := a.c.o.Ledger.IntendChat(ctx, ledger.ChatRef{Conversation: a.running.Conversation, Turn: a.running.Turn, Version: a.running.Version}, call, allowance)
	if err != nil {
		return 0, err
	}
	return id, a.c.o.History.Describe(ctx, a.running.ID, id, a.running.Trace)
}

// Answered keeps the answer first, then closes the call: an end between the two
// leaves a call that may have been billed, which is true, and a whole answer.
func (a *answer) Answered(ctx context.Context, call int64, got provider.Answer, price ledger.Price) error {
	a.c.rec.flush()
	a.keep(a.message(ctx, got, nil))
	if err := a.c.o.Ledger.ChatAnswered(ctx, call, got, price, time.Now()); err != nil {
		a.c.o.Log.Error("the end of a call could not be written; it goes on counting with its estimate", "chat", a.running.Conversation, "error", err)
	}
	return nil
}

// Failed writes down how the call failed.
func (a *answer) Failed(ctx context.Context, call int64, got provider.Answer, e *provider.Error, price ledger.Price) error {
	return a.c.o.Ledger.ChatFailed(ctx, call, got, e, price, time.Now())
}
