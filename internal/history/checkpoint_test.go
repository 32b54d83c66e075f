package history

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/sqlite"
)

// folded says whether the file itself, without its log, has some text.
func folded(t *testing.T, path, text string) bool {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return bytes.Contains(data, []byte(text))
}

func TestRunFoldsTheLogBesideTheWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "history.db")
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		h, err := Open(ctx, path)
		must(t, err)
		defer h.Close()
		ended := make(chan error)
		go func() { ended <- h.Run(ctx) }()
		size := func() int64 {
			n, err := h.db.LogSize()
			must(t, err)
			return n
		}
		ask(t, h, "c", "a marked text"+strings.Repeat("x", idleLog), at(0))
		if folded(t, path, "a marked text") {
			t.Fatal("a commit folded the log")
		}
		time.Sleep(checkpointPause + time.Second)
		synctest.Wait()
		if !folded(t, path, "a marked text") || size() < idleLog {
			t.Errorf("after the pause folded: %v, %d bytes of log; want all, and the log as it was", folded(t, path, "a marked text"), size())
		}
		time.Sleep(checkpointPause)
		synctest.Wait()
		if size() != 0 {
			t.Errorf("%d bytes of log when nobody wrote, want none", size())
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestALogThatIsTooLargeIsEmptiedAtWork(t *testing.T) {
	h := open(t)
	for range 3 {
		ask(t, h, "c", strings.Repeat("x", MostText), at(0))
	}
	if n, err := h.db.LogSize(); err != nil || n <= mostLog {
		t.Fatalf("%d bytes of log, %v", n, err)
	}
	must(t, h.tidy(t.Context(), false))
	if n, err := h.db.LogSize(); err != nil || n != 0 {
		t.Errorf("%d bytes of log, %v; want none", n, err)
	}
}

func TestBackupWhileAnswersRun(t *testing.T) {
	h := open(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ask(t, h, "c", "q", at(0))
	r := start(t, h, "c", 1)
	began, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ctx.Err() == nil; n++ {
			if err := h.Record(context.Background(), []Piece{{Running: r.ID, Text: "word "}}); err != nil {
				t.Error(err)
				return
			}
			if n == 20 {
				close(began)
			}
		}
	}()
	<-began
	target := filepath.Join(t.TempDir(), "copy.db")
	must(t, h.Backup(t.Context(), target))
	stop()
	<-done
	must(t, sqlite.Check(t.Context(), target))
	restored, err := Open(t.Context(), target)
	must(t, err)
	defer restored.Close()
	all, err := restored.Recover(t.Context(), at(9))
	must(t, err)
	if len(all) != 1 || !strings.HasPrefix(all[0].Text, strings.Repeat("word ", 20)) {
		t.Errorf("the copy has %d answers", len(all))
	}
}
