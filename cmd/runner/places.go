package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
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
			return p.keep(place, func() {}, name, class, who), nil
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
			return p.keep(nil, own.Release, name, class, who), nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, context.Canceled):
			return nil, err
		}
	}
}

// gone says that the worker ended while it was asked: it said so, or it was killed and the
// connection broke.
func gone(err error) bool {
	if e, ok := errors.AsType[*control.Error](err); ok {
		return e.Code == control.Stopping
	}
	_, broken := errors.AsType[*net.OpError](err)
	return broken || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
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

// keep keeps a running answer counted by whichever worker there is: place is what one
// gave, nil where none runs. release gives back what this process holds by itself.
func (p farPlaces) keep(place *control.Place, release func(), name string, class provider.Class, who string) func() {
	held, end := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if place != nil {
				select {
				case <-held.Done():
					place.Release()
					return
				case <-place.Lost(): // the next worker knows nothing of it
					place.Release()
				}
			}
			<-p.found(held)
			if held.Err() != nil {
				return
			}
			var err error
			place, err = p.client.Acquire(held, name, class, who)
			if err != nil && held.Err() == nil && !errors.Is(err, control.ErrNoWorker) && !gone(err) {
				p.log.Warn("a running answer is not counted by the worker that started", "provider", name, "error", err)
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		end()
		<-done
		release()
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
