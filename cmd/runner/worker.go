package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/queue"
)

func runWorker(ctx context.Context, c *call) error { return c.serve(ctx) }

// runUp runs all that there is in this process. Today that is the worker.
func runUp(ctx context.Context, c *call) error { return c.serve(ctx) }

// serve runs the worker and its control socket until a signal comes; a second
// signal ends the process at once.
func (c *call) serve(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	conf, err := c.load()
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
	// The socket outlives the worker's stop, so that the stop can be watched.
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	group, serving := errgroup.WithContext(serving)
	context.AfterFunc(serving, stop) // a part that fails stops the worker too
	group.Go(func() error {
		defer end()
		return n.worker.Run(ctx)
	})
	if n.outbox != nil {
		group.Go(func() error { return n.outbox.Run(serving) })
	}
	group.Go(func() error {
		select {
		case <-n.worker.Ready():
		case <-serving.Done():
			return nil
		}
		return n.serveOps(serving)
	})
	group.Go(func() error {
		select {
		case <-n.worker.Ready():
		case <-serving.Done():
			return nil
		}
		var names []string
		for _, p := range conf.Providers {
			names = append(names, p.Name)
		}
		n.log.Info("ready: drop notes here", "queue", filepath.Join(conf.Vault, queue.Waiting), "answers", filepath.Join(conf.Vault, queue.Outputs),
			"providers", strings.Join(names, ","), "traces", n.tracer != nil, "pings", n.outbox != nil, "version", theVersion())
		err := control.Serve(serving, filepath.Join(conf.StateDir, socketFile), n.worker, n.hub, n.arbiter, n.log)
		if err != nil && serving.Err() == nil {
			return fmt.Errorf("the control socket: %w", err)
		}
		return nil
	})
	err = group.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if err == nil {
		n.log.Info("stopped")
	}
	return err
}
