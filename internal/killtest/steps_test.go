package killtest

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"

	"davidcockson.com/runner/internal/queue"
)

// story is a part of a job's life into which kills are put. It is played once for
// each step, with new names.
type story struct {
	name string
	note func(file, prompt string) expected
	// before is what happens before the kill is set, in a note's case that it is
	// dropped; nil drops it after.
	before func(w *world, p *process, e expected)
	// owner is what the owner says once the kill is set, and again after it if it
	// may have been lost: an order to the child, nothing for "".
	owner string
}

func stories() []story {
	cut := regexp.MustCompile("cut half-way")
	return []story{
		{name: "a text job", note: func(file, prompt string) expected {
			e := textNote(file, prompt)
			e.must = queue.Completed
			return e
		}},
		{name: "a chain", note: func(file, prompt string) expected {
			e := chainNote(file, prompt)
			e.must = queue.Completed
			return e
		}},
		{name: "a job that fails", note: func(file, prompt string) expected {
			e := textNote(file, "fail "+prompt)
			e.failure, e.must = cut, queue.Failed
			return e
		}},
		{name: "a job whose first call fails", note: func(file, prompt string) expected {
			e := textNote(file, "fail once "+prompt)
			e.failure = cut // unless it was killed before that was written down
			return e
		}},
		{name: "a note that is wrong", note: func(file, prompt string) expected {
			e := textNote(file, prompt)
			e.text = "---\njob_type: essay\n---\n" + prompt + "\n"
			e.failure, e.must = regexp.MustCompile(`"essay" is not known`), queue.Failed
			return e
		}},
		{
			name: "a failed job that is retried", owner: "retry",
			note: func(file, prompt string) expected {
				e := textNote(file, "fail once "+prompt)
				e.must = queue.Completed
				return e
			},
			before: func(w *world, p *process, e expected) {
				w.drop(e)
				p.order("settle")
				p.must("settled")
			},
		},
		{
			name: "a waiting note that is cancelled", owner: "cancel",
			note: func(file, prompt string) expected {
				e := textNote(file, prompt)
				e.text = "---\njob_type: text\nnot_before: 2999-01-01\n---\n" + prompt + "\n"
				e.failure, e.must = regexp.MustCompile("cancelled by its owner"), queue.Failed
				return e
			},
			before: func(w *world, p *process, e expected) {
				w.drop(e)
				p.order("shown %s", e.name)
				p.must("shown")
			},
		},
		{
			name: "a running job that is cancelled", owner: "cancel",
			note: func(file, prompt string) expected {
				e := textNote(file, "block "+prompt)
				e.failure, e.must = regexp.MustCompile("cancelled by its owner"), queue.Failed
				return e
			},
			before: func(w *world, p *process, e expected) {
				w.drop(e)
				p.order("asked %s", e.name)
				p.must("asked")
			},
		},
	}
}

// TestAKillAtEachStep ends the worker before and after every changing file call
// and every commit of the ledger. The next one brings everything to its end.
//
// What is on the disk before a step is what was there after the step before it, so
// the short run kills before the first and after each; RUNNER_SOAK=full kills
// before each too.
func TestAKillAtEachStep(t *testing.T) {
	for _, st := range stories() {
		t.Run(st.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, orders{Trapped: true})
			killed := make(map[string]int)
			n := st.killEach(w, killed, "before", soaked())
			n = st.killEach(w, killed, "after", 0) + n
			for _, step := range []string{"commit", "Rename", "SyncDir", "Exchange", "Remove", "File.Write", "File.Sync", "File.Close"} {
				if killed[step] == 0 {
					t.Errorf("no kill at %s, only at %v", step, slices.Sorted(maps.Keys(killed)))
				}
			}
			t.Logf("%d kills: %v", n, killed)
		})
	}
}

// soaked is how many steps are killed before, 0 for all.
func soaked() int {
	if os.Getenv("RUNNER_SOAK") == "full" {
		return 0
	}
	return 1
}

// killEach plays the story with a kill at step 1, at step 2 and so on, until it
// ends before its kill or the most kills are reached. Each process first ends what
// the one before it left. It returns the number of kills.
func (st story) killEach(w *world, killed map[string]int, side string, most int) int {
	t := w.t
	for n := 1; ; n++ {
		p := w.start()
		p.must("ready")
		if len(w.notes) > 0 {
			st.end(w, p, n-1, side)
		}
		if most > 0 && n > most {
			p.stop()
			return n - 1
		}
		e := st.note(fmt.Sprintf("%s-%d.md", side, n), fmt.Sprintf("%s-%d.md, an errand", side, n))
		if st.before != nil {
			st.before(w, p, e)
		}
		p.order("arm %s %d", side, n)
		p.must("armed")
		if st.before == nil {
			w.drop(e)
		}
		if st.owner != "" {
			p.order("%s %s", st.owner, e.name)
		}
		p.order("settle")
		var ended bool
		for !ended {
			line, ok := p.next()
			var step string
			if _, err := fmt.Sscanf(line, "killed %s", &step); err == nil {
				killed[step]++
			}
			if !ok {
				break
			}
			ended = line == "settled"
		}
		if ended {
			p.stop()
			if err := w.check(); err != nil {
				t.Fatalf("without a kill: %v\n%s", err, w.state())
			}
			return n - 1
		}
		p.gone()
	}
}

// end brings a story that was killed to its end, and checks the whole.
func (st story) end(w *world, p *process, n int, side string) {
	w.t.Helper()
	if st.owner != "" {
		p.order("%s %s", st.owner, w.notes[len(w.notes)-1].name)
	}
	p.order("settle")
	p.must("settled")
	if err := w.check(); err != nil {
		w.t.Fatalf("killed %s step %d: %v\n%s", side, n, err, w.state())
	}
}
