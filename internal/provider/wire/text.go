package wire

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"davidcockson.com/runner/internal/secret"
)

const (
	maxText       = 200 // runes of a server's own words that are shown
	maxRetryAfter = 24 * time.Hour
	longRun       = 16 // letters and digits in a row that no plain word has
)

// RetryAfter reads the header of that name (RFC 9110, 10.2.3): seconds or a
// date. It returns 0 for one that says nothing, and a day at most.
func RetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// Delay reads a length of time as rate limits are told: "2m59.56s", "7.66s",
// "20ms", or seconds as a bare number. It is false for anything else, for less
// than nothing, and a day at most.
func Delay(text string) (time.Duration, bool) {
	text = strings.TrimSpace(text)
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d < 0 {
		return 0, false
	}
	return min(d, maxRetryAfter), true
}

// Words splits text at blanks and at all that does not print.
func Words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
}

// Line makes one line of words, cut where it becomes too long to be shown.
func Line(words []string) string {
	line := []rune(strings.Join(words, " "))
	if len(line) > maxText {
		line = append(line[:maxText-1], '…')
	}
	return string(line)
}

// Clean makes one short line of a server's own words, without links, without paths
// of the server and without anything that is, or looks like, a key: servers repeat
// wrong keys, whole or with stars within.
func Clean(text string, key secret.Key) string {
	if own := key.Reveal(); own != "" {
		text = strings.ReplaceAll(text, own, "[key]")
	}
	words := Words(text)
	for i, word := range words {
		switch {
		case strings.Contains(word, "://"), strings.Contains(word, "www."):
			words[i] = "[link]"
		case secretive(word):
			words[i] = "[key]"
		}
	}
	return Line(WithoutPaths(words))
}

// WithoutPaths puts "[path]" in the place of what looks like a path or a URL. A path
// may hold blanks, so all between the first such word and the last goes with them.
func WithoutPaths(words []string) []string {
	first := slices.IndexFunc(words, pathLike)
	if first < 0 {
		return words
	}
	last := first
	for i, word := range words {
		if i > first && strings.ContainsAny(word, `/\`) {
			last = i
		}
	}
	return slices.Concat(words[:first], []string{"[path]"}, words[last+1:])
}

// pathLike says that a word holds a path: a backslash, two slashes, or one that does
// not stand between two parts of a name, as in the name of a model.
func pathLike(word string) bool {
	before, after, found := strings.Cut(word, "/")
	switch {
	case strings.Contains(word, `\`):
		return true
	case !found:
		return false
	case strings.Contains(after, "/"), strings.HasPrefix(word, "~"):
		return true
	}
	left, _ := utf8.DecodeLastRuneInString(before)
	right, _ := utf8.DecodeRuneInString(after)
	name := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	return !name(left) || !name(right)
}

// secretive says that a word may hold a key or the number of an account.
func secretive(word string) bool {
	for _, mark := range []string{"sk-", "gsk_", "AIza", "xai-", "ya29.", "***"} {
		if strings.Contains(word, mark) {
			return true
		}
	}
	run, digit, letter := 0, false, false
	for _, r := range word {
		switch {
		case r >= '0' && r <= '9':
			digit = true
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
			letter = true
		default:
			run, digit, letter = 0, false, false
			continue
		}
		if run++; run >= longRun && digit && letter {
			return true
		}
	}
	return false
}
