package job

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestIDsSayWhenAndDiffer(t *testing.T) {
	now := time.Date(2026, 11, 24, 1, 2, 3, 0, time.FixedZone("", 2*3600))
	seen := make(map[string]bool)
	for range 1000 {
		id, run := NewID(now), NewRun()
		if !regexp.MustCompile(`^20261123-230203-[a-z2-7]{6}$`).MatchString(id) {
			t.Fatalf("id %q", id)
		}
		if !regexp.MustCompile(`^[a-z2-7]{6}$`).MatchString(run) {
			t.Fatalf("run %q", run)
		}
		seen[id], seen[run] = true, true
	}
	if len(seen) < 1999 { // 30 bits: two of a thousand rarely meet
		t.Errorf("%d different ids, want 2000", len(seen))
	}
}

func TestABriefHasNoTextsAndLeavesTheSpecAlone(t *testing.T) {
	spec := Spec{Title: "kept", System: "long", Preamble: "long", Steps: []Step{{Title: "One", Prompt: "long", Provider: "p", Model: "m"}}}
	brief := spec.Brief()
	data, err := json.Marshal(brief)
	if err != nil || strings.Contains(string(data), "long") {
		t.Errorf("the brief %s, %v", data, err)
	}
	if brief.Title != "kept" || brief.Steps[0] != (Step{Title: "One", Provider: "p", Model: "m"}) {
		t.Errorf("the brief lost something: %+v", brief)
	}
	if spec.System != "long" || spec.Preamble != "long" || spec.Steps[0].Prompt != "long" {
		t.Errorf("the spec lost its texts: %+v", spec)
	}
}
