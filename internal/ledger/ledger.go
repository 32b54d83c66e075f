// Package ledger remembers, outside the vault, what was claimed, asked, answered
// and how it ended: attempts, intents before each provider call, answers after
// it.
//
// It promises that every change of a job is compared with the job's run, attempt
// and state and refused with ErrStale when they moved on meanwhile; that a
// change is on disk when the call returns; and that a note which may be the echo
// of a known job is told from a new one in the same transaction that claims it.
// It knows no files of the vault: the order between the two is the worker's.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/sqlite"
)

// Ledger is safe for concurrent use.
type Ledger struct {
	db *sqlite.DB
}

// Open opens or makes the ledger at path.
func Open(ctx context.Context, path string) (*Ledger, error) {
	db, err := sqlite.Open(ctx, path, Migrations())
	if err != nil {
		return nil, err
	}
	return New(db), nil
}

// OpenReadOnly opens an existing ledger for reading, beside a worker or without.
func OpenReadOnly(ctx context.Context, path string) (*Ledger, error) {
	db, err := sqlite.OpenReadOnly(ctx, path, len(Migrations()))
	if err != nil {
		return nil, err
	}
	return New(db), nil
}

// New is a ledger over a database that has its schema already.
func New(db *sqlite.DB) *Ledger { return &Ledger{db: db} }

// Close closes the database.
func (l *Ledger) Close() error { return l.db.Close() }

// Backup copies the ledger into a new file while it is in use.
func (l *Ledger) Backup(ctx context.Context, target string) error { return l.db.Backup(ctx, target) }

// Ref names a job at one moment of its life; a change is refused once the job
// has another run, attempt or state.
type Ref struct {
	ID      string
	Run     string
	Attempt int
}

// Row is a job as the ledger keeps it. Times are zero where nothing happened.
type Row struct {
	ID, NoteID, Name, File, Hash string
	State                        job.State
	Reason, Advice               string
	Type                         job.Type
	Provider, Model, Title       string
	Priority                     int
	RetryNever                   bool
	Run                          string
	Attempt, Steps               int
	NextProvider                 string
	Output, Partial              string
	Trace                        string
	// Sources is JSON that the worker makes: the notes given as context.
	Sources string
	// Unaccounted tells, one a line, of the calls of a job that did not complete which may
	// have been billed and are not in Partial.
	Unaccounted             string
	FirstSeen               time.Time
	Claimed, Started, Ended time.Time
	Settled, Unclaimed      bool
}

// Ref names the row as it is.
func (r Row) Ref() Ref { return Ref{ID: r.ID, Run: r.Run, Attempt: r.Attempt} }

// ErrStale is the error of a change that came too late: the job was cancelled,
// begun anew or finished by somebody else meanwhile.
var ErrStale = errors.New("the job has moved on meanwhile")

// ErrUnknown is the error of an id that no job has.
var ErrUnknown = errors.New("no such job")

const columns = `id, note_id, name, file, hash, state, reason, advice, job_type, provider, model, title,
	priority, retry_never, run, attempt, steps, next_provider, output, partial, trace, sources, unaccounted,
	first_seen, claimed, started, ended, settled, unclaimed`

type scanner interface{ Scan(...any) error }

