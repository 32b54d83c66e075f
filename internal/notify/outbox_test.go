package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/sqlite/sqlitetest"
)

func TestDelivery(t *testing.T) {
	bubble(t, "a ping goes at once when woken", func(t *testing.T) {
		r := newRig(t, delivered)
		r.start()
		defer func() { r.end() }()
		synctest.Wait()
		r.status(Status{Configured: true})
		r.queue("a")
		synctest.Wait()
		r.want("when woken", "a")
		r.status(Status{Configured: true, Sent: 1})
		if r.box.Status().LastSuccess.IsZero() {
			t.Error("no success is told")
		}
	})
	bubble(t, "one that nobody told of goes within a minute", func(t *testing.T) {
		r := newRig(t, delivered)
		r.start()
		defer func() { r.end() }()
		synctest.Wait()
		box := r.box
		r.box = nil
		r.queue("a")
		r.box = box
		synctest.Wait()
		r.want("at once")
		r.after(lookAgain)
		r.want("later", "a")
	})
	bubble(t, "the bucket's end is waited for, without a 429", func(t *testing.T) {
		left := 3
		r := newRig(t, func(c net.Conn, n int) {
			left--
			raw(fmt.Sprintf("200 OK\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset-After: 2", left), fmt.Sprintf(`{"id": "%d"}`, n))(c, n)
		})
		for _, key := range []string{"a", "b", "c", "d"} {
			r.queue(key)
		}
		r.start()
		defer func() { r.end() }()
		synctest.Wait()
		r.want("at first", "a", "b", "c")
		r.after(2*time.Second - time.Millisecond)
		r.want("before the reset", "a", "b", "c")
		r.after(time.Millisecond)
		r.want("after the reset", "a", "b", "c", "d")
		r.status(Status{Configured: true, Sent: 4})
	})
	bubble(t, "a 429 is waited out to the moment, and the order kept", func(t *testing.T) {
		r := newRig(t, recorded(t, "quoted-429-user"))
		r.queue("a")
		r.queue("b")
		r.start()
		defer func() { r.end() }()
		synctest.Wait()
		r.fake.set(delivered)
		r.after(64569 * time.Millisecond)
		r.want("before", "a")
		r.status(Status{Configured: true, Queued: 2, Failed: 1, LastError: "send a ping: Discord's rate limit is reached (429), for 1m4.57s"})
		r.after(time.Millisecond)
		r.want("after", "a", "a", "b")
		r.status(Status{Configured: true, Sent: 2, Failed: 1})
	})
	bubble(t, "a limit that lasts makes the pauses no longer and gives no ping up", func(t *testing.T) {
		r := newRig(t, raw("429 Too Many Requests\r\nRetry-After: 60", ""))
		r.queue("a")
		r.start()
		defer func() { r.end() }()
		r.after(10 * time.Hour)
		r.status(Status{Configured: true, Queued: 1, Failed: 601, LastError: "send a ping: Discord's rate limit is reached (429), for 1m0s"})
		r.fake.set(delivered)
		r.after(time.Minute)
		r.status(Status{Configured: true, Sent: 1, Failed: 601})
	})
	bubble(t, "a ping that Discord will never take is given up, and those behind it go", func(t *testing.T) {
		refuse := recorded(t, "quoted-400")
		r := newRig(t, func(c net.Conn, n int) {
			if n == 1 {
				refuse(c, n)
				return
			}
			delivered(c, n)
		})
		r.queue("a")
		r.queue("b")
		r.start()
		defer func() { r.end() }()
		synctest.Wait()
		r.want("all", "a", "b")
		r.status(Status{Configured: true, Sent: 1, Failed: 1, Dropped: 1})
		if !strings.Contains(r.log.String(), `msg="a ping was given up" job=a kind=held`) {
			t.Errorf("the log: %s", r.log.String())
		}
	})
	bubble(t, "without a webhook nothing is done", func(t *testing.T) {
		r := newRig(t, delivered)
		r.queue("a")
		box := NewOutbox(r.ledger, nil, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		box.Wake()
		if err := box.Run(ctx); err != nil || box.Status() != (Status{}) {
			t.Errorf("%v, %+v", err, box.Status())
		}
	})
}

func TestAWebhookThatIsGone(t *testing.T) {
	for _, name := range []string{"quoted-404", "quoted-401"} {
		bubble(t, name, func(t *testing.T) {
			r := newRig(t, recorded(t, name))
			r.queue("a")
			r.start()
			r.after(time.Hour)
			r.queue("b")
			r.after(24 * time.Hour)
			r.want("once only", "a")
			s := r.box.Status()
			if !s.Gone || s.Queued != 2 || s.Failed != 1 || !strings.Contains(s.LastError, "make a new one and restart with it") {
				t.Errorf("status %+v", s)
			}
			if n := strings.Count(r.log.String(), "level=ERROR"); n != 1 {
				t.Errorf("%d errors in the log: %s", n, r.log.String())
			}
			r.end()

			r.fake.set(delivered) // the owner gave a new one
			r.start()
			synctest.Wait()
			r.want("after a restart", "a", "a", "b")
			r.status(Status{Configured: true, Sent: 2})
			r.end()
			r.noSecret()
		})
	}
	bubble(t, "what becomes too old meanwhile is given up, and counted", func(t *testing.T) {
		r := newRig(t, recorded(t, "quoted-404"))
		r.queue("a")
		r.start()
		defer func() { r.end() }()
		r.after(longestAge - time.Minute)
		r.queue("b")
		synctest.Wait()
		if s := r.box.Status(); s.Queued != 2 || s.Dropped != 0 {
			t.Errorf("before: %+v", s)
		}
		r.after(time.Minute)
		if s := r.box.Status(); s.Queued != 1 || s.Dropped != 1 || !s.Gone {
			t.Errorf("after: %+v", s)
		}
		r.want("once only", "a")
	})
}

func TestAPingIsGivenUpAtLast(t *testing.T) {
	bubble(t, "after 200 tries", func(t *testing.T) {
		r := newRig(t, raw("500 Internal Server Error", ""))
		r.queue("a")
		r.start()
		defer func() { r.end() }()
		r.after(longestAge + time.Hour)
		r.status(Status{Configured: true, Failed: mostTries, Dropped: 1, LastError: "not delivered in 200 tries"})
		if got := len(r.bodies()); got != mostTries {
			t.Errorf("%d tries", got)
		}
		if !strings.Contains(r.log.String(), `msg="a ping was given up" job=a kind=held attempt=200 reason="not delivered in 200 tries"`) {
			t.Error("the log does not say so")
		}
	})
	bubble(t, "after three days, restarts included", func(t *testing.T) {
		r := newRig(t, delivered)
		r.queue("a")
		<-time.After(longestAge - time.Second)
		r.queue("b")
		<-time.After(time.Second)
		r.start()
		defer func() { r.end() }()
		synctest.Wait()
		r.want("the younger alone", "b")
		r.status(Status{Configured: true, Sent: 1, Dropped: 1})
	})
}

func TestThePausesGrow(t *testing.T) {
	for failed, want := range []time.Duration{5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900} {
		want *= time.Second
		least, most := want*8/10, want*12/10
		for range 100 {
			if got := backoff(failed); got < least || got > most {
				t.Errorf("after %d failures %s, want %s to %s", failed+1, got, least, most)
			}
		}
	}
	if got := backoff(mostTries); got > longPause*12/10 || got <= 0 {
		t.Errorf("after very many failures %s", got)
	}
}

func TestAStop(t *testing.T) {
	bubble(t, "a send under way has its answer noted and is not repeated", func(t *testing.T) {
		r := newRig(t, func(c net.Conn, n int) { time.Sleep(time.Second); delivered(c, n) })
		r.queue("a")
		r.queue("b")
		r.start()
		synctest.Wait()
		began := time.Now()
		r.end()
		if took := time.Since(began); took != time.Second {
			t.Errorf("the stop took %s", took)
		}
		r.start()
		r.after(time.Minute)
		r.want("each once", "a", "b")
		r.end()
	})
	bubble(t, "a send that hangs ends two seconds later and counts as no failure", func(t *testing.T) {
		r := newRig(t, func(c net.Conn, _ int) { io.Copy(io.Discard, c) })
		r.queue("a")
		r.start()
		synctest.Wait()
		began := time.Now()
		r.end()
		if took := time.Since(began); took != parting {
			t.Errorf("the stop took %s", took)
		}
		r.status(Status{Configured: true, Queued: 1})
		r.fake.set(delivered)
		r.start()
		synctest.Wait()
		r.want("again", "a", "a")
		r.end()
	})
}

func TestTheLedgerFails(t *testing.T) {
	disk := errors.New("the disk failed")
	bubble(t, "a delivery that cannot be noted is not repeated, but noted later", func(t *testing.T) {
		for _, half := range []sqlitetest.Half{sqlitetest.Undone, sqlitetest.Done} {
			r := newRig(t, delivered)
			r.queue("a")
			r.queue("b")
			r.faults.Inject(sqlitetest.Fault{At: r.faults.Writes() + 1, Half: half, Err: disk})
			r.start()
			synctest.Wait()
			r.want("at first", "a")
			r.after(ledgerPause)
			r.want("later", "a", "b")
			r.status(Status{Configured: true, Sent: 2})
			r.end()
		}
	})
	bubble(t, "a failure that cannot be noted is not tried again at once", func(t *testing.T) {
		r := newRig(t, raw("500 Internal Server Error", ""))
		r.queue("a")
		r.faults.Inject(sqlitetest.Fault{At: r.faults.Writes() + 1, Err: disk})
		r.start()
		r.after(3 * time.Second)
		r.want("at first", "a")
		r.after(4 * time.Second)
		r.want("later", "a", "a")
		r.end()
	})
	bubble(t, "a crash between the answer and its row sends once more", func(t *testing.T) {
		r := newRig(t, delivered)
		r.queue("a")
		r.faults.Inject(sqlitetest.Fault{At: r.faults.Writes() + 1, Crash: true})
		r.start()
		synctest.Wait()
		r.end()
		r.ledger.Close()
		r.ledger = ledger.New(sqlitetest.Open(t, filepath.Join(r.dir, "ledger.db"), ledger.Migrations(), nil))
		r.start()
		synctest.Wait()
		r.want("both", "a", "a")
		r.status(Status{Configured: true, Sent: 1})
		r.end()
	})
}
