// Package vaulttest has file systems for tests: Mem, which forgets at a power
// loss what was not synced, and Faults, which makes any call of any file system
// fail, in either half, or marks a crash there.
package vaulttest

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"davidcockson.com/runner/internal/vault"
)

// Mem is a file system in memory that keeps two states: what a program sees, and
// what a power loss leaves. A file's bytes reach the second state by File.Sync, a
// change of names by SyncDir of a folder that it touches. A change is one step,
// also between two folders: both or neither. SyncDir takes with it the earlier
// changes that a change depends on, those that touched the same folders; the name
// of the folder itself it does not sync.
//
// The fields are set before first use. A Mem is safe for concurrent use. Times are
// those of time.Now, so that of the bubble in testing/synctest, and never repeat.
type Mem struct {
	NoUnnamed  bool // CreateUnnamed is not supported
	NoExchange bool // Exchange is not supported

	mu       sync.Mutex
	root     *node
	pending  []change // changes of names that are not durable, oldest first
	lastIno  uint64
	lastTime int64
	free     int64
	power    int // counts crashes: a file opened before the last one is dead
}

var _ vault.FS = (*Mem)(nil)

type node struct {
	mode         fs.FileMode
	ino          uint64
	mtime, ctime int64
	data, synced []byte // a file's bytes, seen and durable
	dirty        bool   // data was not synced since its last change
	names, kept  map[string]*node
}

// change is one step of the journal: names set, or removed (nil).
type change []entry

type entry struct {
	dir  *node
	name string
	to   *node
}

// NewMem returns an empty vault with 1 TiB free.
func NewMem() *Mem {
	m := &Mem{free: 1 << 40}
	m.root = m.newNode(fs.ModeDir | 0o755)
	return m
}

func (m *Mem) newNode(mode fs.FileMode) *node {
	m.lastIno++
	n := &node{mode: mode, ino: m.lastIno}
	n.mtime = m.now()
	n.ctime = n.mtime
	if mode.IsDir() {
		n.names, n.kept = map[string]*node{}, map[string]*node{}
	}
	return n
}

func (m *Mem) now() int64 {
	m.lastTime = max(m.lastTime+1, time.Now().UnixNano())
	return m.lastTime
}

func (n *node) info() vault.Info {
	return vault.Info{Mode: n.mode, Size: int64(len(n.data)), Inode: n.ino, Dev: 1, Mtime: n.mtime, Ctime: n.ctime}
}

func (m *Mem) dir(name string) (*node, error) {
	d := m.root
	if name == "." {
		return d, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if err := checkPart(part); err != nil {
			return nil, err
		}
		next := d.names[part]
		switch {
		case next == nil:
			return nil, syscall.ENOENT
		case !next.mode.IsDir():
			return nil, syscall.ENOTDIR
		}
		d = next
	}
	return d, nil
}

func checkPart(part string) error {
	switch {
	case part == "" || part == "." || part == "..":
		return fs.ErrInvalid
	case len(part) > 255:
		return syscall.ENAMETOOLONG
	}
	return nil
}

// at finds the folder of name and what the name stands for, nil if it is free.
func (m *Mem) at(name string) (d *node, base string, n *node, err error) {
	base = path.Base(name)
	if d, err = m.dir(path.Dir(name)); err == nil {
		err = checkPart(base)
	}
	if err != nil {
		return nil, "", nil, err
	}
	return d, base, d.names[base], nil
}

// have is at for a name that must exist.
func (m *Mem) have(name string) (d *node, base string, n *node, err error) {
	d, base, n, err = m.at(name)
	if err == nil && n == nil {
		err = syscall.ENOENT
	}
	return d, base, n, err
}

func (m *Mem) change(c change) {
	for _, e := range c {
		set(e.dir.names, e)
		e.dir.mtime = m.now()
		e.dir.ctime = e.dir.mtime
		if e.to != nil {
			e.to.ctime = m.now()
		}
	}
	m.pending = append(m.pending, c)
}

func set(names map[string]*node, e entry) {
	if e.to == nil {
		delete(names, e.name)
	} else {
		names[e.name] = e.to
	}
}

// lock makes each method one step and gives its error the usual form.
func (m *Mem) lock(op, name string, err *error) func() {
	m.mu.Lock()
	return func() {
		m.mu.Unlock()
		if *err != nil {
			*err = &fs.PathError{Op: op, Path: name, Err: *err}
		}
	}
}

func (m *Mem) ReadDir(dir string) (entries []vault.Entry, err error) {
	defer m.lock("readdir", dir, &err)()
	d, err := m.dir(dir)
	if err != nil {
		return nil, err
	}
	for name, n := range d.names {
		entries = append(entries, vault.Entry{Name: name, Type: n.mode.Type()})
	}
	return entries, nil
}

