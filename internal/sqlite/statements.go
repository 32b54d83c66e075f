package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"sync/atomic"
)

// mostStatements bounds how many statements a connection keeps prepared.
const mostStatements = 64

// keeping is a driver whose connections keep their statements prepared: the driver
// below parses a statement each time, which costs more than running it.
type keeping struct{ below driver.Driver }

func (k keeping) Open(dsn string) (driver.Conn, error) {
	c, err := k.below.Open(dsn)
	if err != nil {
		return nil, err
	}
	return &keepingConn{Conn: c, kept: make(map[string]*kept)}, nil
}

type connector struct {
	driver driver.Driver
	dsn    string
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c connector) Driver() driver.Driver                        { return c.driver }

// kept is a prepared statement; busy while its rows are read, since a second run
// would begin it anew.
type kept struct {
	driver.Stmt
	busy atomic.Bool
}

type keepingConn struct {
	driver.Conn
	kept map[string]*kept
}

func (c *keepingConn) statement(ctx context.Context, query string) (*kept, error) {
	s := c.kept[query]
	if s == nil && len(c.kept) < mostStatements {
		below, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
		if err != nil {
			return nil, err
		}
		s = &kept{Stmt: below}
		c.kept[query] = s
	}
	if s == nil || s.busy.Load() {
		return nil, nil
	}
	return s, nil
}

func (c *keepingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) > 0 { // without, it may be several statements
		s, err := c.statement(ctx, query)
		if err != nil {
			return nil, err
		}
		if s != nil {
			return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
		}
	}
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c *keepingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if len(args) > 0 {
		s, err := c.statement(ctx, query)
		if err != nil {
			return nil, err
		}
		if s != nil {
			rows, err := s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
			if err != nil {
				return nil, err
			}
			s.busy.Store(true)
			return &keptRows{Rows: rows, s: s}, nil
		}
	}
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

type keptRows struct {
	driver.Rows
	s *kept
}

func (r *keptRows) Close() error {
	err := r.Rows.Close()
	r.s.busy.Store(false)
	return err
}

func (c *keepingConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

func (c *keepingConn) Close() error {
	var all []error
	for _, s := range c.kept {
		all = append(all, s.Stmt.Close())
	}
	return errors.Join(append(all, c.Conn.Close())...)
}

// ResetSession and IsValid are what the pool asks a connection between two uses.
func (c *keepingConn) ResetSession(ctx context.Context) error {
	return c.Conn.(driver.SessionResetter).ResetSession(ctx)
}

func (c *keepingConn) IsValid() bool { return c.Conn.(driver.Validator).IsValid() }
