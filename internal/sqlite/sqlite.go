// Package sqlite opens a database file with our pragmas, brings it up to date by
// numbered migrations, and copies it while it is in use.
//
// It promises that a committed transaction survives power loss (write-ahead log,
// synchronous=FULL), or from the next checkpoint on where a file was opened lazily;
// that there is one writer at a time, that a connection parses a statement once, and
// that a database that is newer than the program is refused and left as it is.
// Before a migration the file is copied beside itself. It stores nothing of its own
// but the schema number, in user_version.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	sqlite "modernc.org/sqlite" // the driver, in pure Go
)

// DB is one database file: Write has a single connection, whose transactions
// begin immediately; Read has a few that cannot write.
type DB struct {
	Write *sql.DB
	Read  *sql.DB
	path  string
}

// DSN is the driver's name for the file at path with our pragmas; readOnly adds
// query_only.
func DSN(path string, readOnly bool) string {
	if readOnly {
		return name(path, "query_only(1)")
	}
	return dsn(path, "journal_mode(WAL)", "synchronous(FULL)")
}

// dsn is the name for a writing connection with further pragmas.
func dsn(path string, pragmas ...string) string {
	return name(path, pragmas...) + "&_txlock=immediate"
}

func name(path string, pragmas ...string) string {
	v := url.Values{}
	v.Add("mode", "rw") // never make a file by looking for one
	v.Add("_pragma", "busy_timeout(5000)")
	v.Add("_pragma", "foreign_keys(1)")
	for _, p := range pragmas {
		v.Add("_pragma", p)
	}
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: v.Encode()}).String()
}

// Open opens the file at path, makes it if there is none, and runs those of the
// migrations that it has not seen. Migration N is migrations[N-1]; a database
// with a higher number is refused.
func Open(ctx context.Context, path string, migrations []string) (*DB, error) {
	return openAs(ctx, path, migrations, DSN(path, false))
}

