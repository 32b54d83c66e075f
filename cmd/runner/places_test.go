package main

import (
	"context"
	"log/slog"
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
