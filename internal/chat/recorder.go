package chat

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
)

// recorder writes the pieces of all running answers into the history, in groups,
// and shows them after. So whatever a page has shown survives the process, at the
// price of one small commit, which waits for no disk, for all that came meanwhile.
// If the history cannot be written the answer is shown all the same.
type recorder struct {
	record func(context.Context, []history.Piece) error
	log    *slog.Logger

	mu      sync.Mutex
	pending []event
	// wake holds one signal: there is something pending.
	wake chan struct{}

	// The run loop's own.
	failing bool
	pieces  []history.Piece
	last    map[int64]int // by running answer, its newest event in the group
}

// event is one thing to show. flushed, where it is set, is closed instead.
type event struct {
	stream  *live.Stream
	running int64
	event   provider.Event
	flushed chan struct{}
}

// The least time between two commits: apart where one answer runs, and with each
// further one that has brought a piece shareApart more, up to mostApart, for every
// piece that is shown by itself costs its readers' wake-ups and writes. The first
// piece after a silence, or after words of what goes on, waits for nothing.
const (
	apart      = 10 * time.Millisecond
	shareApart = 2 * time.Millisecond
	mostApart  = 50 * time.Millisecond
)

func newRecorder(record func(context.Context, []history.Piece) error, log *slog.Logger) *recorder {
	return &recorder{record: record, log: log, wake: make(chan struct{}, 1), last: make(map[int64]int)}
}

// add shows an event after those that were added before. It never blocks.
func (r *recorder) add(e event) {
	r.mu.Lock()
	r.pending = append(r.pending, e)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// flush returns when all that was added before has been shown.
func (r *recorder) flush() {
	done := make(chan struct{})
	r.add(event{flushed: done})
	<-done
}

// run records and shows until ctx ends, and what is left then.
func (r *recorder) run(ctx context.Context) {
	var spare []event
	timer := time.NewTimer(0)
	<-timer.C
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			r.group(r.take(nil))
			return
		}
		spare = r.group(r.take(spare))
		if len(r.pieces) == 0 {
			continue // there was no commit
		}
		timer.Reset(min(apart+shareApart*time.Duration(len(r.pieces)-1), mostApart))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

func (r *recorder) take(spare []event) []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.pending
	r.pending = spare[:0]
	return taken
}

// group records a group of events, then shows them, and returns its cleared slice.
func (r *recorder) group(events []event) []event {
	whole := events
	events = r.join(events)
	r.pieces = r.pieces[:0]
	for _, e := range events {
		if spoken(e) {
			r.pieces = append(r.pieces, history.Piece{Running: e.running, Thinking: e.event.Kind == provider.ThinkingEvent, Text: e.event.Text})
		}
	}
	if len(r.pieces) > 0 {
		// It is not ended with the process: what it writes has been paid for.
		err := r.record(context.Background(), r.pieces)
		if (err != nil) != r.failing {
			r.failing = err != nil
			if r.failing {
				r.log.Error("what is shown is not in the history: it cannot be written", "error", err)
			} else {
				r.log.Info("the history is written again")
			}
		}
	}
	for _, e := range events {
		if e.flushed != nil {
			close(e.flushed)
		} else {
			e.stream.Publish(e.event)
		}
	}
	clear(whole)
	return whole
}

// spoken says that an event is a piece of an answer.
func spoken(e event) bool {
	return e.event.Kind == provider.TextEvent || e.event.Kind == provider.ThinkingEvent
}

// join makes one event of the pieces that an answer has brought one after another:
// what comes in a burst, from a quick model or after a slow disk, must not put its
// readers hundreds of events behind at once.
func (r *recorder) join(events []event) []event {
	clear(r.last)
	texts := make(map[int]*strings.Builder)
	kept := events[:0]
	for _, e := range events {
		if e.flushed != nil {
			kept = append(kept, e)
			continue
		}
		i, ok := r.last[e.running]
		if ok && spoken(e) && kept[i].event.Kind == e.event.Kind {
			if texts[i] == nil {
				texts[i] = new(strings.Builder)
				texts[i].WriteString(kept[i].event.Text)
			}
			texts[i].WriteString(e.event.Text)
			continue
		}
		r.last[e.running] = len(kept)
		kept = append(kept, e)
	}
	for i, text := range texts {
		kept[i].event.Text = text.String()
	}
	return kept
}
