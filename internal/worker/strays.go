package worker

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"time"

	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
)

// stray is a file in the active folder that no job owns.
type stray struct {
	since  time.Time
	reason string
	info   vault.Info
}

// scanStrays finds the files in the active folder that no job owns. They may
// have been billed already and never run by themselves.
func (w *Worker) scanStrays(entries []vault.Entry, owned map[string]bool, claiming bool, now time.Time) {
	present := make(map[string]bool)
	var rows []ledger.Row
	read := false
	for _, e := range entries {
		if owned[e.Name] || strings.HasPrefix(e.Name, ".") || strings.HasPrefix(e.Name, "~") || !strings.HasSuffix(e.Name, ".md") {
			continue
		}
		present[e.Name] = true
		if _, known := w.strays[e.Name]; known || claiming {
			continue // what is being claimed has its row before it has its place
		}
		if !read {
			var err error
			if rows, err = w.o.Ledger.Unsettled(context.Background()); err != nil {
				w.o.Log.Error("look for the owners of active files", "error", err)
				return
			}
			read = true
		}
		if ownedBy(rows, e.Name) {
			continue
		}
		info, err := w.o.Vault.Lstat(path.Join(queue.Active, e.Name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		reason := "it lies in " + queue.Active + " and the ledger does not know it: it may have been billed already; retry runs it, cancel ends it"
		if queue.Conflict(e.Name) {
			reason = "a conflict copy of two edits: compare it with the other one, keep one"
		}
		w.strays[e.Name] = stray{since: now, reason: reason, info: info}
		w.o.Log.Warn("held", "note", e.Name, "from", queue.Active, "reason", reason)
	}
	for name := range w.strays {
		if !present[name] {
			delete(w.strays, name)
		}
	}
}

func ownedBy(rows []ledger.Row, file string) bool {
	for _, r := range rows {
		if r.File == file || vault.WithSuffix(r.File, r.Run) == file {
			return true
		}
	}
	return false
}
