package sqlitetest

import (
	"errors"
	"path/filepath"
	"testing"

	"davidcockson.com/runner/internal/sqlite"
)

var errDisk = errors.New("disk full")

// ways are the three ways of writing that the package tells apart.
var ways = map[string]func(db *sqlite.DB) error{
	"a statement": func(db *sqlite.DB) error {
		_, err := db.Write.Exec("INSERT INTO t VALUES (1)")
		return err
	},
	"a statement that returns rows": func(db *sqlite.DB) error {
		var n int
		err := db.Write.QueryRow("INSERT INTO t VALUES (1) RETURNING n").Scan(&n)
		if err == nil && n != 1 {
			err = errors.New("the row was lost")
		}
		return err
	},
	"a transaction": func(db *sqlite.DB) error {
		tx, err := db.Write.Begin()
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.Exec("INSERT INTO t VALUES (1)"); err != nil {
			return err
		}
		return tx.Commit()
	},
}

func TestAWriteFailsInEitherHalf(t *testing.T) {
	for way, write := range ways {
		for _, c := range []struct {
			name  string
			fault Fault
			err   error
			rows  int // after two writes, of which the second has the fault
			alive bool
		}{
			{"no fault", Fault{At: 2}, nil, 2, true},
			{"fails and is not done", Fault{At: 2, Half: Undone, Err: errDisk}, errDisk, 1, true},
			{"is done and fails", Fault{At: 2, Half: Done, Err: errDisk}, errDisk, 2, true},
			{"a crash before", Fault{At: 2, Half: Undone, Crash: true}, ErrCrashed, 1, false},
			{"a crash after", Fault{At: 2, Half: Done, Crash: true}, ErrCrashed, 2, false},
		} {
			t.Run(way+": "+c.name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "x.db")
				migrations := []string{"CREATE TABLE t (n INTEGER) STRICT"}
				var faults Faults
				hooked := 0
				c.fault.Hook = func(n int) { hooked = n }
				faults.Inject(c.fault)
				db := Open(t, path, migrations, &faults)
				if err := write(db); err != nil {
					t.Fatal(err)
				}
				if err := write(db); !errors.Is(err, c.err) {
					t.Fatalf("the second write: %v, want %v", err, c.err)
				}
				if hooked != 2 || faults.Writes() != 2 {
					t.Errorf("the hook saw write %d of %d, want 2 of 2", hooked, faults.Writes())
				}
				var n int
				err := db.Read.QueryRow("SELECT count(*) FROM t").Scan(&n)
				if alive := err == nil; alive != c.alive {
					t.Errorf("a read afterwards: %v, want it to work: %v", err, c.alive)
				}
				if err := write(db); (err == nil) != c.alive {
					t.Errorf("a write afterwards: %v, want it to work: %v", err, c.alive)
				}
				db.Close()
				want := c.rows
				if c.alive {
					want++
				}
				again := Open(t, path, migrations, nil)
				if err := again.Read.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil || n != want {
					t.Errorf("%d rows on the disk, %v; want %d", n, err, want)
				}
			})
		}
	}
}

func TestACrashTakesWhatWasNotCommitted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	migrations := []string{"CREATE TABLE t (n INTEGER) STRICT"}
	var faults Faults
	db := Open(t, path, migrations, &faults)
	tx, err := db.Write.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	faults.Crash()
	if err := tx.Commit(); !errors.Is(err, ErrCrashed) {
		t.Errorf("a commit after the crash: %v", err)
	}
	db.Close()
	var n int
	again := Open(t, path, migrations, nil)
	if err := again.Read.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows on the disk, %v; want none", n, err)
	}
	if err := ways["a transaction"](again); err != nil {
		t.Errorf("the crash left a lock: %v", err)
	}
}
