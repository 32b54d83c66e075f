package worker

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault/vaulttest"
)

// peer does to the rig's vault what Syncthing was seen to do: a temporary file
// of the final size, filled, the unlink of what it replaces, the rename, and
// only then the origin's mtime.
type peer struct {
	*rig
	*session
	// heard gets the names that file events would tell; nil if there are none.
	heard chan string
}

func (p *peer) hear(name string) {
	if p.heard != nil && path.Dir(name) == queue.Waiting {
		p.heard <- path.Base(name)
	}
}

// wait lets time pass and whatever is due happen.
func (p *peer) wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// temp makes the temporary file of a transfer and returns its name.
func (p *peer) temp(name, text string) string {
	temp := path.Join(path.Dir(name), ".syncthing."+path.Base(name)+".tmp")
	p.rig.mem.Put(temp, strings.Repeat("\x00", len(text)))
	p.hear(temp)
	p.rig.mem.Edit(temp, text)
	p.hear(temp)
	return temp
}

// gone removes a name if it is there, as the first half of a replacement or as a
// deletion.
func (p *peer) gone(name string) {
	if _, err := p.rig.mem.Lstat(name); err == nil {
		p.rig.mem.Unlink(name)
		p.hear(name)
	}
}

// place is the second half: the rename, and the mtime.
func (p *peer) place(temp, name string, mtime time.Time) {
	if err := p.rig.mem.Rename(temp, name); err != nil {
		panic(err)
	}
	p.hear(name)
	p.rig.mem.SetMtime(name, mtime)
	p.hear(name)
}

// sends delivers a whole file that was written on the other machine some time
// ago.
func (p *peer) sends(name, text string, age time.Duration) {
	temp := p.temp(name, text)
	p.gone(name)
	p.place(temp, name, time.Now().Add(-age))
}

// queued is a name in the queue folder.
func queued(name string) string { return path.Join(queue.Waiting, name) }

// slow makes each answer take its time.
func (p *peer) slow(d time.Duration) {
	m := p.rig.models["davas"]
	m.script = func(ctx context.Context, _ int, req provider.Request) (provider.Answer, error) {
		select {
		case <-time.After(d):
			return m.answer(req), nil
		case <-ctx.Done():
			return provider.Answer{}, &provider.Error{Kind: provider.Cancelled, Provider: "davas", Reason: "stopped", Sent: true}
		}
	}
}

// fails makes each answer a failure.
func (p *peer) fails() {
	p.rig.models["davas"].script = func(context.Context, int, provider.Request) (provider.Answer, error) {
		return provider.Answer{}, &provider.Error{Kind: provider.Failed, Provider: "davas", Reason: "no luck", Sent: true}
	}
}

// refusesOnce makes the first call find nobody there.
func (p *peer) refusesOnce() {
	m := p.rig.models["davas"]
	m.script = func(_ context.Context, n int, req provider.Request) (provider.Answer, error) {
		if n == 1 {
			return provider.Answer{}, &provider.Error{Kind: provider.Unreachable, Provider: "davas", Reason: "refused the connection"}
		}
		return m.answer(req), nil
	}
}

// running waits until a prompt was asked.
func (p *peer) running(prompt string) {
	p.until("asked: "+prompt, func() bool { return p.rig.models["davas"].asked(prompt) > 0 })
}

// ended waits until a note is in a folder and its job is settled.
func (p *peer) ended(folder, name string) {
	p.until(name+" in "+folder, func() bool { return p.in(folder, name) && p.settled() })
}

// asks is how often each prompt was asked.
func (p *peer) asks() map[string]int {
	m := p.rig.models["davas"]
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.calls)
}

// states is what list shows, by the path of each note.
func (p *peer) states() map[string]string {
	jobs, err := p.session.List(context.Background(), control.Filter{})
	if err != nil {
		p.rig.t.Fatal(err)
	}
	states := make(map[string]string)
	for _, j := range jobs {
		states[path.Join(j.Folder, j.Name)] = j.State
	}
	return states
}

// peerRow is something that a synced vault does, and what has come of it.
type peerRow struct {
	name string
	act  func(p *peer)
	// asked is all that was asked, and how often.
	asked map[string]int
	// listed is all that list shows; * stands for what is added to a taken name.
	listed map[string]string
	// kept are texts that stand in exactly one note, wherever that lies.
	kept []string
}

// TestWhatASyncedVaultDoes plays each row with file events and without, looks at
// what has come of it when all is quiet, and again after a restart, which must
// change nothing.
func TestWhatASyncedVaultDoes(t *testing.T) {
	for _, row := range slices.Concat(transferRows(), echoRows(), goneRows()) {
		for _, events := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, events %v", row.name, events), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { row.play(t, events) })
			})
		}
	}
}

func (row peerRow) play(t *testing.T, events bool) {
	r := newRig(t)
	p := &peer{rig: r}
	if events {
		p.heard = make(chan string, 1000)
		r.change = func(o *Options) { o.Watch = p.heard }
	}
	p.session = r.start()
	<-p.Ready()
	row.act(p)
	p.wait(5 * time.Minute)
	row.check(t, p, "in the end")
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	p.session = r.start()
	<-p.Ready()
	p.wait(5 * time.Minute)
	row.check(t, p, "after a restart")
	for _, c := range p.files.Log() {
		if c.Op == vaulttest.Open && strings.Contains(c.Name, "syncthing") {
			t.Errorf("a temporary file of Syncthing was opened: %s", c)
		}
	}
	p.stop()
	if t.Failed() {
		t.Logf("log:\n%s", tail(r.log.String()))
	}
}

func (row peerRow) check(t *testing.T, p *peer, when string) {
	t.Helper()
	if got := p.asks(); !maps.Equal(got, row.asked) {
		t.Errorf("%s: asked %v, want %v", when, got, row.asked)
	}
	got := p.states()
	left := maps.Clone(got)
	for want, state := range row.listed {
		found := ""
		for name := range left {
			if ok, _ := path.Match(want, name); ok {
				found = name
			}
		}
		if left[found] != state {
			t.Errorf("%s: %s is %q, want %q; all: %v", when, want, left[found], state, got)
		}
		delete(left, found)
	}
	if len(left) > 0 {
		t.Errorf("%s: list has more: %v", when, left)
	}
	for _, text := range row.kept {
		var at []string
		for name, content := range p.rig.mem.Files() {
			if strings.Contains(content, text) && path.Dir(name) != queue.Outputs {
				at = append(at, name)
			}
		}
		if len(at) != 1 {
			t.Errorf("%s: %q stands in %v, want one note", when, text, at)
		}
	}
}
