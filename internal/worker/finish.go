package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
)

// ending is the end of a job that has yet to be written down.
type ending struct {
	row   ledger.Row
	at    position
	end   ledger.End
	event job.Event
	held  []job.StepResult // what the note named by end.Partial holds
}

// complete makes a result durable and ends the job: the output note first, then
// the ledger, then the job's note.
func (w *Worker) complete(ctx context.Context, row ledger.Row, spec job.Spec, result job.Result, r *outcome) {
	ctx = context.WithoutCancel(ctx)
	calls, err := w.o.Ledger.Calls(ctx, row.ID)
	if err != nil {
		w.o.Log.Error("complete", "job", row.ID, "error", err)
		calls = nil // the output is worth more than its list of earlier calls
	}
	path, err := w.writeOutput(row.Output, row.Run, "stop", render(w.report(row, spec, result, calls, "stop", "")))
	if err != nil {
		w.o.Log.Error("write the output note", "job", row.ID, "output", row.Output, "error", err)
		w.end(ctx, row, ledger.End{
			Reason: "the output note could not be written: " + plainError(err),
			Advice: "mend the disk, then retry: the answer is stored and is not asked for again",
		}, job.Fail, r)
		return
	}
	row.Output = path
	w.completed(ctx, row, result.Steps, r)
}

// completed writes down that the output, which holds the given steps, is durable,
// and settles the note.
func (w *Worker) completed(ctx context.Context, row ledger.Row, held []job.StepResult, r *outcome) {
	now := time.Now()
	from := row.State
	row.State, row.Reason, row.Ended = job.Completed, "", now
	if err := w.o.Ledger.Complete(ctx, row.Ref(), from, row.Output, "", now, w.ping(ctx, row, held)); err != nil {
		w.o.Log.Error("complete", "job", row.ID, "error", err)
		r.repair = row.ID
		return
	}
	w.ended(row)
	w.settle(ctx, row, position{queue.Active, row.File}, r)
}

// failed decides how an attempt without a result ends: put back, cancelled or
// failed.
func (w *Worker) failed(ctx context.Context, row ledger.Row, spec job.Spec, result job.Result, err error, r *outcome) {
	cause := context.Cause(ctx)
	keep := context.WithoutCancel(ctx)
	e := ask.AsError(err)
	sent := e != nil && e.Sent
	ends := func(event job.Event, end ledger.End) {
		w.endKept(keep, row, spec, result, event, end, r)
	}
	var record *recordError
	var limit limitError
	var capped *ledger.CapError
	var bad *note.Error
	switch {
	case errors.As(err, &capped) && capped.Scope == ledger.DayCap:
		r.capped = capped
		w.putBack(keep, row, capReason(capped.Reason), nextProvider(result, spec), r)
	case errors.As(err, &capped):
		ends(job.Fail, capEnd(capped))
	case errors.As(err, &record):
		w.o.Log.Error("the ledger failed in mid-job", "job", row.ID, "error", err)
		r.ledgerErr = err
		if record.before {
			w.putBack(keep, row, "the ledger could not be written", "", r)
			return
		}
		r.repair = row.ID // looking again finds what to do
	case errors.Is(cause, errCancelled):
		ends(job.Cancel, ledger.End{Reason: "cancelled by its owner"})
	case errors.Is(cause, errNoteGone):
		ends(job.Fail, ledger.End{Reason: noteGone + ": it vanished from " + queue.Active + " while it ran", Advice: adviceGone})
	case errors.Is(cause, errStopping) && (!sent || !spec.RetryNever):
		w.putBack(keep, row, "the worker stopped", "", r)
	case errors.Is(cause, errStopping):
		ends(job.Fail, ledger.End{Reason: "the worker stopped during a call that may have been billed, and the note says retry: never",
			Advice: "move the note back to " + queue.Waiting + " to ask again"})
	case errors.As(cause, &limit):
		ends(job.Fail, ledger.End{Reason: fmt.Sprintf("the job took longer than %s, loading and waiting not counted", limit.limit),
			Advice: "set a longer timeout in the note, or deadlines.job in the config"})
	case e != nil && e.Kind == provider.Unreachable && w.patient(e.Provider):
		r.unreachable, r.hostErr = e.Provider, e
		w.putBack(keep, row, fmt.Sprintf("%s cannot be reached: %s", e.Provider, strings.TrimPrefix(e.Reason, "unreachable: ")), e.Provider, r)
	case errors.As(err, &bad): // a link that leads nowhere
		ends(job.Fail, ledger.End{Reason: bad.Error(), Advice: "mend the link in the note, then retry"})
	case e != nil:
		if e.Kind == provider.Unreachable {
			r.unreachable, r.hostErr = e.Provider, e
		}
		ends(job.Fail, ledger.End{Reason: e.Error(), Advice: e.Advise()})
	default:
		ends(job.Fail, ledger.End{Reason: plainError(err), Advice: "look at the log for more, then retry"})
	}
}

