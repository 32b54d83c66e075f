package vault

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// LinkFault says why a link leads to no note.
type LinkFault string

// The faults of links.
const (
	LinkMissing   LinkFault = "missing"   // nothing has this name; Candidates are those near to it
	LinkAmbiguous LinkFault = "ambiguous" // Candidates all have this name
	LinkRefused   LinkFault = "refused"   // such a path is never followed; Reason says why
	LinkNoNote    LinkFault = "no note"   // Candidates have this name and are not markdown
)

// LinkError is why a link leads to no note.
type LinkError struct {
	Target     string
	Fault      LinkFault
	Reason     string   // of LinkRefused
	Candidates []string // paths, in order of their names or of nearness
}

// maxShown is how many candidates an error text names.
const maxShown = 10

func (e *LinkError) Error() string {
	shown := e.Candidates
	if len(shown) > maxShown {
		shown = shown[:maxShown]
	}
	list := strings.Join(shown, ", ")
	if more := len(e.Candidates) - len(shown); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	switch e.Fault {
	case LinkRefused:
		return fmt.Sprintf("%q %s", e.Target, e.Reason)
	case LinkNoNote:
		return fmt.Sprintf("%q is %s, which is not a markdown note: only notes can be read", e.Target, list)
	case LinkAmbiguous:
		return fmt.Sprintf("%q could be any of %s: write as much of the path as tells them apart", e.Target, list)
	}
	if list == "" {
		return fmt.Sprintf("no note is called %q", e.Target)
	}
	return fmt.Sprintf("no note is called %q; near to it are %s", e.Target, list)
}

// file is a file that a link may lead to.
type file struct {
	path string
	key  string // of path
}

// files is what all folders held at one moment. It does not change.
type files struct {
	byName map[string][]file // by the key of the last element
	notes  []string          // paths of the markdown files, sorted
}

func newFiles(folders map[string]*folder, count int) *files {
	f := &files{byName: make(map[string][]file, count)}
	for _, dir := range folders {
		for _, file := range dir.files {
			name := path.Base(file.key)
			f.byName[name] = append(f.byName[name], file)
			if isNote(file.key) {
				f.notes = append(f.notes, file.path)
			}
		}
	}
	slices.Sort(f.notes)
	return f
}

func isNote(key string) bool { return strings.HasSuffix(key, ".md") }

// Lookup finds notes by links, among the files that there were when it was made. It
// is safe for concurrent use, and made for one job: its files and, once it has read
// them, its aliases stay as they were.
type Lookup struct {
	index *Index
	files *files

	mu      sync.Mutex          // held while aliases are read
	byAlias map[string][]string // notes by the keys of their aliases; nil until one is needed
}

// Find returns the path of the note that a link's target means. Its error is a
// *LinkError, or says why the vault could not be read.
//
// The rules are Obsidian's (help.obsidian.md, "Internal links"; the order was seen
// in Obsidian 1.13.7): case, Unicode normalisation and the kind of a space make no
// difference; ".md" is implied, any other extension has to be named; the path from
// the vault's root comes first, then each path that ends with the target. Where
// several match, Obsidian takes the shortest path and we refuse, unless one is
// spelt exactly like the target from the root. A name that no file has may be an
// alias; Obsidian offers aliases while a link is typed but does not follow them.
func (l *Lookup) Find(ctx context.Context, target string) (string, error) {
	if reason := l.index.refuses(target); reason != "" {
		return "", &LinkError{Target: target, Fault: LinkRefused, Reason: reason}
	}
	var found []string
	if path.Ext(target) != "" {
		found = l.files.find(target)
	}
	if len(found) == 0 {
		found = l.files.find(target + ".md")
	}
	if len(found) == 0 {
		var err error
		if found, err = l.findAlias(ctx, target); err != nil {
			return "", err
		}
	}
	switch {
	case len(found) == 0:
		return "", &LinkError{Target: target, Fault: LinkMissing, Candidates: l.files.near(target)}
	case slices.ContainsFunc(found, func(name string) bool { return !isNote(key(name)) }):
		return "", &LinkError{Target: target, Fault: LinkNoNote, Candidates: found}
	case len(found) > 1:
		return "", &LinkError{Target: target, Fault: LinkAmbiguous, Candidates: found}
	}
	return found[0], nil
}

