package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"davidcockson.com/runner/internal/health"
)

// healthView is how everything is: what is wrong first, then what is well, then
// what is not configured.
type healthView struct {
	Status  health.Status
	Summary string
	// Parts are the configured ones, Unset the others.
	Parts, Unset []health.Part
}

func healthOf(r health.Report) healthView {
	v := healthView{Status: r.Status}
	var wrong, fatal []string
	for _, p := range r.Parts {
		switch {
		case p.State == health.NotConfigured:
			v.Unset = append(v.Unset, p)
			continue
		case p.State == health.OK:
		case p.Core && p.State != health.Slow:
			fatal = append(fatal, p.Name)
		default:
			wrong = append(wrong, p.Name)
		}
		v.Parts = append(v.Parts, p)
	}
	slices.SortStableFunc(v.Parts, func(a, b health.Part) int { return rank(a) - rank(b) })
	switch {
	case len(fatal) > 0:
		v.Summary = "No job can run: " + strings.Join(fatal, ", ") + "."
	case len(wrong) > 0:
		v.Summary = "Jobs run; not all that they may need is well: " + strings.Join(wrong, ", ") + "."
	case len(v.Parts) == 0:
		v.Summary = "Nothing has been looked at yet."
	default:
		v.Summary = "Everything works."
	}
	return v
}

func rank(p health.Part) int {
	switch {
	case p.State == health.OK:
		return 2
	case p.Core && p.State != health.Slow:
		return 0
	}
	return 1
}

type healthPageView struct {
	frame
	Health healthView
}

// healthPage shows how everything is; to programs as the monitors' port does.
func (a *App) healthPage(w http.ResponseWriter, r *http.Request) error {
	report := a.o.Health(r.Context())
	status := http.StatusOK
	if report.Status == health.Broken {
		status = http.StatusServiceUnavailable
	}
	if !wantsHTML(r) {
		data, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		w.Write(append(data, '\n')) // a reader who has gone is no loss
		return nil
	}
	p := healthPageView{frame: a.frame(r, "Health", "/health"), Health: healthOf(report)}
	p.Stream = "/health/stream"
	return a.pages.write(w, r, status, "health", p)
}

func (a *App) healthStream(w http.ResponseWriter, r *http.Request) error {
	return a.stream(w, r, "", a.hosts, a.health)
}

// showHealth makes the cards. The report's time stays out of them: they are sent
// anew only when something has changed.
func (a *App) showHealth(ctx context.Context) ([]byte, error) {
	return a.pages.part("health", "health", healthOf(a.o.Health(ctx)))
}
