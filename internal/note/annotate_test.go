package note

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestAnnotate(t *testing.T) {
	done := []KV{{"status", "completed"}, {"attempts", 2}}
	block := "%% runner: begin %%\n> hi\n%% runner: end %%\n"
	for _, c := range []struct {
		name, text string
		fields     []KV
		callout    string
		want       string
	}{
		{"new keys go before the closing line", "---\na: 1 # c\n\n# end\n---\nbody\n", done, "",
			"---\na: 1 # c\n\n# end\nstatus: completed\nattempts: 2\n---\nbody\n"},
		{"a key is replaced where it stands", "---\nstatus: \"queued\" # mine\nz: 1\n---\nbody", done, "",
			"---\nstatus: completed\nz: 1\nattempts: 2\n---\nbody"},
		{"in a quoted text a line like a comment is left as one", "---\nstatus: \"a\n  b\n# no comment\"\nz: 1\n---\n", done, "",
			"---\nstatus: completed\n# no comment\"\nz: 1\nattempts: 2\n---\n"},
		{"a list at the margin goes with its key", "---\nrun:\n- x\n- y\n# mine\nz: 1\n---\n", done, "",
			"---\n# mine\nz: 1\nstatus: completed\nattempts: 2\n---\n"},
		{"a literal text goes with its key", "---\nerror: |\n  a\n\n  # b\n # mine\n\nz: 1\n---\n", nil, "",
			"---\n # mine\n\nz: 1\n---\n"},
		{"keys of ours that are not set are removed", "---\nrun: x\na: 1\nerror: >\n  long\n  text\n---\nbody", nil, "",
			"---\na: 1\n---\nbody"},
		{"a nested key of the same name stays", "---\nmine:\n  status: x\n---\n", done, "",
			"---\nmine:\n  status: x\nstatus: completed\nattempts: 2\n---\n"},
		{"keys that are not ours are left out", "---\na: 1\n---\n", []KV{{"a", 2}, {"b", 3}}, "", "---\na: 1\n---\n"},
		{"of two values the last counts", "---\n---\n", []KV{{"run", "x"}, {"run", "z"}}, "", "---\nrun: z\n---\n"},
		{"CRLF, byte order mark, tabs and order stay", "\ufeff---\r\nz:\t1\r\na: 2\r\n---\r\n\tbody\r\n", done, "> hi",
			"\ufeff---\r\nz:\t1\r\na: 2\r\nstatus: completed\r\nattempts: 2\r\n---\r\n\tbody\r\n\r\n" + strings.ReplaceAll(block, "\n", "\r\n")},
		{"indented keys stay indented", "---\n  a: 1\n---\n", done, "", "---\n  a: 1\n  status: completed\n  attempts: 2\n---\n"},
		{"an empty frontmatter is filled", "---\n---\n", done, "", "---\nstatus: completed\nattempts: 2\n---\n"},
		{"a missing final newline is added before the block", "---\na: 1\n---\nbody", nil, "> hi", "---\na: 1\n---\nbody\n\n" + block},
		{"a body that ends in a blank line gets no other", "---\na: 1\n---\nbody\n\n", nil, "> hi", "---\na: 1\n---\nbody\n\n" + block},
		{"without a body and newline", "---\na: 1\n---", nil, "> hi", "---\na: 1\n---\n\n" + block},
		{"a block is replaced and moves to the end", "---\na: 1\n---\nb\n\n%% runner: begin %%\nold\n%% runner: end %%\nmore\n", nil, "> hi\n",
			"---\na: 1\n---\nb\n\nmore\n\n" + block},
		{"an empty callout removes the block", "---\na: 1\n---\nb\n\n" + block, nil, " \n", "---\na: 1\n---\nb\n\n"},
		{"a begin marker of the user's stays text", "---\na: 1\n---\n%% runner: begin %%\nmine\n", nil, "> hi",
			"---\na: 1\n---\n%% runner: begin %%\nmine\n\n" + block},
		{"a callout cannot end its block", "---\na: 1\n---\n", nil, "x\n%% runner: end %%\r\n---\n\xff\x00y",
			"---\na: 1\n---\n\n%% runner: begin %%\nx\n> %% runner: end %%\n> ---\n\ufffd\ufffdy\n%% runner: end %%\n"},
		{"an open code fence does not hide the block", "---\na: 1\n---\n```\ncode\n\n" + block, nil, "> hi", "---\na: 1\n---\n```\ncode\n\n" + block},
		{"of a note without frontmatter only the block is written", "body", done, "> hi", "body\n\n" + block},
		{"of an empty note only the block is written", "", done, "> hi", block},
		{"a blank line gets no other", "\n", done, "> hi", "\n" + block},
		{"a frontmatter that is not closed stays", "---\na: 1\n", done, "> hi", "---\na: 1\n\n" + block},
		{"a frontmatter with an error stays", "---\nstatus: x\nstatus: y\n---\nb\n", done, "> hi", "---\nstatus: x\nstatus: y\n---\nb\n\n" + block},
		{"bytes that are no text stay", "---\na: 1\n---\n\x00\xff", done, "> hi", "---\na: 1\n---\n\x00\xff\n\n" + block},
		{"a note that a block kept from being one", block + "---\na: 1\n---\n", done, "> hi",
			"---\na: 1\nstatus: completed\nattempts: 2\n---\n\n" + block},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Annotate([]byte(c.text), c.fields, c.callout)
			if string(got) != c.want {
				t.Errorf("got\n%q, want\n%q", got, c.want)
			}
			checkAnnotated(t, []byte(c.text), got, c.fields, c.callout)
		})
	}
}