// findAlias returns the notes that have an alias, sorted.
func (l *Lookup) findAlias(ctx context.Context, alias string) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byAlias == nil {
		byAlias, err := l.index.byAlias(ctx, l.files)
		if err != nil {
			return nil, err
		}
		l.byAlias = byAlias
	}
	return l.byAlias[key(alias)], nil
}

// refuses says why a target is never looked for, "" if it is.
func (x *Index) refuses(target string) string {
	if strings.HasPrefix(target, "/") {
		return "is an absolute path: write it from the vault's root, without the slash"
	}
	if strings.ContainsFunc(target, isControl) {
		return "holds control characters"
	}
	parts := strings.Split(target, "/")
	for i, part := range parts {
		switch {
		case part == "":
			return "has a part without a name"
		case part == "." || part == "..":
			return "is a relative path: write it from the vault's root"
		case part[0] == '.':
			return "leads to a name that begins with a dot, where no notes are read"
		case i == 0 && len(parts) > 1 && x.skips(part):
			return "leads to a folder of the queue, whose notes are jobs and never context"
		}
	}
	return ""
}

// find returns the path that is the target, or all that end with it, sorted.
func (f *files) find(target string) []string {
	want := key(target)
	var whole, end []string
	for _, file := range f.byName[path.Base(want)] {
		switch {
		case file.path == target:
			return []string{target}
		case file.key == want:
			whole = append(whole, file.path)
		case strings.HasSuffix(file.key, "/"+want):
			end = append(end, file.path)
		}
	}
	if len(whole) > 0 {
		end = whole
	}
	slices.Sort(end)
	return end
}

// near returns at most five notes whose names are near to the target's, the
// nearest first.
func (f *files) near(target string) []string {
	const most = 5
	want := []rune(strings.TrimSuffix(path.Base(key(target)), ".md"))
	type candidate struct {
		path  string
		steps int
	}
	var found []candidate
	for _, note := range f.notes {
		name := []rune(strings.TrimSuffix(path.Base(key(note)), ".md"))
		steps := distance(want, name, max(1, min(len(want), 30)/3))
		if steps < 0 && len(want) > 2 && strings.Contains(string(name), string(want)) {
			steps = len(name) // further away than any misspelling
		}
		if steps >= 0 {
			found = append(found, candidate{note, steps})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return a.steps - b.steps })
	var paths []string
	for _, c := range found[:min(len(found), most)] {
		paths = append(paths, c.path)
	}
	return paths
}

// distance is how many letters have to be changed, added or left out to make b of
// a (Levenshtein), -1 if more than most.
func distance(a, b []rune, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return -1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		corner, least := row[0], i+1
		row[0] = i + 1
		for j := range b {
			steps := corner
			if a[i] != b[j] {
				steps = 1 + min(corner, row[j], row[j+1])
			}
			corner, row[j+1] = row[j+1], steps
			least = min(least, steps)
		}
		if least > most {
			return -1
		}
	}
	if row[len(b)] > most {
		return -1
	}
	return row[len(b)]
}

// key is a name or path as it is compared: in NFC, as macOS may list names in NFD;
// without regard to case, by Unicode's simple folding as in strings.EqualFold; and
// with a plain space for one that does not break.
func key(name string) string {
	plain := true
	for i := 0; i < len(name) && plain; i++ {
		plain = name[i] < 0x80 && (name[i] < 'A' || name[i] > 'Z')
	}
	if plain {
		return name
	}
	return strings.Map(func(r rune) rune {
		if r == '\u00a0' {
			return ' '
		}
		if r < 0x80 {
			if 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
			return r
		}
		// The orbit of a letter holds all its cases; its smallest stands for it, in
		// small letters where that is ASCII.
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		if 'A' <= least && least <= 'Z' {
			least += 'a' - 'A'
		}
		return least
	}, norm.NFC.String(name))
}
