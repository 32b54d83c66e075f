package roomtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/sqlite"
)

// TestBackupWhileItIsWritten copies both databases again and again while answers are
// being made, then puts the last copy back.
func TestBackupWhileItIsWritten(t *testing.T) {
	t.Parallel()
	m := newModels(t)
	w := newWorld(t, "grace: 0s\nproviders:\n"+m.provider("fake", 4))
	s := w.start("up")
	answer := m.script("long")
	answer.give("begun ")
	m.script("short").give("whole")
	m.script("short").finish()
	s.say("whole", "short")
	s.answered("whole")
	s.say("talk", "long")
	r := s.follows("talk")
	r.begin(t)
	const copies = 5
	for n := range copies {
		had := r.has()
		made := make(chan struct{})
		go func() { // writes go on meanwhile
			defer close(made)
			for i := range 50 {
				answer.give(numbered(n*50+i, n*50+i+1)...)
			}
		}()
		target := filepath.Join(t.TempDir(), fmt.Sprint(n))
		w.run("", "backup", target)
		<-made
		r.await(t, "all is shown", func() bool { return r.has() == answer.text() })
		for _, file := range []string{"ledger.db", "history.db"} {
			if err := sqlite.Check(t.Context(), filepath.Join(target, file)); err != nil {
				t.Errorf("copy %d: %v", n, err)
			}
		}
		if n < copies-1 {
			continue
		}
		s.kill()
		for _, file := range []string{"ledger.db", "history.db"} { // the disk is another
			for _, suffix := range []string{"", "-wal", "-shm"} {
				if err := os.RemoveAll(filepath.Join(w.state, file+suffix)); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.run("", "restore", target)
		s = w.start("up")
		if got := s.answer("whole"); got.Text != "whole" || got.State != "done" {
			t.Errorf("restored is %+v", got)
		}
		got := s.answer("talk")
		if got.State != "interrupted" || !strings.HasPrefix(got.Text, had) || !strings.HasPrefix(answer.text(), got.Text) {
			t.Errorf("restored is the answer %s: %q, shown before the copy was %q", got.State, tail(got.Text, 80), tail(had, 80))
		}
		if calls := w.rows(t, "ledger.db", "SELECT state FROM chat_calls ORDER BY id"); len(calls) != 2 || calls[0] != "answered" || calls[1] != "failed" {
			t.Errorf("the ledger has %v", calls)
		}
	}
	s.say("talk", "short")
	s.answered("talk")
	s.Terminate()
}
