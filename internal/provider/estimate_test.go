package provider

import (
	"strings"
	"testing"
	"time"
)

func TestEstimate(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       int
	}{
		{"nothing is no token", "", 0},
		{"blanks and rules cost nothing", "  \n\t ---- | ==== | **** ", 0},
		{"each word is a token at least", "Where is the note?", 4},
		{"letters and digits together are one run", "gemma4 12b", 2},
		{"a sign between letters parts them", "a-b/c_d", 4},
		{"an apostrophe does not", "don't can’t", 2},
		{"an apostrophe begins no run", "' ’", 0},
		{"a mark belongs to its letter", "e\u0301te\u0301 हिन्दी", 2},
		{"a joiner parts nothing", "می\u200cخواهم", 1},
		{"a script without blanks is far below the truth", "これは長い文です。", 1},
		{"bytes that are no text part words", "a\xff\xfeb", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Estimate([]Message{{Content: test.text}}); got != test.want {
				t.Errorf("Estimate(%q) = %d, want %d", test.text, got, test.want)
			}
		})
	}
	t.Run("messages do not run into one another", func(t *testing.T) {
		if got := Estimate([]Message{{Content: "a"}, {Content: "b"}}); got != 2 {
			t.Errorf("got %d, want 2", got)
		}
	})
	t.Run("nothing is allocated", func(t *testing.T) {
		messages := []Message{{Content: strings.Repeat("word — 語 ", 1000)}}
		if n := testing.AllocsPerRun(10, func() { Estimate(messages) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func TestForPromptAddsTimeForEachToken(t *testing.T) {
	if got := DefaultDeadlines().ForPrompt(70); got != 127*time.Second {
		t.Errorf("got %s, want 2m7s", got)
	}
}
