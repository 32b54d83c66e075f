package worker

import (
	"context"
	"errors"
	"time"

	"davidcockson.com/runner/internal/ledger"
)

// repair is a job whose record and file may not agree, to be looked at again.
type repair struct {
	due    time.Time
	pause  time.Duration
	ending *ending
}

// longestPause is the longest time between two looks at such a job.
const longestPause = 30 * time.Second

// later has a job looked at again, after a time that grows with each call, at
// least d.
func (w *Worker) later(id string, d time.Duration, end *ending) {
	p := w.repairs[id]
	if p == nil {
		p = &repair{pause: w.o.Poll / 2}
		w.repairs[id] = p
	}
	if end != nil {
		p.ending = end
	}
	p.pause = min(2*p.pause, longestPause)
	p.due = time.Now().Add(max(d, p.pause))
}

// goneLong says whether a job's note has been nowhere for so long that it is not
// just being replaced.
func (w *Worker) goneLong(id string) bool {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	since, ok := w.gone[id]
	if !ok {
		w.gone[id] = now
		return false
	}
	if now.Sub(since) < vanished {
		return false
	}
	delete(w.gone, id)
	return true
}

// repair looks again at the jobs for which that is due.
func (w *Worker) repair(ctx context.Context, now time.Time) {
	for id, p := range w.repairs {
		if p.due.After(now) || w.runOf(id) != nil {
			continue
		}
		row, err := w.o.Ledger.Get(ctx, id)
		if errors.Is(err, ledger.ErrUnknown) || err == nil && row.Settled {
			delete(w.repairs, id)
			continue
		}
		if err != nil {
			w.o.Log.Error("repair", "job", id, "error", err)
			w.later(id, 0, nil)
			continue
		}
		r := outcome{name: row.File, repair: row.ID}
		if p.ending != nil && !row.State.Final() && row.Ref() == p.ending.row.Ref() {
			w.endAs(ctx, *p.ending, &r)
		} else {
			w.guarded(&r, func() { w.mend(ctx, row, false, &r) })
		}
		switch {
		case r.repair != "":
			w.later(id, 0, r.ending)
		default:
			delete(w.repairs, id)
		}
		if r.row.ID != "" {
			w.waitsAs(r.row)
		}
	}
}
