// Package syncpair drains a queue that a real pair of Syncthing peers shares:
// notes are written on one, the real binary works on the other.
//
// It holds that every job is answered exactly once, that whatever else came of it
// is shown as held or as a duplicate, that no conflict copy runs, and that both
// vaults end the same, byte by byte, with none of our temporary files sent.
package syncpair

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/peertest"
)

func TestMain(m *testing.M) { os.Exit(peertest.Main(m)) }

// pair is the owner's device and the worker's machine.
type pair struct {
	t             *testing.T
	device, host  *syncthing
	binary, conf  string
	jobs          []string // the marker of each job that must be answered once
	neverAnswered []string // what must never be asked
	held          []string // the notes that must be shown as held or a duplicate
}

func newPair(t *testing.T) *pair {
	program := peertest.Need(t, "syncthing")
	p := &pair{t: t, binary: peertest.Build(t)}
	p.device, p.host = newSyncthing(t, program, "device"), newSyncthing(t, program, "host")
	// One dials and one listens: two that dial at once may wait 20 s for each other.
	p.device.dial, p.host.dial = "tcp://"+p.device.listen, "dynamic"
	state := t.TempDir()
	p.conf = filepath.Join(state, "runner.yaml")
	conf := fmt.Sprintf("vault: %q\nstate_dir: %q\nguard: 300ms\nlisten: 127.0.0.1:0\nops_listen: 127.0.0.1:0\nproviders:\n  - name: echo\n    kind: echo\n", p.host.vault, filepath.Join(state, "state"))
	if err := os.WriteFile(p.conf, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	p.runner("init")
	p.device.start(program, p.host)
	p.host.start(program, p.device)
	peertest.Until(t, "the peers are connected", nil, func() bool { return p.device.connected(p.host) && p.host.connected(p.device) })
	peertest.Until(t, "the folders are on the device", nil, func() bool { return p.device.has("_queue") && p.device.has("_failed") })
	return p
}

func (p *pair) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.binary, append(args, "--config", p.conf)...)
	cmd.Env = peertest.Environ()
	return cmd
}

// runner runs a command of the binary and returns what it prints.
func (p *pair) runner(args ...string) []byte {
	p.t.Helper()
	cmd := p.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		p.t.Fatalf("runner %v: %v\n%s", args, err, errs.Bytes())
	}
	return out.Bytes()
}

// drop writes a job on the device. frontmatter are further lines of it.
func (p *pair) drop(name, frontmatter, marker string) {
	p.device.write("_queue/"+name, p.note(frontmatter, marker, ""))
}

func (p *pair) note(frontmatter, marker, more string) string {
	return "---\njob_type: text\n" + frontmatter + "---\nWrite about " + marker + ", its beginning and its end." + more + "\n"
}

// leaves waits until a note has come to the worker's machine and was claimed.
func (p *pair) leaves(name string) {
	p.t.Helper()
	peertest.Until(p.t, name+" is claimed", nil, func() bool { return p.claimed(name) })
}

func (p *pair) claimed(name string) bool {
	return p.host.has("_active/"+name) || p.host.has("_completed/"+name)
}

// listed is the state of each note by its name, as list shows it.
func (p *pair) listed(states string) map[string]string {
	var jobs []struct{ Name, State string }
	if err := json.Unmarshal(p.runner("list", "--json"), &jobs); err != nil {
		p.t.Fatal(err)
	}
	names := make(map[string]string)
	for _, j := range jobs {
		if strings.Contains(states, j.State) {
			names[j.Name] = j.State
		}
	}
	return names
}

// tree is what a vault holds, by name, without what is each peer's own: among it
// what Syncthing keeps for a day of a transfer that it gave up.
func (p *pair) tree(s *syncthing) map[string]string {
	files := make(map[string]string)
	err := filepath.WalkDir(s.vault, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		rel, err := filepath.Rel(s.vault, name)
		if err != nil || rel == ".stignore" || strings.HasPrefix(rel, ".stfolder") || strings.HasPrefix(entry.Name(), ".syncthing.") || s == p.host && strings.HasPrefix(rel, ".runner/tmp/") {
			return err
		}
		data, err := os.ReadFile(name)
		files[filepath.ToSlash(rel)] = string(data)
		return err
	})
	if err != nil {
		return map[string]string{"(unstable)": s.name} // a file left while we looked
	}
	return files
}

