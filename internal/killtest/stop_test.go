package killtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
)

// heard is what a reader of events got, up to its end.
type heard struct {
	items []live.Item
	err   error
}

// listen follows a topic, or the feed for "", and closes begun at the first event
// that is like one.
func listen(socket, topic string, like func(provider.Event) bool) (all <-chan heard, begun <-chan struct{}) {
	end, first := make(chan heard, 1), make(chan struct{})
	go func() {
		var h heard
		begin := sync.OnceFunc(func() { close(first) })
		for item, err := range control.Dial(socket).Events(context.Background(), topic, 0) {
			if err != nil {
				h.err = err
				break
			}
			h.items = append(h.items, item)
			if like(item.Event) {
				begin()
			}
		}
		end <- h
	}()
	return end, first
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (h heard) has(kind provider.EventKind, text string) bool {
	for _, item := range h.items {
		if item.Event.Kind == kind && item.Event.Text == text {
			return true
		}
	}
	return false
}

// stopping says whether the reader was told that the worker stops.
func (h heard) stopping() bool {
	var e *control.Error
	return errors.As(h.err, &e) && e.Code == control.Stopping
}

// TestSIGTERMInMidJob ends the product's worker while an answer streams.
func TestSIGTERMInMidJob(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, model, grace string
		words              int    // of the prompt; slow repeats twenty a second
		folder             string // where the note lies after it
		end                string // of the job's stream
	}{
		{"an answer that goes on past the grace time goes back", "slow", "100ms", 5000, queue.Waiting, "cancelled"},
		{"an answer that has fallen silent goes back", "silent", "100ms", 5, queue.Waiting, "cancelled"},
		{"an answer that ends within the grace time is kept", "slow", "10m", 20, queue.Completed, "stop"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, orders{})
			e := echoed("a.md", row.model, "count"+strings.Repeat(" one", row.words))
			w.drop(e)
			further := fmt.Sprintf("grace: %s\ndeadlines: {silence: 1h}\n", row.grace)
			s := w.serve(w.State, further)
			running := func() control.Job {
				var job control.Job
				w.until("the job runs", func() bool {
					jobs, err := control.Dial(s.socket).List(t.Context(), control.Filter{States: []string{"active"}})
					if err == nil && len(jobs) == 1 && jobs[0].Name == e.name && jobs[0].Attempt > 0 { // begun, not just claimed
						job = jobs[0]
					}
					return job.ID != ""
				})
				return job
			}
			id := running().ID
			w.until("its stream is open", func() bool { // a moment later than it is listed
				next, stop := iter.Pull2(control.Dial(s.socket).Events(t.Context(), id, 0))
				defer stop()
				_, err, ok := next()
				return ok && err == nil
			})
			stream, begun := listen(s.socket, id, func(e provider.Event) bool { return e.Kind == provider.TextEvent })
			w.until("text comes", func() bool { return isClosed(begun) })
			feed, open := listen(s.socket, "", func(provider.Event) bool { return true })
			for n := 0; !isClosed(open); n++ { // the feed tells what happens once its reader is there
				small := echoed(fmt.Sprintf("small-%d.md", n), "echo", fmt.Sprintf("small job %d.", n))
				w.drop(small)
				w.until("a small job is done", func() bool { return w.has(queue.Completed, small.name, "\nstatus: completed\n") })
			}

			s.Terminate()
			if told := <-stream; !told.has(provider.EndEvent, row.end) && !told.stopping() {
				t.Errorf("the job's reader was not told how it ended: %+v, %v", told.items, told.err)
			}
			if told := <-feed; !told.stopping() {
				t.Errorf("the feed's reader was not told that the worker stops: %+v, %v", told.items, told.err)
			}
			if row.folder == queue.Completed {
				if err := w.check(); err != nil {
					t.Errorf("%v\n%s", err, s.Log)
				}
				return
			}
			if !w.has(queue.Waiting, e.name, e.text) {
				t.Fatalf("the note is not back in the queue\n%s\n%s", w.state(), s.Log)
			}
			s = w.serve(w.State, further)
			if again := running(); again.Attempt != 1 {
				t.Errorf("it runs as attempt %d, want the stopped one not to count", again.Attempt)
			}
			s.Terminate()
			if !w.has(queue.Waiting, e.name, e.text) {
				t.Errorf("the note is not back in the queue after the second stop\n%s", w.state())
			}
		})
	}
}
