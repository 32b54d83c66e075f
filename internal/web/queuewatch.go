package web

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"davidcockson.com/runner/internal/chat"
	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
)

const (
	// pace is the least time between two words that something has changed.
	pace = 500 * time.Millisecond
	// watchTime is how long after the last look the following goes on.
	watchTime = 20 * time.Second
	// mostFollowed bounds the jobs whose text is followed.
	mostFollowed = 16
	// firstWait is how long a first look at a job waits for a word of it, firstQuiet
	// the silence after which what was said before is taken for told.
	firstWait  = 300 * time.Millisecond
	firstQuiet = 20 * time.Millisecond
	// liveText is how much of a job's text is kept, in bytes.
	liveText = 600
	// Between two tries to reach the worker.
	shortestWait = 500 * time.Millisecond
	longestWait  = 8 * time.Second
)

// queueWatch follows what happens in the queue, for all pages at once and only while
// somebody looks: the feed of all that happens, and the stream of each active job.
// It is safe for concurrent use.
type queueWatch struct {
	jobs  Jobs
	asked chan struct{}              // one signal: somebody looks
	fresh chan func(context.Context) // parts to run; there is room for every filter

	mu     sync.Mutex
	at     time.Time // of the last look
	active []string  // the jobs that were active then
	live   map[string]*followed
	parts  map[filter]*part // the lists of what has ended
	// heard is closed at the next word of any job; nil while nobody waits for it.
	heard chan struct{}
}

// followed is a job whose stream is read.
type followed struct {
	now  jobLive
	stop context.CancelFunc
	// ended says that the stream has ended, or is not there yet; spoke that a word of
	// it has come; lost that it broke off, and is to be read anew.
	ended, spoke, lost bool
}

// jobLive is what a running job is at.
type jobLive struct {
	Phase provider.Phase
	// Words say more of the phase, "" where there is no more to say.
	Words string
	// Step counts from 1, 0 where there is none; Title is its heading.
	Step     int
	Title    string
	Thinking bool
	// Text is the end of what the step has brought.
	Text string
}

func newQueueWatch(jobs Jobs) *queueWatch {
	return &queueWatch{jobs: jobs, asked: make(chan struct{}, 1), fresh: make(chan func(context.Context), len(allFilters())), live: make(map[string]*followed), parts: make(map[filter]*part)}
}

// look tells what active jobs are at, and has them followed for a while. For what is
// not known yet it waits a moment.
func (w *queueWatch) look(ctx context.Context, active []control.Job) map[string]jobLive {
	var ids []string
	for _, j := range active[:min(len(active), mostFollowed)] {
		ids = append(ids, j.ID)
	}
	w.mu.Lock()
	w.at, w.active = time.Now(), ids
	fresh := slices.ContainsFunc(ids, w.unread)
	signal(w.asked)
	w.mu.Unlock()
	if fresh {
		w.await(ctx, ids)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := make(map[string]jobLive)
	for _, id := range ids {
		if f := w.live[id]; f != nil {
			now[id] = f.now
		}
	}
	return now
}

// unread says that nobody reads a job's stream. The caller holds the lock.
func (w *queueWatch) unread(id string) bool {
	f := w.live[id]
	return f == nil || f.lost
}

// await waits until all these jobs have been heard of and no more of what was said
// before comes, firstWait at most.
func (w *queueWatch) await(ctx context.Context, ids []string) {
	ctx, cancel := context.WithTimeout(ctx, firstWait)
	defer cancel()
	for {
		w.mu.Lock()
		missing := slices.ContainsFunc(ids, func(id string) bool {
			f := w.live[id]
			return f == nil || !f.ended && !f.spoke
		})
		if w.heard == nil {
			w.heard = make(chan struct{})
		}
		heard := w.heard
		w.mu.Unlock()
		var quiet <-chan time.Time
		if !missing {
			quiet = time.After(firstQuiet)
		}
		select {
		case <-heard:
		case <-quiet:
			return
		case <-ctx.Done():
			return
		}
	}
}

// tell ends the waiting for a further word. The caller holds the lock.
func (w *queueWatch) tell() {
	if w.heard != nil {
		close(w.heard)
		w.heard = nil
	}
}

// recent is the list of what has ended that a filter chooses; build makes it.
func (w *queueWatch) recent(f filter, build func(context.Context) ([]byte, error), log *slog.Logger) *part {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.parts[f]
	if p == nil {
		p = newPart("recent", build)
		w.parts[f] = p
		w.fresh <- func(ctx context.Context) { p.run(ctx, 30*time.Second, log) }
	}
	return p
}

// poke has the lists of what has ended made anew.
func (w *queueWatch) poke() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.parts {
		p.poke()
	}
}

