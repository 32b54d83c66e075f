//go:build linux

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"davidcockson.com/runner/internal/queue"
)

const drops = 200

// pickUp measures the time from the end of a note's guard to the claim's move, as a
// third process sees it, with nothing done and with many notes done. The limit is a
// loop that hears of the file, waits for the guard's time, commits a row and moves.
func pickUp(b *testing.B, t *table, w *worlds) {
	limit := bareLate(b)
	for _, world := range []struct{ name, unit, file string }{{"nothing done", "p99-ms", w.empty()}, {"100,000 done", "full-p99-ms", w.full()}} {
		p := startProcess(b, w.binary(), world.file)
		all := late(b, vaultOf(b, world.file))
		p.stop(b)
		b.ReportMetric(percentile(all, 0.99).Seconds()*1000, world.unit)
		t.add("pick-up beyond the guard, "+world.name, lates(all), lates(limit), ratio(percentile(limit, 0.5), percentile(all, 0.5))+" of p50", "p99 ≤ 100 ms")
	}
}

func lates(all []time.Duration) string {
	return fmt.Sprintf("p50 %s, p99 %s", ms(percentile(all, 0.5)), ms(percentile(all, 0.99)))
}

// late drops notes, one each 50 ms, by a rename as a sync does it, and returns how
// long after its guard's end each was moved into the active folder.
func late(b *testing.B, root string) []time.Duration {
	b.Helper()
	watcher, err := fsnotify.NewBufferedWatcher(drops)
	if err != nil {
		b.Fatal(err)
	}
	defer watcher.Close()
	if err := watcher.Add(filepath.Join(root, queue.Active)); err != nil {
		b.Fatal(err)
	}
	dropped := make(map[string]time.Time)
	var all []time.Duration
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	stuck := time.After(time.Minute)
	for len(all) < drops {
		select {
		case <-tick.C:
			if n := len(dropped); n < drops {
				name := fmt.Sprintf("drop %d %06d.md", time.Now().UnixNano(), n)
				temp := filepath.Join(root, "."+name+".tmp")
				if err := os.WriteFile(temp, []byte(noteText(n, prompt)), 0o644); err != nil {
					b.Fatal(err)
				}
				dropped[name] = time.Now()
				if err := os.Rename(temp, filepath.Join(root, queue.Waiting, name)); err != nil {
					b.Fatal(err)
				}
			}
		case e := <-watcher.Events:
			if at, ok := dropped[filepath.Base(e.Name)]; ok && e.Has(fsnotify.Create) {
				all = append(all, time.Since(at)-guard)
			}
		case err := <-watcher.Errors:
			b.Fatal(err)
		case <-stuck:
			b.Fatalf("only %d of %d notes were picked up", len(all), drops)
		}
	}
	return all
}

// bareLate is late for a loop that does no more than it must.
func bareLate(b *testing.B) []time.Duration {
	b.Helper()
	root := makeVault(b, 0)
	l := openBare(b, root)
	watcher, err := fsnotify.NewBufferedWatcher(drops)
	if err != nil {
		b.Fatal(err)
	}
	if err := watcher.Add(filepath.Join(root, queue.Waiting)); err != nil {
		b.Fatal(err)
	}
	due := make(chan string, drops)
	ended := make(chan error, 1)
	go func() {
		ended <- func() error {
			for n := 0; n < drops; {
				select {
				case e := <-watcher.Events:
					if e.Has(fsnotify.Create) {
						time.AfterFunc(guard, func() { due <- filepath.Base(e.Name) })
					}
				case name := <-due:
					id := fmt.Sprintf("%06d", n)
					if err := l.claim(n, id, id, fmt.Sprintf("%064d", n), noteText(n, prompt)); err != nil {
						return err
					}
					if err := move(l.waiting, l.active, name); err != nil {
						return err
					}
					n++
				}
			}
			return nil
		}()
	}()
	all := late(b, root)
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	if err := watcher.Close(); err != nil {
		b.Fatal(err)
	}
	return all
}
