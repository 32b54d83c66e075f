//go:build linux

package bench

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/sqlite"
	"davidcockson.com/runner/internal/vault"
)

// What one job of the limit writes.
const (
	bareSyncs   = 4 + 2 + 4 // two moves, the output, the annotation
	bareCommits = 6
)

// bare does what a job cannot leave out and nothing else: it reads no note, parses
// and hashes nothing, checks nothing, logs nothing. Its folders stay open and its
// statements prepared.
type bare struct {
	waiting, active, completed, outputs, temp int

	db                                                        *sql.DB
	insertJob, insertBody, begin, intend, closeCall, saveText *sql.Stmt
	complete, settle                                          *sql.Stmt
}

// openBare opens the folders below root, and a database of the ledger's own shape.
func openBare(b *testing.B, root string) *bare {
	b.Helper()
	temp := filepath.Join(root, vault.TempDir)
	if err := os.MkdirAll(temp, 0o755); err != nil {
		b.Fatal(err)
	}
	open := func(path string) int {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	folder := func(name string) int { return open(filepath.Join(root, name)) }
	db, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "limit.db"), ledger.Migrations())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	prepare := func(query string) *sql.Stmt {
		s, err := db.Write.PrepareContext(b.Context(), query)
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	return &bare{
		waiting: folder(queue.Waiting), active: folder(queue.Active), completed: folder(queue.Completed), outputs: folder(queue.Outputs), temp: open(temp),
		db: db.Write,
		insertJob: prepare(`INSERT INTO jobs (id, note_id, name, name_key, file, file_key, hash, state, job_type, provider, model, title,
			priority, retry_never, run, attempt, steps, first_seen, claimed) VALUES (?,'',?,?,?,?,?,'claiming','text','echo','echo','',0,0,?,0,1,?,?)`),
		insertBody: prepare("INSERT INTO bodies (job, body) VALUES (?, ?)"),
		begin:      prepare("UPDATE jobs SET state = 'active', attempt = 1, started = ?, file = ?, file_key = ?, output = ? WHERE id = ?"),
		intend: prepare(`INSERT INTO calls (job, run, attempt, step, try, provider, model, hash, state, estimate, started)
			VALUES (?, ?, 1, 1, 1, 'echo', 'echo', ?, 'intent', 500, ?)`),
		closeCall: prepare("UPDATE calls SET state = 'answered', read = 500, written = 500, ended = ?, answer = ? WHERE id = ?"),
		saveText:  prepare("INSERT INTO answers (call, text, thinking) VALUES (?, ?, '')"),
		complete:  prepare("UPDATE jobs SET state = 'completed', output = ?, ended = ? WHERE id = ?"),
		settle:    prepare("UPDATE jobs SET settled = 1, file = ?, file_key = ? WHERE id = ?"),
	}
}

// bareDrain is how long n jobs take at the least, some at once.
func bareDrain(b *testing.B, n, jobs int) time.Duration {
	b.Helper()
	l := openBare(b, makeVault(b, n))
	began := time.Now()
	var group errgroup.Group
	group.SetLimit(jobs)
	for i := range n {
		group.Go(func() error { return l.job(i) })
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

// job is one job in the worker's order.
func (l *bare) job(i int) error {
	name, body := noteName(i), noteText(i, prompt)
	id, run, hash := fmt.Sprintf("20260102-030405-%06d", i), fmt.Sprintf("%06d", i), fmt.Sprintf("%064d", i)
	output := "20260102T030405Z-" + strings.TrimSuffix(name, ".md") + "-" + run + ".md"
	if err := l.claim(i, id, run, hash, body); err != nil {
		return err
	}
	if err := move(l.waiting, l.active, name); err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	if _, err := l.begin.Exec(now, name, name, queue.Outputs+"/"+output, id); err != nil {
		return err
	}
	intent, err := l.intend.Exec(id, run, hash, now)
	if err != nil {
		return err
	}
	call, err := intent.LastInsertId()
	if err != nil {
		return err
	}
	if err := l.answer(call, now, body); err != nil {
		return err
	}
	// An output note and an annotation have some lines more than the prompt.
	if err := write(l.outputs, output, strings.Repeat("key: value of the frontmatter\n", 20)+body); err != nil {
		return err
	}
	if _, err := l.complete.Exec(queue.Outputs+"/"+output, now, id); err != nil {
		return err
	}
	if err := move(l.active, l.completed, name); err != nil {
		return err
	}
	if err := l.annotate(name, "job-"+run+".md", strings.Repeat("key: value of the frontmatter\n", 6)+body); err != nil {
		return err
	}
	_, err = l.settle.Exec(name, name, id)
	return err
}

func (l *bare) claim(i int, id, run, hash, body string) error {
	now, name := time.Now().UnixMilli(), noteName(i)
	return l.inTx(func(tx *sql.Tx) error {
		if _, err := tx.Stmt(l.insertJob).Exec(id, name, name, name, name, hash, run, now, now); err != nil {
			return err
		}
		_, err := tx.Stmt(l.insertBody).Exec(id, body)
		return err
	})
}

// answerDetail has the size of what is stored of an answer beside its text.
var answerDetail = strings.Repeat("d", 300)

func (l *bare) answer(call, now int64, text string) error {
	return l.inTx(func(tx *sql.Tx) error {
		if _, err := tx.Stmt(l.closeCall).Exec(now, answerDetail, call); err != nil {
			return err
		}
		_, err := tx.Stmt(l.saveText).Exec(call, text)
		return err
	})
}

func (l *bare) inTx(f func(*sql.Tx) error) error {
	tx, err := l.db.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// move is the move that never replaces, and the two syncs that make it durable.
func move(from, to int, name string) error {
	if err := unix.Renameat2(from, name, to, name, unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	if err := unix.Fsync(to); err != nil {
		return err
	}
	return unix.Fsync(from)
}

// write makes a file, whole and durable.
func write(folder int, name, text string) error {
	fd, err := unix.Openat(folder, ".", unix.O_WRONLY|unix.O_TMPFILE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return err
	}
	if err := unix.Fsync(fd); err != nil {
		return err
	}
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), folder, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return err
	}
	return unix.Fsync(folder)
}

// annotate replaces a note by exchange, as one that its owner may be editing is.
func (l *bare) annotate(name, temp, text string) error {
	if err := write(l.temp, temp, text); err != nil {
		return err
	}
	if err := unix.Renameat2(l.completed, name, l.temp, temp, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	if err := unix.Fsync(l.completed); err != nil {
		return err
	}
	if err := unix.Fsync(l.temp); err != nil {
		return err
	}
	return unix.Unlinkat(l.temp, temp, 0)
}

// bareCommit returns what makes one commit of one row as the ledger's are made, and
// nothing else, and how long it takes.
func bareCommit(b *testing.B) func() time.Duration {
	b.Helper()
	db, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "bare.db"), []string{"CREATE TABLE calls (id INTEGER PRIMARY KEY, hash TEXT NOT NULL) STRICT"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	hash := strings.Repeat("0", 64)
	return func() time.Duration {
		began := time.Now()
		if _, err := db.Write.ExecContext(b.Context(), "INSERT INTO calls (hash) VALUES (?)", hash); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
}
