// Package history keeps the chat: what was said in which conversation, under which
// settings, and what a running answer has said so far.
//
// It promises that the table messages is the truth and only grows: no call changes
// a row, triggers refuse it to every other program too, and rows leave by Purge
// alone, which keeps the mark of the deletion, so that an id is never used twice.
// What Record has taken is in the file when the call returns, and Recover makes an
// answer of it after a process was killed. Every other call is done wholly or not
// at all.
//
// Commits do not wait for the disk: a power loss takes, whole, what came after the
// last checkpoint, of which Run makes one every few seconds. The table of
// conversations is made from messages (Rebuild). Running answers, their pieces and
// sessions are bookkeeping and may be lost without harm to what was said.
package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/sqlite"
)

var (
	// ErrUnknown is the error of a conversation or turn that is not there, or no
	// longer.
	ErrUnknown = errors.New("no such conversation")
	// ErrDeleted is the error of a conversation that was deleted, also of what only
	// reads it. Its id cannot be used for a new one.
	ErrDeleted = errors.New("the conversation was deleted")
	// ErrStale is the error of a change to an answer that does not run any more.
	ErrStale = errors.New("the answer has ended already")
	// ErrTooLong is the error of a message above 32 MiB.
	ErrTooLong = errors.New("the message is longer than 32 MiB")
	// ErrCursor is the error of a cursor that no page has given.
	ErrCursor = errors.New("no place in the list of conversations")
	// ErrNoSession is the error of a session that is not there, or no longer.
	ErrNoSession = errors.New("no such session")
)

// MostText bounds the text and the thinking of a message together, in bytes.
const MostText = 32 << 20

// Role says whose words a message is.
type Role string

// The roles of messages. Meta rows hold settings and are in no page.
const (
	User      Role = "user"
	Assistant Role = "assistant"
	Meta      Role = "meta"
)

// State says how an answer ended; "" of a message that is none.
type State string

// The states of answers.
const (
	Done        State = "done"
	Stopped     State = "stopped"     // by the owner
	Failed      State = "failed"      // by the provider, a limit or a fault
	Interrupted State = "interrupted" // with the process
)

// Message is one row of what was said. Times are in milliseconds.
type Message struct {
	ID           int64
	Conversation string
	Turn         int // from 1; 0 of Meta
	Version      int // of an answer, from 1; else 0
	Role         Role
	// Text and Thinking are valid UTF-8. Of an answer that is not Done they are
	// what had come.
	Text, Thinking string
	State          State
	// Reason says why an answer is not done, Advice what to do.
	Reason, Advice string
	// Provider and Model are who was asked; "" but of answers.
	Provider, Model string
	// Answer is kept without its text and thinking, which are beside it.
	Answer provider.Answer
	Trace  string // the id of the trace, "" for none
	// Created is when the message was sent or the answer began, Ended when the
	// answer ended; zero but of answers.
	Created, Ended time.Time
}

// Settings are what the owner has set for a conversation. They hold until the next
// are set.
type Settings struct {
	Title, System string
	// Temperature is nil for the server's own.
	Temperature     *float64
	Provider, Model string
}

func (s Settings) equal(other Settings) bool {
	if s.Temperature != nil && other.Temperature != nil && *s.Temperature == *other.Temperature {
		s.Temperature = other.Temperature
	}
	return s == other
}

// Conversation is one of the list, with its settings of now.
type Conversation struct {
	ID string
	Settings
	// Updated is when its last message was sent or ended; settings do not count.
	Created, Updated time.Time
	Turns            int
}

// Running is an answer that has begun.
type Running struct {
	ID              int64
	Conversation    string
	Turn, Version   int
	Provider, Model string
	Call            int64 // the ledger's, 0 while there is none
	Trace           string
	Created         time.Time
}

// Piece is something that a running answer has said. Its end may lie within a
// letter.
type Piece struct {
	Running  int64
	Thinking bool
	Text     string
}

// History is safe for concurrent use.
type History struct {
	// Log takes what Run meets. It may be set before Run.
	Log *slog.Logger

	db      *sqlite.DB
	commits atomic.Int64
}

// Open opens or makes the history at path.
func Open(ctx context.Context, path string) (*History, error) {
	db, err := sqlite.OpenLazy(ctx, path, Migrations())
	if err != nil {
		return nil, err
	}
	h := New(db)
	if err := h.mend(ctx); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// OpenReadOnly opens an existing history for reading, beside its writer or without.
func OpenReadOnly(ctx context.Context, path string) (*History, error) {
	db, err := sqlite.OpenReadOnly(ctx, path, len(Migrations()))
	if err != nil {
		return nil, err
	}
	return New(db), nil
}

// New is a history over a database that has its schema already.
func New(db *sqlite.DB) *History { return &History{Log: slog.Default(), db: db} }

// Close closes the database.
func (h *History) Close() error { return h.db.Close() }

// Backup copies the history into a new file while it is in use.
func (h *History) Backup(ctx context.Context, target string) error { return h.db.Backup(ctx, target) }

// mend rebuilds the list of conversations if it does not reach to the last message.
func (h *History) mend(ctx context.Context) error {
	var kept, last int64
	err := h.db.Read.QueryRowContext(ctx, "SELECT (SELECT coalesce(max(last), 0) FROM conversations), (SELECT coalesce(max(id), 0) FROM messages)").Scan(&kept, &last)
	if err != nil {
		return fmt.Errorf("look at the list of conversations: %w", err)
	}
	if kept == last {
		return nil
	}
	return h.Rebuild(ctx)
}

// Rebuild makes the list of conversations anew from all messages.
func (h *History) Rebuild(ctx context.Context) error {
	err := h.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM conversations"); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, foldAll)
		return err
	})
	if err != nil {
		return fmt.Errorf("rebuild the list of conversations: %w", err)
	}
	return nil
}

// inTx runs f in a transaction of the one writer and commits it. The error of a
// commit is returned: whether it happened is then unknown.
func (h *History) inTx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := h.db.Write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	defer h.commits.Add(1) // afterwards: what is counted, the next checkpoint finds
	return tx.Commit()
}

// exec makes one statement a transaction and returns how many rows it changed.
func (h *History) exec(ctx context.Context, query string, args ...any) (int64, error) {
	defer h.commits.Add(1)
	result, err := h.db.Write.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
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

func (s Settings) clean() Settings {
	s.Title, s.System, s.Provider, s.Model = clean(s.Title), clean(s.System), clean(s.Provider), clean(s.Model)
	return s
}

// clean replaces what is no UTF-8.
func clean(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
