package trace

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	// queueSpans and queueBytes bound what waits to be sent, and what is being
	// sent. The bytes are those of texts.
	queueSpans = 512
	queueBytes = 64 << 20
)

// Stats count spans since the start: Ended = Sent + Failed + Dropped + Queued.
type Stats struct {
	Ended int64 `json:"ended"`
	// Sent were taken by Langfuse, which maps them later and may still refuse one.
	Sent int64 `json:"sent"`
	// Failed were in a post that was given up.
	Failed int64 `json:"failed"`
	// Dropped found the queue full, or ended after Shutdown.
	Dropped int64 `json:"dropped"`
	Queued  int64 `json:"queued"`
	// LastSuccess and LastFailure are when a post ended so; zero where none has.
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastFailure time.Time `json:"last_failure,omitzero"`
	// LastError is why the last failed post failed. It shows no key, no URL and
	// nothing that a server said.
	LastError string `json:"last_error,omitempty"`
}

// queue bounds and counts what the batch processor holds, which by itself says
// neither what it holds nor what it drops. It is safe for concurrent use.
type queue struct {
	mu     sync.Mutex // guards all below
	counts Stats
	bytes  int
	closed bool
}

// enter takes a span of that size into the queue, and says whether there was room.
func (q *queue) enter(size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.counts.Ended++
	if q.closed || q.counts.Queued >= queueSpans || q.bytes+size > queueBytes {
		q.counts.Dropped++
		return false
	}
	q.counts.Queued++
	q.bytes += size
	return true
}

// leave takes the spans of one post out: sent where reason is "", failed else.
func (q *queue) leave(spans, size int, reason string) Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.counts.Queued -= int64(spans)
	q.bytes -= size
	if reason == "" {
		q.counts.Sent += int64(spans)
		q.counts.LastSuccess = time.Now()
	} else {
		q.counts.Failed += int64(spans)
		q.counts.LastFailure, q.counts.LastError = time.Now(), reason
	}
	return q.counts
}

// close takes no further span.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

// giveUp counts what nobody will send any more: a span that ended in the moment of
// the shutdown.
func (q *queue) giveUp() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.counts.Dropped += q.counts.Queued
	q.counts.Queued, q.bytes = 0, 0
}

func (q *queue) stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counts
}

// processor puts the trace's own attributes on each span that starts, and lets
// those that end into the batch where the queue has room.
type processor struct {
	batch sdktrace.SpanProcessor
	queue *queue
}

// OnStart copies the trace's attributes from the context: Langfuse 4 stores and
// filters session, user, tags and name per span.
func (p *processor) OnStart(ctx context.Context, s sdktrace.ReadWriteSpan) {
	if g, ok := ctx.Value(groupKey{}).(*group); ok {
		s.SetAttributes(g.attributes...)
	}
}

// OnEnd never blocks.
func (p *processor) OnEnd(s sdktrace.ReadOnlySpan) {
	if p.queue.enter(sizeOf(s)) {
		p.batch.OnEnd(s)
	}
}

// Shutdown passes on.
func (p *processor) Shutdown(ctx context.Context) error { return p.batch.Shutdown(ctx) }

// ForceFlush passes on.
func (p *processor) ForceFlush(ctx context.Context) error { return p.batch.ForceFlush(ctx) }

// sizeOf is about how many bytes a span takes in a post.
func sizeOf(s sdktrace.ReadOnlySpan) int {
	size := 256 + len(s.Name()) + len(s.Status().Description)
	for _, kv := range s.Attributes() {
		size += 16 + len(kv.Key)
		switch kv.Value.Type() {
		case attribute.STRING:
			size += len(kv.Value.AsString())
		case attribute.STRINGSLICE:
			for _, text := range kv.Value.AsStringSlice() {
				size += len(text)
			}
		}
	}
	return size
}
