package job

import (
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write docs/states.md anew")

// states are all of them; "" is a job without a row.
var states = []State{"", Waiting, Held, Claiming, Active, Completed, Failed, Cancelled}

var events = []Event{Claim, Begin, PutBack, Complete, Fail, Cancel, Hold, Retry}

func TestNextFollowsTheTableAndNothingElse(t *testing.T) {
	want := map[State]map[Event]State{
		"":        {Claim: Claiming, Fail: Failed, Cancel: Cancelled},
		Waiting:   {Claim: Claiming, Fail: Failed, Complete: Completed, Cancel: Cancelled},
		Held:      {Retry: Waiting, Fail: Failed, Complete: Completed, Cancel: Cancelled},
		Claiming:  {Begin: Active, PutBack: Waiting, Fail: Failed, Complete: Completed, Cancel: Cancelled, Hold: Held},
		Active:    {PutBack: Waiting, Complete: Completed, Fail: Failed, Cancel: Cancelled, Hold: Held},
		Completed: {},
		Failed:    {Retry: Waiting},
		Cancelled: {Retry: Waiting},
	}
	for _, from := range states {
		for _, event := range events {
			to, err := Next(from, event)
			if want := want[from][event]; to != want || (err == nil) != (want != "") {
				t.Errorf("%q after %q: %q, %v; want %q", from, event, to, err, want)
			}
		}
	}
}

func TestTheTableHasEachRowOnceAndOnlyKnownWords(t *testing.T) {
	seen := make(map[transition]bool)
	known := make(map[State]bool)
	for _, s := range states {
		known[s] = true
	}
	for _, row := range transitions() {
		key := transition{from: row.from, event: row.event}
		if seen[key] {
			t.Errorf("%q takes %q twice", row.from, row.event)
		}
		seen[key] = true
		if !known[row.from] || !known[row.to] || row.to == "" || row.why == "" {
			t.Errorf("the row %+v has an unknown state or no reason", row)
		}
	}
}

func TestEveryStateCanBeReachedAndLeft(t *testing.T) {
	reached := map[State]bool{"": true}
	for grew := true; grew; {
		grew = false
		for _, row := range transitions() {
			if reached[row.from] && !reached[row.to] {
				reached[row.to], grew = true, true
			}
		}
	}
	for _, s := range states {
		if !reached[s] {
			t.Errorf("no job can become %q", s)
		}
		if s.Final() {
			continue
		}
		ends := false
		for _, row := range transitions() {
			ends = ends || row.from == s && row.to.Final()
		}
		if s != "" && !ends {
			t.Errorf("a job that is %q cannot end", s)
		}
	}
}

func TestOnlyARetryLeavesAFinalState(t *testing.T) {
	finals := 0
	for _, s := range states {
		if s.Final() {
			finals++
		}
	}
	if finals != 3 {
		t.Errorf("%d final states, want 3", finals)
	}
	for _, row := range transitions() {
		if row.from.Final() && row.event != Retry {
			t.Errorf("%q takes %q", row.from, row.event)
		}
		if row.from == Completed {
			t.Errorf("a completed job takes %q", row.event)
		}
	}
}

func TestTheDocumentIsPrintedFromTheTable(t *testing.T) {
	const path = "../../docs/states.md"
	if *update {
		if err := os.WriteFile(path, []byte(Diagram()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != Diagram() {
		t.Error("docs/states.md differs from the table; run go test ./internal/job -update")
	}
}
