package web

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"davidcockson.com/runner/internal/access"
	"davidcockson.com/runner/internal/chat"
	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
)

const (
	// heartbeat is the longest silence of an event stream: Cloudflare's edge gives up
	// after about 100 s of it.
	heartbeat = 15 * time.Second
	// A session may have so many streams open, and all together.
	mostOfOne = 64
	mostOfAll = 1100
)

// streams counts the open event streams.
type streams struct {
	ending chan struct{} // closed when the server stops

	mu  sync.Mutex
	of  map[string]int // by identity, tokens left out
	all int
	end func()
}

func newStreams() *streams {
	s := &streams{ending: make(chan struct{}), of: make(map[string]int)}
	s.end = sync.OnceFunc(func() { close(s.ending) })
	return s
}

// enter makes room for a stream until leave is called.
func (s *streams) enter(who access.Identity) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := who.Kind != access.ByToken
	if s.all >= mostOfAll || one && s.of[who.Key] >= mostOfOne {
		return nil, &fault{Status: http.StatusServiceUnavailable, Text: "too many pages are open; close some"}
	}
	s.all++
	if one {
		s.of[who.Key]++
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if one {
			if s.of[who.Key]--; s.of[who.Key] == 0 {
				delete(s.of, who.Key)
			}
		}
	}, nil
}

// spoken is the data of the events of an answer.
type spoken struct {
	// Turn is the message's number in its conversation, from 1.
	Turn  int            `json:"turn,omitempty"`
	Text  string         `json:"text,omitempty"`
	Phase provider.Phase `json:"phase,omitempty"`
	// Since is when the phase began, for a reader that came later.
	Since time.Time       `json:"since,omitzero"`
	Usage *provider.Usage `json:"usage,omitempty"`
	End   string          `json:"end,omitempty"`
	// HTML is the turn as a page shows it, for pages alone.
	HTML string `json:"html,omitempty"`
}

// plainStream is the one stream of a page without a conversation.
func (a *App) plainStream(w http.ResponseWriter, r *http.Request) error {
	return a.stream(w, r, "", a.hosts, a.talks)
}

// chatStream shows the answers of a conversation while they are made.
func (a *App) chatStream(w http.ResponseWriter, r *http.Request) error {
	c, err := a.wanted(r)
	if err != nil {
		return err
	}
	return a.stream(w, r, c.ID, a.hosts, a.talks)
}

// stream is the one event stream of a page: a conversation's answers, where one is
// named, and the parts that the page shows. It ends when the reader goes, is too
// slow, or the server stops.
func (a *App) stream(w http.ResponseWriter, r *http.Request, conversation string, parts ...*part) error {
	leave, err := a.streams.enter(access.Who(r.Context()))
	if err != nil {
		return err
	}
	defer leave()
	out, err := newSSE(w, r)
	if err != nil {
		return nil // there is nobody to tell
	}
	ctx := r.Context()
	if !out.page {
		parts = nil
	}
	since := make([]int, len(parts))
	for i, p := range parts {
		number, leave := p.join()
		since[i] = number
		defer leave()
	}
	talk := &talk{a: a, id: conversation, out: out, after: lastEventID(r)}
	pushed := make([][]byte, len(parts))
	// A timer's own channel would be put into the runtime's heap for each wait.
	beat := make(chan struct{}, 1)
	beats := time.AfterFunc(heartbeat, func() { beat <- struct{}{} })
	defer beats.Stop()
	wake := make([]<-chan struct{}, 3) // of up to three parts
	for {
		var more <-chan struct{}
		if conversation != "" {
			if more, err = talk.write(ctx); err != nil {
				return nil
			}
		}
		for i, p := range parts {
			html, changed := p.now(since[i])
			wake[i] = changed
			if html != nil && !bytes.Equal(html, pushed[i]) {
				out.html(html)
				pushed[i] = html
			}
		}
		if out.flush() != nil {
			return nil
		}
		out.rest()
		select {
		case <-more:
		case <-wake[0]:
		case <-wake[1]:
		case <-wake[2]:
		case <-beat:
			beats.Reset(heartbeat)
			if !a.o.Gate.Still(w, r) { // signed out, on whichever page
				return nil
			}
			if out.page {
				out.event(0, "beat", struct{}{}) // its script sees no comments
			} else {
				out.comment("still here")
			}
		case <-ctx.Done():
			return nil
		case <-a.streams.ending:
			out.event(0, "stopping", struct{}{})
			return out.flush()
		}
	}
}

