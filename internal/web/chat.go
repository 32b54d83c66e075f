package web

import (
	"context"
	"crypto/rand"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"davidcockson.com/runner/internal/chat"
	"davidcockson.com/runner/internal/history"
)

// turnsShown is how many turns a page shows at first, and how many more at a time.
const turnsShown = 20

// chatPage is a conversation, or the place to begin one.
type chatPage struct {
	frame
	ID string
	// New says that the conversation begins with its first message.
	New bool
	// Deleted is the conversation that was deleted a moment ago, "" for none.
	Deleted  string
	Settings history.Settings
	Turns    []turnView
	// Before is the first turn that is shown, where there are earlier ones; else 0.
	Before int
	Talks  template.HTML
	Models []offerView
}

// turnView is a message and what was answered.
type turnView struct {
	Conversation string
	Turn         int
	Asked        string
	At           time.Time
	// Answer is the newest version, nil while there is none or a further one is made;
	// Earlier are those before it, the newest first.
	Answer  *answerView
	Earlier []answerView
	// Running says that an answer is under way. Last turns can be answered anew.
	Running, Last bool
	// Provider and Model are who is being asked.
	Provider, Model string
	// Forgotten says that the model no longer reads what stands above, Unread that it
	// will read nothing of this turn either, which is the last.
	Forgotten, Unread bool
}

// supersede makes room for a further version.
func (t *turnView) supersede() {
	if t.Answer != nil {
		t.Earlier, t.Answer = slices.Insert(t.Earlier, 0, *t.Answer), nil
	}
}

func newID() string { return strings.ToLower(rand.Text()[:16]) }

// mayBeBilled is added to the advice of an interrupted answer. The history, which
// keeps that, knows no prices.
const mayBeBilled = "; the provider may have billed this one"

// newChat is the place to begin a conversation; for programs the list of them.
func (a *App) newChat(w http.ResponseWriter, r *http.Request) error {
	if !wantsHTML(r) {
		return a.conversations(w, r)
	}
	p := chatPage{frame: a.frame(r, "New chat", "/chat"), ID: newID(), New: true}
	if id := r.URL.Query().Get("deleted"); id != "" {
		// The address stays in the browser's past: it may be back, or gone for good.
		deleted, err := a.o.History.CanUndelete(r.Context(), id)
		if err != nil {
			return err
		}
		if deleted {
			p.Deleted = id
		}
	}
	p.Stream = "/stream"
	return a.writeChat(w, r, p)
}

// wanted is the conversation that a request only reads. One that was deleted is not
// there for it; a page offers to bring it back while that can be done.
func (a *App) wanted(r *http.Request) (history.Conversation, error) {
	id := r.PathValue("conversation")
	c, err := a.o.History.Conversation(r.Context(), id)
	if !errors.Is(err, history.ErrDeleted) {
		return c, err
	}
	f := &fault{Status: http.StatusNotFound, Text: "this conversation was deleted"}
	deleted, err := a.o.History.CanUndelete(r.Context(), id)
	if err != nil {
		return c, err
	}
	if deleted {
		f.Deleted = id
	}
	return c, f
}

// conversation is one conversation, with its last turns.
func (a *App) conversation(w http.ResponseWriter, r *http.Request) error {
	c, err := a.wanted(r)
	if err != nil {
		return err
	}
	if !wantsHTML(r) {
		return a.messages(w, r)
	}
	turns, more, err := a.turns(r.Context(), c, 0)
	if err != nil {
		return err
	}
	p := chatPage{frame: a.frame(r, c.Title, "/chat"), ID: c.ID, Settings: c.Settings, Turns: turns}
	p.Stream = "/chat/" + c.ID + "/stream"
	if more {
		p.Before = turns[0].Turn
	}
	return a.writeChat(w, r, p)
}

func (a *App) writeChat(w http.ResponseWriter, r *http.Request, p chatPage) error {
	talks, err := a.showTalks(r.Context())
	if err != nil {
		return err
	}
	p.Talks = template.HTML(talks)
	// What was seen last is enough: a host that is asleep must not hold up the page.
	short, cancel := context.WithTimeout(r.Context(), 50*time.Millisecond)
	defer cancel()
	p.Models = offers(a.o.Roster.Offers(short), p.Settings)
	return a.pages.write(w, r, http.StatusOK, "chat", p)
}

