package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/provider"
)

// host is what the poller knows of a provider's server.
type host struct {
	ask.Host
	state  hostState
	since  time.Time // when state began
	asked  time.Time // when it was last asked, or answered a call
	reason string    // why it is down
	// away is since when the ledger knows it to be down, zero if it does not.
	away   time.Time
	asking bool
	// listed are the models that it offers, where the config names none.
	listed   []string
	listedAt time.Time
}

type hostState string

const (
	unknown hostState = "unknown"
	up      hostState = "up"
	down    hostState = "down"
)

const (
	// askAgain is the time between two questions to a host that is away, and how
	// long an answer of one that is there is believed.
	askAgain = time.Minute
	// listBelieved is how long a list of models is believed that lacks the one in
	// question.
	listBelieved = 10 * time.Second
)

func newHost(h ask.Host) *host {
	state := unknown
	if !h.Probed {
		state = up
	}
	return &host{Host: h, state: state}
}

// due says whether the host should be asked before a note is claimed for it.
func (h *host) due(now time.Time) bool {
	return h.Probed && !h.asking && (h.state == unknown || now.Sub(h.asked) >= askAgain)
}

// answer is what a host said when it was asked.
type answer struct {
	err    error
	models []string
	listed bool
}

// ask asks a host, in a goroutine of its own, and reports to the poller.
func (w *Worker) ask(ctx context.Context, h *host) {
	h.asking = true
	list := len(h.Models) == 0
	w.group.Go(func() error {
		var a answer
		a.err = h.Provider.Ping(ctx)
		if a.err == nil && list {
			models, err := h.Provider.Models(ctx)
			a.err, a.listed = err, err == nil
			for _, m := range models {
				a.models = append(a.models, m.Name)
			}
		}
		w.request(ctx, func(context.Context) {
			h.asking = false
			w.heard(h, a.err)
			if a.listed {
				h.listed, h.listedAt = a.models, time.Now()
			}
		})
		return nil
	})
}

// heard takes over what the last contact with a host said of it.
func (w *Worker) heard(h *host, err error) {
	now := time.Now()
	h.asked = now
	state, reason := up, ""
	if err != nil {
		state, reason = down, err.Error()
		if e := ask.AsError(err); e != nil {
			reason = e.Reason
		}
	}
	if state != h.state {
		h.since = now
		if state == down && !h.away.IsZero() {
			h.since = h.away // an earlier process saw it go
		}
		w.rememberAway(h, state)
		if h.state != unknown || state == down {
			w.o.Log.Info("host", "provider", h.Name, "from", string(h.state), "to", string(state), "reason", reason)
		}
	}
	h.state, h.reason = state, reason
}

// awayKey begins the names under which the ledger knows since when a host is away.
const awayKey = "unreachable since "

// rememberAway has the ledger know since when a host is away, so that a restart does
// not begin anew, and forget it when the host is back.
func (w *Worker) rememberAway(h *host, state hostState) {
	value := ""
	switch {
	case state == down && h.away.IsZero():
		h.away = h.since
		value = h.since.UTC().Format(time.RFC3339Nano)
	case state == up && !h.away.IsZero():
		h.away = time.Time{}
	default:
		return
	}
	if err := w.o.Ledger.SetMeta(context.Background(), awayKey+h.Name, value); err != nil {
		w.o.Log.Error("remember since when a host is away", "provider", h.Name, "error", err)
	}
}

// recallAway reads since when hosts are away that an earlier process could not reach.
func (w *Worker) recallAway(ctx context.Context) error {
	for _, h := range w.hosts {
		value, err := w.o.Ledger.Meta(ctx, awayKey+h.Name)
		if err != nil {
			return err
		}
		if h.away, err = time.Parse(time.RFC3339Nano, value); err != nil {
			h.away = time.Time{} // never away, or not ours to read
		}
	}
	return nil
}

// Heard takes over what a look at a host from outside the worker found: err is that of
// a request which spends nothing. A provider that is not configured is ignored.
func (w *Worker) Heard(ctx context.Context, name string, err error) {
	if h, ok := w.hosts[name]; ok && provider.KindOf(err) != provider.Cancelled {
		_ = w.request(ctx, func(context.Context) { w.heard(h, err) }) // else the worker stops, or nobody waits
	}
}

// waitReason is how a note's wait for a host is shown.
func (h *host) waitReason(location *time.Location) string {
	return fmt.Sprintf("waits for %s, unreachable since %s (%s)", h.Name, clock(h.since, location), h.why())
}

// why is the reason without the word that the sentence around it says already.
func (h *host) why() string { return strings.TrimPrefix(h.reason, "unreachable: ") }

// clock shows a time of day, with the date if it is not today's.
func clock(t time.Time, location *time.Location) string {
	t, now := t.In(location), time.Now().In(location)
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04")
	}
	return t.Format("2006-01-02 15:04")
}

// offers says whether a host without configured models lists one. sure is false
// where the list is too old to say no.
func (h *host) offers(model string, now time.Time) (ok, sure bool) {
	if len(h.Models) > 0 {
		return true, true
	}
	if slices.ContainsFunc(h.listed, func(m string) bool { return sameModel(m, model) }) {
		return true, true
	}
	return false, now.Sub(h.listedAt) < listBelieved
}

// sameModel compares names as Ollama does: without regard to case, and ":latest"
// is implied.
func sameModel(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, ":latest"), strings.TrimSuffix(b, ":latest"))
}