func lastEventID(r *http.Request) uint64 {
	id, err := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64)
	if err != nil {
		return 0
	}
	return id
}

// talk is a conversation in an event stream.
type talk struct {
	a      *App
	id     string
	out    *sse
	after  uint64
	reader *live.Reader // of the answer under way, nil for none
	opened <-chan struct{}
	told   bool // that nothing runs
	late   bool // what comes next may have happened before the reader came
	turn   int
}

// write adds what is new, and returns a channel that is closed when there may be
// more. An error ends the stream.
func (t *talk) write(ctx context.Context) (<-chan struct{}, error) {
	for {
		if t.reader == nil {
			opened := t.a.o.Hub.Opened(chat.Topic(t.id)) // before the look, so that none is missed
			if t.opened == opened {
				return opened, nil // the last answer is the one that was shown
			}
			t.opened = opened
			reader, err := t.a.o.Hub.Subscribe(chat.Topic(t.id), t.after)
			// An answer that has ended is retold to a program that comes late. A page
			// shows it already.
			seen := t.out.page && t.after == 0 && !t.a.o.Chat.Running()[t.id]
			if errors.Is(err, live.ErrNoStream) || seen {
				tell := t.idle
				if !t.out.page && t.after != 0 {
					tell = t.last
				}
				if err := tell(ctx); err != nil {
					return nil, err
				}
				return opened, nil
			}
			if t.turn, err = t.a.lastTurn(ctx, t.id); err != nil {
				return nil, err
			}
			t.reader, t.told, t.late = reader, true, true
		}
		items, more, err := t.reader.Take()
		switch {
		case errors.Is(err, io.EOF):
			t.reader = nil
			continue
		case err != nil:
			return nil, err // too slow: it resumes
		case more != nil:
			return more, nil
		}
		if err := t.items(ctx, items); err != nil {
			return nil, err
		}
		t.late = false
	}
}

// since is when a phase began, for a reader that comes late; zero for one that sees
// it begin.
func (t *talk) since(phase provider.Phase) time.Time {
	if t.late {
		for _, s := range t.a.o.Hub.Running() {
			if s.Topic == chat.Topic(t.id) && s.Phase == phase {
				return s.PhaseSince
			}
		}
	}
	return time.Time{}
}

// idle tells a reader once that no answer is under way, and shows a page the last
// one: it may have ended while the page was away.
func (t *talk) idle(ctx context.Context) error {
	if t.told {
		return nil
	}
	t.told = true
	c, err := t.a.o.History.Conversation(ctx, t.id)
	if err != nil {
		return err
	}
	return t.tell(ctx, 0, "idle", c.Turns, spoken{})
}

// last tells a program that comes back after the stream of which it has an id was
// forgotten, as at a start of the server, once how the last answer ended: all of it,
// anew, with its end, and that nothing runs.
func (t *talk) last(ctx context.Context) error {
	if t.told {
		return nil
	}
	turn, err := t.a.lastTurn(ctx, t.id)
	if err != nil {
		return err
	}
	messages, _, err := t.a.o.History.Page(ctx, t.id, turn+1, 1)
	if err != nil {
		return err
	}
	if len(messages) == 0 || messages[len(messages)-1].Role != history.Assistant {
		return t.idle(ctx) // there is no answer yet
	}
	t.turn = turn
	m := messages[len(messages)-1]
	end := string(m.State)
	if m.State == history.Done {
		end = "stop"
	}
	items := []live.Item{{Reset: true}}
	for _, e := range []provider.Event{{Kind: provider.ThinkingEvent, Text: m.Thinking}, {Kind: provider.TextEvent, Text: m.Text}} {
		if e.Text != "" {
			items = append(items, live.Item{Event: e})
		}
	}
	if err := t.items(ctx, append(items, live.Item{Event: provider.Event{Kind: provider.EndEvent, Text: end}})); err != nil {
		return err
	}
	return t.idle(ctx)
}

