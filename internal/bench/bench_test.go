//go:build linux

// Package bench measures the product beside its limits: what the same machine, in
// the same minute, gives to a loop that does only what cannot be left out.
//
//	go test -run='^$' -bench=. ./internal/bench
//
// Every figure is a median or a percentile of alternating rounds, so that another
// load on the machine strikes a figure and its limit alike; the ratio of the two is
// what counts. A benchmark fails only where something went wrong or where its limit
// does more than the product, never for being slow. It stores nothing: its vaults
// and databases lie in a temporary folder, which TMPDIR names and which has to be
// on a disk. Linux only: it reads /proc.
package bench

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkRunner measures all of it and prints the figures as one table.
func BenchmarkRunner(b *testing.B) {
	var t table
	onDisk(b)
	worlds := newWorlds(b)
	b.Run("drain/jobs=1", func(b *testing.B) { once(b, func() { drain(b, &t, 1) }) })
	b.Run("drain/jobs=4", func(b *testing.B) { once(b, func() { drain(b, &t, 4) }) })
	b.Run("cost", func(b *testing.B) { once(b, func() { cost(b, &t) }) })
	b.Run("outside", func(b *testing.B) { once(b, func() { outside(b, &t) }) })
	b.Run("poll", func(b *testing.B) { once(b, func() { poll(b, &t) }) })
	b.Run("start", func(b *testing.B) { once(b, func() { start(b, &t, worlds) }) })
	b.Run("list", func(b *testing.B) { once(b, func() { list(b, &t, worlds) }) })
	b.Run("idle", func(b *testing.B) { once(b, func() { idle(b, &t, worlds) }) })
	b.Run("pickup", func(b *testing.B) { once(b, func() { pickUp(b, &t, worlds) }) }) // last: it has jobs done
	t.print(os.Stdout)
}

// onDisk refuses a temporary folder in memory, where a sync costs nothing and every
// ratio would be wrong.
func onDisk(b *testing.B) {
	b.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(os.TempDir(), &st); err != nil {
		b.Fatal(err)
	}
	if st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC {
		b.Fatalf("%s lies in memory: set TMPDIR to a folder on a disk", os.TempDir())
	}
}

// once runs f as the benchmark's one iteration: each f has rounds of its own.
func once(b *testing.B, f func()) {
	b.ReportMetric(0, "ns/op") // the time of the whole tells nothing
	for done := false; b.Loop(); done = true {
		if !done {
			f()
		}
	}
}

// table collects the figures in the order in which they were measured.
type table struct{ rows [][]string }

func (t *table) add(figure, measured, limit, ratio, aim string) {
	t.rows = append(t.rows, []string{figure, measured, limit, ratio, aim})
}

func (t *table) print(w io.Writer) {
	if len(t.rows) == 0 {
		return
	}
	fmt.Fprintln(w)
	out := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	head := []string{"figure", "runner", "limit", "of the limit", "aim"}
	rule := []string{"---", "---", "---", "---", "---"}
	for _, row := range append([][]string{head, rule}, t.rows...) {
		fmt.Fprintf(out, "| %s\t|\n", strings.Join(row, "\t| "))
	}
	out.Flush()
	fmt.Fprintln(w)
}

// percentile is the value of which p of all (0 to 1) are not above it.
func percentile[T float64 | time.Duration](all []T, p float64) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

func median[T float64 | time.Duration](all []T) T { return percentile(all, 0.5) }

// ms is a duration as the table shows it.
func ms(d time.Duration) string {
	return fmt.Sprintf("%.*f ms", digits(d.Seconds()*1000), d.Seconds()*1000)
}

func mib(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// digits is how many decimals give x three figures.
func digits(x float64) int {
	switch {
	case x >= 100:
		return 0
	case x >= 10:
		return 1
	}
	return 2
}
