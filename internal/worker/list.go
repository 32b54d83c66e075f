package worker

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
)

// mostListed is how many ended jobs a list has where its caller does not say.
const mostListed = 100

// List tells of all notes that are not at their end, and of the jobs that ended
// last. Its cost does not grow with what is done.
func (w *Worker) List(ctx context.Context, f control.Filter) ([]control.Job, error) {
	var jobs []control.Job
	if err := w.request(ctx, func(context.Context) { jobs = w.unclaimedJobs() }); err != nil {
		return nil, err
	}
	known := make(map[string]bool)
	for _, j := range jobs {
		known[path.Join(j.Folder, j.Name)] = true
	}
	rows, err := listRows(ctx, w.o.Ledger, f)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		j := w.fromRow(r)
		if known[path.Join(j.Folder, j.Name)] {
			continue // the queue knows more of it
		}
		jobs = append(jobs, j)
	}
	return arrange(jobs, f), nil
}

// Listing is what List tells without a worker: from the ledger, and the names in
// the queue folder.
// Before the first start there is no ledger: nil.
func Listing(ctx context.Context, l *ledger.Ledger, v *vault.Vault, f control.Filter) ([]control.Job, error) {
	var rows []ledger.Row
	if l != nil {
		var err error
		if rows, err = listRows(ctx, l, f); err != nil {
			return nil, err
		}
	}
	var jobs []control.Job
	known := make(map[string]bool)
	for _, r := range rows {
		j, err := alone(ctx, l, r)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
		known[path.Join(j.Folder, j.Name)] = true
	}
	for _, folder := range []string{queue.Waiting, queue.Active} {
		entries, err := v.List(folder)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", folder, err)
		}
		for _, e := range entries {
			if known[path.Join(folder, e.Name)] || !queue.Candidate(e.Name) {
				continue
			}
			j := control.Job{ID: noteID(v, path.Join(folder, e.Name)), Name: e.Name, State: stateWaiting, Reason: "no worker runs", Folder: folder}
			if folder == queue.Active {
				j.State, j.Reason = stateHeld, "the ledger does not know it"
			}
			jobs = append(jobs, j)
		}
	}
	return arrange(jobs, f), nil
}

// alone is a job as it is told without a worker: what was running is not.
func alone(ctx context.Context, l *ledger.Ledger, r ledger.Row) (control.Job, error) {
	j := fromRow(r)
	if j.State != string(job.Active) {
		return j, nil
	}
	j.Reason = "was running when the worker ended; the next start finishes it or puts it back"
	calls, err := l.Calls(ctx, r.ID)
	for _, c := range calls {
		if c.Run == r.Run {
			j.Step = max(j.Step, c.Step)
		}
	}
	return j, err
}

// noteID is the id that a note has in its frontmatter, "" where it has none or
// cannot be read.
func noteID(v *vault.Vault, name string) string {
	data, _, err := v.Read(name, note.MaxSize)
	if err != nil {
		return ""
	}
	n, err := note.Parse(data)
	if err != nil {
		return ""
	}
	f, ok := n.Field("id")
	if !ok {
		return ""
	}
	return text(f)
}

func listRows(ctx context.Context, l *ledger.Ledger, f control.Filter) ([]ledger.Row, error) {
	rows, err := l.Unsettled(ctx)
	if err != nil {
		return nil, err
	}
	limit := f.Limit
	if limit <= 0 {
		limit = mostListed
	}
	var ended []job.State
	for _, s := range f.States {
		if job.State(s).Final() {
			ended = append(ended, job.State(s))
		}
	}
	if len(f.States) > 0 && len(ended) == 0 {
		return rows, nil
	}
	recent, err := l.Recent(ctx, limit, ended...)
	if err != nil {
		return nil, err
	}
	have := make(map[string]bool, len(rows))
	for _, r := range rows {
		have[r.ID] = true
	}
	for _, r := range recent {
		if !have[r.ID] {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// arrange filters and sorts a list: what runs, what needs a hand, what waits in
// the order of work, and what ended, the last first.
func arrange(jobs []control.Job, f control.Filter) []control.Job {
	if len(f.States) > 0 {
		jobs = slices.DeleteFunc(jobs, func(j control.Job) bool { return !slices.Contains(f.States, j.State) })
	}
	rank := func(j control.Job) int {
		switch j.State {
		case "active":
			return 0
		case stateHeld, stateDuplicate:
			return 1
		case stateWaiting:
			return 2
		}
		return 3
	}
	slices.SortStableFunc(jobs, func(a, b control.Job) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), b.Finished.Compare(a.Finished), cmp.Compare(b.Priority, a.Priority),
			a.FirstSeen.Compare(b.FirstSeen), cmp.Compare(a.Name, b.Name))
	})
	if f.Limit > 0 && len(jobs) > f.Limit {
		jobs = jobs[:f.Limit]
	}
	if jobs == nil {
		jobs = []control.Job{}
	}
	return jobs
}

