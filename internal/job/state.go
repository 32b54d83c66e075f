package job

import (
	"fmt"
	"strings"
)

// State is where the ledger says a job stands. The words are those that list
// prints, but for claiming, which it prints as active.
type State string

// The states. What a note in the queue shows before its claim (waiting, held,
// duplicate) is not in the ledger, since nothing has been promised yet.
const (
	// Waiting: the job is known and its note lies in the queue, put back by us
	// or by a retry.
	Waiting State = "waiting"
	// Held: a person must decide; the note stays where it is.
	Held State = "held"
	// Claiming: the row is written, the move to the active folder may have
	// happened or not.
	Claiming State = "claiming"
	// Active: an attempt runs, or ran when the process ended.
	Active State = "active"
	// Completed: the output is durable.
	Completed State = "completed"
	// Failed: it ended with a reason.
	Failed State = "failed"
	// Cancelled: the owner ended it.
	Cancelled State = "cancelled"
)

// Final says whether nothing moves a job on by itself.
func (s State) Final() bool { return s == Completed || s == Failed || s == Cancelled }

// Event is what moves a job from one state to another.
type Event string

// The events, each with who causes it.
const (
	Claim    Event = "claim"    // the poller, before it moves the note
	Begin    Event = "begin"    // the executor, once the note is in the active folder
	PutBack  Event = "put back" // the executor at a stop or an unreachable host; recovery
	Complete Event = "complete" // the executor, once the output is durable
	Fail     Event = "fail"     // the executor or recovery, with a reason
	Cancel   Event = "cancel"   // the owner
	Hold     Event = "hold"     // recovery, where a call may have been paid already
	Retry    Event = "retry"    // the owner, also by dragging a failed note back
)

// transition is one row of the state table.
type transition struct {
	from  State
	event Event
	to    State
	why   string
}

// transitions is the one table of states; "" stands for a job that has no row.
func transitions() []transition {
	return []transition{
		{"", Claim, Claiming, "a finished note in the queue has its turn"},
		{"", Fail, Failed, "an unclaimed note is wrong, or its host was away too long"},
		{"", Cancel, Cancelled, "the owner discarded an unclaimed note"},
		{Waiting, Claim, Claiming, "a job that was put back has its turn"},
		{Claiming, Begin, Active, "the note is in the active folder and is what was read"},
		{Claiming, PutBack, Waiting, "the note changed under the claim, or the process ended"},
		{Active, PutBack, Waiting, "a stop, an unreachable host, or an interrupted attempt"},
		{Active, Complete, Completed, "the output note is durable"},
		{Claiming, Fail, Failed, "the note is gone or cannot be read back"},
		{Active, Fail, Failed, "the provider, a limit or the job itself gave a reason"},
		{Waiting, Fail, Failed, "the note is gone, or its host was away too long"},
		{Held, Fail, Failed, "the note is gone"},
		{Claiming, Complete, Completed, "the note was found in the completed folder"},
		{Waiting, Complete, Completed, "the note was found in the completed folder"},
		{Held, Complete, Completed, "the note was found in the completed folder"},
		{Waiting, Cancel, Cancelled, "the owner said so"},
		{Held, Cancel, Cancelled, "the owner said so"},
		{Claiming, Cancel, Cancelled, "the owner said so"},
		{Active, Cancel, Cancelled, "the owner said so; the call was stopped"},
		{Claiming, Hold, Held, "the ledger came from a backup"},
		{Active, Hold, Held, "the ledger came from a backup"},
		{Held, Retry, Waiting, "the owner said so"},
		{Failed, Retry, Waiting, "the owner said so, or dragged the note back"},
		{Cancelled, Retry, Waiting, "the owner said so, or dragged the note back"},
	}
}

// Next returns the state that an event leads to from another, and an error
// where the table has no such row.
func Next(from State, event Event) (State, error) {
	for _, t := range transitions() {
		if t.from == from && t.event == event {
			return t.to, nil
		}
	}
	return "", fmt.Errorf("a job that is %q cannot take %q", from, event)
}

// Diagram prints the state table as the page in docs/states.md.
func Diagram() string {
	name := func(s State) string {
		if s == "" {
			return "(no row)"
		}
		return string(s)
	}
	var b strings.Builder
	b.WriteString("# The states of a job\n\nPrinted from the table in `internal/job/state.go`; a test keeps it so.\n\n")
	b.WriteString("```mermaid\nstateDiagram-v2\n")
	for _, t := range transitions() {
		from := string(t.from)
		if from == "" {
			from = "[*]"
		}
		fmt.Fprintf(&b, "    %s --> %s: %s\n", from, t.to, t.event)
	}
	b.WriteString("```\n\n| from | event | to | when |\n| --- | --- | --- | --- |\n")
	for _, t := range transitions() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name(t.from), t.event, t.to, t.why)
	}
	return b.String()
}
