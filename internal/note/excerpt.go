package note

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Excerpt returns the text of any note of the vault, or the part of it that a link
// names: without frontmatter and our own blocks, with line ends as \n, without
// blank lines at its start and white space at its end. Its error is an *Error whose
// Reason says what the note lacks.
//
// A heading's part begins with it and ends before the next one of its level or
// above. Headings match as in Obsidian: without regard to case, to punctuation but
// - _ and ', and to runs of white space; of several the first. In "#A#B" the B has
// to stand below an A; Obsidian also takes a deeper one further down.
//
// A block is the paragraph, list item (with what is indented below it), quote or
// heading that ends in " ^id", or the block before a line that holds only "^id".
// The id is not part of the text.
func Excerpt(data []byte, l Link) (string, error) {
	text := string(data)
	if strings.IndexByte(text, 0) >= 0 || !utf8.ValidString(text) {
		return "", wrong(0, "", "is not UTF-8 text")
	}
	d := newDocument(text)
	lines := d.lines
	switch {
	case l.Block != "":
		lines = d.block(l.Block)
		if lines == nil {
			return "", wrong(0, "", "has no block ^%s", l.Block)
		}
	case len(l.Headings) > 0:
		lines = d.section(l.Headings)
		if lines == nil {
			return "", wrong(0, "", "has no heading %q%s", strings.Join(l.Headings, "#"), d.listHeadings())
		}
	}
	for len(lines) > 0 && strings.TrimSpace(lines[0]) == "" {
		lines = lines[1:]
	}
	return strings.TrimRight(strings.Join(lines, "\n"), " \t\r\n"), nil
}

// Aliases returns the entries of the property "aliases" of any note, of which the
// frontmatter is enough; nil if it has none or cannot be read.
func Aliases(data []byte) []string {
	text := string(data)
	if !strings.Contains(text, "aliases") || !utf8.ValidString(text) {
		return nil
	}
	f := cut(text)
	if f.body == 0 {
		return nil
	}
	frontmatter := strings.Join(f.lines[1:f.body-1], "")
	if len(frontmatter) > MaxFrontmatter {
		return nil
	}
	root, err := decode(frontmatter)
	if err != nil || root == nil {
		return nil
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "aliases" {
			aliases, err := Field{Key: "aliases", value: root.Content[i+1]}.Strings()
			if err != nil {
				return nil
			}
			return aliases
		}
	}
	return nil
}

// document is the text of a note, and what of it is neither code nor comment.
type document struct {
	lines    []string
	seen     []string // as lines, with the bytes of code and comments 0
	hidden   []bool   // the whole line, with its end, is code or comment
	headings []headingLine
}

type headingLine struct {
	start int // line, from 0
	level int
	title string
}

func newDocument(text string) document {
	f := cut(text)
	spans := blocks(f.lines[f.body:])
	d := document{lines: make([]string, 0, len(f.lines)-f.body)}
	for i, line := range f.lines[f.body:] {
		if !inside(&spans, i) {
			d.lines = append(d.lines, withoutEnd(line))
		}
	}
	whole := strings.Join(d.lines, "\n")
	seen := mask(whole)
	d.seen, d.hidden = make([]string, 0, len(d.lines)), make([]bool, 0, len(d.lines))
	at := 0
	for _, line := range d.lines {
		end := at + len(line)
		d.seen = append(d.seen, string(seen[at:end]))
		hidden := strings.Trim(d.seen[len(d.seen)-1], "\x00") == ""
		if end < len(seen) {
			hidden = hidden && seen[end] == 0
		} else {
			hidden = hidden && line != ""
		}
		d.hidden = append(d.hidden, hidden)
		at = end + 1
	}
	d.findHeadings()
	return d
}

var setext = regexp.MustCompile(`^ {0,3}(?:(=+)|-+)[ \t]*$`)

// findHeadings finds the headings of CommonMark, written with "#" or underlined.
func (d *document) findHeadings() {
	paragraph := -1 // its first line
	for i, seen := range d.seen {
		if m := headingOf(seen); m != nil {
			title := strings.TrimLeft(d.lines[i], " #")
			title = headingEnd.ReplaceAllString(strings.TrimSpace(title), "")
			d.headings = append(d.headings, headingLine{i, len(m[1]), title})
			paragraph = -1
			continue
		}
		var m []string
		if paragraph >= 0 && strings.ContainsAny(seen, "=-") {
			m = setext.FindStringSubmatch(seen)
		}
		switch {
		case m != nil:
			level := 1
			if m[1] == "" {
				level = 2
			}
			d.headings = append(d.headings, headingLine{paragraph, level, strings.Join(d.lines[paragraph:i], " ")})
			paragraph = -1
		case !d.isParagraph(i):
			paragraph = -1
		case paragraph < 0:
			paragraph = i
		}
	}
}

