package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Session is a browser that was let in. Like all that is kept here it may be as it
// was some seconds ago after a power loss.
type Session struct {
	// Hash is the SHA-256 of the cookie in hexadecimal digits; the cookie itself is
	// not kept.
	Hash                   string
	Created, Seen, Expires time.Time
	// Kind names the way in.
	Kind string
}

// SaveSession adds a session, or replaces the one of its hash.
func (h *History) SaveSession(ctx context.Context, s Session) error {
	_, err := h.exec(ctx, `INSERT INTO sessions (hash, kind, created, seen, expires) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (hash) DO UPDATE SET kind = excluded.kind, created = excluded.created, seen = excluded.seen, expires = excluded.expires`,
		s.Hash, s.Kind, millis(s.Created), millis(s.Seen), millis(s.Expires))
	if err != nil {
		return fmt.Errorf("save a session: %w", err)
	}
	return nil
}

// Session returns the session of a hash, expired or not, or ErrNoSession.
func (h *History) Session(ctx context.Context, hash string) (Session, error) {
	s := Session{Hash: hash}
	var created, seen, expires int64
	err := h.db.Read.QueryRowContext(ctx, "SELECT kind, created, seen, expires FROM sessions WHERE hash = ?", hash).Scan(&s.Kind, &created, &seen, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return Session{}, ErrNoSession
	}
	if err != nil {
		return Session{}, fmt.Errorf("read a session: %w", err)
	}
	s.Created, s.Seen, s.Expires = moment(created), moment(seen), moment(expires)
	return s, nil
}

// TouchSession notes when a session was seen and until when it holds from now on.
// One that was deleted is not brought back: ErrNoSession.
func (h *History) TouchSession(ctx context.Context, hash string, seen, expires time.Time) error {
	n, err := h.exec(ctx, "UPDATE sessions SET seen = ?, expires = ? WHERE hash = ?", millis(seen), millis(expires), hash)
	if err != nil {
		return fmt.Errorf("touch a session: %w", err)
	}
	if n == 0 {
		return ErrNoSession
	}
	return nil
}

// DeleteSession ends a session, if it is there.
func (h *History) DeleteSession(ctx context.Context, hash string) error {
	if _, err := h.exec(ctx, "DELETE FROM sessions WHERE hash = ?", hash); err != nil {
		return fmt.Errorf("delete a session: %w", err)
	}
	return nil
}

// DeleteSessions ends all sessions of a kind, "" being every kind.
func (h *History) DeleteSessions(ctx context.Context, kind string) error {
	if _, err := h.exec(ctx, "DELETE FROM sessions WHERE kind = ? OR ? = ''", kind, kind); err != nil {
		return fmt.Errorf("delete all sessions: %w", err)
	}
	return nil
}

// PurgeSessions removes those that have expired.
func (h *History) PurgeSessions(ctx context.Context, now time.Time) error {
	if _, err := h.exec(ctx, "DELETE FROM sessions WHERE expires <= ?", millis(now)); err != nil {
		return fmt.Errorf("remove expired sessions: %w", err)
	}
	return nil
}
