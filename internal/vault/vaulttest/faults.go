package vaulttest

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"davidcockson.com/runner/internal/vault"
)

// ErrCrashed is what every call returns after a crash was injected.
var ErrCrashed = errors.New("crashed")

// Op names a method of vault.FS or, with "File." before it, of vault.File.
type Op string

const (
	ReadDir       Op = "ReadDir"
	Lstat         Op = "Lstat"
	Open          Op = "Open"
	CreateUnnamed Op = "CreateUnnamed"
	Create        Op = "Create"
	Link          Op = "Link"
	Rename        Op = "Rename"
	Exchange      Op = "Exchange"
	Remove        Op = "Remove"
	Mkdir         Op = "Mkdir"
	SyncDir       Op = "SyncDir"
	Free          Op = "Free"
	FileRead      Op = "File.Read"
	FileWrite     Op = "File.Write"
	FileStat      Op = "File.Stat"
	FileSync      Op = "File.Sync"
	FileClose     Op = "File.Close"
)

// Ops are all operations that can be faulted.
var Ops = []Op{
	ReadDir, Lstat, Open, CreateUnnamed, Create, Link, Rename, Exchange, Remove,
	Mkdir, SyncDir, Free, FileRead, FileWrite, FileStat, FileSync, FileClose,
}

// Changes tells whether the operation can change what is on the disk.
func (o Op) Changes() bool {
	switch o {
	case ReadDir, Lstat, Open, Free, FileRead, FileStat:
		return false
	}
	return true
}

// Call is one call of the file system.
type Call struct {
	N    int // counts from 1
	Op   Op
	Name string // for a File, the name or folder that it was opened with
	To   string // of Rename and Exchange
	File int    // of File's methods, Link, and the calls that open: which file, from 1
	Err  error  // what it returned; nil while it runs
}

func (c Call) String() string {
	s := fmt.Sprintf("%d %s %s", c.N, c.Op, c.Name)
	if c.To != "" {
		s += " " + c.To
	}
	if c.File != 0 {
		s += fmt.Sprintf(" #%d", c.File)
	}
	if c.Err != nil {
		s += ": " + c.Err.Error()
	}
	return s
}

// Half says on which side of the operation a fault happens.
type Half int

const (
	Undone Half = iota // the operation does not happen
	Done               // it happens first
)

// Fault is what happens at some call. Without Err, Short, Crash and Hook it does
// nothing.
type Fault struct {
	At    int             // at the At-th call that Match takes, from 1; 0: at each
	Match func(Call) bool // nil: every call
	Half  Half
	Err   error      // the call fails with it
	Crash bool       // the call, and all after it, fail with ErrCrashed
	Short int        // File.Write writes only this many bytes, if over 0, and then fails with Err
	Hook  func(Call) // called before (Undone) or after (Done) the operation, first of all
}

// Is matches calls of these operations.
func Is(ops ...Op) func(Call) bool {
	return func(c Call) bool { return slices.Contains(ops, c.Op) }
}

// Changing matches calls that can change what is on the disk.
func Changing(c Call) bool { return c.Op.Changes() }

// Faults is a file system that hands each call to another one, counts and logs it,
// and injects what Inject set. Safe for concurrent use. A File.Close always closes
// the file below, so that no descriptor is left.
type Faults struct {
	fs vault.FS

	mu      sync.Mutex
	faults  []*armed
	log     []Call
	files   int
	crashed bool
}

var _ vault.FS = (*Faults)(nil)

type armed struct {
	Fault
	seen int
}

// NewFaults wraps fsys.
func NewFaults(fsys vault.FS) *Faults { return &Faults{fs: fsys} }

// Inject adds a fault, counting calls from now. Where several take the same call
// all hooks run, and the first other effect counts.
func (f *Faults) Inject(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, &armed{Fault: fault})
}

// Log returns the calls so far.
func (f *Faults) Log() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

// Crashed tells whether an injected crash has happened.
func (f *Faults) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

// Fired tells whether a fault other than a hook has taken a call.
func (f *Faults) Fired() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.faults, func(a *armed) bool {
		return a.effect() && a.seen > 0 && a.seen >= a.At
	})
}

func (a *armed) effect() bool { return a.Err != nil || a.Crash || a.Short > 0 }

// begin logs the call and returns the faults that take it.
func (f *Faults) begin(c Call) (index int, taken []Fault, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.N = len(f.log) + 1
	if f.crashed {
		c.Err = ErrCrashed
		f.log = append(f.log, c)
		return 0, nil, ErrCrashed
	}
	f.log = append(f.log, c)
	for _, a := range f.faults {
		if a.Match != nil && !a.Match(c) {
			continue
		}
		a.seen++
		if a.At == 0 || a.At == a.seen {
			taken = append(taken, a.Fault)
		}
	}
	return len(f.log) - 1, taken, nil
}

