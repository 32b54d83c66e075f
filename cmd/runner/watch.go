package main

import (
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/fsnotify/fsnotify"

	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
)

// watch tells the names that change in the queue folder, and "" where some may
// have been missed. It only wakes the poller earlier: file events overflow, and
// network mounts have none.
func watch(v *vault.Vault, root string, log *slog.Logger) (<-chan string, func() error, error) {
	watcher, err := fsnotify.NewBufferedWatcher(1024)
	if err != nil {
		return nil, nil, err
	}
	if err := watcher.Add(filepath.Join(root, queue.Waiting)); err != nil {
		return nil, nil, errors.Join(err, watcher.Close())
	}
	names := make(chan string, 1024)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(names)
		tell := func(name string) {
			select {
			case names <- name:
			default: // the poller is behind: have it look at everything
				select {
				case <-names:
				default:
				}
				select {
				case names <- "":
				default:
				}
			}
		}
		for {
			select {
			case e, ok := <-watcher.Events:
				if !ok {
					return
				}
				tell(filepath.Base(e.Name))
			case err, ok := <-watcher.Errors:
				if !ok {
					return
				}
				log.Warn("file events were missed; the queue is looked at anew", "error", err)
				tell("")
			}
		}
	}()
	stop := func() error {
		err := watcher.Close()
		<-done
		return err
	}
	return names, stop, nil
}
