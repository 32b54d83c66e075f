package web

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
	"time"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/queue"
)

// jobView is a job as pages show it.
type jobView struct {
	control.Job
	// Path is its own page, Key a word that is an element's id.
	Path, Key string
	Live      jobLive
}

func viewOf(j control.Job) jobView {
	// A note in the queue folder goes by its name: two may say the same id.
	ref := j.ID
	if ref == "" || j.Folder == queue.Waiting {
		ref = j.Name
	}
	sum := sha256.Sum256([]byte(ref))
	return jobView{Job: j, Path: "/queue/jobs/" + url.PathEscape(ref), Key: hex.EncodeToString(sum[:8])}
}

func views(jobs []control.Job) []jobView {
	all := make([]jobView, len(jobs))
	for i, j := range jobs {
		all[i] = viewOf(j)
	}
	return all
}

// Heading is the job's title, or its note's name.
func (j jobView) Heading() string {
	if j.Title != "" {
		return j.Title
	}
	return strings.TrimSuffix(j.Name, ".md")
}

// Note is the path of the job's note in the vault, "" where that is not known.
func (j jobView) Note() string {
	if j.Folder == "" || j.Name == "" {
		return ""
	}
	return j.Folder + "/" + j.Name
}

// At is the step at which a running job is, from 1; 0 where it has none.
func (j jobView) At() int {
	if j.Live.Step > 0 {
		return j.Live.Step
	}
	return j.Step
}

// Took is how long the job ran, 0 unknown.
func (j jobView) Took() time.Duration {
	if j.Started.IsZero() || j.Finished.IsZero() {
		return 0
	}
	return j.Finished.Sub(j.Started)
}

// Ended, Open, CanRetry, NeedsHand and CanRun say what a page offers.
func (j jobView) Ended() bool    { return slices.Contains(endStates(), j.State) }
func (j jobView) Open() bool     { return !j.Ended() && !j.NeedsHand() }
func (j jobView) CanRetry() bool { return j.Ended() && j.State != string(job.Completed) }

// NeedsHand says that the job does not go on without its owner.
func (j jobView) NeedsHand() bool { return j.State == stateHeld || j.State == stateTwice }

// CanRun says that a job that is held would run, were it told to.
func (j jobView) CanRun() bool {
	return j.NeedsHand() && !(j.Folder == queue.Waiting && queue.Conflict(j.Name))
}

// Doing is in words what a running job is busy with.
func (l jobLive) Doing() string {
	if l.Words != "" {
		return l.Words
	}
	if l.Thinking {
		return "thinking"
	}
	return map[string]string{"waiting": "in line", "connecting": "connecting", "loading": "loading the model", "reading": "reading the prompt", "answering": "answering"}[string(l.Phase)]
}
