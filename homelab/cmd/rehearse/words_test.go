package main

import (
	"errors"
	"strings"
	"testing"

	"davidcockson.com/runner/homelab/internal/rehearsal"
)

const output = `TASK [common : Look] ***
ok: [vps]

TASK [common : Write the variables of contabo] ***
changed: [vps]

TASK [runner : Bring the containers up] ***
fatal: [vps]: FAILED! => {"msg": "container runner-1 is unhealthy"}
`

func TestComplaintIsTheTaskThatFailedAndWhatItSaid(t *testing.T) {
	got := complaint(output)
	if !strings.Contains(got, "Bring the containers up") || !strings.Contains(got, "runner-1 is unhealthy") || strings.Contains(got, "Look") {
		t.Error(got)
	}
	if got := complaint("ERROR! no inventory was parsed"); !strings.Contains(got, "no inventory") {
		t.Errorf("without a task: %q", got)
	}
}

func TestChangesNamesTheTasksThatChanged(t *testing.T) {
	if got := changes(output); got != "common : Write the variables of contabo" {
		t.Errorf("%q", got)
	}
}

func TestTailIsOneLine(t *testing.T) {
	if got := tail("a\nb\nc\n", 2); got != "b / c" {
		t.Errorf("%q", got)
	}
	if got := tail("a", 5); got != "a" {
		t.Errorf("%q", got)
	}
}

func TestALastLineIsOneLine(t *testing.T) {
	if got := oneLine(errors.Join(errors.New("NOT REHEARSED: killed"), errors.New("too late"))); got != "NOT REHEARSED: killed / too late" {
		t.Errorf("%q", got)
	}
}

func TestTheLastRowTellsWhatIsLeft(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		folder string
		err    error
		want   string
	}{
		"all is gone":             {dir + "/none", nil, "pass"},
		"the folder is there":     {dir, nil, "FAIL"},
		"it could not be removed": {dir + "/none", errors.New("device or resource busy"), "FAIL"},
	} {
		if row := cleanRow(rehearsal.State{Folder: c.folder}, c.err, 0); row.Result != c.want {
			t.Errorf("%s: %+v", name, row)
		}
	}
}
