package worker

import (
	"context"
	"fmt"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
)

// dispatch gives notes to executors, in the order of work, as far as places
// reach. A note is claimed only when its first call has a place at its provider,
// so that a busy or sleeping host never holds up the others. With all it also
// tells of each note that has to wait whether it is an echo, for some notes each
// time.
func (w *Worker) dispatch(ctx, jobs context.Context, now time.Time, all bool) {
	w.mu.Lock()
	room, paused := w.o.Concurrency-w.busy, w.paused != ""
	w.mu.Unlock()
	var picks []pick // the line must not change while it is read
	full := make(map[string]bool, len(w.hosts))
	decisions := 0
	for _, it := range w.queue.Ready() {
		closed := paused || len(picks) >= room || len(full) == len(w.hosts)
		if closed && (!all || decisions == mostDecisions) {
			break
		}
		h := w.hosts[w.nextProvider(it)]
		if closed || full[h.Name] {
			if known := w.waits[it.Name]; all && decisions < mostDecisions && !(known.decided && known.sum == it.Sum) {
				decisions++
				w.decideAhead(ctx, it)
			}
			continue
		}
		p := w.consider(ctx, jobs, h, it, now)
		if p == nil {
			continue
		}
		if p.end == nil && asks(it) {
			var ok bool
			if p.place, ok = w.o.Arbiter.TryAcquire(h.Name, provider.Batch, it.Name); !ok {
				full[h.Name] = true
				w.shows(it, w.placeReason(h.Name))
				continue
			}
		}
		picks = append(picks, *p)
	}
	if len(picks) == 0 {
		return
	}
	if reason := w.owner.check(w.o.Vault); reason != "" { // before each claim
		w.pause(reason)
		for _, p := range picks {
			if p.place != nil {
				p.place.Release()
			}
		}
		return
	}
	for _, p := range picks {
		if p.end != nil {
			w.refuse(jobs, p.item, *p.end)
		} else {
			w.begin(jobs, p.item, p.place)
		}
	}
}

// asks says whether a job of this type asks a provider at all. One that does not
// needs no host and no place.
func asks(it *queue.Item) bool { return it.Spec.Type != job.Research }

// mostDecisions bounds how many waiting notes are matched in one look.
const mostDecisions = 8

// pick is what is to be done with a note: run it with its place, or end it.
type pick struct {
	item  *queue.Item
	place *provider.Place
	end   *ledger.End
}

// consider says what to do with the next note in line, nil if it has to wait.
func (w *Worker) consider(ctx, jobs context.Context, h *host, it *queue.Item, now time.Time) *pick {
	if known, ok := w.waits[it.Name]; ok && known.sum == it.Sum && known.state != stateWaiting && !w.forced[it.Name] {
		return nil // held, or a duplicate
	}
	if it.Spec.NotBefore.After(now) {
		w.shows(it, "waits until "+ask.Clock(it.Spec.NotBefore, w.o.Location))
		return nil
	}
	if !asks(it) {
		return &pick{item: it}
	}
	if h.Paid && w.capped != "" {
		if end := w.overCap(ctx, h, it); end != nil {
			return &pick{item: it, end: end}
		}
		w.shows(it, capReason(w.capped))
		return nil
	}
	if ok, end := w.there(ctx, h, it, now); end != nil {
		return &pick{item: it, end: end}
	} else if !ok {
		return nil
	}
	problem, sure := w.unlisted(h, it, now)
	switch {
	case problem != "" && sure && now.Before(w.queue.Patience(it)): // it may be being mended
		w.shows(it, fmt.Sprintf("%s; it fails unless it is mended by %s", problem, w.queue.Patience(it).In(w.o.Location).Format("15:04:05 MST")))
		return nil
	case problem != "" && sure:
		return &pick{item: it, end: &ledger.End{Reason: problem, Advice: "name another model, or install this one there, and move the note back to " + queue.Waiting}}
	case problem != "":
		if !h.asking {
			w.ask(ctx, h)
		}
		return nil
	}
	return &pick{item: it}
}

// placeReason is why a note waits that has no place at a provider: others have them,
// or the provider asked for a pause.
func (w *Worker) placeReason(name string) string {
	until, why := w.o.Arbiter.Slowed(name)
	if until.IsZero() {
		return "waits for a place at " + name
	}
	return fmt.Sprintf("waits until %s for %s, which asks for a pause: %s", until.In(w.o.Location).Format("15:04:05 MST"), name, why)
}

