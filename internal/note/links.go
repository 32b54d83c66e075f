package note

import (
	"bytes"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Link is a wikilink, "[[Target#Heading|shown]]", or an embed, "![[Target]]".
type Link struct {
	Embed bool
	// Text is the link as it is written, from its first to its last bracket, the
	// "!" of an embed included.
	Text string
	// Target is the path or name before the first "#"; "" is the note itself.
	Target string
	// Headings are those after the target, each below the one before it; Block is
	// the id after "#^". At most one of the two is set.
	Headings []string
	Block    string
	// Shown is what stands after the first "|".
	Shown string
	// Start and End are byte offsets in the text that was searched; Line is of
	// that text, from 1.
	Start, End, Line int
}

// Part names the part of the target that the link means, as written after it:
// "#A#B", "#^id", or "" for the whole.
func (l Link) Part() string {
	if l.Block != "" {
		return "#^" + l.Block
	}
	part := ""
	for _, h := range l.Headings {
		part += "#" + h
	}
	return part
}

// Links returns the wikilinks and embeds of a text in their order, none inside
// another, in time linear in the text. As in Obsidian (help.obsidian.md, "Internal
// links", "Comments"), what stands in a code fence, in inline code or between two
// "%%" is no link, nor is one with a backslash before its bracket; of brackets
// within brackets the innermost pair is the link; "\|" in a table is a "|". A
// block comment that is never closed reaches to the end.
func Links(text string) []Link {
	var links []Link
	seen := mask(text)
	line, counted := 1, 0
	for at := 0; ; {
		open := bytes.Index(seen[at:], []byte("[["))
		if open < 0 {
			return links
		}
		open += at
		length := bytes.IndexAny(seen[open:], "\n\x00")
		if length < 0 {
			length = len(seen) - open
		}
		end := bytes.Index(seen[open:open+length], []byte("]]"))
		if end < 0 {
			at = open + length
			continue
		}
		end += open
		open += bytes.LastIndex(seen[open:end], []byte("[["))
		at = end + 2
		l := parseLink(text[open+2 : end])
		if l.Target == "" && l.Part() == "" {
			continue
		}
		if open > 0 && seen[open-1] == '!' {
			l.Embed = true
			open--
		}
		line += strings.Count(text[counted:open], "\n")
		counted = open
		l.Start, l.End, l.Line, l.Text = open, at, line, text[open:at]
		links = append(links, l)
	}
}

// parseLink reads what stands between the brackets.
func parseLink(inner string) Link {
	var l Link
	target, shown, found := strings.Cut(inner, "|")
	if found {
		target = strings.TrimSuffix(target, `\`)
		l.Shown = strings.TrimSpace(shown)
	}
	target, rest, _ := strings.Cut(target, "#")
	l.Target = strings.TrimSpace(target)
	for part := range strings.SplitSeq(rest, "#") {
		if part = strings.TrimSpace(part); part != "" {
			l.Headings = append(l.Headings, part)
		}
	}
	if len(l.Headings) == 1 && len(l.Headings[0]) > 1 && l.Headings[0][0] == '^' {
		l.Block, l.Headings = l.Headings[0][1:], nil
	}
	return l
}

// Links returns the links of the body, with lines of the file.
func (n *Note) Links() []Link {
	links := Links(n.Body())
	for i := range links {
		links[i].Line = n.body[links[i].Line-1].number
	}
	return links
}

// Links returns a list of quoted wikilinks, or one as a list of one, with lines of
// the file; Start and End are of the item's text. Items without a value are left
// out.
func (f Field) Links() ([]Link, error) {
	items := []*yaml.Node{f.value}
	if f.value.Kind == yaml.SequenceNode {
		items = f.value.Content
	}
	var links []Link
	for _, item := range items {
		if item.Kind == yaml.SequenceNode {
			return nil, wrong(item.Line, f.Key, `a link has to stand in quotes: "[[Note]]"`)
		}
		if item.Kind != yaml.ScalarNode {
			return nil, wrong(item.Line, f.Key, `has to be a list of links like "[[Note]]", and one item is %s`, describe(item))
		}
		text := strings.TrimSpace(item.Value)
		if null(item) || text == "" {
			continue
		}
		found := Links(text)
		switch {
		case len(found) != 1 || len(found[0].Text) != len(text):
			return nil, wrong(item.Line, f.Key, `each item has to be one link like "[[Note]]", and one is %s`, describe(item))
		case found[0].Embed:
			return nil, wrong(item.Line, f.Key, `%s is an embed: write it without the "!"`, describe(item))
		}
		found[0].Line = item.Line
		links = append(links, found[0])
	}
	return links, nil
}

// mask returns a copy of text in which every byte of code, of a comment and of a
// character after a backslash is 0. Line ends stay, but in code and comments that
// span lines.
func mask(text string) []byte {
	m := masker{text: text, seen: []byte(text)}
	at := 0
	for line := range strings.SplitAfterSeq(text, "\n") {
		m.line(at, line)
		at += len(line)
	}
	m.flush(at)
	return m.seen
}

var (
	listItem = regexp.MustCompile(`^[ \t]*(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)`)
	anyATX   = regexp.MustCompile(`^ {0,3}(#{1,6})(?:[ \t]+(.*))?$`)
)

// listMarker returns the marker of a list item with what is before it, "" if the
// line does not begin one. Most lines are told by their first letter.
func listMarker(line string) string {
	text := strings.TrimLeft(line, " \t")
	if text == "" || strings.IndexByte("-*+0123456789", text[0]) < 0 {
		return ""
	}
	return listItem.FindString(line)
}

// headingOf returns a heading of any level as the groups of anyATX; nil if the line is none.
func headingOf(line string) []string {
	if !strings.HasPrefix(strings.TrimLeft(line, " "), "#") {
		return nil
	}
	return anyATX.FindStringSubmatch(line)
}

// masker goes through a text line by line.
type masker struct {
	text string
	seen []byte
	// start is where the paragraph that is being read begins; -1 outside of one.
	// Inline code and inline comments do not reach beyond a paragraph.
	start   int
	fence   string // that is open
	quoted  bool   // the open fence began behind ">": a line without it ends it
	comment bool   // a block comment is open
}

func (m *masker) hide(start, end int) { clear(m.seen[start:end]) }

// flush ends a paragraph that reaches to end.
func (m *masker) flush(end int) {
	if m.start < end {
		m.inline(m.start, end)
	}
	m.start = end
}

func (m *masker) line(at int, line string) {
	end := at + len(line)
	if m.comment {
		stop := strings.Index(line, "%%")
		if stop < 0 {
			m.hide(at, end)
			m.start = end
			return
		}
		m.hide(at, at+stop+2)
		m.comment, m.start = false, at+stop+2
		return
	}
	plain := withoutEnd(line)
	inside := strings.TrimLeft(plain, " \t>")
	quoted := strings.HasPrefix(strings.TrimLeft(plain, " \t"), ">")
	if m.fence != "" && (quoted || !m.quoted) {
		m.fence = fenceAfter(m.fence, inside)
		m.hide(at, end)
		m.start = end
		return
	}
	m.fence = ""
	item := listMarker(inside)
	if rest := inside[len(item):]; strings.HasPrefix(rest, "```") || strings.HasPrefix(rest, "~~~") {
		if m.fence = fenceAfter("", rest); m.fence != "" {
			m.flush(at)
			m.hide(at, end)
			m.quoted, m.start = quoted, end
			return
		}
	}
	switch {
	case inside == "" || item != "":
		m.flush(at)
	case strings.HasPrefix(inside, "%%") && !strings.Contains(inside[2:], "%%") && !quoted:
		m.flush(at)
		m.hide(at, end)
		m.comment, m.start = true, end
	case headingOf(plain) != nil:
		m.flush(at)
		m.flush(end)
	}
}

// inline hides code spans, comments and escaped characters of one paragraph.
func (m *masker) inline(start, end int) {
	text := m.text[start:end]
	spans := codeSpans{text: text}
	comments := true
	for i := 0; i < len(text); {
		switch {
		case text[i] == '\\' && i+1 < len(text) && strings.IndexByte("!`[]%\\", text[i+1]) >= 0:
			m.hide(start+i, start+i+2)
			i += 2
		case text[i] == '`':
			run := len(text[i:]) - len(strings.TrimLeft(text[i:], "`"))
			if stop := spans.close(i, run); stop > 0 {
				m.hide(start+i, start+stop)
				i = stop
			} else {
				i += run
			}
		case comments && strings.HasPrefix(text[i:], "%%"):
			stop := strings.Index(text[i+2:], "%%")
			if comments = stop >= 0; comments {
				m.hide(start+i, start+i+2+stop+2)
				i += 2 + stop
			}
			i += 2
		default:
			i++
		}
	}
}

// codeSpans finds where a run of backticks is closed: at the next run of exactly
// its length (CommonMark 0.31.2, 6.1).
type codeSpans struct {
	text string
	// ends holds, by length, where the runs of backticks end, in order; nil until
	// it is needed.
	ends map[int][]int
}

// close returns the end of the run that closes the one of this length at i, 0 if
// there is none. It is to be asked with rising i.
func (c *codeSpans) close(i, length int) int {
	if c.ends == nil {
		c.ends = make(map[int][]int)
		for at := 0; at < len(c.text); at++ {
			run := len(c.text[at:]) - len(strings.TrimLeft(c.text[at:], "`"))
			if run > 0 {
				at += run
				c.ends[run] = append(c.ends[run], at)
			}
		}
	}
	ends := c.ends[length]
	for len(ends) > 0 && ends[0] < i+2*length {
		ends = ends[1:]
	}
	c.ends[length] = ends
	if len(ends) == 0 {
		return 0
	}
	return ends[0]
}