// fromRow is a job as the ledger alone tells it.
func fromRow(r ledger.Row) control.Job {
	j := control.Job{
		ID: r.ID, Name: r.File, State: string(r.State), Reason: r.Reason, JobType: string(r.Type), Provider: r.Provider, Model: r.Model, Title: r.Title,
		Run: r.Run, Attempt: r.Attempt, Priority: r.Priority, FirstSeen: r.FirstSeen, Started: r.Started, Finished: r.Ended, Output: r.Output, Steps: r.Steps,
	}
	switch r.State {
	case job.Waiting:
		j.Folder = queue.Waiting
	case job.Completed:
		j.Folder = queue.Completed
	case job.Failed, job.Cancelled:
		j.Folder, j.Output = queue.Failed, r.Partial
	default:
		j.Folder = queue.Active
	}
	if r.State == job.Claiming {
		j.State = string(job.Active)
	}
	if !r.State.Final() {
		j.Output = "" // named, not written
	}
	return j
}

// fromRow adds what is known of a running job.
func (w *Worker) fromRow(r ledger.Row) control.Job {
	j := fromRow(r)
	j.Trace = w.o.Tracer.Link(r.Trace)
	w.mu.Lock()
	defer w.mu.Unlock()
	if running := w.running[r.ID]; running != nil && j.State == string(job.Active) {
		j.Step = running.step
		j.Reason = ""
	} else if r.State == job.Active {
		j.Reason = "no attempt runs; it is being looked at"
	}
	return j
}

// unclaimedJobs lists what lies in the queue folder, and the strays. For the
// poller.
func (w *Worker) unclaimedJobs() []control.Job {
	var jobs []control.Job
	for name, it := range w.queue.Items() {
		if it.Status == queue.Gone || it.Status == queue.Taken {
			continue
		}
		j := control.Job{ID: it.Spec.ID, Name: name, State: stateWaiting, Reason: it.Reason, JobType: string(it.Spec.Type), Provider: it.Spec.Provider,
			Model: it.Spec.Model, Title: it.Spec.Title, Priority: it.Spec.Priority, Folder: queue.Waiting, FirstSeen: it.FirstSeen, NotBefore: it.Spec.NotBefore,
			Steps: len(it.Spec.Steps)}
		if row, ok := w.rows[name]; ok {
			j.ID, j.Run, j.Attempt, j.Reason = row.ID, row.Run, row.Attempt, row.Reason
		}
		switch it.Status {
		case queue.Settling:
			j.Reason = cmp.Or(it.Reason, "waits until it has lain unchanged for "+w.o.Guard.String())
		case queue.Wrong:
			j.Reason = fmt.Sprintf("%s; it fails unless it is mended by %s", it.Reason, it.Due.In(w.o.Location).Format("15:04:05 MST"))
		case queue.Ignored:
			j.State = stateHeld
		case queue.Ready:
			if known, ok := w.waits[name]; ok && known.sum == it.Sum {
				j.State, j.Reason = known.state, cmp.Or(known.reason, j.Reason)
			}
			if j.State == stateWaiting {
				j.Reason = cmp.Or(w.pausedReason(), j.Reason, "waits for its turn at "+it.Spec.Provider)
			}
		}
		jobs = append(jobs, j)
	}
	for name, s := range w.strays {
		jobs = append(jobs, control.Job{Name: name, State: stateHeld, Reason: s.reason, Folder: queue.Active, FirstSeen: s.since})
	}
	return jobs
}

func (w *Worker) pausedReason() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.paused
}
