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
	word   string    // how it is down: unreachable, or that the key is wrong
	reason string    // why it is down
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
	state, word, reason := up, "", ""
	if err != nil {
		state, word, reason = down, provider.WordUnreachable, err.Error()
		if e := ask.AsError(err); e != nil {
			word, reason = e.Kind.Word(), e.Reason
		}
	}
	if state != h.state {
		h.since = now
		if h.state != unknown || state == down {
			w.o.Log.Info("host", "provider", h.Name, "from", string(h.state), "to", string(state), "reason", reason)
		}
	}
	h.state, h.word, h.reason = state, word, reason
	// The ledger knows it from whoever saw it first, also an earlier process.
	if state == down {
		h.since, err = w.o.Ledger.Away(context.Background(), h.Name, h.since)
	} else {
		err = w.o.Ledger.Back(context.Background(), h.Name)
	}
	if err != nil {
		w.o.Log.Error("remember since when a host is away", "provider", h.Name, "error", err)
	}
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
	return fmt.Sprintf("waits for %s, %s since %s (%s)", h.Name, h.word, ask.Clock(h.since, location), h.why())
}

// why is the reason without the word that the sentence around it says already.
func (h *host) why() string { return strings.TrimPrefix(h.reason, "unreachable: ") }

// offers says whether a host without configured models lists one. sure is false
// where the list is too old to say no.
func (h *host) offers(model string, now time.Time) (ok, sure bool) {
	if len(h.Models) > 0 {
		return true, true
	}
	if slices.ContainsFunc(h.listed, func(m string) bool { return provider.SameModel(m, model) }) {
		return true, true
	}
	return false, now.Sub(h.listedAt) < listBelieved
}
