package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
)

// pipes is a network whose time is that of the test.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serveIn serves a handler on pipes for the time of a synctest bubble.
func serveIn(t *testing.T, held int) (p *pipes, hub *live.Hub, arbiter *provider.Arbiter, stop func()) {
	t.Helper()
	hub, arbiter = live.NewHub(256, time.Now), provider.NewArbiter(map[string]int{"davas": 1}, time.Now)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	p = newPipes()
	srv := newServer(ctx, fakeOffice{}, hub, arbiter, slog.New(slog.DiscardHandler), held)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Serve(p); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		if err := srv.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	return p, hub, arbiter, cancel
}

func TestEventsOutliveAnHourOfSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, hub, _, _ := serveIn(t, 1)
		s, err := hub.Open("job", nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(time.Hour) // the model loads
			s.Publish(provider.Event{Kind: provider.TextEvent, Text: "at last"})
			s.Close("stop")
		}()
		got := ""
		for it, err := range newClient(p.dial).Events(t.Context(), "job", 0) {
			if err != nil {
				t.Fatal(err)
			}
			got += it.Event.Text
		}
		if got != "at laststop" {
			t.Errorf("got %q", got)
		}
	})
}

func TestAPlaceIsWaitedForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, arbiter, _ := serveIn(t, 1)
		first, _ := arbiter.TryAcquire("davas", provider.Batch, "first")
		time.AfterFunc(time.Hour, first.Release)
		place, err := newClient(p.dial).Acquire(t.Context(), "davas", provider.Batch, "second")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(arbiter.Lines()[0].Held) != 1 {
			t.Error("the place was lost while it was held")
		}
		place.Release()
		synctest.Wait()
		if len(arbiter.Lines()[0].Held) != 0 {
			t.Error("the place was not given back")
		}
	})
}

func TestACallerThatWaitedForAnHourIsStillToldOfAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, arbiter, stop := serveIn(t, 1)
		if _, ok := arbiter.TryAcquire("davas", provider.Batch, "first"); !ok {
			t.Fatal("no place")
		}
		time.AfterFunc(time.Hour, stop)
		_, err := newClient(p.dial).Acquire(t.Context(), "davas", provider.Batch, "second")
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != Stopping {
			t.Errorf("err = %v", err)
		}
	})
}

// The place that the stop frees must not go to one who waits, for it is lost again
// at once. Which of the two is told first is chance, so it is tried often.
func TestAStopGivesNobodyAPlace(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			p, _, arbiter, stop := serveIn(t, 1)
			first, _ := arbiter.TryAcquire("davas", provider.Batch, "first")
			time.AfterFunc(time.Hour, func() { stop(); first.Release() })
			_, err := newClient(p.dial).Acquire(t.Context(), "davas", provider.Batch, "second")
			if e, ok := errors.AsType[*Error](err); !ok || e.Code != Stopping {
				t.Fatalf("err = %v", err)
			}
		})
	}
}

func TestAConnectionThatDawdlesIsClosed(t *testing.T) {
	for _, tc := range []struct {
		name  string
		sends string
		want  time.Duration
	}{
		{"within its request", "GET /status HTTP/1.1\r\nHost:", headerTime},
		{"over taking its answer", "GET /status HTTP/1.1\r\nHost: runner\r\n\r\n", answerTime},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, _, _, _ := serveIn(t, 1)
				conn, err := p.dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, tc.sends); err != nil {
					t.Fatal(err)
				}
				open := func() bool { // without reading: a closed pipe refuses to be written to
					conn.SetWriteDeadline(time.Now().Add(time.Millisecond))
					_, err := io.WriteString(conn, "x")
					return !errors.Is(err, io.ErrClosedPipe)
				}
				time.Sleep(tc.want - time.Second)
				if !open() {
					t.Errorf("closed before %v", tc.want)
				}
				time.Sleep(2 * time.Second)
				if open() {
					t.Errorf("open after %v", tc.want)
				}
			})
		})
	}
}

func TestAServerThatSaysNothingIsGivenUp(t *testing.T) {
	for _, tc := range []struct {
		name string
		call func(ctx context.Context, c *Client) error
		want time.Duration
	}{
		{"a command after its deadline", func(ctx context.Context, c *Client) error { _, err := c.Status(ctx); return err }, callTime},
		{"events after three heartbeats", func(ctx context.Context, c *Client) error {
			for _, err := range c.Events(ctx, "job", 0) {
				return err
			}
			return nil
		}, silenceMax},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipes()
				go func() {
					if c, err := p.Accept(); err == nil {
						io.Copy(io.Discard, c) // reads for ever, until the caller hangs up
					}
				}()
				start := time.Now()
				err := tc.call(t.Context(), newClient(p.dial))
				if took := time.Since(start); err == nil || took != tc.want {
					t.Errorf("err %v after %v, want %v", err, took, tc.want)
				}
			})
		})
	}
}

// A client that takes nothing must not hold its place in the server for ever.
func TestAReaderThatStopsReadingIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, hub, _, _ := serveIn(t, 1)
		s, err := hub.Open("job", nil)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := p.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /events?topic=job&after=0 HTTP/1.1\r\nHost: runner\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		s.Publish(provider.Event{Kind: provider.TextEvent, Text: "unread"})
		time.Sleep(writeTime + time.Second)
		synctest.Wait()
		for _, err := range newClient(p.dial).Events(t.Context(), "job", 0) { // the one held request is free again
			if err != nil {
				t.Error(err)
			}
			break
		}
	})
}

func TestAReaderThatFallsTooFarBehindIsToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, hub, _, _ := serveIn(t, 1)
		s, err := hub.Open("job", nil)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		var last error
		for _, err := range newClient(p.dial).Events(t.Context(), "job", 0) {
			if last = err; err != nil {
				break
			}
			got++
			if got == 1 { // while we are busy here, a pipe takes nothing
				long := strings.Repeat("x", 8<<10) // more than the client's buffer
				for range 2 {
					s.Publish(provider.Event{Kind: provider.TextEvent, Text: long})
				}
				synctest.Wait()
				for range 300 {
					s.Publish(provider.Event{Kind: provider.TextEvent, Text: "x"})
				}
			}
		}
		if !errors.Is(last, live.ErrSlow) {
			t.Errorf("err = %v after %d items", last, got)
		}
	})
}

func TestTooManyHeldRequestsAreRefusedAndCommandsStillAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, _, _ := serveIn(t, 1)
		c := newClient(p.dial)
		place, err := c.Acquire(t.Context(), "davas", provider.Batch, "x")
		if err != nil {
			t.Fatal(err)
		}
		defer place.Release()
		_, err = c.Acquire(t.Context(), "davas", provider.Batch, "y")
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != Busy {
			t.Errorf("err = %v", err)
		}
		if _, err := c.Status(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestConnectionsBeyondTheLimitWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		ln := limit(p, 1)
		accepted := make(chan net.Conn, 2)
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					close(accepted)
					return
				}
				accepted <- c
			}
		}()
		if _, err := p.dial(t.Context()); err != nil {
			t.Fatal(err)
		}
		first := <-accepted
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := p.dial(ctx); err == nil {
			t.Error("a second connection at once")
		}
		first.Close()
		first.Close()
		if _, err := p.dial(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-accepted
		ln.Close() // while Accept waits for a place
		if _, open := <-accepted; open {
			t.Error("accepted after Close")
		}
	})
}
