package web

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"
)

// part is a piece of the pages that many readers see: made once for all of them,
// and only while somebody looks.
type part struct {
	name string
	// build makes it anew: HTML for pages.
	build func(ctx context.Context) ([]byte, error)
	poked chan struct{} // one signal: look again now

	mu       sync.Mutex
	html     []byte
	changed  chan struct{} // closed when html is another
	begun    int           // how often making it was begun
	made     int           // the last of these that was made
	fresh    chan struct{} // closed when it was made again
	watchers int
	joined   chan struct{} // one signal: somebody looks
}

func newPart(name string, build func(ctx context.Context) ([]byte, error)) *part {
	return &part{name: name, build: build, poked: make(chan struct{}, 1), changed: make(chan struct{}), fresh: make(chan struct{}), joined: make(chan struct{}, 1)}
}

// join counts a reader until leave is called. What was made before since is older
// than the page that the reader has.
func (p *part) join() (since int, leave func()) {
	p.mu.Lock()
	p.watchers++
	since = p.begun
	p.mu.Unlock()
	select {
	case p.joined <- struct{}{}:
	default:
	}
	return since, func() {
		p.mu.Lock()
		p.watchers--
		p.mu.Unlock()
	}
}

// now is the part as it is, nil before it was made after since, and a channel that is
// closed when it is another.
func (p *part) now(since int) ([]byte, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made <= since {
		return nil, p.fresh
	}
	return p.html, p.changed
}

// poke has the part made anew soon, if anybody looks.
func (p *part) poke() {
	select {
	case p.poked <- struct{}{}:
	default:
	}
}

func (p *part) watched() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.watchers > 0
}

// begin counts a making.
func (p *part) begin() (number int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun++
	return p.begun
}

// set shows what a making brought, if it is another.
func (p *part) set(number int, html []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made = number
	close(p.fresh)
	p.fresh = make(chan struct{})
	if bytes.Equal(p.html, html) {
		return
	}
	p.html = html
	close(p.changed)
	p.changed = make(chan struct{})
}

// apart is the least time between two makings of a part.
const apart = 300 * time.Millisecond

// run makes the part when it is poked, and else after every, until ctx ends.
func (p *part) run(ctx context.Context, every time.Duration, log *slog.Logger) {
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		if p.watched() {
			number := p.begin()
			html, err := p.build(ctx)
			if err != nil && ctx.Err() == nil {
				log.Error("make a part of the pages", "part", p.name, "error", err)
			}
			if err == nil {
				p.set(number, html)
			}
			timer.Reset(apart)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		timer.Reset(every)
		select {
		case <-p.poked:
		case <-p.joined:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}
