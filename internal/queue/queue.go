// Package queue is the folder queue: what lies in it, when a note is finished,
// and the moves that take it to the active folder and to its end.
//
// It promises that a note is offered only after it has lain unchanged for the
// guard's time on this process's own clock (a synced file carries its origin's
// time, so file times prove nothing) and its whole content was read and found
// complete; that every move is one atomic step that never replaces; and that a
// note which changed under a claim goes back. What is no job note is shown, never
// run. It knows files only, no ledger; nothing is stored but the notes.
package queue

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/vault"
)

// The folders of the vault that make the queue.
const (
	Waiting   = "_queue"
	Active    = "_active"
	Completed = "_completed"
	Failed    = "_failed"
	Outputs   = "runner-outputs"
)

// Folders lists the five folders that must exist.
func Folders() []string { return []string{Waiting, Active, Completed, Failed, Outputs} }

// Status says what the scanner makes of a file in the queue folder.
type Status string

// The statuses.
const (
	Settling   Status = "settling"   // it has not lain still for the guard's time
	Ready      Status = "ready"      // finished and valid
	Draft      Status = "draft"      // its owner has not unticked draft
	Unfinished Status = "unfinished" // something is missing; it waits as long as that lasts
	Wrong      Status = "wrong"      // it can never run as it is; it fails once Due has come
	Ignored    Status = "ignored"    // no job note: a link, a folder, a conflict copy
	Gone       Status = "gone"       // missing since the last look; it may be in mid-replacement
	Taken      Status = "taken"      // its claim is under way
)

// Item is a file in the queue folder as it was last seen. Items are owned by the
// one goroutine that scans.
type Item struct {
	Name   string
	Status Status
	// Reason is why it does not run, "" for Ready and Settling.
	Reason string
	// FirstSeen is when the name was first seen; it keeps its place in line by it.
	FirstSeen time.Time
	// Since is when this very state of the file was first seen.
	Since time.Time
	// Due is when the status ends by itself, zero if never.
	Due time.Time
	// Spec is what the note asks for, without the prompts; of a Ready note.
	Spec job.Spec
	// Run is the note's run key, Hash its content's hash, Sum the file's.
	Run, Hash string
	Sum       [sha256.Size]byte

	info vault.Info
	// place is FirstSeen from the queue's beginning on, negative if an earlier
	// process saw it first. Times with and without a reading of the monotonic clock
	// have no one order once the wall clock was set.
	place time.Duration
}

// Queue scans the queue folder. Its scanning methods are for one goroutine;
// Load, Take and Put are safe for concurrent use.
type Queue struct {
	vault *vault.Vault
	guard time.Duration
	began time.Time
	rules job.Rules
	items map[string]*Item
	// open holds the names whose status ends by itself, so that a look at what is
	// due costs nothing for the others.
	open map[string]struct{}
	// ready is in the order of work: priority, then first seen, then name.
	ready []*Item
}

const (
	// patience is how many guard times a wrong note lies unchanged before it
	// fails: Syncthing sends a file that is being typed in at least every minute,
	// so less would pull a note from under its owner's hands.
	patience = 60
	// replacing is how long a name may be missing: Syncthing unlinks the old file
	// before it renames the new one into its place.
	replacing = 5 * time.Second
	// mostReads bounds the files that one call of Advance reads.
	mostReads = 256
)

// New returns a Queue over a vault.
func New(v *vault.Vault, guard time.Duration, rules job.Rules) *Queue {
	return &Queue{vault: v, guard: guard, began: time.Now(), rules: rules, items: make(map[string]*Item), open: make(map[string]struct{})}
}

// SawFirst tells from when on a note is known, from an earlier process.
func (q *Queue) SawFirst(name string, at time.Time) {
	if it, ok := q.items[name]; ok && at.Before(it.FirstSeen) {
		q.unready(it)
		it.FirstSeen, it.place = at, at.Sub(q.began)
		if it.Status == Ready {
			q.insert(it)
		}
	}
}

// Scan looks at the whole folder.
func (q *Queue) Scan(now time.Time) error {
	entries, err := q.vault.List(Waiting)
	if err != nil {
		return fmt.Errorf("list %s: %w", Waiting, err)
	}
	present := make(map[string]bool, len(entries))
	for _, e := range entries {
		present[e.Name] = true
		q.look(e.Name, now)
	}
	for name, it := range q.items {
		if !present[name] {
			q.missing(it, now)
		}
	}
	return nil
}

