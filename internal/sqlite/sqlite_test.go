package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func open(t *testing.T, path string, migrations ...string) *DB {
	t.Helper()
	db, err := Open(t.Context(), path, migrations)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func count(t *testing.T, db *DB) (n int) {
	t.Helper()
	if err := db.Read.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

const (
	first  = "CREATE TABLE t (n INTEGER) STRICT"
	second = "CREATE TABLE u (n INTEGER) STRICT"
)

func TestPragmasHoldOnBothPools(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a b?c#d.db"), first)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
		var got string
		if err := db.Write.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", pragma, got, err, want)
		}
	}
	if _, err := db.Read.Exec("INSERT INTO t VALUES (1)"); err == nil {
		t.Error("the reading pool wrote")
	}
	info, err := os.Stat(db.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestMigrationsRunOnceAndKeepACopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path, first)
	if _, err := db.Write.Exec("INSERT INTO t VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	db = open(t, path, first, second)
	if n := count(t, db); n != 1 {
		t.Fatalf("%d rows after the migration, want 1", n)
	}
	db.Close()
	copies, _ := filepath.Glob(path + ".before-2-*")
	if len(copies) != 1 {
		t.Fatalf("copies before the migration: %v, want one", copies)
	}
	if _, err := Open(t.Context(), path, []string{first}); !errors.Is(err, ErrTooNew) {
		t.Fatalf("an older program: %v, want ErrTooNew", err)
	}
	if _, err := OpenReadOnly(t.Context(), path, 1); !errors.Is(err, ErrTooNew) {
		t.Fatalf("an older reader: %v, want ErrTooNew", err)
	}
}

func TestAFailedMigrationChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	open(t, path, first).Close()
	if _, err := Open(t.Context(), path, []string{first, second, "CREATE NONSENSE"}); err == nil {
		t.Fatal("a broken migration was taken")
	}
	db := open(t, path, first)
	if _, err := db.Read.Exec("SELECT * FROM u"); err == nil {
		t.Fatal("half of the migrations stayed")
	}
}

func TestBackupWhileWritingAndRestore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	db := open(t, path, first)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan int)
	began := make(chan struct{})
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			if _, err := db.Write.Exec("INSERT INTO t VALUES (?)", n); err != nil {
				t.Error(err)
				break
			}
			if n == 20 {
				close(began)
			}
		}
		done <- n
	}()
	<-began
	backup := filepath.Join(dir, "copy.db")
	if err := db.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	stop()
	total := <-done
	if err := db.Backup(t.Context(), backup); err == nil {
		t.Fatal("a second backup replaced the first")
	}
	db.Close()

	kept, err := Restore(t.Context(), backup, path, 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := count(t, open(t, path, first)); n < 20 || n > total {
		t.Errorf("%d rows restored, want between 20 and %d", n, total)
	}
	if n := count(t, open(t, kept, first)); n != total {
		t.Errorf("%d rows kept beside, want %d", n, total)
	}
}

func TestRestoreRefusesWhatIsNoBackup(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	open(t, path, first).Close()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "newer.db")
	open(t, newer, first, second).Close()
	for name, from := range map[string]string{"garbage": garbage, "a newer one": newer, "a missing one": filepath.Join(dir, "none.db")} {
		if _, err := Restore(t.Context(), from, path, 1); err == nil {
			t.Errorf("%s was restored", name)
		}
	}
	if count(t, open(t, path, first)) != 0 {
		t.Error("the database changed")
	}
	if _, err := OpenReadOnly(t.Context(), filepath.Join(dir, "none.db"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v, want fs.ErrNotExist", err)
	}
}
