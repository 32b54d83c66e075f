//go:build linux || darwin

package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// osFS is a folder of the operating system. It walks to a file folder by folder
// with O_NOFOLLOW. os.Root would do for staying inside, but it follows a link
// that stays inside, and a queue folder that is a link must be refused.
type osFS struct {
	root *os.File
	// owner gets what is made here; set only for root, so that a Syncthing of
	// the vault's owner can read it.
	owner *struct{ uid, gid int }
}

const (
	dirFlags  = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	fileFlags = unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NOCTTY
)

func openOS(dir string) (FS, error) {
	fd, err := openat(unix.AT_FDCWD, dir, dirFlags, 0)
	if err != nil {
		return nil, err
	}
	// Reading needs the right to search it as well.
	self, err := openat(fd, ".", dirFlags, 0)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	unix.Close(self)
	o := &osFS{root: os.NewFile(uintptr(fd), dir)}
	if os.Geteuid() == 0 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			o.root.Close()
			return nil, err
		}
		o.owner = &struct{ uid, gid int }{int(st.Uid), int(st.Gid)}
	}
	return o, nil
}

func (o *osFS) Close() error { return o.root.Close() }

// Moved says whether the folder's name now leads to another folder, or to none.
func (o *osFS) Moved() error {
	open, err := o.root.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(o.root.Name())
	if err != nil {
		return err
	}
	if !os.SameFile(open, named) {
		return fmt.Errorf("%s is another folder than the one that was opened", o.root.Name())
	}
	return nil
}

