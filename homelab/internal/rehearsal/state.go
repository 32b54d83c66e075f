package rehearsal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A State is the record of what a run made outside of its own namespaces. It is written
// before the first of it is made, so that the next run finds what one that was killed
// left behind.
type State struct {
	Folder  string // everything that the run writes to disk
	Cgroups string // the name below each cgroup hierarchy under which its containers are
	PID     int    // the process that runs; its world dies with it
	Started uint64 // when that process started, as /proc tells it: numbers are used again
}

// Save writes the record to path, whole or not at all. Where there is one already it stays,
// and the error is fs.ErrExist: of two runs that start at once one is refused.
func (s State) Save(path string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write the record of the run: %w", err)
	}
	next := fmt.Sprintf("%s.%d", path, s.PID)
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return fmt.Errorf("write the record of the run: %w", err)
	}
	if err := errors.Join(os.Link(next, path), os.Remove(next)); err != nil {
		return fmt.Errorf("write the record of the run: %w", err)
	}
	return nil
}

// Litter removes what a Save of path left that was killed in its middle.
func Litter(path string) error {
	halves, err := filepath.Glob(path + ".*")
	if err != nil {
		return fmt.Errorf("look for records of a cut run: %w", err)
	}
	for _, half := range halves {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Ext(half), "."))
		if err != nil {
			continue // not ours
		}
		if _, err := StartOf(pid); err == nil {
			continue // it may be about to become the record
		}
		if err := os.Remove(half); err != nil {
			return fmt.Errorf("remove the record of a cut run: %w", err)
		}
	}
	return nil
}

// Load reads the record at path; found is false where there is none. A record that names
// other folders than a run makes is refused, since what it names is removed.
func Load(path string) (s State, found bool, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, false, nil
	}
	if err != nil {
		return State{}, false, fmt.Errorf("read the record of the last run: %w", err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return State{}, false, fmt.Errorf("read the record of the last run, %s: %w", path, err)
	}
	if !filepath.IsAbs(s.Folder) || !strings.HasPrefix(filepath.Base(s.Folder), Prefix) || !strings.HasPrefix(s.Cgroups, Prefix) ||
		filepath.Base(s.Cgroups) != s.Cgroups || filepath.Clean(s.Folder) != s.Folder {
		return State{}, false, fmt.Errorf("the record of the last run, %s, names what no run makes: look at it, and remove it", path)
	}
	return s, true, nil
}

// Prefix begins the name of all that a run makes on the machine.
const Prefix = "homelab-rehearsal"

// Alive says whether the process of the record still runs.
func (s State) Alive() bool {
	started, err := StartOf(s.PID)
	return err == nil && started == s.Started
}

// StartOf is when a process started, in clock ticks since the machine did.
func StartOf(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("look at process %d: %w", pid, err)
	}
	return startIn(string(text))
}

// startIn takes the 22nd field of /proc/PID/stat, as proc(5) numbers them. The second one
// is a program's name in brackets, which may have blanks and brackets in it.
func startIn(stat string) (uint64, error) {
	end := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[end+1:])
	if end < 0 || len(fields) < 20 {
		return 0, fmt.Errorf("%q is no line of /proc", stat)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// Remove takes away what the record names, and then the record at path. The process must
// have ended. An error names what is still there.
func (s State) Remove(path string) error {
	var failed []error
	hierarchies, err := filepath.Glob("/sys/fs/cgroup/*/" + s.Cgroups)
	failed = append(failed, err)
	for _, group := range append(hierarchies, "/sys/fs/cgroup/"+s.Cgroups) {
		failed = append(failed, removeGroup(group))
	}
	if err := os.RemoveAll(s.Folder); err != nil {
		failed = append(failed, err)
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return os.Remove(path)
}

// removeGroup removes a cgroup and those below it: their files go with the folders.
func removeGroup(group string) error {
	below, err := os.ReadDir(group)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range below {
		if entry.IsDir() {
			if err := removeGroup(filepath.Join(group, entry.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(group)
}
