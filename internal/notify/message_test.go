package notify

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden files anew")

// messages is one message for each state, as the worker would tell it.
func messages() map[string]Message {
	at := time.Date(2026, 11, 24, 18, 12, 7, 0, time.FixedZone("", 3600))
	base := Message{
		Title: "How bees keep warm", JobID: "20261124181207", Note: "_completed/bees.md", JobType: "chain", Provider: "davas", Model: "gemma4:12b",
		Attempt: 1, Steps: 2, TokensRead: 1234, TokensWritten: 567, Took: 83456 * time.Millisecond, Queued: 3210 * time.Millisecond,
		Output: "runner-outputs/20261124T181207Z-bees.md", NoteLink: ObsidianLink("Notes & more", "runner-outputs/20261124T181207Z-bees.md"),
		TraceURL: "https://langfuse.example/trace/0af7651916cd43dd8448eb211c80319c", At: at,
	}
	completed, failed, cancelled := base, base, base
	completed.State = "completed"
	failed.State, failed.Note, failed.Output, failed.Attempt, failed.Unaccounted = "failed", "_failed/bees.md", "", 3, 2
	failed.Reason, failed.Advice = "davas: no chunk for 1m0s after 17 tokens", "look whether the host is busy, then retry"
	failed.NoteLink = ObsidianLink("Notes & more", failed.Note)
	cancelled.State, cancelled.Note, cancelled.Output, cancelled.TraceURL, cancelled.NoteLink = "cancelled", "_failed/bees.md", "", "", ""
	cancelled.Reason = "cancelled by its owner"
	waiting := func(state, reason, advice string) Message {
		return Message{State: state, Note: "_queue/bees.md", Reason: reason, Advice: advice, NoteLink: ObsidianLink("Notes", "_queue/bees.md"), At: at}
	}
	return map[string]Message{
		"completed": completed, "failed": failed, "cancelled": cancelled,
		"held":       waiting("held", "an edit of job 20261124181207, which completed", "retry runs it, cancel discards it"),
		"duplicate":  waiting("duplicate", "the same as job 20261124181207; its output is runner-outputs/bees.md", ""),
		"unfinished": waiting("unfinished", "the frontmatter is not closed", "finish the note"),
		"conflict":   waiting("conflict", "a conflict copy never runs", "merge it by hand"),
	}
}

func TestThePayloadOfEachState(t *testing.T) {
	for state, m := range messages() {
		t.Run(state, func(t *testing.T) {
			got, err := Payload(m)
			if err != nil {
				t.Fatal(err)
			}
			check(t, got)
			var b bytes.Buffer
			if err := json.Indent(&b, got, "", "  "); err != nil {
				t.Fatal(err)
			}
			b.WriteByte('\n')
			file := filepath.Join("testdata", state+".json")
			if *update {
				if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(want) {
				t.Errorf("%s, want\n%s", b.String(), want)
			}
		})
	}
	for _, state := range []string{"", "done", "Completed"} {
		if _, err := Payload(Message{State: state}); err == nil {
			t.Errorf("a state %q was told", state)
		}
	}
	bare, err := Payload(Message{State: "held"})
	if want := `{"embeds":[{"title":"Held","color":16361509}],"allowed_mentions":{"parse":[]}}`; err != nil || string(bare) != want {
		t.Errorf("a message of nothing is %s, %v, want %s", bare, err, want)
	}
}

// check holds a payload to all that Discord and we want of it, and returns its
// embed.
func check(t *testing.T, data []byte) embed {
	t.Helper()
	if !utf8.Valid(data) {
		t.Error("the payload is no UTF-8")
	}
	var p payload
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		t.Fatal(err)
	}
	if p.AllowedMentions.Parse == nil || len(p.AllowedMentions.Parse) != 0 || len(p.Embeds) != 1 {
		t.Fatalf("mentions %v, %d embeds", p.AllowedMentions.Parse, len(p.Embeds))
	}
	e := p.Embeds[0]
	sum := 0
	within := func(what, text string, most int, mayBeEmpty bool) {
		n := utf8.RuneCountInString(text)
		sum += n
		if n > most || strings.TrimSpace(text) == "" && !mayBeEmpty {
			t.Errorf("%s has %d characters of %d: %q", what, n, most, text)
		}
		for _, mention := range []string{"@everyone", "@here", "@1"} {
			if strings.Contains(text, mention) && !strings.HasPrefix(text, "`") && !strings.HasPrefix(text, "[open](") {
				t.Errorf("%s mentions: %q", what, text)
			}
		}
	}
	within("the title", e.Title, 256, false)
	within("the description", e.Description, 4096, true)
	if len(e.Fields) > 25 {
		t.Errorf("%d fields", len(e.Fields))
	}
	for _, f := range e.Fields {
		within("a name", f.Name, 256, false)
		within(f.Name, f.Value, 1024, false)
	}
	if sum > 6000 {
		t.Errorf("%d characters together", sum)
	}
	return e
}

