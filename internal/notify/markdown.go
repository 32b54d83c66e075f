package notify

import (
	"strings"
	"unicode"
	"unicode/utf16"
)

// Discord renders markdown in an embed's title, description and values. A
// backslash takes the meaning from the character after it; within a code span
// nothing has a meaning but the end of the span.
//
// Lengths are counted in UTF-16 units: Discord does not say what it counts as a
// character, and this is never less than the runes.

// size is the length of a text in UTF-16 units.
func size(s string) int {
	n := 0
	for _, r := range s {
		n += max(utf16.RuneLen(r), 1)
	}
	return n
}

// clean makes a text one line of valid UTF-8: space and control characters become
// single spaces, so that no block syntax can begin, and invisible ones, which may
// turn the direction of what follows, are left out.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == zeroWidthJoiner: // holds emoji together
			return r
		case unicode.IsSpace(r), unicode.IsControl(r):
			return ' '
		case unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.Join(strings.Fields(s), " ")
}

const (
	zeroWidthJoiner = '\u200d'
	zeroWidthSpace  = "\u200b"
	ellipsis        = "…"
)

// prose is a text as it was written, with no meaning to Discord, most units long
// at most; what is longer ends in an ellipsis.
func prose(s string, most int) string {
	s = clean(s)
	var b strings.Builder
	length, onlyDigits := 0, true
	for i, r := range s {
		piece := string(r)
		switch {
		case strings.ContainsRune("\\*_~`|<>[]", r),
			i == 0 && strings.ContainsRune("#-+", r),    // a heading or a list
			i > 0 && onlyDigits && r == '.',             // a numbered list
			r == ':' && strings.HasPrefix(s[i:], "://"): // an address that would become a link
			piece = `\` + piece
		case r == '@': // a mention, though mentions are off
			piece += zeroWidthSpace
		}
		onlyDigits = onlyDigits && '0' <= r && r <= '9'
		n := size(piece)
		if rest := len(s) - i - len(string(r)); length+n > most || rest > 0 && length+n > most-size(ellipsis) {
			b.WriteString(ellipsis)
			break
		}
		length += n
		b.WriteString(piece)
	}
	return b.String()
}

// code is a text in a code span, most units long at most with its marks; "" for
// nothing. A backtick in it becomes a letter that looks like one.
func code(s string, most int) string {
	s = strings.ReplaceAll(clean(s), "`", "ˋ")
	if s == "" {
		return ""
	}
	most -= len("``")
	if size(s) > most {
		length, cut := 0, 0
		for i, r := range s {
			if length += size(string(r)); length > most-size(ellipsis) {
				break
			}
			cut = i + len(string(r))
		}
		s = s[:cut] + ellipsis
	}
	return "`" + s + "`"
}
