package killtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/sqlite"
)

// writeLedger is a child that takes job after job through the ledger alone, until
// it is killed. It says each step once its commit has returned.
func writeLedger(o orders) error {
	ctx := context.Background()
	l, err := ledger.Open(ctx, filepath.Join(o.State, "ledger.db"))
	if err != nil {
		return err
	}
	say("ready")
	for n := 0; ; n++ {
		if err := writeJob(ctx, l, fmt.Sprintf("%s-%d", o.StateID, n)); err != nil {
			return err
		}
	}
}

func writeJob(ctx context.Context, l *ledger.Ledger, id string) error {
	d, err := l.Claim(ctx, ledger.Candidate{
		Name: id + ".md", NoteID: id, Hash: id, Body: strings.Repeat(id+" ", 200),
		Spec: job.Spec{Type: job.Text, Steps: make([]job.Step, 1)},
		Gone: func(string) bool { return false }, Running: func(string) bool { return false },
	}, time.Now())
	if err != nil {
		return err
	}
	say("committed %s %s", id, job.Claiming)
	ref, err := l.Begin(ctx, d.Row.Ref(), id+".md", "out.md", time.Now())
	if err != nil {
		return err
	}
	say("committed %s %s", id, job.Active)
	call, err := l.Intend(ctx, ref, ledger.Call{Step: 1, Try: 1, Provider: "davas", Hash: id, Started: time.Now()}, ledger.Allowance{})
	if err != nil {
		return err
	}
	if err := l.Answer(ctx, ref, call, provider.Answer{Text: strings.Repeat("answer ", 500)}, ledger.Price{}, time.Now()); err != nil {
		return err
	}
	say("committed %s answered", id)
	if err := l.Complete(ctx, ref, job.Active, "out.md", "", time.Now(), nil); err != nil {
		return err
	}
	say("committed %s %s", id, job.Completed)
	return nil
}

// ranks orders what the writer says of a job.
var ranks = []string{string(job.Claiming), string(job.Active), "answered", string(job.Completed)}

// committed is how far the writer said that each job had come.
type committed map[string]int

func (c committed) hear(line string) {
	var id, what string
	if _, err := fmt.Sscanf(line, "committed %s %s", &id, &what); err == nil {
		c[id] = slices.Index(ranks, what)
	}
}

// missing says what of it a ledger lacks.
func (c committed) missing(path string) error {
	ctx := context.Background()
	if err := sqlite.Check(ctx, path); err != nil {
		return err
	}
	l, err := ledger.OpenReadOnly(ctx, path)
	if err != nil {
		return err
	}
	defer l.Close()
	for id, rank := range c {
		row, err := l.Get(ctx, id)
		if err != nil {
			return err
		}
		stored, err := l.Stored(ctx, id, "")
		if err != nil {
			return err
		}
		has := slices.Index(ranks, string(row.State))
		if has == 1 && len(stored) == 1 {
			has = 2
		}
		if has < rank || has == 3 && len(stored) == 0 {
			return fmt.Errorf("job %s is %s with %d answers; %s was committed", id, row.State, len(stored), ranks[rank])
		}
	}
	return nil
}

// TestAKillWhileTheLedgerIsWrittenLosesNoCommit also copies the ledger while it is
// written, and puts a copy back in the end.
func TestAKillWhileTheLedgerIsWrittenLosesNoCommit(t *testing.T) {
	w := newWorld(t, orders{Writer: true})
	file := filepath.Join(w.State, "ledger.db")
	known := make(committed)
	backup, inBackup := "", make(committed)
	for n := range peertest.Soak(t, 12, 300) {
		w.StateID = fmt.Sprintf("w%d", n)
		p := w.start()
		p.must("ready")
		var copied chan error
		if n%4 == 1 {
			known.hear(p.must("committed")) // so that it writes
			if backup != "" {
				os.Remove(backup)
			}
			backup, inBackup, copied = filepath.Join(t.TempDir(), "copy.db"), make(committed), make(chan error, 1)
			for id, rank := range known {
				inBackup[id] = rank
			}
			go func() { copied <- backUp(file, backup) }()
		}
		kill := time.After(rand.N(60 * time.Millisecond))
		var copyErr error
		for running := true; running; {
			select {
			case line, ok := <-p.lines:
				if !ok {
					t.Fatal("the writer ended by itself")
				}
				if strings.HasPrefix(line, "refused") {
					t.Fatal(line)
				}
				known.hear(line)
			case copyErr = <-copied:
				copied = nil
				running = kill != nil
			case <-kill:
				kill = nil
				running = copied != nil // a copy is made while it is written
			}
		}
		p.cmd.Process.Kill()
		for line := range p.lines {
			known.hear(line)
		}
		p.gone()
		if copyErr != nil {
			t.Fatalf("the copy: %v", copyErr)
		}
		if err := known.missing(file); err != nil {
			t.Fatalf("after kill %d: %v", n+1, err)
		}
		if backup != "" {
			if err := inBackup.missing(backup); err != nil {
				t.Fatalf("the copy: %v", err)
			}
		}
	}
	kept, err := sqlite.Restore(context.Background(), backup, file, len(ledger.Migrations()))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(inBackup.missing(file), known.missing(kept)); err != nil {
		t.Fatalf("after the restore: %v", err)
	}
	t.Logf("%d jobs were written", len(known))
}

func backUp(from, to string) error {
	l, err := ledger.OpenReadOnly(context.Background(), from)
	if err != nil {
		return err
	}
	defer l.Close()
	return l.Backup(context.Background(), to)
}
