package vault

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// CreateUnnamed: macOS has no unnamed files.
func (o *osFS) CreateUnnamed(dir string) (File, error) {
	return nil, &fs.PathError{Op: "create in", Path: dir, Err: errors.ErrUnsupported}
}

// Link is not needed without unnamed files.
func (o *osFS) Link(_ File, name string) error {
	return &fs.PathError{Op: "link", Path: name, Err: errors.ErrUnsupported}
}

// renameNoReplace: renameatx_np(2), RENAME_EXCL; ENOTSUP where the volume has none.
func renameNoReplace(a int, from string, b int, to string) error {
	return unix.RenameatxNp(a, from, b, to, unix.RENAME_EXCL)
}

func exchange(dirA int, a string, dirB int, b string) error {
	return unix.RenameatxNp(dirA, a, dirB, b, unix.RENAME_SWAP)
}

// blockSize is the unit of statfs's counts.
func blockSize(st *unix.Statfs_t) int64 { return int64(st.Bsize) }
