package web

import (
	"context"
	"html/template"
	"time"

	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/provider"
)

// answerView is one version of an answer.
type answerView struct {
	history.Message
	HTML  template.HTML
	Trace string // a URL
	// Rate is tokens a second, 0 unknown.
	Rate float64
	// Billed says of an interrupted answer that its provider may have billed it.
	Billed bool
}

// leastLoad is what loading a model takes at least: asking for one that is in memory
// takes a few milliseconds as well.
const leastLoad = 100 * time.Millisecond

// Loaded says that the model was not in memory and had to be loaded.
func (v answerView) Loaded() bool { return v.Answer.Load >= leastLoad }

func (a *App) answer(ctx context.Context, m history.Message) answerView {
	v := answerView{Message: m, HTML: a.rendered.html(m), Trace: a.o.TraceLink(m.Trace), Rate: rate(m.Answer)}
	v.Billed = m.State == history.Interrupted && a.o.Chat.Billed(ctx, m)
	return v
}

// leastBusy is the shortest time between the first piece of an answer and its end that
// says how fast it was written. What comes within less came at one blow.
const leastBusy = 10 * time.Millisecond

// rate is tokens a second, as the server measured them or else as we did; 0 unknown.
func rate(a provider.Answer) float64 {
	if busy := a.Took - a.Load - a.FirstToken; a.Rate == 0 && busy >= leastBusy && a.Usage.Written > 0 {
		return float64(a.Usage.Written) / busy.Seconds()
	}
	return a.Rate
}
