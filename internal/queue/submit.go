package queue

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/vault"
)

const (
	titleBytes = 60 // of a title in a note's name
	titleWords = 6  // of a prompt that stands in for a title
)

// Submit writes a note into the queue folder: these properties in their order, a
// new id, and the prompt. It returns the job's id and the note's path in the vault.
// What the note's reader would refuse is refused here by the same rules, as a
// *note.Error without a line: its Key is the property at fault, "" for the prompt.
// So are properties that no job note has, and the id, which is made here. Any other
// error is the vault's; one that is fs.ErrNotExist says that the folder is missing.
func Submit(v *vault.Vault, rules job.Rules, fields []note.KV, body string, now time.Time) (id, file string, err error) {
	id = job.NewID(now)
	title := ""
	for _, f := range fields {
		if f.Key == "id" || f.Key == "draft" || slices.Contains(note.OwnedKeys(), f.Key) {
			return "", "", &note.Error{Kind: note.Wrong, Key: f.Key, Reason: "cannot be given: it is set by the queue"}
		}
		if text, ok := f.Value.(string); ok && f.Key == "title" {
			title = text
		}
	}
	text := note.Frontmatter(append(slices.Clone(fields), note.KV{Key: "id", Value: id})) + "\n" + strings.TrimSpace(body) + "\n"
	if err := check([]byte(text), rules); err != nil {
		return "", "", err
	}
	if title == "" {
		words := strings.Fields(body)
		title = strings.Join(words[:min(len(words), titleWords)], " ")
	}
	file = path.Join(Waiting, vault.Slug(title, titleBytes)+"-"+id+".md")
	if err := v.Write(file, []byte(text)); err != nil {
		return "", "", fmt.Errorf("put a note into %s: %w", Waiting, err)
	}
	return id, file, nil
}

// check reads a note as the scanner will.
func check(text []byte, rules job.Rules) error {
	n, err := note.Parse(text)
	if err == nil {
		var spec job.Spec
		if spec, err = job.Read(n, rules); err == nil && len(spec.Unknown) > 0 {
			return &note.Error{Kind: note.Wrong, Key: spec.Unknown[0], Reason: "is no property of a job note"}
		}
	}
	if bad, ok := errors.AsType[*note.Error](err); ok {
		bad.Line = 0 // of a note that nobody has seen
	}
	return err
}
