package worker

import (
	"strings"
	"time"

	"davidcockson.com/runner/internal/queue"
)

// echoRows are the ways in which a job that is known comes back.
func echoRows() []peerRow {
	once := map[string]int{sea: 1}
	doneAnd := func(state string) map[string]string {
		return map[string]string{"_completed/a.md": "completed", "_queue/a.md": state}
	}
	return []peerRow{
		{name: "an edit that crossed the claim comes back while the first runs",
			act: func(p *peer) {
				p.slow(time.Minute)
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.running(sea)
				p.sends(queued("a.md"), textNote(seaMore), 5*time.Second)
			},
			asked: once, listed: doneAnd("held"), kept: []string{seaMore}},
		{name: "an edit that crossed the claim comes back when the first is done",
			act: func(p *peer) {
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.ended(queue.Completed, "a.md")
				p.wait(12 * time.Hour)
				p.sends(queued("a.md"), textNote(seaMore), 12*time.Hour)
			},
			asked: once, listed: doneAnd("held"), kept: []string{seaMore}},
		{name: "an edit that crossed the claim comes back when the first has failed",
			act: func(p *peer) {
				p.fails()
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.ended(queue.Failed, "a.md")
				p.sends(queued("a.md"), textNote(seaMore), 5*time.Second)
			},
			asked: once, listed: map[string]string{"_failed/a.md": "failed", "_queue/a.md": "held"}, kept: []string{seaMore}},
		{name: "the same content comes back while the first runs",
			act: func(p *peer) {
				p.slow(time.Minute)
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.running(sea)
				p.sends(queued("a.md"), textNote(sea), time.Minute)
			},
			asked: once, listed: doneAnd("duplicate")},
		{name: "the same content comes back when the first is done",
			act: func(p *peer) {
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.ended(queue.Completed, "a.md")
				p.sends(queued("a.md"), textNote(sea), time.Minute)
			},
			asked: once, listed: doneAnd("duplicate")},
		{name: "the same content comes back when the first has failed",
			act: func(p *peer) {
				p.fails()
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.ended(queue.Failed, "a.md")
				p.sends(queued("a.md"), textNote(sea), time.Minute)
			},
			asked: once, listed: map[string]string{"_failed/a.md": "failed", "_queue/a.md": "held"}},
		{name: "the annotated note comes back from the completed folder",
			act: func(p *peer) {
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.ended(queue.Completed, "a.md")
				p.sends(queued("a.md"), p.text(queue.Completed, "a.md"), time.Second)
			},
			asked: once, listed: doneAnd("duplicate")},
		{name: "with an id a note that was written anew is held all the same",
			act: func(p *peer) {
				p.slow(time.Minute)
				p.sends(queued("a.md"), withID("one", sea), time.Minute)
				p.running(sea)
				p.sends(queued("b.md"), withID("one", mountain), 5*time.Second)
			},
			asked: once, listed: map[string]string{"_completed/a.md": "completed", "_queue/b.md": "held"}},
		{name: "its owner types on after the claim",
			act: func(p *peer) {
				p.slow(time.Minute)
				p.sends(queued("a.md"), textNote(sea), 0)
				p.running(sea)
				p.wait(1200 * time.Millisecond)
				p.sends(queued("a.md"), textNote(seaMore), 0)
				p.wait(3 * time.Second)
				p.sends(queued("a.md"), textNote(seaMore+" who sail"), 0)
				p.wait(3 * time.Second)
				p.sends(queued("a.md"), textNote(seaMost), 0)
			},
			asked: once, listed: doneAnd("held"), kept: []string{seaMost}},
		{name: "its owner types on in an editor that keeps the old name open",
			act: func(p *peer) {
				p.slow(time.Minute)
				p.sends(queued("a.md"), textNote(sea), 0)
				p.running(sea)
				p.rig.drop("a.md", textNote(seaMore))
				p.hear(queued("a.md"))
				p.wait(time.Minute)
				p.rig.mem.Edit(queued("a.md"), textNote(seaMost))
				p.hear(queued("a.md"))
			},
			asked: once, listed: doneAnd("held"), kept: []string{seaMost}},
		{name: "the active note is edited on the other peer, and its edit is kept",
			act: func(p *peer) {
				p.slow(time.Minute)
				p.sends(queued("a.md"), textNote(sea), 0)
				p.running(sea)
				p.sends("_active/a.md", textNote(seaMore), 0)
			},
			asked: once, listed: done, kept: []string{seaMore}},
		{name: "a rename on the other peer crosses the claim",
			act: func(p *peer) {
				p.slow(time.Minute)
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.running(sea)
				p.sends(queued("b.md"), textNote(sea), time.Minute)
			},
			asked: once, listed: map[string]string{"_completed/a.md": "completed", "_queue/b.md": "duplicate"}},
		{name: "a rename arrives before the claim, its deletion late",
			act: func(p *peer) {
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.wait(time.Second)
				p.sends(queued("b.md"), textNote(sea), time.Minute)
				p.wait(30 * time.Second)
				p.gone(queued("a.md"))
			},
			asked: once, listed: map[string]string{"_completed/a.md": "completed", "_queue/b.md": "duplicate"}},
		{name: "a rename of a job that has failed since is held",
			act: func(p *peer) {
				p.fails()
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.ended(queue.Failed, "a.md")
				p.sends(queued("b.md"), textNote(sea), time.Minute)
			},
			asked: once, listed: map[string]string{"_failed/a.md": "failed", "_queue/b.md": "held"}},
		{name: "both peers move it, here to run and there to the completed folder",
			act: func(p *peer) {
				p.slow(time.Minute)
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.running(sea)
				p.sends("_completed/a.md", textNote(sea), time.Minute)
			},
			asked: once, listed: map[string]string{"_completed/a-*.md": "completed"}},
		{name: "both peers move it, and the copy lies in the failed folder when this one fails",
			act: func(p *peer) {
				p.fails()
				p.sends("_failed/a.md", textNote(sea), time.Minute)
				p.sends(queued("a.md"), textNote(sea), time.Minute)
			},
			asked: once, listed: map[string]string{"_failed/a-*.md": "failed"}},
		{name: "a job that was put back is not mistaken for a copy in another folder",
			act: func(p *peer) {
				p.refusesOnce()
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.until("put back", func() bool { return strings.Contains(p.rig.log.String(), "from=_active to=_queue") })
				p.sends("_completed/a.md", textNote(sea), time.Minute)
				p.stop()
				p.session = p.rig.start()
				<-p.Ready()
			},
			asked:  map[string]int{sea: 2}, // the first reached nobody
			listed: map[string]string{"_completed/a-*.md": "completed"}},
	}
}

