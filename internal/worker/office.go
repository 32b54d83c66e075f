package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/queue"
)

// Show tells all of one job.
func (w *Worker) Show(ctx context.Context, ref string) (control.Detail, error) {
	j, err := w.find(ctx, ref)
	if err != nil {
		return control.Detail{}, err
	}
	return detail(ctx, w.o.Ledger, j)
}

// Detailed is what Show tells without a worker.
func Detailed(ctx context.Context, l *ledger.Ledger, ref string) (control.Detail, error) {
	row, err := findRow(ctx, l, ref)
	if err != nil {
		return control.Detail{}, err
	}
	j, err := alone(ctx, l, row)
	if err != nil {
		return control.Detail{}, err
	}
	return detail(ctx, l, j)
}

func detail(ctx context.Context, l *ledger.Ledger, j control.Job) (control.Detail, error) {
	d := control.Detail{Job: j, Calls: []control.Call{}}
	if j.State == string(job.Failed) || j.State == string(job.Cancelled) {
		d.Error = j.Reason
	}
	calls, err := l.Calls(ctx, j.ID)
	if err != nil {
		return d, err
	}
	for _, c := range calls {
		call := control.Call{Run: c.Run, Step: c.Step, Attempt: c.Attempt, Try: c.Try, Provider: c.Provider, Model: c.Model, State: string(c.State),
			Billed: c.Billed, Read: c.Read, Written: c.Written, Started: c.Started, Reason: c.Reason}
		if !c.Ended.IsZero() {
			call.Took = c.Ended.Sub(c.Started)
		}
		d.Calls = append(d.Calls, call)
	}
	return d, nil
}

// find turns a reference into a job: a note in the queue or a stray by its name,
// else a job of the ledger, else a note in the queue by its own id.
func (w *Worker) find(ctx context.Context, ref string) (control.Job, error) {
	var here []control.Job
	if err := w.request(ctx, func(context.Context) { here = w.unclaimedJobs() }); err != nil {
		return control.Job{}, err
	}
	for _, j := range here {
		if j.Name == ref || j.Name == ref+".md" {
			return j, nil
		}
	}
	row, err := findRow(ctx, w.o.Ledger, ref)
	if err == nil {
		for _, j := range here {
			if j.ID == row.ID && row.State == job.Waiting {
				return j, nil
			}
		}
		return w.fromRow(row), nil
	}
	for _, j := range here { // of a note that was not read yet, submit puts the id into its name
		if j.ID != "" && j.ID == ref || j.ID == "" && strings.HasSuffix(j.Name, "-"+ref+".md") {
			return j, nil
		}
	}
	return control.Job{}, err
}

func findRow(ctx context.Context, l *ledger.Ledger, ref string) (ledger.Row, error) {
	rows, err := l.Find(ctx, ref)
	switch {
	case err != nil:
		return ledger.Row{}, err
	case len(rows) == 0:
		return ledger.Row{}, &control.Error{Code: control.NotFound, Text: fmt.Sprintf("there is no job %q; `runner list` shows what there is", ref)}
	case len(rows) > 1:
		ids := make([]string, len(rows))
		for i, r := range rows {
			ids[i] = fmt.Sprintf("%s (%s, %s)", r.ID, r.File, r.State)
		}
		return ledger.Row{}, &control.Error{Code: control.Ambiguous, Text: fmt.Sprintf("%q may mean any of: %s", ref, strings.Join(ids, ", "))}
	}
	return rows[0], nil
}

// Cancel ends a job: a running one is stopped, a waiting or held note moves to
// the failed folder.
func (w *Worker) Cancel(ctx context.Context, ref string) (control.Job, error) {
	j, err := w.find(ctx, ref)
	if err != nil {
		return j, err
	}
	if running := w.runOf(j.ID); running != nil && j.State == string(job.Active) {
		running.cancel(errCancelled)
		j.Reason = "it is being stopped"
		return j, nil
	}
	var failure error
	err = w.request(ctx, func(ctx context.Context) { j, failure = w.cancelIdle(ctx, j) })
	return j, errors.Join(err, failure)
}

