package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"davidcockson.com/runner/examples"
	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/worker"
)

// checkVault looks at the vault: its folders, its disk, who may do what in it, and
// how Obsidian shows our properties.
func checkVault(conf *config.Config) []finding {
	v, err := vault.Open(conf.Vault)
	if err != nil {
		return []finding{{What: "vault", Text: fmt.Sprintf("%v; `runner init` makes it", err)}}
	}
	defer v.Close()
	for _, folder := range queue.Folders() {
		if _, err := v.List(folder); err != nil {
			return []finding{{What: "vault", Text: fmt.Sprintf("%s: %v; `runner init` makes what is missing", folder, err)}}
		}
	}
	all := []finding{{What: "vault", OK: true, Text: conf.Vault}, checkWritable("vault's folders", foldersOf(conf)...), checkSpace("vault's disk", conf.Vault)}
	return append(all, checkOwner(conf), checkTypes(v))
}

func foldersOf(conf *config.Config) []string {
	folders := []string{conf.Vault}
	for _, folder := range queue.Folders() {
		folders = append(folders, filepath.Join(conf.Vault, folder))
	}
	return folders
}

// checkTypes compares the types that the vault's owner gave to properties of our
// names with those that our notes have. Obsidian shows a property of another type
// as faulty, or writes it in a way that is not understood here.
func checkTypes(v *vault.Vault) finding {
	f := finding{What: "property types", OK: true}
	want, err := readTypes(fs.ReadFile(examples.Vault(), examples.PropertyTypes))
	if err != nil {
		return finding{What: f.What, Text: err.Error()} // of our own file
	}
	data, _, err := v.Read(examples.PropertyTypes, mostSettings)
	if errors.Is(err, fs.ErrNotExist) {
		f.Text = "Obsidian has none set for this vault"
		return f
	}
	have, err := readTypes(data, err)
	if err != nil {
		f.Warn, f.Text = true, fmt.Sprintf("%s cannot be read: %v", examples.PropertyTypes, err)
		return f
	}
	if other := compareTypes(have, want); len(other) > 0 {
		f.Warn = true
		f.Text = fmt.Sprintf("in %s %s; change it by the property's icon in Obsidian", examples.PropertyTypes, strings.Join(other, ", "))
		return f
	}
	f.Text = "Obsidian has none of ours set to another type"
	return f
}

// readTypes reads a types.json of Obsidian. A type that is no text is one of a
// plugin, and counts as another than any of ours.
func readTypes(data []byte, err error) (map[string]any, error) {
	var file struct {
		Types map[string]any `json:"types"`
	}
	if err == nil {
		err = json.Unmarshal(data, &file)
	}
	return file.Types, err
}

// compareTypes says which properties have another type than they should. Obsidian
// ignores the case of their names.
func compareTypes(have, want map[string]any) []string {
	var other []string
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if should, ours := want[strings.ToLower(name)]; ours && have[name] != should {
			other = append(other, fmt.Sprintf("%s is %v and should be %v", name, have[name], should))
		}
	}
	return other
}

// checkWritable asks the system whether this process may write into folders.
// Nothing is written.
func checkWritable(what string, folders ...string) finding {
	for _, folder := range folders {
		if err := unix.Faccessat(unix.AT_FDCWD, folder, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			return finding{What: what, Text: fmt.Sprintf("%s is not writable by this user: %v", folder, err)}
		}
	}
	return finding{What: what, OK: true, Text: "writable"}
}

func checkSpace(what, dir string) finding {
	n, err := free(dir)
	if err != nil {
		return finding{What: what, Text: fmt.Sprintf("the free space cannot be read: %v", err)}
	}
	f := finding{What: what, OK: n >= worker.LeastFree, Text: fmt.Sprintf("%d MiB free", n>>20)}
	if !f.OK {
		f.Text += fmt.Sprintf("; below %d MiB nothing is claimed", worker.LeastFree>>20)
	}
	return f
}

// owned is a folder as stat(2) shows it.
type owned struct {
	name     string
	uid, gid int
	mode     fs.FileMode
}

// writer is who writes into the vault.
type writer struct {
	uid, gid int
	umask    fs.FileMode
}

// checkOwner says whether the vault's owner can read and delete what this process
// writes there.
func checkOwner(conf *config.Config) finding {
	f := finding{What: "vault's owner", OK: true}
	var folders []owned
	for _, folder := range foldersOf(conf) {
		info, err := os.Stat(folder)
		if err != nil {
			return finding{What: f.What, Text: err.Error()}
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return finding{What: f.What, Text: "the system does not say who owns " + folder}
		}
		name, _ := filepath.Rel(conf.Vault, folder)
		folders = append(folders, owned{name, int(st.Uid), int(st.Gid), info.Mode()})
	}
	if os.Geteuid() == 0 {
		f.Text = "this is root: what is written is given to the vault's owner"
		return f
	}
	me := writer{os.Geteuid(), os.Getegid(), umask()}
	if trouble := ownerTrouble(me, folders[0], folders[1:]); trouble != "" {
		f.Warn, f.Text = true, trouble
		return f
	}
	f.Text = "can read and delete what is written"
	return f
}

// ownerTrouble says what the owner of a vault cannot do with the files that w
// makes in folders of it, "" for nothing. That the owner is in the group of the
// vault's own folder is taken for granted; it cannot be asked.
func ownerTrouble(w writer, root owned, folders []owned) string {
	may := func(uid, gid int, mode fs.FileMode, bits fs.FileMode) bool {
		switch {
		case uid == root.uid:
			mode >>= 6
		case gid == root.gid:
			mode >>= 3
		}
		return mode&bits == bits
	}
	var unread, undeleted []string
	for _, folder := range folders {
		gid := w.gid
		if folder.mode&fs.ModeSetgid != 0 {
			gid = folder.gid
		}
		if !may(w.uid, gid, 0o666&^w.umask, 0o4) || !may(folder.uid, folder.gid, folder.mode, 0o5) {
			unread = append(unread, folder.name)
		}
		sticky := folder.mode&fs.ModeSticky != 0 && root.uid != w.uid && root.uid != folder.uid
		if sticky || !may(folder.uid, folder.gid, folder.mode, 0o3) {
			undeleted = append(undeleted, folder.name)
		}
	}
	var trouble []string
	if len(unread) > 0 {
		trouble = append(trouble, "read what is written into "+strings.Join(unread, ", "))
	}
	if len(undeleted) > 0 {
		trouble = append(trouble, "delete it from "+strings.Join(undeleted, ", "))
	}
	if len(trouble) == 0 {
		return ""
	}
	return fmt.Sprintf("it is user %d, and this is user %d with umask %03o: it could not %s; run as the vault's owner",
		root.uid, w.uid, w.umask, strings.Join(trouble, ", and not "))
}

// umask asks for the process's umask, which can only be read by setting it; what
// is set for that moment is the strictest.
func umask() fs.FileMode {
	old := syscall.Umask(0o077)
	syscall.Umask(old)
	return fs.FileMode(old)
}
