package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// maxPath is how many bytes of path a socket's address holds beside its closing
// zero: 107 on Linux, 103 on macOS (unix(7), unix(4)).
const maxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// address returns a path for socketPath that fits into a socket's address, and a
// function that must be called after it was used. On Linux a long path is reached
// through its folder's descriptor in /proc, which is short whatever it names.
func address(socketPath string) (string, func(), error) {
	if len(socketPath) <= maxPath {
		return socketPath, func() {}, nil
	}
	const descriptors = "/proc/self/fd"
	if _, err := os.Stat(descriptors); runtime.GOOS != "linux" || err != nil {
		return "", nil, fmt.Errorf("the path of the control socket has %d bytes, and this system allows %d: choose a shorter state_dir", len(socketPath), maxPath)
	}
	dir, err := os.Open(filepath.Dir(socketPath))
	if err != nil {
		return "", nil, err
	}
	short := fmt.Sprintf("%s/%d/%s", descriptors, dir.Fd(), filepath.Base(socketPath))
	if len(short) > maxPath {
		dir.Close() // opened to be named only: nothing was written
		return "", nil, fmt.Errorf("the name of the control socket is too long: %s", filepath.Base(socketPath))
	}
	return short, func() { dir.Close() }, nil
}

// dial connects to the socket.
func dial(ctx context.Context, socketPath string) (net.Conn, error) {
	addr, done, err := address(socketPath)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", addr)
}

// listen binds the socket, for its owner alone.
func listen(ctx context.Context, socketPath string) (net.Listener, error) {
	if err := removeStale(ctx, socketPath); err != nil {
		return nil, err
	}
	addr, done, err := address(socketPath)
	if err != nil {
		return nil, err
	}
	defer done()
	// On Linux a socket file takes the mode that its descriptor has when it is
	// bound, so that there is no moment in which others could connect. Where the
	// system refuses this, the folder's mode 0700 covers the time until Chmod.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return c.Control(makePrivate) }}
	ln, err := lc.Listen(ctx, "unix", addr)
	if err != nil {
		return nil, err
	}
	// Its own unlinking would use addr, whose descriptor is closed by then.
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(socketPath, 0o600); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// removeStale removes the socket of a server that died. Two servers that start in
// one moment could remove each other's: the vault's lock keeps them apart.
func removeStale(ctx context.Context, socketPath string) error {
	info, err := os.Lstat(socketPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is not a socket: move it away", socketPath)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := dial(ctx, socketPath)
	switch {
	case err == nil:
		conn.Close() // nothing was sent
		return ErrInUse
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(socketPath)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return ErrInUse // it lives, though it is too busy to answer
	}
	return err
}

// limited is a listener that has at most cap(places) connections at once; further
// ones wait in the kernel.
type limited struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func limit(ln net.Listener, n int) net.Listener {
	return &limited{Listener: ln, places: make(chan struct{}, n), closed: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &counted{Conn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// counted gives its place back when it is closed.
type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
