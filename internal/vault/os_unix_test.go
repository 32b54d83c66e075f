//go:build linux || darwin

package vault

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A file system without a move that never replaces answers with one of these.
func TestMoveByLinkAndUnlink(t *testing.T) {
	rows := []struct {
		what       string
		errno      error
		setup      func(dir string) error
		want       error
		from, into string // texts afterwards; "" is no file
	}{
		{"EINVAL falls back", unix.EINVAL, nil, nil, "", "source"},
		{"ENOSYS falls back", unix.ENOSYS, nil, nil, "", "source"},
		{"EOPNOTSUPP falls back", unix.EOPNOTSUPP, nil, nil, "", "source"},
		{"EXDEV does not", unix.EXDEV, nil, unix.EXDEV, "source", ""},
		{"EIO does not", unix.EIO, nil, unix.EIO, "source", ""},
		{"a taken target is refused", unix.EINVAL, func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "to"), []byte("target"), 0o644)
		}, fs.ErrExist, "source", "target"},
		{"a move cut short after its link is finished", unix.EINVAL, func(dir string) error {
			return os.Link(filepath.Join(dir, "from"), filepath.Join(dir, "to"))
		}, nil, "", "source"},
		{"a missing source is an error", unix.EINVAL, func(dir string) error {
			return os.Remove(filepath.Join(dir, "from"))
		}, fs.ErrNotExist, "", ""},
	}
	for _, row := range rows {
		t.Run(row.what, func(t *testing.T) {
			dir := t.TempDir()
			read := func(name string) string {
				text, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
				return string(text)
			}
			if err := os.WriteFile(filepath.Join(dir, "from"), []byte("source"), 0o644); err != nil {
				t.Fatal(err)
			}
			if row.setup != nil {
				if err := row.setup(dir); err != nil {
					t.Fatal(err)
				}
			}
			f, err := os.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			fd := int(f.Fd())
			err = rename(func(int, string, int, string) error { return row.errno }, fd, "from", fd, "to")
			if !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
			if from, to := read("from"), read("to"); from != row.from || to != row.into {
				t.Errorf("from %q, to %q", from, to)
			}
		})
	}
}
