//go:build linux

package bench

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/echo"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/sqlite/sqlitetest"
	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/vault/vaulttest"
	"davidcockson.com/runner/internal/worker"
)

const (
	drained = 100  // notes in a round
	rounds  = 11   // of each, in turns
	prompt  = 2000 // bytes
)

// drain compares the worker with the bare limit, some jobs at once.
func drain(b *testing.B, t *table, jobs int) {
	var ours, limit, ratios []float64
	for round := range rounds + 1 {
		bare := perSecond(b, drained, func() time.Duration { return bareDrain(b, drained, jobs) })
		whole := perSecond(b, drained, func() time.Duration { return workerDrain(b, drained, jobs) })
		if round == 0 {
			continue // both have to warm up
		}
		ours, limit, ratios = append(ours, whole), append(limit, bare), append(ratios, whole/bare)
	}
	ratio := median(ratios)
	b.ReportMetric(median(ours), "jobs/s")
	b.ReportMetric(median(limit), "limit-jobs/s")
	b.ReportMetric(ratio, "ratio")
	t.add(fmt.Sprintf("drain, %d at once", jobs), fmt.Sprintf("%.0f jobs/s", median(ours)), fmt.Sprintf("%.0f jobs/s", median(limit)),
		fmt.Sprintf("%.2f (%.2f to %.2f)", ratio, percentile(ratios, 0), percentile(ratios, 1)), "≥ 0.70")
}

func perSecond(b *testing.B, n int, f func() time.Duration) float64 {
	b.Helper()
	runtime.GC()
	return float64(n) / f().Seconds()
}

// cost counts what one job takes: syncs and commits, which must not be fewer than
// those of the limit, processor time and memory.
func cost(b *testing.B, t *table) {
	syncs, commits := workerWrites(b)
	if syncs < bareSyncs || commits < bareCommits {
		b.Fatalf("the limit does %d syncs and %d commits a job, the worker %d and %d: the limit is none", bareSyncs, bareCommits, syncs, commits)
	}
	t.add("syncs of files and folders a job", fmt.Sprint(syncs), fmt.Sprint(bareSyncs), "", "")
	t.add("commits a job", fmt.Sprint(commits), fmt.Sprint(bareCommits), "", "")

	const turns = 3
	var bare, whole usage
	for turn := range turns {
		// The least, since what others do in the meantime only adds.
		bare = bare.least(turn, spent(drained, func() time.Duration { return bareDrain(b, drained, 1) }))
		whole = whole.least(turn, spent(drained, func() time.Duration { return workerDrain(b, drained, 1) }))
	}
	b.ReportMetric(whole.cpu.Seconds()*1e6, "cpu-µs/job")
	b.ReportMetric(whole.allocs, "allocs/job")
	b.ReportMetric(whole.bytes, "B/job")
	t.add("processor time a job", ms(whole.cpu), ms(bare.cpu), ratio(bare.cpu, whole.cpu), "")
	t.add("allocations a job", fmt.Sprintf("%.0f, %.0f KiB", whole.allocs, whole.bytes/1024), fmt.Sprintf("%.0f, %.0f KiB", bare.allocs, bare.bytes/1024), "", "")
}

// usage is what one job took.
type usage struct {
	cpu           time.Duration
	allocs, bytes float64
}

// least takes the smaller of each, or the other one in the first turn.
func (u usage) least(turn int, other usage) usage {
	if turn == 0 {
		return other
	}
	return usage{min(u.cpu, other.cpu), min(u.allocs, other.allocs), min(u.bytes, other.bytes)}
}

// spent measures what f takes for each of n jobs. Making the notes is in it, which
// is little and the same for both.
func spent(n int, f func() time.Duration) usage {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	cpu := ownCPU()
	f()
	cpu = ownCPU() - cpu
	runtime.ReadMemStats(&after)
	return usage{cpu / time.Duration(n), float64(after.Mallocs-before.Mallocs) / float64(n), float64(after.TotalAlloc-before.TotalAlloc) / float64(n)}
}