// cancelIdle ends a job that does not run. For the poller.
func (w *Worker) cancelIdle(ctx context.Context, j control.Job) (control.Job, error) {
	end := ledger.End{Reason: "cancelled by its owner"}
	var r outcome
	defer func() {
		if r.repair != "" {
			w.later(r.repair, 0, r.ending)
		}
	}()
	if it := w.queue.Item(j.Name); it != nil && j.Folder == queue.Waiting && it.Status != queue.Taken {
		if j.State == stateHeld || j.State == stateDuplicate {
			end.Reason = "discarded by its owner: " + j.Reason
		}
		w.queue.MarkTaken(it)
		defer w.queue.Release(it.Name, time.Now())
		l, err := w.queue.Load(j.Name)
		if row, ok := w.rows[j.Name]; ok {
			delete(w.rows, j.Name)
			w.endWaiting(ctx, row, l, end, job.Cancel, &r)
			return w.after(ctx, row.ID)
		}
		var row ledger.Row
		switch {
		case err == nil && !l.Spec.Draft:
			row, err = w.o.Ledger.Discard(ctx, w.candidate(it, l), end.Reason, time.Now())
		case l.Info.Inode == 0:
			return j, fmt.Errorf("cancel %s: %w", j.Name, err)
		default: // a draft, or no job note at all
			row, err = w.o.Ledger.Refuse(ctx, j.Name, sumOf(l), job.Cancel, end, it.FirstSeen, time.Now())
		}
		if err != nil {
			return j, err
		}
		w.settle(ctx, row, position{queue.Waiting, j.Name}, &r)
		return w.after(ctx, row.ID)
	}
	if s, ok := w.strays[j.Name]; ok && j.Folder == queue.Active {
		return w.cancelStray(j, s)
	}
	row, err := w.o.Ledger.Get(ctx, j.ID)
	if err != nil {
		return j, &control.Error{Code: control.Conflict, Text: fmt.Sprintf("%s has moved on meanwhile; look again", j.Name)}
	}
	if row.State != job.Held {
		return fromRow(row), &control.Error{Code: control.Conflict, Text: fmt.Sprintf("job %s is %s; only what waits, is held or runs can be cancelled", row.ID, row.State)}
	}
	w.end(ctx, row, end, job.Cancel, &r) // a held job lies in the active folder
	return w.after(ctx, row.ID)
}

func (w *Worker) after(ctx context.Context, id string) (control.Job, error) {
	row, err := w.o.Ledger.Get(ctx, id)
	return w.fromRow(row), err
}

// cancelStray moves a file that no job owns to the failed folder. The ledger has
// nothing to say of it.
func (w *Worker) cancelStray(j control.Job, s stray) (control.Job, error) {
	file, err := w.queue.Put(queue.Active, j.Name, queue.Failed, job.NewRun())
	if err != nil {
		return j, fmt.Errorf("cancel %s: %w", j.Name, err)
	}
	delete(w.strays, j.Name)
	w.o.Log.Info("moved", "note", file, "from", queue.Active, "to", queue.Failed, "reason", "discarded by its owner: "+s.reason)
	j.Name, j.Folder, j.State, j.Reason = file, queue.Failed, string(job.Cancelled), "discarded by its owner"
	return j, nil
}

// Retry runs a failed, cancelled or held job, or a held note, again.
func (w *Worker) Retry(ctx context.Context, ref string) (control.Job, error) {
	j, err := w.find(ctx, ref)
	if err != nil {
		return j, err
	}
	var failure error
	err = w.request(ctx, func(ctx context.Context) { j, failure = w.retry(ctx, j) })
	return j, errors.Join(err, failure)
}