// tell adds an event about a turn; a page gets the turn as it is now with it, or hears
// that the conversation was deleted.
func (t *talk) tell(ctx context.Context, id uint64, name string, turn int, s spoken) error {
	s.Turn = turn
	if t.out.page {
		html, err := t.a.turnHTML(ctx, t.id, turn)
		if errors.Is(err, history.ErrDeleted) {
			name = "deleted"
			html, err = t.a.pages.part("chat", "deleted", t.id)
		}
		if err != nil {
			return err
		}
		s.HTML = string(html)
	}
	t.out.event(id, name, s)
	return nil
}

// items adds events of an answer. Pieces that came together go together.
func (t *talk) items(ctx context.Context, items []live.Item) error {
	retold := false // what is no longer kept event by event
	for i := 0; i < len(items); i++ {
		e, id := items[i].Event, items[i].ID
		var err error
		switch {
		case items[i].Reset:
			retold = true
			err = t.tell(ctx, id, "reset", t.turn, spoken{})
		case e.Kind == provider.TextEvent || e.Kind == provider.ThinkingEvent:
			n := together(items[i:])
			id = items[i+n-1].ID
			err = t.say(items[i:i+n], retold)
			i += n - 1
		case e.Kind == provider.PhaseEvent:
			t.out.event(id, "phase", spoken{Turn: t.turn, Phase: e.Phase, Text: e.Text, Since: t.since(e.Phase)})
		case e.Kind == provider.UsageEvent:
			t.out.event(id, "usage", spoken{Turn: t.turn, Usage: e.Usage})
		case e.Kind == provider.EndEvent:
			err = t.tell(ctx, id, "end", t.turn, spoken{End: e.Text})
		}
		if err != nil {
			return err
		}
		if id != 0 {
			t.after, retold = id, false
		}
	}
	return nil
}

// portion is about how much of an answer is sent at a time, in bytes: many readers
// who come back at once to a long one must not cost its size each.
const portion = 16 << 10

// together is how many items from the first on are pieces of one kind and no more
// than a portion.
func together(items []live.Item) int {
	n, size := 1, len(items[0].Event.Text)
	for n < len(items) && items[n].Event.Kind == items[0].Event.Kind {
		if size += len(items[n].Event.Text); size > portion {
			break
		}
		n++
	}
	return n
}

// say adds pieces of one kind as one event. The text of a retelling is sent in
// portions: a reader that is cut within has no id of it, and begins anew.
func (t *talk) say(items []live.Item, retold bool) error {
	last := items[len(items)-1]
	kind := string(last.Event.Kind)
	if len(items) > 1 {
		t.out.piece(last.ID, kind, t.turn, func(yield func(string) bool) {
			for i := 0; i < len(items) && yield(items[i].Event.Text); i++ {
			}
		})
		return t.out.flushAt(portion)
	}
	text := last.Event.Text
	for retold && len(text) > portion {
		n := portion
		for n > portion-utf8.UTFMax && !utf8.RuneStart(text[n]) {
			n--
		}
		t.out.piece(0, kind, t.turn, one(text[:n]))
		if err := t.out.flush(); err != nil {
			return err
		}
		text = text[n:]
	}
	t.out.piece(last.ID, kind, t.turn, one(text))
	return t.out.flushAt(portion)
}

func one(text string) iter.Seq[string] { return func(yield func(string) bool) { yield(text) } }