// everywhere is a message with one text in every place.
func everywhere(s string) Message {
	return Message{Title: s, JobID: s, Note: s, State: "failed", Reason: s, Advice: s, JobType: s, Provider: s, Model: s, Attempt: 1 << 40, Steps: 1 << 40,
		TokensRead: 1 << 60, TokensWritten: 1 << 60, Took: 1 << 62, Queued: 1 << 62, Output: s, NoteLink: s, TraceURL: "https://h/" + s, Unaccounted: 1 << 40}
}

func FuzzPayload(f *testing.F) {
	for _, unit := range []string{"", "a", "é", "🐝", "`", "*", "@everyone ", "\n# ", "1. ", "\xff", "👩‍👩‍👧", "[a](https://b)", "\u202e", "|", "\\"} {
		f.Add(unit)
		f.Add(strings.Repeat(unit, 7000/max(1, len(unit))))
	}
	f.Fuzz(func(t *testing.T, s string) {
		data, err := Payload(everywhere(s))
		if err != nil {
			t.Fatal(err)
		}
		check(t, data)
	})
}

func TestALongTextKeepsWhatMatters(t *testing.T) {
	for _, unit := range []string{"x", "🐝", "_", "é"} {
		m := messages()["failed"]
		m.Reason, m.Advice, m.Title = strings.Repeat(unit, 9000), strings.Repeat(unit, 9000), strings.Repeat(unit, 9000)
		m.NoteLink = ObsidianLink("Notes", strings.Repeat("ü", 400))
		data, err := Payload(m)
		if err != nil {
			t.Fatal(err)
		}
		e := check(t, data)
		if !strings.HasSuffix(e.Title, "…") || size(e.Title) < 254 {
			t.Errorf("the title is %d long: %q", size(e.Title), e.Title)
		}
		reason, advice, ok := strings.Cut(e.Description, "\n**What to do:** ")
		if !ok || !strings.HasSuffix(reason, "…") || !strings.HasSuffix(advice, "…") || size(e.Description) < 4090 {
			t.Errorf("the description is %d long", size(e.Description))
		}
		for _, f := range e.Fields {
			if f.Name == "In Obsidian" {
				t.Errorf("a cut link is shown: %s", f.Value)
			}
		}
	}
}

