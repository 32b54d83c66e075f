package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// CreateUnnamed uses O_TMPFILE. Without support in the file system open(2) fails
// with EOPNOTSUPP, in old kernels and some FUSE with EISDIR or EINVAL.
func (o *osFS) CreateUnnamed(dir string) (File, error) {
	fd, err := o.openDir(dir)
	if err != nil {
		return nil, &fs.PathError{Op: "open folder", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	unnamed, err := openat(fd, ".", unix.O_WRONLY|unix.O_TMPFILE|unix.O_CLOEXEC, 0o666)
	if unsupported(err) || err == unix.EISDIR {
		err = errors.ErrUnsupported
	}
	if err != nil {
		return nil, &fs.PathError{Op: "create in", Path: dir, Err: err}
	}
	f := &osFile{os.NewFile(uintptr(unnamed), dir+"/(unnamed)")}
	if err := o.chown(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Link goes through /proc/self/fd, which needs no privilege (open(2), O_TMPFILE).
// Without /proc it is unsupported, and Write takes its other way.
func (o *osFS) Link(f File, name string) error {
	own, ok := f.(*osFile)
	if !ok {
		return &fs.PathError{Op: "link", Path: name, Err: fs.ErrInvalid}
	}
	raw, err := own.SyscallConn()
	if err != nil {
		return err
	}
	return o.in("link", name, func(dir int, base string) error {
		var linked error
		err := raw.Control(func(fd uintptr) {
			proc := "/proc/self/fd/" + strconv.Itoa(int(fd))
			linked = unix.Linkat(unix.AT_FDCWD, proc, dir, base, unix.AT_SYMLINK_FOLLOW)
			if linked == unix.ENOENT {
				if _, err := os.Lstat(proc); err != nil {
					linked = fmt.Errorf("/proc is not mounted: %w", errors.ErrUnsupported)
				}
			}
		})
		return errors.Join(err, linked)
	})
}

func renameNoReplace(a int, from string, b int, to string) error {
	return unix.Renameat2(a, from, b, to, unix.RENAME_NOREPLACE)
}

func exchange(dirA int, a string, dirB int, b string) error {
	return unix.Renameat2(dirA, a, dirB, b, unix.RENAME_EXCHANGE)
}

// blockSize is the unit of statfs's counts.
func blockSize(st *unix.Statfs_t) int64 {
	if st.Frsize > 0 {
		return int64(st.Frsize)
	}
	return int64(st.Bsize)
}
