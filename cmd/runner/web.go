package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/term"

	"davidcockson.com/runner/internal/access"
	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/health"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/vault"
)

// runWeb serves the control room in a process of its own, as a client of the
// worker's socket.
func runWeb(ctx context.Context, c *call) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	conf, err := c.loadWithSecrets()
	if err != nil {
		return err
	}
	n := &node{conf: conf, log: logger(conf, c.stderr)}
	defer func() {
		if err := n.Close(); err != nil {
			n.log.Error("close", "error", err)
		}
	}()
	if err := n.buildWeb(ctx); err != nil {
		return err
	}
	return n.run(ctx, stop, c.stdout)
}

// buildWeb makes what the control room needs where no worker is in the process.
func (n *node) buildWeb(ctx context.Context) (err error) {
	if err := privateState(n.conf.StateDir); err != nil {
		return err
	}
	if n.vault, err = vault.Open(n.conf.Vault); err != nil {
		return fmt.Errorf("open the vault: %w; `runner init` makes it", err)
	}
	n.close = append(n.close, n.vault.Close)
	if n.ledger, err = ledger.Open(ctx, filepath.Join(n.conf.StateDir, ledgerFile)); err != nil {
		return err
	}
	n.close = append(n.close, n.ledger.Close)
	if err := n.ask(); err != nil {
		return err
	}
	if err := n.traces(); err != nil {
		return err
	}
	client := control.Dial(filepath.Join(n.conf.StateDir, socketFile))
	n.health = health.New(theVersion(), n.probes()...)
	return n.addRoom(ctx, farDesk{desk{client, n.vault, rules(n.conf)}, client, n.ledger}, farPlaces{client, n.arbiter, n.log})
}

// runLink prints the login link of the control room.
func runLink(ctx context.Context, c *call) error {
	conf, err := c.load()
	if err != nil {
		return err
	}
	if conf.Access.Team != "" || conf.Auth.PasswordFile != "" || conf.Auth.TokenFile != "" {
		return usageError{"there is no login link, since `access` or `auth` is configured: sign in as they say"}
	}
	if err := privateState(conf.StateDir); err != nil {
		return err
	}
	gate, err := access.New(ctx, access.Options{Listen: conf.Listen, StateToken: filepath.Join(conf.StateDir, tokenFile), Sessions: sessions{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("make the login link: %w", err)
	}
	fmt.Fprintln(c.stdout, gate.Link())
	return nil
}

// runPasswd sets the password, or with a name adds a token for a program.
func runPasswd(ctx context.Context, c *call) error {
	conf, err := c.load()
	if err != nil {
		return err
	}
	if c.token != "" {
		return c.addToken(conf.Auth.TokenFile)
	}
	if conf.Auth.PasswordFile == "" {
		return configError{errors.New("set auth.password_file in the config first: the file that shall hold the hashed password")}
	}
	password, err := c.password()
	if err != nil {
		return err
	}
	hashed, err := access.HashPassword(password, rand.Reader)
	if err != nil {
		return usageError{err.Error()}
	}
	if err := replaceFile(conf.Auth.PasswordFile, []byte(hashed+"\n")); err != nil {
		return fmt.Errorf("write the password's hash: %w", err)
	}
	fmt.Fprintf(c.stdout, "the password's hash is in %s; it counts at once, and those who signed in with another have to sign in again\n", conf.Auth.PasswordFile)
	return nil
}

// addToken adds a program's token and prints it, the only time that it is seen.
func (c *call) addToken(path string) error {
	if path == "" {
		return configError{errors.New("set auth.token_file in the config first: the file that shall hold the hashed tokens")}
	}
	token, line, err := access.NewToken(c.token)
	if err != nil {
		return usageError{err.Error()}
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the tokens: %w", err)
	}
	if len(old) > 0 && old[len(old)-1] != '\n' {
		old = append(old, '\n')
	}
	if err := replaceFile(path, append(old, line+"\n"...)); err != nil {
		return fmt.Errorf("write the token's hash: %w", err)
	}
	fmt.Fprintln(c.stdout, token)
	return nil
}

// password asks for the new password, twice at a terminal.
func (c *call) password() (string, error) {
	if f, ok := c.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(c.stderr, "New password: ")
		first, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprint(c.stderr, "\nAgain: ")
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		second, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(c.stderr)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		if string(first) != string(second) {
			return "", usageError{"the two differ"}
		}
		return string(first), nil
	}
	line, err := bufio.NewReader(io.LimitReader(c.stdin, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// replaceFile writes a private file whole, in the place of what was there.
func replaceFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".runner-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
