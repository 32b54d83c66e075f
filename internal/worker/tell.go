package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/notify"
	"davidcockson.com/runner/internal/prepare"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/trace"
	"davidcockson.com/runner/internal/vault"
)

// trace begins the trace of an attempt.
func (w *Worker) trace(ctx context.Context, row ledger.Row, spec job.Spec) (context.Context, *trace.Span) {
	title := spec.Title
	if title == "" {
		title = row.Name
	}
	return w.o.Tracer.Start(ctx, trace.Root{Name: title, Type: string(row.Type), ID: row.ID, Attempt: row.Attempt, Session: row.ID,
		Kind: trace.Chain, Tags: spec.Tags, Metadata: map[string]string{"note": row.Name, "run": row.Run}, Input: spec.Steps[0].Prompt})
}

// lastText is the answer that a job's trace shows.
func lastText(result job.Result) string {
	if len(result.Steps) == 0 {
		return ""
	}
	return result.Steps[len(result.Steps)-1].Answer.Text
}

// prepare makes a job whole: what its links name is put in, and written down.
func (w *Worker) prepare(ctx context.Context, row *ledger.Row, spec job.Spec) (job.Spec, error) {
	spec, sources, err := prepare.Inline(ctx, spec, w.o.Vault, w.index)
	if err != nil {
		return spec, err
	}
	row.Sources = ""
	if len(sources) > 0 {
		data, err := json.Marshal(sources)
		if err != nil {
			return spec, fmt.Errorf("write down the sources: %w", err)
		}
		row.Sources = string(data)
	}
	if row.Sources == "" && row.Trace == "" {
		return spec, nil
	}
	if err := w.o.Ledger.Describe(context.WithoutCancel(ctx), row.Ref(), row.Trace, row.Sources); err != nil {
		return spec, &recordError{err, true}
	}
	return spec, nil
}

// report gathers what an output note is made of.
func (w *Worker) report(row ledger.Row, spec job.Spec, result job.Result, calls []ledger.Call, finish, reason string) report {
	state := job.Completed
	if finish == finishPartial {
		state = job.Failed
	}
	r := report{note: w.destination(row, state), row: row, spec: spec, result: result, calls: calls, finish: finish, reason: reason, location: w.o.Location, trace: w.o.Tracer.Link(row.Trace)}
	if row.Sources != "" {
		if err := json.Unmarshal([]byte(row.Sources), &r.sources); err != nil {
			w.o.Log.Error("read the sources of a job", "job", row.ID, "error", err)
		}
	}
	return r
}

// destination is where a job's note will lie once it has come to a state: under
// another name if its own is taken there.
func (w *Worker) destination(row ledger.Row, state job.State) string {
	name := path.Join(lastFolder(state), row.File)
	if _, err := w.o.Vault.Lstat(name); err == nil {
		return vault.WithSuffix(name, row.Run)
	}
	return name
}

// ping is the message that tells of the end of a job whose output holds the given
// steps, nil if nobody is told.
func (w *Worker) ping(ctx context.Context, row ledger.Row, held []job.StepResult) *ledger.Ping {
	if w.o.Outbox == nil {
		return nil
	}
	m := notify.Message{Title: row.Title, JobID: row.ID, Note: w.destination(row, row.State), State: string(row.State), Reason: row.Reason, Advice: row.Advice,
		JobType: string(row.Type), Provider: row.Provider, Model: row.Model, Attempt: row.Attempt, Steps: row.Steps, Output: row.Output,
		TraceURL: w.o.Tracer.Link(row.Trace), At: row.Ended}
	if m.Output == "" {
		m.Output = row.Partial
	}
	open := m.Output
	if open == "" {
		open = m.Note
	}
	m.NoteLink = notify.ObsidianLink(w.o.VaultName, open)
	if !row.Started.IsZero() {
		m.Took, m.Queued = row.Ended.Sub(row.Started), row.Started.Sub(row.FirstSeen)
	}
	if row.ID != "" {
		calls, err := w.o.Ledger.Calls(ctx, row.ID)
		if err != nil {
			w.o.Log.Error("sum up a job for its ping", "job", row.ID, "error", err)
		}
		for _, c := range calls {
			if c.Run == row.Run {
				m.TokensRead, m.TokensWritten = m.TokensRead+c.Read, m.TokensWritten+c.Written
			}
		}
		m.Unaccounted = len(unaccounted(calls, held))
	}
	return w.payload(m, ledger.PingKind(row.State), "")
}

// payload makes a ping of a message.
func (w *Worker) payload(m notify.Message, kind ledger.PingKind, key string) *ledger.Ping {
	body, err := notify.Payload(m)
	if err != nil {
		w.o.Log.Error("write a ping", "job", m.JobID, "note", m.Note, "error", err)
		return nil
	}
	return &ledger.Ping{Job: m.JobID, Kind: kind, Key: key, Body: body}
}

// tell pings once about a note in the queue that needs its owner.
func (w *Worker) tell(ctx context.Context, name, title, reason string, kind ledger.PingKind, sum [32]byte) {
	if w.o.Outbox == nil {
		return
	}
	key := fmt.Sprintf("%s/%s/%x", kind, name, sum[:8])
	if w.told[key] {
		return
	}
	file := path.Join(queue.Waiting, name)
	p := w.payload(notify.Message{Title: title, Note: file, State: string(kind), Reason: reason, NoteLink: notify.ObsidianLink(w.o.VaultName, file), At: time.Now()}, kind, key)
	if p == nil {
		return
	}
	if err := w.o.Ledger.Enqueue(ctx, *p, time.Now()); err != nil {
		w.o.Log.Error("queue a ping", "note", name, "error", err)
		return
	}
	w.told[key] = true
	w.o.Outbox.Wake()
}

// unfinishedAfter is how long a note may be unfinished before its owner is told.
const unfinishedAfter = time.Hour

// tellOfNotes pings about notes that wait for their owner: unfinished for an hour,
// or a conflict copy.
func (w *Worker) tellOfNotes(ctx context.Context, now time.Time) {
	if w.o.Outbox == nil {
		return
	}
	for name, it := range w.queue.Items() {
		switch {
		case it.Status == queue.Unfinished && now.Sub(it.Since) >= unfinishedAfter:
			w.tell(ctx, name, it.Spec.Title, it.Reason, ledger.PingUnfinished, it.Sum)
		case it.Status == queue.Ignored && queue.Conflict(name):
			w.tell(ctx, name, "", it.Reason, ledger.PingConflict, it.Sum)
		}
	}
}
