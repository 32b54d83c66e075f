package worker

import (
	"context"
	"fmt"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/queue"
)

// poll is the poller: it looks at the queue folder, each Poll and whenever
// something was heard, and gives finished notes to executors. jobs is the
// context of what it starts. It returns when ctx ends.
func (w *Worker) poll(ctx, jobs context.Context) {
	close(w.ready)
	timer := time.NewTimer(0)
	defer timer.Stop()
	watch := w.o.Watch
	for {
		select {
		case <-ctx.Done():
			return
		case name, ok := <-watch:
			if !ok {
				watch = nil
				w.o.Log.Warn("file events ended; the queue is polled only", "every", w.o.Poll)
				continue
			}
			w.noticed(name)
		case <-w.o.Arbiter.Freed():
		case r := <-w.outcomes:
			w.settleOutcome(r)
		case f := <-w.requests:
			f(jobs)
		case <-timer.C:
		}
		w.drain(jobs, watch)
		timer.Reset(time.Until(w.turn(ctx, jobs)))
	}
}

// drain takes what else has come, so that one look serves a burst of events.
func (w *Worker) drain(jobs context.Context, watch <-chan string) {
	for {
		select {
		case name, ok := <-watch:
			if !ok {
				return
			}
			w.noticed(name)
		case r := <-w.outcomes:
			w.settleOutcome(r)
		case f := <-w.requests:
			f(jobs)
		default:
			return
		}
	}
}

func (w *Worker) noticed(name string) {
	if name == "" {
		w.rescan = true
		return
	}
	w.changed[name] = struct{}{}
}

