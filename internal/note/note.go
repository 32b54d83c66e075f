// Package note reads a markdown note as text and rewrites only the lines of it
// that are ours.
//
// A note is a frontmatter of YAML between two lines "---" and a body. Parse
// either gives the whole of it or an *Error that says which line is at fault
// and whether more text could mend it: a note is never read in part.
//
// Ours are the top level keys of OwnedKeys and each block between the lines
// "%% runner: begin %%" and "%% runner: end %%" in the body. They are never
// prompt (Body), never compared (Content), and the only lines that Annotate
// changes: every other byte of a note survives it, in its order.
//
// Links and Excerpt read any note of a vault, not only job notes, as Obsidian does:
// which other notes a text names, and the part of a note that a link means.
//
// Input is untrusted: size, depth and number of values are bounded, and YAML
// that refers to itself (anchors, aliases, merge keys) is refused. The package
// keeps no state and touches no files; a Note is safe for concurrent use.
package note

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxSize is the largest note that Parse takes, in bytes.
const MaxSize = 1 << 20

// MaxFrontmatter is the largest frontmatter that Parse takes, in bytes, the
// two "---" lines left out.
const MaxFrontmatter = 64 << 10

const (
	byteOrderMark = "\ufeff"
	fence         = "---"
	blank         = " \t\r\n"
)

// Kind says whether a note that cannot be read may only need more text.
type Kind string

const (
	// Unfinished is a note that is empty or white space, or whose frontmatter
	// is opened and not closed: somebody may still be writing it.
	Unfinished Kind = "unfinished"
	// Wrong is a note that has to be edited before it can be read.
	Wrong Kind = "wrong"
)

// Error is why a note, or one key of it, cannot be read.
type Error struct {
	Kind   Kind
	Line   int    // of the file, from 1; 0 if unknown
	Key    string // the key at fault; empty if it is not about one
	Reason string // what is wrong, in words for the note's owner
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Key != "" {
		fmt.Fprintf(&b, "key %q: ", e.Key)
	}
	b.WriteString(e.Reason)
	return b.String()
}

func wrong(line int, key, format string, args ...any) *Error {
	return &Error{Kind: Wrong, Line: line, Key: key, Reason: fmt.Sprintf(format, args...)}
}

// OwnedKeys returns the top level frontmatter keys that belong to us.
func OwnedKeys() []string {
	return []string{"status", "run", "output", "started", "finished", "attempts", "error"}
}

func owned(key string) bool { return slices.Contains(OwnedKeys(), key) }

// Note is a note that was read whole.
type Note struct {
	file   file
	fields []Field
	body   []bodyLine
}

// file is a note cut into lines, each with its own line end.
type file struct {
	lines  []string // without the byte order mark
	opened bool     // the first line opens a frontmatter
	body   int      // index of the line after the closing "---"; 0 if there is none
}

// bodyLine is a line of the body that is not ours, without its line end.
type bodyLine struct {
	number int // in the file, from 1
	text   string
}

// cut splits a note into lines. The frontmatter opens with "---" as the first
// line and closes with the next such line, as in Obsidian; white space after
// the dashes is let pass, and "..." does not close it.
func cut(text string) file {
	f := file{lines: strings.SplitAfter(strings.TrimPrefix(text, byteOrderMark), "\n")}
	if last := len(f.lines) - 1; f.lines[last] == "" {
		f.lines = f.lines[:last]
	}
	f.opened = len(f.lines) > 0 && isLine(f.lines[0], fence)
	if !f.opened {
		return f
	}
	for i, line := range f.lines[1:] {
		if isLine(line, fence) {
			f.body = i + 2
			break
		}
	}
	return f
}

// isLine reports whether line holds want from its first column on and nothing
// but white space after it.
func isLine(line, want string) bool {
	return strings.HasPrefix(line, want) && strings.Trim(line[len(want):], blank) == ""
}

