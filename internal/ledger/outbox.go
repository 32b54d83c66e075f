package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// PingKind says what a ping tells.
type PingKind string

// The kinds. The first three are ends of a job and go with the end's own write;
// the others are said of a note that lies in the queue.
const (
	PingCompleted  PingKind = "completed"
	PingFailed     PingKind = "failed"
	PingCancelled  PingKind = "cancelled"
	PingHeld       PingKind = "held"
	PingDuplicate  PingKind = "duplicate"
	PingUnfinished PingKind = "unfinished"
	PingConflict   PingKind = "conflict"
)

// The states of a ping.
const (
	pingQueued  = "queued"
	pingSent    = "sent"
	pingDropped = "dropped"
)

// Ping is a message to the owner that is queued until it is delivered.
type Ping struct {
	ID int64 // by which they are ordered; given by the ledger
	// Job is the job's id, "" for a note that is no job.
	Job  string
	Kind PingKind
	// Key names what is told: a second ping of one key is never queued. It is kept
	// when the ping has been sent.
	Key string
	// Body is what is sent, whole. It leaves the ledger once the ping is sent or
	// dropped.
	Body []byte
	// Created is when it was queued, Next the earliest moment of its next try, Tries
	// how many have failed. The ledger sets them.
	Created, Next time.Time
	Tries         int
}

// ErrNoPing is the error of a look for a queued ping where there is none.
var ErrNoPing = errors.New("no ping is queued")

type execer interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}

// Enqueue queues a ping that goes with no other write. One whose key was queued
// before, be it sent or dropped meanwhile, changes nothing.
func (l *Ledger) Enqueue(ctx context.Context, p Ping, now time.Time) error {
	if err := enqueue(ctx, l.db.Write, p, now); err != nil {
		return fmt.Errorf("queue the ping %s: %w", p.Key, err)
	}
	return nil
}

func enqueue(ctx context.Context, to execer, p Ping, now time.Time) error {
	if p.Key == "" || p.Kind == "" || len(p.Body) == 0 {
		return errors.New("a ping needs a key, a kind and a body")
	}
	_, err := to.ExecContext(ctx, `INSERT INTO pings (job, kind, key, body, created, next_try, state) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (key) DO NOTHING`, p.Job, p.Kind, p.Key, string(p.Body), millis(now), millis(now), pingQueued)
	return err
}

// withEnd is the ping of a job's end. Where the maker did not know the job, since
// its row is made by the same write, job and key are those of the row: one ping
// of a kind for each run.
func (p Ping) withEnd(job, run string) Ping {
	if p.Job == "" {
		p.Job = job
	}
	if p.Key == "" {
		p.Key = job + "/" + run + "/" + string(p.Kind)
	}
	return p
}

// NextPing returns the oldest queued ping, due or not: those behind it wait for
// it, so that the owner reads what happened in the order in which it did. Without
// one it is ErrNoPing.
func (l *Ledger) NextPing(ctx context.Context) (Ping, error) {
	var p Ping
	var body string
	var created, next int64
	err := l.db.Read.QueryRowContext(ctx, "SELECT id, job, kind, key, body, created, next_try, tries FROM pings WHERE state = ? ORDER BY id LIMIT 1", pingQueued).
		Scan(&p.ID, &p.Job, &p.Kind, &p.Key, &body, &created, &next, &p.Tries)
	if errors.Is(err, sql.ErrNoRows) {
		return Ping{}, ErrNoPing
	}
	if err != nil {
		return Ping{}, fmt.Errorf("read the next ping: %w", err)
	}
	p.Body, p.Created, p.Next = []byte(body), moment(created), moment(next)
	return p, nil
}

// PingSent says that a queued ping was delivered; messageID is the receiver's
// name for it. One that is not queued any more is ErrStale.
func (l *Ledger) PingSent(ctx context.Context, id int64, messageID string, now time.Time) error {
	err := l.exec(ctx, "UPDATE pings SET state = ?, message_id = ?, ended = ?, error = '', body = '' WHERE id = ? AND state = ?",
		pingSent, messageID, millis(now), id, pingQueued)
	if err != nil {
		return fmt.Errorf("record that ping %d was sent: %w", id, err)
	}
	return nil
}

// PingFailed counts a failed try of a queued ping and says when the next may be.
func (l *Ledger) PingFailed(ctx context.Context, id int64, next time.Time, reason string) error {
	err := l.exec(ctx, "UPDATE pings SET tries = tries + 1, next_try = ?, error = ? WHERE id = ? AND state = ?",
		millis(next), reason, id, pingQueued)
	if err != nil {
		return fmt.Errorf("record that ping %d was not sent: %w", id, err)
	}
	return nil
}

// PingDropped gives a queued ping up.
func (l *Ledger) PingDropped(ctx context.Context, id int64, reason string, now time.Time) error {
	err := l.exec(ctx, "UPDATE pings SET state = ?, error = ?, ended = ?, body = '' WHERE id = ? AND state = ?",
		pingDropped, reason, millis(now), id, pingQueued)
	if err != nil {
		return fmt.Errorf("record that ping %d was given up: %w", id, err)
	}
	return nil
}

// PingCounts is how many pings the ledger knows, by state.
type PingCounts struct{ Queued, Sent, Dropped int64 }

// PingCounts counts all pings that there ever were.
func (l *Ledger) PingCounts(ctx context.Context) (PingCounts, error) {
	var c PingCounts
	for state, n := range map[string]*int64{pingQueued: &c.Queued, pingSent: &c.Sent, pingDropped: &c.Dropped} {
		if err := l.countPings(ctx, state, n); err != nil {
			return PingCounts{}, err
		}
	}
	return c, nil
}

// PingsQueued counts the queued pings alone: it costs nothing for those that were
// ever sent.
func (l *Ledger) PingsQueued(ctx context.Context) (int64, error) {
	var n int64
	err := l.countPings(ctx, pingQueued, &n)
	return n, err
}

func (l *Ledger) countPings(ctx context.Context, state string, n *int64) error {
	if err := l.db.Read.QueryRowContext(ctx, "SELECT count(*) FROM pings WHERE state = ?", state).Scan(n); err != nil {
		return fmt.Errorf("count the %s pings: %w", state, err)
	}
	return nil
}
