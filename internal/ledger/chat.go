package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"davidcockson.com/runner/internal/provider"
)

// ChatRef names the answer in a conversation for which a call is made. Turn and
// Version count from 1. The texts are kept with the conversation, not here.
type ChatRef struct {
	Conversation  string
	Turn, Version int
}

// IntendChat writes that a call for a conversation is about to be made, as Intend
// does for a job's. Of the caps those of the day count.
func (l *Ledger) IntendChat(ctx context.Context, ref ChatRef, c Call, a Allowance) (int64, error) {
	a.Caps.JobTokens, a.Caps.JobUSD = nil, nil
	var id int64
	err := l.inTx(ctx, func(tx *sql.Tx) error {
		if err := allow(ctx, tx, Ref{}, c, a); err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, `INSERT INTO chat_calls (conversation, turn, version, try, provider, model, hash, state, estimate, paid, spent_tokens, spent_usd, started)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			ref.Conversation, ref.Turn, ref.Version, c.Try, c.Provider, c.Model, c.Hash, Intent, c.Estimate, c.Paid, c.SpentTokens, c.SpentUSD, millis(c.Started))
		if err != nil {
			return err
		}
		id, err = result.LastInsertId()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("record the intent to ask %s for the conversation %s: %w", c.Provider, ref.Conversation, err)
	}
	return id, nil
}

// ChatAnswered writes that a conversation's call brought an answer. A call that has
// ended already is refused with ErrStale.
func (l *Ledger) ChatAnswered(ctx context.Context, call int64, a provider.Answer, price Price, now time.Time) error {
	return l.closeChat(ctx, call, Answered, true, "", "", a, price, now)
}

// ChatFailed writes how a conversation's call failed.
func (l *Ledger) ChatFailed(ctx context.Context, call int64, a provider.Answer, failure *provider.Error, price Price, now time.Time) error {
	return l.closeChat(ctx, call, CallLost, failure.Sent, failure.Kind, failure.Reason, a, price, now)
}

func (l *Ledger) closeChat(ctx context.Context, call int64, state CallState, billed bool, kind provider.Kind, reason string, a provider.Answer, price Price, now time.Time) error {
	spent := spentBy(billed, a, price)
	a.Text, a.Thinking = "", ""
	detail, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("write down the end of a conversation's call: %w", err)
	}
	err = l.inTx(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `UPDATE chat_calls SET state = ?, billed = ?, kind = ?, reason = ?, read = ?, written = ?, ended = ?, answer = ?, `+spent.set+`
			WHERE id = ? AND state = ?`, append(append([]any{state, billed, kind, reason, a.Usage.Read, a.Usage.Written, millis(now), string(detail)}, spent.args...), call, Intent)...)
		if err != nil {
			return err
		}
		return one(result)
	})
	if err != nil {
		return fmt.Errorf("write down how the call at %s for a conversation ended: %w", a.Provider, err)
	}
	return nil
}

// interrupted is the kind of a call whose process ended before it.
const interrupted provider.Kind = "interrupted"

// RecoverChat is for the start of the one process that asks for conversations: it
// ends the calls that a former one left open, which go on counting with their
// estimates, and returns how many there were.
func (l *Ledger) RecoverChat(ctx context.Context, now time.Time) (int64, error) {
	result, err := l.db.Write.ExecContext(ctx, "UPDATE chat_calls SET state = ?, kind = ?, reason = ?, ended = ? WHERE state = ?",
		CallLost, interrupted, "interrupted: runner ended before the call did", millis(now), Intent)
	if err != nil {
		return 0, fmt.Errorf("end the calls for conversations that a former process left: %w", err)
	}
	return result.RowsAffected()
}

// ChatCalls lists the calls of a conversation, oldest first; Step is the turn and
// Attempt the version.
func (l *Ledger) ChatCalls(ctx context.Context, conversation string) ([]Call, error) {
	rows, err := l.db.Read.QueryContext(ctx, `SELECT id, conversation, version, turn, try, provider, model, hash, state, billed, kind, reason, estimate, read, written, paid, spent_tokens, spent_usd, started, ended
		FROM chat_calls WHERE conversation = ? ORDER BY id`, conversation)
	if err != nil {
		return nil, fmt.Errorf("list the calls of the conversation %s: %w", conversation, err)
	}
	defer rows.Close()
	var all []Call
	for rows.Next() {
		var c Call
		var started, ended int64
		if err := rows.Scan(&c.ID, &c.Job, &c.Attempt, &c.Step, &c.Try, &c.Provider, &c.Model, &c.Hash, &c.State, &c.Billed, &c.Kind, &c.Reason,
			&c.Estimate, &c.Read, &c.Written, &c.Paid, &c.SpentTokens, &c.SpentUSD, &started, &ended); err != nil {
			return nil, fmt.Errorf("list the calls of the conversation %s: %w", conversation, err)
		}
		c.Started, c.Ended = moment(started), moment(ended)
		all = append(all, c)
	}
	return all, rows.Err()
}
