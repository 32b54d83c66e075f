package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"davidcockson.com/runner/internal/job"
)

// Candidate is a finished note in the queue that has its turn.
type Candidate struct {
	// Name is the file's name, NoteID and Run the frontmatter's id and run keys.
	Name, NoteID, Run string
	// Hash and Body are of the note without what we write into it.
	Hash, Body string
	FirstSeen  time.Time
	Spec       job.Spec
	// Recent says that this process claimed the same content not long ago, by its
	// own clock: the wall clock may have been set since.
	Recent bool
	// Force runs it whatever the ledger knows: the owner said so.
	Force bool
	// Gone says whether the queue has no file of this name; Running whether an
	// attempt of this job runs in this process.
	Gone    func(name string) bool
	Running func(id string) bool
}

// Echo is how long before its first sight a job may have been claimed for a note
// of the same content and another name to be that job's echo: a rename that
// crossed the claim.
const Echo = 12 * time.Hour

// mostMatches bounds how many earlier jobs of one id or name are looked at.
const mostMatches = 50

// Decide tells what Claim would make of a note, without claiming it.
func (l *Ledger) Decide(ctx context.Context, c Candidate) (Decision, error) {
	d, err := judge(ctx, l.db.Read, c)
	if err != nil {
		return Decision{}, fmt.Errorf("match %s: %w", c.Name, err)
	}
	return d, nil
}

// Claim decides about a note and, where it may run, writes its row as claiming
// in the same transaction. Decision.Row is the claimed row then, with its run.
func (l *Ledger) Claim(ctx context.Context, c Candidate, now time.Time) (Decision, error) {
	var d Decision
	err := l.inTx(ctx, func(tx *sql.Tx) error {
		var err error
		if d, err = judge(ctx, tx, c); err != nil {
			return err
		}
		switch d.Verdict {
		case RunNew:
			d.Row, err = insert(ctx, tx, c, job.Claiming, now)
		case RunSame:
			err = reclaim(ctx, tx, c, &d.Row, job.PutBack, now)
		case RunAgain:
			err = reclaim(ctx, tx, c, &d.Row, job.Retry, now)
		}
		return err
	})
	if err != nil {
		return Decision{}, fmt.Errorf("claim %s: %w", c.Name, err)
	}
	return d, nil
}

// Discard writes a row for a note that the owner cancelled before its claim, so
// that its echo is known. The row is not settled: its note has yet to move.
func (l *Ledger) Discard(ctx context.Context, c Candidate, reason string, now time.Time) (Row, error) {
	return l.ended(ctx, c, job.Cancel, End{Reason: reason}, false, now)
}

// Expire writes a row for a note that waited too long and failed unclaimed.
func (l *Ledger) Expire(ctx context.Context, c Candidate, end End, now time.Time) (Row, error) {
	return l.ended(ctx, c, job.Fail, end, false, now)
}

// Refuse writes a row for a note that can be no job and was never claimed, ended
// by Fail or Cancel; sum is the SHA-256 of the file in hexadecimal. Nothing is matched against the row, so that
// the mended note is a new job.
func (l *Ledger) Refuse(ctx context.Context, name, sum string, event job.Event, end End, firstSeen, now time.Time) (Row, error) {
	return l.ended(ctx, Candidate{Name: name, Hash: sum, FirstSeen: firstSeen}, event, end, true, now)
}

func (l *Ledger) ended(ctx context.Context, c Candidate, event job.Event, end End, unclaimed bool, now time.Time) (Row, error) {
	var r Row
	err := l.inTx(ctx, func(tx *sql.Tx) error {
		state, err := job.Next("", event)
		if err != nil {
			return err
		}
		if r, err = insert(ctx, tx, c, state, now); err != nil {
			return err
		}
		r.Reason, r.Advice, r.Ended, r.Unclaimed = end.Reason, end.Advice, now, unclaimed
		_, err = tx.ExecContext(ctx, "UPDATE jobs SET reason = ?, advice = ?, ended = ?, unclaimed = ? WHERE id = ?", r.Reason, r.Advice, millis(now), unclaimed, r.ID)
		if err != nil || end.Ping == nil {
			return err
		}
		return enqueue(ctx, tx, end.Ping.withEnd(r.ID, r.Run), now)
	})
	if err != nil {
		return Row{}, fmt.Errorf("record the end of %s: %w", c.Name, err)
	}
	return r, nil
}

