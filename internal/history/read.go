package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The queries of those who read. Each finds its rows by an index.
const (
	keptQuery = keptColumns + "WHERE c.id = ?"
	listQuery = keptColumns + "WHERE c.deleted = 0 AND (c.updated, c.id) < (?, ?) ORDER BY c.updated DESC, c.id DESC LIMIT ?"
	turnQuery = "SELECT " + columns + " FROM messages WHERE conversation = ? AND turn >= ? AND turn < ? AND turn > 0 ORDER BY turn, version"
)

type querier interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

// find returns a conversation, deleted or not, or ErrUnknown.
func find(ctx context.Context, in querier, id string) (kept, error) {
	k, err := scanKept(in.QueryRowContext(ctx, keptQuery, id))
	if errors.Is(err, sql.ErrNoRows) {
		return kept{}, ErrUnknown
	}
	return k, err
}

// Conversation returns a conversation, ErrDeleted of one that was deleted, or
// ErrUnknown.
func (h *History) Conversation(ctx context.Context, id string) (Conversation, error) {
	k, err := find(ctx, h.db.Read, id)
	if err == nil && k.deleted > 0 {
		err = ErrDeleted
	}
	if err != nil {
		return Conversation{}, fmt.Errorf("conversation %s: %w", id, err)
	}
	return k.Conversation, nil
}

// Cursor is a place in the list of conversations, as a page gives it for the next;
// "" is the beginning, and the end. It has no characters that a URL would escape
// but those of a conversation's id.
type Cursor string

func (c Cursor) parse() (updated int64, id string, err error) {
	if c == "" {
		return math.MaxInt64, "", nil
	}
	number, id, ok := strings.Cut(string(c), ".")
	updated, err = strconv.ParseInt(number, 10, 64)
	if !ok || err != nil {
		return 0, "", fmt.Errorf("%.80q: %w", string(c), ErrCursor)
	}
	return updated, id, nil
}

// Conversations returns those after a place in the list, limit at most, the last
// updated first, and the place after them, "" if there are no more. One that is
// updated between two pages moves to the front and may be missed by the second.
func (h *History) Conversations(ctx context.Context, after Cursor, limit int) ([]Conversation, Cursor, error) {
	updated, id, err := after.parse()
	if err != nil {
		return nil, "", fmt.Errorf("list conversations: %w", err)
	}
	rows, err := h.db.Read.QueryContext(ctx, listQuery, updated, id, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list conversations: %w", err)
	}
	defer rows.Close()
	var all []Conversation
	for rows.Next() {
		k, err := scanKept(rows)
		if err != nil {
			return nil, "", fmt.Errorf("list conversations: %w", err)
		}
		if len(all) == limit {
			last := all[limit-1]
			return all, Cursor(strconv.FormatInt(millis(last.Updated), 10) + "." + last.ID), nil
		}
		all = append(all, k.Conversation)
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("list conversations: %w", err)
	}
	return all, "", nil
}

// Page returns all messages of the last turns before a turn, 0 being the end,
// with every version of their answers, oldest first, and whether there are more
// before them.
func (h *History) Page(ctx context.Context, id string, before, turns int) (messages []Message, more bool, err error) {
	c, err := h.Conversation(ctx, id)
	if err != nil {
		return nil, false, err
	}
	if before <= 0 || before > c.Turns {
		before = c.Turns + 1
	}
	first := max(before-turns, 1)
	messages, err = h.turns(ctx, id, first, before)
	return messages, first > 1, err
}

// Since returns all messages of a turn and of those after it, with every version
// of their answers, oldest first.
func (h *History) Since(ctx context.Context, id string, turn int) ([]Message, error) {
	if _, err := h.Conversation(ctx, id); err != nil {
		return nil, err
	}
	return h.turns(ctx, id, turn, math.MaxInt64)
}

// turns returns the messages of the turns from first to before end.
func (h *History) turns(ctx context.Context, id string, first, end int) ([]Message, error) {
	rows, err := h.db.Read.QueryContext(ctx, turnQuery, id, first, end)
	if err != nil {
		return nil, fmt.Errorf("read conversation %s: %w", id, err)
	}
	defer rows.Close()
	var all []Message
	for rows.Next() {
		m, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("read conversation %s: %w", id, err)
		}
		all = append(all, m)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read conversation %s: %w", id, err)
	}
	return all, nil
}
