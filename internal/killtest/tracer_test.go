package killtest

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/queue"
)

// TestATracerKillsAtSystemCalls has strace end the worker as it enters the n-th
// call that moves, names or syncs a file: what a fail point above the calls cannot
// reach, the ledger's own files too. strace counts the calls of each thread by
// itself and from the start of the process, so the kills fall at the start first.
func TestATracerKillsAtSystemCalls(t *testing.T) {
	t.Parallel()
	strace := peertest.Need(t, "strace")
	if out, err := exec.Command(strace, "-f", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("strace may not trace here: %v: %s", err, out)
		}
		t.Skipf("strace may not trace here: %v", err)
	}
	most := peertest.Soak(t, 6, 60)
	for _, call := range []string{"renameat2", "linkat", "fsync", "pwrite64"} {
		t.Run(call, func(t *testing.T) {
			w := newWorld(t, orders{})
			kills := 0
			for n := 1; n <= most; n++ {
				e := textNote(fmt.Sprintf("%s-%d.md", call, n), fmt.Sprintf("%s %d.", call, n))
				if n%2 == 0 {
					e = chainNote(e.name, fmt.Sprintf("%s %d.", call, n))
				}
				e.must = queue.Completed
				w.drop(e)
				p := w.start(strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n))
				p.order("settle")
				_, ended := p.await("settled")
				p.in.Close()
				p.gone() // the kill may also fall at the stop, where the ledger is closed
				if !ended {
					kills++
					w.finish()
				}
				if err := w.check(); err != nil {
					t.Fatalf("killed at call %d of %s: %v\n%s", n, call, err, w.state())
				}
			}
			if kills == 0 {
				t.Error("there was no kill")
			}
			t.Logf("%d kills", kills)
		})
	}
}
