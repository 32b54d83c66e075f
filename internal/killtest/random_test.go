package killtest

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"testing"
	"time"

	"davidcockson.com/runner/internal/peertest"
)

// TestKillsAtRandomMoments ends the worker again and again while notes stream in,
// at its start too. Then it may finish.
func TestKillsAtRandomMoments(t *testing.T) {
	t.Parallel()
	w := newWorld(t, orders{Guard: 5 * time.Millisecond, Think: 15 * time.Millisecond})
	interrupted := regexp.MustCompile("^interrupted 3 times$")
	dropped := 0
	drop := func() {
		dropped++
		e := textNote(fmt.Sprintf("text-%d.md", dropped), fmt.Sprintf("text %d.", dropped))
		if dropped%2 == 0 {
			e = chainNote(fmt.Sprintf("chain-%d.md", dropped), fmt.Sprintf("chain %d.", dropped))
		}
		e.failure = interrupted
		w.drop(e)
	}
	kills := peertest.Soak(t, 40, 1000)
	for n := range kills {
		p := w.start()
		if n%3 == 0 {
			p.must("booting")
		} else {
			p.must("ready")
		}
		kill := time.NewTimer(rand.N(60 * time.Millisecond))
		for range 2 {
			drop()
		}
		<-kill.C
		p.kill()
		if n%50 == 49 { // what is there is checked now, and does not grow without end
			w.finish()
			if err := w.check(); err != nil {
				t.Fatalf("after %d kills: %v\n%s", n+1, err, w.state())
			}
		}
	}
	w.finish()
	if err := w.check(); err != nil {
		t.Fatalf("after %d kills: %v\n%s", kills, err, w.state())
	}
}
