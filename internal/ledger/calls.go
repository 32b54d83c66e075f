package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/provider"
)

// Call is one provider call as it was intended and as it ended.
type Call struct {
	ID            int64
	Job, Run      string
	Attempt       int
	Step, Try     int // both count from 1
	Provider      string
	Model         string
	Hash          string
	State         CallState
	Billed        bool // the provider may have billed it
	Kind          provider.Kind
	Reason        string
	Estimate      int
	Read, Written int
	// Paid calls count for the caps, with these amounts: of an intent what it may
	// spend, then what it did.
	Paid           bool
	SpentTokens    int
	SpentUSD       float64
	Started, Ended time.Time
}

// CallState says how far a call came.
type CallState string

// The states of a call.
const (
	Intent   CallState = "intent" // it may have been made; nothing came back to us
	Answered CallState = "answered"
	CallLost CallState = "failed"
)

// Intend writes that a call is about to be made. Until its end is written it
// counts as one that may have been billed. A call that a cap forbids is a
// *CapError, and is not to be made.
func (l *Ledger) Intend(ctx context.Context, ref Ref, c Call, a Allowance) (int64, error) {
	var id int64
	err := l.inTx(ctx, func(tx *sql.Tx) error {
		if err := allow(ctx, tx, ref, c, a); err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, `INSERT INTO calls (job, run, attempt, step, try, provider, model, hash, state, estimate, paid, spent_tokens, spent_usd, started)
			SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM jobs WHERE id = ? AND run = ? AND attempt = ? AND state = ?)`,
			ref.ID, ref.Run, ref.Attempt, c.Step, c.Try, c.Provider, c.Model, c.Hash, Intent, c.Estimate, c.Paid, c.SpentTokens, c.SpentUSD, millis(c.Started),
			ref.ID, ref.Run, ref.Attempt, job.Active)
		if err != nil {
			return err
		}
		if err := one(result); err != nil {
			return err
		}
		id, err = result.LastInsertId()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("record the intent to ask %s for job %s: %w", c.Provider, ref.ID, err)
	}
	return id, nil
}

// Answer stores what a call brought. A result of an attempt that is no longer
// the job's is refused with ErrStale.
func (l *Ledger) Answer(ctx context.Context, ref Ref, call int64, a provider.Answer, price Price, now time.Time) error {
	err := l.inTx(ctx, func(tx *sql.Tx) error {
		if err := closeCall(ctx, tx, ref, call, Answered, true, "", "", a, price, now); err != nil {
			return err
		}
		return saveText(ctx, tx, call, a)
	})
	if err != nil {
		return fmt.Errorf("store the answer of %s for job %s: %w", a.Provider, ref.ID, err)
	}
	return nil
}

// CallFailed stores how a call failed, and what had come until then.
func (l *Ledger) CallFailed(ctx context.Context, ref Ref, call int64, a provider.Answer, failure *provider.Error, price Price, now time.Time) error {
	err := l.inTx(ctx, func(tx *sql.Tx) error {
		if err := closeCall(ctx, tx, ref, call, CallLost, failure.Sent, failure.Kind, failure.Reason, a, price, now); err != nil {
			return err
		}
		if a.Text == "" && a.Thinking == "" {
			return nil
		}
		return saveText(ctx, tx, call, a)
	})
	if err != nil {
		return fmt.Errorf("store the failure of %s for job %s: %w", failure.Provider, ref.ID, err)
	}
	return nil
}

// closeCall writes the end of a call, whose truth replaces what the intent counted
// for.
func closeCall(ctx context.Context, tx *sql.Tx, ref Ref, call int64, state CallState, billed bool, kind provider.Kind, reason string, a provider.Answer, price Price, now time.Time) error {
	spent := spentBy(billed, a, price)
	a.Text, a.Thinking = "", "" // of our copy; they are kept beside it
	detail, err := json.Marshal(a)
	if err != nil {
		return err
	}
	result, err := tx.ExecContext(ctx, `UPDATE calls SET state = ?, billed = ?, kind = ?, reason = ?, read = ?, written = ?, ended = ?, answer = ?, `+spent.set+`
		WHERE id = ? AND state = ? AND EXISTS (SELECT 1 FROM jobs WHERE id = ? AND run = ? AND attempt = ? AND state = ?)`,
		append(append([]any{state, billed, kind, reason, a.Usage.Read, a.Usage.Written, millis(now), string(detail)}, spent.args...), call, Intent, ref.ID, ref.Run, ref.Attempt, job.Active)...)
	if err != nil {
		return err
	}
	return one(result)
}

