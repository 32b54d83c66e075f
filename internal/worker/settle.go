package worker

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
)

// settle brings the note of an ended job from where it lies to its last folder,
// and writes into it how the job ended. What cannot be done now is done by a
// later look.
func (w *Worker) settle(ctx context.Context, row ledger.Row, at position, r *outcome) {
	r.repair = row.ID
	target := lastFolder(row.State)
	failed := func(err error) {
		w.o.Log.Error("settle", "job", row.ID, "note", at.file, "from", at.folder, "to", target, "error", err)
	}
	if at.folder != "" && at.folder != target {
		file, err := w.queue.Put(at.folder, at.file, target, row.Run)
		if errors.Is(err, fs.ErrNotExist) { // its owner moved it, or it is being replaced
			if at, err = w.locate(ctx, row); err == nil && at.folder != "" && at.folder != target {
				file, err = w.queue.Put(at.folder, at.file, target, row.Run)
			} else {
				file = at.file
			}
		}
		if err != nil {
			failed(err)
			return
		}
		at.file = file
	}
	if at.folder == "" {
		if !w.goneLong(row.ID) {
			return
		}
		w.o.Log.Warn("the job's note is nowhere; nothing is made anew", "job", row.ID, "note", row.File, "state", string(row.State))
		if err := w.o.Ledger.SettleGone(ctx, row.Ref(), goneReason(row)); err != nil {
			failed(err)
			return
		}
		r.repair = ""
		return
	}
	row.File = at.file
	w.transition(row, at.folder, target, cmp.Or(row.Reason, "answered"))
	if err := w.annotate(row, path.Join(target, row.File)); err != nil {
		failed(err)
		return
	}
	if err := w.o.Ledger.Settle(ctx, row.Ref(), row.File); err != nil {
		failed(err)
		return
	}
	r.repair = ""
}

// goneReason is the reason of an ended job whose note is nowhere.
func goneReason(row ledger.Row) string {
	switch {
	case strings.HasPrefix(row.Reason, noteGone):
		return row.Reason
	case row.State == job.Completed:
		return noteGone + ": it vanished from " + queue.Active + " while it ran; the answer is kept"
	}
	return noteGone + "; before that: " + row.Reason
}

// noteGone begins the reason of a job whose note was deleted.
const noteGone = "note gone"

// lastFolder is where the note of an ended job belongs.
func lastFolder(s job.State) string {
	if s == job.Completed {
		return queue.Completed
	}
	return queue.Failed
}

// position is where a job's note was found; folder is "" for nowhere.
type position struct{ folder, file string }

// locate finds the note of a job: under the name that the ledger knows, or that
// name with the run's id, which a move gives it if the first is taken. A name
// proves nothing by itself: the content, or the run key, must be this job's. Only
// in the active folder may its owner have edited it meanwhile; there it is this
// job's if no other claims it.
func (w *Worker) locate(ctx context.Context, row ledger.Row) (position, error) {
	last := lastFolder(row.State)
	folders := []string{queue.Active, last, other(last), queue.Waiting}
	switch {
	case row.State.Final() && row.Started.IsZero(): // it ended without an attempt
		folders = []string{queue.Waiting, last}
	case row.State == job.Waiting, row.State == job.Claiming:
		folders = []string{queue.Waiting, queue.Active, last, other(last)}
	}
	for _, folder := range folders {
		for _, file := range []string{vault.WithSuffix(row.File, row.Run), row.File} {
			ours, err := w.isOf(row, path.Join(folder, file))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil && !ours {
				switch folder {
				case queue.Active:
					ours, err = w.unclaimed(ctx, row.ID, file)
				case queue.Waiting: // edited or not
					ours = row.State == job.Waiting || row.State == job.Claiming
				}
			}
			if err != nil {
				return position{}, err
			}
			if ours {
				return position{folder, file}, nil
			}
		}
	}
	return position{}, nil
}

func other(folder string) string {
	if folder == queue.Completed {
		return queue.Failed
	}
	return queue.Completed
}

// unclaimed says whether no job but one claims a file of the active folder.
func (w *Worker) unclaimed(ctx context.Context, id, file string) (bool, error) {
	rows, err := w.o.Ledger.Unsettled(ctx)
	for _, r := range rows {
		if r.ID != id && r.File == file && (r.State == job.Claiming || r.State == job.Active) {
			return false, err
		}
	}
	return err == nil, err
}

