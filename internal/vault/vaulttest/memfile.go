package vaulttest

import (
	"io"
	"io/fs"
	"slices"
	"syscall"

	"davidcockson.com/runner/internal/vault"
)

// memFile is an open file of a Mem. A crash makes it unusable.
type memFile struct {
	m      *Mem
	n      *node
	name   string
	at     int
	power  int
	write  bool
	closed bool
}

func (f *memFile) usable() error {
	if f.closed || f.power != f.m.power {
		return fs.ErrClosed
	}
	return nil
}

func (f *memFile) Read(p []byte) (n int, err error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	switch {
	case f.usable() != nil:
		return 0, f.usable()
	case f.write:
		return 0, syscall.EBADF
	case f.n.mode.IsDir():
		return 0, syscall.EISDIR
	case !f.n.mode.IsRegular():
		return 0, syscall.EAGAIN
	case f.at >= len(f.n.data):
		return 0, io.EOF
	}
	n = copy(p, f.n.data[f.at:])
	f.at += n
	return n, nil
}

// Write writes as much as there is space for, as a disk does.
func (f *memFile) Write(p []byte) (n int, err error) {
	defer f.m.lock("write", f.name, &err)()
	if err := f.usable(); err != nil {
		return 0, err
	}
	if !f.write {
		return 0, syscall.EBADF
	}
	n = int(min(int64(len(p)), max(f.m.free, 0)))
	f.m.free -= int64(n)
	f.n.data = append(slices.Clip(f.n.data), p[:n]...)
	f.n.dirty = true
	f.n.mtime = f.m.now()
	f.n.ctime = f.n.mtime
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (f *memFile) Stat() (vault.Info, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.n.info(), f.usable()
}

func (f *memFile) Sync() (err error) {
	defer f.m.lock("sync", f.name, &err)()
	if err := f.usable(); err != nil {
		return err
	}
	f.n.synced, f.n.dirty = f.n.data, false
	return nil
}

func (f *memFile) Close() (err error) {
	defer f.m.lock("close", f.name, &err)()
	if err := f.usable(); err != nil {
		return err
	}
	f.closed = true
	return nil
}
