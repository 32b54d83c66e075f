package main

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/provider"
)

// fakeOffice is a worker without a job.
type fakeOffice struct{ control.Office }

func (fakeOffice) Status(context.Context) (control.Status, error) { return control.Status{}, nil }

// TestAWorkerThatIsKilledGivesTheWaitingAWayOn has it break off before the grant, at each
// point at which a connection can.
func TestAWorkerThatIsKilledGivesTheWaitingAWayOn(t *testing.T) {
	for name, said := range map[string]string{
		"without a word":           "",
		"in the answer's head":     "HTTP/1.1 200 OK\r\n",
		"in the line":              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"in the middle of a frame": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"gr\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			ln, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				conn.Read(make([]byte, 4096))
				conn.Write([]byte(said))
				ln.Close()
				conn.Close()
			}()
			p := farPlaces{client: control.Dial(socket), own: provider.NewArbiter(map[string]int{"davas": 1}, time.Now), log: slog.New(slog.DiscardHandler)}
			release, err := p.Acquire(t.Context(), "davas", provider.Interactive, "chat")
			if err != nil {
				t.Fatal(err)
			}
			release()
		})
	}
}

// TestAPlaceIsCountedByEachWorker takes a place while one worker runs, or none, and
// starts others meanwhile.
func TestAPlaceIsCountedByEachWorker(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	log := slog.New(slog.DiscardHandler)
	work := func() (*provider.Arbiter, func()) {
		arbiter := provider.NewArbiter(map[string]int{"davas": 1}, time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- control.Serve(ctx, socket, fakeOffice{}, live.NewHub(8, time.Now), arbiter, log) }()
		peertest.Until(t, "it answers", nil, func() bool { _, err := control.Dial(socket).Status(t.Context()); return err == nil })
		return arbiter, func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	held := func(a *provider.Arbiter) int { return len(a.Lines()[0].Held) }
	for _, first := range []bool{true, false} {
		p := farPlaces{client: control.Dial(socket), own: provider.NewArbiter(map[string]int{"davas": 1}, time.Now), log: log}
		stop := func() {}
		if first {
			_, stop = work()
		}
		release, err := p.Acquire(t.Context(), "davas", provider.Interactive, "chat")
		if err != nil {
			t.Fatal(err)
		}
		stop()
		for range 2 {
			next, end := work()
			peertest.Until(t, "the worker that starts counts it", nil, func() bool { return held(next) == 1 })
			end()
		}
		last, end := work()
		peertest.Until(t, "the last one counts it", nil, func() bool { return held(last) == 1 })
		release()
		peertest.Until(t, "it is given back", nil, func() bool { return held(last) == 0 })
		if n := held(p.own); n != 0 {
			t.Errorf("%d places of its own are left", n)
		}
		end()
	}
}
