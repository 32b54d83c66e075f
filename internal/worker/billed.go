package worker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
)

// unaccounted lists the calls of a job, of all its runs and attempts, that may have
// been billed and whose answer is not in a note that holds the given steps. Output
// note, failure callout and ping tell of these and no others.
func unaccounted(calls []ledger.Call, held []job.StepResult) []ledger.Call {
	type request struct {
		step int
		hash string
	}
	wanted := make(map[request]bool)
	for i, s := range held {
		if s.Answer.Text != "" || s.Answer.Thinking != "" {
			wanted[request{i + 1, s.Hash}] = true
		}
	}
	var left []ledger.Call
	for i := len(calls) - 1; i >= 0; i-- { // the newest call of a request is the one that the note holds
		c := calls[i]
		if r := (request{c.Step, c.Hash}); wanted[r] && c.Billed {
			delete(wanted, r)
			continue
		}
		if c.Billed {
			left = append([]ledger.Call{c}, left...)
		}
	}
	return left
}

// mostTold is how many calls a note lists.
const mostTold = 20

// describe tells of calls of a job, a line for each; run is the one that need not be
// named.
func describe(calls []ledger.Call, id, run string, location *time.Location) []string {
	var lines []string
	for i, c := range calls {
		if i == mostTold {
			return append(lines, fmt.Sprintf("and %d more; `runner show %s` lists all", len(calls)-i, id))
		}
		how := oneLine(c.Reason)
		switch c.State {
		case ledger.Intent:
			how = "no end is known"
		case ledger.Answered:
			how = "answered"
		}
		attempt := fmt.Sprintf("attempt %d", c.Attempt)
		if c.Run != run {
			attempt += " of run " + c.Run
		}
		if c.Try > 1 {
			attempt += fmt.Sprintf(", try %d", c.Try)
		}
		lines = append(lines, fmt.Sprintf("%s: step %d, %s, %s (%s): %s", dateTime(c.Started, location), c.Step, attempt, c.Provider, c.Model, how))
	}
	return lines
}

// account reads what a job that ends has had billed beside what its note, which
// holds the given steps, tells.
func (w *Worker) account(ctx context.Context, row ledger.Row, held []job.StepResult) []ledger.Call {
	if row.ID == "" {
		return nil
	}
	calls, err := w.o.Ledger.Calls(ctx, row.ID)
	if err != nil {
		w.o.Log.Error("look for calls that may have been billed", "job", row.ID, "error", err)
	}
	return unaccounted(calls, held)
}

// bullets makes lines a list within a callout.
func bullets(b *strings.Builder, lines []string) {
	for _, line := range lines {
		fmt.Fprintf(b, "> - %s\n", line)
	}
}
