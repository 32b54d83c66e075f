package note

import (
	"regexp"
	"strings"
)

// Section is the part of a body under one "##" heading.
type Section struct {
	Title  string
	Line   int               // of the heading in the file, from 1
	Inline map[string]string // "provider" and "model", where set; nil without any
	Text   string            // without the heading and the lines in Inline
}

var (
	inlineField = regexp.MustCompile(`^ {0,3}([A-Za-z][A-Za-z0-9_ -]*)::[ \t]*(.*)$`)
	heading     = regexp.MustCompile(`^ {0,3}##(?:[ \t]+(.*))?$`)
	headingEnd  = regexp.MustCompile(`(?:^|[ \t]+)#+$`)
	fenceLine   = regexp.MustCompile("^ {0,3}(`{3,}|~{3,})(.*)$")
)

// Sections splits the body at its headings of level two; preamble is what
// stands before the first. Headings and code fences are those of CommonMark
// (an ATX heading is indented by at most three spaces and followed by white
// space; an unclosed fence reaches to the end); inside a fence nothing is a
// heading.
//
// Lines "provider:: value" and "model:: value" right under a heading, in any
// case of letters and with blank lines between, belong to the section and not
// to its text. Any other "key:: value" there stays text. One that is set twice
// or has no value is an *Error.
func (n *Note) Sections() (preamble string, sections []Section, err error) {
	part := 0 // first line of the part being read
	fenced := ""
	finish := func(end int) error {
		lines := n.body[part:end]
		if len(sections) == 0 {
			preamble = textOf(lines)
			return nil
		}
		s := &sections[len(sections)-1]
		rest, err := s.takeInline(lines)
		s.Text = textOf(rest)
		return err
	}
	for i, line := range n.body {
		if fenced = fenceAfter(fenced, line.text); fenced != "" {
			continue
		}
		m := heading.FindStringSubmatch(line.text)
		if m == nil {
			continue
		}
		if err := finish(i); err != nil {
			return "", nil, err
		}
		title := headingEnd.ReplaceAllString(strings.TrimSpace(m[1]), "")
		sections = append(sections, Section{Title: title, Line: line.number})
		part = i + 1
	}
	if err := finish(len(n.body)); err != nil {
		return "", nil, err
	}
	return preamble, sections, nil
}

// fenceAfter returns the code fence that is open after a line, given the one
// open before it. The line that closes a fence is no heading either way.
func fenceAfter(open, line string) string {
	m := fenceLine.FindStringSubmatch(line)
	switch {
	case m == nil:
		return open
	case open == "":
		if m[1][0] == '`' && strings.Contains(m[2], "`") {
			return "" // inline code
		}
		return m[1]
	case m[1][0] == open[0] && len(m[1]) >= len(open) && strings.TrimSpace(m[2]) == "":
		return ""
	}
	return open
}

// takeInline sets s.Inline from the lines right under the heading and returns
// the others.
func (s *Section) takeInline(lines []bodyLine) ([]bodyLine, error) {
	rest := make([]bodyLine, 0, len(lines))
	for i, line := range lines {
		if strings.TrimSpace(line.text) == "" {
			rest = append(rest, line)
			continue
		}
		m := inlineField.FindStringSubmatch(line.text)
		if m == nil {
			return append(rest, lines[i:]...), nil
		}
		key, value := strings.ToLower(m[1]), strings.TrimSpace(m[2])
		if key != "provider" && key != "model" {
			rest = append(rest, line)
			continue
		}
		if value == "" {
			return nil, wrong(line.number, key, "has no value")
		}
		if _, ok := s.Inline[key]; ok {
			return nil, wrong(line.number, key, "is set twice under the heading of line %d", s.Line)
		}
		if s.Inline == nil {
			s.Inline = make(map[string]string)
		}
		s.Inline[key] = value
	}
	return rest, nil
}

// textOf joins lines, without blank ones at the start and white space at the end.
func textOf(lines []bodyLine) string {
	for len(lines) > 0 && strings.TrimSpace(lines[0].text) == "" {
		lines = lines[1:]
	}
	return strings.TrimRight(joinLines(lines), " \t\r\n")
}
