package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Ask adds what the owner says as a further turn, and returns the turn's number.
// An id that is not used yet becomes a conversation. The settings are noted where
// they differ from the newest; an empty title leaves the one that there is. A
// conversation that was deleted is ErrDeleted.
func (h *History) Ask(ctx context.Context, conversation string, s Settings, text string, now time.Time) (int, error) {
	s = s.clean()
	var turn int
	err := h.inTx(ctx, func(tx *sql.Tx) error {
		if len(text) > MostText {
			return ErrTooLong
		}
		k, err := find(ctx, tx, conversation)
		known := err == nil
		switch {
		case err != nil && !errors.Is(err, ErrUnknown):
			return err
		case k.deleted > 0:
			return ErrDeleted
		case s.Title == "":
			s.Title = k.Title
		}
		if !known || !s.equal(k.Settings) {
			if err := set(ctx, tx, conversation, metaOf(s), now); err != nil {
				return err
			}
		}
		turn = k.Turns + 1
		_, err = insert(ctx, tx, Message{Conversation: conversation, Turn: turn, Role: User, Text: text, Created: now})
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("add a message to conversation %s: %w", conversation, err)
	}
	return turn, nil
}

// Change sets all settings of a conversation. Nothing is written where they are
// as they were. A conversation that was deleted is ErrDeleted.
func (h *History) Change(ctx context.Context, conversation string, s Settings, now time.Time) error {
	s = s.clean()
	err := h.inTx(ctx, func(tx *sql.Tx) error {
		k, err := find(ctx, tx, conversation)
		switch {
		case err != nil:
			return err
		case k.deleted > 0:
			return ErrDeleted
		case s.equal(k.Settings):
			return nil
		}
		return set(ctx, tx, conversation, metaOf(s), now)
	})
	if err != nil {
		return fmt.Errorf("change conversation %s: %w", conversation, err)
	}
	return nil
}

// Delete hides a conversation at once; its rows stay until Purge. One that is
// deleted already is ErrUnknown.
func (h *History) Delete(ctx context.Context, conversation string, now time.Time) error {
	return h.mark(ctx, "delete", conversation, true, now)
}

// Undelete brings a conversation back. One that is not deleted, or purged, is
// ErrUnknown.
func (h *History) Undelete(ctx context.Context, conversation string, now time.Time) error {
	return h.mark(ctx, "undelete", conversation, false, now)
}

// CanUndelete says whether a conversation is deleted and not yet purged.
func (h *History) CanUndelete(ctx context.Context, conversation string) (bool, error) {
	k, err := find(ctx, h.db.Read, conversation)
	if errors.Is(err, ErrUnknown) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("conversation %s: %w", conversation, err)
	}
	return k.meta.Deleted && !k.meta.Purged, nil
}

func (h *History) mark(ctx context.Context, doing, conversation string, deleted bool, now time.Time) error {
	err := h.inTx(ctx, func(tx *sql.Tx) error {
		k, err := find(ctx, tx, conversation)
		if err != nil {
			return err
		}
		if k.meta.Deleted == deleted || k.meta.Purged {
			return ErrUnknown
		}
		k.meta.Deleted = deleted
		return set(ctx, tx, conversation, k.meta, now)
	})
	if err != nil {
		return fmt.Errorf("%s conversation %s: %w", doing, conversation, err)
	}
	return nil
}

// set adds a row of role meta.
func set(ctx context.Context, tx *sql.Tx, conversation string, to meta, now time.Time) error {
	m, err := to.message(conversation, millis(now))
	if err != nil {
		return err
	}
	_, err = insert(ctx, tx, m)
	return err
}

// The queries of Purge.
const (
	deletedQuery = `SELECT id FROM conversations
		WHERE deleted > 0 AND purged = 0 AND deleted < ? AND NOT EXISTS (SELECT 1 FROM running WHERE conversation = conversations.id) ORDER BY deleted`
	purgeTurns = "DELETE FROM messages WHERE conversation = ? AND turn > 0"
	purgeMeta  = "DELETE FROM messages WHERE conversation = ? AND turn = 0 AND id < ?"
)

// Purge removes for good what was deleted before a time, and returns how many
// conversations that were. Of each the mark of its deletion stays, without its
// title and settings. One with a running answer is left for the next time.
func (h *History) Purge(ctx context.Context, before time.Time) (int64, error) {
	ids, err := h.deletedBefore(ctx, before)
	if err != nil {
		return 0, fmt.Errorf("list deleted conversations: %w", err)
	}
	var purged int64
	for _, id := range ids {
		err := h.inTx(ctx, func(tx *sql.Tx) error {
			done, err := purge(ctx, tx, id, before)
			if done {
				purged++
			}
			return err
		})
		if err != nil {
			return purged, fmt.Errorf("purge conversation %s: %w", id, err)
		}
	}
	return purged, nil
}

func (h *History) deletedBefore(ctx context.Context, before time.Time) ([]string, error) {
	rows, err := h.db.Read.QueryContext(ctx, deletedQuery, millis(before))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		all = append(all, id)
	}
	return all, rows.Err()
}

// purge leaves of a conversation a bare mark with the time of its deletion. It
// does nothing to one that was brought back or asked in meanwhile.
func purge(ctx context.Context, tx *sql.Tx, id string, before time.Time) (bool, error) {
	k, err := find(ctx, tx, id)
	if err != nil || k.deleted == 0 || k.deleted >= millis(before) {
		return false, err
	}
	mark, err := meta{Deleted: true, Purged: true}.message(id, k.deleted)
	if err != nil {
		return false, err
	}
	if mark, err = insert(ctx, tx, mark); err != nil {
		return false, err
	}
	for _, step := range []struct {
		query string
		args  []any
	}{
		{"INSERT INTO purging (conversation) VALUES (?)", []any{id}},
		{purgeTurns, []any{id}},
		{purgeMeta, []any{id, mark.ID}},
		{"DELETE FROM purging WHERE conversation = ?", []any{id}},
		{"DELETE FROM conversations WHERE id = ?", []any{id}},
		{foldOne, []any{mark.ID}},
	} {
		if _, err := tx.ExecContext(ctx, step.query, step.args...); err != nil {
			return false, err
		}
	}
	return true, nil
}
