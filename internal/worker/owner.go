package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/vault"
)

// ownerFile says which worker has the vault. A lock is local and a synced vault
// lies on several machines, so this one is synced: it must lie where sync
// reaches it.
const ownerFile = ".runner/owner.json"

// owner is the content of the owner file.
type owner struct {
	VaultID string    `json:"vault_id"`
	StateID string    `json:"state_id"`
	Host    string    `json:"host"`
	Started time.Time `json:"started"`

	seen vault.Info // the file as it was when it was last read and found ours
}

// mayTake returns the vault's owner so far, and refuses a vault that another state
// folder has, unless takeOver. A vault that nobody had gets its id here.
func mayTake(v *vault.Vault, stateID string, takeOver bool) (owner, error) {
	old, _, err := readOwner(v)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil && !takeOver:
		return owner{}, fmt.Errorf("the vault's owner file %s cannot be read: %w; if no other worker has this vault, start with --take-over", ownerFile, err)
	case err == nil && old.StateID != stateID && !takeOver:
		return owner{}, fmt.Errorf("this vault belongs to the worker on %s, started %s, which has another state folder; stop that one and start here with --take-over, or let it be",
			old.Host, old.Started.UTC().Format(time.RFC3339))
	}
	if old.VaultID == "" {
		old.VaultID = job.NewRun() + job.NewRun()
	}
	return old, nil
}

// takeVault makes the vault ours.
func takeVault(v *vault.Vault, stateID, host string, takeOver bool) (owner, error) {
	old, err := mayTake(v, stateID, takeOver)
	if err != nil {
		return owner{}, err
	}
	mine := owner{VaultID: old.VaultID, StateID: stateID, Host: host, Started: time.Now().UTC().Truncate(time.Second)}
	if err := mine.write(v); err != nil {
		return owner{}, fmt.Errorf("write the vault's owner file: %w", err)
	}
	return mine, nil
}

func readOwner(v *vault.Vault) (owner, vault.Info, error) {
	data, info, err := v.Read(ownerFile, 64<<10)
	if err != nil {
		return owner{}, info, err
	}
	var o owner
	if err := json.Unmarshal(data, &o); err != nil {
		return owner{}, info, err
	}
	if o.StateID == "" {
		return owner{}, info, errors.New("it names no state folder")
	}
	return o, info, nil
}

// write puts the owner file in the place of an older one.
func (o owner) write(v *vault.Vault) error {
	data, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if err := v.FS().Remove(ownerFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := v.FS().Mkdir(path.Dir(ownerFile)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return v.Write(ownerFile, data)
}

// check reads the owner file again, and returns why nothing may be claimed, ""
// if the vault is still ours. A missing file is made anew: a vault that was
// restored, or whose dot folders were cleared.
func (o *owner) check(v *vault.Vault) string {
	info, err := v.Lstat(ownerFile)
	if err == nil && info == o.seen {
		return ""
	}
	now, info, err := readOwner(v)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := o.write(v); err != nil {
			return fmt.Sprintf("the vault's owner file cannot be written: %v", err)
		}
		return ""
	case err != nil:
		return fmt.Sprintf("the vault's owner file %s cannot be read: %v", ownerFile, err)
	case now.StateID != o.StateID:
		return fmt.Sprintf("the vault was taken over by the worker on %s at %s", now.Host, now.Started.UTC().Format(time.RFC3339))
	}
	o.seen = info
	return ""
}