// Parse reads a note. Its error is an *Error.
func Parse(data []byte) (*Note, error) {
	if len(data) > MaxSize {
		return nil, wrong(0, "", "the note has %d bytes, more than the %d that are read", len(data), MaxSize)
	}
	text := string(data)
	if at := strings.IndexByte(text, 0); at >= 0 {
		return nil, wrong(lineAt(text, at), "", "holds a NUL byte: this is no text file")
	}
	if !utf8.ValidString(text) {
		return nil, wrong(lineAt(text, invalidAt(text)), "", "is not UTF-8: save the note as UTF-8")
	}
	if strings.TrimSpace(strings.TrimPrefix(text, byteOrderMark)) == "" {
		return nil, &Error{Kind: Unfinished, Reason: "the note is empty"}
	}
	f := cut(text)
	switch {
	case !f.opened:
		return nil, wrong(1, "", "no frontmatter: the first line has to be %s", fence)
	case f.body == 0:
		return nil, &Error{Kind: Unfinished, Line: 1, Reason: "the frontmatter is opened and not closed: a line " + fence + " is missing"}
	}
	fields, err := readFields(f.lines[1 : f.body-1])
	if err != nil {
		return nil, err
	}
	return &Note{file: f, fields: fields, body: foreignLines(f)}, nil
}

func lineAt(text string, at int) int { return 1 + strings.Count(text[:at], "\n") }

func invalidAt(text string) int {
	for i, r := range text {
		if r != utf8.RuneError {
			continue
		}
		if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
			return i
		}
	}
	return len(text)
}

// foreignLines returns the lines of the body that are not ours, without blank
// lines at both ends and without white space at the end.
func foreignLines(f file) []bodyLine {
	spans := blocks(f.lines[f.body:])
	lines := make([]bodyLine, 0, len(f.lines)-f.body)
	for i, line := range f.lines[f.body:] {
		if inside(&spans, i) {
			continue
		}
		lines = append(lines, bodyLine{number: f.body + i + 1, text: withoutEnd(line)})
	}
	for len(lines) > 0 && strings.TrimSpace(lines[0].text) == "" {
		lines = lines[1:]
	}
	for len(lines) > 0 {
		last := &lines[len(lines)-1]
		last.text = strings.TrimRightFunc(last.text, unicode.IsSpace)
		if last.text != "" {
			break
		}
		lines = lines[:len(lines)-1]
	}
	return lines
}

// withoutEnd returns a line without its line end. Any number of \r before the
// \n belongs to it, so that what was normalised once stays as it is.
func withoutEnd(line string) string { return strings.TrimRight(strings.TrimSuffix(line, "\n"), "\r") }

// Fields returns the top level keys in the order of the file, ours included.
func (n *Note) Fields() []Field { return slices.Clone(n.fields) }

// Field returns the field with this key, and whether there is one.
func (n *Note) Field(key string) (Field, bool) {
	for _, f := range n.fields {
		if f.Key == key {
			return f, true
		}
	}
	return Field{}, false
}

// Body returns the prompt: the text after the frontmatter without our blocks,
// with line ends as \n, without blank lines at its start and white space at
// its end.
func (n *Note) Body() string { return joinLines(n.body) }

func joinLines(lines []bodyLine) string {
	var b strings.Builder
	for i, line := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(line.text)
	}
	return b.String()
}

// BodyLine returns the line of the file on which Body starts, from 1; of an
// empty body the line after the frontmatter.
func (n *Note) BodyLine() int {
	if len(n.body) == 0 {
		return n.file.body + 1
	}
	return n.body[0].number
}

// Content returns what counts when two notes are compared: the note without
// byte order mark, our keys and our blocks, with line ends as \n and without
// white space at its end.
func (n *Note) Content() []byte {
	var b strings.Builder
	write := func(lines []string) {
		for _, line := range lines {
			b.WriteString(withoutEnd(line))
			b.WriteByte('\n')
		}
	}
	next := 0
	for _, f := range n.fields {
		if owned(f.Key) {
			write(n.file.lines[next : f.Line-1])
			next = f.end
		}
	}
	write(n.file.lines[next:n.file.body])
	spans := blocks(n.file.lines[n.file.body:])
	for i := n.file.body; i < len(n.file.lines); i++ {
		if !inside(&spans, i-n.file.body) {
			write(n.file.lines[i : i+1])
		}
	}
	return []byte(strings.TrimRightFunc(b.String(), unicode.IsSpace))
}