// isParagraph reports whether line i may be one of a paragraph at the left margin.
func (d *document) isParagraph(i int) bool {
	line := d.seen[i]
	text := strings.TrimLeft(line, " \t")
	return text != "" && text[0] != 0 && text[0] != '>' && text[0] != '|' && len(line)-len(text) <= 3 && listMarker(line) == ""
}

func (d *document) listHeadings() string {
	var titles []string
	for _, h := range d.headings {
		titles = append(titles, h.title)
	}
	const most = 20
	switch {
	case len(titles) == 0:
		return "; it has no headings"
	case len(titles) > most:
		titles = append(titles[:most], "…")
	}
	return "; its headings are: " + strings.Join(titles, ", ")
}

// plainHeading is a heading as Obsidian compares it: its API's stripHeading puts a
// space for each of these characters and then shrinks white space.
func plainHeading(s string) string {
	s = strings.Map(func(r rune) rune {
		if strings.ContainsRune("!\"#$%&()*+,.:;<=>?@^`{|}~/[]\\", r) {
			return ' '
		}
		return r
	}, norm.NFC.String(s))
	return strings.Join(strings.Fields(s), " ")
}

// section returns the lines of the first heading that matches the last of path and
// has the others above it, in order; nil if there is none.
func (d *document) section(path []string) []string {
	want := make([]string, len(path))
	for i, title := range path {
		want[i] = plainHeading(title)
	}
	var above []headingLine
	for i, h := range d.headings {
		for len(above) > 0 && above[len(above)-1].level >= h.level {
			above = above[:len(above)-1]
		}
		above = append(above, h)
		if !strings.EqualFold(plainHeading(h.title), want[len(want)-1]) {
			continue
		}
		next := 0
		for _, a := range above[:len(above)-1] {
			if next < len(want)-1 && strings.EqualFold(plainHeading(a.title), want[next]) {
				next++
			}
		}
		if next < len(want)-1 {
			continue
		}
		end := len(d.lines)
		for _, later := range d.headings[i+1:] {
			if later.level <= h.level {
				end = later.start
				break
			}
		}
		return d.lines[h.start:end]
	}
	return nil
}

// block returns the lines of the block with this id, nil if there is none.
func (d *document) block(id string) []string {
	for i, seen := range d.seen {
		text := strings.TrimRight(seen, " \t")
		at := len(text) - len(id) - 1
		if at < 0 || text[at] != '^' || !strings.EqualFold(text[at+1:], id) {
			continue
		}
		before := strings.TrimRight(d.lines[i][:at], " \t")
		if strings.Trim(before, " \t>") == "" {
			return d.blockBefore(i)
		}
		if len(before) == at {
			continue // no white space before the "^"
		}
		start, end, ok := d.blockAt(i)
		if !ok {
			continue
		}
		lines := slices.Clone(d.lines[start:end])
		lines[i-start] = before
		return lines
	}
	return nil
}

// blockBefore returns the block above line i, which holds only an id: the lines up
// to a blank one, where those of a code fence, blank or not, belong together.
func (d *document) blockBefore(i int) []string {
	end := i
	for end > 0 && d.isBlank(end-1) {
		end--
	}
	start := end
	for start > 0 && !d.isBlank(start-1) && !d.isHeading(start-1) {
		start--
	}
	if start == end {
		return nil
	}
	return d.lines[start:end]
}

// isBlank reports whether line i is blank and not in code or a comment.
func (d *document) isBlank(i int) bool { return !d.hidden[i] && strings.TrimSpace(d.lines[i]) == "" }

func (d *document) isHeading(i int) bool {
	_, found := slices.BinarySearchFunc(d.headings, i, func(h headingLine, i int) int { return h.start - i })
	return found
}

// begins reports whether a block begins with line i, whatever stands above it.
func (d *document) begins(i int) bool {
	return d.hidden[i] || d.isBlank(i) || d.isHeading(i) || listMarker(d.seen[i]) != ""
}

// blockAt returns the lines of the block that line i ends; ok is false if the block
// goes on, so that i does not end it.
func (d *document) blockAt(i int) (start, end int, ok bool) {
	end = i + 1
	item := listMarker(d.seen[i]) != ""
	if !item && !d.isHeading(i) && end < len(d.lines) && !d.begins(end) {
		return 0, 0, false
	}
	for start = i; start > 0 && !d.begins(start) && !d.isBlank(start-1) && !d.isHeading(start-1) && !d.hidden[start-1]; {
		start--
	}
	if listMarker(d.seen[start]) == "" {
		return start, end, true
	}
	// A list item takes along what is indented more than it is.
	depth := leading(d.lines[start])
	for next := end; next < len(d.lines); next++ {
		if d.isBlank(next) {
			continue
		}
		if leading(d.lines[next]) <= depth {
			break
		}
		end = next + 1
	}
	return start, end, true
}

func leading(line string) int { return len(line) - len(strings.TrimLeft(line, " \t")) }
