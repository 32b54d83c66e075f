package note

import "strings"

// Annotate returns a note with our keys set to fields and our block set to the
// callout, which is markdown of any number of lines.
//
// A key of ours that the note has is replaced where it stands, with its
// comment and continuation lines; one that is not in fields is removed; a new
// one goes right before the closing "---". The block goes to the end of the
// body, after a blank line; a block that is there already is replaced, and an
// empty callout removes it. Keys in fields that are not ours are left out; of
// two with the same key the last counts.
//
// Every other byte stays: byte order mark, line ends, comments, order. New
// lines end as the note's first line does. The result has the same Content and
// Body as data, and annotating it again the same way changes nothing.
//
// Of a note that Parse refuses only the block is written. If the additions
// would make a readable note too large to be read again, they are left out:
// the keys, else the block, else both.
func Annotate(data []byte, fields []KV, callout string) []byte {
	mark, f := splitMark(string(data))
	stripped := mark + strings.Join(f.lines[:f.body], "") + withoutBlocks(f.lines[f.body:])
	// Cut anew: a block may have stood before the frontmatter.
	mark, f = splitMark(stripped)
	end := lineEnd(f.lines)
	n, err := Parse([]byte(stripped))
	if err != nil {
		return []byte(appendBlock(stripped, callout, end))
	}
	body := strings.Join(f.lines[f.body:], "")
	head := n.frontmatter(fields)
	for _, text := range []string{
		appendBlock(mark+head+body, callout, end),
		appendBlock(stripped, callout, end),
		mark + head + body,
	} {
		if _, err := Parse([]byte(text)); err == nil {
			return []byte(text)
		}
	}
	return []byte(stripped)
}

// splitMark returns the byte order mark of a text, if any, and its lines.
func splitMark(text string) (mark string, f file) {
	if strings.HasPrefix(text, byteOrderMark) {
		mark = byteOrderMark
	}
	return mark, cut(text)
}

// lineEnd returns the line end of the first line, \n if it has none. A lone
// \r at its end counts as \r\n, which it becomes once a \n follows it.
func lineEnd(lines []string) string {
	if len(lines) > 0 && strings.HasSuffix(strings.TrimSuffix(lines[0], "\n"), "\r") {
		return "\r\n"
	}
	return "\n"
}

func withoutBlocks(lines []string) string {
	var b strings.Builder
	spans := blocks(lines)
	for i, line := range lines {
		if !inside(&spans, i) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// appendBlock adds the block after a blank line. It adds the blank line only
// where there is none, as it cannot know later whose that was.
func appendBlock(text, callout, end string) string {
	var block strings.Builder
	writeBlock(&block, callout, end)
	if block.Len() == 0 {
		return text
	}
	if text != "" && text != byteOrderMark {
		if !strings.HasSuffix(text, "\n") {
			text += end
		}
		before := strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
		if before != "" && !strings.HasSuffix(before, "\n") {
			text += end
		}
	}
	return text + block.String()
}

// frontmatter renders the frontmatter, both "---" lines included, with our
// keys set to fields.
func (n *Note) frontmatter(fields []KV) string {
	set := make(map[string]any, len(fields))
	for _, kv := range fields {
		if owned(kv.Key) {
			set[kv.Key] = kv.Value
		}
	}
	lines := n.file.lines[:n.file.body]
	margin := ""
	if len(n.fields) > 0 {
		line := lines[n.fields[0].Line-1]
		margin = line[:indent(line)]
	}
	var b strings.Builder
	write := func(key, end string) {
		if value, ok := set[key]; ok {
			b.WriteString(margin + KV{key, value}.line() + end)
			delete(set, key)
		}
	}
	next, closing := 0, len(lines)-1
	before := Field{} // what stands before the next field
	for _, f := range n.fields {
		if !owned(f.Key) {
			before = f
			continue
		}
		writeLines(&b, lines[next:f.Line-1])
		_, kept := set[f.Key]
		write(f.Key, lineEnd(lines[f.Line-1:]))
		next = f.end
		// What was a comment below it would become text of a block above it.
		if !kept && before.block() && next < closing && strings.TrimLeft(lines[next], " \t\r\n") != lines[next] {
			b.WriteString(margin + f.Key + ":" + lineEnd(lines[f.Line-1:]))
			kept = true
		}
		if kept {
			before = Field{}
		}
	}
	writeLines(&b, lines[next:closing])
	for _, kv := range fields {
		write(kv.Key, lineEnd(lines))
	}
	b.WriteString(lines[closing])
	return b.String()
}

func writeLines(b *strings.Builder, lines []string) {
	for _, line := range lines {
		b.WriteString(line)
	}
}
