package vaulttest

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"
)

// Keep says what of the unsynced a power loss leaves. Its zero value is nothing.
type Keep struct {
	name string
	rand *rand.Rand // nil: all or nothing
	all  bool
}

// KeepNothing leaves what was synced: a file that never was is empty.
func KeepNothing() Keep { return Keep{name: "nothing"} }

// KeepAll leaves everything, as a killed process does.
func KeepAll() Keep { return Keep{name: "all", all: true} }

// KeepSome leaves the oldest of the pending changes of names, a random number of
// them, and of each unsynced file either its synced bytes, all, a part, nothing,
// or zeros. Equal seeds leave the same.
func KeepSome(seed uint64) Keep {
	return Keep{name: fmt.Sprintf("some, seed %d", seed), rand: rand.New(rand.NewPCG(seed, 0))}
}

// Keeps returns nothing, all, and some of the given number of seeds.
func Keeps(seeds int) []Keep {
	keeps := []Keep{KeepNothing(), KeepAll()}
	for seed := range seeds {
		keeps = append(keeps, KeepSome(uint64(seed)))
	}
	return keeps
}

func (k Keep) String() string { return k.name }

// Crash makes a power loss: the state becomes what keep leaves, and is durable.
// Files that are open are dead: their methods return fs.ErrClosed.
func (m *Mem) Crash(keep Keep) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.power++
	survive := 0
	switch {
	case keep.all:
		survive = len(m.pending)
	case keep.rand != nil:
		survive = keep.rand.IntN(len(m.pending) + 1)
	}
	// Reachable before the crash or after it: both have to be brought in line.
	var nodes []*node
	seen := map[*node]bool{}
	var visit func(n *node)
	visit = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		nodes = append(nodes, n)
		var names []string
		for name := range n.names {
			names = append(names, name)
		}
		for name := range n.kept {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			for _, child := range []*node{n.names[name], n.kept[name]} {
				if child != nil {
					visit(child)
				}
			}
		}
	}
	visit(m.root)
	for _, c := range m.pending[:survive] {
		for _, e := range c {
			set(e.dir.kept, e)
		}
	}
	m.pending = nil
	for _, n := range nodes {
		n.restart(keep)
	}
}

func (n *node) restart(keep Keep) {
	if n.mode.IsDir() {
		n.names = map[string]*node{}
		for name, child := range n.kept {
			n.names[name] = child
		}
		return
	}
	if n.dirty && !keep.all {
		n.data = torn(n, keep.rand)
	}
	n.synced, n.dirty = n.data, false
}

func torn(n *node, r *rand.Rand) []byte {
	if r == nil {
		return n.synced
	}
	switch r.IntN(5) {
	case 0:
		return n.data
	case 1:
		return n.data[:r.IntN(len(n.data)+1)]
	case 2:
		return make([]byte, len(n.data))
	case 3:
		return nil
	}
	return n.synced
}

// MkdirAll makes a folder and those above it, durably. It panics if a file is in
// the way, as do the other methods for setting a scene.
func (m *Mem) MkdirAll(dirs ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, dir := range dirs {
		m.mkdirAll(dir)
	}
}

func (m *Mem) mkdirAll(dir string) *node {
	if dir == "." {
		return m.root
	}
	above := m.mkdirAll(path.Dir(dir))
	n := above.names[path.Base(dir)]
	if n == nil {
		n = m.newNode(fs.ModeDir | 0o755)
		m.change(change{{above, path.Base(dir), n}})
	}
	if !n.mode.IsDir() {
		panic("vaulttest: " + dir + " is no folder")
	}
	m.sync(above)
	return n
}

// Put gives name a new file with this text, durably, in place of any that is
// there: as Syncthing and many editors do. Folders are made as needed. Changes
// that were pending in the file's folder become durable with it.
func (m *Mem) Put(name, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(name, 0o644, text)
}

// PutSpecial makes a symbolic link, FIFO or the like: mode has its type bits.
func (m *Mem) PutSpecial(name string, mode fs.FileMode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(name, mode.Type()|0o644, "")
}

func (m *Mem) put(name string, mode fs.FileMode, text string) {
	d := m.mkdirAll(path.Dir(name))
	n := m.newNode(mode)
	n.data = []byte(text)
	n.synced = n.data
	m.change(change{{d, path.Base(name), n}})
	m.sync(d)
}

// Edit writes text into the file that name names, in place and durably: as
// Obsidian and shell redirection do.
func (m *Mem) Edit(name, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.have(name)
	if err != nil || !n.mode.IsRegular() {
		panic("vaulttest: edit " + name + ": no such file")
	}
	n.data = []byte(strings.Clone(text))
	n.synced, n.dirty = n.data, false
	n.mtime = m.now()
	n.ctime = n.mtime
}

// Unlink removes a file or a folder with all in it, durably.
func (m *Mem) Unlink(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, _, err := m.have(name)
	if err != nil {
		panic("vaulttest: unlink " + name + ": " + err.Error())
	}
	m.change(change{{d, base, nil}})
	m.sync(d)
}

// SetMtime gives a file the modification time of another machine's clock, as
// Syncthing does after it has renamed it into place. Its ctime is now.
func (m *Mem) SetMtime(name string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.have(name)
	if err != nil {
		panic("vaulttest: set the time of " + name + ": " + err.Error())
	}
	n.mtime, n.ctime = at.UnixNano(), m.now()
}
