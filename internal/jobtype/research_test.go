package jobtype

import (
	"errors"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/provider"
)

func TestResearchFailsAndSaysWhatIsMissing(t *testing.T) {
	a := new(asker)
	j := job.Job{Type: job.Research, Steps: []job.Step{{Prompt: "What is new?", Provider: "p", Model: "m"}},
		Stored: []job.StoredStep{{Hash: "h", Answer: answer(1)}}}
	r, events, err := run(t, j, a)
	failure, ok := errors.AsType[*provider.Error](err)
	if !ok {
		t.Fatalf("%v, want a *provider.Error", err)
	}
	if failure.Kind != provider.Refused || failure.Sent || failure.Again() || failure.Error() != failure.Reason {
		t.Errorf("the failure is %+v", failure)
	}
	if !strings.Contains(failure.Reason, "search service") || !strings.Contains(failure.Advice, "text or chain") {
		t.Errorf("it says %q and advises %q", failure.Reason, failure.Advice)
	}
	if len(a.asked)+len(events)+len(r.Steps) != 0 {
		t.Errorf("it asked %v, showed %v and answered %v", a.asked, events, r.Steps)
	}
}