// converge waits until both peers are at rest with the same files.
func (p *pair) converge() {
	p.t.Helper()
	p.t.Cleanup(func() {
		if p.t.Failed() {
			p.differences()
		}
	})
	peertest.Until(p.t, "both vaults are the same", nil, func() bool {
		return p.device.idle() && p.host.idle() && maps.Equal(p.tree(p.device), p.tree(p.host))
	})
}

func (p *pair) differences() {
	here, there := p.tree(p.host), p.tree(p.device)
	for name, text := range here {
		if other, ok := there[name]; !ok || other != text {
			p.t.Logf("%s: host %q, device %q", name, text, other)
		}
		delete(there, name)
	}
	for name, text := range there {
		p.t.Logf("%s: on the device alone: %q", name, text)
	}
	p.t.Logf("idle: host %v, device %v", p.host.idle(), p.device.idle())
}

// TestPair drops 40 jobs, or more with RUNNER_SOAK, in rounds of eight: over a
// link that is up, and over one that is cut and healed.
func TestPair(t *testing.T) {
	rounds := peertest.Soak(t, 40, 200) / 8
	p := newPair(t)
	worker := peertest.Start(t, p.command("worker"))
	for round := range rounds {
		if round%2 == 0 {
			p.linked(round)
		} else {
			p.severed(round)
		}
	}
	p.check()
	if t.Failed() {
		return
	}
	// Nothing that is held may run after a restart.
	worker.Terminate()
	before := p.tree(p.host)
	peertest.Start(t, p.command("worker"))
	p.drop("last.md", "", "the last job")
	p.jobs = append(p.jobs, "the last job")
	p.leaves("last.md")
	p.check()
	for name, text := range p.tree(p.host) {
		if was, ok := before[name]; ok && was != text && name != ".runner/owner.json" || !ok && !strings.Contains(name, "last") {
			t.Errorf("%s changed after a restart", name)
		}
	}
}

// names gives a round's eight jobs their names and markers.
func (p *pair) names(round int) (names, markers []string) {
	for i := range 8 {
		names = append(names, fmt.Sprintf("job-%02d-%d.md", round, i))
		markers = append(markers, fmt.Sprintf("subject %02d-%d", round, i))
	}
	p.jobs = append(p.jobs, markers...)
	return names, markers
}

// linked edits jobs on the device as soon as they were claimed, most of them
// before the device has heard of it, one while it runs.
func (p *pair) linked(round int) {
	names, markers := p.names(round)
	for i, name := range names {
		extra := ""
		switch i {
		case 5:
			extra = "id: own-" + strings.TrimSuffix(name, ".md") + "\n"
		case 6:
			extra = "model: slow\n"
		}
		p.drop(name, extra, markers[i])
	}
	p.leaves(names[3])
	p.device.write("_queue/"+names[3], p.note("", markers[3], " And be brief."))
	p.leaves(names[4]) // its owner types on
	for _, more := range []string{" And", " And be", " And be brief."} {
		p.device.write("_queue/"+names[4], p.note("", markers[4], more))
	}
	p.leaves(names[5])
	p.device.write("_queue/"+names[5], p.note("id: own-"+strings.TrimSuffix(names[5], ".md")+"\n", markers[5], " And be brief."))
	p.leaves(names[6])
	p.device.write("_queue/again-"+names[6], p.note("model: slow\n", markers[6], ""))
	p.held = append(p.held, names[3], names[4], names[5], "again-"+names[6])
}

