package worker

import (
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/queue"
)

// TestTheTruthReplacesTheEstimateOfACap: what did not fit beside an open call runs
// once that call turned out cheaper.
func TestTheTruthReplacesTheEstimateOfACap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		costs(r.models["davas"], time.Minute) // 120 tokens, where 2,000 are reckoned with
		r.change = paid(ledger.Caps{DayTokens: limit(3000)})
		r.drop("a.md", textNote("alpha"))
		r.drop("b.md", textNote("beta"))
		began := time.Now()
		s := r.start()
		r.until("both complete", func() bool { return r.in(queue.Completed, "a.md") && r.in(queue.Completed, "b.md") })
		if took := time.Since(began); took > 10*time.Minute {
			t.Errorf("the second waits %s, with 120 of 3,000 tokens spent", took)
		}
		s.stop()
	})
}
