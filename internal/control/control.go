// Package control is how one process of ours asks another: the one that holds the
// vault serves an Office over runner.sock, commands and pages call it by a Client,
// which is an Office itself.
//
// It promises that only the owner's user can connect (mode 0600 from the first
// moment), that a socket is taken over only when nothing answers on it, and that
// every refusal reaches the caller as the *Error it was. What a request holds is
// given back when the request ends, however it ends: a caller that dies loses its
// place at a provider at once. When the server stops, held-open requests are told.
//
// A socket that is absent or dead is ErrNoWorker. Nothing is stored here.
package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"davidcockson.com/runner/internal/provider"
)

// Job is one line of a list, as it is printed for scripts. Times that are not
// known are left out.
type Job struct {
	ID   string `json:"id"`
	Name string `json:"name"` // of the note
	// State is waiting, held, duplicate, active, completed, failed or cancelled.
	State    string `json:"state"`
	Reason   string `json:"reason,omitempty"` // why it is in that state, as a sentence
	JobType  string `json:"job_type,omitempty"`
	Provider string `json:"provider,omitempty"`
	Model    string `json:"model,omitempty"`
	Title    string `json:"title,omitempty"`
	Run      string `json:"run,omitempty"`
	// Attempt counts from 1, 0 before the first.
	Attempt  int `json:"attempt"`
	Priority int `json:"priority"`
	// Folder is where the note lies in the vault.
	Folder    string    `json:"folder,omitempty"`
	FirstSeen time.Time `json:"first_seen,omitzero"`
	NotBefore time.Time `json:"not_before,omitzero"`
	Started   time.Time `json:"started,omitzero"`
	Finished  time.Time `json:"finished,omitzero"`
	// Output is the path of the output note in the vault.
	Output string `json:"output,omitempty"`
	// Step of Steps is done or being done, both 0 where a job has none.
	Step  int    `json:"step,omitempty"`
	Steps int    `json:"steps,omitempty"`
	Trace string `json:"trace,omitempty"` // a URL
}

// Detail is all that is known of a job.
type Detail struct {
	Job
	Error string `json:"error,omitempty"`
	Calls []Call `json:"calls"`
}

// Call is one call at a provider that was made, or begun, for a job.
type Call struct {
	Run     string `json:"run,omitempty"`
	Step    int    `json:"step"`
	Attempt int    `json:"attempt"`
	// Try counts from 1 within an attempt.
	Try      int    `json:"try"`
	Provider string `json:"provider"`
	Model    string `json:"model"`
	// State is intent, answered or failed.
	State string `json:"state"`
	// Billed says that the call may have cost something.
	Billed  bool          `json:"billed"`
	Read    int           `json:"read,omitempty"`    // tokens
	Written int           `json:"written,omitempty"` // tokens
	Started time.Time     `json:"started,omitzero"`
	Took    time.Duration `json:"took_ns,omitempty"`
	Reason  string        `json:"reason,omitempty"`
}

// Filter chooses jobs of a list.
type Filter struct {
	// States are those wanted; none wants all.
	States []string
	// Limit is how many at most; 0 leaves it to the office.
	Limit int
}

// Status is the heartbeat of the process that holds the vault.
type Status struct {
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	LastPoll time.Time `json:"last_poll,omitzero"`
	Claiming bool      `json:"claiming"`
	// Reason is why nothing is claimed, "" while Claiming.
	Reason string          `json:"reason,omitempty"`
	Vault  string          `json:"vault"`
	Lines  []provider.Line `json:"lines"`
	Hosts  []HostState     `json:"hosts"`
}

// HostState is how a provider's server was when it was last looked at.
type HostState struct {
	Provider string    `json:"provider"`
	State    string    `json:"state"` // up, down or unknown
	Since    time.Time `json:"since,omitzero"`
	Reason   string    `json:"reason,omitempty"`
}

// Office is what the process that holds the vault does for others. A ref is a
// job's id, its note's name, or the beginning of an id that fits one job alone.
// An error that the caller shall read is an *Error; of any other it learns only
// that it happened. Implementations are safe for concurrent use.
type Office interface {
	List(ctx context.Context, f Filter) ([]Job, error)
	Show(ctx context.Context, ref string) (Detail, error)
	Cancel(ctx context.Context, ref string) (Job, error)
	Retry(ctx context.Context, ref string) (Job, error)
	Status(ctx context.Context) (Status, error)
}

// Code says what kind of refusal an Error is.
type Code string

// The codes.
const (
	NotFound  Code = "not_found" // no such job, stream or provider
	Ambiguous Code = "ambiguous" // the ref fits more than one job
	Conflict  Code = "conflict"  // not in the state the job is in
	Refused   Code = "refused"   // never
	Invalid   Code = "invalid"   // the request itself is wrong
	Busy      Code = "busy"      // too many requests are held open
	Stopping  Code = "stopping"  // the server ends
	Slow      Code = "slow"      // the reader was cut; it may resume
	Internal  Code = "internal"  // the server's log says more
)

// Error is a refusal as it travels over the socket.
type Error struct {
	Code Code   `json:"code"`
	Text string `json:"text"` // a sentence for the owner
}

// Error returns the text.
func (e *Error) Error() string { return e.Text }

// status is the HTTP status under which the error travels. Only people who read
// the wire look at it.
func (e *Error) status() int {
	switch e.Code {
	case NotFound:
		return http.StatusNotFound
	case Ambiguous, Conflict:
		return http.StatusConflict
	case Refused:
		return http.StatusForbidden
	case Invalid:
		return http.StatusBadRequest
	case Busy, Stopping:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

var (
	// ErrNoWorker is returned by a Client when nothing answers on the socket.
	ErrNoWorker = errors.New("no worker runs here: start one with `runner worker` or `runner up`")
	// ErrInUse is returned by Serve when another process answers on the socket.
	ErrInUse = errors.New("another runner answers on the control socket: stop it first")
)

// errorf makes an *Error.
func errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}
