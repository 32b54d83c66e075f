package history

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// versionQuery finds the newest version of a turn's answers, of those that have
// ended (-1 where there is no such turn) and of those that run.
const versionQuery = `SELECT coalesce((SELECT max(version) FROM messages WHERE conversation = ? AND turn = ? AND turn > 0), -1),
	coalesce((SELECT max(version) FROM running WHERE conversation = ? AND turn = ?), 0)`

// Start notes that an answer to a turn begins, before anything is asked, and
// returns it with its id and version. Of r the conversation, turn, provider, model,
// call, trace and time are used.
func (h *History) Start(ctx context.Context, r Running) (Running, error) {
	err := h.inTx(ctx, func(tx *sql.Tx) error {
		k, err := find(ctx, tx, r.Conversation)
		if err != nil {
			return err
		}
		if k.deleted > 0 {
			return ErrDeleted
		}
		var ended, begun int
		if err := tx.QueryRowContext(ctx, versionQuery, r.Conversation, r.Turn, r.Conversation, r.Turn).Scan(&ended, &begun); err != nil {
			return err
		}
		if ended < 0 {
			return ErrUnknown
		}
		r.Version, r.Created = max(ended, begun)+1, moment(millis(r.Created))
		result, err := tx.ExecContext(ctx, `INSERT INTO running (conversation, turn, version, provider, model, call, trace, created, since)
			SELECT ?, ?, ?, ?, ?, ?, ?, ?, coalesce((SELECT max(id) FROM pieces), 0)`,
			r.Conversation, r.Turn, r.Version, r.Provider, r.Model, r.Call, r.Trace, millis(r.Created))
		if err != nil {
			return err
		}
		r.ID, err = result.LastInsertId()
		return err
	})
	if err != nil {
		return Running{}, fmt.Errorf("start an answer to turn %d of conversation %s: %w", r.Turn, r.Conversation, err)
	}
	return r, nil
}

// Describe notes the ledger's call and the trace of a running answer.
func (h *History) Describe(ctx context.Context, id, call int64, trace string) error {
	n, err := h.exec(ctx, "UPDATE running SET call = ?, trace = ? WHERE id = ?", call, trace, id)
	if err == nil && n == 0 {
		err = ErrStale
	}
	if err != nil {
		return fmt.Errorf("describe running answer %d: %w", id, err)
	}
	return nil
}

// Record keeps what running answers have said, in the order of the pieces. Those
// of an answer that has ended are dropped: it has its text. It is one row at the
// end of one table, however many pieces there are, and waits for no disk.
func (h *History) Record(ctx context.Context, pieces []Piece) error {
	if len(pieces) == 0 {
		return nil
	}
	if _, err := h.exec(ctx, "INSERT INTO pieces (data) VALUES (?)", pack(pieces)); err != nil {
		return fmt.Errorf("record %d pieces of running answers: %w", len(pieces), err)
	}
	return nil
}

// Settle ends a running answer with the message that it has become, and returns
// that as it is kept. Of m the texts, state, reason, advice, answer and time of
// end are used, and the trace if there is one; whose answer it is and who was
// asked stays as it was begun. Of an answer that has ended it is ErrStale.
func (h *History) Settle(ctx context.Context, running int64, m Message) (Message, error) {
	var settled Message
	err := h.inTx(ctx, func(tx *sql.Tx) error {
		if len(m.Text)+len(m.Thinking) > MostText {
			return ErrTooLong
		}
		all, err := answers(ctx, tx, "WHERE id = ?", running)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return ErrStale
		}
		if settled, err = end(ctx, tx, all[0], m); err != nil {
			return err
		}
		return trim(ctx, tx)
	})
	if err != nil {
		return Message{}, fmt.Errorf("settle running answer %d: %w", running, err)
	}
	return settled, nil
}

// end puts a message in the place of a running answer.
func end(ctx context.Context, tx *sql.Tx, r Running, m Message) (Message, error) {
	m.Conversation, m.Turn, m.Version, m.Role = r.Conversation, r.Turn, r.Version, Assistant
	m.Provider, m.Model, m.Created = r.Provider, r.Model, r.Created
	if m.Trace == "" {
		m.Trace = r.Trace
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM running WHERE id = ?", r.ID); err != nil {
		return m, err
	}
	return insert(ctx, tx, m)
}

// trim removes the pieces that no running answer needs. The last row before them
// stays, so that the next id is higher than it.
func trim(ctx context.Context, tx *sql.Tx) error {
	var since sql.NullInt64
	if err := tx.QueryRowContext(ctx, "SELECT min(since) FROM running").Scan(&since); err != nil {
		return err
	}
	if !since.Valid {
		_, err := tx.ExecContext(ctx, "DELETE FROM pieces")
		return err
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM pieces WHERE id < ?", since.Int64)
	return err
}

// Recover is for the start, before anything is asked: it makes of every answer that
// a former process left a message of state interrupted, with what had come, and
// returns them.
func (h *History) Recover(ctx context.Context, now time.Time) ([]Message, error) {
	var recovered []Message
	err := h.inTx(ctx, func(tx *sql.Tx) error {
		recovered = nil
		all, err := answers(ctx, tx, "ORDER BY id")
		if err != nil {
			return err
		}
		said, err := unpackAll(ctx, tx)
		if err != nil {
			return err
		}
		for _, r := range all {
			m := Message{State: Interrupted, Ended: now, Reason: "runner ended before the answer did", Advice: "ask for the answer anew"}
			if s := said[r.ID]; s != nil {
				m.Text, m.Thinking = s.text.String(), s.thinking.String()
			}
			if m, err = end(ctx, tx, r, m); err != nil {
				return fmt.Errorf("turn %d of conversation %s: %w", r.Turn, r.Conversation, err)
			}
			recovered = append(recovered, m)
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM pieces")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("recover interrupted answers: %w", err)
	}
	return recovered, nil
}

// texts are what a running answer has said.
type texts struct{ text, thinking strings.Builder }

func unpackAll(ctx context.Context, tx *sql.Tx) (map[int64]*texts, error) {
	rows, err := tx.QueryContext(ctx, "SELECT data FROM pieces ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	said := make(map[int64]*texts)
	for rows.Next() {
		var data sql.RawBytes
		if err := rows.Scan(&data); err != nil {
			return nil, err
		}
		for p, err := range unpack(data) {
			if err != nil {
				return nil, err
			}
			s := said[p.Running]
			if s == nil {
				s = new(texts)
				said[p.Running] = s
			}
			if p.Thinking {
				s.thinking.WriteString(p.Text)
			} else {
				s.text.WriteString(p.Text)
			}
		}
	}
	return said, rows.Err()
}

func answers(ctx context.Context, tx *sql.Tx, where string, args ...any) ([]Running, error) {
	rows, err := tx.QueryContext(ctx, "SELECT id, conversation, turn, version, provider, model, call, trace, created FROM running "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Running
	for rows.Next() {
		var r Running
		var created int64
		if err := rows.Scan(&r.ID, &r.Conversation, &r.Turn, &r.Version, &r.Provider, &r.Model, &r.Call, &r.Trace, &created); err != nil {
			return nil, err
		}
		r.Created = moment(created)
		all = append(all, r)
	}
	return all, rows.Err()
}
