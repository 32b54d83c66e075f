package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/sqlite"
	"davidcockson.com/runner/internal/worker"
)

// runBackup copies the databases into a new folder.
func runBackup(ctx context.Context, c *call) error {
	if len(c.args) > 1 {
		return usageError{"name one folder, which must not exist yet"}
	}
	conf, err := c.load()
	if err != nil {
		return err
	}
	target := filepath.Join(conf.StateDir, "backups", time.Now().UTC().Format("20060102T150405Z"))
	if len(c.args) == 1 {
		target = c.args[0]
	}
	l, err := openLedger(ctx, conf)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if err := os.Mkdir(target, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return usageError{fmt.Sprintf("%s exists already; name a new folder", target)}
		}
		return fmt.Errorf("back up: %w", err)
	}
	if err := l.Backup(ctx, filepath.Join(target, ledgerFile)); err != nil {
		return err
	}
	if err := backupHistory(ctx, conf, target); err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, target)
	return nil
}

// backupHistory copies the chats, where there are any.
func backupHistory(ctx context.Context, conf *config.Config, target string) error {
	h, err := history.OpenReadOnly(ctx, filepath.Join(conf.StateDir, historyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no control room has run
	}
	if err != nil {
		return err
	}
	defer h.Close()
	return h.Backup(ctx, filepath.Join(target, historyFile))
}

// runRestore puts a backup in the place of the databases. What was there is kept
// beside it.
func runRestore(ctx context.Context, c *call) error {
	if len(c.args) != 1 {
		return usageError{"name the folder of one backup"}
	}
	conf, err := c.load()
	if err != nil {
		return err
	}
	lock, err := openState(conf.StateDir)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer lock.Close()
	webLock, err := lockFile(conf.StateDir, webLockFile, "a control room runs with the state folder %s; stop it first")
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer webLock.Close()
	from, path := filepath.Join(c.args[0], ledgerFile), filepath.Join(conf.StateDir, ledgerFile)
	if _, err := os.Stat(from); err != nil {
		return fmt.Errorf("restore: %s holds no backup: %w", c.args[0], err)
	}
	kept, err := sqlite.Restore(ctx, from, path, len(ledger.Migrations()))
	if err != nil {
		return err
	}
	l, err := ledger.Open(ctx, path)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := worker.MarkRestored(ctx, l); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "restored %s\n", path)
	if kept != "" {
		fmt.Fprintf(c.stdout, "what was there before is kept as %s\n", kept)
	}
	if err := restoreHistory(ctx, c, conf); err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, "the next start holds what lies in _active, since it may have been billed already")
	return nil
}

// restoreHistory puts the backup's chats in the place of today's. A backup without
// any leaves them alone. Sessions are not brought back: who signed out stays out.
func restoreHistory(ctx context.Context, c *call, conf *config.Config) error {
	from, path := filepath.Join(c.args[0], historyFile), filepath.Join(conf.StateDir, historyFile)
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("restore the chats: %w", err)
	}
	kept, err := sqlite.Restore(ctx, from, path, len(history.Migrations()))
	if err != nil {
		return err
	}
	h, err := history.Open(ctx, path)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.DeleteSessions(ctx, ""); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "restored %s\n", path)
	if kept != "" {
		fmt.Fprintf(c.stdout, "what was there before is kept as %s\n", kept)
	}
	return nil
}

func runVersion(_ context.Context, c *call) error {
	if c.json {
		return printJSON(c.stdout, map[string]string{"version": theVersion()})
	}
	fmt.Fprintln(c.stdout, theVersion())
	return nil
}
