package web

import (
	"context"
	"net/http"
	"time"

	"davidcockson.com/runner/internal/chat"
	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/provider"
)

// offerView is a provider in the model picker.
type offerView struct {
	chat.Offer
	Choices []choiceView
}

type choiceView struct {
	chat.Model
	Provider string
	// Mark is why it may not answer, "" for nothing.
	Mark   string
	Chosen bool
}

// Value names provider and model as one choice.
func (c choiceView) Value() string { return c.Provider + "/" + c.Name }

// The marks of a choice that cannot be asked as it is.
const (
	markMissing      = "missing there"
	markUnlisted     = "not listed"
	markUnconfigured = "not configured"
)

// offers marks what is chosen, and what may not answer. A chosen model that nobody
// lists is shown all the same, and so is one of a provider that is not configured any
// more: nothing takes its place.
func offers(all []chat.Offer, s history.Settings) []offerView {
	var views []offerView
	known := false
	for _, o := range all {
		v := offerView{Offer: o}
		found := false
		for _, m := range o.Models {
			c := choiceView{Model: m, Provider: o.Provider, Chosen: o.Provider == s.Provider && m.Name == s.Model}
			switch {
			case m.Missing:
				c.Mark = markMissing
			case !o.Up && !o.Since.IsZero():
				c.Mark = o.Word
			}
			found = found || c.Chosen
			v.Choices = append(v.Choices, c)
		}
		if o.Provider == s.Provider {
			known = true
			if s.Model != "" && !found {
				mark := markUnlisted
				if !o.Up {
					mark = o.Word
				}
				v.Choices = append(v.Choices, unlisted(s, mark))
			}
		}
		views = append(views, v)
	}
	if s.Provider != "" && s.Model != "" && !known {
		views = append(views, offerView{Offer: chat.Offer{Provider: s.Provider, Word: markUnconfigured}, Choices: []choiceView{unlisted(s, markUnconfigured)}})
	}
	return views
}

func unlisted(s history.Settings, mark string) choiceView {
	return choiceView{Model: chat.Model{Model: provider.Model{Name: s.Model}}, Provider: s.Provider, Mark: mark, Chosen: true}
}

// models lists what may be asked: the choices of the picker, or JSON.
func (a *App) models(w http.ResponseWriter, r *http.Request) error {
	all := a.o.Roster.Offers(r.Context())
	if !fromPage(r) {
		writeJSON(w, http.StatusOK, map[string][]chat.Offer{"providers": all})
		return nil
	}
	q := r.URL.Query()
	html, err := a.pages.part("chat", "choices", offers(all, history.Settings{Provider: q.Get("provider"), Model: q.Get("model")}))
	if err != nil {
		return err
	}
	writeHTML(w, http.StatusOK, html)
	return nil
}

// hostView is a model server in the indicator on every page.
type hostView struct {
	Name, State, Word string
	Since             time.Time
	Loaded            []string
	Reason            string
}

// showHosts makes the indicator: the owner's own model servers, and of the others
// those that do not answer.
func (a *App) showHosts(ctx context.Context) ([]byte, error) {
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	var views []hostView
	for _, o := range a.o.Roster.Offers(short) {
		v := hostView{Name: o.Provider, State: "up", Word: o.Word, Since: o.Since}
		switch {
		case o.Kind == "echo" || o.Paid && o.Up:
			continue
		case o.Since.IsZero():
			v.State = "unknown"
		case !o.Up:
			v.State, v.Reason = "down", o.Reason
		}
		v.Loaded = o.Loaded
		views = append(views, v)
	}
	return a.pages.part("error", "hosts", views)
}