// goneRows are the ways in which a note is taken away.
func goneRows() []peerRow {
	once := map[string]int{sea: 1}
	goneAway := map[string]string{"_failed/a.md": "failed"} // list has the job; its note is nowhere
	return []peerRow{
		{name: "a waiting note is deleted on the other peer",
			act: func(p *peer) {
				p.sends(queued("a.md"), "---\njob_type: text\nnot_before: 2100-01-01\n---\n"+sea+"\n", time.Minute)
				p.wait(10 * time.Second)
				p.gone(queued("a.md"))
			}},
		{name: "a note is deleted within the guard's time",
			act: func(p *peer) {
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.wait(time.Second)
				p.gone(queued("a.md"))
			}},
		{name: "the active note is deleted on the other peer in mid-run",
			act: func(p *peer) {
				p.slow(2 * time.Minute)
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.running(sea)
				p.gone("_active/a.md")
				p.until("ended", func() bool { return p.settled() })
				if text := p.rig.log.String(); !strings.Contains(text, "note gone") && !strings.Contains(text, "nothing is made anew") {
					p.rig.t.Error("nothing says that the note is gone")
				}
				for name := range p.rig.mem.Files() {
					if strings.HasSuffix(name, "a.md") {
						p.rig.t.Errorf("%s was made anew", name)
					}
				}
			},
			asked: once, listed: goneAway},
		{name: "a deletion in the queue is no cancel once the note is claimed",
			act: func(p *peer) {
				p.slow(time.Minute)
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.running(sea)
				p.gone(queued("a.md"))
			},
			asked: once, listed: done},
		{name: "an active note that is missing for less than five seconds is not gone",
			act: func(p *peer) {
				p.slow(time.Minute)
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.running(sea)
				for range 5 {
					temp := p.temp("_active/a.md", textNote(sea))
					p.gone("_active/a.md")
					p.wait(4 * time.Second)
					p.place(temp, "_active/a.md", time.Now())
					p.wait(2 * time.Second)
				}
			},
			asked: once, listed: done},
		{name: "an active note that is missing when its job ends goes where it belongs",
			act: func(p *peer) {
				p.slow(10 * time.Second)
				p.sends(queued("a.md"), textNote(sea), time.Minute)
				p.running(sea)
				p.wait(9 * time.Second)
				temp := p.temp("_active/a.md", textNote(seaMore))
				p.gone("_active/a.md")
				p.wait(4 * time.Second)
				p.place(temp, "_active/a.md", time.Now())
			},
			asked: once, listed: done, kept: []string{seaMore}},
	}
}
