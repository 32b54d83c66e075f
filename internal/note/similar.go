package note

import "strings"

const runLength = 3

// Similar reports whether two bodies are likely one text and an edit of it:
// with white space normalised, one begins with the other and neither is empty,
// or more than half of the runs of three words in the shorter one stand in the
// longer.
func Similar(a, b string) bool {
	short, long := strings.Fields(a), strings.Fields(b)
	if len(short) > len(long) {
		short, long = long, short
	}
	if len(short) == 0 {
		return false
	}
	s, l := strings.Join(short, " "), strings.Join(long, " ")
	if strings.HasPrefix(l, s) || strings.HasPrefix(s, l) {
		return true
	}
	known := make(map[string]struct{}, len(long))
	for run := range runs(l, long) {
		known[run] = struct{}{}
	}
	total, shared := 0, 0
	for run := range runs(s, short) {
		total++
		if _, ok := known[run]; ok {
			shared++
		}
	}
	return 2*shared > total
}

// runs yields each run of three words of text, which is words joined by spaces.
func runs(text string, words []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		start, end := 0, 0
		for i, word := range words {
			end += len(word)
			if i >= runLength-1 {
				if !yield(text[start:end]) {
					return
				}
				start += len(words[i-runLength+1]) + 1
			}
			end++
		}
	}
}