// request has the poller run f between two looks. It returns when f has run, or
// ctx ended.
func (w *Worker) request(ctx context.Context, f func(context.Context)) error {
	done := make(chan struct{})
	select {
	case w.requests <- func(jobs context.Context) { defer close(done); f(jobs) }:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	<-done
	return nil
}

// turn is one look: at the folder, at what is due, and at who may run. It returns
// when the next is due.
func (w *Worker) turn(ctx, jobs context.Context) time.Time {
	now := time.Now()
	all := w.look(ctx, now)
	failed, more := w.queue.Advance(now)
	for _, it := range failed {
		w.refuse(jobs, it, ledger.End{Reason: it.Reason, Advice: "mend the note and move it back to " + queue.Waiting})
	}
	w.repair(jobs, now)
	if more {
		return now // a later note may have to go first
	}
	w.dispatch(ctx, jobs, now, all)
	next := w.lastScan.Add(w.o.Poll)
	if due := w.queue.Next(); !due.IsZero() && due.Before(next) {
		next = due
	}
	return next
}

// look brings what is known of the folders up to date: all of them each Poll,
// else the names of which something was heard. It says whether it was all.
func (w *Worker) look(ctx context.Context, now time.Time) bool {
	if !w.rescan && now.Sub(w.lastScan) < w.o.Poll {
		names := make([]string, 0, len(w.changed))
		for name := range w.changed {
			names = append(names, name)
		}
		clear(w.changed)
		w.queue.Refresh(names, now)
		return false
	}
	clear(w.changed)
	w.rescan = false
	w.lastScan = now
	err := w.queue.Scan(now)
	if now.After(w.quiet) { // until then the reason stands
		w.pause(w.obstacle(err))
	}
	if err != nil {
		return true
	}
	w.scanActive(now)
	w.lookAtCaps(ctx, now)
	w.tellOfNotes(ctx, now)
	w.forgetWaits()
	w.saveSights(ctx)
	w.tidy(ctx, now)
	w.mu.Lock()
	w.polled = now
	w.mu.Unlock()
	return true
}

// obstacle is why nothing may be claimed now, "" if nothing stands against it:
// the vault is gone or another worker's, a disk is nearly full. Renames still work
// on a full disk, so no job fails for it. scan is the error of the last look.
func (w *Worker) obstacle(scan error) string {
	if err := w.o.Vault.Moved(); err != nil {
		return fmt.Sprintf("the vault's folder was replaced or is gone: %v; start the worker again once it is there", err)
	}
	if scan != nil {
		return fmt.Sprintf("the queue cannot be read: %v; `runner init` makes missing folders", scan)
	}
	if reason := w.owner.check(w.o.Vault); reason != "" {
		return reason
	}
	for _, disk := range []struct {
		name string
		free func() (int64, error)
	}{{"the vault's disk", w.o.Vault.Free}, {"the state folder's disk", w.o.StateFree}} {
		free, err := disk.free()
		if err != nil {
			return fmt.Sprintf("the free space of %s cannot be read: %v", disk.name, err)
		}
		if free < LeastFree {
			return fmt.Sprintf("%s has %d MiB left; %d are needed", disk.name, free>>20, LeastFree>>20)
		}
	}
	return ""
}

// lookAtCaps sees whether paid hosts may be asked again, since a new day began or
// calls turned out cheaper; and, at a start, whether they may not.
func (w *Worker) lookAtCaps(ctx context.Context, now time.Time) {
	caps := w.o.Caps
	if caps.DayTokens == nil && caps.DayUSD == nil {
		return
	}
	day, err := w.o.Ledger.Spent(ctx, ask.Midnight(now, w.o.Location))
	if err != nil {
		w.o.Log.Error("look at the caps", "error", err)
		return
	}
	reason := caps.Reached(day)
	if by := w.cappedBy; reason == "" && by != nil && ask.Midnight(now, w.o.Location).Equal(w.cappedDay) && day.Tokens >= by.DayTokens && day.USD >= by.DayUSD {
		return // a call did not fit any more; what is left is not enough for it
	}
	if reason != w.capped {
		w.o.Log.Info("the day's cap", "reason", reason)
	}
	w.capped, w.cappedDay, w.cappedBy = reason, ask.Midnight(now, w.o.Location), nil
}

// tidy removes, once an hour, stored answers whose outputs are old.
func (w *Worker) tidy(ctx context.Context, now time.Time) {
	if now.Sub(w.lastTidy) < time.Hour {
		return
	}
	w.lastTidy = now
	for hash, at := range w.recent {
		if now.Sub(at) > 2*ledger.Echo {
			delete(w.recent, hash)
		}
	}
	n, err := w.o.Ledger.Forget(ctx, now.Add(-kept))
	if err != nil {
		w.o.Log.Error("tidy", "error", err)
	} else if n > 0 {
		w.o.Log.Info("removed old answers from the ledger", "answers", n)
	}
}

// unsight forgets when a note was first seen: it was claimed, or is gone.
func (w *Worker) unsight(name string) {
	if _, ok := w.sights[name]; ok {
		delete(w.sights, name)
		delete(w.newSights, name)
		w.oldSights = append(w.oldSights, name)
	}
}

// saveSights writes down, for all notes at once, since when they wait for a host.
func (w *Worker) saveSights(ctx context.Context) {
	if len(w.newSights) == 0 && len(w.oldSights) == 0 {
		return
	}
	if err := w.o.Ledger.Sight(ctx, w.oldSights, w.newSights); err != nil {
		w.o.Log.Error("save the first sights", "error", err)
		return // the next look tries again
	}
	clear(w.newSights)
	w.oldSights = nil
}

// forgetWaits drops what is known of names that are no longer there.
func (w *Worker) forgetWaits() {
	for name := range w.waits {
		if w.queue.Item(name) == nil {
			delete(w.waits, name)
		}
	}
	for name := range w.forced {
		if w.queue.Item(name) == nil {
			delete(w.forced, name)
		}
	}
	for name := range w.foreseen {
		if w.queue.Item(name) == nil {
			delete(w.foreseen, name)
		}
	}
	for name := range w.sights {
		if w.queue.Item(name) == nil {
			w.unsight(name)
		}
	}
	for name, row := range w.rows {
		if w.queue.Item(name) == nil { // gone, or renamed: its claim tells
			delete(w.rows, name)
			w.later(row.ID, vanished, nil)
		}
	}
}

// settleOutcome takes over what an executor reports of a note.
func (w *Worker) settleOutcome(r outcome) {
	now := time.Now()
	w.mu.Lock()
	w.busy--
	w.mu.Unlock()
	w.ledgerWas(r.ledgerErr, now)
	if r.unreachable != "" {
		w.heard(w.hosts[r.unreachable], r.hostErr)
	} else if r.reached != "" {
		w.heard(w.hosts[r.reached], nil)
	}
	if r.repair != "" {
		w.later(r.repair, 0, r.ending)
	}
	if r.row.ID != "" { // put back: it waits under this name
		w.waitsAs(r.row)
	}
	if r.capped != nil {
		w.capped, w.cappedDay, w.cappedBy = r.capped.Reason, ask.Midnight(now, w.o.Location), r.capped
	}
	if r.orphan != "" {
		w.later(r.orphan, vanished, nil)
	}
	if r.held != nil {
		if it := w.queue.Item(r.name); it != nil {
			w.queue.Restore(it)
			k := w.verdict(it, *r.held)
			w.waits[r.name] = k
			w.tell(context.Background(), r.name, it.Spec.Title, k.reason, ledger.PingKind(k.state), it.Sum)
			w.o.Log.Warn("not claimed", "note", r.name, "job", r.held.Row.ID, "state", k.state, "reason", k.reason)
			if r.held.Row.ID != "" {
				w.announce(r.held.Row.ID, k.state)
			}
		}
		return
	}
	if r.claimed {
		w.recent[r.hash] = now
		delete(w.forced, r.name)
	}
	w.unsight(r.name)
	if r.claimed {
		w.queue.Left(r.name, now)
	} else {
		w.queue.Release(r.name, now)
	}
}

// waitsAs takes over that a job waits in the queue; what was found of its file
// before no longer counts.
func (w *Worker) waitsAs(row ledger.Row) {
	w.rows[row.File] = row
	delete(w.waits, row.File)
	w.changed[row.File] = struct{}{}
}

// ledgerWas stops claiming for a while after the ledger could not be written,
// longer each time, so that its failure is no busy loop.
func (w *Worker) ledgerWas(err error, now time.Time) {
	if err == nil {
		return
	}
	w.backoff = min(max(2*w.backoff, w.o.Poll), longestPause)
	w.quiet = now.Add(w.backoff)
	w.pause(fmt.Sprintf("the ledger cannot be written: %v", err))
}

// scanActive compares the active folder with what runs: a file without a job is
// shown at once, and a job whose file is gone ends.
func (w *Worker) scanActive(now time.Time) {
	entries, err := w.o.Vault.List(queue.Active)
	if err != nil {
		w.o.Log.Error("list the active folder", "error", err)
		return
	}
	present := make(map[string]bool, len(entries))
	for _, e := range entries {
		present[e.Name] = true
	}
	w.mu.Lock()
	owned := make(map[string]bool, len(w.running))
	for id, r := range w.running {
		owned[r.file] = true
		if r.file == "" || present[r.file] {
			delete(w.missing, id)
			continue
		}
		if since, ok := w.missing[id]; !ok {
			w.missing[id] = now
		} else if now.Sub(since) >= vanished {
			r.cancel(errNoteGone)
		}
	}
	claiming := w.busy > len(w.running)
	w.mu.Unlock()
	for id := range w.missing {
		if w.runOf(id) == nil {
			delete(w.missing, id)
		}
	}
	w.scanStrays(entries, owned, claiming, now)
}

func (w *Worker) runOf(id string) *run {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running[id]
}
