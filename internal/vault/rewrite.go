package vault

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Rewrite puts rewritten in the place of read in the file name, which its owner
// may be editing at this moment. temp is a name in TempDir that belongs to this
// file alone and is the same at each try; fs.ErrExist says that a crash left it:
// RecoverRewrite first. ErrChanged says that the file holds other bytes than
// read, which are untouched. After a *KeptError nothing waits to be settled.
// After any other error RecoverRewrite settles what is left.
//
// The steps: write temp, whole and durable; exchange the two names; compare what
// came out with read; equal, sync both folders and remove it; else exchange back
// and remove what then comes out, if it is ours. So at each moment both names
// hold whole files, and bytes are removed only after they were found equal to
// read or to rewritten.
//
// One gap is left that no call closes: an editor that opened the file before the
// exchange and writes into it after the last look, microseconds before the
// removal, writes into the file that is removed.
//
// The new file has the mode of a new file. A power loss may bring temp back after
// success; it then holds the old text, and RecoverRewrite removes it.
func (v *Vault) Rewrite(name, temp string, read, rewritten []byte) error {
	err := v.Write(temp, rewritten)
	if errors.Is(err, fs.ErrNotExist) && path.Dir(temp) == TempDir {
		if err = v.makeTempDir(); err == nil {
			err = v.Write(temp, rewritten)
		}
	}
	if err != nil {
		if !errors.Is(err, fs.ErrExist) {
			v.removeOurs(temp, rewritten)
		}
		return fmt.Errorf("rewrite %s: %w", name, err)
	}
	if err := v.fs.Exchange(name, temp); err != nil {
		// Done or not? If temp still holds our text there is nothing else in
		// it to lose. Otherwise it stays for RecoverRewrite.
		v.removeOurs(temp, rewritten)
		return fmt.Errorf("rewrite %s: exchange with %s: %w", name, temp, err)
	}
	out, same, err := v.holds(temp, read)
	if err != nil {
		return fmt.Errorf("rewrite %s: %w", name, err)
	}
	if !same {
		return v.undoRewrite(name, temp, rewritten)
	}
	if err := v.syncDirs(path.Dir(name), path.Dir(temp)); err != nil {
		return fmt.Errorf("rewrite %s: %w", name, err)
	}
	// The syncs took time in which an editor with the old file open may have
	// written to it.
	now, err := v.fs.Lstat(temp)
	if err != nil {
		return fmt.Errorf("rewrite %s: %w", name, err)
	}
	if now != out {
		return v.undoRewrite(name, temp, rewritten)
	}
	if err := v.fs.Remove(temp); err != nil {
		return fmt.Errorf("rewrite %s: remove the old text: %w", name, err)
	}
	return nil
}

// undoRewrite gives the note back the bytes that came out of it.
func (v *Vault) undoRewrite(name, temp string, rewritten []byte) error {
	if err := v.fs.Exchange(name, temp); err != nil {
		return fmt.Errorf("rewrite %s: give back the edit in %s: %w", name, temp, err)
	}
	_, ours, err := v.holds(temp, rewritten)
	if err != nil {
		return fmt.Errorf("rewrite %s: %w", name, err)
	}
	if !ours {
		// Edited once more between the two exchanges: two edits, no say which
		// of them counts.
		return v.keep(name, temp)
	}
	if err := v.fs.Remove(temp); err != nil {
		return fmt.Errorf("rewrite %s: %w", name, err)
	}
	if err := v.syncDirs(path.Dir(name), path.Dir(temp)); err != nil {
		return fmt.Errorf("rewrite %s: %w", name, err)
	}
	return fmt.Errorf("rewrite %s: %w", name, ErrChanged)
}

// RecoverRewrite settles a Rewrite that a crash or an error cut short. rewrite
// must be the same function of the text as the one that made rewritten. A nil
// return means that temp is gone and name holds a whole text, annotated or not:
// read it and see.
//
// The crash points: temp appears whole (Write), so it holds all of rewritten, or
// what came out of the note, never a part. Before the exchange: temp is rewrite
// of the note, and goes. After it: the note is rewrite of temp, the old text,
// which goes once the exchange is durable. After the exchange back: as before
// the exchange, if the edit was none. In all other cases somebody edited the
// note in between, and the two texts do not tell which edit came when: both are
// kept, temp's beside the note, in a *KeptError.
func (v *Vault) RecoverRewrite(name, temp string, rewrite func(old []byte) []byte) error {
	before, err := v.fs.Lstat(temp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("recover %s: %w", name, err)
	}
	if !before.Mode.IsRegular() {
		return v.keep(name, temp) // the note had been replaced by a link or folder
	}
	inTemp, before, err := v.Read(temp, before.Size)
	if err != nil {
		return fmt.Errorf("recover %s: %w", name, err)
	}
	note, err := v.fs.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !note.Mode.IsRegular() {
		return v.keep(name, temp)
	}
	if err != nil {
		return fmt.Errorf("recover %s: %w", name, err)
	}
	inNote, _, err := v.Read(name, note.Size)
	if err != nil {
		return fmt.Errorf("recover %s: %w", name, err)
	}
	switch {
	case bytes.Equal(rewrite(inTemp), inNote): // exchanged; temp has the old text
	case bytes.Equal(inTemp, rewrite(inNote)): // not exchanged; temp has ours
	case bytes.Equal(inTemp, inNote):
	default:
		return v.keep(name, temp)
	}
	if err := v.syncDirs(path.Dir(name), path.Dir(temp)); err != nil {
		return fmt.Errorf("recover %s: %w", name, err)
	}
	now, err := v.fs.Lstat(temp)
	if err != nil {
		return fmt.Errorf("recover %s: %w", name, err)
	}
	if now != before {
		return v.keep(name, temp)
	}
	if err := v.fs.Remove(temp); err != nil {
		return fmt.Errorf("recover %s: %w", name, err)
	}
	return nil
}

// holds tells whether name is a regular file with exactly these bytes.
func (v *Vault) holds(name string, want []byte) (Info, bool, error) {
	got, info, err := v.Read(name, int64(len(want)))
	if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrNotRegular) {
		return info, false, nil
	}
	return info, err == nil && bytes.Equal(got, want), err
}

// removeOurs removes name if it holds ours. Best effort, after an error that is
// reported: what stays is found by RecoverRewrite.
func (v *Vault) removeOurs(name string, ours []byte) {
	if _, same, err := v.holds(name, ours); err == nil && same {
		_ = v.fs.Remove(name)
	}
}

// keep moves the doubtful temp beside the note and reports where.
func (v *Vault) keep(name, temp string) error {
	to := WithSuffix(name, "recovered")
	err := v.Move(temp, to)
	if errors.Is(err, fs.ErrExist) {
		to = WithSuffix(name, "recovered-"+strings.ToLower(rand.Text()[:8]))
		err = v.Move(temp, to)
	}
	if err != nil {
		return fmt.Errorf("%s was edited while it was rewritten: keep %s: %w", name, temp, err)
	}
	return &KeptError{Name: name, Kept: to}
}
