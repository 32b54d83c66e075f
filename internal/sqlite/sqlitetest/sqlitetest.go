// Package sqlitetest opens a real database whose writes can be made to fail, in
// either half: not done, or done and yet reported as failed.
//
// A write is what reaches the disk as one: the commit of a transaction, or a
// statement outside one that changes data. Writes are counted from 1. After a
// crash every call of both pools fails, and what was not committed is gone, as
// with a process that was killed. The migrations run before anything is counted.
package sqlitetest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"

	"davidcockson.com/runner/internal/sqlite"
)

// Open is OpenDB for a test. The database is closed at the end of the test at the
// latest.
func Open(t testing.TB, path string, migrations []string, faults *Faults) *sqlite.DB {
	t.Helper()
	db, err := OpenDB(path, migrations, faults)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// OpenDB opens the file at path as sqlite.Open does, with every call going through
// faults, which may be nil. It is for the processes that a test starts: in them
// there is no test.
func OpenDB(path string, migrations []string, faults *Faults) (*sqlite.DB, error) {
	plain, err := sqlite.Open(context.Background(), path, migrations)
	if err != nil {
		return nil, err
	}
	if faults == nil {
		faults = new(Faults)
	}
	below := plain.Write.Driver()
	if err := plain.Close(); err != nil {
		return nil, err
	}
	return sqlite.New(path,
		sql.OpenDB(&connector{driver: below, dsn: sqlite.DSN(path, false), faults: faults}),
		sql.OpenDB(&connector{driver: below, dsn: sqlite.DSN(path, true), faults: faults})), nil
}

type connector struct {
	driver driver.Driver
	dsn    string
	faults *Faults
}

func (c *connector) Driver() driver.Driver { return c.driver }

func (c *connector) Connect(context.Context) (driver.Conn, error) {
	if err := c.faults.alive(); err != nil {
		return nil, err
	}
	below, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: below, faults: c.faults}, nil
}

// conn is one connection; database/sql uses it from one goroutine at a time.
type conn struct {
	driver.Conn
	faults *Faults
	inTx   bool
}

// Prepare is not offered: what a prepared statement writes would not be counted.
func (c *conn) Prepare(string) (driver.Stmt, error) {
	return nil, errors.New("sqlitetest: prepared statements are not offered")
}

func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.faults.alive(); err != nil {
		return nil, err
	}
	below, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	c.inTx = true
	return &tx{Tx: below, conn: c}, nil
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	var result driver.Result
	err := c.run(query, func() (err error) {
		result, err = c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
		return err
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	var found driver.Rows
	err := c.run(query, func() (err error) {
		found, err = c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
		if err == nil && writes(query) {
			found, err = drain(found) // it commits when its rows are closed
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// run does a statement, as a write of its own if it is one.
func (c *conn) run(query string, do func() error) error {
	if !c.inTx && writes(query) {
		return c.faults.write(do)
	}
	if err := c.faults.alive(); err != nil {
		return err
	}
	return do()
}

// ResetSession lets database/sql drop connections that were cut by a crash.
func (c *conn) ResetSession(ctx context.Context) error {
	if c.faults.alive() != nil {
		return driver.ErrBadConn
	}
	if below, ok := c.Conn.(driver.SessionResetter); ok {
		return below.ResetSession(ctx)
	}
	return nil
}

type tx struct {
	driver.Tx
	conn *conn
}

func (t *tx) Commit() error {
	t.conn.inTx = false
	done := false
	err := t.conn.faults.write(func() error { done = true; return t.Tx.Commit() })
	if !done {
		// As the driver does: a failed commit leaves no transaction open.
		return errors.Join(err, t.Tx.Rollback())
	}
	return err
}

// Rollback always happens: a process that was killed commits nothing.
func (t *tx) Rollback() error {
	t.conn.inTx = false
	return errors.Join(t.Tx.Rollback(), t.conn.faults.alive())
}