func ownCPU() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // it has no way to fail
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// noteText is a job note whose body has about the given size, like no other's.
func noteText(i, size int) string {
	line := fmt.Sprintf("Note %d: what follows from this line, and what does not?\n", i)
	return "---\njob_type: text\n---\n" + strings.Repeat(line, size/len(line)+1)
}

// makeVault makes the folders and n notes in the queue, and returns the root.
func makeVault(b *testing.B, n int) string {
	b.Helper()
	root := b.TempDir()
	for _, folder := range queue.Folders() {
		if err := os.Mkdir(filepath.Join(root, folder), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	for i := range n {
		if err := os.WriteFile(filepath.Join(root, queue.Waiting, noteName(i)), []byte(noteText(i, prompt)), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	syscall.Sync() // the notes' own data are not to be written in the measured time
	return root
}

func noteName(i int) string { return fmt.Sprintf("note %06d.md", i) }

// workerDrain is how long the worker takes for n notes, from its start being done
// to the last job being settled.
func workerDrain(b *testing.B, n, jobs int) time.Duration {
	b.Helper()
	v, err := vault.Open(makeVault(b, n))
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	l, err := ledger.Open(b.Context(), filepath.Join(b.TempDir(), "ledger.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return runWorker(b, v, l, n, jobs)
}

// workerWrites counts the syncs and commits of a job.
func workerWrites(b *testing.B) (syncs, commits int) {
	b.Helper()
	const n = 20
	v, err := vault.Open(makeVault(b, n))
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	files, writes := vaulttest.NewFaults(v.FS()), new(sqlitetest.Faults)
	l := ledger.New(sqlitetest.Open(b, filepath.Join(b.TempDir(), "ledger.db"), ledger.Migrations(), writes))
	runWorker(b, vault.New(files), l, n, 1)
	started := false
	for _, c := range files.Log() {
		// What comes before the first claim is the start's.
		started = started || c.Op == vaulttest.Rename && strings.HasPrefix(c.Name, queue.Waiting+"/note ")
		if started && (c.Op == vaulttest.FileSync || c.Op == vaulttest.SyncDir) {
			syncs++
		}
	}
	return syncs / n, writes.Writes() / n
}

// runWorker runs a worker, made as the program makes it, until n notes are done.
func runWorker(b *testing.B, v *vault.Vault, l *ledger.Ledger, n, jobs int, change ...func(*worker.Options)) time.Duration {
	b.Helper()
	ctx, stop := context.WithTimeout(b.Context(), 5*time.Minute)
	defer stop()
	done := &counter{Handler: slog.NewTextHandler(io.Discard, nil), left: n, stop: stop}
	const host = "echo"
	o := worker.Options{
		Vault: v, Ledger: l, Hub: live.NewHub(256, time.Now), Location: time.UTC, Concurrency: jobs,
		Hosts:    []ask.Host{{Name: host, Provider: echo.New(host, provider.DefaultDeadlines()), Models: []string{echo.Echo}}},
		Arbiter:  provider.NewArbiter(map[string]int{host: jobs}, time.Now),
		JobLimit: 15 * time.Minute, Grace: time.Minute, Hostname: "here", Version: "bench", StateID: "state",
		StateFree: func() (int64, error) { return 1 << 40, nil }, Poll: time.Second, Log: slog.New(done),
	}
	for _, f := range change {
		f(&o)
	}
	w := worker.New(o)
	var began time.Time
	go func() {
		<-w.Ready()
		began = time.Now()
	}()
	if err := w.Run(ctx); err != nil {
		b.Fatal(err)
	}
	took := time.Since(began)
	if n := done.moved.Load(); n != int64(done.left) {
		b.Fatalf("%d of %d notes came to their end", n, done.left)
	}
	return took
}

// counter stops a worker once its log tells that the last note was completed. The
// stop waits for the jobs that run, so all are settled when the worker returns.
type counter struct {
	slog.Handler
	left  int
	moved atomic.Int64
	stop  func()
}

func (c *counter) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "to" && a.Value.String() == queue.Completed && c.moved.Add(1) == int64(c.left) {
			c.stop()
		}
		return a.Key != "to"
	})
	return c.Handler.Handle(ctx, r)
}
