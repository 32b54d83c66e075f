package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/provider"
)

// farPlaces gives out the places of the worker's arbiter, and while no worker runs
// those of its own. A worker that starts gets them: who still waits here joins the
// worker's line, and who has a place takes one there too, as soon as there is one.
type farPlaces struct {
	client *control.Client
	own    *provider.Arbiter
	log    *slog.Logger
}

// lookEvery is the time between two looks for a worker while one is missing.
const lookEvery = time.Second

// Acquire waits for a place.
func (p farPlaces) Acquire(ctx context.Context, name string, class provider.Class, who string) (func(), error) {
	for {
		place, err := p.client.Acquire(ctx, name, class, who)
		if err == nil {
			return place.Release, nil
		}
		if ctx.Err() != nil || !errors.Is(err, control.ErrNoWorker) && !gone(err) {
			return nil, err
		}
		waiting, stop := context.WithCancel(ctx)
		found := p.found(waiting)
		go func() {
			select {
			case <-found:
				stop()
			case <-waiting.Done():
			}
		}()
		own, err := p.own.Acquire(waiting, name, class, who)
		stop()
		switch {
		case err == nil:
			return p.handOver(own, name, class, who), nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, context.Canceled):
			return nil, err
		}
	}
}

// gone says that the worker ended while it was asked.
func gone(err error) bool {
	e, ok := errors.AsType[*control.Error](err)
	return ok && e.Code == control.Stopping
}

// found is closed when a worker answers, or ctx ends.
func (p farPlaces) found(ctx context.Context) <-chan struct{} {
	found := make(chan struct{})
	go func() {
		defer close(found)
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, err := p.client.Status(ctx); err == nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return found
}

// handOver keeps a place of our own counted by a worker that starts meanwhile.
func (p farPlaces) handOver(own *provider.Place, name string, class provider.Class, who string) func() {
	held, end := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-p.found(held)
		if held.Err() != nil {
			return
		}
		place, err := p.client.Acquire(held, name, class, who)
		if err != nil {
			if held.Err() == nil {
				p.log.Warn("a running answer is not counted by the worker that started", "provider", name, "error", err)
			}
			return
		}
		<-held.Done()
		place.Release()
	}()
	return sync.OnceFunc(func() {
		end()
		<-done
		own.Release()
	})
}

// Lines tells who has a place and who waits.
func (p farPlaces) Lines(ctx context.Context) []provider.Line {
	status, err := p.client.Status(ctx)
	if err != nil {
		return p.own.Lines()
	}
	return status.Lines
}
