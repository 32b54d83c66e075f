package sqlite

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestALazyFileIsFoldedByCheckpointAlone(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := OpenLazy(ctx, path, []string{"CREATE TABLE t (s TEXT) STRICT", "CREATE TABLE u (s TEXT) STRICT"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "1", "foreign_keys": "1", "busy_timeout": "5000", "wal_autocheckpoint": "0"} {
		var got string
		if err := db.Write.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", pragma, got, err, want)
		}
	}
	folded := func() bool {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(data, []byte("a marked row"))
	}
	size := func() int64 {
		t.Helper()
		n, err := db.LogSize()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// Of more than the thousand pages after which SQLite would fold by itself.
	if _, err := db.Write.Exec("INSERT INTO t VALUES (?)", "a marked row"+strings.Repeat("x", 5<<20)); err != nil {
		t.Fatal(err)
	}
	if folded() || size() < 5<<20 {
		t.Fatalf("a commit folded the log, whose size is %d", size())
	}

	reader, err := db.Read.BeginTx(ctx, nil) // which sees the file as it is now
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback()
	var n int
	if err := reader.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Write.Exec("INSERT INTO u VALUES (?)", "later"); err != nil {
		t.Fatal(err)
	}
	if err := db.Checkpoint(ctx, Passive); err != nil || !folded() {
		t.Fatalf("a passive checkpoint folded nothing: %v", err)
	}
	if err := db.Checkpoint(ctx, Truncate); err != nil || size() == 0 {
		t.Errorf("truncating beside a reader: %v, %d bytes left; want what the reader needs", err, size())
	}
	reader.Rollback()
	if err := db.Checkpoint(ctx, Truncate); err != nil || size() != 0 {
		t.Errorf("truncating: %v, %d bytes left; want none", err, size())
	}
	if n := count(t, db); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}
