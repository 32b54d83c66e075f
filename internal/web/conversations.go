package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"davidcockson.com/runner/internal/history"
)

// summary is a conversation in a list.
type summary struct {
	ID       string    `json:"id"`
	Title    string    `json:"title"`
	Provider string    `json:"provider,omitempty"`
	Model    string    `json:"model,omitempty"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	Turns    int       `json:"turns"`
	Running  bool      `json:"running"`
}

func (a *App) summary(c history.Conversation, running map[string]bool) summary {
	return summary{c.ID, c.Title, c.Provider, c.Model, c.Created, c.Updated, c.Turns, running[c.ID]}
}

type conversationJSON struct {
	summary
	System      string        `json:"system,omitempty"`
	Temperature *float64      `json:"temperature,omitempty"`
	Messages    []messageJSON `json:"messages"`
	// Before is the first turn that is told, where there are earlier ones.
	Before int `json:"before,omitempty"`
	// ForgottenBefore is the first turn that the model still reads, where it no longer
	// reads all that are told.
	ForgottenBefore int `json:"forgotten_before,omitempty"`
}

// messageJSON is a message as programs read it; the last fields are of answers.
type messageJSON struct {
	Turn     int       `json:"turn"`
	Role     string    `json:"role"`
	Text     string    `json:"text"`
	Created  time.Time `json:"created"`
	Version  int       `json:"version,omitempty"`
	State    string    `json:"state,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Advice   string    `json:"advice,omitempty"`
	Thinking string    `json:"thinking,omitempty"`
	Provider string    `json:"provider,omitempty"`
	Model    string    `json:"model,omitempty"`
	Read     int       `json:"read,omitempty"`    // tokens
	Written  int       `json:"written,omitempty"` // tokens
	Rate     float64   `json:"rate,omitempty"`    // tokens a second
	// FirstTokenMS and TookMS are milliseconds.
	FirstTokenMS int64  `json:"first_token_ms,omitempty"`
	TookMS       int64  `json:"took_ms,omitempty"`
	Trace        string `json:"trace,omitempty"`
}

func messageOf(m history.Message, link func(string) string) messageJSON {
	return messageJSON{Turn: m.Turn, Role: string(m.Role), Text: m.Text, Created: m.Created, Version: m.Version, State: string(m.State), Reason: m.Reason, Advice: m.Advice,
		Thinking: m.Thinking, Provider: m.Provider, Model: m.Model, Read: m.Answer.Usage.Read, Written: m.Answer.Usage.Written, Rate: rate(m.Answer),
		FirstTokenMS: m.Answer.FirstToken.Milliseconds(), TookMS: m.Answer.Took.Milliseconds(), Trace: link(m.Trace)}
}

// conversationsShown is how many conversations a list shows at a time.
const conversationsShown = 50

// conversations lists conversations, those last written to first.
func (a *App) conversations(w http.ResponseWriter, r *http.Request) error {
	all, next, err := a.o.History.Conversations(r.Context(), history.Cursor(r.URL.Query().Get("after")), conversationsShown)
	if errors.Is(err, history.ErrCursor) {
		return &fault{Status: http.StatusBadRequest, Text: err.Error()}
	}
	if err != nil {
		return err
	}
	running := a.o.Chat.Running()
	list := talksView{Next: string(next)}
	for _, c := range all {
		list.Talks = append(list.Talks, a.summary(c, running))
	}
	if fromPage(r) {
		html, err := a.pages.part("chat", "talk-items", list)
		if err != nil {
			return err
		}
		writeHTML(w, http.StatusOK, html)
		return nil
	}
	if list.Talks == nil {
		list.Talks = []summary{}
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

type talksView struct {
	Talks []summary `json:"conversations"`
	// Next is where the list goes on, "" at its end.
	Next string `json:"next,omitempty"`
}

// showTalks makes the list of conversations beside the chat.
func (a *App) showTalks(ctx context.Context) ([]byte, error) {
	all, next, err := a.o.History.Conversations(ctx, "", conversationsShown)
	if err != nil {
		return nil, fmt.Errorf("list the conversations: %w", err)
	}
	running := a.o.Chat.Running()
	v := talksView{Next: string(next)}
	for _, c := range all {
		v.Talks = append(v.Talks, a.summary(c, running))
	}
	return a.pages.part("chat", "talks", v)
}