// do runs one call: do is the operation, which gets the effective fault if it
// is of the Done half, so that a write can be short. It returns what the caller gets.
func (f *Faults) do(c Call, do func(Fault) error) (err error) {
	index, taken, err := f.begin(c)
	if err != nil {
		return err
	}
	c.N = index + 1
	var effect Fault
	for i := len(taken) - 1; i >= 0; i-- {
		if a := (armed{Fault: taken[i]}); a.effect() {
			effect = taken[i]
		}
	}
	hooks := func(half Half) {
		for _, t := range taken {
			if t.Half == half && t.Hook != nil {
				t.Hook(c)
			}
		}
	}
	hooks(Undone)
	if effect.Half == Done || effect.Short > 0 || !(effect.Crash || effect.Err != nil) {
		err = do(effect)
	}
	hooks(Done)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case effect.Crash:
		f.crashed = true
		err = ErrCrashed
	case effect.Err != nil:
		err = effect.Err
	}
	f.log[index].Err = err
	return err
}

func (f *Faults) ReadDir(dir string) (entries []vault.Entry, err error) {
	err = f.do(Call{Op: ReadDir, Name: dir}, func(Fault) (err error) {
		entries, err = f.fs.ReadDir(dir)
		return err
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

func (f *Faults) Lstat(name string) (info vault.Info, err error) {
	err = f.do(Call{Op: Lstat, Name: name}, func(Fault) (err error) {
		info, err = f.fs.Lstat(name)
		return err
	})
	if err != nil {
		return vault.Info{}, err
	}
	return info, nil
}

func (f *Faults) Open(name string) (vault.File, error) {
	return f.open(Open, name, f.fs.Open)
}

func (f *Faults) CreateUnnamed(dir string) (vault.File, error) {
	return f.open(CreateUnnamed, dir, f.fs.CreateUnnamed)
}

func (f *Faults) Create(name string) (vault.File, error) {
	return f.open(Create, name, f.fs.Create)
}

func (f *Faults) open(op Op, name string, open func(string) (vault.File, error)) (vault.File, error) {
	f.mu.Lock()
	f.files++
	file := &faultFile{f: f, name: name, id: f.files}
	f.mu.Unlock()
	err := f.do(Call{Op: op, Name: name, File: file.id}, func(Fault) (err error) {
		file.File, err = open(name)
		return err
	})
	if err != nil {
		if file.File != nil {
			// Opened, yet failed: nobody else can close it.
			err = errors.Join(err, file.File.Close())
		}
		return nil, err
	}
	return file, nil
}

func (f *Faults) Link(file vault.File, name string) error {
	own, ok := file.(*faultFile)
	if !ok {
		return fmt.Errorf("vaulttest: link %s: the file was not opened here", name)
	}
	return f.do(Call{Op: Link, Name: name, File: own.id}, func(Fault) error { return f.fs.Link(own.File, name) })
}

func (f *Faults) Rename(from, to string) error {
	return f.do(Call{Op: Rename, Name: from, To: to}, func(Fault) error { return f.fs.Rename(from, to) })
}

func (f *Faults) Exchange(a, b string) error {
	return f.do(Call{Op: Exchange, Name: a, To: b}, func(Fault) error { return f.fs.Exchange(a, b) })
}

func (f *Faults) Remove(name string) error {
	return f.do(Call{Op: Remove, Name: name}, func(Fault) error { return f.fs.Remove(name) })
}

func (f *Faults) Mkdir(name string) error {
	return f.do(Call{Op: Mkdir, Name: name}, func(Fault) error { return f.fs.Mkdir(name) })
}

func (f *Faults) SyncDir(dir string) error {
	return f.do(Call{Op: SyncDir, Name: dir}, func(Fault) error { return f.fs.SyncDir(dir) })
}

func (f *Faults) Free() (bytes int64, err error) {
	err = f.do(Call{Op: Free}, func(Fault) (err error) {
		bytes, err = f.fs.Free()
		return err
	})
	return bytes, err
}

type faultFile struct {
	vault.File
	f    *Faults
	name string
	id   int
}

func (w *faultFile) call(op Op) Call { return Call{Op: op, Name: w.name, File: w.id} }

func (w *faultFile) Read(p []byte) (n int, err error) {
	err = w.f.do(w.call(FileRead), func(Fault) (err error) {
		n, err = w.File.Read(p)
		return err
	})
	return n, err
}

func (w *faultFile) Write(p []byte) (n int, err error) {
	err = w.f.do(w.call(FileWrite), func(fault Fault) (err error) {
		if fault.Short > 0 {
			p = p[:min(fault.Short, len(p))]
		}
		n, err = w.File.Write(p)
		return err
	})
	return n, err
}

func (w *faultFile) Stat() (info vault.Info, err error) {
	err = w.f.do(w.call(FileStat), func(Fault) (err error) {
		info, err = w.File.Stat()
		return err
	})
	return info, err
}

func (w *faultFile) Sync() error {
	return w.f.do(w.call(FileSync), func(Fault) error { return w.File.Sync() })
}

func (w *faultFile) Close() error {
	closed := false
	err := w.f.do(w.call(FileClose), func(Fault) error {
		closed = true
		return w.File.Close()
	})
	if !closed {
		_ = w.File.Close() // only gives the descriptor back; the caller gets err
	}
	return err
}