func (w *Worker) retry(ctx context.Context, j control.Job) (control.Job, error) {
	refused := func(format string, args ...any) (control.Job, error) {
		return j, &control.Error{Code: control.Conflict, Text: fmt.Sprintf(format, args...)}
	}
	if it := w.queue.Item(j.Name); it != nil && j.Folder == queue.Waiting {
		if _, known := w.rows[j.Name]; it.Status != queue.Ready && !known {
			return refused("%s is no note that can run: %s", j.Name, cmp.Or(j.Reason, "it is still being written"))
		}
		if j.State == stateWaiting || it.Status != queue.Ready {
			return refused("%s does not need a retry: %s", j.Name, cmp.Or(j.Reason, "it waits for its turn"))
		}
		w.forced[j.Name] = true
		delete(w.waits, j.Name)
		j.State, j.Reason = stateWaiting, "it runs as a job of its own when it has its turn"
		return j, nil
	}
	if _, ok := w.strays[j.Name]; ok && j.Folder == queue.Active {
		file, err := w.queue.Put(queue.Active, j.Name, queue.Waiting, job.NewRun())
		if err != nil {
			return j, fmt.Errorf("retry %s: %w", j.Name, err)
		}
		delete(w.strays, j.Name)
		w.forced[file], w.changed[file] = true, struct{}{}
		w.queue.Refresh([]string{file}, time.Now())
		w.o.Log.Info("moved", "note", file, "from", queue.Active, "to", queue.Waiting, "reason", "retried by its owner")
		j.Name, j.Folder, j.State, j.Reason = file, queue.Waiting, stateWaiting, "retried by its owner"
		return j, nil
	}
	row, err := w.o.Ledger.Get(ctx, j.ID)
	if err != nil {
		return refused("%s has moved on meanwhile; look again", j.Name)
	}
	switch {
	case row.State == job.Completed:
		return refused("job %s is completed: its answer is in %s; put a new note into %s to ask again", row.ID, row.Output, queue.Waiting)
	case row.Unclaimed:
		return refused("%s was refused: %s; mend the note in %s and move it back to %s", row.File, row.Reason, queue.Failed, queue.Waiting)
	case row.State != job.Failed && row.State != job.Cancelled && row.State != job.Held:
		return refused("job %s is %s; only what failed, was cancelled or is held can be run again", row.ID, row.State)
	}
	return w.requeue(ctx, row)
}

// requeue moves an ended or held job's note back to the queue. The move comes
// first: a note that lies there with its run's id is a retry whatever the ledger
// says, so a crash in between loses nothing.
func (w *Worker) requeue(ctx context.Context, row ledger.Row) (control.Job, error) {
	at, err := w.locate(ctx, row)
	if err != nil {
		return fromRow(row), err
	}
	if at.folder == "" {
		return fromRow(row), &control.Error{Code: control.NotFound, Text: fmt.Sprintf("the note of job %s is no longer in the vault's folders: %s", row.ID, fs.ErrNotExist)}
	}
	file := at.file
	if at.folder != queue.Waiting {
		if file, err = w.queue.Put(at.folder, at.file, queue.Waiting, row.Run); err != nil {
			return fromRow(row), fmt.Errorf("retry %s: %w", row.ID, err)
		}
	}
	if err := w.o.Ledger.Retry(ctx, row.Ref(), row.State, file); err != nil {
		return fromRow(row), err
	}
	delete(w.repairs, row.ID)
	from := at.folder
	if row, err = w.o.Ledger.Get(ctx, row.ID); err != nil {
		return fromRow(row), err
	}
	w.waitsAs(row)
	w.transition(row, from, queue.Waiting, "retried by its owner")
	return w.fromRow(row), nil
}

// Status is the heartbeat.
func (w *Worker) Status(ctx context.Context) (control.Status, error) {
	s := control.Status{Host: w.o.Hostname, PID: os.Getpid(), Version: w.o.Version, Started: w.started, Lines: w.o.Arbiter.Lines()}
	err := w.request(ctx, func(context.Context) {
		s.Vault = w.owner.VaultID
		for _, h := range w.hosts {
			s.Hosts = append(s.Hosts, control.HostState{Provider: h.Name, State: string(h.state), Since: h.since, Reason: h.reason})
		}
	})
	slices.SortFunc(s.Hosts, func(a, b control.HostState) int { return cmp.Compare(a.Provider, b.Provider) })
	w.mu.Lock()
	defer w.mu.Unlock()
	s.LastPoll, s.Reason = w.polled, w.paused
	s.Claiming = w.paused == ""
	return s, err
}
