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
	provider.Model
	Chosen bool
}

// offers marks what is chosen. A chosen model that nobody lists is shown all the
// same: nothing takes its place.
func offers(all []chat.Offer, s history.Settings) []offerView {
	var views []offerView
	for _, o := range all {
		v := offerView{Offer: o}
		found := false
		for _, m := range o.Models {
			chosen := o.Provider == s.Provider && m.Name == s.Model
			found = found || chosen
			v.Choices = append(v.Choices, choiceView{m, chosen})
		}
		if o.Provider == s.Provider && s.Model != "" && !found {
			v.Choices = append([]choiceView{{provider.Model{Name: s.Model}, true}}, v.Choices...)
		}
		views = append(views, v)
	}
	return views
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
		for _, m := range o.Models {
			if m.Loaded && o.Up {
				v.Loaded = append(v.Loaded, m.Name)
			}
		}
		views = append(views, v)
	}
	return a.pages.part("error", "hosts", views)
}