func insert(ctx context.Context, tx *sql.Tx, c Candidate, state job.State, now time.Time) (Row, error) {
	r := Row{
		ID: c.NoteID, NoteID: c.NoteID, Name: c.Name, File: c.Name, Hash: c.Hash, State: state,
		Type: c.Spec.Type, Provider: c.Spec.Provider, Model: c.Spec.Model, Title: c.Spec.Title, Priority: c.Spec.Priority, RetryNever: c.Spec.RetryNever,
		Run: job.NewRun(), Steps: len(c.Spec.Steps), FirstSeen: c.FirstSeen, Claimed: now,
	}
	if r.ID == "" {
		r.ID = job.NewID(now)
	}
	var taken int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM jobs WHERE id = ?", r.ID).Scan(&taken); err != nil {
		return Row{}, err
	}
	if taken > 0 { // a note that runs again under the id of another job
		r.ID += "-" + r.Run
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO jobs (id, note_id, name, name_key, file, file_key, hash, state, job_type, provider, model, title,
		priority, retry_never, run, attempt, steps, first_seen, claimed) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,0,?,?,?)`,
		r.ID, r.NoteID, r.Name, fold(r.Name), r.File, fold(r.File), r.Hash, r.State, r.Type, r.Provider, r.Model, r.Title,
		r.Priority, r.RetryNever, r.Run, r.Steps, millis(r.FirstSeen), millis(r.Claimed)); err != nil {
		return Row{}, err
	}
	return r, saveBody(ctx, tx, r.ID, c)
}

func saveBody(ctx context.Context, tx *sql.Tx, id string, c Candidate) error {
	if c.Body == "" {
		return nil
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO bodies (job, body) VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET body = excluded.body", id, c.Body)
	return err
}

// reclaim takes a known job again. One that is not waiting comes to be so by
// first in the same step: by PutBack for its next attempt, by Retry for a new run.
func reclaim(ctx context.Context, tx *sql.Tx, c Candidate, r *Row, first job.Event, now time.Time) error {
	was, from := r.Ref(), r.State
	var err error
	if r.State != job.Waiting {
		if r.State, err = job.Next(r.State, first); err != nil {
			return err
		}
	}
	if r.State, err = job.Next(r.State, job.Claim); err != nil {
		return err
	}
	if first == job.Retry {
		r.Run, r.Attempt = job.NewRun(), 0
	}
	r.File, r.Hash, r.Claimed = c.Name, c.Hash, now
	r.Type, r.Provider, r.Model, r.Title, r.Priority, r.RetryNever, r.Steps =
		c.Spec.Type, c.Spec.Provider, c.Spec.Model, c.Spec.Title, c.Spec.Priority, c.Spec.RetryNever, len(c.Spec.Steps)
	r.Reason, r.Advice, r.Unaccounted, r.Ended, r.Settled, r.Output, r.Partial = "", "", "", time.Time{}, false, "", ""
	result, err := tx.ExecContext(ctx, `UPDATE jobs SET state = ?, run = ?, attempt = ?, file = ?, file_key = ?, hash = ?, claimed = ?, job_type = ?, provider = ?,
		model = ?, title = ?, priority = ?, retry_never = ?, steps = ?, reason = '', advice = '', unaccounted = '', ended = 0, settled = 0, output = '', partial = ''
		WHERE id = ? AND run = ? AND attempt = ? AND state = ?`,
		r.State, r.Run, r.Attempt, r.File, fold(r.File), r.Hash, millis(now), r.Type, r.Provider,
		r.Model, r.Title, r.Priority, r.RetryNever, r.Steps, was.ID, was.Run, was.Attempt, from)
	if err != nil {
		return err
	}
	if err := one(result); err != nil {
		return err
	}
	return saveBody(ctx, tx, r.ID, c)
}

type querier interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

// judge matches a note and decides about it. One that matches nothing, yet
// carries a run that the ledger does not know, is from before the state folder
// was lost, or from another worker: it is held.
func judge(ctx context.Context, q querier, c Candidate) (Decision, error) {
	rows, err := match(ctx, q, c)
	if err != nil {
		return Decision{}, err
	}
	d := decide(c, rows)
	if d.Verdict != RunNew || c.Run == "" || c.Force {
		return d, nil
	}
	var known bool
	err = q.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM jobs WHERE run = ?) OR EXISTS (SELECT 1 FROM calls WHERE run = ?)", c.Run, c.Run).Scan(&known)
	if err == nil && !known {
		d = Decision{Verdict: Held, Reason: "it was run before (run " + c.Run + "), and the ledger does not know it: it may have been billed already"}
	}
	return d, err
}

// match finds the jobs that a note may be: by its id alone where it has one,
// else by its name without regard to case, else by its content among recently
// claimed ones.
func match(ctx context.Context, q querier, c Candidate) ([]known, error) {
	const base = "SELECT " + columns + `, coalesce((SELECT body FROM bodies WHERE job = id), ''),
		EXISTS (SELECT 1 FROM calls WHERE calls.job = jobs.id AND calls.run = jobs.run AND calls.attempt = jobs.attempt AND calls.state = 'intent')
		FROM jobs WHERE unclaimed = 0 AND `
	const order = " ORDER BY claimed DESC, rowid DESC LIMIT ?"
	if c.NoteID != "" {
		return query(ctx, q, base+"note_id = ?"+order, c.NoteID, mostMatches)
	}
	rows, err := query(ctx, q, base+"(name_key = ? OR file_key = ?)"+order, fold(c.Name), fold(c.Name), mostMatches)
	if err != nil || len(rows) > 0 {
		return rows, err
	}
	return query(ctx, q, base+"hash = ? AND (claimed >= ? OR ?)"+order, c.Hash, millis(c.FirstSeen.Add(-Echo)), c.Recent, mostMatches)
}

func query(ctx context.Context, q querier, text string, args ...any) ([]known, error) {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []known
	for rows.Next() {
		var k known
		if k.Row, err = scan(rows, &k.body, &k.asked); err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, rows.Err()
}
