package worker

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
)

// begin runs a note in a goroutine of its own, with its place at the provider of
// its first call.
func (w *Worker) begin(jobs context.Context, it *queue.Item, place *provider.Place) {
	name, sum, force := it.Name, it.Sum, w.forced[it.Name]
	item, known := *it, w.rows[it.Name].ID
	recent := w.claimedLately(it)
	w.queue.MarkTaken(it)
	delete(w.waits, name)
	delete(w.rows, name)
	w.mu.Lock()
	w.busy++
	w.mu.Unlock()
	w.group.Go(func() error {
		if place != nil {
			defer place.Release()
		}
		r := outcome{name: name}
		defer func() { w.outcomes <- r }()
		defer w.survive(&r)
		l, err := w.queue.Load(name)
		if err != nil || l.Sum != sum {
			return nil // it changed: the scanner looks at it anew
		}
		c := w.candidate(&item, l)
		c.Force, c.Recent = force, recent
		r.hash = c.Hash
		if id := w.claim(jobs, c, l, place, &r); id != "" && id != known {
			r.orphan = known // the note's id was changed while it waited
		}
		return nil
	})
}

// claimedLately says whether this process claimed the content of a note before,
// so short a time ago that the note may be that claim's echo.
func (w *Worker) claimedLately(it *queue.Item) bool {
	at, ok := w.recent[it.Hash]
	return ok && it.FirstSeen.Sub(at) < ledger.Echo
}

// candidate is a note as the ledger matches it.
func (w *Worker) candidate(it *queue.Item, l queue.Loaded) ledger.Candidate {
	return ledger.Candidate{
		Name: it.Name, NoteID: l.Spec.ID, Run: l.Run, Hash: l.Hash, Body: l.Note.Body(), FirstSeen: it.FirstSeen, Spec: l.Spec,
		Gone: func(file string) bool {
			_, err := w.o.Vault.Lstat(queue.Waiting + "/" + file)
			return errors.Is(err, fs.ErrNotExist)
		},
		Running: func(id string) bool { return w.runOf(id) != nil },
	}
}

// claim takes a note: its row first, then the move, then the attempt. Whatever
// goes wrong in between is found by looking at row and file again. It returns the
// id of the claimed job, "" if there is none.
func (w *Worker) claim(jobs context.Context, c ledger.Candidate, l queue.Loaded, place *provider.Place, r *outcome) string {
	now := time.Now()
	// Once it has begun, a claim is not left half done by a stop.
	ctx := context.WithoutCancel(jobs)
	d, err := w.o.Ledger.Claim(ctx, c, now)
	if err != nil {
		w.o.Log.Error("claim", "note", c.Name, "error", err)
		r.ledgerErr = err
		return ""
	}
	r.claimed = true
	if d.Verdict == ledger.Held || d.Verdict == ledger.Duplicate {
		r.held, r.claimed = &d, false
		return ""
	}
	row := d.Row
	r.repair = row.ID // until it is known to be well
	work, cancel := context.WithCancelCause(jobs)
	defer cancel(nil)
	defer w.register(&run{row: row, cancel: cancel, since: now, steps: row.Steps})()
	file, err := w.queue.Take(c.Name, row.Run, l)
	if errors.Is(err, queue.ErrChanged) {
		if err = w.o.Ledger.PutBack(ctx, row.Ref(), job.Claiming, file, "it changed while it was claimed", "", false); err == nil {
			row.State, row.File = job.Waiting, file
			r.row, r.repair = row, ""
			w.transition(row, queue.Active, queue.Waiting, "it changed while it was claimed")
			return row.ID
		}
	}
	if err != nil {
		w.o.Log.Error("claim", "job", row.ID, "note", c.Name, "error", err)
		return row.ID
	}
	row.File = file
	row.Output = w.outputName(row, l.Spec, now)
	ref, err := w.o.Ledger.Begin(ctx, row.Ref(), file, row.Output, now)
	if err != nil {
		w.o.Log.Error("begin", "job", row.ID, "note", file, "error", err)
		return row.ID
	}
	row.State, row.Attempt, row.Started = job.Active, ref.Attempt, now
	reason := string(d.Verdict)
	if len(l.Spec.Unknown) > 0 {
		w.o.Log.Warn("keys that are not known were kept", "job", row.ID, "note", file, "keys", l.Spec.Unknown)
	}
	w.transition(row, queue.Waiting, queue.Active, reason)
	w.o.Metrics.JobBegan(now.Sub(c.FirstSeen))
	r.repair = row.ID // until the attempt has its end
	w.execute(work, cancel, row, l.Spec, place, r)
	return row.ID
}

// register makes a claim known, so that it can be cancelled; the returned function
// ends that.
func (w *Worker) register(r *run) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[r.row.ID] = r
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.running, r.row.ID)
	}
}
