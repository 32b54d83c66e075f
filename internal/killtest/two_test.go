package killtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/queue"
)

// echoed is a note for the echo provider, with what its output holds.
func echoed(name, model, prompt string) expected {
	return expected{name: name, text: "---\njob_type: text\nmodel: " + model + "\n---\n" + prompt + "\n", answers: []string{prompt}, must: queue.Completed}
}

// TestOfTwoWorkersOneIsRefused runs the product twice.
func TestOfTwoWorkersOneIsRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, second string // the second one's state folder
		together     bool   // they start at one moment
		sentence     string
	}{
		{"on one state folder", "state", false, "another worker runs with the state folder"},
		{"on one state folder at one moment", "state", true, "another worker runs with the state folder"},
		{"on one vault with a state folder each", "other", false, "this vault belongs to the worker on "},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, orders{})
			second := filepath.Join(filepath.Dir(w.State), row.second)
			a := w.serve(w.State, "")
			if !row.together {
				w.until("a worker", a.ready)
			}
			b := w.serve(second, "")
			w.until("one of them ends", func() bool { return a.Ended() || b.Ended() })
			winner, loser := a, b
			if a.Ended() && row.together {
				winner, loser = b, a
			}
			w.until("the other one is refused", loser.Ended)
			if code := loser.Cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("it ended with %v, want exit code 1", loser.Cmd.ProcessState)
			}
			if text := loser.Log.String(); !strings.Contains(text, row.sentence) || strings.Count(strings.TrimSpace(text), "\n") > 0 {
				t.Errorf("it said:\n%swant one sentence: %s", text, row.sentence)
			}
			e := echoed("a.md", "echo", "who has the vault?")
			w.drop(e)
			w.until("the job is done", func() bool { return w.has(queue.Completed, "a.md", "\nstatus: completed\n") })
			winner.Terminate()
			if err := w.check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// has says whether a folder has a file with a text in it.
func (w *world) has(folder, name, text string) bool {
	data, err := os.ReadFile(filepath.Join(w.Vault, folder, name))
	return err == nil && bytes.Contains(data, []byte(text))
}

// TestOfTwoNotesWithOneIDOneRuns drops pairs that were made at one moment.
func TestOfTwoNotesWithOneIDOneRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, orders{})
	const pairs = 10
	for n := range pairs {
		for _, half := range []string{"a", "b"} {
			e := textNote(fmt.Sprintf("%d-%s.md", n, half), fmt.Sprintf("pair %d.", n))
			if n%2 == 1 {
				e = textNote(e.name, fmt.Sprintf("pair %d, half %s.", n, half))
			}
			e.text = strings.Replace(e.text, "owner: me", fmt.Sprintf("id: pair-%d", n), 1)
			w.drop(e)
		}
	}
	p := w.start()
	p.must("ready")
	w.until("one of each pair is done, the other shown", func() bool {
		var jobs []control.Job
		p.order("list")
		if err := json.Unmarshal([]byte(p.must("[")), &jobs); err != nil {
			t.Fatal(err)
		}
		count := make(map[string]int)
		for _, j := range jobs {
			count[j.State]++
		}
		return count["completed"] == pairs && count["held"] == pairs/2 && count["duplicate"] == pairs/2
	})
	p.stop()
	var done []expected
	for _, e := range w.notes {
		if w.has(queue.Completed, e.name, "") {
			done = append(done, e)
			continue
		}
		if !w.has(queue.Waiting, e.name, e.text) {
			t.Errorf("%s is not in the queue as it was", e.name)
		}
		if err := os.Remove(filepath.Join(w.Vault, queue.Waiting, e.name)); err != nil { // seen; the check wants ends
			t.Error(err)
		}
	}
	w.notes = done
	if err := w.check(); err != nil {
		t.Errorf("%v\n%s", err, w.state())
	}
	if bill, _ := os.ReadFile(w.Bill); bytes.Count(bill, []byte("\n")) != pairs {
		t.Errorf("the bill, want %d calls:\n%s", pairs, bill)
	}
}

// TestATakenNameIsNeverReplaced has every name that the worker gives taken before
// it, long before or in the very instant.
func TestATakenNameIsNeverReplaced(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		instant bool
		note    expected
		folders []string // in which the name is taken
	}{
		{"of a completed job", false, textNote("a.md", "hello"), []string{queue.Active, queue.Completed, queue.Failed}},
		{"of a failed job", false, textNote("a.md", "fail hello"), []string{queue.Active, queue.Completed, queue.Failed}},
		{"of a completed job, in the instant", true, textNote("a.md", "hello"), []string{queue.Active, queue.Completed, queue.Outputs}},
		{"of a failed job, in the instant", true, textNote("a.md", "fail hello"), []string{queue.Active, queue.Failed, queue.Outputs}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, orders{Trapped: true})
			var taken []string
			if !row.instant {
				for _, folder := range row.folders {
					taken = append(taken, path.Join(folder, row.note.name))
					if err := w.vault.Write(taken[len(taken)-1], []byte(rivalText)); err != nil {
						t.Fatal(err)
					}
				}
			}
			p := w.start()
			p.must("ready")
			if row.instant {
				p.order("rival")
				p.must("waiting")
			}
			w.drop(row.note)
			last := queue.Completed
			if strings.HasPrefix(row.note.answers[0], "answer to fail") {
				last = queue.Failed
			}
			w.until("the job has ended", func() bool {
				files, err := filepath.Glob(filepath.Join(w.Vault, last, "a-*.md"))
				return err == nil && slices.ContainsFunc(files, func(f string) bool { return w.has(last, filepath.Base(f), "\nstatus: ") })
			})
			p.in.Close()
			for {
				line, ok := p.next()
				if !ok {
					break
				}
				if name, ok := strings.CutPrefix(line, "rival "); ok {
					taken = append(taken, name)
				}
			}
			if err := p.cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			if len(taken) != len(row.folders) {
				t.Fatalf("taken were %v, want one in each of %v", taken, row.folders)
			}
			for _, name := range taken {
				if !slices.Contains(row.folders, path.Dir(name)) {
					t.Errorf("%s was taken, which no row expects", name)
				}
				if data, err := os.ReadFile(filepath.Join(w.Vault, name)); err != nil || string(data) != rivalText {
					t.Errorf("%s was replaced: %q, %v", name, data, err)
				}
			}
			e := &w.notes[0]
			e.must = last
			if last == queue.Failed {
				e.failure = stories()[2].note("", "").failure
			}
			if err := w.check(); err != nil {
				t.Error(err)
			}
		})
	}
}