func TestProseHasNoMeaning(t *testing.T) {
	for _, row := range []struct{ name, in, want string }{
		{"plain words", "It took 1.5 s - and failed (again)!", "It took 1.5 s - and failed (again)!"},
		{"everyone", "hey @everyone", "hey @\u200beveryone"},
		{"a user", "hey <@123> <@&4> <#5>", `hey \<@` + "\u200b" + `123\> \<@` + "\u200b" + `&4\> \<#5\>`},
		{"a time, an emoji, a command", "<t:1:R> <:x:2> </a:3>", `\<t:1:R\> \<:x:2\> \</a:3\>`},
		{"a link with a text", "[free](https://evil.example)", `\[free\](https\://evil.example)`},
		{"a bare address", "see HTTPS://evil.example or discord://x", `see HTTPS\://evil.example or discord\://x`},
		{"bold, italic, struck, hidden", "**a** _b_ ~~c~~ ||d||", `\*\*a\*\* \_b\_ \~\~c\~\~ \|\|d\|\|`},
		{"a code fence", "```go\nboom\n```", "\\`\\`\\`go boom \\`\\`\\`"},
		{"a backslash before a mark", `\*a\*`, `\\\*a\\\*`},
		{"a heading", "# big", `\# big`},
		{"a heading on a later line", "a\n# big", "a # big"},
		{"a quote", "> said", `\> said`},
		{"a list", "- one\n- two", `\- one - two`},
		{"a numbered list", "12. one", `12\. one`},
		{"small text", "-# small", `\-# small`},
		{"a number with decimals later", "a 1.5", "a 1.5"},
		{"turned text", "gpj\u202eexe.\u2066", "gpjexe."},
		{"control characters", "a\x00b\x1b[31m\r\nc", `a b \[31m c`},
		{"broken bytes", "a\xffb", "a\uFFFDb"},
		{"a family", "👩‍👧", "👩‍👧"},
		{"space alone", " \n\t", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := prose(row.in, 200); got != row.want {
				t.Errorf("%q, want %q", got, row.want)
			}
		})
	}
	for _, row := range []struct {
		in   string
		most int
		want string
	}{
		{"abcd", 4, "abcd"}, {"abcde", 4, "abc…"}, {"ab**", 6, `ab\*\*`}, {"ab**", 5, `ab\*…`}, {"ab**", 4, "ab…"}, {"🐝🐝", 4, "🐝🐝"}, {"🐝🐝🐝", 4, "🐝…"}, {"a", 1, "a"}, {"ab", 1, "…"},
	} {
		if got := prose(row.in, row.most); got != row.want {
			t.Errorf("%q within %d is %q, want %q", row.in, row.most, got, row.want)
		}
	}
}

func TestCodeCannotBeLeft(t *testing.T) {
	for _, row := range []struct {
		in   string
		most int
		want string
	}{
		{"a_b*.md", 50, "`a_b*.md`"},
		{"a`b``c", 50, "`aˋbˋˋc`"},
		{"a\nb", 50, "`a b`"},
		{" ", 50, ""},
		{"abcd", 6, "`abcd`"},
		{"abcde", 6, "`abc…`"},
		{"🐝🐝🐝", 7, "`🐝🐝…`"},
	} {
		if got := code(row.in, row.most); got != row.want {
			t.Errorf("%q within %d is %q, want %q", row.in, row.most, got, row.want)
		}
	}
}

func TestTheTracesLink(t *testing.T) {
	for _, row := range []struct{ name, in, want string }{
		{"none", "", ""},
		{"https", "https://l.example/trace/1", "[open](https://l.example/trace/1)"},
		{"http on the own net", "http://10.0.0.2:3000/trace/1?a=b", "[open](http://10.0.0.2:3000/trace/1?a=b)"},
		{"one that would end the link", "https://l/a)[x](https://evil", "[open](https://l/a%29[x]%28https://evil)"},
		{"another scheme", "javascript:alert(1)", ""},
		{"an obsidian link", "obsidian://open?vault=a", ""},
		{"no host", "https:///a", ""},
		{"too long", "https://l/" + strings.Repeat("a", 1024), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := trace(row.in); got != row.want {
				t.Errorf("%q, want %q", got, row.want)
			}
		})
	}
}

func TestObsidianLink(t *testing.T) {
	for _, row := range []struct{ name, vault, path, want string }{
		{"spaces and a folder", "My Notes", "a b/c d.md", "obsidian://open?vault=My%20Notes&file=a%20b%2Fc%20d.md"},
		{"signs that mean something in a query", "a&b=c", "x+y#z?%.md", "obsidian://open?vault=a%26b%3Dc&file=x%2By%23z%3F%25.md"},
		{"letters outside ASCII", "Später", "été 🐝.md", "obsidian://open?vault=Sp%C3%A4ter&file=%C3%A9t%C3%A9%20%F0%9F%90%9D.md"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := ObsidianLink(row.vault, row.path)
			if got != row.want {
				t.Errorf("%s, want %s", got, row.want)
			}
			u, err := url.Parse(got)
			if err != nil || u.Query().Get("vault") != row.vault || u.Query().Get("file") != row.path {
				t.Errorf("it reads as %v, %v", u, err)
			}
		})
	}
}