// openat is openat(2), repeated when a signal cuts it short.
func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// openDir opens the folder name without following a link on the way. The
// caller closes the descriptor.
func (o *osFS) openDir(name string) (fd int, err error) {
	raw, err := o.root.SyscallConn()
	if err != nil {
		return -1, err
	}
	first, rest, more := strings.Cut(name, "/")
	if first != "." {
		if err := checkPart(first); err != nil {
			return -1, err
		}
	}
	// Control keeps the root open during the call and fails once it is closed.
	var opened error
	if raw.Control(func(root uintptr) { fd, opened = openat(int(root), first, dirFlags|unix.O_NOFOLLOW, 0) }) != nil {
		return -1, fs.ErrClosed
	}
	if opened != nil || !more {
		return fd, opened
	}
	for part := range strings.SplitSeq(rest, "/") {
		if err := checkPart(part); err != nil {
			unix.Close(fd)
			return -1, err
		}
		next, err := openat(fd, part, dirFlags|unix.O_NOFOLLOW, 0)
		unix.Close(fd)
		if err != nil {
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

func checkPart(part string) error {
	if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "/\x00") {
		return fmt.Errorf("%q is no name inside the vault: %w", part, fs.ErrInvalid)
	}
	return nil
}

// in calls f with the folder of name, open, and the last element of name.
func (o *osFS) in(op, name string, f func(dir int, base string) error) error {
	parent, base := ".", name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		parent, base = name[:i], name[i+1:]
	}
	err := checkPart(base)
	if err == nil {
		var dir int
		if dir, err = o.openDir(parent); err == nil {
			err = f(dir, base)
			unix.Close(dir)
		}
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// in2 is in for two names.
func (o *osFS) in2(op, a, b string, f func(dirA int, a string, dirB int, b string) error) error {
	return o.in(op, a, func(dirA int, baseA string) error {
		return o.in("to", b, func(dirB int, baseB string) error { return f(dirA, baseA, dirB, baseB) })
	})
}

func (o *osFS) ReadDir(dir string) ([]Entry, error) {
	fd, err := o.openDir(dir)
	if err != nil {
		return nil, &fs.PathError{Op: "open folder", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	list, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(list))
	for i, e := range list {
		entries[i] = Entry{Name: e.Name(), Type: e.Type()}
	}
	return entries, nil
}

func (o *osFS) Lstat(name string) (info Info, err error) {
	if name == "." {
		return o.self()
	}
	err = o.in("lstat", name, func(dir int, base string) error {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		info = infoOf(&st)
		return nil
	})
	return info, err
}

// self describes the vault itself.
func (o *osFS) self() (Info, error) {
	fd, err := o.openDir(".")
	if err != nil {
		return Info{}, &fs.PathError{Op: "lstat", Path: ".", Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Info{}, &fs.PathError{Op: "lstat", Path: ".", Err: err}
	}
	return infoOf(&st), nil
}

func (o *osFS) Open(name string) (File, error) {
	return o.open("open", name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
}

func (o *osFS) Create(name string) (File, error) {
	f, err := o.open("create", name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	if err := o.chown(f); err != nil {
		f.Close()
		return nil, errors.Join(err, o.Remove(name))
	}
	return f, nil
}

func (o *osFS) open(op, name string, flags int, mode uint32) (f *osFile, err error) {
	err = o.in(op, name, func(dir int, base string) error {
		fd, err := openat(dir, base, fileFlags|flags, mode)
		if err != nil {
			return err
		}
		f = &osFile{os.NewFile(uintptr(fd), name)}
		return nil
	})
	return f, err
}

// chown gives a new file to the vault's owner.
func (o *osFS) chown(f *osFile) error {
	if o.owner == nil {
		return nil
	}
	return f.Chown(o.owner.uid, o.owner.gid)
}

func (o *osFS) Rename(from, to string) error {
	return o.in2("rename", from, to, func(a int, from string, b int, to string) error {
		return rename(renameNoReplace, a, from, b, to)
	})
}

// rename moves by noReplace or, where the file system has no such call (NFS, old
// ZFS, some FUSE: EINVAL, ENOSYS, EOPNOTSUPP), by link and unlink. link(2) refuses
// a taken target too. Never by rename(2), which replaces.
func rename(noReplace func(int, string, int, string) error, a int, from string, b int, to string) error {
	err := noReplace(a, from, b, to)
	if !unsupported(err) {
		return err
	}
	err = unix.Linkat(a, from, b, to, 0)
	if err != nil && err != unix.EEXIST {
		return err
	}
	// A taken target that is the very file is a move that a crash, or a failed
	// unlink, cut short; it is finished. A source that is no longer the file we
	// linked was replaced by its owner in this instant and must stay. After a
	// failed unlink the link stays too: the unlink may have been done.
	var source, target unix.Stat_t
	if serr := unix.Fstatat(a, from, &source, unix.AT_SYMLINK_NOFOLLOW); serr != nil {
		return serr
	}
	if serr := unix.Fstatat(b, to, &target, unix.AT_SYMLINK_NOFOLLOW); serr != nil {
		return serr
	}
	if source.Dev != target.Dev || source.Ino != target.Ino {
		if err == nil {
			err = errors.New("replaced while it was moved: the earlier text is under the new name, the later under the old")
		}
		return err
	}
	return unix.Unlinkat(a, from, 0)
}

func unsupported(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EINVAL)
}

func (o *osFS) Exchange(a, b string) error {
	return o.in2("exchange", a, b, func(dirA int, a string, dirB int, b string) error {
		err := exchange(dirA, a, dirB, b)
		if unsupported(err) {
			return errors.ErrUnsupported
		}
		return err
	})
}

func (o *osFS) Remove(name string) error {
	return o.in("remove", name, func(dir int, base string) error { return unix.Unlinkat(dir, base, 0) })
}

func (o *osFS) Mkdir(name string) error {
	return o.in("mkdir", name, func(dir int, base string) error {
		if err := unix.Mkdirat(dir, base, 0o777); err != nil {
			return err
		}
		if o.owner == nil {
			return nil
		}
		return unix.Fchownat(dir, base, o.owner.uid, o.owner.gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (o *osFS) SyncDir(dir string) error {
	fd, err := o.openDir(dir)
	if err != nil {
		return &fs.PathError{Op: "open folder", Path: dir, Err: err}
	}
	for err = unix.Fsync(fd); err == unix.EINTR; err = unix.Fsync(fd) {
	}
	if err != nil {
		err = &fs.PathError{Op: "sync", Path: dir, Err: err}
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	return err
}

func (o *osFS) Free() (bytes int64, err error) {
	fd, err := o.openDir(".")
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: o.root.Name(), Err: err}
	}
	return int64(st.Bavail) * blockSize(&st), nil
}

type osFile struct{ *os.File }

func (f *osFile) Stat() (info Info, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return Info{}, err
	}
	var st unix.Stat_t
	if cerr := raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) }); cerr != nil {
		return Info{}, cerr
	}
	if err != nil {
		return Info{}, &fs.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return infoOf(&st), nil
}

func infoOf(st *unix.Stat_t) Info {
	mode := fs.FileMode(st.Mode & 0o777)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	default:
		mode |= fs.ModeIrregular
	}
	return Info{
		Mode: mode, Size: st.Size, Inode: st.Ino, Dev: uint64(st.Dev),
		Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano(),
	}
}