// Refresh looks at some names again, of which something was heard.
func (q *Queue) Refresh(names []string, now time.Time) {
	for _, name := range names {
		q.look(name, now)
	}
}

// Conflict says whether a name is that of a copy which Syncthing makes of the
// losing one of two edits.
func Conflict(name string) bool { return strings.Contains(name, ".sync-conflict-") }

// Candidate says whether a name could be a job note's. Temporary files of
// Syncthing and of editors begin with a dot or a tilde.
func Candidate(name string) bool {
	return strings.HasSuffix(name, ".md") && !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "~")
}

func (q *Queue) look(name string, now time.Time) {
	if !Candidate(name) {
		return
	}
	it := q.items[name]
	info, err := q.vault.Lstat(path.Join(Waiting, name))
	if err != nil {
		if it != nil {
			q.missing(it, now) // an I/O error looks the same; the next scan tells
		}
		return
	}
	if it == nil {
		it = &Item{Name: name, FirstSeen: now, place: now.Sub(q.began)}
		q.items[name] = it
	}
	if it.Status == Taken {
		return
	}
	if it.info == info && it.Status != Gone && it.Status != "" {
		return
	}
	q.unready(it)
	q.anew(it, info, now)
}

// anew begins the guard of a file that is not what it was.
func (q *Queue) anew(it *Item, info vault.Info, now time.Time) {
	it.info, it.Since, it.Spec = info, now, job.Spec{}
	switch {
	case !info.Mode.IsRegular():
		q.set(it, Ignored, "it is not a regular file", time.Time{})
	case Conflict(it.Name):
		q.set(it, Ignored, "a conflict copy of two edits: compare it with the other one, keep one", time.Time{})
	default:
		q.set(it, Settling, "", now.Add(q.guard))
	}
}

func (q *Queue) missing(it *Item, now time.Time) {
	switch {
	case it.Status == Taken:
	case it.Status == Gone && now.Sub(it.Since) >= replacing:
		delete(q.items, it.Name)
		delete(q.open, it.Name)
	case it.Status != Gone:
		q.unready(it)
		it.Since = now
		q.set(it, Gone, "", now.Add(replacing))
	}
}

func (q *Queue) set(it *Item, s Status, reason string, due time.Time) {
	it.Status, it.Reason, it.Due = s, reason, due
	if due.IsZero() {
		delete(q.open, it.Name)
	} else {
		q.open[it.Name] = struct{}{}
	}
	if s == Ready {
		q.insert(it)
	}
}

// Advance reads the notes whose guard has ended, a bounded number of them, those
// first seen first, and returns the wrong ones whose patience has ended by name.
// more says that there are further notes to read at once.
func (q *Queue) Advance(now time.Time) (failed []*Item, more bool) {
	var due []*Item
	for name := range q.open {
		it := q.items[name]
		if it == nil || it.Due.After(now) {
			continue
		}
		switch it.Status {
		case Settling:
			due = append(due, it)
		case Wrong:
			failed = append(failed, it)
		case Gone:
			q.missing(it, now)
		}
	}
	slices.SortFunc(due, inLine)
	for _, it := range due[:min(len(due), mostReads)] {
		q.read(it, now)
		if it.Status == Wrong && !it.Due.After(now) {
			failed = append(failed, it)
		}
	}
	slices.SortFunc(failed, func(a, b *Item) int { return strings.Compare(a.Name, b.Name) })
	return failed, len(due) > mostReads
}

// Next is when Advance has something to do again, zero if nothing is open.
func (q *Queue) Next() time.Time {
	var next time.Time
	for name := range q.open {
		if it := q.items[name]; it != nil && (next.IsZero() || it.Due.Before(next)) {
			next = it.Due
		}
	}
	return next
}

// read decides what a file that lay still for the guard's time is.
func (q *Queue) read(it *Item, now time.Time) {
	loaded, err := q.Load(it.Name)
	if loaded.Info != (vault.Info{}) && loaded.Info != it.info {
		q.anew(it, loaded.Info, now)
		return
	}
	it.Run, it.Hash, it.Sum = loaded.Run, loaded.Hash, loaded.Sum
	if err == nil {
		it.Spec = loaded.Spec.Brief()
		if it.Spec.Draft {
			q.set(it, Draft, "it is a draft; untick draft to run it", time.Time{})
			return
		}
		q.set(it, Ready, "", time.Time{})
		return
	}
	if bad, ok := errors.AsType[*note.Error](err); ok {
		if bad.Kind == note.Unfinished {
			q.set(it, Unfinished, bad.Error(), time.Time{})
			return
		}
		q.set(it, Wrong, bad.Error(), q.Patience(it))
		return
	}
	if errors.Is(err, fs.ErrNotExist) {
		q.missing(it, now)
		return
	}
	// It cannot be read now: no fault of the note's. Look again after a while.
	it.Since = now
	q.set(it, Settling, fmt.Sprintf("it cannot be read: %v", err), now.Add(max(q.guard, time.Second)))
}

