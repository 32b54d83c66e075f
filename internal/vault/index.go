package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

// Bounds of an Index. A file takes about 300 bytes of memory, so that a vault of
// 20,000 notes takes 6 MB and the largest that is taken 60 MB and its aliases.
const (
	maxFiles = 200_000
	maxHead  = 68 << 10 // bytes of a note that are read for its aliases
	maxAlias = 16 << 20 // bytes of all aliases
)

// settled is how long ago a file must have changed for its times to show the next
// change: within one tick of a file system's clock two changes look like one.
const settled = 2 * time.Second

// Index knows the names of all files of a vault that a link may lead to. It follows
// no symbolic link and leaves out names that begin with a dot, the folders that it
// is told to skip, and names with control characters, which no link can spell.
//
// It is filled by the first Lookup and kept in memory; after that only folders that
// have changed are read again, and for links that only an alias can answer only
// notes that have changed. Changes are told by an Info, which is trusted once the
// last change is 2 s old. An Index is safe for concurrent use; a second Lookup waits
// for the first.
type Index struct {
	vault   *Vault
	aliases func(head []byte) []string
	skip    []string

	mu      sync.Mutex // owns all below
	folders map[string]*folder
	files   *files // made of folders
	heads   map[string]head
}

// folder is a folder as it was last read.
type folder struct {
	info  Info
	sure  bool // info shows each later change
	files []file
	below []string // paths of the folders in it
}

// head is what the beginning of a note says of it.
type head struct {
	info    Info
	sure    bool
	aliases []string
}

// NewIndex makes an empty Index. aliases reads the other names of a note from its
// first bytes, which it must not keep; skip names folders of the vault's root, whatever their case.
func NewIndex(v *Vault, aliases func(head []byte) []string, skip ...string) *Index {
	return &Index{vault: v, aliases: aliases, skip: skip}
}

// Lookup brings the Index up to date and returns what it knows now. An error names
// the folder that cannot be read: without it a name might seem unique that is not.
func (x *Index) Lookup(ctx context.Context) (*Lookup, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	fresh := make(map[string]*folder, len(x.folders))
	changed, count := x.files == nil, 0
	for todo := []string{"."}; len(todo) > 0; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		f, err := x.look(dir, now)
		if gone(err) && dir != "." {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look for notes in %s: %w", dir, err)
		}
		changed = changed || f != x.folders[dir]
		fresh[dir] = f
		if count += len(f.files); count > maxFiles {
			return nil, fmt.Errorf("look for notes: the vault holds more than %d files", maxFiles)
		}
		todo = append(todo, f.below...)
	}
	if changed || len(fresh) != len(x.folders) {
		x.files = newFiles(fresh, count)
	}
	x.folders = fresh
	return &Lookup{index: x, files: x.files}, nil
}

// gone reports whether a file is not there any more, or not of the kind it was:
// it was moved or replaced since its folder was read.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) || errors.Is(err, ErrNotRegular)
}

// look returns a folder, the known one if it has not changed.
func (x *Index) look(dir string, now time.Time) (*folder, error) {
	known := x.folders[dir]
	info, err := x.vault.fs.Lstat(dir)
	if err != nil {
		return nil, err
	}
	if known != nil && known.sure && known.info == info {
		return known, nil
	}
	entries, err := x.vault.fs.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	f := &folder{info: info, sure: isSettled(info, now)}
	for _, e := range entries {
		switch name := path.Join(dir, e.Name); {
		case !x.linkable(dir, e.Name):
		case e.Type.IsDir():
			f.below = append(f.below, name)
		case e.Type.IsRegular():
			f.files = append(f.files, file{path: name, key: key(name)})
		}
	}
	if known != nil && slices.Equal(known.files, f.files) && slices.Equal(known.below, f.below) {
		known.info, known.sure = f.info, f.sure
		return known, nil
	}
	return f, nil
}

func isSettled(info Info, now time.Time) bool {
	return max(info.Ctime, info.Mtime) < now.Add(-settled).UnixNano()
}

// linkable reports whether a link may lead to the name, or through it.
func (x *Index) linkable(dir, name string) bool {
	if name[0] == '.' || !utf8.ValidString(name) || strings.ContainsFunc(name, isControl) {
		return false
	}
	return dir != "." || !x.skips(name)
}

func isControl(r rune) bool {
	return r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029
}

func (x *Index) skips(name string) bool {
	return slices.ContainsFunc(x.skip, func(s string) bool { return key(s) == key(name) })
}

// byAlias returns the notes by the keys of their aliases.
func (x *Index) byAlias(ctx context.Context, f *files) (map[string][]string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	fresh := make(map[string]head, len(x.heads))
	found := make(map[string][]string)
	size, page := 0, make([]byte, 0, 4<<10)
	for _, note := range f.notes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := x.head(note, now, page)
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look for aliases in %s: %w", note, err)
		}
		fresh[note] = h
		for _, alias := range h.aliases {
			if size += len(alias); size > maxAlias {
				return nil, fmt.Errorf("look for aliases: they take more than %d bytes", maxAlias)
			}
			k := key(strings.TrimSpace(alias))
			if list := found[k]; k != "" && !slices.Contains(list[max(0, len(list)-1):], note) {
				found[k] = append(list, note)
			}
		}
	}
	x.heads = fresh
	return found, nil
}

// head returns what a note says of itself, as it is known if it has not changed.
// page is space for reading it.
func (x *Index) head(note string, now time.Time, page []byte) (head, error) {
	info, err := x.vault.fs.Lstat(note)
	if err != nil {
		return head{}, err
	}
	if known, ok := x.heads[note]; ok && known.sure && known.info == info {
		return known, nil
	}
	if !info.Mode.IsRegular() {
		return head{}, ErrNotRegular
	}
	f, err := x.vault.fs.Open(note)
	if err != nil {
		return head{}, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return head{}, err
	}
	if !info.Mode.IsRegular() {
		return head{}, ErrNotRegular
	}
	data, err := readHead(f, page)
	if err != nil {
		return head{}, err
	}
	return head{info: info, sure: isSettled(info, now), aliases: x.aliases(data)}, nil
}

// readHead reads a note up to the end of its frontmatter, or nothing of one that
// does not begin with a line of dashes, into page if it fits.
func readHead(f File, page []byte) ([]byte, error) {
	data := page[:0]
	for {
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		text := strings.TrimPrefix(string(data[:min(len(data), 16)]), "\ufeff")
		done := len(text) >= 3 && !strings.HasPrefix(text, "---")
		switch {
		case done:
			return nil, nil
		case err == io.EOF:
			return data, nil
		case err != nil:
			return nil, err
		case closesHead(data[len(data)-n:]) || len(data) >= maxHead:
			return data, nil
		case len(data) == cap(data):
			data = slices.Grow(data, len(data))
		}
	}
}

// closesHead reports whether a piece of a note, which may begin with the note,
// holds a line of three dashes after its first line.
func closesHead(piece []byte) bool {
	for {
		_, rest, found := bytes.Cut(piece, []byte("\n---"))
		if !found {
			return false
		}
		if after := bytes.TrimLeft(rest, " \t\r"); len(after) > 0 && after[0] == '\n' {
			return true
		}
		piece = rest
	}
}
