//go:build linux

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
)

// poll compares a look at a queue of 10,000 notes with the bare listing, and a stat
// of each.
func poll(b *testing.B, t *table) {
	const notes, looks = 10_000, 15
	root := makeVault(b, notes)
	v, err := vault.Open(root)
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	q := queue.New(v, time.Hour, job.Rules{Location: time.UTC})
	var ours, limit []time.Duration
	for look := range looks + 1 {
		began := time.Now()
		bareScan(b, filepath.Join(root, queue.Waiting), notes)
		bare := time.Since(began)
		began = time.Now()
		if err := q.Scan(began); err != nil {
			b.Fatal(err)
		}
		whole := time.Since(began)
		if look == 0 {
			continue // the first look makes the items
		}
		ours, limit = append(ours, whole), append(limit, bare)
	}
	if len(q.Items()) != notes {
		b.Fatalf("the queue has %d notes, want %d", len(q.Items()), notes)
	}
	b.ReportMetric(median(ours).Seconds()*1000, "ms/scan")
	t.add("look at 10,000 notes in the queue", ms(median(ours)), ms(median(limit)), ratio(median(limit), median(ours)), "≤ 250 ms")
}

func ratio(limit, ours time.Duration) string {
	return fmt.Sprintf("%.2f", limit.Seconds()/ours.Seconds())
}

func bareScan(b *testing.B, dir string, want int) {
	b.Helper()
	f, err := os.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		b.Fatal(err)
	}
	var st unix.Stat_t
	for _, name := range names {
		if err := unix.Fstatat(int(f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			b.Fatal(err)
		}
	}
	if len(names) != want {
		b.Fatalf("the folder has %d notes, want %d", len(names), want)
	}
}

// list compares list with nothing done and with many notes done, and with a process
// that only prints its version.
func list(b *testing.B, t *table, w *worlds) {
	const times, wholes = 15, 3
	empty, full := startProcess(b, w.binary(), w.empty()), startProcess(b, w.binary(), w.full())
	defer empty.stop(b)
	defer full.stop(b)
	commands := []struct {
		name string
		args []string
		took []time.Duration
	}{
		{"limit", []string{"version"}, nil},
		{"list, nothing done", []string{"list", "--config", w.empty()}, nil},
		{"list, 100,000 done", []string{"list", "--config", w.full()}, nil},
		{"list --json, nothing done", []string{"list", "--json", "--config", w.empty()}, nil},
		{"list --json, 100,000 done", []string{"list", "--json", "--config", w.full()}, nil},
	}
	for range times {
		for i, c := range commands {
			commands[i].took = append(c.took, timed(b, w.binary(), c.args...))
		}
	}
	limit := median(commands[0].took)
	for _, c := range commands[1:] {
		t.add(c.name, ms(median(c.took)), ms(limit), ratio(limit, median(c.took)), "")
	}
	b.ReportMetric(median(commands[2].took).Seconds()*1000, "ms/list")
	t.add("memory of the worker, 100,000 done, listed", mib(full.memory(b, "VmRSS")), mib(empty.memory(b, "VmRSS")), "", "")
	var whole []time.Duration
	for range wholes {
		whole = append(whole, timed(b, w.binary(), "list", "--json", "--limit", fmt.Sprint(many), "--config", w.full()))
	}
	t.add("list --json of all 100,000", ms(median(whole)), ms(limit), "", "")
	t.add("most memory of the worker after that", mib(full.memory(b, "VmHWM")), mib(empty.memory(b, "VmHWM")), "", "")
}

// start compares the time until the worker is ready with that of a process that
// only prints its version.
func start(b *testing.B, t *table, w *worlds) {
	const times = 21
	var limit, empty, full []time.Duration
	for range times {
		limit = append(limit, timed(b, w.binary(), "version"))
		for _, world := range []struct {
			file string
			took *[]time.Duration
		}{{w.empty(), &empty}, {w.full(), &full}} {
			p := startProcess(b, w.binary(), world.file)
			*world.took = append(*world.took, p.ready)
			p.stop(b)
		}
	}
	b.ReportMetric(median(empty).Seconds()*1000, "ms/start")
	b.ReportMetric(median(full).Seconds()*1000, "ms/full-start")
	t.add("start to ready, nothing done", ms(median(empty)), ms(median(limit)), ratio(median(limit), median(empty)), "≤ 100 ms")
	t.add("start to ready, 100,000 done", ms(median(full)), ms(median(limit)), ratio(median(limit), median(full)), "≤ 100 ms")
}

// idle measures what a worker costs that has nothing to do, beside the same program
// waiting for its input.
func idle(b *testing.B, t *table, w *worlds) {
	const span = 20 * time.Second
	type state struct {
		name, unit string
		p          *process
		cpu        time.Duration
	}
	limit := startWaiting(b, w.binary(), w.empty())
	states := []*state{{name: "nothing done", p: startProcess(b, w.binary(), w.empty())}, {name: "100,000 done", unit: "full-", p: startProcess(b, w.binary(), w.full())}}
	<-time.After(2 * time.Second) // the first looks are no idling
	bare := limit.cpu(b)
	for _, s := range states {
		s.cpu = s.p.cpu(b)
	}
	<-time.After(span)
	perSecond := func(from, to time.Duration) float64 { return (to - from).Seconds() * 1000 / span.Seconds() }
	bareSpent := perSecond(bare, limit.cpu(b))
	for _, s := range states {
		spent := perSecond(s.cpu, s.p.cpu(b))
		t.add("idle processor time, "+s.name, fmt.Sprintf("%.2f ms/s", spent), fmt.Sprintf("%.2f ms/s", bareSpent), "", "near 0")
		b.ReportMetric(spent, s.unit+"cpu-ms/s")
	}
	for _, s := range states {
		rss := s.p.memory(b, "VmRSS")
		t.add("idle memory, "+s.name, fmt.Sprintf("%s (%s without files)", mib(rss), mib(s.p.memory(b, "RssAnon"))), mib(limit.memory(b, "VmRSS")), "", "≤ 30 MiB")
		b.ReportMetric(float64(rss)/(1<<20), s.unit+"RSS-MiB")
		s.p.stop(b)
	}
	limit.kill(b)
}
