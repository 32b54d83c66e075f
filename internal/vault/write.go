package vault

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// writeTemp begins the names of Write's own temporary files.
const writeTemp = "write-"

// Write makes the file name with data in it, whole and durable, or not at all.
// It never replaces: fs.ErrExist if name is taken.
//
// What reaches the disk, in which order: an unnamed file, the data, its fsync;
// then the name, and the fsync of the folder. Where the file system has no
// unnamed files (open(2), O_TMPFILE): a file in TempDir, the data, its fsync,
// its close; then the move that never replaces, and the fsync of the folder.
//
// After a failed fsync the kernel may have dropped the pages and may report
// success the next time (fsync(2), and the PostgreSQL findings of 2018), so that
// file is given up and one fresh file is tried, once. Errors other than
// fs.ErrExist leave name absent or whole, but perhaps not durable.
func (v *Vault) Write(name string, data []byte) error {
	err := v.writeOnce(name, data)
	var failed *syncError
	if errors.As(err, &failed) {
		err = v.writeOnce(name, data)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// syncError is a failed fsync of a file's data.
type syncError struct{ err error }

func (e *syncError) Error() string { return "fsync: " + e.err.Error() }
func (e *syncError) Unwrap() error { return e.err }

func (v *Vault) writeOnce(name string, data []byte) error {
	err := v.writeUnnamed(name, data)
	var failed *syncError
	if errors.Is(err, errors.ErrUnsupported) && !errors.As(err, &failed) {
		err = v.writeNamed(name, data)
	}
	if err != nil {
		return err
	}
	return v.syncDirs(path.Dir(name))
}

func (v *Vault) writeUnnamed(name string, data []byte) error {
	f, err := v.fs.CreateUnnamed(path.Dir(name))
	if err != nil {
		return err
	}
	err = fill(f, data)
	if err == nil {
		err = v.fs.Link(f, name) // needs the open file
	}
	if cerr := f.Close(); err == nil && cerr != nil {
		// The name is there and its data were synced: it stays.
		err = fmt.Errorf("close: %w", cerr)
	}
	return err
}

func (v *Vault) writeNamed(name string, data []byte) error {
	temp := TempDir + "/" + writeTemp + rand.Text()
	f, err := v.fs.Create(temp)
	if errors.Is(err, fs.ErrNotExist) {
		if err = v.makeTempDir(); err == nil {
			f, err = v.fs.Create(temp)
		}
	}
	if err != nil {
		return err
	}
	err = fill(f, data)
	if cerr := f.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close: %w", cerr)
	}
	if err == nil {
		err = v.fs.Rename(temp, name)
	}
	if err != nil {
		// Best effort: Probe removes what stays behind. A rename that was
		// done although it failed has left nothing under this name.
		_ = v.fs.Remove(temp)
	}
	return err
}

// fill writes and syncs. The caller closes.
func fill(f File, data []byte) error {
	n, err := f.Write(data)
	if err == nil && n != len(data) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return &syncError{err}
	}
	return nil
}

// makeTempDir makes TempDir and what is missing above it, durably.
func (v *Vault) makeTempDir() error {
	for _, dir := range []string{path.Dir(TempDir), TempDir} {
		if err := v.fs.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := v.syncDirs(path.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// Move gives from the name to, durably: one step that never replaces, then the
// fsync of the target's folder and of the source's, in this order, so that a
// crash between them shows the file rather than hides it. fs.ErrExist if to is
// taken, fs.ErrNotExist if from, or a folder, is not there: in both cases
// nothing has changed.
func (v *Vault) Move(from, to string) error {
	if err := v.fs.Rename(from, to); err != nil {
		return fmt.Errorf("move %s to %s: %w", from, to, err)
	}
	if err := v.syncDirs(path.Dir(to), path.Dir(from)); err != nil {
		return fmt.Errorf("move %s to %s: %w", from, to, err)
	}
	return nil
}
