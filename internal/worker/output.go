package worker

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/prepare"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
)

// finishPartial is the finish of an output note whose answer is not whole.
const finishPartial = "partial"

// mostOutput bounds an output note that is read back, in bytes.
const mostOutput = 256 << 20

// outputName names the output note of a run: UTC time, the title, and the run's
// id, which makes it the run's own.
func (w *Worker) outputName(row ledger.Row, spec job.Spec, now time.Time) string {
	title := spec.Title
	if title == "" {
		title = strings.TrimSuffix(row.Name, ".md")
	}
	return path.Join(queue.Outputs, now.UTC().Format("20060102T150405Z")+"-"+vault.Slug(title, 80)+"-"+row.Run+".md")
}

// writeOutput makes an output note. If its name is taken by a note of this very run
// with the same finish, that one stands; if by another, the name is changed.
func (w *Worker) writeOutput(name, run, finish string, data []byte) (string, error) {
	for n := 1; ; n++ {
		path := name
		if n > 1 {
			path = vault.WithSuffix(name, strconv.Itoa(n))
		}
		err := w.o.Vault.Write(path, data)
		if !errors.Is(err, fs.ErrExist) || n == mostNames {
			return path, err
		}
		if w.holdsRun(path, run) == finish {
			return path, nil
		}
	}
}

// mostNames bounds the names that are tried for an output note. They hold the
// run's id, so that a second one is rare already.
const mostNames = 9

// holdsRun returns the finish of the output note at name if it is of this run,
// "" if it is not or cannot be read.
func (w *Worker) holdsRun(name, run string) string {
	data, _, err := w.o.Vault.Read(name, mostOutput)
	if err != nil {
		return ""
	}
	// The answer may be larger than a note may be: the frontmatter tells.
	head, _, found := strings.Cut(string(data), "\n---\n")
	if !found {
		return ""
	}
	n, err := note.Parse([]byte(head + "\n---\n"))
	if err != nil {
		return ""
	}
	if f, ok := n.Field("run"); !ok || text(f) != run {
		return ""
	}
	f, ok := n.Field("finish")
	if !ok {
		return ""
	}
	return text(f)
}

func text(f note.Field) string {
	s, err := f.String()
	if err != nil {
		return ""
	}
	return s
}

// report is all that an output note is made of.
type report struct {
	note     string // the job's note, where it will lie
	row      ledger.Row
	spec     job.Spec
	result   job.Result
	calls    []ledger.Call
	finish   string // of the whole: stop or partial
	reason   string // why it is partial
	location *time.Location
	sources  []prepare.Source // the notes that were given as context
	trace    string           // where its trace is shown, "" for nowhere
}

// render makes an output note: what answered, what it took, the answer.
func render(r report) []byte {
	var b strings.Builder
	b.WriteString(note.Frontmatter(r.fields()))
	b.WriteString("\n")
	if r.finish == finishPartial {
		fmt.Fprintf(&b, "> [!warning] Not a whole answer\n> %s\n\n", oneLine(r.reason))
	}
	r.history(&b)
	if len(r.sources) > 0 {
		b.WriteString("> [!info]- Notes that were read\n")
		for _, s := range r.sources {
			name := s.Path
			if s.Heading != "" {
				name += "#" + s.Heading
			}
			fmt.Fprintf(&b, "> - %s: at least %d tokens, %d bytes, sha256 %s\n", oneLine(name), s.Tokens, s.Bytes, s.Hash)
		}
		b.WriteString("\n")
	}
	var thoughts strings.Builder
	for i, s := range r.result.Steps {
		title := s.Step.Title
		if title == "" {
			title = fmt.Sprintf("Step %d", i+1)
		}
		if r.spec.Type == job.Chain {
			fmt.Fprintf(&b, "## %s\n\n", title)
		}
		b.WriteString(strings.TrimSpace(s.Answer.Text))
		b.WriteString("\n\n")
		if s.Answer.Thinking == "" {
			continue
		}
		heading := "Thinking"
		if r.spec.Type == job.Chain {
			heading += ": " + title
		}
		fmt.Fprintf(&thoughts, "> [!quote]- %s\n%s\n\n", heading, quoted(strings.TrimSpace(s.Answer.Thinking)))
	}
	return []byte(strings.TrimRight(b.String()+thoughts.String(), "\n") + "\n")
}

