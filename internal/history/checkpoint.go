package history

import (
	"context"
	"time"

	"davidcockson.com/runner/internal/sqlite"
)

const (
	// checkpointPause bounds what a power loss may take.
	checkpointPause = 5 * time.Second
	// idleLog is the size in bytes from which a log that nobody writes to is emptied.
	idleLog = 4 << 20
	// mostLog is the size from which it is emptied in any case: writers that never
	// pause keep it from beginning anew.
	mostLog = 64 << 20
)

// Checkpoint syncs what is committed and folds it into the file, on a connection
// of its own: nobody waits for it.
func (h *History) Checkpoint(ctx context.Context) error { return h.db.Checkpoint(ctx, sqlite.Passive) }

// Run makes a checkpoint every few seconds if something was written, until ctx
// ends, and returns nil then. One that fails is logged and made again: nothing
// that is committed depends on it but after a power loss.
func (h *History) Run(ctx context.Context) error {
	tick := time.NewTicker(checkpointPause)
	defer tick.Stop()
	var seen int64 // the commits at the last checkpoint
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		commits := h.commits.Load()
		if err := h.tidy(ctx, commits == seen); err != nil {
			if ctx.Err() == nil {
				h.Log.WarnContext(ctx, "checkpoint of the chat history failed", "reason", err)
			}
			continue
		}
		seen = commits
	}
}

// tidy makes the checkpoint that is due; idle says that nothing was written since
// the last.
func (h *History) tidy(ctx context.Context, idle bool) error {
	if !idle {
		if err := h.Checkpoint(ctx); err != nil {
			return err
		}
	}
	size, err := h.db.LogSize()
	if err != nil {
		return err
	}
	if size > mostLog || idle && size > idleLog {
		return h.db.Checkpoint(ctx, sqlite.Truncate)
	}
	return nil
}
