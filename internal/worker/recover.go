package worker

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
)

// restoredKey marks a ledger that came from a backup, until its first start.
const restoredKey = "restored"

// MarkRestored makes the next start hold whatever lies in the active folder: the
// ledger is older than the vault, so it may have been billed already.
func MarkRestored(ctx context.Context, l *ledger.Ledger) error {
	return l.SetMeta(ctx, restoredKey, time.Now().UTC().Format(time.RFC3339))
}

// found is what is known of an unfinished job besides its row.
type found struct {
	// folder is where its note lies, "" for nowhere.
	folder string
	// output says that this run's whole output note is there.
	output bool
	// answered says that every step of this run has a stored answer.
	answered bool
	// intent says that a call of this attempt has no known end.
	intent bool
	// restored says that the ledger came from a backup.
	restored bool
}

// action is what is done about a job that nobody runs.
type action string

const (
	actNothing  action = "nothing"      // it waits where it should
	actWait     action = "wait"         // its note waits in the queue, the row says otherwise
	actMoveBack action = "move back"    // the row waits, the note has yet to move
	actPutBack  action = "put back"     // both go back to the queue
	actAdopt    action = "adopt"        // the output is there: only the rest is to be done
	actFinish   action = "finish"       // the answers are stored: write the output
	actFail     action = "fail"         // it was interrupted too often, or may not be asked twice
	actHold     action = "hold"         // a person must decide
	actComplete action = "found done"   // the note lies in the completed folder
	actFailed   action = "found failed" // the note lies in the failed folder
	actGone     action = "note gone"    // the note is nowhere
	actSettle   action = "settle"       // it ended: its note has yet to move or be annotated
)

// decide says what is done about an unfinished job, from its row and what else
// was found. It is the whole of the recovery's judgement.
func decide(row ledger.Row, f found) (action, string) {
	switch {
	case row.State.Final():
		return actSettle, ""
	case f.folder == "":
		return actGone, noteGone + ": it is in none of the queue's folders"
	case f.folder == queue.Completed:
		return actComplete, "its note was found in " + queue.Completed
	case f.folder == queue.Failed:
		return actFailed, "its note was found in " + queue.Failed
	case row.State == job.Held:
		return actNothing, ""
	case row.State == job.Waiting && f.folder == queue.Waiting:
		return actNothing, ""
	case f.restored && f.folder == queue.Active:
		return actHold, "the ledger was restored from a backup, so this job may have been billed already: retry runs it, cancel ends it"
	case row.State == job.Waiting:
		return actMoveBack, row.Reason
	case row.State == job.Claiming && f.folder == queue.Waiting:
		return actWait, "interrupted before it began"
	case row.State == job.Claiming:
		return actPutBack, "interrupted before it began"
	case f.output:
		return actAdopt, ""
	case f.answered:
		return actFinish, ""
	case f.intent && row.RetryNever:
		return actFail, "interrupted during a call that may have been billed, and the note says retry: never"
	case row.Attempt >= mostAttempts:
		return actFail, fmt.Sprintf("interrupted %d times", row.Attempt)
	case f.folder == queue.Waiting:
		return actWait, "interrupted"
	}
	return actPutBack, "interrupted"
}

// start takes the vault, finishes or puts back what an earlier process left, and
// makes the poller ready.
func (w *Worker) start(ctx context.Context) error {
	for _, dir := range queue.Folders() {
		info, err := w.o.Vault.Lstat(dir) // not a list: what is done costs nothing
		if err == nil && !info.Mode.IsDir() {
			err = errors.New("it is no folder")
		}
		if err != nil {
			return fmt.Errorf("the vault's folder %s cannot be used: %w; `runner init` makes what is missing", dir, err)
		}
	}
	// Before anything is written: two that probe at once would meet each other.
	if _, err := mayTake(w.o.Vault, w.o.StateID, w.o.TakeOver); err != nil {
		return err
	}
	if err := w.o.Vault.Probe(queue.Folders()...); err != nil {
		return err
	}
	var err error
	if w.owner, err = takeVault(w.o.Vault, w.o.StateID, w.o.Hostname, w.o.TakeOver); err != nil {
		return err
	}
	restored, err := w.o.Ledger.Meta(ctx, restoredKey)
	if err != nil {
		return err
	}
	rows, err := w.o.Ledger.Unsettled(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		w.recover(ctx, row, restored != "")
	}
	if err := w.clearTemps(ctx); err != nil {
		return err
	}
	if restored != "" {
		if err := w.o.Ledger.SetMeta(ctx, restoredKey, ""); err != nil {
			return err
		}
	}
	if w.sights, err = w.o.Ledger.Sightings(ctx); err != nil {
		return err
	}
	now := time.Now()
	if err := w.queue.Scan(now); err != nil {
		return err
	}
	for name, at := range w.sights {
		w.queue.SawFirst(name, at)
	}
	for name, row := range w.rows {
		w.queue.SawFirst(name, row.FirstSeen)
	}
	w.rescan = true
	return nil
}

