package worker

import (
	"database/sql"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/queue"
)

// jump sets the machine's clock ahead by d, or back. In a bubble the clock cannot
// be set, so all times that were written down before move the other way: to the
// program that is the same. What it keeps in memory is on the monotonic clock.
func (p *peer) jump(d time.Duration) {
	db, err := sql.Open("sqlite", p.path)
	if err != nil {
		p.rig.t.Fatal(err)
	}
	defer db.Close()
	for table, columns := range map[string][]string{
		"jobs": {"first_seen", "claimed", "started", "ended"}, "calls": {"started", "ended"}, "sightings": {"since"},
	} {
		for _, column := range columns {
			if _, err := db.Exec(fmt.Sprintf("UPDATE %s SET %s = %[2]s - ? WHERE %[2]s > 0", table, column), d.Milliseconds()); err != nil {
				p.rig.t.Fatal(err)
			}
		}
	}
}

// TestAClockThatIsSetMakesNoDouble sets the clock in mid-job and after it, and
// then has the job come back.
func TestAClockThatIsSetMakesNoDouble(t *testing.T) {
	echoes := []struct{ name, file, first, echo, state string }{
		{"under its name", "a.md", textNote(sea), textNote(sea), "duplicate"},
		{"edited", "a.md", textNote(sea), textNote(seaMore), "held"},
		{"with its id", "b.md", withID("one", sea), withID("one", mountain), "held"},
		{"renamed, as it crossed the claim", "b.md", textNote(sea), textNote(sea), "duplicate"},
	}
	for _, d := range []time.Duration{-time.Hour, 24 * time.Hour} {
		for _, mid := range []bool{true, false} {
			for _, echo := range echoes {
				t.Run(fmt.Sprintf("by %s, in mid-job %v, %s", d, mid, echo.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						r := newRig(t)
						p := &peer{rig: r, session: r.start()}
						p.slow(30 * time.Second)
						p.sends(queued("a.md"), echo.first, time.Minute)
						p.running(sea)
						if mid {
							p.jump(d)
						}
						p.ended(queue.Completed, "a.md")
						if !mid {
							p.jump(d)
						}
						p.sends(queued(echo.file), echo.echo, time.Minute)
						p.wait(5 * time.Minute)
						if got := p.asks(); !maps.Equal(got, map[string]int{sea: 1}) {
							t.Errorf("asked %v", got)
						}
						if got := p.states()[queued(echo.file)]; got != echo.state {
							t.Errorf("what came back is %q, want %q", got, echo.state)
						}
						p.stop()
					})
				})
			}
		}
	}
}

// TestAClockThatIsSetMovesNoClaim sets the clock while a job that was put back waits
// for its host: it runs once, when its host was asked again, or after a restart.
func TestAClockThatIsSetMovesNoClaim(t *testing.T) {
	for _, d := range []time.Duration{-time.Hour, 24 * time.Hour} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("by %s, with a restart %v", d, restart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					p := &peer{rig: r, session: r.start()}
					p.refusesOnce()
					p.sends(queued("a.md"), textNote(sea), time.Minute)
					p.until("put back", func() bool { return r.models["davas"].asked(sea) == 1 && r.in(queue.Waiting, "a.md") })
					p.jump(d)
					p.wait(30 * time.Second)
					if n := r.models["davas"].asked(sea); n != 1 {
						t.Errorf("asked %d times within a minute", n)
					}
					if restart {
						p.stop()
						p.session = r.start()
					}
					began := time.Now()
					p.ended(queue.Completed, "a.md")
					if took := time.Since(began); took > askAgain {
						t.Errorf("it ran %s later", took)
					}
					p.stop()
					if n := r.models["davas"].asked(sea); n != 2 {
						t.Errorf("asked %d times", n)
					}
				})
			})
		}
	}
}