// messages is a page of a conversation: turns as HTML, or its messages as JSON.
func (a *App) messages(w http.ResponseWriter, r *http.Request) error {
	c, err := a.wanted(r)
	if err != nil {
		return err
	}
	before := 0
	if text := r.URL.Query().Get("before"); text != "" {
		if before, err = strconv.Atoi(text); err != nil || before < 1 {
			return &fault{Status: http.StatusBadRequest, Text: "before is the number of a turn"}
		}
	}
	if fromPage(r) {
		turns, more, err := a.turns(r.Context(), c, before)
		if err != nil {
			return err
		}
		p := chatPage{ID: c.ID, Turns: turns}
		if more {
			p.Before = turns[0].Turn
		}
		html, err := a.pages.part("chat", "turns", p)
		if err != nil {
			return err
		}
		writeHTML(w, http.StatusOK, html)
		return nil
	}
	messages, more, err := a.o.History.Page(r.Context(), c.ID, before, turnsShown)
	if err != nil {
		return err
	}
	out := conversationJSON{summary: a.summary(c, a.o.Chat.Running()), System: c.System, Temperature: c.Temperature, Messages: []messageJSON{}}
	for _, m := range messages {
		if m.State == history.Interrupted && a.o.Chat.Billed(r.Context(), m) {
			m.Advice += mayBeBilled
		}
		out.Messages = append(out.Messages, messageOf(m, a.o.TraceLink))
	}
	if more {
		out.Before = messages[0].Turn
	}
	if len(messages) > 0 {
		out.ForgottenBefore = a.firstRead(r.Context(), c, messages[0].Turn)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// turns are the turns of a conversation before one, as a page shows them.
func (a *App) turns(ctx context.Context, c history.Conversation, before int) ([]turnView, bool, error) {
	messages, more, err := a.o.History.Page(ctx, c.ID, before, turnsShown)
	if err != nil {
		return nil, false, err
	}
	return a.views(ctx, c, messages), more, nil
}

func (a *App) views(ctx context.Context, c history.Conversation, messages []history.Message) []turnView {
	running := a.o.Chat.Running()[c.ID]
	var all []turnView
	for _, m := range messages {
		switch m.Role {
		case history.User:
			all = append(all, turnView{Conversation: c.ID, Turn: m.Turn, Asked: m.Text, At: m.Created, Last: m.Turn == c.Turns, Running: running && m.Turn == c.Turns, Provider: c.Provider, Model: c.Model})
		case history.Assistant:
			t := &all[len(all)-1]
			t.supersede()
			view := a.answer(ctx, m)
			t.Answer = &view
		}
	}
	if len(all) == 0 {
		return nil
	}
	first := a.firstRead(ctx, c, all[0].Turn)
	for i := range all {
		if all[i].Running {
			all[i].supersede() // it can be read while the next one waits for its host
		}
		all[i].Forgotten = all[i].Turn == first
		all[i].Unread = all[i].Last && !all[i].Running && first > all[i].Turn
	}
	return all
}

// firstRead is the first turn that the model of a conversation still reads, of those
// from a turn on; 0 where it reads earlier ones too, or that is not known.
func (a *App) firstRead(ctx context.Context, c history.Conversation, from int) int {
	first, err := a.o.Chat.Reads(ctx, c, from)
	if err != nil || first < max(from, 2) {
		return 0
	}
	return first
}

// turnHTML is one turn as it is now.
func (a *App) turnHTML(ctx context.Context, id string, turn int) ([]byte, error) {
	c, err := a.o.History.Conversation(ctx, id)
	if err != nil {
		return nil, err
	}
	messages, _, err := a.o.History.Page(ctx, id, turn+1, 1)
	if err != nil {
		return nil, err
	}
	views := a.views(ctx, c, messages)
	if len(views) == 0 {
		return nil, history.ErrUnknown
	}
	return a.pages.part("chat", "turn", views[0])
}

// lastTurn is the number of the conversation's last message.
func (a *App) lastTurn(ctx context.Context, id string) (int, error) {
	c, err := a.o.History.Conversation(ctx, id)
	return c.Turns, err
}

// posted is a message as it is sent.
type posted struct {
	Provider string `json:"provider"`
	Model    string `json:"model"`
	Text     string `json:"text"`
	// System and Temperature come with a conversation's first message alone.
	System      string   `json:"system"`
	Temperature *float64 `json:"temperature"`
}

// read reads a post. A form may name provider and model as one choice, with a slash
// between.
func (p *posted) read(r *http.Request) error {
	var bad error
	err := readForm(r, p, func(get func(string) string) {
		p.Provider, p.Model, p.Text, p.System = get("provider"), get("model"), get("text"), get("system")
		if choice := get("choice"); choice != "" {
			p.Provider, p.Model, _ = strings.Cut(choice, "/")
		}
		p.Temperature, bad = temperature(get("temperature"))
	})
	return errors.Join(err, bad)
}

// temperature is the number that a form's field holds, nil for none.
func temperature(text string) (*float64, error) {
	if text = strings.TrimSpace(text); text == "" {
		return nil, nil
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, &chat.Invalid{Field: "temperature", Text: "the temperature is a number from 0 to 2"}
	}
	return &x, nil
}

func (a *App) send(w http.ResponseWriter, r *http.Request) error {
	var p posted
	if err := p.read(r); err != nil {
		return err
	}
	turn, err := a.o.Chat.Send(r.Context(), r.PathValue("conversation"), chat.Post{Provider: p.Provider, Model: p.Model, Text: p.Text, System: p.System, Temperature: p.Temperature})
	if err != nil {
		return err
	}
	a.talks.poke()
	return a.begun(w, r, turn)
}

// begun answers a post whose answer is under way.
func (a *App) begun(w http.ResponseWriter, r *http.Request, t chat.Turn) error {
	to := "/chat/" + t.Conversation
	switch {
	case fromPage(r):
		if !strings.HasSuffix(r.Header.Get("HX-Current-URL"), to) { // its first message
			w.Header().Set("HX-Redirect", to)
		}
		w.WriteHeader(http.StatusNoContent)
	case wantsHTML(r):
		http.Redirect(w, r, to, http.StatusSeeOther)
	default:
		writeJSON(w, http.StatusAccepted, struct {
			chat.Turn
			Stream string `json:"stream"`
		}{t, to + "/stream"})
	}
	return nil
}

func (a *App) again(w http.ResponseWriter, r *http.Request) error {
	var p posted
	if err := p.read(r); err != nil {
		return err
	}
	number, err := strconv.Atoi(r.PathValue("turn"))
	if err != nil {
		return notFound("turn")
	}
	turn, err := a.o.Chat.Again(r.Context(), r.PathValue("conversation"), number, chat.Post{Provider: p.Provider, Model: p.Model})
	if err != nil {
		return err
	}
	a.talks.poke()
	return a.begun(w, r, turn)
}

// done answers a post after which the page is where it was.
func done(w http.ResponseWriter, r *http.Request, to string, v any) error {
	switch {
	case fromPage(r):
		w.WriteHeader(http.StatusNoContent)
	case wantsHTML(r):
		http.Redirect(w, r, to, http.StatusSeeOther)
	default:
		writeJSON(w, http.StatusOK, v)
	}
	return nil
}

func (a *App) stop(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("conversation")
	if _, err := a.o.History.Conversation(r.Context(), id); err != nil {
		return err
	}
	return done(w, r, "/chat/"+id, map[string]bool{"stopped": a.o.Chat.Stop(id)})
}

func (a *App) settings(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("conversation")
	known, err := a.o.History.Conversation(r.Context(), id)
	if err != nil {
		return err
	}
	// What JSON leaves out stays; null is the server's own temperature.
	s := struct {
		Title       string   `json:"title"`
		System      string   `json:"system"`
		Temperature *float64 `json:"temperature"`
	}{known.Title, known.System, known.Temperature}
	var bad error
	err = readForm(r, &s, func(get func(string) string) {
		s.Title, s.System = get("title"), get("system")
		s.Temperature, bad = temperature(get("temperature"))
	})
	if err = errors.Join(err, bad); err != nil {
		return err
	}
	if err := a.o.Chat.Settings(r.Context(), id, history.Settings{Title: s.Title, System: s.System, Temperature: s.Temperature}); err != nil {
		return err
	}
	a.talks.poke()
	return done(w, r, "/chat/"+id, map[string]bool{"saved": true})
}

func (a *App) delete(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("conversation")
	if err := a.o.Chat.Delete(r.Context(), id); err != nil {
		return err
	}
	a.talks.poke()
	if fromPage(r) {
		w.Header().Set("HX-Redirect", "/chat?deleted="+id)
	}
	return done(w, r, "/chat?deleted="+id, map[string]bool{"deleted": true})
}

func (a *App) undelete(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("conversation")
	if !chat.ValidID(id) {
		return notFound("conversation")
	}
	if err := a.o.History.Undelete(r.Context(), id, time.Now()); err != nil {
		return err
	}
	a.talks.poke()
	if fromPage(r) {
		w.Header().Set("HX-Redirect", "/chat/"+id)
	}
	return done(w, r, "/chat/"+id, map[string]bool{"undeleted": true})
}