// recover looks at a job that nobody runs and does what is to be done. Only the
// poller's goroutine calls it, or the start.
func (w *Worker) recover(ctx context.Context, row ledger.Row, restored bool) {
	r := outcome{name: row.File, repair: row.ID}
	w.guarded(&r, func() { w.mend(ctx, row, restored, &r) })
	if r.repair != "" {
		w.later(row.ID, 0, r.ending)
	}
	if r.row.ID != "" {
		w.waitsAs(r.row)
	}
}

// clearTemps settles the temporary files of annotations whose removal was lost
// with the power. What is not known to be a note's former text stays.
func (w *Worker) clearTemps(ctx context.Context) error {
	entries, err := w.o.Vault.List(vault.TempDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		run, ok := strings.CutPrefix(strings.TrimSuffix(e.Name, ".md"), annotationTemp)
		if !ok {
			continue
		}
		row, err := w.o.Ledger.ByRun(ctx, run)
		if errors.Is(err, ledger.ErrUnknown) {
			w.o.Log.Warn("a temporary file of an unknown job is left as it is", "note", path.Join(vault.TempDir, e.Name))
			continue
		}
		if err != nil {
			return err
		}
		if !row.Settled {
			continue // its own recovery does it
		}
		at, err := w.locate(ctx, row)
		if err == nil && at.folder != "" {
			fields, callout := w.annotation(row)
			err = w.o.Vault.RecoverRewrite(path.Join(at.folder, at.file), path.Join(vault.TempDir, e.Name),
				func(data []byte) []byte { return note.Annotate(data, fields, callout) })
		}
		if err != nil {
			w.o.Log.Warn("a temporary file could not be settled", "job", row.ID, "note", row.File, "error", err)
		}
	}
	return nil
}

// guarded runs f under recover.
func (w *Worker) guarded(r *outcome, f func()) {
	defer w.survive(r)
	f()
}

func (w *Worker) mend(ctx context.Context, row ledger.Row, restored bool, r *outcome) {
	r.repair = row.ID
	at, err := w.locate(ctx, row)
	if err != nil {
		w.o.Log.Error("look for a job's note", "job", row.ID, "note", row.File, "error", err)
		return
	}
	if at.folder != "" {
		w.mu.Lock()
		delete(w.gone, row.ID)
		w.mu.Unlock()
	}
	f := found{folder: at.folder, restored: restored}
	if at.folder == "" && !row.State.Final() && !w.goneLong(row.ID) {
		return // it may be in mid-replacement; look again
	}
	if row.State == job.Active {
		f.output = row.Output != "" && w.holdsRun(row.Output, row.Run) == "stop"
		if f.answered, f.intent, err = w.callsOf(ctx, row); err != nil {
			w.o.Log.Error("look for a job's calls", "job", row.ID, "error", err)
			return
		}
	}
	do, reason := decide(row, f)
	if do != actNothing {
		w.o.Log.Info("recovering", "job", row.ID, "note", row.File, "state", string(row.State), "from", at.folder, "action", string(do), "reason", reason, "attempt", row.Attempt)
	}
	if at.file != "" {
		row.File = at.file
	}
	w.act(ctx, do, reason, row, at, r)
}

