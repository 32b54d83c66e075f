package worker

import (
	"fmt"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/vault/vaulttest"
)

// How else than by a replacement some calls later a note changes.
const (
	never   = -1 // its second half does not come: a deletion
	inPlace = -2 // an editor writes into the very file
)

// TestANameMissesAtEveryMoment has the other peer's edit replace the note at each
// call that a job's life makes on it, wherever the note lies then: the unlink
// before that call, the rename a number of calls later, or never.
func TestANameMissesAtEveryMoment(t *testing.T) {
	for _, later := range []int{0, 1, 2, 4, never, inPlace} {
		name := fmt.Sprintf("replaced, the rename %d calls later", later)
		switch later {
		case never:
			name = "deleted"
		case inPlace:
			name = "edited in place"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				hit := false
				synctest.Test(t, func(t *testing.T) { hit = replaceAt(t, n, later) })
				if !hit || t.Failed() {
					if n < 20 {
						t.Errorf("a job's life has %d calls only", n)
					}
					break
				}
			}
		})
	}
}

// replaceAt plays one such moment and says whether the job made so many calls.
func replaceAt(t *testing.T, n, later int) (hit bool) {
	r := newRig(t)
	p := &peer{rig: r, session: r.start()}
	p.slow(3 * time.Second)
	<-p.Ready()
	var at, where string
	replaced := later == never
	p.files.Inject(vaulttest.Fault{At: n, Match: ofNote, Hook: func(c vaulttest.Call) {
		hit, at = true, c.String()
		name := ""
		for _, folder := range queue.Folders() {
			if _, err := r.mem.Lstat(folder + "/a.md"); err == nil {
				name = folder + "/a.md"
			}
		}
		where = name
		if name == "" {
			return
		}
		if later == inPlace {
			replaced = true
			r.mem.Edit(name, textNote(seaMore))
			return
		}
		p.gone(name)
		if later == never {
			return
		}
		p.files.Inject(vaulttest.Fault{At: later + 1, Hook: func(vaulttest.Call) {
			replaced = true
			p.sends(name, textNote(seaMore), 5*time.Second)
		}})
	}})
	p.sends(queued("a.md"), textNote(sea), time.Minute)
	p.wait(5 * time.Minute)
	if hit && where == "" {
		t.Errorf("call %s: the note is nowhere", at)
	}
	problems := momentProblems(p, replaced && later != never && hit, hit && later == never)
	if asked := p.asks(); hit && path.Dir(where) == queue.Waiting && asked[sea] > 0 {
		problems = append(problems, fmt.Sprintf("asked %v of a note that was changed in the queue", asked))
	}
	p.stop()
	for _, problem := range problems {
		t.Errorf("note in %s, call %s: %s", where, at, problem)
	}
	if t.Failed() {
		t.Logf("files: %v\nlog:\n%s", r.mem.Files(), tail(r.log.String()))
	}
	return hit
}

// ofNote matches the calls that a job makes on its note, the temporary file of
// its annotation included.
func ofNote(c vaulttest.Call) bool {
	return strings.Contains(c.Name+" "+c.To, "/a.md") || strings.HasPrefix(c.Name, vault.TempDir+"/")
}

// momentProblems says what must not have come of an edit or a deletion.
func momentProblems(p *peer, edited, deleted bool) (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	asked, states := p.asks(), p.states()
	total := 0
	for prompt, times := range asked {
		total += times
		if prompt != sea && prompt != seaMore {
			say("%q was asked", prompt)
		}
	}
	if total > 1 {
		say("a silent double: asked %v, list shows %v", asked, states)
	}
	if !p.settled() {
		say("the ledger has something left to do: %v", states)
	}
	kept := 0
	for name, text := range p.rig.mem.Files() {
		switch dir := path.Dir(name); dir {
		case queue.Waiting, queue.Active:
			if s := states[name]; s != "held" && s != "duplicate" {
				say("%s is left, shown as %q", name, s)
			}
		case vault.TempDir:
			say("%s is left", name)
		}
		if path.Dir(name) != queue.Outputs && strings.Contains(text, seaMore) {
			kept++
		}
		if deleted && path.Dir(name) != queue.Outputs && strings.Contains(text, sea) && !strings.Contains(name, "recovered") {
			say("%s was made anew", name)
		}
	}
	if edited && total != 1 {
		say("asked %v", asked)
	}
	if edited && kept != 1 {
		say("the edit stands in %d notes", kept)
	}
	return problems
}
