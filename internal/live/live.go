// Package live shows running answers to any number of readers, while they are
// made and to those who come late or come back.
//
// It promises that the producer never waits for a reader; that a reader which
// resumes by the id of the last item it has seen gets every later item once, or
// is told to forget and gets the whole anew; and that a late reader gets the
// whole text so far. A stream holds its last events as they came and folds older
// ones into one text and one thinking per step, so that its memory is that of the
// answer itself and a fixed number of events. A reader costs nothing but its
// place: no goroutine, no buffer; one that falls too far behind is cut (ErrSlow)
// and may resume.
//
// Beside the streams there is one feed of what happens to all of them (everything
// but text) and of what is announced. It keeps its last events and folds nothing.
//
// Nothing is stored: with the process all streams are gone.
package live

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"davidcockson.com/runner/internal/provider"
)

var (
	// ErrNoStream is returned for a topic that has no stream, or whose stream
	// ended so long ago that it is forgotten.
	ErrNoStream = errors.New("no such stream")
	// ErrRunning is returned by Open while the topic's stream has not ended.
	ErrRunning = errors.New("already running")
	// ErrSlow is returned to a reader whose next item is no longer kept. It may
	// subscribe again with the last id it has.
	ErrSlow = errors.New("reader too far behind")
)

// State is the kind of an event that says to what a topic has come, in Text.
// Streams do not make it; it is for Announce.
const State provider.EventKind = "state"

// endedKept is how many ended streams can still be read, so that a reader that
// comes a moment too late still sees a short answer.
const endedKept = 64

// Item is one event as a reader gets it.
type Item struct {
	// ID grows through all items of a process, and over its restarts as long as
	// the clock is not set back. It is 0 on items that belong to a retelling which
	// goes on: a reader resumes by the last ID that was not 0.
	ID uint64 `json:"id,omitempty"`
	// Topic is filled in the feed alone.
	Topic string `json:"topic,omitempty"`
	// Reset tells the reader to forget what it has of this stream: all of it
	// follows. In the feed it says that events may be missing, and nothing of
	// them follows. Event is empty.
	Reset bool           `json:"reset,omitempty"`
	Event provider.Event `json:"event,omitzero"`
}

// Status is a running stream at one moment.
type Status struct {
	Topic string         `json:"topic"`
	Since time.Time      `json:"since"`
	Phase provider.Phase `json:"phase,omitempty"`
	// PhaseSince is when Phase began.
	PhaseSince time.Time `json:"phase_since,omitzero"`
	// Step counts from 1, 0 where there are none; Title is its heading.
	Step   int    `json:"step,omitempty"`
	Title  string `json:"title,omitempty"`
	LastID uint64 `json:"last_id,omitempty"`
	// Bytes counts the text of the answer so far, thinking left out.
	Bytes int `json:"bytes"`
}

// Hub holds the streams of one process. It is safe for concurrent use.
type Hub struct {
	keep int
	now  func() time.Time

	// mu guards all that follows, and every log and Stream of the hub: events are
	// few and small, and one lock keeps ids in one order everywhere.
	mu      sync.Mutex
	lastID  uint64
	feed    *log
	streams map[string]*Stream
	ended   []*Stream // the oldest first
	// awaited are closed when their topic's next stream opens.
	awaited map[string]chan struct{}
}

// Stream is the producer's end of one topic. It is safe for concurrent use.
type Stream struct {
	hub    *Hub
	stop   func()
	log    *log
	status Status
}

// NewHub returns a Hub whose streams keep their last keep events as they came
// (at least 1): a reader is cut when it is further behind than that.
func NewHub(keep int, now func() time.Time) *Hub {
	// Ids begin at the clock, so that one from before a restart is known as old.
	// Microseconds stay below 2^53, which JavaScript can count, until the year 2255.
	h := &Hub{keep: max(keep, 1), now: now, lastID: uint64(max(now().UnixMicro(), 1)), streams: make(map[string]*Stream), awaited: make(map[string]chan struct{})}
	h.feed = &log{keep: h.keep, gone: h.lastID, last: h.lastID}
	return h
}

