package live

import (
	"context"
	"io"
	"slices"
	"sort"
	"strings"

	"davidcockson.com/runner/internal/provider"
)

// Reader is one reader's place in a stream or in the feed. It holds nothing that
// must be given back, and is for one goroutine.
type Reader struct {
	hub    *Hub
	log    *log
	after  uint64  // the last id that was returned
	retell bool    // the next items are the whole anew
	few    [4]Item // room for the next items: mostly it is one
}

// Subscribe returns a reader of the topic's stream that has seen all up to and
// with the id after; 0 has seen nothing. An id that cannot be continued from, for
// it was folded or belongs to a former stream, gets the whole anew, which begins
// with a Reset. So does 0. A topic without a stream is ErrNoStream.
func (h *Hub) Subscribe(topic string, after uint64) (*Reader, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.streams[topic]
	if !ok {
		return nil, ErrNoStream
	}
	return &Reader{hub: h, log: s.log, after: after, retell: !s.log.has(after)}, nil
}

// SubscribeAll returns a reader of the feed that has seen all up to and with the
// id after; 0 begins with what happens from now on. If what came after it is no
// longer kept, the first item is a Reset. The feed never ends.
func (h *Hub) SubscribeAll(after uint64) *Reader {
	h.mu.Lock()
	defer h.mu.Unlock()
	if after == 0 {
		after = h.feed.last
	}
	return &Reader{hub: h, log: h.feed, after: after, retell: !h.feed.has(after)}
}

// Next returns all items that the reader has not had, at least one, and waits for
// the first. It returns io.EOF after the last item of a stream that ended, ErrSlow
// when the reader was cut, and ctx.Err() when ctx ends first; after that last one
// it can be called again. The items are the reader's until its next call.
func (r *Reader) Next(ctx context.Context) ([]Item, error) {
	for {
		items, changed, err := r.Take() // what is there goes out, also at the end
		if err != nil || len(items) > 0 {
			return items, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Take returns all items that the reader has not had, or, where there is none, the
// channel that is closed when there is more to look for. Its errors are Next's; it
// is for those who wait for something else at the same time.
func (r *Reader) Take() ([]Item, <-chan struct{}, error) {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	l := r.log
	switch {
	case r.retell:
		r.retell, r.after = false, l.last
		return l.whole(), nil, nil
	case r.after < l.gone:
		return nil, nil, ErrSlow
	case r.after < l.last:
		items := l.since(r.few[:0], r.after)
		r.after = l.last
		return items, nil, nil
	case l.ended:
		return nil, nil, io.EOF
	}
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return nil, l.changed, nil
}

// log is a row of items of which the last keep are held as they came, in a ring,
// and older ones are folded, or dropped where fold is nil. The hub's lock guards it.
type log struct {
	keep    int
	ring    []Item // grows to keep, then begins at head
	head    int
	gone    uint64 // the newest id that is no longer in the ring
	last    uint64 // the newest id; with an empty ring the same as gone
	fold    *fold
	ended   bool
	changed chan struct{} // closed and set to nil by add; nil while nobody waits
}

func (l *log) add(it Item) {
	if len(l.ring) < l.keep {
		l.ring = append(l.ring, it)
	} else {
		old := l.ring[l.head]
		if l.fold != nil {
			l.fold.add(old.Event)
		}
		l.gone = old.ID
		l.ring[l.head] = it
		l.head = (l.head + 1) % l.keep
	}
	l.last = it.ID
	l.wake()
}

func (l *log) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// has says whether a reader can go on after this id without a gap.
func (l *log) has(after uint64) bool { return l.gone <= after && after <= l.last }

// since appends the kept items after the given id.
func (l *log) since(items []Item, after uint64) []Item {
	n := len(l.ring)
	first := sort.Search(n, func(i int) bool { return l.ring[(l.head+i)%n].ID > after })
	items = slices.Grow(items, n-first)
	for i := first; i < n; i++ {
		items = append(items, l.ring[(l.head+i)%n])
	}
	return items
}

// whole is all of a stream for one who has nothing. Of the feed, which has no
// whole, it is the word to read the state elsewhere, and the id to go on from.
func (l *log) whole() []Item {
	if l.fold == nil {
		return []Item{{ID: l.last, Reset: true}}
	}
	items := append([]Item{{Reset: true}}, l.fold.items()...)
	// Whoever is cut off within the retelling has no id of it, and begins anew.
	items[len(items)-1].ID = l.gone
	return l.since(items, l.gone)
}

// fold is what is left of the events that are no longer kept one by one. Within a
// step all thinking comes before all text; phases but the last, and ends, are
// forgotten.
type fold struct {
	parts []*part
	phase *provider.Event
}

// part is one step, or all of an answer that has none.
type part struct {
	step           int
	begin, usage   *provider.Event
	thinking, text strings.Builder
}

func (f *fold) add(e provider.Event) {
	switch e.Kind {
	case provider.PhaseEvent:
		f.phase = &e
	case provider.StepEvent:
		f.parts = append(f.parts, &part{step: e.Step, begin: &e})
	case provider.TextEvent:
		f.part(e.Step).text.WriteString(e.Text)
	case provider.ThinkingEvent:
		f.part(e.Step).thinking.WriteString(e.Text)
	case provider.UsageEvent:
		f.part(e.Step).usage = &e
	}
}

// part returns the newest part, or a new one when the event names another step.
func (f *fold) part(step int) *part {
	if n := len(f.parts); n > 0 && (step == 0 || step == f.parts[n-1].step) {
		return f.parts[n-1]
	}
	p := &part{step: step}
	f.parts = append(f.parts, p)
	return p
}

// items tells the fold as events, all without an id.
func (f *fold) items() []Item {
	var out []Item
	add := func(e *provider.Event) {
		if e != nil {
			out = append(out, Item{Event: *e})
		}
	}
	for _, p := range f.parts {
		add(p.begin)
		if p.thinking.Len() > 0 {
			add(&provider.Event{Kind: provider.ThinkingEvent, Step: p.step, Text: p.thinking.String()})
		}
		if p.text.Len() > 0 {
			add(&provider.Event{Kind: provider.TextEvent, Step: p.step, Text: p.text.String()})
		}
		add(p.usage)
	}
	add(f.phase)
	return out
}
