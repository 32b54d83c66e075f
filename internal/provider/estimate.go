package provider

import "unicode"

// Estimate returns a lower bound for the number of tokens in the contents of the
// messages, whatever the tokenizer: a run of letters or digits is at least one
// token, and all else (blanks, rules, signs) may cost nothing. It is far below
// the true number for long words and for scripts without blanks; it must never
// be above it, because a server that counts fewer tokens is held to have dropped
// a part of the prompt.
//
// Marks, joiners and apostrophes within a run do not end it: some tokenizers keep
// "don't" in one piece.
func Estimate(messages []Message) int {
	tokens := 0
	for i := range messages {
		tokens += runs(messages[i].Content)
	}
	return tokens
}

// Likely guesses the number of tokens in the contents of the messages: one for four
// bytes, or our lower bound if that is more.
func Likely(messages []Message) int {
	bytes := 0
	for i := range messages {
		bytes += len(messages[i].Content)
	}
	return max(bytes/4, Estimate(messages))
}

// runs counts the runs of letters or digits in text, without allocating.
func runs(text string) int {
	n, inside := 0, false
	for _, r := range text {
		switch {
		case unicode.IsLetter(r) || unicode.IsNumber(r):
			if !inside {
				n, inside = n+1, true
			}
		case r == '\'' || r == '’' || unicode.IsMark(r) || unicode.Is(unicode.Cf, r):
			// joins what is left and right of it
		default:
			inside = false
		}
	}
	return n
}