func (r report) fields() []note.KV {
	var last job.StepResult
	var sent, read, written, window int
	var load, took time.Duration
	var digests, answered []string
	for _, s := range r.result.Steps {
		last = s
		sent += s.Answer.Usage.Estimate
		read += s.Answer.Usage.Read
		written += s.Answer.Usage.Written
		window = max(window, s.Answer.Context)
		load += s.Answer.Load
		took += s.Answer.Took
		answered = addNew(answered, s.Answer.Provider+"/"+s.Answer.Model)
		digests = addNew(digests, s.Answer.Digest)
	}
	title := r.spec.Title
	if title == "" {
		title = strings.TrimSuffix(r.row.Name, ".md")
	}
	finish := r.finish
	fields := []note.KV{
		{Key: "job", Value: link(r.note)},
		{Key: "job_id", Value: r.row.ID},
		{Key: "run", Value: r.row.Run},
		{Key: "job_type", Value: string(r.row.Type)},
		{Key: "title", Value: title},
		{Key: "provider", Value: r.row.Provider},
		{Key: "model", Value: r.row.Model},
		{Key: "answered_by", Value: answered},
	}
	var defaults []string
	if r.spec.ProviderDefault {
		defaults = append(defaults, "provider")
	}
	if r.spec.ModelDefault {
		defaults = append(defaults, "model")
	}
	if len(defaults) > 0 {
		fields = append(fields, note.KV{Key: "defaults", Value: defaults})
	}
	if len(digests) > 0 {
		fields = append(fields, note.KV{Key: "digest", Value: digests})
	}
	fields = append(fields,
		note.KV{Key: "tokens_sent_at_least", Value: sent},
		note.KV{Key: "tokens_read", Value: read},
		note.KV{Key: "tokens_written", Value: written},
	)
	if window > 0 {
		fields = append(fields, note.KV{Key: "context_size", Value: window})
	}
	fields = append(fields,
		note.KV{Key: "seconds", Value: seconds(took)},
		note.KV{Key: "load_seconds", Value: seconds(load)},
		note.KV{Key: "first_token_seconds", Value: seconds(last.Answer.FirstToken)},
	)
	if last.Answer.Rate > 0 {
		fields = append(fields, note.KV{Key: "tokens_per_second", Value: math.Round(last.Answer.Rate*10) / 10})
	}
	fields = append(fields,
		note.KV{Key: "steps", Value: len(r.result.Steps)},
		note.KV{Key: "attempt", Value: r.row.Attempt},
		note.KV{Key: "finish", Value: finish},
		note.KV{Key: "started", Value: dateTime(r.row.Started, r.location)},
	)
	if n := len(unaccounted(r.calls, r.result.Steps)); n > 0 {
		fields = append(fields, note.KV{Key: "earlier_calls_maybe_billed", Value: n})
	}
	var context []string
	for _, s := range r.sources {
		name := link(s.Path)
		if s.Heading != "" {
			name = "[[" + strings.TrimSuffix(s.Path, ".md") + "#" + s.Heading + "]]"
		}
		context = append(context, name)
	}
	if len(context) > 0 {
		fields = append(fields, note.KV{Key: "context_notes", Value: context})
	}
	if r.trace != "" {
		fields = append(fields, note.KV{Key: "trace", Value: r.trace})
	}
	if len(r.spec.Tags) > 0 {
		fields = append(fields, note.KV{Key: "tags", Value: r.spec.Tags})
	}
	return fields
}

func addNew(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	if s == "" {
		return list
	}
	return append(list, s)
}

// history tells what the owner must know of earlier attempts.
func (r report) history(b *strings.Builder) {
	if calls := unaccounted(r.calls, r.result.Steps); len(calls) > 0 {
		b.WriteString("> [!warning] May have been billed more than once\n> Calls of this job that may have been billed and are not in this note:\n")
		bullets(b, describe(calls, r.row.ID, r.row.Run, r.location))
		b.WriteString("\n")
	}
	reused := 0
	for _, s := range r.result.Steps {
		if s.Reused {
			reused++
		}
	}
	switch {
	case r.result.Anew > 0:
		fmt.Fprintf(b, "> [!info] Asked anew from step %d on\n> What would be sent had changed since its answer was stored.\n\n", r.result.Anew)
	case reused > 0 && r.spec.Type == job.Chain:
		fmt.Fprintf(b, "> [!info] Resumed\n> The answers to the first %d step(s) were stored by an earlier attempt.\n\n", reused)
	}
}

// link is a wikilink with a file's full path in the vault.
func link(name string) string { return "[[" + strings.TrimSuffix(name, ".md") + "]]" }

// dateTime is a moment as Obsidian's date & time property shows it.
func dateTime(t time.Time, location *time.Location) string {
	return t.In(location).Format("2006-01-02T15:04:05")
}

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// quoted makes every line of a text part of a callout.
func quoted(s string) string { return "> " + strings.ReplaceAll(s, "\n", "\n> ") }

// plainError is an error for the owner to read, without paths of this machine.
func plainError(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Op + ": " + p.Err.Error()
	}
	return oneLine(err.Error())
}