// isOf says whether a file is the note of a job: it has the run's id in it, or
// the content that was claimed or refused. A missing file is fs.ErrNotExist.
func (w *Worker) isOf(row ledger.Row, name string) (bool, error) {
	data, _, err := w.o.Vault.Read(name, mostAnnotated)
	switch {
	case errors.Is(err, vault.ErrTooLarge), errors.Is(err, vault.ErrNotRegular):
		return row.Unclaimed, nil
	case err != nil:
		return false, err
	case row.Unclaimed:
		return row.Hash == "" || row.Hash == fmt.Sprintf("%x", sha256.Sum256(data)) || bytes.Contains(data, []byte(row.Run)), nil
	}
	n, err := note.Parse(data)
	if err != nil {
		return false, nil
	}
	if f, ok := n.Field("run"); ok && text(f) == row.Run {
		return true, nil
	}
	return fmt.Sprintf("%x", sha256.Sum256(n.Content())) == row.Hash, nil
}

// annotate writes into a note how its job ended. The owner may be editing it:
// the edit survives, and the note is annotated anew.
func (w *Worker) annotate(row ledger.Row, name string) error {
	fields, callout := w.annotation(row)
	rewrite := func(data []byte) []byte { return note.Annotate(data, fields, callout) }
	temp := path.Join(vault.TempDir, annotationTemp+row.Run+".md")
	for range 5 {
		if err := w.o.Vault.RecoverRewrite(name, temp, rewrite); err != nil {
			if kept, ok := errors.AsType[*vault.KeptError](err); ok {
				w.o.Log.Warn("the note was edited while it was annotated", "job", row.ID, "note", row.File, "reason", kept.Error())
				continue
			}
			return err
		}
		data, _, err := w.o.Vault.Read(name, mostAnnotated)
		if errors.Is(err, vault.ErrTooLarge) || errors.Is(err, vault.ErrNotRegular) {
			w.o.Log.Warn("the note cannot be annotated; list shows its reason", "job", row.ID, "note", row.File, "error", err)
			return nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // moved away by its owner meanwhile
		}
		if err != nil {
			return err
		}
		rewritten := rewrite(data)
		if string(rewritten) == string(data) {
			return nil
		}
		err = w.o.Vault.Rewrite(name, temp, data, rewritten)
		if err == nil {
			return nil
		}
		if _, kept := errors.AsType[*vault.KeptError](err); !kept && !errors.Is(err, vault.ErrChanged) && !errors.Is(err, fs.ErrExist) {
			return err
		}
		w.o.Log.Info("the note changed while it was annotated; once more", "job", row.ID, "note", row.File, "reason", err.Error())
	}
	return fmt.Errorf("%s changes all the time", name)
}

// annotationTemp begins the names of the temporary files of annotations.
const annotationTemp = "job-"

// mostAnnotated bounds a note that is annotated, in bytes.
const mostAnnotated = 16 << 20

// short is a reason that fits a frontmatter: one line, 1,000 runes at most.
func short(reason string) string {
	const most = 1000
	text := []rune(oneLine(reason))
	if len(text) > most {
		text = append(text[:most], '…')
	}
	return string(text)
}

// annotation is what is written into a note: keys, and a callout on failure. It
// depends on the row alone, so that it can be recognised after a crash.
func (w *Worker) annotation(row ledger.Row) ([]note.KV, string) {
	fields := []note.KV{{Key: "status", Value: string(row.State)}, {Key: "run", Value: row.Run}}
	output := row.Output
	if output == "" {
		output = row.Partial
	}
	if output != "" {
		fields = append(fields, note.KV{Key: "output", Value: link(output)})
	}
	if !row.Started.IsZero() {
		fields = append(fields, note.KV{Key: "started", Value: dateTime(row.Started, w.o.Location)})
	}
	fields = append(fields, note.KV{Key: "finished", Value: dateTime(row.Ended, w.o.Location)}, note.KV{Key: "attempts", Value: row.Attempt})
	if row.State == job.Completed {
		return fields, ""
	}
	fields = append(fields, note.KV{Key: "error", Value: short(row.Reason)})
	title := "Failed"
	if row.State == job.Cancelled {
		title = "Cancelled"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "> [!failure] %s: %s\n", title, short(row.Reason))
	if row.Advice != "" {
		fmt.Fprintf(&b, "> What to do: %s.\n", oneLine(row.Advice))
	}
	if row.Partial != "" {
		fmt.Fprintf(&b, "> What had come until then: %s\n", link(row.Partial))
	}
	if row.Unaccounted != "" {
		what := "Calls that may have been billed"
		if row.Partial != "" {
			what += " and are not in that note"
		}
		fmt.Fprintf(&b, "> %s:\n", what)
		bullets(&b, strings.Split(row.Unaccounted, "\n"))
	}
	if row.Unclaimed {
		fmt.Fprintf(&b, "> Run %s was refused before anything was asked.\n", row.Run)
	} else {
		fmt.Fprintf(&b, "> To run it again: `runner retry %s`, or move this note back to `%s`.\n", row.ID, queue.Waiting)
	}
	return fields, strings.TrimRight(b.String(), "\n")
}
