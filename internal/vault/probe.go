package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"
)

// probeName is the name of the probe file: a dot file, so that neither the
// queue nor Obsidian looks at it.
const probeName = ".runner-probe"

// writeTempAge is when a temporary file of Write counts as left by a crash. A
// program without the vault's lock may be writing one at this moment.
const writeTempAge = time.Hour

// Probe tries in each folder what the vault's promises need: Write, the move
// that never replaces, from folder to folder and back to TempDir, and Exchange.
// TempDir is made if it is missing; the others must be there. Files left by a
// probe, or a Write, that a crash cut short are removed. An error names the
// folder and what to do; ErrNoExchange alone means that all but Rewrite works.
// To be called by one process at a time, the one that holds the vault.
func (v *Vault) Probe(dirs ...string) error {
	if err := v.makeTempDir(); err != nil {
		return fmt.Errorf("probe %s: %w; the vault must be writable by this user", TempDir, err)
	}
	for _, dir := range append([]string{TempDir}, dirs...) {
		if err := v.removeProbes(dir); err != nil {
			return fmt.Errorf("probe %s: %w; it must be a folder (no link) that this user can read and write", dir, err)
		}
	}
	a := probeName
	at, err := v.probeMoves(dirs, a)
	if err == nil {
		err = v.probeExchange(a)
	}
	if rerr := v.fs.Remove(path.Join(at, a)); err == nil && rerr != nil {
		err = fmt.Errorf("probe %s: %w; files must be removable by this user", at, rerr)
	}
	if err != nil {
		return err
	}
	return v.removeStaleWrites()
}

// probeMoves takes a file through all folders and ends in TempDir. It returns
// the folder in which the file is.
func (v *Vault) probeMoves(dirs []string, probe string) (string, error) {
	at := TempDir
	if err := v.Write(path.Join(at, probe), []byte("probe\n")); err != nil {
		return at, fmt.Errorf("probe %s: %w; the vault must be writable by this user and not full", at, err)
	}
	for _, dir := range append(dirs[:len(dirs):len(dirs)], TempDir) {
		if dir == at {
			continue
		}
		err := v.Move(path.Join(at, probe), path.Join(dir, probe))
		switch {
		case errors.Is(err, syscall.EXDEV):
			return at, fmt.Errorf("probe %s: %w; files cannot move between %s and %s: use one mount for the whole vault, not one for each folder", dir, err, at, dir)
		case err != nil:
			return at, fmt.Errorf("probe %s: %w; files must be movable from %s by this user, in one mount for the whole vault", dir, err, at)
		}
		at = dir
	}
	return at, nil
}

// probeExchange tries in TempDir that a move refuses a taken name and that two
// files can be exchanged.
func (v *Vault) probeExchange(probe string) error {
	a, b := path.Join(TempDir, probe), path.Join(TempDir, probe+"-b")
	second := []byte("second probe\n")
	if err := v.Write(b, second); err != nil {
		return fmt.Errorf("probe %s: %w; the vault must be writable by this user and not full", TempDir, err)
	}
	err := v.fs.Rename(b, a)
	switch {
	case err == nil:
		return fmt.Errorf("probe %s: a move replaced an existing file; use another file system for the vault", TempDir)
	case !errors.Is(err, fs.ErrExist):
		err = fmt.Errorf("probe %s: a move to a taken name: %w; use another file system for the vault", TempDir, err)
	default:
		err = v.fs.Exchange(a, b)
		if errors.Is(err, errors.ErrUnsupported) {
			err = fmt.Errorf("probe %s: %w: %w; notes cannot be annotated safely: use ext4, xfs, btrfs, ZFS 2.2 or APFS", TempDir, ErrNoExchange, err)
		} else if err != nil {
			err = fmt.Errorf("probe %s: exchange: %w", TempDir, err)
		} else if _, same, herr := v.holds(a, second); herr != nil || !same {
			err = errors.Join(fmt.Errorf("probe %s: an exchange reported success and did not happen; use another file system for the vault", TempDir), herr)
		}
	}
	if rerr := v.fs.Remove(b); err == nil && rerr != nil {
		err = fmt.Errorf("probe %s: %w", TempDir, rerr)
	}
	return err
}

// removeProbes removes the probe files of an earlier start. Their names are fixed,
// as a folder may hold too many others to look through.
func (v *Vault) removeProbes(dir string) error {
	for _, name := range []string{probeName, probeName + "-b"} {
		if err := v.fs.Remove(path.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeStaleWrites removes what crashed Writes left in TempDir.
func (v *Vault) removeStaleWrites() error {
	entries, err := v.fs.ReadDir(TempDir)
	if err != nil {
		return fmt.Errorf("clear %s: %w", TempDir, err)
	}
	limit := time.Now().Add(-writeTempAge).UnixNano()
	for _, e := range entries {
		if !strings.HasPrefix(e.Name, writeTemp) || e.Type != 0 {
			continue
		}
		name := path.Join(TempDir, e.Name)
		info, err := v.fs.Lstat(name)
		if err == nil && info.Ctime < limit {
			err = v.fs.Remove(name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clear %s: %w", TempDir, err)
		}
	}
	return nil
}