// adviceGone is what can be done about a job whose note was deleted.
const adviceGone = "nothing is made anew: to ask again, put a new note into " + queue.Waiting

// capEnd is the end of a job that a cap forbids for good.
func capEnd(e *ledger.CapError) ledger.End {
	return ledger.End{Reason: "not asked: " + e.Reason, Advice: "raise the cap in the config, or ask for less with max_tokens"}
}

// endKept ends a job and keeps what had come of its answers.
func (w *Worker) endKept(ctx context.Context, row ledger.Row, spec job.Spec, result job.Result, event job.Event, end ledger.End, r *outcome) {
	e := ending{row: row, at: position{queue.Active, row.File}, end: end, event: event}
	if e.end.Partial = w.partial(ctx, row, spec, result, end.Reason); e.end.Partial != "" {
		e.held = result.Steps
	}
	w.endAs(ctx, e, r)
}

// capReason is how a wait for the day's cap is shown.
func capReason(reason string) string { return "waits until midnight: " + reason }

// nextProvider is who has to be asked after the steps of a result, the last of
// which failed.
func nextProvider(result job.Result, spec job.Spec) string {
	return spec.Steps[min(max(len(result.Steps)-1, 0), len(spec.Steps)-1)].Provider
}

func (w *Worker) patient(name string) bool {
	h, ok := w.hosts[name]
	return ok && h.Patient // a field of the config, fixed since the start
}

// partial writes what had come of a failed answer into a note of its own, and
// returns that note's path, "" if there was nothing or it could not be written.
func (w *Worker) partial(ctx context.Context, row ledger.Row, spec job.Spec, result job.Result, reason string) string {
	some := false
	for _, s := range result.Steps {
		some = some || s.Answer.Text != "" || s.Answer.Thinking != ""
	}
	if !some {
		return ""
	}
	calls, err := w.o.Ledger.Calls(ctx, row.ID)
	if err != nil {
		w.o.Log.Error("write the partial output", "job", row.ID, "error", err)
	}
	path, err := w.writeOutput(row.Output, row.Run, finishPartial, render(w.report(row, spec, result, calls, finishPartial, reason)))
	if err != nil {
		w.o.Log.Error("write the partial output", "job", row.ID, "error", err)
		return ""
	}
	return path
}

// putBack returns a job to the queue: its row first, then the move, which a
// start repeats if it was lost in between. The attempt is not counted.
func (w *Worker) putBack(ctx context.Context, row ledger.Row, reason, next string, r *outcome) {
	if err := w.o.Ledger.PutBack(ctx, row.Ref(), row.State, row.File, reason, next, true); err != nil {
		w.o.Log.Error("put back", "job", row.ID, "error", err)
		r.repair = row.ID
		return
	}
	if row.State == job.Active && row.Attempt > 0 {
		row.Attempt--
	}
	row.State, row.Reason, row.NextProvider = job.Waiting, reason, next
	w.moveBack(ctx, row, r)
}

// moveBack moves the note of a job whose row says waiting back to the queue.
func (w *Worker) moveBack(ctx context.Context, row ledger.Row, r *outcome) {
	file, err := w.queue.Put(queue.Active, row.File, queue.Waiting, row.Run)
	if err == nil && file != row.File {
		row.File = file
		err = w.o.Ledger.Rename(ctx, row.Ref(), file)
	}
	if err != nil {
		w.o.Log.Error("put back", "job", row.ID, "note", row.File, "error", err)
		r.repair = row.ID
		return
	}
	r.repair, r.row = "", row
	w.transition(row, queue.Active, queue.Waiting, row.Reason)
}

