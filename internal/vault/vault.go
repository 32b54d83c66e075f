// Package vault is the folder on disk: reads that follow no link, writes that
// are whole and durable or not there, moves that never replace, and an Index that
// finds the note a link means.
//
// Promise: bytes that were in the vault are never replaced or removed by this
// package, except its own temporary files and, in Rewrite, a text that the
// caller has read byte for byte.
// Invariants: a name made by Write holds all of its data from its first
// instant; a file whose fsync failed is given up, never synced again; nothing
// outside the folder is reached, as no symbolic link is followed and no ".."
// is accepted; folders are opened anew by each call, so one that was deleted
// and made again is found.
// Failures: fs.ErrExist (a name is taken) and fs.ErrNotExist say that nothing
// was done. After any other error of a changing call the change may have been
// made or not: look at the names. No file is ever left torn under its name.
// Stored: only temporary files, in TempDir.
package vault

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// TempDir is the folder for files that are not yet, or no longer, a part of
// the vault. Obsidian skips dot folders; Syncthing does not, unless told so.
const TempDir = ".runner/tmp"

var (
	// ErrTooLarge is returned by Read for a file over the caller's limit.
	ErrTooLarge = errors.New("larger than the limit")
	// ErrNotRegular is returned by Read for a folder, symbolic link, FIFO,
	// socket or device.
	ErrNotRegular = errors.New("not a regular file")
	// ErrChanged is returned by Rewrite when the file no longer held what the
	// caller had read. The file is as its last writer left it: read it again.
	ErrChanged = errors.New("changed since it was read")
	// ErrNoExchange is returned by Probe where everything works but the
	// exchange of two files, which Rewrite needs.
	ErrNoExchange = errors.New("this file system cannot exchange two files")
)

// KeptError says that bytes which may be a user's were found in a temporary
// file and now lie in Kept, beside Name. Nothing is lost and no temporary file
// is left, but a person should compare the two.
type KeptError struct {
	Name string // the note
	Kept string // where the other text is
}

func (e *KeptError) Error() string {
	return fmt.Sprintf("%s was edited while it was rewritten: the other text is kept in %s, compare the two and delete one", e.Name, e.Kept)
}

// Entry is one name in a folder.
type Entry struct {
	Name string
	Type fs.FileMode // type bits only; 0 is a regular file
}

// Info is what the file system says of a file. Two equal values, seen some
// time apart, mean that nobody touched the file in between.
type Info struct {
	Mode  fs.FileMode // type and permission bits
	Size  int64       // bytes
	Inode uint64
	Dev   uint64 // device, so that Dev and Inode name a file
	Mtime int64  // nanoseconds since 1970; a synced file carries its origin's
	Ctime int64  // nanoseconds since 1970, by the clock of this file system
}

// File is an open file.
type File interface {
	io.Reader
	io.Writer
	Stat() (Info, error)
	Sync() error
	Close() error
}

// FS is the file system as the vault needs it, just wide enough to inject a
// fault into each step that can fail. Names are slash-separated and relative
// to the vault; "." is the vault itself. No method follows a symbolic link,
// neither in the last element of a name nor on the way to it. Methods may be
// called concurrently.
type FS interface {
	// ReadDir lists a folder, in no order.
	ReadDir(dir string) ([]Entry, error)
	Lstat(name string) (Info, error)
	// Open opens for reading. It does not wait, be the file a FIFO.
	Open(name string) (File, error)
	// CreateUnnamed opens a new file for writing that has no name yet and
	// vanishes unless Link gives it one. errors.ErrUnsupported where the file
	// system has none.
	CreateUnnamed(dir string) (File, error)
	// Create opens a new file for writing; fs.ErrExist if the name is taken.
	Create(name string) (File, error)
	// Link gives an unnamed file its name; fs.ErrExist if the name is taken.
	Link(f File, name string) error
	// Rename moves a file or folder; fs.ErrExist if the target is taken.
	Rename(from, to string) error
	// Exchange swaps two names in one step. errors.ErrUnsupported where the
	// file system cannot.
	Exchange(a, b string) error
	Remove(name string) error
	Mkdir(name string) error
	// SyncDir makes changes of the names in a folder durable.
	SyncDir(dir string) error
	// Free is the space that an unprivileged process may still fill, in bytes.
	Free() (int64, error)
}

