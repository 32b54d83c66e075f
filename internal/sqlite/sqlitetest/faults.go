package sqlitetest

import (
	"database/sql/driver"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
)

// ErrCrashed is what every call returns after a crash.
var ErrCrashed = errors.New("crashed")

// Half says on which side of the write a fault happens.
type Half int

// The halves.
const (
	Undone Half = iota // the write does not happen
	Done               // it happens first
)

// Fault is what happens at one write. Without Err, Crash and Hook it does nothing.
type Fault struct {
	At    int // the number of the write, from 1; 0: at each
	Half  Half
	Err   error     // the write is reported as failed with it
	Crash bool      // it, and every call after it, fails with ErrCrashed
	Hook  func(int) // called with the number before (Undone) or after (Done) the write, first of all
}

// Faults counts the writes of a database and injects what Inject set. The zero
// value injects nothing. Safe for concurrent use.
type Faults struct {
	mu      sync.Mutex
	faults  []Fault
	writes  int
	crashed bool
}

// Inject adds a fault. Its number counts from the first write of all.
func (f *Faults) Inject(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, fault)
}

// Writes is how many writes were begun.
func (f *Faults) Writes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

// Crash makes every further call fail with ErrCrashed. A Hook may call it.
func (f *Faults) Crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
}

func (f *Faults) alive() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return ErrCrashed
	}
	return nil
}

// write counts a write and does it, unless a fault says otherwise.
func (f *Faults) write(do func() error) error {
	f.mu.Lock()
	f.writes++
	n := f.writes
	f.mu.Unlock()
	if err := f.at(n, Undone); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return f.at(n, Done)
}

func (f *Faults) at(n int, half Half) error {
	f.mu.Lock()
	faults := slices.Clone(f.faults)
	f.mu.Unlock()
	for _, fault := range faults {
		if fault.Half != half || fault.At != n && fault.At != 0 {
			continue
		}
		if fault.Hook != nil {
			fault.Hook(n)
		}
		if fault.Crash {
			f.Crash()
		}
		if err := f.alive(); err != nil {
			return err
		}
		if fault.Err != nil {
			return fault.Err
		}
	}
	return f.alive()
}

// writes says whether a statement changes data.
func writes(query string) bool {
	verb, _, _ := strings.Cut(strings.TrimSpace(query), " ")
	return slices.Contains([]string{"INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER"}, strings.ToUpper(verb))
}

// rows are the answer of a statement that was run to its end.
type rows struct {
	columns []string
	values  [][]driver.Value
}

// drain reads all rows and closes them.
func drain(from driver.Rows) (driver.Rows, error) {
	r := &rows{columns: from.Columns()}
	for {
		values := make([]driver.Value, len(r.columns))
		err := from.Next(values)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, errors.Join(err, from.Close())
		}
		r.values = append(r.values, values)
	}
	return r, from.Close()
}

func (r *rows) Columns() []string { return r.columns }
func (r *rows) Close() error      { return nil }

func (r *rows) Next(into []driver.Value) error {
	if len(r.values) == 0 {
		return io.EOF
	}
	copy(into, r.values[0])
	r.values = r.values[1:]
	return nil
}
