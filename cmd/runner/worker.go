package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/queue"
)

func runWorker(ctx context.Context, c *call) error { return c.serve(ctx, false) }

// runUp runs all that there is in this process: the worker and the control room.
func runUp(ctx context.Context, c *call) error { return c.serve(ctx, true) }

// serve runs the worker, with the control room or without, until a signal comes; a
// second signal ends the process at once.
func (c *call) serve(ctx context.Context, withRoom bool) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	conf, err := c.loadWithSecrets()
	if err != nil {
		return err
	}
	n, err := build(ctx, conf, c.takeOver, c.stderr)
	if err != nil {
		return err
	}
	defer func() {
		if err := n.Close(); err != nil {
			n.log.Error("close", "error", err)
		}
	}()
	if withRoom {
		if err := n.addRoom(ctx, hereDesk{desk{n.worker, n.vault, rules(conf)}, n.hub}, herePlaces{n.arbiter}); err != nil {
			return err
		}
	}
	return n.run(ctx, stop, c.stdout)
}

// run runs the parts of a node until ctx ends. stop ends ctx.
func (n *node) run(ctx context.Context, stop func(), out io.Writer) error {
	// Socket and pages outlive the stop of worker and chat, so that it can be
	// watched.
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	group, serving := errgroup.WithContext(serving)
	context.AfterFunc(serving, stop) // a part that fails stops the others too
	var core errgroup.Group
	if n.worker != nil {
		core.Go(func() error { defer stop(); return n.worker.Run(ctx) })
		group.Go(func() error { return n.afterStart(serving, n.serveOps) })
		group.Go(func() error { return n.afterStart(serving, n.serveSocket) })
	}
	if n.room != nil {
		core.Go(func() error { defer stop(); return n.room.chat.Run(ctx) })
		group.Go(func() error {
			return n.afterStart(serving, func(ctx context.Context) error { return n.room.serve(ctx, out) })
		})
	}
	group.Go(func() error {
		err := core.Wait()
		end()
		if n.tracer != nil { // beside whatever else takes its time to end
			n.flush()
		}
		return err
	})
	if n.outbox != nil {
		group.Go(func() error { return n.outbox.Run(serving) })
	}
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if err == nil {
		n.log.Info("stopped")
	}
	return err
}

// afterStart does something once the worker's start is done, if there is a worker.
func (n *node) afterStart(ctx context.Context, do func(context.Context) error) error {
	if n.worker != nil {
		select {
		case <-n.worker.Ready():
		case <-ctx.Done():
			return nil
		}
	}
	return do(ctx)
}

// serveSocket serves the control socket.
func (n *node) serveSocket(ctx context.Context) error {
	var names []string
	for _, p := range n.conf.Providers {
		names = append(names, p.Name)
	}
	n.log.Info("ready: drop notes here", "queue", filepath.Join(n.conf.Vault, queue.Waiting), "answers", filepath.Join(n.conf.Vault, queue.Outputs),
		"providers", strings.Join(names, ","), "traces", n.tracer != nil, "pings", n.outbox != nil, "version", theVersion())
	err := control.Serve(ctx, filepath.Join(n.conf.StateDir, socketFile), n.worker, n.hub, n.arbiter, n.log)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("the control socket: %w", err)
	}
	return nil
}
