package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
)

// OpenLazy opens a file as Open does, for commits that must not wait for the disk:
// none syncs (synchronous=NORMAL) and none folds the log into the file. What is
// committed survives a killed process at once, and a power loss from the next
// Checkpoint on, which is the caller's to run; a power loss before it takes the last
// commits whole. One sync is left: the first commit after a log was folded in
// wholly begins a new one and syncs its header.
func OpenLazy(ctx context.Context, path string, migrations []string) (*DB, error) {
	return openAs(ctx, path, migrations, dsn(path,
		"journal_mode(WAL)", "synchronous(NORMAL)", "wal_autocheckpoint(0)"))
}

// Checkpoint says how much of the log is to be folded into the file.
type Checkpoint string

// The kinds of checkpoints, by SQLite's names (https://sqlite.org/pragma.html#pragma_wal_checkpoint).
const (
	// Passive syncs the log and folds in what no reader needs; nobody waits for it.
	Passive Checkpoint = "PASSIVE"
	// Truncate folds all in and empties the log. Writers wait meanwhile. Where a
	// reader or writer is busy it does what Passive does.
	Truncate Checkpoint = "TRUNCATE"
)

// Checkpoint folds the log into the file on a connection of its own. That a part
// was left, since others need it, is no error.
func (db *DB) Checkpoint(ctx context.Context, kind Checkpoint) error {
	// No busy_timeout: Truncate would keep writers out while it waits for readers.
	own, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: db.path, RawQuery: "mode=rw"}).String())
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", db.path, err)
	}
	defer own.Close()
	var busy, frames, folded int
	if err := own.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+string(kind)+")").Scan(&busy, &frames, &folded); err != nil {
		return fmt.Errorf("checkpoint %s: %w", db.path, err)
	}
	return nil
}

// LogSize is the size of the log's file in bytes, 0 where there is none. It
// shrinks by Truncate and Close alone.
func (db *DB) LogSize() (int64, error) {
	info, err := os.Stat(db.path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at the log of %s: %w", db.path, err)
	}
	return info.Size(), nil
}