func openAs(ctx context.Context, path string, migrations []string, writing string) (*DB, error) {
	if err := touch(path); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	k := keeping{&sqlite.Driver{}}
	db := New(path, sql.OpenDB(connector{k, writing}), sql.OpenDB(connector{k, DSN(path, true)}))
	if err := db.migrate(ctx, migrations); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// New wraps two pools over the same file, one for each way.
func New(path string, write, read *sql.DB) *DB {
	write.SetMaxOpenConns(1)
	read.SetMaxOpenConns(4)
	read.SetMaxIdleConns(2)
	return &DB{Write: write, Read: read, path: path}
}

// OpenReadOnly opens an existing file beside a process that may be writing it.
// A schema number above newest is refused; a missing file is fs.ErrNotExist.
func OpenReadOnly(ctx context.Context, path string, newest int) (*DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	read, err := sql.Open("sqlite", DSN(path, true))
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db := New(path, read, read)
	number, err := db.version(ctx)
	if err == nil && number > newest {
		err = tooNew(path, number, newest)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// Close closes both pools; the last close folds the log into the file.
func (db *DB) Close() error {
	err := db.Read.Close()
	if db.Write != db.Read {
		err = errors.Join(err, db.Write.Close())
	}
	return err
}

// touch makes the file with mode 0600, which the driver would not.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func (db *DB) version(ctx context.Context) (int, error) {
	var number int
	if err := db.Read.QueryRowContext(ctx, "PRAGMA user_version").Scan(&number); err != nil {
		return 0, fmt.Errorf("read the schema number of %s: %w", db.path, err)
	}
	return number, nil
}

// ErrTooNew is the error of a database that a later version of the program has
// migrated.
var ErrTooNew = errors.New("the database is newer than this program")

func tooNew(path string, number, newest int) error {
	return fmt.Errorf("%s has schema %d and this program knows %d: %w; run the newer program, or restore the copy that it made before it migrated", path, number, newest, ErrTooNew)
}

func (db *DB) migrate(ctx context.Context, migrations []string) error {
	number, err := db.version(ctx)
	if err != nil {
		return err
	}
	if number > len(migrations) {
		return tooNew(db.path, number, len(migrations))
	}
	if number == len(migrations) {
		return nil
	}
	if number > 0 {
		target := fmt.Sprintf("%s.before-%d-%s", db.path, number+1, time.Now().UTC().Format("20060102T150405.000Z"))
		if err := db.Backup(ctx, target); err != nil {
			return fmt.Errorf("before migrating: %w", err)
		}
	}
	tx, err := db.Write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("migrate %s: %w", db.path, err)
	}
	defer tx.Rollback()
	for i := number; i < len(migrations); i++ {
		if _, err := tx.ExecContext(ctx, migrations[i]); err != nil {
			return fmt.Errorf("migrate %s to schema %d: %w", db.path, i+1, err)
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", len(migrations))); err != nil {
		return fmt.Errorf("migrate %s: %w", db.path, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("migrate %s: %w", db.path, err)
	}
	return nil
}

// Backup copies the database into target, a new file, as of one moment, while
// others read and write. The copy is checked and synced before it gets its name.
func (db *DB) Backup(ctx context.Context, target string) error {
	if _, err := os.Lstat(target); err == nil {
		return fmt.Errorf("back up to %s: it exists already; choose another name", target)
	}
	partial := target + ".partial"
	if err := os.Remove(partial); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("back up to %s: %w", target, err)
	}
	if err := touch(partial); err != nil {
		return fmt.Errorf("back up to %s: %w", target, err)
	}
	// The reading pool may not write, and the writing one would hold up its users.
	source, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: db.path, RawQuery: "mode=rw&_pragma=busy_timeout(5000)"}).String())
	if err != nil {
		return fmt.Errorf("back up to %s: %w", target, err)
	}
	defer source.Close()
	if _, err := source.ExecContext(ctx, "VACUUM INTO ?", partial); err != nil {
		os.Remove(partial)
		return fmt.Errorf("back up to %s: %w", target, err)
	}
	if err := Check(ctx, partial); err != nil {
		os.Remove(partial)
		return fmt.Errorf("back up to %s: %w", target, err)
	}
	if err := place(partial, target); err != nil {
		return fmt.Errorf("back up to %s: %w", target, err)
	}
	return nil
}

// Check runs SQLite's own integrity check over a file that nobody writes.
func Check(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", DSN(path, true))
	if err != nil {
		return err
	}
	defer db.Close()
	var answer string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&answer); err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	if answer != "ok" {
		return fmt.Errorf("check %s: it is damaged: %s", path, answer)
	}
	return nil
}

// Restore puts the backup at from in the place of the database at path, which
// must not be open. What was there is kept beside it under the returned name, ""
// if there was nothing. A backup that is damaged or newer than newest is
// refused before anything is touched.
func Restore(ctx context.Context, from, path string, newest int) (kept string, err error) {
	if err := Check(ctx, from); err != nil {
		return "", err
	}
	source, err := OpenReadOnly(ctx, from, newest)
	if err != nil {
		return "", err
	}
	defer source.Close()
	if number, err := source.version(ctx); err != nil || number == 0 {
		return "", fmt.Errorf("restore %s: it is no backup of this program", from)
	}
	fresh := path + ".restoring"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("restore to %s: %w", path, err)
	}
	if err := source.Backup(ctx, fresh); err != nil {
		return "", err
	}
	if _, err := os.Lstat(path); err == nil {
		kept = path + ".replaced-" + time.Now().UTC().Format("20060102T150405.000Z")
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Rename(path+suffix, kept+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				return "", fmt.Errorf("restore to %s: keep what was there: %w", path, err)
			}
		}
	}
	if err := place(fresh, path); err != nil {
		return kept, fmt.Errorf("restore to %s: %w", path, err)
	}
	return kept, nil
}

// place syncs a finished file and gives it its name, both to last.
func place(partial, target string) error {
	f, err := os.OpenFile(partial, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(partial, target); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(target))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