func TestAnnotateLeavesOutWhatMakesANoteTooLarge(t *testing.T) {
	head := "---\na: 1\n---\n"
	huge := strings.Repeat("x", MaxFrontmatter)
	full := head + strings.Repeat("x", MaxSize-len(head)-20)
	for _, c := range []struct {
		name, text string
		fields     []KV
		callout    string
		want       string
	}{
		{"keys beyond the frontmatter's limit", head, []KV{{"error", huge}}, "> hi", head + "\n" + beginMarker + "\n> hi\n" + endMarker + "\n"},
		{"a block beyond the note's limit", full, []KV{{"run", "x"}}, "> hi", strings.Replace(full, "a: 1\n", "a: 1\nrun: x\n", 1)},
		{"both", full, []KV{{"error", huge}}, "> hi", full},
	} {
		got := Annotate([]byte(c.text), c.fields, c.callout)
		if string(got) != c.want {
			t.Errorf("%s: got %d bytes, want %d", c.name, len(got), len(c.want))
		}
		checkAnnotated(t, []byte(c.text), got, c.fields, c.callout)
	}
}

func TestValuesAreReadBackAsTheyWereWritten(t *testing.T) {
	texts := []string{"", " ", "plain text", "null", "Yes", "n", "~", "7", "1e3", "0x1f", "2026-11-24", "12:30", ".5",
		"a: b", "a #b", "#a", "- a", "-", "[[runner-outputs/20261124 a|b]]", "{a}", "*a", "&a", "!a", "%a", "@a", "`a`",
		"\"quoted\" \\ 'single'", "a\nb\r\n\tc", "\x00\x1b\x7f\u0085\u2028\u2029\ufeff\uffff", "🚀 👩‍🚀", "ends ", "<<", "---", "...",
		strings.Repeat("long ", 500)}
	for _, text := range texts {
		n := mustParse(t, Frontmatter([]KV{{"a", text}, {"list " + text[:min(len(text), 500)], []string{text, text}}}))
		if got, err := n.Fields()[0].String(); err != nil || got != text || n.Fields()[0].Null() {
			t.Errorf("%q came back as %q, %v", text, got, err)
		}
		f := n.Fields()[1]
		if got, err := f.Strings(); err != nil || len(got) != 2 || got[1] != text || !strings.HasPrefix(f.Key, "list ") {
			t.Errorf("a list of %q came back as %q, %v", text, got, err)
		}
	}
}

func TestFrontmatter(t *testing.T) {
	when := time.Date(2026, 11, 24, 18, 5, 6, 700, time.FixedZone("", 3600))
	got := Frontmatter([]KV{{"job", "[[_completed/a]]"}, {"count", 7}, {"big", int64(math.MaxInt64)}, {"x", 0.25}, {"whole", 1e6},
		{"tiny", 1e-9}, {"nan", math.NaN()}, {"minus", math.Inf(-1)}, {"ok", true}, {"tags", []string{"a", "b c"}}, {"none", []string{}}, {"at", when}, {"took", 90 * time.Second}})
	want := "---\njob: \"[[_completed/a]]\"\ncount: 7\nbig: 9223372036854775807\nx: 0.25\nwhole: 1000000\n" +
		"tiny: 1e-09\nnan: .nan\nminus: -.inf\nok: true\ntags: [\"a\", \"b c\"]\nnone: []\nat: 2026-11-24T17:05:06Z\ntook: \"1m30s\"\n---\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	n := mustParse(t, got)
	for key, want := range map[string]float64{"count": 7, "x": 0.25, "whole": 1e6, "tiny": 1e-9} {
		f, _ := n.Field(key)
		if x, err := f.Float(); err != nil || x != want {
			t.Errorf("%s: %v, %v", key, x, err)
		}
	}
}

var benchmarkNote = []byte("---\njob_type: text\nprovider: davas\nmodel: \"llama3.2:3b\"\ntemperature: 0.7\ntags:\n  - a\n  - b\nid: 20261124101500\n---\n" +
	strings.Repeat("A line of a prompt, of some words.\n", 55))

func BenchmarkParse(b *testing.B) {
	b.SetBytes(int64(len(benchmarkNote)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(benchmarkNote); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAnnotate(b *testing.B) {
	b.SetBytes(int64(len(benchmarkNote)))
	b.ReportAllocs()
	fields := []KV{{"status", "completed"}, {"run", "r1"}, {"output", "[[runner-outputs/x]]"}, {"attempts", 1}}
	for b.Loop() {
		Annotate(benchmarkNote, fields, "> [!failure] It failed\n> because")
	}
}
