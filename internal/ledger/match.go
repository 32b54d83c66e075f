package ledger

import (
	"fmt"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/note"
)

// Verdict is what the ledger makes of a note in the queue.
type Verdict string

// The verdicts.
const (
	// RunNew: nothing known stands against it.
	RunNew Verdict = "new"
	// RunSame: it is the file of a job that waits for its next attempt.
	RunSame Verdict = "same"
	// RunAgain: it is a failed or cancelled job that was brought back on purpose.
	RunAgain Verdict = "again"
	// Duplicate: a job with this very content is known.
	Duplicate Verdict = "duplicate"
	// Held: it looks like the echo of a known job; a person must decide.
	Held Verdict = "held"
)

// Decision is a verdict with the job that it rests on, and a sentence for the
// owner where the note is not run.
type Decision struct {
	Verdict Verdict
	Row     Row
	Reason  string
}

// known is a row that a candidate was matched with.
type known struct {
	Row
	body string // what it asked
	// asked says that a call of its present attempt has no known end: it may
	// have been billed, so recovery and not the matching decides about it.
	asked bool
}

// decide applies the rules for a note that may be the echo of a sync, the first
// that fits. rows are those that match by the note's id, or else by its name, or
// else by its content, newest first. File times play no part: they carry the
// clocks of other machines.
func decide(c Candidate, rows []known) Decision {
	if c.Force {
		return Decision{Verdict: RunNew}
	}
	for _, r := range rows { // the very file of a job that waits, edited or not
		switch r.State {
		case job.Waiting:
			if r.File == c.Name || c.Gone(r.File) {
				return Decision{Verdict: RunSame, Row: r.Row}
			}
		case job.Claiming, job.Active:
			if r.File == c.Name && !r.asked && !c.Running(r.ID) {
				return Decision{Verdict: RunSame, Row: r.Row}
			}
		}
	}
	for _, r := range rows { // dragged back from the failed folder
		if (r.State == job.Failed || r.State == job.Cancelled) && c.Run != "" && c.Run == r.Run {
			return Decision{Verdict: RunAgain, Row: r.Row}
		}
	}
	for _, r := range rows {
		if r.Hash == c.Hash && r.State != job.Failed && r.State != job.Cancelled {
			return Decision{Verdict: Duplicate, Row: r.Row, Reason: duplicateReason(r.Row)}
		}
	}
	for _, r := range rows {
		if c.NoteID != "" {
			return Decision{Verdict: Held, Row: r.Row, Reason: fmt.Sprintf("it has the id of job %s, which is %s", r.ID, r.State)}
		}
		if note.Similar(r.body, c.Body) {
			return Decision{Verdict: Held, Row: r.Row, Reason: fmt.Sprintf("it looks like an edit of job %s, which is %s", r.ID, r.State)}
		}
	}
	return Decision{Verdict: RunNew}
}

func duplicateReason(r Row) string {
	if r.Output != "" && r.State == job.Completed {
		return fmt.Sprintf("the same as job %s, whose answer is in %s", r.ID, r.Output)
	}
	return fmt.Sprintf("the same as job %s, which is %s", r.ID, r.State)
}
