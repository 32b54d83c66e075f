package queue

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/vault"
)

// ErrChanged is the error of a claim whose note was edited meanwhile. The note
// lies in the queue again.
var ErrChanged = errors.New("the note changed while it was claimed")

// Take moves a note from the queue to the active folder and reads it again
// there: it must be the very file that was loaded, with the same content (a move
// changes the file's ctime, so that is left out). If the name is taken there, the
// run's id is added to it. It returns the file's name in the active folder; with
// ErrChanged the name under which it lies in the queue again.
func (q *Queue) Take(name, run string, want Loaded) (string, error) {
	file, err := q.Put(Waiting, name, Active, run)
	if err != nil {
		return file, fmt.Errorf("claim %s: %w", name, err)
	}
	data, info, err := q.vault.Read(path.Join(Active, file), note.MaxSize)
	if err == nil && info.Inode == want.Info.Inode && info.Dev == want.Info.Dev && sha256.Sum256(data) == want.Sum {
		return file, nil
	}
	if err != nil && !errors.Is(err, vault.ErrTooLarge) {
		return file, fmt.Errorf("claim %s: read it back: %w", name, err)
	}
	back, err := q.Put(Active, file, Waiting, run)
	if err != nil {
		return file, fmt.Errorf("claim %s: put it back, since it changed: %w", name, err)
	}
	return back, ErrChanged
}

// Put moves a file from one folder to another by one step that never replaces,
// and syncs both. If the name is taken, the run's id is added to it. It returns
// the file's name in the end; after an error that is where it was last known to
// be, or fs.ErrNotExist says that it is not there at all.
func (q *Queue) Put(from, file, to, run string) (string, error) {
	target := file
	err := q.vault.Move(path.Join(from, file), path.Join(to, target))
	if errors.Is(err, fs.ErrExist) {
		target = vault.WithSuffix(file, run)
		err = q.vault.Move(path.Join(from, file), path.Join(to, target))
	}
	if err != nil {
		return file, err
	}
	return target, nil
}
