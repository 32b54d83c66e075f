package killtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"davidcockson.com/runner/internal/peertest"
)

// TestTwoWorkersThatTakeAVaultAtOneMoment have a state folder each, and the vault
// has no owner yet: whoever goes on, no job is asked for twice.
func TestTwoWorkersThatTakeAVaultAtOneMoment(t *testing.T) {
	t.Parallel()
	for n := range peertest.Soak(t, 4, 200) {
		a := newWorld(t, orders{})
		for i := range 6 {
			a.drop(textNote(fmt.Sprintf("%d.md", i), fmt.Sprintf("round %d, job %d.", n, i)))
		}
		b := *a
		b.StateID, b.State = "other", filepath.Join(filepath.Dir(a.State), "other")
		if err := os.Mkdir(b.State, 0o700); err != nil {
			t.Fatal(err)
		}
		pa, pb := a.start(), b.start()
		var live []*process
		for _, p := range []*process{pa, pb} {
			for {
				line, ok := p.next()
				if !ok {
					break
				}
				if line == "ready" {
					live = append(live, p)
					break
				}
			}
		}
		if len(live) == 0 { // each stood in the other's way
			p := a.start()
			p.must("ready")
			live = append(live, p)
		}
		for _, p := range live {
			p.order("settle")
			p.must("settled")
		}
		for _, p := range live {
			p.stop()
		}
		if err := a.checkNotes(); err != nil {
			t.Fatalf("round %d: %v\n%s%s", n, err, a.state(), b.state())
		}
		data, err := os.ReadFile(a.Bill)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]bool)
		for line := range bytes.Lines(data) {
			var c charge
			if err := json.Unmarshal(line, &c); err != nil {
				t.Fatal(err)
			}
			if seen[c.Hash] {
				t.Fatalf("round %d: asked twice: %+v\n%s%s", n, c, a.state(), b.state())
			}
			seen[c.Hash] = true
		}
	}
}
