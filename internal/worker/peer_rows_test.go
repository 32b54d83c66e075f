package worker

import (
	"strings"
	"time"

	"davidcockson.com/runner/internal/queue"
)

const (
	sea      = "tell me of the sea and of the ships that sail on it"
	seaMore  = sea + " and of the men"
	seaMost  = seaMore + " who sail them home"
	mountain = "how high is the highest mountain"
)

func withID(id, body string) string {
	return "---\njob_type: text\nid: " + id + "\n---\n" + body + "\n"
}

var done = map[string]string{"_completed/a.md": "completed"}

// transferRows are the ways in which a file arrives.
func transferRows() []peerRow {
	once := map[string]int{sea: 1}
	return []peerRow{
		{name: "a file written an hour ago is guarded from its first sight here",
			act: func(p *peer) {
				temp := p.temp(queued("a.md"), textNote(sea))
				p.wait(20 * time.Second) // a slow transfer; the temporary file lies still
				p.place(temp, queued("a.md"), time.Now().Add(-time.Hour))
				p.wait(1900 * time.Millisecond)
				if len(p.asks()) > 0 {
					p.rig.t.Error("it was taken within the guard's time")
				}
			},
			asked: once, listed: done},
		{name: "the guard begins anew when the origin's mtime comes late",
			act: func(p *peer) {
				p.rig.drop("a.md", textNote(sea))
				p.hear(queued("a.md"))
				p.wait(1900 * time.Millisecond)
				p.rig.mem.SetMtime(queued("a.md"), time.Now().Add(-time.Hour))
				p.wait(1900 * time.Millisecond)
				if len(p.asks()) > 0 {
					p.rig.t.Error("it was taken within the guard's time")
				}
			},
			asked: once, listed: done},
		{name: "temporary files are never notes, of whatever peer",
			act: func(p *peer) {
				p.rig.mem.Put(queued(".syncthing.a.md.tmp"), textNote("of Linux"))
				p.rig.mem.Put(queued("~syncthing~a.md.tmp"), textNote("of Windows"))
				p.rig.mem.Put(queued(".syncthing.0123456789abcdef.tmp"), textNote("of a long name"))
				p.rig.mem.Put(queued(".syncthing.a.md"), textNote("with our ending"))
				p.rig.mem.Put(queued("~syncthing~a.md"), textNote("with our ending"))
				p.rig.mem.Put(".stversions/_queue/a~20260101-000000.md", textNote("of an old version"))
			}},
		{name: "a file that comes without its frontmatter's end waits for the rest",
			act: halves("---\njob_type: te", textNote(sea)), asked: once, listed: done},
		{name: "an empty file waits for its text",
			act: halves("", textNote(sea)), asked: once, listed: done},
		{name: "a file without its body waits for it",
			act: halves("---\njob_type: text\n---\n", textNote(sea)), asked: once, listed: done},
		{name: "a chain whose last step is still empty waits for it",
			act:   halves("---\njob_type: chain\n---\n## One\nfirst\n## Two\n", "---\njob_type: chain\n---\n## One\nfirst\n## Two\nsecond\n"),
			asked: map[string]int{"first": 1, "second": 1}, listed: done},
		{name: "a half file that its editor goes on writing in place waits too",
			act: func(p *peer) {
				p.rig.drop("a.md", "---\njob_type: text\n---")
				p.hear(queued("a.md"))
				p.wait(15 * time.Second)
				p.rig.mem.Edit(queued("a.md"), textNote(sea))
				p.hear(queued("a.md"))
			},
			asked: once, listed: done},
		{name: "a draft is never taken, however whole it looks",
			act: func(p *peer) {
				p.sends(queued("a.md"), "---\njob_type: text\ndraft: true\n---\ntell me of the sea\n", time.Minute)
				p.wait(10 * time.Minute)
				p.sends(queued("a.md"), "---\njob_type: text\ndraft: true\n---\n"+sea+"\n", 5*time.Second)
				p.wait(10 * time.Minute)
				p.sends(queued("a.md"), "---\njob_type: text\ndraft: false\n---\n"+sea+"\n", 5*time.Second)
			},
			asked: once, listed: done},
		{name: "half a body without draft looks finished, and the rest is held",
			act: func(p *peer) {
				p.sends(queued("a.md"), textNote("tell me of the sea"), time.Minute)
				p.ended(queue.Completed, "a.md")
				p.sends(queued("a.md"), textNote(sea), 5*time.Second)
			},
			asked:  map[string]int{"tell me of the sea": 1},
			listed: map[string]string{"_completed/a.md": "completed", "_queue/a.md": "held"}},
		{name: "a wrong note that is typed in each minute stays until it is right",
			act: func(p *peer) {
				for i := range 6 {
					p.sends(queued("a.md"), "---\njob_type: txt\n---\n"+sea+strings.Repeat(".", i)+"\n", 10*time.Second)
					p.wait(time.Minute)
				}
				p.sends(queued("a.md"), textNote(sea), 10*time.Second)
			},
			asked: once, listed: done},
		{name: "a wrong note fails when nobody mends it",
			act:    func(p *peer) { p.sends(queued("a.md"), "---\njob_type: txt\n---\n"+sea+"\n", time.Hour) },
			listed: map[string]string{"_failed/a.md": "failed"}},
		{name: "mtimes of 1970 and of the future change nothing",
			act: func(p *peer) {
				p.sends(queued("a.md"), textNote(sea), time.Since(time.Unix(0, 0)))
				p.sends(queued("b.md"), textNote(mountain), -10*365*24*time.Hour)
			},
			asked:  map[string]int{sea: 1, mountain: 1},
			listed: map[string]string{"_completed/a.md": "completed", "_completed/b.md": "completed"}},
		{name: "a name that is missing for an instant is the same note",
			act: func(p *peer) {
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.wait(time.Second)
				temp := p.temp(queued("a.md"), textNote(seaMore))
				p.gone(queued("a.md"))
				p.wait(1500 * time.Millisecond)
				p.place(temp, queued("a.md"), time.Now())
			},
			asked: map[string]int{seaMore: 1}, listed: done},
		{name: "conflict copies are shown and never run, in whatever folder",
			act: func(p *peer) {
				p.slow(20 * time.Second)
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.sends(queued("a.sync-conflict-20260102-030405-ABCDEFG.md"), textNote(seaMore), time.Minute)
				p.running(sea)
				p.sends("_active/a.sync-conflict-20260102-030406-ABCDEFG.md", textNote(seaMost), time.Minute)
				p.ended(queue.Completed, "a.md")
				p.sends("_completed/a.sync-conflict-20260102-030407-ABCDEFG.md", textNote(mountain), time.Minute)
			},
			asked: once,
			listed: map[string]string{"_completed/a.md": "completed", "_queue/a.sync-conflict-20260102-030405-ABCDEFG.md": "held",
				"_active/a.sync-conflict-20260102-030406-ABCDEFG.md": "held"}},
		{name: "case twins of unlike content are two jobs, and none is replaced",
			act: func(p *peer) {
				p.sends(queued("Job-X.md"), textNote(sea), time.Minute)
				p.sends(queued("job-x.md"), textNote(mountain), time.Minute)
			},
			asked:  map[string]int{sea: 1, mountain: 1},
			listed: map[string]string{"_completed/Job-X.md": "completed", "_completed/job-x.md": "completed"},
			kept:   []string{sea, mountain}},
		{name: "a case twin of the same content is a duplicate",
			act: func(p *peer) {
				p.sends(queued("Job-X.md"), textNote(sea), time.Minute)
				p.ended(queue.Completed, "Job-X.md")
				p.sends(queued("job-x.md"), textNote(sea), time.Minute)
			},
			asked: once, listed: map[string]string{"_completed/Job-X.md": "completed", "_queue/job-x.md": "duplicate"}},
		{name: "a case twin that is an edit is held",
			act: func(p *peer) {
				p.sends(queued("Job-X.md"), textNote(sea), time.Minute)
				p.ended(queue.Completed, "Job-X.md")
				p.sends(queued("job-x.md"), textNote(seaMore), time.Minute)
			},
			asked: once, listed: map[string]string{"_completed/Job-X.md": "completed", "_queue/job-x.md": "held"}},
	}
}

// halves sends the first half of a file, which lies still for longer than
// Syncthing's own delay, then the whole.
func halves(half, whole string) func(*peer) {
	return func(p *peer) {
		p.sends(queued("a.md"), half, time.Minute)
		for range 3 {
			p.wait(10 * time.Minute)
			if j := p.listed("a.md"); j.State != "waiting" || j.Reason == "" {
				p.rig.t.Errorf("the half is %q: %q", j.State, j.Reason)
			}
		}
		if len(p.asks()) > 0 {
			p.rig.t.Error("half a job ran")
		}
		p.sends(queued("a.md"), whole, 10*time.Minute)
	}
}