func scan(s scanner, further ...any) (Row, error) {
	var r Row
	var firstSeen, claimed, started, ended int64
	err := s.Scan(append([]any{&r.ID, &r.NoteID, &r.Name, &r.File, &r.Hash, &r.State, &r.Reason, &r.Advice, &r.Type, &r.Provider, &r.Model, &r.Title,
		&r.Priority, &r.RetryNever, &r.Run, &r.Attempt, &r.Steps, &r.NextProvider, &r.Output, &r.Partial, &r.Trace, &r.Sources, &r.Unaccounted,
		&firstSeen, &claimed, &started, &ended, &r.Settled, &r.Unclaimed}, further...)...)
	r.FirstSeen, r.Claimed, r.Started, r.Ended = moment(firstSeen), moment(claimed), moment(started), moment(ended)
	return r, err
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// inTx runs f in a transaction of the one writer and commits it. The error of a
// commit is returned: whether it happened is then unknown.
func (l *Ledger) inTx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := l.db.Write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// exec makes one statement a transaction and wants it to change exactly one row.
func (l *Ledger) exec(ctx context.Context, query string, args ...any) error {
	result, err := l.db.Write.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return one(result)
}

func one(result sql.Result) error {
	n, err := result.RowsAffected()
	if err != nil {
		return err
	}
	if n != 1 {
		return ErrStale
	}
	return nil
}

// move applies one event of the state table to a job that is in state from, and
// sets further columns with it.
func (l *Ledger) move(ctx context.Context, ref Ref, from job.State, event job.Event, set string, args ...any) error {
	return move(ctx, l.db.Write, ref, from, event, set, args...)
}

func move(ctx context.Context, in execer, ref Ref, from job.State, event job.Event, set string, args ...any) error {
	to, err := job.Next(from, event)
	if err != nil {
		return fmt.Errorf("%s job %s: %w", event, ref.ID, err)
	}
	query := "UPDATE jobs SET state = ?"
	if set != "" {
		query += ", " + set
	}
	query += " WHERE id = ? AND run = ? AND attempt = ? AND state = ?"
	all := append([]any{to}, args...)
	result, err := in.ExecContext(ctx, query, append(all, ref.ID, ref.Run, ref.Attempt, from)...)
	if err == nil {
		err = one(result)
	}
	if err != nil {
		return fmt.Errorf("%s job %s (run %s, attempt %d): %w", event, ref.ID, ref.Run, ref.Attempt, err)
	}
	return nil
}

// Begin starts the next attempt of a claimed job, whose note is now called file,
// and names the output note that the run would write. The attempt is counted
// before any work, so that a job which kills its process is counted too.
func (l *Ledger) Begin(ctx context.Context, ref Ref, file, output string, now time.Time) (Ref, error) {
	err := l.move(ctx, ref, job.Claiming, job.Begin, "attempt = attempt + 1, started = ?, file = ?, file_key = ?, output = ?, reason = '', next_provider = ''",
		millis(now), file, fold(file), output)
	if err != nil {
		return ref, err
	}
	ref.Attempt++
	return ref, nil
}

// Describe notes the trace of a running attempt, and the notes that were given to
// it as context, as JSON.
func (l *Ledger) Describe(ctx context.Context, ref Ref, trace, sources string) error {
	if err := l.exec(ctx, "UPDATE jobs SET trace = ?, sources = ? WHERE id = ? AND run = ? AND attempt = ? AND state = ?",
		trace, sources, ref.ID, ref.Run, ref.Attempt, job.Active); err != nil {
		return fmt.Errorf("describe job %s: %w", ref.ID, err)
	}
	return nil
}

// PutBack says that a job waits in the queue again, as file. uncounted takes
// back the attempt that Begin counted: nothing was wrong with the job.
func (l *Ledger) PutBack(ctx context.Context, ref Ref, from job.State, file, reason, nextProvider string, uncounted bool) error {
	attempt := ref.Attempt
	if uncounted && attempt > 0 && from == job.Active {
		attempt--
	}
	return l.move(ctx, ref, from, job.PutBack, "file = ?, file_key = ?, reason = ?, next_provider = ?, attempt = ?",
		file, fold(file), reason, nextProvider, attempt)
}

// finish is move for the end of a job at now. The ping that tells of it, nil for
// none, is queued with it or not at all.
func (l *Ledger) finish(ctx context.Context, ref Ref, from job.State, event job.Event, ping *Ping, now time.Time, set string, args ...any) error {
	if ping == nil {
		return l.move(ctx, ref, from, event, set, args...)
	}
	err := l.inTx(ctx, func(tx *sql.Tx) error {
		if err := move(ctx, tx, ref, from, event, set, args...); err != nil {
			return err
		}
		return enqueue(ctx, tx, ping.withEnd(ref.ID, ref.Run), now)
	})
	if err != nil {
		return fmt.Errorf("end job %s with its ping: %w", ref.ID, err)
	}
	return nil
}

// Complete says that the output note is durable under its name. ping, nil for
// none, tells of it.
func (l *Ledger) Complete(ctx context.Context, ref Ref, from job.State, output, reason string, now time.Time, ping *Ping) error {
	return l.finish(ctx, ref, from, job.Complete, ping, now, "output = ?, reason = ?, ended = ?", output, reason, millis(now))
}

// End is the outcome of a job that did not complete.
type End struct {
	Reason, Advice string
	// Partial is the note with what had come, "" for none.
	Partial string
	// Unaccounted is as the row's.
	Unaccounted string
	// Ping tells of it and is queued in the same transaction; nil for none. Its Job
	// and Key may be empty: they are then made of the job's id, run and the kind.
	Ping *Ping
}

// Fail ends a job with a reason.
func (l *Ledger) Fail(ctx context.Context, ref Ref, from job.State, end End, now time.Time) error {
	return l.end(ctx, ref, from, job.Fail, end, now)
}

// Cancel ends a job because the owner said so.
func (l *Ledger) Cancel(ctx context.Context, ref Ref, from job.State, end End, now time.Time) error {
	return l.end(ctx, ref, from, job.Cancel, end, now)
}

func (l *Ledger) end(ctx context.Context, ref Ref, from job.State, event job.Event, end End, now time.Time) error {
	return l.finish(ctx, ref, from, event, end.Ping, now, "reason = ?, advice = ?, partial = ?, unaccounted = ?, output = '', ended = ?",
		end.Reason, end.Advice, end.Partial, end.Unaccounted, millis(now))
}

// Hold leaves a job to the owner.
func (l *Ledger) Hold(ctx context.Context, ref Ref, from job.State, file, reason string) error {
	return l.move(ctx, ref, from, job.Hold, "reason = ?, file = ?, file_key = ?", reason, file, fold(file))
}

// Retry makes a held, failed or cancelled job wait for a new run, its note being
// in the queue as file.
func (l *Ledger) Retry(ctx context.Context, ref Ref, from job.State, file string) error {
	return l.move(ctx, ref, from, job.Retry, "run = ?, attempt = 0, reason = '', advice = '', unaccounted = '', ended = 0, settled = 0, output = '', file = ?, file_key = ?",
		job.NewRun(), file, fold(file))
}

// Settle says that the note of an ended job lies in its last folder, as file,
// and says how it ended.
func (l *Ledger) Settle(ctx context.Context, ref Ref, file string) error {
	if err := l.exec(ctx, "UPDATE jobs SET settled = 1, file = ?, file_key = ? WHERE id = ? AND run = ? AND attempt = ? AND state IN (?, ?, ?)",
		file, fold(file), ref.ID, ref.Run, ref.Attempt, job.Completed, job.Failed, job.Cancelled); err != nil {
		return fmt.Errorf("settle job %s: %w", ref.ID, err)
	}
	return nil
}

// SettleGone says that the note of an ended job is nowhere, so that nothing is left
// to do. reason takes the place of the job's.
func (l *Ledger) SettleGone(ctx context.Context, ref Ref, reason string) error {
	if err := l.exec(ctx, "UPDATE jobs SET settled = 1, reason = ? WHERE id = ? AND run = ? AND attempt = ? AND state IN (?, ?, ?)",
		reason, ref.ID, ref.Run, ref.Attempt, job.Completed, job.Failed, job.Cancelled); err != nil {
		return fmt.Errorf("settle job %s, whose note is gone: %w", ref.ID, err)
	}
	return nil
}

// Rename notes that the note of a job that waits or is held is now called file.
func (l *Ledger) Rename(ctx context.Context, ref Ref, file string) error {
	if err := l.exec(ctx, "UPDATE jobs SET file = ?, file_key = ? WHERE id = ? AND run = ? AND attempt = ? AND state IN (?, ?)",
		file, fold(file), ref.ID, ref.Run, ref.Attempt, job.Waiting, job.Held); err != nil {
		return fmt.Errorf("rename the note of job %s: %w", ref.ID, err)
	}
	return nil
}

// fold is a file name without regard to case, as macOS and Windows peers see it.
func fold(name string) string { return strings.ToLower(name) }

// Meta returns a value of the ledger itself, "" where it is not set.
func (l *Ledger) Meta(ctx context.Context, key string) (string, error) {
	var value string
	err := l.db.Read.QueryRowContext(ctx, "SELECT value FROM meta WHERE key = ?", key).Scan(&value)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read %s from the ledger: %w", key, err)
	}
	return value, nil
}

// SetMeta sets a value of the ledger itself; "" removes it.
func (l *Ledger) SetMeta(ctx context.Context, key, value string) error {
	query, args := "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", []any{key, value}
	if value == "" {
		query, args = "DELETE FROM meta WHERE key = ?", []any{key}
	}
	if _, err := l.db.Write.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("write %s to the ledger: %w", key, err)
	}
	return nil
}
