package sqlite

import (
	"context"
	"path/filepath"
	"testing"
)

func TestKeptStatements(t *testing.T) {
	ctx := context.Background()
	db, err := Open(ctx, filepath.Join(t.TempDir(), "test.db"), []string{"CREATE TABLE numbers (n INTEGER) STRICT"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for n := range 3 {
		if _, err := db.Write.ExecContext(ctx, "INSERT INTO numbers (n) VALUES (?)", n); err != nil {
			t.Fatal(err)
		}
	}
	tx, err := db.Write.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	const query = "SELECT n FROM numbers WHERE n >= ? ORDER BY n"
	outer, err := tx.QueryContext(ctx, query, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer outer.Close()
	var all []int
	for outer.Next() {
		var n, least int
		if err := outer.Scan(&n); err != nil {
			t.Fatal(err)
		}
		// The same statement again, while its rows are being read.
		if err := tx.QueryRowContext(ctx, query, n).Scan(&least); err != nil {
			t.Fatal(err)
		}
		if least != n {
			t.Errorf("the inner query says %d, want %d", least, n)
		}
		all = append(all, n)
	}
	if len(all) != 3 {
		t.Errorf("the outer query gave %v, want all three", all)
	}
}
