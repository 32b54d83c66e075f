package trace

import (
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
)

const (
	// textLimit bounds an input or an output, in bytes as they are sent: both
	// together stay below the 9.5 MB at which Langfuse complains of a span.
	textLimit = 4_000_000
	// messageLimit bounds an error's text or a metadata value, labelLimit a name
	// or a tag, in bytes. Langfuse 3 loses a trace whose name has more than 1,000
	// characters.
	messageLimit = 4_000
	labelLimit   = 200
)

// cut is as much of the start of text as has at most limit bytes, in whole
// characters.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

// label is text as a name: one line, not long.
func label(text string) string {
	short := cut(text, labelLimit)
	if len(short) < len(text) {
		short += "…"
	}
	return valid(strings.Join(strings.Fields(short), " "))
}

// valid makes text valid UTF-8: one string that is not would fail a whole post.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

func characters(text string) int { return utf8.RuneCountInString(text) }

// fit is as much of the start of text as takes at most budget bytes inside a JSON
// string, how many characters that is, and what is left of the budget: 0 once
// something did not fit.
func fit(text string, budget int) (short string, kept, left int) {
	for i, r := range text {
		cost := utf8.RuneLen(r)
		switch {
		case r == utf8.RuneError:
			cost = 6
		case r == '"' || r == '\\' || r == '\n' || r == '\r' || r == '\t' || r == '\b' || r == '\f':
			cost = 2
		case r < ' ' || r == '<' || r == '>' || r == '&' || r == '\u2028' || r == '\u2029':
			cost = 6
		}
		if cost > budget {
			return text[:i], kept, 0
		}
		budget -= cost
		kept++
	}
	return text, kept, budget
}

// body adds an input or an output, cut already, and how many characters it has and
// how many of them are here. With content off its length alone is added.
func (t *Tracer) body(a *attributes, which, text string, length, kept int) {
	a.number("langfuse.observation.metadata."+which+"_characters", length)
	if !t.content {
		return
	}
	a.text("langfuse.observation."+which, text)
	if kept < length {
		*a = append(*a, attribute.Int("langfuse.observation.metadata."+which+"_cut_to_characters", kept))
	}
}