// shows sets why a note waits, and keeps whether it was matched.
func (w *Worker) shows(it *queue.Item, reason string) {
	known := w.waits[it.Name]
	w.waits[it.Name] = wait{sum: it.Sum, state: stateWaiting, reason: reason, decided: known.decided && known.sum == it.Sum}
}

// nextProvider is who is asked first when a note runs.
func (w *Worker) nextProvider(it *queue.Item) string {
	if row, ok := w.rows[it.Name]; ok && row.NextProvider != "" {
		if _, known := w.hosts[row.NextProvider]; known {
			return row.NextProvider
		}
	}
	return it.Spec.Steps[0].Provider
}

// there says whether a host can be asked now, or how a note that names it ends.
// If the host has to be asked first it is, and the note has its turn when the
// answer comes.
func (w *Worker) there(ctx context.Context, h *host, it *queue.Item, now time.Time) (bool, *ledger.End) {
	if h.due(now) {
		w.ask(ctx, h)
	}
	switch {
	case h.state == up && (!h.asking || now.Sub(h.asked) < askAgain):
		return true, nil
	case h.state != down, !h.Patient && h.asking:
		w.shows(it, "waits for an answer from "+h.Name)
		return false, nil
	case !h.Patient:
		return false, &ledger.End{Reason: fmt.Sprintf("%s cannot be reached: %s", h.Name, h.why()), Advice: "start the host, then retry; or set offline: wait for it in the config"}
	case now.Sub(w.sighted(it)) > mostPatience:
		return false, &ledger.End{Reason: fmt.Sprintf("%s could not be reached for %d hours: %s", h.Name, mostPatience/time.Hour, h.why()), Advice: "start the host, then retry"}
	}
	w.shows(it, h.waitReason(w.o.Location))
	return false, nil
}

// sighted is when a note that waits for a host was first seen, also by an
// earlier process.
func (w *Worker) sighted(it *queue.Item) time.Time {
	if row, ok := w.rows[it.Name]; ok {
		return row.FirstSeen
	}
	if at, ok := w.sights[it.Name]; ok {
		return at
	}
	w.sights[it.Name], w.newSights[it.Name] = it.FirstSeen, it.FirstSeen
	return it.FirstSeen
}

// unlisted says what is wrong with the models that a note names for a host whose
// models the config does not list; sure is false if the host must be asked anew.
func (w *Worker) unlisted(h *host, it *queue.Item, now time.Time) (problem string, sure bool) {
	for _, s := range it.Spec.Steps {
		if s.Provider != h.Name {
			continue // that host is asked by the call itself
		}
		if s.Model == "" {
			return fmt.Sprintf("no model is named, and the config lists none for %s; it has: %s", h.Name, names(h.listed)), !h.listedAt.IsZero()
		}
		if ok, sure := h.offers(s.Model, now); !ok {
			return fmt.Sprintf("%s does not have the model %q; it has: %s", h.Name, s.Model, names(h.listed)), sure
		}
	}
	return "", true
}

func names(models []string) string {
	if len(models) == 0 {
		return "none"
	}
	const most = 20
	text := ""
	for i, m := range models {
		if i == most {
			return text + fmt.Sprintf(" and %d more", len(models)-most)
		}
		if i > 0 {
			text += ", "
		}
		text += m
	}
	return text
}

// The states in which list shows an unclaimed note.
const (
	stateWaiting   = "waiting"
	stateHeld      = "held"
	stateDuplicate = "duplicate"
)

// decideAhead asks the ledger what a note that has to wait would be.
func (w *Worker) decideAhead(ctx context.Context, it *queue.Item) {
	known := wait{sum: it.Sum, state: stateWaiting, reason: w.waits[it.Name].reason, decided: true}
	if w.waits[it.Name].sum != it.Sum {
		known.reason = ""
	}
	l, err := w.queue.Load(it.Name)
	if err == nil {
		c := w.candidate(it, l)
		c.Recent = w.claimedLately(it)
		var d ledger.Decision
		if d, err = w.o.Ledger.Decide(ctx, c); err == nil {
			known = w.verdict(it, d)
		}
	}
	if err != nil {
		w.o.Log.Error("match a waiting note", "note", it.Name, "error", err)
		known.decided = false
	}
	w.waits[it.Name] = known
}

// verdict is how a decision of the ledger is shown.
func (w *Worker) verdict(it *queue.Item, d ledger.Decision) wait {
	k := wait{sum: it.Sum, state: stateWaiting, decided: true}
	switch d.Verdict {
	case ledger.Held:
		k.state, k.reason = stateHeld, d.Reason
	case ledger.Duplicate:
		k.state, k.reason = stateDuplicate, d.Reason
	}
	return k
}
