package worker

import (
	"context"
	"time"

	"davidcockson.com/runner/internal/metrics"
	"davidcockson.com/runner/internal/queue"
)

// Snapshot is the worker's state for monitors.
func (w *Worker) Snapshot(ctx context.Context) (metrics.State, error) {
	s := metrics.State{Notes: map[string]int{stateWaiting: 0, stateHeld: 0, stateDuplicate: 0, "settling": 0, "unfinished": 0, "draft": 0, "conflict": 0}, Hosts: make(map[string]bool)}
	err := w.request(ctx, func(context.Context) {
		for name, it := range w.queue.Items() {
			state := ""
			switch it.Status {
			case queue.Gone, queue.Taken:
				continue
			case queue.Settling: // in its guard's time
				state = "settling"
			case queue.Unfinished, queue.Wrong:
				state = "unfinished"
			case queue.Draft:
				state = "draft"
			case queue.Ignored:
				state = stateHeld
				if queue.Conflict(name) {
					state = "conflict"
				}
			default:
				state = stateWaiting
				if known, ok := w.waits[name]; ok && known.sum == it.Sum {
					state = known.state
				}
			}
			s.Notes[state]++
			if state == stateWaiting {
				s.Oldest = earlier(s.Oldest, it.FirstSeen)
			}
		}
		s.Notes[stateHeld] += len(w.strays)
		for name, h := range w.hosts {
			if !h.asked.IsZero() {
				s.Hosts[name] = h.state == up
			}
		}
	})
	s.Lines = w.o.Arbiter.Lines()
	w.mu.Lock()
	defer w.mu.Unlock()
	s.Active, s.Claiming, s.LastPoll = len(w.running), w.paused == "", w.polled
	s.Messages = map[string]map[string]int64{"trace": {}, "notify": {}}
	if w.o.Tracer != nil {
		t := w.o.Tracer.Stats()
		s.Messages["trace"] = map[string]int64{"queued": t.Queued, "sent": t.Sent, "failed": t.Failed, "dropped": t.Dropped}
	}
	if w.o.Outbox != nil {
		o := w.o.Outbox.Status()
		s.Messages["notify"] = map[string]int64{"queued": o.Queued, "sent": o.Sent, "failed": o.Failed, "dropped": o.Dropped}
	}
	return s, err
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