func (m *Mem) Lstat(name string) (info vault.Info, err error) {
	defer m.lock("lstat", name, &err)()
	if name == "." {
		return m.root.info(), nil
	}
	_, _, n, err := m.have(name)
	if err != nil {
		return vault.Info{}, err
	}
	return n.info(), nil
}

func (m *Mem) Open(name string) (f vault.File, err error) {
	defer m.lock("open", name, &err)()
	_, _, n, err := m.have(name)
	if err != nil {
		return nil, err
	}
	if n.mode.Type() == fs.ModeSymlink {
		return nil, syscall.ELOOP
	}
	return &memFile{m: m, n: n, name: name, power: m.power}, nil
}

func (m *Mem) CreateUnnamed(dir string) (f vault.File, err error) {
	defer m.lock("create in", dir, &err)()
	if m.NoUnnamed {
		return nil, errors.ErrUnsupported
	}
	if _, err := m.dir(dir); err != nil {
		return nil, err
	}
	return &memFile{m: m, n: m.newNode(0o644), name: dir + "/(unnamed)", power: m.power, write: true}, nil
}

func (m *Mem) Create(name string) (f vault.File, err error) {
	defer m.lock("create", name, &err)()
	d, base, n, err := m.at(name)
	if err == nil && n != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return nil, err
	}
	n = m.newNode(0o644)
	m.change(change{{d, base, n}})
	return &memFile{m: m, n: n, name: name, power: m.power, write: true}, nil
}

func (m *Mem) Link(f vault.File, name string) (err error) {
	defer m.lock("link", name, &err)()
	file, ok := f.(*memFile)
	if !ok || file.m != m {
		return fs.ErrInvalid
	}
	if err := file.usable(); err != nil {
		return err
	}
	d, base, n, err := m.at(name)
	if err == nil && n != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return err
	}
	m.change(change{{d, base, file.n}})
	return nil
}

func (m *Mem) Rename(from, to string) (err error) {
	defer m.lock("rename", from+" to "+to, &err)()
	a, nameA, n, err := m.have(from)
	if err != nil {
		return err
	}
	b, nameB, taken, err := m.at(to)
	if err == nil && taken != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return err
	}
	m.change(change{{a, nameA, nil}, {b, nameB, n}})
	return nil
}

func (m *Mem) Exchange(from, to string) (err error) {
	defer m.lock("exchange", from+" with "+to, &err)()
	if m.NoExchange {
		return errors.ErrUnsupported
	}
	a, nameA, nodeA, err := m.have(from)
	if err != nil {
		return err
	}
	b, nameB, nodeB, err := m.have(to)
	if err != nil {
		return err
	}
	m.change(change{{a, nameA, nodeB}, {b, nameB, nodeA}})
	return nil
}

func (m *Mem) Remove(name string) (err error) {
	defer m.lock("remove", name, &err)()
	d, base, n, err := m.have(name)
	if err != nil {
		return err
	}
	if n.mode.IsDir() {
		return syscall.EISDIR
	}
	m.change(change{{d, base, nil}})
	return nil
}

func (m *Mem) Mkdir(name string) (err error) {
	defer m.lock("mkdir", name, &err)()
	d, base, n, err := m.at(name)
	if err == nil && n != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return err
	}
	m.change(change{{d, base, m.newNode(fs.ModeDir | 0o755)}})
	return nil
}

func (m *Mem) SyncDir(dir string) (err error) {
	defer m.lock("sync", dir, &err)()
	d, err := m.dir(dir)
	if err == nil {
		m.sync(d)
	}
	return err
}

// Free is what SetFree set, less what was written since.
func (m *Mem) Free() (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.free, nil
}

// SetFree sets how many bytes may still be written before ENOSPC. Removing a file
// frees nothing.
func (m *Mem) SetFree(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free = bytes
}

// sync makes the changes that touch d durable, and those that they depend on.
func (m *Mem) sync(d *node) {
	dirs := map[*node]bool{d: true}
	var durable, left []change
	for _, c := range slices.Backward(m.pending) {
		if !slices.ContainsFunc(c, func(e entry) bool { return dirs[e.dir] }) {
			left = append(left, c)
			continue
		}
		for _, e := range c {
			dirs[e.dir] = true
		}
		durable = append(durable, c)
	}
	for _, c := range slices.Backward(durable) {
		for _, e := range c {
			set(e.dir.kept, e)
		}
	}
	slices.Reverse(left)
	m.pending = left
}

// Files returns all regular files with their bytes, by name.
func (m *Mem) Files() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	files := map[string]string{}
	walk(m.root, func(name string, n *node) {
		if n.mode.IsRegular() {
			files[name] = string(n.data)
		}
	})
	return files
}

// walk visits all below dir in the order of names.
func walk(dir *node, visit func(name string, n *node)) {
	for _, name := range slices.Sorted(maps.Keys(dir.names)) {
		n := dir.names[name]
		visit(name, n)
		if n.mode.IsDir() {
			walk(n, func(below string, n *node) { visit(name+"/"+below, n) })
		}
	}
}
