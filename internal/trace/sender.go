package trace

import (
	"context"
	"log/slog"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// logEvery is the least time between two lines about what goes wrong.
const logEvery = time.Minute

// sender stands between the batches and the exporter. It cuts a batch into posts
// that Langfuse takes, and reports their ends itself: an error that it returned
// would go to a handler that the whole process shares.
type sender struct {
	exporter sdktrace.SpanExporter
	queue    *queue
	log      *slog.Logger
	// done is closed when nothing will be sent any more.
	done chan struct{}
	once sync.Once

	mu      sync.Mutex // guards the two below
	aborted bool
	cancel  context.CancelFunc // ends the post under way, nil if none is

	// logged is when the last line was written, broken says that it told of a
	// failure, and dropped how many drops it told of. Only the one goroutine that
	// sends uses them.
	logged  time.Time
	broken  bool
	dropped int64
}

func newSender(exporter sdktrace.SpanExporter, q *queue, log *slog.Logger) *sender {
	return &sender{exporter: exporter, queue: q, log: log, done: make(chan struct{})}
}

// ExportSpans sends a batch, in as many posts as its size asks for. It returns nil.
func (s *sender) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	from, size := 0, 0
	for i, span := range spans {
		next := sizeOf(span)
		if i > from && size+next > chunkLimit {
			s.post(ctx, spans[from:i], size)
			from, size = i, 0
		}
		size += next
	}
	if from < len(spans) {
		s.post(ctx, spans[from:], size)
	}
	return nil
}

// post sends spans as one post and counts them.
func (s *sender) post(ctx context.Context, spans []sdktrace.ReadOnlySpan, size int) {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	reason := "the program stopped before they were sent"
	if s.begin(cancel) {
		reason = ""
		met := &encounter{}
		if err := s.exporter.ExportSpans(context.WithValue(ctx, encounterKey{}, met), spans); err != nil {
			reason = met.reason(err)
		}
		s.end()
	}
	s.report(s.queue.leave(len(spans), size, reason), reason)
}

// begin notes how to end the post, and says whether it may be made at all.
func (s *sender) begin(cancel context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel = cancel
	return !s.aborted
}

func (s *sender) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel = nil
}

// abort ends the post under way and makes all later ones fail.
func (s *sender) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aborted = true
	if s.cancel != nil {
		s.cancel()
	}
}

// report writes about the first failure or drop, then once in logEvery, and about
// the first post that gets through again.
func (s *sender) report(now Stats, reason string) {
	if reason == "" && s.broken {
		s.broken = false
		s.log.Info("traces are sent again", "failed", now.Failed, "dropped", now.Dropped)
		return
	}
	if reason == "" && now.Dropped == s.dropped || !s.logged.IsZero() && time.Since(s.logged) < logEvery {
		return
	}
	s.logged, s.dropped = time.Now(), now.Dropped
	if reason == "" {
		s.log.Warn("traces were dropped: Langfuse takes them too slowly", "failed", now.Failed, "dropped", now.Dropped)
		return
	}
	s.broken = true
	s.log.Warn("traces could not be sent", "reason", reason, "failed", now.Failed, "dropped", now.Dropped)
}

// Shutdown is called when the last batch is through.
func (s *sender) Shutdown(ctx context.Context) error {
	defer s.once.Do(func() { close(s.done) })
	return s.exporter.Shutdown(ctx)
}