// end ends a job that failed or was cancelled, whose note is in the active folder.
func (w *Worker) end(ctx context.Context, row ledger.Row, end ledger.End, event job.Event, r *outcome) {
	w.endAs(ctx, ending{row: row, at: position{queue.Active, row.File}, end: end, event: event}, r)
}

// endAs writes down how a job ended, and settles its note. If the ledger cannot be
// written now, the ending is kept and tried again: without it the job would be asked
// anew.
func (w *Worker) endAs(ctx context.Context, e ending, r *outcome) {
	now := time.Now()
	record := w.o.Ledger.Fail
	if e.event == job.Cancel {
		record = w.o.Ledger.Cancel
	}
	row, end := e.row, e.end
	row.State, _ = job.Next(row.State, e.event)
	end.Unaccounted = strings.Join(describe(w.account(ctx, row, e.held), row.ID, row.Run, w.o.Location), "\n")
	row.Reason, row.Advice, row.Partial, row.Unaccounted, row.Output, row.Ended = end.Reason, end.Advice, end.Partial, end.Unaccounted, "", now
	end.Ping = w.ping(ctx, row, e.held)
	if err := record(ctx, e.row.Ref(), e.row.State, end, now); err != nil {
		w.o.Log.Error("end", "job", row.ID, "reason", end.Reason, "error", err)
		r.repair, r.ending, r.ledgerErr = row.ID, &e, err
		return
	}
	w.ended(row)
	w.settle(ctx, row, e.at, r)
}

// endWaiting ends a job that waits in the queue. Its note may have been edited
// since it was put back: what lies there now is what moves.
func (w *Worker) endWaiting(ctx context.Context, row ledger.Row, l queue.Loaded, end ledger.End, event job.Event, r *outcome) {
	if l.Note != nil {
		row.Hash = l.Hash
	}
	w.endAs(ctx, ending{row: row, at: position{queue.Waiting, row.File}, end: end, event: event}, r)
}

// sumOf names a file's bytes, "" where they were too many to read.
func sumOf(l queue.Loaded) string {
	if l.Data == nil {
		return ""
	}
	return fmt.Sprintf("%x", l.Sum)
}

// refuse ends a note that was never claimed, in a goroutine of its own.
func (w *Worker) refuse(jobs context.Context, it *queue.Item, end ledger.End) {
	item := *it
	waiting, known := w.rows[it.Name]
	w.queue.MarkTaken(it)
	delete(w.waits, it.Name)
	delete(w.rows, it.Name)
	w.mu.Lock()
	w.busy++
	w.mu.Unlock()
	w.group.Go(func() error {
		r := outcome{name: item.Name}
		defer func() { w.outcomes <- r }()
		defer w.survive(&r)
		ctx := context.WithoutCancel(jobs)
		l, err := w.queue.Load(item.Name)
		if known { // a job that was put back and waited too long, or was broken since
			w.endWaiting(ctx, waiting, l, end, job.Fail, &r)
			return nil
		}
		row := ledger.Row{NoteID: item.Spec.ID, Name: item.Name, File: item.Name, State: job.Failed, Type: item.Spec.Type, Provider: item.Spec.Provider,
			Model: item.Spec.Model, Title: item.Spec.Title, Reason: end.Reason, Advice: end.Advice, FirstSeen: item.FirstSeen, Ended: time.Now()}
		end.Ping = w.ping(ctx, row, nil)
		switch {
		case l.Info.Inode == 0:
			return nil // gone, or it cannot be read: the scanner looks again
		case l.Sum != item.Sum && item.Sum != [32]byte{}:
			return nil // it changed meanwhile
		case err == nil && item.Status == queue.Ready:
			row, err = w.o.Ledger.Expire(ctx, w.candidate(&item, l), end, time.Now())
		default:
			row, err = w.o.Ledger.Refuse(ctx, item.Name, sumOf(l), job.Fail, end, item.FirstSeen, time.Now())
		}
		if err != nil {
			w.o.Log.Error("refuse", "note", item.Name, "error", err)
			r.ledgerErr = err
			return nil
		}
		w.ended(row)
		w.settle(ctx, row, position{queue.Waiting, item.Name}, &r)
		return nil
	})
}