func (w *Worker) act(ctx context.Context, do action, reason string, row ledger.Row, at position, r *outcome) {
	now := time.Now()
	var err error
	switch do {
	case actNothing:
		r.repair = ""
		if row.State == job.Waiting {
			r.row = row
		}
		return
	case actSettle:
		w.settle(ctx, row, at, r)
		return
	case actAdopt:
		result, err := w.storedResult(ctx, row, "", at)
		if err != nil {
			w.o.Log.Error("adopt", "job", row.ID, "error", err)
			return
		}
		w.completed(ctx, row, result.Steps, r)
		return
	case actFinish:
		w.finish(ctx, row, at, r)
		return
	case actMoveBack:
		w.moveBack(ctx, row, r)
		return
	case actPutBack:
		if err = w.o.Ledger.PutBack(ctx, row.Ref(), row.State, row.File, reason, "", false); err == nil {
			row.State, row.Reason = job.Waiting, reason
			w.moveBack(ctx, row, r)
		}
	case actWait:
		if err = w.o.Ledger.PutBack(ctx, row.Ref(), row.State, row.File, reason, "", false); err == nil {
			row.State, row.Reason = job.Waiting, reason
			r.repair, r.row = "", row
		}
	case actHold:
		if err = w.o.Ledger.Hold(ctx, row.Ref(), row.State, row.File, reason); err == nil {
			r.repair = ""
		}
	case actFail, actGone:
		end := ledger.End{Reason: reason, Advice: adviceGone}
		if do == actFail {
			end.Advice = "look at the log for what ended the worker, then retry"
		}
		w.endAs(ctx, ending{row: row, at: at, end: end, event: job.Fail}, r)
		return
	case actFailed: // its owner put it there: it is left as it is
		if err = w.o.Ledger.Fail(ctx, row.Ref(), row.State, ledger.End{Reason: reason}, now); err == nil {
			err = w.o.Ledger.Settle(ctx, row.Ref(), row.File)
		}
	case actComplete:
		if err = w.o.Ledger.Complete(ctx, row.Ref(), row.State, row.Output, reason, now, nil); err == nil {
			err = w.o.Ledger.Settle(ctx, row.Ref(), row.File)
		}
	}
	if err == nil && (do == actFailed || do == actComplete) {
		r.repair = ""
	}
	if err != nil {
		w.o.Log.Error("recover", "job", row.ID, "action", string(do), "error", err)
	}
}

// callsOf says whether every step of a run is answered, and whether a call of
// its present attempt has no known end.
func (w *Worker) callsOf(ctx context.Context, row ledger.Row) (answered, intent bool, err error) {
	stored, err := w.o.Ledger.Stored(ctx, row.ID, row.Run)
	if err != nil {
		return false, false, err
	}
	calls, err := w.o.Ledger.Calls(ctx, row.ID)
	for _, c := range calls {
		intent = intent || c.State == ledger.Intent && c.Run == row.Run && c.Attempt == row.Attempt
	}
	return row.Steps > 0 && len(stored) == row.Steps, intent, err
}

// finish writes the output of a job whose answers are all stored. Nothing is
// asked.
func (w *Worker) finish(ctx context.Context, row ledger.Row, at position, r *outcome) {
	result, err := w.storedResult(ctx, row, row.Run, at)
	if err != nil {
		w.o.Log.Error("finish", "job", row.ID, "error", err)
		return
	}
	w.complete(ctx, row, w.storedSpec(row, at, len(result.Steps)), result, r)
}

// storedSpec is what a note asked: it tells titles and tags, and the answers to its
// steps stand without them too.
func (w *Worker) storedSpec(row ledger.Row, at position, steps int) job.Spec {
	if l, err := w.queue.LoadActive(at.file); err == nil && len(l.Spec.Steps) == steps {
		return l.Spec
	}
	return job.Spec{Type: row.Type, Title: row.Title}
}

// storedResult is the result of a job whose answers are all stored, by a run, or by
// any where run is "".
func (w *Worker) storedResult(ctx context.Context, row ledger.Row, run string, at position) (job.Result, error) {
	stored, err := w.o.Ledger.Stored(ctx, row.ID, run)
	if err != nil {
		return job.Result{}, err
	}
	stored = stored[:min(len(stored), row.Steps)] // a longer chain was asked before
	spec := w.storedSpec(row, at, len(stored))
	var result job.Result
	for i, s := range stored {
		step := job.Step{Title: fmt.Sprintf("Step %d", i+1)}
		if i < len(spec.Steps) {
			step = spec.Steps[i]
		}
		result.Steps = append(result.Steps, job.StepResult{Step: step, Hash: s.Hash, Answer: s.Answer})
	}
	return result, nil
}