// Loaded is a note as it was read at one moment.
type Loaded struct {
	Data []byte
	Info vault.Info
	Sum  [sha256.Size]byte
	Note *note.Note
	Spec job.Spec
	// Run is the note's run key, Hash the hash of Content.
	Run, Hash string
}

// Load reads and parses a note in the queue. The error is a *note.Error where
// the note itself is at fault; Info is filled as soon as the file was opened.
func (q *Queue) Load(name string) (Loaded, error) { return q.load(path.Join(Waiting, name)) }

// LoadActive does the same for a note in the active folder.
func (q *Queue) LoadActive(name string) (Loaded, error) { return q.load(path.Join(Active, name)) }

func (q *Queue) load(name string) (Loaded, error) {
	var l Loaded
	var err error
	l.Data, l.Info, err = q.vault.Read(name, note.MaxSize)
	if errors.Is(err, vault.ErrTooLarge) {
		return l, &note.Error{Kind: note.Wrong, Reason: fmt.Sprintf("the file is larger than %d MiB", note.MaxSize>>20)}
	}
	if err != nil {
		return l, fmt.Errorf("read %s: %w", name, err)
	}
	l.Sum = sha256.Sum256(l.Data)
	if l.Note, err = note.Parse(l.Data); err != nil {
		return l, err
	}
	l.Hash = fmt.Sprintf("%x", sha256.Sum256(l.Note.Content()))
	if f, ok := l.Note.Field("run"); ok && !f.Null() {
		l.Run, _ = f.String() // ours; if it is no text it is nobody's run
	}
	l.Spec, err = job.Read(l.Note, q.rules)
	return l, err
}

// Items returns all that is known of the folder, in no order.
func (q *Queue) Items() map[string]*Item { return q.items }

// Item returns one file, nil if it is not there.
func (q *Queue) Item(name string) *Item { return q.items[name] }

// Ready returns the notes that may run, in the order of work. The slice changes
// with the next call of any scanning method.
func (q *Queue) Ready() []*Item { return q.ready }

// Patience is until when a note that is wrong may still be mended before it
// fails.
func (q *Queue) Patience(it *Item) time.Time { return it.Since.Add(patience * q.guard) }

// MarkTaken takes a note out of the line while it is claimed.
func (q *Queue) MarkTaken(it *Item) {
	q.unready(it)
	q.set(it, Taken, "", time.Time{})
}

// Release makes the scanner look at a taken note anew: as if it had never been
// seen but for its place in line.
func (q *Queue) Release(name string, now time.Time) {
	if it := q.items[name]; it != nil && it.Status == Taken {
		it.Status, it.info = "", vault.Info{}
		q.look(name, now)
		if it.Status == "" {
			q.set(it, Gone, "", now.Add(replacing))
		}
	}
}

// Left forgets a note that was claimed: a file of its name is another one.
func (q *Queue) Left(name string, now time.Time) {
	if it := q.items[name]; it != nil && it.Status == Taken {
		delete(q.items, name)
		q.look(name, now)
	}
}

// Restore puts a taken note that has not changed back into the line, without a
// new guard.
func (q *Queue) Restore(it *Item) {
	if it.Status == Taken {
		q.set(it, Ready, "", time.Time{})
	}
}

func order(a, b *Item) int {
	if a.Spec.Priority != b.Spec.Priority {
		return b.Spec.Priority - a.Spec.Priority
	}
	return inLine(a, b)
}

func inLine(a, b *Item) int {
	return cmp.Or(cmp.Compare(a.place, b.place), strings.Compare(a.Name, b.Name))
}

func (q *Queue) insert(it *Item) {
	i, found := slices.BinarySearchFunc(q.ready, it, order)
	if !found {
		q.ready = slices.Insert(q.ready, i, it)
	}
}

func (q *Queue) unready(it *Item) {
	if i, found := slices.BinarySearchFunc(q.ready, it, order); found {
		q.ready = slices.Delete(q.ready, i, i+1)
	}
}
