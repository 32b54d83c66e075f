package worker

import (
	"sync"
	"time"

	"davidcockson.com/runner/internal/provider"
)

// budget is the time that a job may take. It stands still while the job waits,
// connects or has its model loaded. It begins standing.
type budget struct {
	mu    sync.Mutex
	left  time.Duration
	since time.Time // when it began to run, zero while it stands
	timer *time.Timer
	over  func()
}

// newBudget calls over once when limit is used up.
func newBudget(limit time.Duration, over func()) *budget {
	return &budget{left: limit, over: over}
}

// see follows the phases of a call.
func (b *budget) see(e provider.Event) {
	if e.Kind != provider.PhaseEvent {
		return
	}
	switch e.Phase {
	case provider.Reading, provider.Answering:
		b.run()
	default:
		b.stop()
	}
}

func (b *budget) run() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.since.IsZero() {
		return
	}
	b.since = time.Now()
	b.timer = time.AfterFunc(b.left, b.over)
}

func (b *budget) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.since.IsZero() {
		return
	}
	b.left -= time.Since(b.since)
	b.since = time.Time{}
	b.timer.Stop()
}
