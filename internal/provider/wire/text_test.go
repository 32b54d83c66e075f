package wire

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"davidcockson.com/runner/internal/secret"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name, value string
		want        time.Duration
	}{
		{"seconds", "7", 7 * time.Second},
		{"a date", "Tue, 24 Nov 2026 12:01:00 GMT", time.Minute},
		{"a date that is over", "Tue, 24 Nov 2026 11:00:00 GMT", 0},
		{"nothing", "", 0},
		{"a word", "soon", 0},
		{"less than nothing", "-7", 0},
		{"more than a day", "4000000000", 24 * time.Hour},
		{"more than can be counted", "99999999999999999999", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := RetryAfter(test.value, now); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestDelay(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       time.Duration
		ok         bool
	}{
		{"minutes and seconds", "2m59.56s", 2*time.Minute + 59560*time.Millisecond, true},
		{"seconds with a fraction", "7.66s", 7660 * time.Millisecond, true},
		{"milliseconds", "20ms", 20 * time.Millisecond, true},
		{"a bare number is seconds", "1.5", 1500 * time.Millisecond, true},
		{"nothing is left to wait", "0s", 0, true},
		{"more than a day is a day", "100h", 24 * time.Hour, true},
		{"less than nothing", "-1s", 0, false},
		{"nothing", "", 0, false},
		{"a word", "soon", 0, false},
		{"not a number", "NaN", 0, false},
		{"more than can be counted", "99999999999999h", 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, ok := Delay(test.text); got != test.want || ok != test.ok {
				t.Errorf("got %s, %v; want %s, %v", got, ok, test.want, test.ok)
			}
		})
	}
}

func FuzzDelay(f *testing.F) {
	for _, text := range []string{"2m59.56s", "7.66s", "20ms", "1.5", "-1s", "1e9", "9223372036854775807ns", "3.3e2h"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, ok := Delay(text)
		if d < 0 || d > 24*time.Hour || !ok && d != 0 {
			t.Errorf("%q gives %s, %v", text, d, ok)
		}
	})
}

const canary = "gsk_canary7f3aQ9"

func TestClean(t *testing.T) {
	key := secret.New("a plain secret")
	for _, test := range []struct{ name, text, want string }{
		{"a plain text stays", "model `llama-3.1-70b-versatile` not found: meta-llama/llama-4", "model `llama-3.1-70b-versatile` not found: meta-llama/llama-4"},
		{"several lines become one", "a\r\n\tb\u2028c", "a b c"},
		{"a path of the server goes", "Invalid API Key gsk_x at /srv/secret", "Invalid API Key [key] at [path]"},
		{"a path in quotes goes, with its blanks", `cannot open "/srv/my models/x": denied`, "cannot open [path] denied"},
		{"a path behind a sign goes", "(file=/srv/secret)", "[path]"},
		{"a path of a home goes", "no ~jo/keys", "no [path]"},
		{"a path of Windows goes", `no D:\models here`, "no [path] here"},
		{"a path of Windows with slashes goes", "no D:/models here", "no [path] here"},
		{"a path that is not absolute goes", "no srv/keys/all here", "no [path] here"},
		{"a link goes, with its query", "see https://x.example/?key=v for more", "see [link] for more"},
		{"our own key goes, whatever it looks like", "wrong key: a plain secret.", "wrong key: [key]."},
		{"a key of OpenAI with stars goes", "Incorrect API key provided: sk-abc***xyz.", "Incorrect API key provided: [key]"},
		{"a masked key without a prefix goes", "provided: gs***tF.", "provided: [key]"},
		{"a key of Groq goes", "key " + canary, "key [key]"},
		{"a key of Google goes", "key AIza-x", "key [key]"},
		{"a long run of letters and digits goes", "in organization `org_01kgg5588eftc8k70aes4864eb`", "in organization [key]"},
		{"a long word stays", "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"},
		{"a long text is cut", strings.Repeat("é", 300), strings.Repeat("é", 199) + "…"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Clean(test.text, key); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// FuzzClean: whatever a server says, one short line without our key or a link
// comes of it.
func FuzzClean(f *testing.F) {
	for _, text := range []string{"", canary, "x" + canary + canary, "https://u:p@h/" + canary, "gsk_canary\n7f3aQ9", "[key]", strings.Repeat("é ", 300)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := Clean(text, secret.New(canary))
		if strings.Contains(got, canary) || strings.Contains(got, "://") || len([]rune(got)) > 200 {
			t.Errorf("%q gives %q", text, got)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) }) {
			t.Errorf("%q gives %q", text, got)
		}
	})
}
