package trace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	oteltrace "go.opentelemetry.io/otel/trace"

	"davidcockson.com/runner/internal/provider"
)

// Kind is what Langfuse shows a root as.
type Kind string

// The kinds of roots.
const (
	Chain Kind = "chain" // a job
	Agent Kind = "agent" // a job that decides by itself what to look up
)

// Root says what a trace is about.
type Root struct {
	// Name is the note's title. With content off the trace is named for its Type.
	Name string
	// Type is the job's type; ID the job's id, Attempt counts from 1. 0 or "" is
	// left out.
	Type    string
	ID      string
	Attempt int
	// Session groups traces: a job's or a conversation's id. User is whose it is.
	Session, User string
	Kind          Kind
	// Tags and Metadata can be filtered by in Langfuse. As they come from notes,
	// they are left out with content off. So is Input.
	Tags     []string
	Metadata map[string]string
	Input    string
}

// Span is a root, or a step below it. A nil one does nothing. It is safe for
// concurrent use.
type Span struct{ observation }

// Start begins a trace of its own, whatever ctx holds, and returns a context below
// which steps and generations belong to it.
func (t *Tracer) Start(ctx context.Context, r Root) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	name := r.Name
	if !t.content || name == "" {
		name = r.Type
	}
	if name == "" {
		name = string(r.Kind)
	}
	name = label(name)
	g := &group{open: make(map[*observation]struct{}), attributes: t.shared(r, name)}
	var a attributes
	a.text("langfuse.observation.type", string(r.Kind))
	whole := valid(r.Input)
	input := cut(whole, textLimit)
	t.body(&a, "input", input, characters(whole), characters(input))
	s := &Span{observation{t: t, group: g, root: true}}
	return s.begin(context.WithValue(ctx, groupKey{}, g), name, a, oteltrace.WithNewRoot()), s
}

// shared are the attributes of every span of a trace.
func (t *Tracer) shared(r Root, name string) attributes {
	var a attributes
	a.text("langfuse.trace.name", name)
	a.text("langfuse.session.id", r.Session)
	a.text("session.id", r.Session)
	a.text("gen_ai.conversation.id", r.Session)
	a.text("langfuse.user.id", r.User)
	a.text("user.id", r.User)
	a.text("langfuse.trace.metadata.job", r.ID)
	a.text("langfuse.trace.metadata.job_type", r.Type)
	a.number("langfuse.trace.metadata.attempt", r.Attempt)
	if !t.content {
		return a
	}
	var tags []string
	for _, tag := range r.Tags {
		if tag != "" {
			tags = append(tags, label(tag))
		}
	}
	a.list("langfuse.trace.tags", tags)
	for _, key := range slices.Sorted(maps.Keys(r.Metadata)) {
		a.text("langfuse.trace.metadata."+label(key), cut(r.Metadata[key], messageLimit))
	}
	return a
}

// TraceID names the trace: 32 hexadecimal digits, "" with tracing off.
func (s *Span) TraceID() string {
	if s == nil {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// Step begins a step below s; number counts from 1. With content off its title is
// left out.
func (s *Span) Step(ctx context.Context, number int, title string) (context.Context, *Span) {
	if s == nil {
		return ctx, nil
	}
	name := fmt.Sprintf("step %d", number)
	if s.t.content && title != "" {
		name = label(fmt.Sprintf("%d. %s", number, title))
	}
	var a attributes
	a.text("langfuse.observation.type", "span")
	a.number("langfuse.observation.metadata.step", number)
	step := &Span{observation{t: s.t, group: s.group}}
	ctx = context.WithValue(oteltrace.ContextWithSpan(ctx, s.span), groupKey{}, s.group)
	return step.begin(ctx, name, a), step
}

// End ends s with what came of it, either of which may be zero. The first End
// counts, so a deferred one covers a panic. The end of a root ends all that is
// still open below it, as failed.
func (s *Span) End(output string, err error) {
	if s == nil {
		return
	}
	var a attributes
	whole := valid(output)
	short := cut(whole, textLimit)
	s.t.body(&a, "output", short, characters(whole), characters(short))
	if s.root {
		s.group.endOthers(&s.observation)
	}
	s.end(a, err)
}

// groupKey finds the group of the trace in a context.
type groupKey struct{}

// group is what the spans of one trace share.
type group struct {
	attributes attributes // on every span; never changed
	mu         sync.Mutex // guards open
	open       map[*observation]struct{}
}

// leave takes o out, and says whether it was still open.
func (g *group) leave(o *observation) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, open := g.open[o]
	delete(g.open, o)
	return open
}

// endOthers ends what root's end finds open: the job panicked in it.
func (g *group) endOthers(root *observation) {
	g.mu.Lock()
	open := slices.Collect(maps.Keys(g.open))
	g.mu.Unlock()
	for _, o := range open {
		if o != root {
			o.end(nil, errLeftOpen)
		}
	}
}

var errLeftOpen = errors.New("the job ended before this did")

// observation is what spans and generations have in common.
type observation struct {
	t     *Tracer
	group *group
	root  bool
	span  oteltrace.Span
}

// begin starts the span below the one in ctx and returns the context below it.
func (o *observation) begin(ctx context.Context, name string, a attributes, options ...oteltrace.SpanStartOption) context.Context {
	ctx, o.span = o.t.tracer.Start(ctx, name, append(options, oteltrace.WithAttributes(a...))...)
	o.group.mu.Lock()
	defer o.group.mu.Unlock()
	o.group.open[o] = struct{}{}
	return ctx
}

// end ends the span, once.
func (o *observation) end(a []attribute.KeyValue, err error) {
	if !o.group.leave(o) {
		return
	}
	o.span.SetAttributes(a...)
	o.span.SetAttributes(o.outcome(err)...)
	if err != nil && !stopped(err) {
		o.span.SetStatus(codes.Error, o.message(err))
	}
	o.span.End()
}

// outcome is how an end looks. Langfuse 3 loses an observation whose level is not
// one of DEBUG, DEFAULT, WARNING and ERROR.
func (o *observation) outcome(err error) attributes {
	var a attributes
	switch {
	case err == nil:
		a.text("langfuse.observation.level", "DEFAULT")
		return a
	case stopped(err):
		a.text("langfuse.observation.level", "WARNING")
	default:
		a.text("langfuse.observation.level", "ERROR")
	}
	a.text("langfuse.observation.status_message", o.message(err))
	a.text("error.type", kindWord(err))
	return a
}

// message is what an error says; with content off its kind alone, since a server
// may quote the prompt in it.
func (o *observation) message(err error) string {
	if !o.t.content {
		return kindWord(err)
	}
	return valid(cut(err.Error(), messageLimit))
}

// kindWord is the kind of a failure in one of few words.
func kindWord(err error) string {
	if kind := provider.KindOf(err); kind != "" {
		return string(kind)
	}
	if stopped(err) {
		return string(provider.Cancelled)
	}
	return string(provider.Failed)
}

// stopped says that err is no failure: somebody ended the work.
func stopped(err error) bool {
	return provider.KindOf(err) == provider.Cancelled || errors.Is(err, context.Canceled)
}
