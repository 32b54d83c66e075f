package worker

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault/vaulttest"
)

func TestWhatIsNoFileIsShownAndNeverOpened(t *testing.T) {
	rows := []struct {
		name string
		mode fs.FileMode
	}{
		{"a symbolic link", fs.ModeSymlink},
		{"a FIFO", fs.ModeNamedPipe},
		{"a folder", fs.ModeDir},
		{"a block device", fs.ModeDevice},
		{"a character device", fs.ModeDevice | fs.ModeCharDevice},
		{"a socket", fs.ModeSocket},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				for _, folder := range []string{queue.Waiting, queue.Active} {
					if row.mode.IsDir() {
						r.mem.MkdirAll(folder + "/x.md")
					} else {
						r.mem.PutSpecial(folder+"/x.md", row.mode)
					}
				}
				r.drop("y.md", textNote("hello"))
				p := &peer{rig: r, session: r.start()}
				p.ended(queue.Completed, "y.md")
				p.wait(10 * time.Minute)
				for name, state := range map[string]string{"_queue/x.md": "held", "_active/x.md": "held"} {
					if got := p.states()[name]; got != state {
						t.Errorf("%s is shown as %q, want %q", name, got, state)
					}
					if info, err := r.mem.Lstat(name); err != nil || info.Mode.Type() != row.mode.Type() {
						t.Errorf("%s is now %v, %v", name, info.Mode, err)
					}
				}
				p.stop()
				for _, c := range p.files.Log() {
					if path.Base(c.Name) == "x.md" && c.Op != vaulttest.Lstat {
						t.Errorf("it was touched: %s", c)
					}
				}
			})
		})
	}
}

// TestALongQueueIsDrainedInOrder drops many notes at one moment, so that their
// order is that of their names, and some with a higher priority. No turn may do
// more for it than its bounds say.
func TestALongQueueIsDrainedInOrder(t *testing.T) {
	n := peertest.Soak(t, 400, 10_000)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		// A host that had to be asked first would give the time to read all.
		r.change = func(o *Options) { o.Concurrency, o.Hosts[0].Probed = 1, false }
		var asked []string // by one job at a time
		m := r.models["davas"]
		m.script = func(_ context.Context, _ int, req provider.Request) (provider.Answer, error) {
			asked = append(asked, req.Messages[0].Content)
			return m.answer(req), nil
		}
		var urgent, want []string
		for i := range n {
			body, priority := fmt.Sprintf("prompt %05d", i), 0
			if i%100 == 99 && i > n/2 { // so that a look that reads a part of them misses these
				priority = 1
				urgent = append(urgent, body)
			} else {
				want = append(want, body)
			}
			r.drop(fmt.Sprintf("job-%05d.md", i), fmt.Sprintf("---\njob_type: text\npriority: %d\n---\n%s\n", priority, body))
		}
		s := r.start()
		r.until("all done", func() bool {
			entries, err := r.mem.ReadDir(queue.Completed)
			return err == nil && len(entries) == n && s.settled()
		})
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		if want = slices.Concat(urgent, want); !slices.Equal(asked, want) {
			t.Errorf("asked %d of %d, not in order: %q…", len(asked), n, asked[:min(5, len(asked))])
		}
	})
}

// waitingRow is what notes wait for, how many, and how often each is read: once to
// parse it, once to match it.
type waitingRow struct {
	name    string
	n       int
	down    error
	reads   int
	seconds int // how long they wait; all are known by then if reads says so
}

// TestAWaitingQueueCostsALookAtEachNameAndNoMore counts what a poll over many
// waiting notes does: each name is looked at once, and only a bounded number of
// files is read and of rows written, none once all are known.
func TestAWaitingQueueCostsALookAtEachNameAndNoMore(t *testing.T) {
	hang := func(ctx context.Context, _ int, _ provider.Request) (provider.Answer, error) {
		<-ctx.Done()
		return provider.Answer{}, &provider.Error{Kind: provider.Cancelled, Provider: "davas", Reason: "stopped", Sent: true}
	}
	away := &provider.Error{Kind: provider.Unreachable, Provider: "davas", Reason: "refused the connection"}
	rows := []waitingRow{
		{"10,000 for a place at a busy host", 10_000, nil, 0, 15},
		{"for a place at a busy host, until all are known", 400, nil, 2, 60},
		{"for a host that is away", 2_000, away, 0, 90},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.models["davas"].script = hang
				p := &peer{rig: r, session: r.start()}
				<-p.Ready()
				r.drop("a-first.md", textNote("first"))
				r.drop("b-second.md", textNote("second"))
				p.running("second") // both places of the host are taken
				r.models["davas"].setDown(row.down)
				row.play(t, p)
				p.stop()
			})
		})
	}
}

func (row waitingRow) play(t *testing.T, p *peer) {
	n := row.n
	for i := range n {
		p.rig.drop(fmt.Sprintf("job-%05d.md", i), textNote(fmt.Sprint("prompt ", i)))
	}
	var counted [2]atomic.Int64
	for i, op := range []vaulttest.Op{vaulttest.Lstat, vaulttest.Open} {
		p.files.Inject(vaulttest.Fault{Match: func(c vaulttest.Call) bool {
			return c.Op == op && path.Dir(c.Name) == queue.Waiting
		}, Hook: func(vaulttest.Call) { counted[i].Add(1) }})
	}
	last, all, writes := 0, 0, p.db.Writes()
	for second := range row.seconds {
		p.wait(time.Second)
		looks, reads := int(counted[0].Swap(0)), int(counted[1].Swap(0))
		if looks > n+reads { // a read looks before it opens
			t.Fatalf("second %d: %d looks and %d reads", second, looks, reads)
		}
		// The guards of all end in one second; each is read then, and matched later.
		all += reads
		if all > n+2*mostDecisions*(second+1) || second > 3 && reads > 2*mostDecisions {
			t.Fatalf("second %d: %d reads, %d in all", second, reads, all)
		}
		if now := p.db.Writes(); now-writes > 2*mostDecisions {
			t.Fatalf("second %d: %d writes of the ledger in one look", second, now-writes)
		} else {
			writes = now
		}
		last = reads
	}
	// The first in line is tried each time, and not matched before its turn.
	if want := row.reads * n; want > 0 && (all > want || all < want-1 || last > 0) {
		t.Errorf("%d reads of %d notes, want %d of each", all, n, row.reads)
	}
	jobs, err := p.session.List(t.Context(), control.Filter{States: []string{stateWaiting}})
	if err != nil || len(jobs) != n {
		t.Fatalf("%d jobs wait: %v", len(jobs), err)
	}
	for i, j := range jobs {
		if want := fmt.Sprintf("job-%05d.md", i); j.Name != want {
			t.Fatalf("job %d of the list is %s", i, j.Name)
		}
	}
}
