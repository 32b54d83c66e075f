package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"davidcockson.com/runner/internal/job"
)

// Get returns the job with an id, or ErrUnknown.
func (l *Ledger) Get(ctx context.Context, id string) (Row, error) {
	r, err := scan(l.db.Read.QueryRowContext(ctx, "SELECT "+columns+" FROM jobs WHERE id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return Row{}, fmt.Errorf("job %s: %w", id, ErrUnknown)
	}
	if err != nil {
		return Row{}, fmt.Errorf("read job %s: %w", id, err)
	}
	return r, nil
}

// ByRun returns the job whose newest run has an id, or ErrUnknown.
func (l *Ledger) ByRun(ctx context.Context, run string) (Row, error) {
	rows, err := l.rows(ctx, "WHERE run = ? LIMIT 1", run)
	if err == nil && len(rows) == 0 {
		err = fmt.Errorf("run %s: %w", run, ErrUnknown)
	}
	if err != nil {
		return Row{}, err
	}
	return rows[0], nil
}

// Find returns the jobs that a reference of the owner's may mean: an id, the
// beginning of one, or a file name with or without .md; newest first, ten at
// most.
func (l *Ledger) Find(ctx context.Context, reference string) ([]Row, error) {
	if r, err := l.Get(ctx, reference); err == nil {
		return []Row{r}, nil
	} else if !errors.Is(err, ErrUnknown) {
		return nil, err
	}
	key := fold(reference)
	rows, err := l.rows(ctx, "WHERE note_id = ? OR name_key IN (?, ?) OR file_key IN (?, ?) ORDER BY claimed DESC, rowid DESC LIMIT 10", reference, key, key+".md", key, key+".md")
	if err != nil || len(rows) > 0 || len(reference) < 4 {
		return rows, err
	}
	return l.rows(ctx, "WHERE id >= ? AND id < ? ORDER BY claimed DESC, rowid DESC LIMIT 10", reference, reference+"\U0010FFFF")
}

// Unsettled returns every job that is not at its end: those that wait, are held
// or run, and those whose note has yet to be moved or written to.
func (l *Ledger) Unsettled(ctx context.Context) ([]Row, error) {
	return l.rows(ctx, "WHERE settled = 0 ORDER BY claimed, rowid")
}

// Recent returns the jobs that ended last, newest first, limit at most. With
// states only those.
func (l *Ledger) Recent(ctx context.Context, limit int, states ...job.State) ([]Row, error) {
	if len(states) == 0 {
		return l.rows(ctx, "WHERE ended > 0 ORDER BY ended DESC LIMIT ?", limit)
	}
	query := "WHERE ended > 0 AND state IN (?"
	args := []any{states[0]}
	for _, s := range states[1:] {
		query += ", ?"
		args = append(args, s)
	}
	return l.rows(ctx, query+") ORDER BY ended DESC LIMIT ?", append(args, limit)...)
}

func (l *Ledger) rows(ctx context.Context, where string, args ...any) ([]Row, error) {
	rows, err := l.db.Read.QueryContext(ctx, "SELECT "+columns+" FROM jobs "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	defer rows.Close()
	var all []Row
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("list jobs: %w", err)
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// Sight forgets the first sights of some names, whose notes were claimed or are
// gone, and then remembers those of others, all in one step. A name that is known
// keeps its time.
func (l *Ledger) Sight(ctx context.Context, gone []string, seen map[string]time.Time) error {
	err := l.inTx(ctx, func(tx *sql.Tx) error {
		for _, name := range gone {
			if _, err := tx.ExecContext(ctx, "DELETE FROM sightings WHERE name = ?", name); err != nil {
				return err
			}
		}
		for name, at := range seen {
			if _, err := tx.ExecContext(ctx, "INSERT INTO sightings (name, since) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", name, millis(at)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remember when notes were first seen: %w", err)
	}
	return nil
}

// Sightings lists the remembered first sights by name.
func (l *Ledger) Sightings(ctx context.Context) (map[string]time.Time, error) {
	rows, err := l.db.Read.QueryContext(ctx, "SELECT name, since FROM sightings")
	if err != nil {
		return nil, fmt.Errorf("list first sights: %w", err)
	}
	defer rows.Close()
	all := make(map[string]time.Time)
	for rows.Next() {
		var name string
		var since int64
		if err := rows.Scan(&name, &since); err != nil {
			return nil, fmt.Errorf("list first sights: %w", err)
		}
		all[name] = moment(since)
	}
	return all, rows.Err()
}
