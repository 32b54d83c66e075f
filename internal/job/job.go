// Package job says what a job is: the keys of a job note, their defaults and
// limits, the ids that name jobs and runs, and the one table of states.
//
// It promises that a Spec is complete and valid: whatever a note may say wrongly
// is refused here, with key and line, and nowhere else. A note can name no path,
// host, header or key, only a provider and a model that the owner configured.
// Nothing is stored here.
package job

import (
	"crypto/rand"
	"encoding/base32"
	"strings"
	"time"

	"davidcockson.com/runner/internal/provider"
)

// Type names how a job is run.
type Type string

// The job types.
const (
	Text     Type = "text"     // one call
	Chain    Type = "chain"    // the sections of the body, one after another
	Research Type = "research" // needs tools that do not exist yet; fails and says so
)

// Spec is what a job note asks for, defaults filled in.
type Spec struct {
	// ID is the note's own id, "" where it has none.
	ID string
	// Draft notes are never taken; of a draft no other field is checked.
	Draft bool
	Type  Type
	Title string
	Tags  []string
	// Provider and Model are where the first step goes; the Default fields say
	// that the config and not the note named them.
	Provider, Model               string
	ProviderDefault, ModelDefault bool
	System                        string
	Temperature                   *float64
	MaxTokens                     int
	// Timeout is 0 for the config's own limit.
	Timeout time.Duration
	// RetryNever makes a call at most once: a call that may have been billed is
	// not sent again.
	RetryNever bool
	// Priority: higher goes first; 0 is the middle.
	Priority int
	// NotBefore is zero for at once.
	NotBefore time.Time
	// Context lists the notes to be given before the first prompt, as wikilinks, in
	// the note's order.
	Context []string
	// Lines holds the line of the file, from 1, on which each link of Context and
	// each embed of the body stands first, by its text; nil without any. It is for
	// error texts: an embed that is no link in its own step may be missing.
	Lines map[string]int
	// Preamble is given to every step; Steps has at least one entry.
	Preamble string
	Steps    []Step
	// Unknown lists keys that we keep and do not know.
	Unknown []string
}

// Step is one provider call of a job.
type Step struct {
	// Title is the section's heading, "" for a text job.
	Title    string `json:"title,omitempty"`
	Prompt   string `json:"prompt"`
	Provider string `json:"provider"`
	Model    string `json:"model"`
}

// Brief is the Spec without its texts, for lists.
func (s Spec) Brief() Spec {
	s.System, s.Preamble = "", ""
	s.Context, s.Lines = nil, nil
	steps := make([]Step, len(s.Steps))
	for i, step := range s.Steps {
		steps[i] = Step{Title: step.Title, Provider: step.Provider, Model: step.Model}
	}
	s.Steps = steps
	return s
}

// Job is all that an executor needs: it sees neither vault nor ledger.
type Job struct {
	ID      string `json:"id"`
	Run     string `json:"run"`
	Attempt int    `json:"attempt"`
	Type    Type   `json:"type"`

	System      string   `json:"system,omitempty"`
	Temperature *float64 `json:"temperature,omitempty"`
	MaxTokens   int      `json:"max_tokens,omitempty"`
	Preamble    string   `json:"preamble,omitempty"`
	Steps       []Step   `json:"steps"`
	// Stored holds the answers of an earlier attempt or run by step, from the
	// first step on.
	Stored []StoredStep `json:"stored,omitempty"`
}

// StoredStep is an answer that was paid for already.
type StoredStep struct {
	// Hash is of the request that it answered.
	Hash   string          `json:"hash"`
	Answer provider.Answer `json:"answer"`
}

// StepResult is the answer to one step.
type StepResult struct {
	Step   Step            `json:"step"`
	Hash   string          `json:"hash"`
	Answer provider.Answer `json:"answer"`
	// Reused says that the answer was stored by an earlier attempt.
	Reused bool `json:"reused,omitempty"`
}

// Result is what an execution brings: the answers by step, as far as it came.
type Result struct {
	Steps []StepResult `json:"steps"`
	// Anew is the number, from 1, of the first step whose stored answer no
	// longer counted because what would be sent had changed; 0 if none.
	Anew int `json:"anew,omitempty"`
}

// NewID makes an id for a job whose note has none: UTC time to the second, then
// 30 random bits. It holds only [a-z0-9-].
func NewID(now time.Time) string {
	return now.UTC().Format("20060102-150405-") + random()
}

// NewRun makes the id of one run of a job: 30 random bits, [a-z2-7].
func NewRun() string { return random() }

func random() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))[:6]
}