// A Vault is safe for concurrent use; Close must come last.
type Vault struct{ fs FS }

// Open opens the folder dir. A symbolic link is followed here, once; from then
// on the vault is this folder, whatever becomes of its name.
func Open(dir string) (*Vault, error) {
	fsys, err := openOS(dir)
	if err != nil {
		return nil, fmt.Errorf("open vault %s: %w", dir, err)
	}
	return New(fsys), nil
}

// New makes a vault of any file system. If fsys is an io.Closer, Close closes it.
func New(fsys FS) *Vault { return &Vault{fs: fsys} }

// Close releases the folder. Calls after it fail with fs.ErrClosed.
func (v *Vault) Close() error {
	if c, ok := v.fs.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// FS returns the file system below.
func (v *Vault) FS() FS { return v.fs }

// Moved is the error of a vault whose name now leads elsewhere: it was replaced,
// or unmounted. The open one is still the old folder, so it must be opened anew.
func (v *Vault) Moved() error {
	if m, ok := v.fs.(interface{ Moved() error }); ok {
		return m.Moved()
	}
	return nil
}

// Lstat describes name without following it.
func (v *Vault) Lstat(name string) (Info, error) { return v.fs.Lstat(name) }

// List returns the entries of a folder, in no order.
func (v *Vault) List(dir string) ([]Entry, error) { return v.fs.ReadDir(dir) }

// Free is the space left in the vault, in bytes.
func (v *Vault) Free() (int64, error) { return v.fs.Free() }

// Read returns the bytes of a regular file of at most limit bytes. Info is
// taken from the open file after its last byte was read, so that an Info equal
// to one seen earlier vouches for the bytes too. With ErrTooLarge and
// ErrNotRegular Info is set as well.
func (v *Vault) Read(name string, limit int64) (data []byte, info Info, err error) {
	// Opening a device can do something; so look before, and again once open.
	info, err = v.fs.Lstat(name)
	if err != nil {
		return nil, Info{}, fmt.Errorf("read %s: %w", name, err)
	}
	if !info.Mode.IsRegular() {
		return nil, info, fmt.Errorf("read %s: %w", name, ErrNotRegular)
	}
	f, err := v.fs.Open(name)
	if err != nil {
		return nil, Info{}, fmt.Errorf("read %s: %w", name, err)
	}
	data, info, err = readOpen(f, limit)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, info, fmt.Errorf("read %s: %w", name, err)
	}
	return data, info, nil
}

func readOpen(f File, limit int64) ([]byte, Info, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, Info{}, err
	}
	if !info.Mode.IsRegular() {
		return nil, info, ErrNotRegular
	}
	if info.Size > limit {
		return nil, info, ErrTooLarge
	}
	// One byte more than fits: the file may grow while it is read.
	data := make([]byte, 0, info.Size+1)
	for {
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, info, err
		}
		if int64(len(data)) > limit {
			return nil, info, ErrTooLarge
		}
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
	info, err = f.Stat()
	if err != nil {
		return nil, Info{}, err
	}
	return data, info, nil
}

// syncDirs syncs each folder once, in order, and stops at the first failure.
func (v *Vault) syncDirs(dirs ...string) error {
	for i, dir := range dirs {
		if i > 0 && dir == dirs[i-1] {
			continue
		}
		if err := v.fs.SyncDir(dir); err != nil {
			return fmt.Errorf("sync folder %s: %w", dir, err)
		}
	}
	return nil
}
