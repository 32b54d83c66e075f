package note

import "strings"

// The marker lines are Obsidian comments, which its reading view does not show.
const (
	beginMarker = "%% runner: begin %%"
	endMarker   = "%% runner: end %%"
)

// span is a range of lines, end excluded.
type span struct{ start, end int }

// blocks returns our blocks in the lines of a body, in order, none inside
// another.
//
// A marker counts where it starts its line and nothing but white space follows
// it; markers pair like brackets. One without a partner is ordinary text, so
// that a begin marker in somebody's own text never swallows what follows.
// A code fence makes no difference: an unclosed one in the user's text would
// hide our own block at the end. Taking all paired lines out leaves no new
// pair, which makes Annotate repeatable.
func blocks(lines []string) []span {
	var open []int
	var found []span
	for i, line := range lines {
		switch {
		case isLine(line, beginMarker):
			open = append(open, i)
		case isLine(line, endMarker) && len(open) > 0:
			start := open[len(open)-1]
			open = open[:len(open)-1]
			for len(found) > 0 && found[len(found)-1].start > start {
				found = found[:len(found)-1]
			}
			found = append(found, span{start, i + 1})
		}
	}
	return found
}

// inside reports whether line i is in one of the spans. It is to be asked with
// rising i, and drops the spans that it has passed.
func inside(spans *[]span, i int) bool {
	for len(*spans) > 0 && i >= (*spans)[0].end {
		*spans = (*spans)[1:]
	}
	return len(*spans) > 0 && i >= (*spans)[0].start
}

// writeBlock renders a block with the given line end, or nothing for an empty
// callout. What would make the note unreadable or end the block or an unclosed
// frontmatter early is defused: NUL and broken UTF-8 become U+FFFD, and a line
// that reads as a marker or as "---" is quoted with "> ".
func writeBlock(b *strings.Builder, callout, lineEnd string) {
	callout = cleanText(callout)
	if callout == "" {
		return
	}
	b.WriteString(beginMarker + lineEnd)
	for line := range strings.SplitSeq(callout, "\n") {
		if isLine(line, beginMarker) || isLine(line, endMarker) || isLine(line, fence) {
			b.WriteString("> ")
		}
		b.WriteString(line + lineEnd)
	}
	b.WriteString(endMarker + lineEnd)
}

func cleanText(text string) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\x00", "\ufffd").Replace(text)
	return strings.TrimRight(strings.TrimLeft(text, "\n"), blank)
}
