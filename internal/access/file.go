package access

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
)

// largestFile in bytes: some 500 tokens.
const largestFile = 64 << 10

// watched is a file of hashes that is read again when it changes, so that a new
// password needs no restart. It is safe for concurrent use.
type watched[T any] struct {
	setting, path string
	parse         func([]byte) (T, error)

	mu    sync.Mutex // guards what follows
	info  fs.FileInfo
	value T
	err   error
}

// get returns what the file holds now. A file that is gone or broken is an error,
// never its former content: a password that was taken away must not work. The error
// names the setting, and nothing of the file.
func (f *watched[T]) get() (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if info, err := os.Stat(f.path); err != nil || f.info == nil || changed(f.info, info) {
		f.read()
	}
	return f.value, f.err
}

// read reads the file anew. The caller holds mu.
func (f *watched[T]) read() {
	var none T
	data, info, err := readPrivate(f.path, 0o027)
	f.info, f.value = info, none
	if err == nil {
		f.value, err = f.parse(data)
	}
	f.err = nil
	if err != nil {
		f.err = fmt.Errorf("%s: %w", f.setting, err)
	}
}

// changed compares the inode too: a file that is replaced within one tick of the
// file system's clock has the old one's time, and hashes are all of one length.
func changed(before, now fs.FileInfo) bool {
	return !os.SameFile(before, now) || !before.ModTime().Equal(now.ModTime()) ||
		before.Size() != now.Size() || before.Mode() != now.Mode()
}

// readPrivate reads a regular file of a bounded size whose mode has none of the
// forbidden bits. Its errors leave out the path: a secret that was set where a path
// belongs would be printed by its own error. The info is nil if the file was not
// reached, and otherwise that of what was read.
func readPrivate(path string, forbidden fs.FileMode) ([]byte, fs.FileInfo, error) {
	// Without O_NONBLOCK a FIFO would hang the open until somebody writes.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, withoutPath("open the file", err)
	}
	defer file.Close() // only read: nothing can be lost by closing
	info, err := file.Stat()
	if err != nil {
		return nil, nil, withoutPath("look at the file", err)
	}
	if !info.Mode().IsRegular() {
		return nil, info, errors.New("is not a regular file")
	}
	if info.Mode()&forbidden != 0 {
		return nil, info, fmt.Errorf("has mode %04o, so that others can read or change it: chmod 600", info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(file, largestFile+1))
	if err != nil {
		return nil, nil, withoutPath("read the file", err)
	}
	if len(data) > largestFile {
		return nil, info, fmt.Errorf("is larger than %d KiB", largestFile>>10)
	}
	return data, info, nil
}

// withoutPath keeps the cause of a file error, such as fs.ErrNotExist.
func withoutPath(attempt string, err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	return fmt.Errorf("%s: %w", attempt, err)
}