// severed writes and edits on both sides of a cut link, and renames what the
// other side claims meanwhile.
func (p *pair) severed(round int) {
	names, markers := p.names(round)
	conflict := fmt.Sprintf("both-%02d.md", round)
	marker := fmt.Sprintf("conflict %02d", round)
	p.neverAnswered = append(p.neverAnswered, marker)
	p.drop(conflict, "not_before: 2100-01-01\n", marker)
	for i := range 3 {
		p.drop(names[i], "", markers[i])
	}
	peertest.Until(p.t, "they are on the worker's machine", nil, func() bool {
		return p.host.has("_queue/"+conflict) && !slices.ContainsFunc(names[:3], func(n string) bool { return !p.host.has("_queue/"+n) && !p.claimed(n) })
	})
	p.host.cut(p.device)
	for i := 3; i < 8; i++ { // they wait on the device
		p.drop(names[i], "", markers[i])
	}
	p.device.write("_queue/"+names[3], p.note("", markers[3], " And be brief."))
	for i := range 3 {
		p.leaves(names[i])
	}
	if p.device.has("_queue/" + names[0]) { // it has not heard of the claim
		if err := os.Rename(filepath.Join(p.device.vault, "_queue", names[0]), filepath.Join(p.device.vault, "_queue", "renamed-"+names[0])); err != nil {
			p.t.Fatal(err)
		}
	}
	p.device.write("_queue/"+names[1], p.note("", markers[1], " And be brief."))
	p.held = append(p.held, names[1])
	// Syncthing lets the later edit win: the one that could run is the copy.
	p.device.write("_queue/"+conflict, p.note("", marker, " The device's."))
	at := time.Now().Add(-time.Minute)
	if err := os.Chtimes(filepath.Join(p.device.vault, "_queue", conflict), at, at); err != nil {
		p.t.Fatal(err)
	}
	p.host.write("_queue/"+conflict, p.note("not_before: 2101-01-01\n", marker, " The host's."))
	p.host.heal(p.device)
}

// check waits until all is quiet and looks at what has come of it.
func (p *pair) check() {
	t := p.t
	t.Helper()
	peertest.Until(t, "every job is answered", nil, func() bool { return len(p.outputs()) >= len(p.jobs) && len(p.listed("active")) == 0 })
	for _, name := range p.held {
		peertest.Until(t, name+" is shown as held", nil, func() bool { return p.listed("held duplicate")[name] != "" })
	}
	p.converge()
	held := p.listed("held duplicate")
	waiting := p.listed("waiting")
	outputs := p.outputs()
	tree := p.tree(p.device)
	for _, marker := range p.jobs {
		if n := len(outputs[marker]); n != 1 {
			t.Errorf("%s has %d answers: %v", marker, n, outputs[marker])
		}
		ends := 0
		for name, text := range tree {
			dir, base := path.Split(name)
			switch {
			case dir == "runner-outputs/" || !strings.Contains(text, marker+","):
			case dir == "_completed/" && strings.Contains(text, "status: completed"):
				ends++
			case held[base] == "":
				t.Errorf("%s lies in %s and is not shown as held or a duplicate", marker, name)
			}
		}
		if ends != 1 {
			t.Errorf("%s is completed %d times", marker, ends)
		}
	}
	for _, marker := range p.neverAnswered {
		if len(outputs[marker]) > 0 {
			t.Errorf("%s was asked: %v", marker, outputs[marker])
		}
		copies := 0
		for name, text := range tree {
			if !strings.Contains(text, marker+",") {
				continue
			}
			base := path.Base(name)
			if strings.Contains(name, ".sync-conflict-") {
				copies++
				if held[base] == "" {
					t.Errorf("%s is not shown", name)
				}
			} else if waiting[base] == "" {
				t.Errorf("%s does not wait", name)
			}
		}
		if copies != 1 {
			t.Errorf("%s has %d conflict copies", marker, copies)
		}
	}
	if p.device.has(".runner/tmp") {
		t.Error("the folder of temporary files was sent to the device")
	}
}

// outputs are the names of the output notes by what they answer.
func (p *pair) outputs() map[string][]string {
	outputs := make(map[string][]string)
	for name, text := range p.tree(p.host) {
		if path.Dir(name) != "runner-outputs" {
			continue
		}
		for _, marker := range slices.Concat(p.jobs, p.neverAnswered) {
			if strings.Contains(text, "Write about "+marker+",") {
				outputs[marker] = append(outputs[marker], name)
			}
		}
	}
	return outputs
}
