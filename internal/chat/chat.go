// Package chat holds conversations: it asks, shows the answer while it is made,
// stops it, and keeps what came of it.
//
// It promises that an answer belongs to the server and not to the page that asked:
// only Stop, a limit or the end of the process ends it; that one conversation has
// one answer under way at most; that what was shown is in the history before it is
// shown; that an answer, whole or partial, is never lost or overwritten: a further
// one to the same message is a further version; and that each call is made as a
// job's is, by package ask. Calls are in the ledger, texts in the history, what runs
// in the live hub under the topic "chat/" and the conversation's id.
package chat

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/trace"
)

// Places gives out places at providers, here or in the process that holds the
// vault.
type Places interface {
	// Acquire waits for a place until ctx ends, and returns what gives it back,
	// which may be called more than once.
	Acquire(ctx context.Context, provider string, class provider.Class, who string) (release func(), err error)
	// Lines tells who has a place and who waits. It is told to readers only.
	Lines(ctx context.Context) []provider.Line
}

// Options is what a Chat is made of. All fields must be set unless they say
// otherwise.
type Options struct {
	History *history.History
	Ledger  *ledger.Ledger
	Hub     *live.Hub
	Hosts   []ask.Host
	Asker   *ask.Asker
	Places  Places
	// Context is the size of a model's context in tokens as configured, 0 where it
	// is not. nil is never.
	Context func(provider, model string) int
	// Tracer may be nil.
	Tracer *trace.Tracer
	// Limit bounds an answer from the moment at which the model reads the prompt.
	Limit time.Duration
	// Grace is how long a stop of the process waits for running answers.
	Grace time.Duration
	// Location is the owner's zone, for times in texts.
	Location *time.Location
	Log      *slog.Logger
}

// Chat is safe for concurrent use. Run must run while it is used.
type Chat struct {
	o     Options
	hosts map[string]ask.Host
	rec   *recorder

	mu      sync.Mutex
	running map[string]*answer // by conversation
	stopped bool
	answers sync.WaitGroup
	// begun is closed once Run has taken over what a former process left.
	begun chan struct{}
}

// MaxText is the longest message, in bytes.
const MaxText = 512 << 10

var (
	// ErrRunning is returned where the conversation's last answer has not ended.
	ErrRunning = errors.New("an answer is being written; stop it first")
	// ErrNoTurn is returned for a turn that is not the conversation's last.
	ErrNoTurn = errors.New("only the last message can be answered anew")
	// ErrStopping is returned while the process ends.
	ErrStopping = errors.New("the control room stops; ask again in a moment")
)

// Invalid is what is wrong with a request, for its sender to mend.
type Invalid struct {
	Field string // text, provider, model, id, temperature or title
	Text  string
}

// Error returns the text.
func (e *Invalid) Error() string { return e.Text }

// New makes a Chat; it touches nothing before Run.
func New(o Options) *Chat {
	c := &Chat{o: o, hosts: make(map[string]ask.Host), running: make(map[string]*answer), begun: make(chan struct{})}
	for _, h := range o.Hosts {
		c.hosts[h.Name] = h
	}
	c.rec = newRecorder(o.History.Record, o.Log)
	return c
}

// Topic is the live hub's topic of a conversation.
func Topic(conversation string) string { return "chat/" + conversation }

// Conversation is the conversation of a topic, and false for a job's.
func Conversation(topic string) (string, bool) { return strings.CutPrefix(topic, "chat/") }

var validID = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// ValidID says whether a conversation may have an id.
func ValidID(id string) bool { return validID.MatchString(id) }

// Run keeps the chat going until ctx ends: then nothing more is asked, running
// answers get their grace time, and what is left is kept as interrupted. What a
// former process left is taken over first.
func (c *Chat) Run(ctx context.Context) error {
	left, err := c.o.History.Recover(ctx, time.Now())
	if err != nil {
		return err
	}
	if _, err := c.o.Ledger.RecoverChat(ctx, time.Now()); err != nil {
		return err
	}
	for _, m := range left {
		c.o.Log.Warn("an answer was interrupted by the end of the process; what was shown is kept", "chat", m.Conversation, "turn", m.Turn,
			"provider", m.Provider, "model", m.Model, "bytes", len(m.Text))
	}
	recording, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	done := make(chan struct{})
	go func() { defer close(done); c.rec.run(recording) }()
	close(c.begun)
	<-ctx.Done()

	c.mu.Lock()
	c.stopped = true
	n := len(c.running)
	c.mu.Unlock()
	if n > 0 {
		c.o.Log.Info("stopping: running answers have their grace time", "answers", n, "grace", c.o.Grace)
	}
	deadline := time.AfterFunc(c.o.Grace, func() { c.stopAll(errStopping) })
	defer deadline.Stop()
	c.answers.Wait()
	end()
	<-done
	return nil
}

func (c *Chat) stopAll(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.running {
		a.cancel(cause)
	}
}

// Ready is closed once what a former process left has been taken over: before that
// its answers are not in the history.
func (c *Chat) Ready() <-chan struct{} { return c.begun }

// Stop ends the running answer of a conversation, which keeps what has come, and
// says whether there was one. The call at the provider ends with it.
func (c *Chat) Stop(conversation string) bool { return c.o.Hub.Stop(Topic(conversation)) }

// Billed says whether an answer may have been billed: a call for it was sent, or may
// have been, to a provider whose calls cost money. What cannot be known counts as
// billed.
func (c *Chat) Billed(ctx context.Context, m history.Message) bool {
	if h, ok := c.hosts[m.Provider]; ok && !h.Paid {
		return false
	}
	calls, err := c.o.Ledger.ChatCalls(ctx, m.Conversation)
	if err != nil {
		c.o.Log.Error("look for calls that may have been billed", "chat", m.Conversation, "error", err)
		return true
	}
	return slices.ContainsFunc(calls, func(k ledger.Call) bool {
		return k.Step == m.Turn && k.Attempt == m.Version && k.Billed
	})
}

// Running tells which conversations have an answer under way.
func (c *Chat) Running() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]bool, len(c.running))
	for id := range c.running {
		all[id] = true
	}
	return all
}