// run follows while somebody looks, and calls changed when there is something new
// to see, until ctx ends.
func (w *queueWatch) run(ctx context.Context, changed func()) {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		for {
			select {
			case <-w.asked:
				w.session(ctx, func() { changed(); w.poke() })
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		select {
		case part := <-w.fresh:
			group.Go(func() { part(ctx) })
		case <-ctx.Done():
			return
		}
	}
}

// session follows until nobody has looked for a while.
func (w *queueWatch) session(ctx context.Context, changed func()) {
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	news := make(chan struct{}, 1)
	group.Go(func() { w.feed(ctx, news) })
	idle := time.NewTicker(watchTime / 4)
	defer idle.Stop()
	var due <-chan time.Time
	var last time.Time
	for {
		w.follow(ctx, &group, news)
		select {
		case <-w.asked:
		case <-news:
			if due == nil {
				due = time.After(pace - time.Since(last))
			}
		case <-due:
			due, last = nil, time.Now()
			changed()
		case <-idle.C:
			w.mu.Lock()
			over := time.Since(w.at) >= watchTime
			w.mu.Unlock()
			if over {
				w.forget()
				return
			}
		case <-ctx.Done():
			w.forget()
			return
		}
	}
}

func (w *queueWatch) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active = nil
	clear(w.live)
}

// feed reads what happens to all jobs. It comes back to a worker that was away.
func (w *queueWatch) feed(ctx context.Context, news chan struct{}) {
	after, wait := uint64(0), shortestWait
	for ctx.Err() == nil {
		for it, err := range w.jobs.Events(ctx, "", after) {
			if err != nil {
				break
			}
			wait = shortestWait
			if it.ID != 0 {
				after = it.ID
			}
			if _, ok := chat.Conversation(it.Topic); ok {
				continue
			}
			w.anew(it)
			signal(news)
		}
		signal(news) // the page shows that there is no worker, or that there is one again
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, longestWait)
	}
}

// anew has a job followed again whose stream had ended: a further attempt runs.
func (w *queueWatch) anew(it live.Item) {
	if it.Event.Kind != provider.PhaseEvent && it.Event.Kind != provider.StepEvent {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := w.live[it.Topic]; f != nil && f.ended {
		delete(w.live, it.Topic)
	}
}

// follow begins to read the streams of jobs that have become active, and ends those
// of jobs that no longer are.
func (w *queueWatch) follow(ctx context.Context, group *sync.WaitGroup, news chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wanted := make(map[string]bool)
	for _, id := range w.active {
		wanted[id] = true
		if !w.unread(id) {
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		f := &followed{stop: stop}
		w.live[id] = f
		group.Go(func() { w.read(ctx, id, f, news) })
	}
	for id, f := range w.live {
		if !wanted[id] {
			f.stop()
			delete(w.live, id)
		}
	}
}

// read reads one job's stream to its end. One that is lost before, since the worker
// went, is read from its beginning at the next look.
func (w *queueWatch) read(ctx context.Context, id string, f *followed, news chan struct{}) {
	defer f.stop()
	after, failure := uint64(0), live.ErrSlow
	for errors.Is(failure, live.ErrSlow) && ctx.Err() == nil { // who was too slow goes on
		failure = nil
		for it, err := range w.jobs.Events(ctx, id, after) {
			if err != nil {
				failure = err
				break
			}
			if it.ID != 0 {
				after = it.ID
			}
			w.mu.Lock()
			f.now.add(it)
			f.spoke = f.spoke || !it.Reset
			w.tell()
			w.mu.Unlock()
			signal(news)
		}
	}
	absent := isNotFound(failure) || errors.Is(failure, live.ErrNoStream)
	w.mu.Lock()
	defer w.mu.Unlock()
	f.ended, f.lost = true, failure != nil && !absent
	w.tell()
}

// add takes a further item of the job's stream.
func (l *jobLive) add(it live.Item) {
	if it.Reset {
		*l = jobLive{}
		return
	}
	switch e := it.Event; e.Kind {
	case provider.PhaseEvent:
		l.Phase, l.Words = e.Phase, e.Text
	case provider.StepEvent:
		l.Step, l.Title, l.Text, l.Thinking = e.Step, e.Text, "", false
	case provider.ThinkingEvent:
		l.Thinking = true
	case provider.TextEvent:
		l.Text, l.Thinking = tail(l.Text+tail(e.Text, liveText), liveText), false
	}
}

// tail is the end of a text: most bytes, or less by part of a character.
func tail(text string, most int) string {
	if len(text) <= most {
		return text
	}
	text = text[len(text)-most:]
	for i := range min(utf8.UTFMax, len(text)) {
		if utf8.RuneStart(text[i]) {
			return strings.Clone(text[i:]) // so that the whole is not kept for its end
		}
	}
	return strings.Clone(text)
}

// signal leaves word in a channel that has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
