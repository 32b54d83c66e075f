package web

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"davidcockson.com/runner/internal/chat"
	"davidcockson.com/runner/internal/live"
)

// watch keeps the parts of the pages up to date until ctx ends.
func (a *App) watch(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range []struct {
		part  *part
		every time.Duration
	}{{a.hosts, 5 * time.Second}, {a.talks, time.Minute}, {a.queue, 5 * time.Second}, {a.health, 10 * time.Second}} {
		group.Go(func() error { p.part.run(ctx, p.every, a.o.Log); return nil })
	}
	group.Go(func() error { a.queueSeen.run(ctx, a.queue.poke); return nil })
	group.Go(func() error { return a.watchTalks(ctx) })
	return group.Wait()
}

// watchTalks marks the conversations that begin and end an answer.
func (a *App) watchTalks(ctx context.Context) error {
	feed := a.o.Hub.SubscribeAll(0)
	for {
		items, err := feed.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, live.ErrSlow): // it missed some
			feed = a.o.Hub.SubscribeAll(0)
		case err != nil:
			return err
		}
		for _, it := range items {
			if _, ok := chat.Conversation(it.Topic); ok {
				a.talks.poke()
				break
			}
		}
	}
}