func saveText(ctx context.Context, tx *sql.Tx, call int64, a provider.Answer) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO answers (call, text, thinking) VALUES (?, ?, ?)", call, a.Text, a.Thinking)
	return err
}

// Calls lists the calls of a job, oldest first.
func (l *Ledger) Calls(ctx context.Context, id string) ([]Call, error) {
	rows, err := l.db.Read.QueryContext(ctx, `SELECT id, job, run, attempt, step, try, provider, model, hash, state, billed, kind, reason, estimate, read, written, paid, spent_tokens, spent_usd, started, ended
		FROM calls WHERE job = ? ORDER BY id`, id)
	if err != nil {
		return nil, fmt.Errorf("list the calls of job %s: %w", id, err)
	}
	defer rows.Close()
	var all []Call
	for rows.Next() {
		var c Call
		var started, ended int64
		if err := rows.Scan(&c.ID, &c.Job, &c.Run, &c.Attempt, &c.Step, &c.Try, &c.Provider, &c.Model, &c.Hash, &c.State, &c.Billed, &c.Kind, &c.Reason,
			&c.Estimate, &c.Read, &c.Written, &c.Paid, &c.SpentTokens, &c.SpentUSD, &started, &ended); err != nil {
			return nil, fmt.Errorf("list the calls of job %s: %w", id, err)
		}
		c.Started, c.Ended = moment(started), moment(ended)
		all = append(all, c)
	}
	return all, rows.Err()
}

// Stored returns the newest stored answer to each step of a job, from the first
// step up to the first that has none. run limits them to one run, "" takes all.
func (l *Ledger) Stored(ctx context.Context, id, run string) ([]job.StoredStep, error) {
	rows, err := l.db.Read.QueryContext(ctx, `SELECT step, hash, answer, text, thinking FROM calls JOIN answers ON answers.call = calls.id
		WHERE job = ? AND state = ? AND (? = '' OR run = ?) ORDER BY step, calls.id DESC`, id, Answered, run, run)
	if err != nil {
		return nil, fmt.Errorf("read the stored answers of job %s: %w", id, err)
	}
	defer rows.Close()
	var stored []job.StoredStep
	for rows.Next() {
		var step int
		var s job.StoredStep
		var detail, text, thinking string
		if err := rows.Scan(&step, &s.Hash, &detail, &text, &thinking); err != nil {
			return nil, fmt.Errorf("read the stored answers of job %s: %w", id, err)
		}
		if step <= len(stored) {
			continue // an older answer to a step that we have
		}
		if step > len(stored)+1 {
			break
		}
		if err := json.Unmarshal([]byte(detail), &s.Answer); err != nil {
			return nil, fmt.Errorf("read the stored answer to step %d of job %s: %w", step, id, err)
		}
		s.Answer.Text, s.Answer.Thinking = text, thinking
		stored = append(stored, s)
	}
	return stored, rows.Err()
}

// Forget removes the stored texts of jobs that ended before a time and are
// settled; their outputs are notes in the vault. It returns how many it removed.
func (l *Ledger) Forget(ctx context.Context, before time.Time) (int64, error) {
	result, err := l.db.Write.ExecContext(ctx, `DELETE FROM answers WHERE call IN
		(SELECT calls.id FROM jobs JOIN calls ON calls.job = jobs.id JOIN answers ON answers.call = calls.id
		WHERE jobs.settled = 1 AND jobs.ended > 0 AND jobs.ended < ? LIMIT 1000)`, millis(before))
	if err != nil {
		return 0, fmt.Errorf("remove old answers from the ledger: %w", err)
	}
	return result.RowsAffected()
}