// Open begins the stream of a topic and replaces one that has ended. It returns
// ErrRunning while the former one runs. Stop calls stop, which must bear being
// called more than once; nil is a stream that cannot be stopped.
func (h *Hub) Open(topic string, stop func()) (*Stream, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, ok := h.streams[topic]; ok && !s.log.ended {
		return nil, ErrRunning
	}
	h.lastID++ // ids of a former stream of this topic are smaller than all of this one's
	s := &Stream{hub: h, stop: stop, status: Status{Topic: topic, Since: h.now()},
		log: &log{keep: h.keep, gone: h.lastID, last: h.lastID, fold: &fold{}}}
	h.streams[topic] = s
	if opened, ok := h.awaited[topic]; ok {
		delete(h.awaited, topic)
		close(opened)
	}
	return s, nil
}

// Opened returns a channel that is closed when the topic's next stream opens, which
// a reader gets before it looks for the present one. It is kept until then.
func (h *Hub) Opened(topic string) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	opened, ok := h.awaited[topic]
	if !ok {
		opened = make(chan struct{})
		h.awaited[topic] = opened
	}
	return opened
}

// Publish adds an event. It never blocks; after Close it does nothing.
func (s *Stream) Publish(e provider.Event) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.publish(e)
}

// publish is Publish for a caller that holds the hub's lock.
func (s *Stream) publish(e provider.Event) {
	if s.log.ended {
		return
	}
	h := s.hub
	h.lastID++
	s.status.LastID = h.lastID
	switch e.Kind {
	case provider.PhaseEvent:
		if s.status.Phase != e.Phase {
			s.status.Phase, s.status.PhaseSince = e.Phase, h.now()
		}
	case provider.StepEvent:
		s.status.Step, s.status.Title = e.Step, e.Text
	case provider.TextEvent:
		s.status.Bytes += len(e.Text)
	}
	s.log.add(Item{ID: h.lastID, Event: e})
	if e.Kind != provider.TextEvent && e.Kind != provider.ThinkingEvent {
		h.feed.add(Item{ID: h.lastID, Topic: s.status.Topic, Event: e})
	}
}

// Close ends the stream with an end event that carries the word end: "stop", or
// the failure's kind. Readers get what is left and then io.EOF. Further calls do
// nothing.
func (s *Stream) Close(end string) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.log.ended {
		return
	}
	s.publish(provider.Event{Kind: provider.EndEvent, Text: end})
	s.log.ended = true // publish has woken the readers, who come to look when we give the lock back
	s.stop = nil       // it may hold the whole job
	h.ended = append(h.ended, s)
	if len(h.ended) > endedKept {
		oldest := h.ended[0]
		h.ended[0] = nil
		h.ended = h.ended[1:]
		if h.streams[oldest.status.Topic] == oldest { // not opened again since
			delete(h.streams, oldest.status.Topic)
		}
	}
}

// Announce puts an event into the feed that no stream made: above all a State,
// when a topic that does not run, or no longer, has come to a new one.
func (h *Hub) Announce(topic string, e provider.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastID++
	h.feed.add(Item{ID: h.lastID, Topic: topic, Event: e})
}

// Stop calls the stop function of the topic's stream, and returns false if none
// runs. The stream ends when its producer closes it.
func (h *Hub) Stop(topic string) bool {
	h.mu.Lock()
	var stop func()
	if s, ok := h.streams[topic]; ok && !s.log.ended {
		stop = s.stop
	}
	h.mu.Unlock()
	if stop == nil {
		return false
	}
	stop()
	return true
}

// Running tells what runs, the longest running first.
func (h *Hub) Running() []Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []Status{}
	for _, s := range h.streams {
		if !s.log.ended {
			out = append(out, s.status)
		}
	}
	slices.SortFunc(out, func(a, b Status) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Topic, b.Topic))
	})
	return out
}
