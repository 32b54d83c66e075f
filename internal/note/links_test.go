package note_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"davidcockson.com/runner/internal/note"
)

func TestLinks(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want       []string // kind target|part|shown at line
	}{
		{"a plain name", "See [[Note]].", []string{"link Note||@1"}},
		{"an embed", "![[Note]]", []string{"embed Note||@1"}},
		{"a heading", "[[Note#A heading]]", []string{"link Note|#A heading|@1"}},
		{"nested headings", "![[Note#A#B]]", []string{"embed Note|#A#B|@1"}},
		{"a block", "[[Note#^ab-1]]", []string{"link Note|#^ab-1|@1"}},
		{"shown text", "[[dir/Note#A|some words]]", []string{"link dir/Note|#A|some words@1"}},
		{"shown text in a table", `| [[Note\|words]] |`, []string{"link Note||words@1"}},
		{"only the first bar splits", "[[Note|a|b]]", []string{"link Note||a|b@1"}},
		{"a heading of the note itself", "[[#Here]]", []string{"link |#Here|@1"}},
		{"spaces around the target are not its own", "[[ Note # A ]]", []string{"link Note|#A|@1"}},
		{"a single bracket inside", "[[Sq]uare]]", []string{"link Sq]uare||@1"}},
		{"the innermost pair", "[[a [[Inner]] c]]", []string{"link Inner||@1"}},
		{"one bracket too many", "[[[Note]]]", []string{"link Note||@1"}},
		{"two on a line, one below", "[[A]]![[B]]\n\n[[C]]", []string{"link A||@1", "embed B||@1", "link C||@3"}},
		{"emoji and accents", "![[Café 🚀]]", []string{"embed Café 🚀||@1"}},
		{"nothing between the brackets", "[[]] [[ ]] [[|x]] [[#]]", nil},
		{"not closed on its line", "[[Note\n]] [[B", nil},
		{"inline code", "`![[A]]` and ``a ` ![[B]]`` then ![[C]]", []string{"embed C||@1"}},
		{"inline code over two lines", "`a\n![[A]]` ![[B]]", []string{"embed B||@2"}},
		{"a lone backtick hides nothing", "a ` b ![[A]]", []string{"embed A||@1"}},
		{"a backtick does not reach over a blank line", "a ` b\n\n![[A]] ` c", []string{"embed A||@3"}},
		{"a backtick does not reach over a heading", "a ` b\n# x\n![[A]] ` c", []string{"embed A||@3"}},
		{"a backtick does not reach over a list item", "- a ` b\n- ![[A]] ` c", []string{"embed A||@2"}},
		{"a run of another length does not close", "`` a ` ![[A]]", []string{"embed A||@1"}},
		{"a fence", "```\n![[A]]\n\n![[B]]\n```\n![[C]]", []string{"embed C||@6"}},
		{"a fence of tildes with a language", "~~~ md\n![[A]]\n```\n~~~\n![[C]]", []string{"embed C||@5"}},
		{"a fence that is not closed", "```\n![[A]]", nil},
		{"a fence in a list", "- x\n  ```\n  ![[A]]\n  ```\n- ![[B]]", []string{"embed B||@5"}},
		{"a fence in a list item's first line", "- ```\n  ![[A]]\n  ```\n![[B]]", []string{"embed B||@4"}},
		{"a fence in a quote", "> ```\n> ![[A]]\n> ```\n> ![[B]]", []string{"embed B||@4"}},
		{"a fence ends with its quote", "> ```\n> ![[A]]\n\n![[B]]", []string{"embed B||@4"}},
		{"an inline comment", "a %%![[A]]%% ![[B]]", []string{"embed B||@1"}},
		{"a comment that is a line", "%%a%%\n![[B]]", []string{"embed B||@2"}},
		{"two percent signs alone", "100%% of ![[A]]", []string{"embed A||@1"}},
		{"a block comment", "%%\n![[A]]\n\n![[B]]\n%%\n![[C]]", []string{"embed C||@6"}},
		{"a block comment that ends within a line", "%% x\n![[A]] %% ![[B]]", []string{"embed B||@2"}},
		{"a block comment that is not closed", "![[A]]\n\n%%\n![[B]]", []string{"embed A||@1"}},
		{"a comment in code is code", "`%%` ![[A]] `%%`", []string{"embed A||@1"}},
		{"a fence in a comment is comment", "%%\n```\n%%\n![[A]]", []string{"embed A||@4"}},
		{"a backslash before the bracket", `\[[A]] [[B]]`, []string{"link B||@1"}},
		{"a backslash before the exclamation mark", `\![[A]]`, []string{"link A||@1"}},
		{"a backslash before a backtick", "\\` ![[A]] `", []string{"embed A||@1"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var got []string
			for _, l := range note.Links(row.text) {
				kind := "link"
				if l.Embed {
					kind = "embed"
				}
				got = append(got, fmt.Sprintf("%s %s|%s|%s@%d", kind, l.Target, l.Part(), l.Shown, l.Line))
				if row.text[l.Start:l.End] != l.Text {
					t.Errorf("%q is not at %d", l.Text, l.Start)
				}
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// A text built to make a careless parser look at everything over and over.
func TestLinksOfHostileTextsEnd(t *testing.T) {
	const size = note.MaxSize / 16 // enough for minutes if time grew with the square
	long := func(s string) string { return strings.Repeat(s, size/len(s)) }
	var runs strings.Builder
	for i := 1; runs.Len() < size; i++ {
		runs.WriteString(strings.Repeat("`", i) + " ")
	}
	for _, text := range []string{long("[["), long("]]"), long("![[a"), long("[[`"), long("`"), long("%%"), long("%% `"), long("\\"), long("```\n"), long("a ^x\n"),
		long("# ^x\n"), long("- ^x\n"), long("\n"), "```" + long("\n"), runs.String()} {
		note.Links(text)
		for _, l := range []note.Link{{}, {Block: "x"}, {Headings: []string{"b", "a"}}} {
			_, _ = note.Excerpt([]byte(text), l)
		}
	}
}

func TestLinksOfABodyNameTheLineOfTheFile(t *testing.T) {
	n, err := note.Parse([]byte("---\na: b\n---\n\n%% runner: begin %%\n![[Ours]]\n%% runner: end %%\nx\n![[A]]\n"))
	if err != nil {
		t.Fatal(err)
	}
	links := n.Links()
	if len(links) != 1 || links[0].Text != "![[A]]" || links[0].Line != 9 {
		t.Errorf("got %+v", links)
	}
}

func TestLinksOfAField(t *testing.T) {
	for _, row := range []struct{ name, yaml, want string }{
		{"a list of quoted links", "k:\n  - \"[[A]]\"\n  - \"[[B#C|d]]\"", "[[A]]@3 [[B#C|d]]@4"},
		{"one link", "k: \"[[A]]\"", "[[A]]@2"},
		{"no value", "k:", ""},
		{"items without a value are left out", "k:\n  - \"[[A]]\"\n  -\n  - \"\"", "[[A]]@3"},
		{"no quotes in a list", "k:\n  - \"[[A]]\"\n  - [[B]]", "line 4: key \"k\": a link has to stand in quotes: \"[[Note]]\""},
		{"no quotes", "k: [[B]]", "line 2: key \"k\": a link has to stand in quotes: \"[[Note]]\""},
		{"no brackets", "k:\n  - A", `line 3: key "k": each item has to be one link like "[[Note]]", and one is the text "A"`},
		{"two links in one item", "k: \"[[A]] [[B]]\"", `line 2: key "k": each item has to be one link like "[[Note]]", and one is the text "[[A]] [[B]]"`},
		{"an embed", "k: \"![[A]]\"", `line 2: key "k": the text "![[A]]" is an embed: write it without the "!"`},
		{"keys", "k: {a: b}", `line 2: key "k": has to be a list of links like "[[Note]]", and one item is a set of keys`},
	} {
		t.Run(row.name, func(t *testing.T) {
			n, err := note.Parse([]byte("---\n" + row.yaml + "\n---\nx"))
			if err != nil {
				t.Fatal(err)
			}
			f, _ := n.Field("k")
			links, err := f.Links()
			var got []string
			for _, l := range links {
				got = append(got, fmt.Sprintf("%s@%d", l.Text, l.Line))
			}
			if err != nil {
				got = []string{err.Error()}
			}
			if strings.Join(got, " ") != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

const sample = `---
aliases: [x]
---

Before.

# Alpha
One.

## Q&A: why?
Two.

### Deep
Three.

## Beta ##
` + "```" + `
# no heading
` + "```" + `
%%
# nor this
%%
Four.

# Alpha
## Beta
Second beta.

Under lined
===
Five.

Café
---
Six.

1. not
---
# It's snake_case - really
Seven.
#nospace
`

func TestExcerptOfAHeading(t *testing.T) {
	for _, row := range []struct{ name, link, want string }{
		{"the whole is the text without the frontmatter", "[[N]]", "Before.\n\n# Alpha … #nospace"},
		{"a heading reaches to the next of its level", "[[N#Alpha]]", "# Alpha … Four."},
		{"a heading ends before one above it", "[[N#Deep]]", "### Deep\nThree."},
		{"case makes no difference", "[[N#dEEp]]", "### Deep\nThree."},
		{"punctuation makes no difference", "[[N#Q A why]]", "## Q&A: why?\nTwo.\n\n### Deep\nThree."},
		{"punctuation as it stands", "[[N#Q&A: why?]]", "## Q&A: why?\nTwo.\n\n### Deep\nThree."},
		{"of two with one name the first is meant", "[[N#Beta]]", "## Beta ## … Four."},
		{"a path of headings", "[[N#Alpha#Deep]]", "### Deep\nThree."},
		{"a path finds the first below it", "[[N#Alpha#Beta]]", "## Beta ## … Four."},
		{"an underlined heading", "[[N#Under lined]]", "Under lined … # It"},
		{"one of the second level", "[[N#Café]]", "Café … # It"},
		{"accents composed or not", "[[N#Cafe\u0301]]", "Café … # It"},
		{"apostrophe, hyphen and underscore count", "[[N#It's snake_case - really]]", "# It's … #nospace"},
		{"code is no heading", "[[N#no heading]]", `has no heading "no heading"; its headings are: Alpha, Q&A: why?, Deep, Beta, Alpha, Beta, Under lined, Café, It's snake_case - really`},
		{"a comment is no heading", "[[N#nor this]]", `has no heading "nor this"`},
		{"a number and a rule are no heading", "[[N#1. not]]", `has no heading`},
		{"a path that is not there", "[[N#Deep#Alpha]]", `has no heading "Deep#Alpha"`},
		{"a heading that is not below the other", "[[N#Café#Beta]]", "has no heading"},
		{"a hash without a space is no heading", "[[N#nospace]]", "has no heading"},
	} {
		t.Run(row.name, func(t *testing.T) { checkExcerpt(t, sample, row.link, row.want) })
	}
}

// checkExcerpt compares what a link takes from a text, or the error, with want, in
// which " … " stands for anything. A want without it has to match whole, an error
// its beginning.
func checkExcerpt(t *testing.T, text, link, want string) {
	t.Helper()
	got, err := note.Excerpt([]byte(text), note.Links(link)[0])
	var wrong *note.Error
	if err != nil {
		if !errors.As(err, &wrong) || wrong.Kind != note.Wrong {
			t.Fatalf("%T", err)
		}
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got the error %q, want %q", err, want)
		}
		return
	}
	begin, end, open := strings.Cut(want, " … ")
	if open && strings.HasPrefix(got, begin) && (strings.HasSuffix(got, end) || end == "# It" && strings.HasSuffix(got, "\n---")) {
		return
	}
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

const blocksSample = `First paragraph
goes on. ^para

Not the end ^para2
of it.

- one
  more of one ^one
- two ^two
  - below two

    still two
- three

> quoted
> words ^quote

| a | b |
| - | - |
| 1 | 2 |

^table

` + "```" + `
code

^code-inside
` + "```" + `

^code

Bare text
^bare

## Title ^title
After it.

` + "`code` begins" + `
this one ^Mixed-Case
x^nospace
`

func TestExcerptOfABlock(t *testing.T) {
	for _, row := range []struct{ name, id, want string }{
		{"a paragraph", "para", "First paragraph\ngoes on."},
		{"an id that does not end its block is none", "para2", "has no block ^para2"},
		{"a list item of two lines", "one", "- one\n  more of one"},
		{"a list item takes what is below it", "two", "- two\n  - below two\n\n    still two"},
		{"a quote", "quote", "> quoted\n> words"},
		{"a table, named below it", "table", "| a | b |\n| - | - |\n| 1 | 2 |"},
		{"code, named below it", "code", "```\ncode\n\n^code-inside\n```"},
		{"an id in code is none", "code-inside", "has no block ^code-inside"},
		{"an id on a line of its own right below", "bare", "Bare text"},
		{"a heading alone", "title", "## Title"},
		{"an id before a line that goes on is none, in any case", "mixed-case", "has no block ^mixed-case"},
		{"white space has to stand before it", "nospace", "has no block ^nospace"},
		{"no such block", "nope", "has no block ^nope"},
	} {
		t.Run(row.name, func(t *testing.T) { checkExcerpt(t, blocksSample, "[[N#^"+row.id+"]]", row.want) })
	}
	checkExcerpt(t, "`code` begins\nthis one ^Mixed-Case\n", "[[N#^mixed-case]]", "`code` begins\nthis one")
	checkExcerpt(t, "^top", "[[N#^top]]", "has no block ^top")
}

func TestExcerptOfAWhole(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"no frontmatter", "a\n", "a"},
		{"frontmatter that is no YAML is cut all the same", "---\n[: {\n---\na", "a"},
		{"one that is not closed is text", "---\na", "---\na"},
		{"byte order mark and CRLF", "\ufeff---\r\na: b\r\n---\r\n\r\nx\r\ny  \r\n", "x\ny"},
		{"our own block is not taken", "a\n%% runner: begin %%\nfailed\n%% runner: end %%\nb", "a\nb"},
		{"an empty note", "", ""},
		{"not UTF-8", "a\xff", "is not UTF-8 text"},
		{"not text", "a\x00", "is not UTF-8 text"},
	} {
		t.Run(row.name, func(t *testing.T) { checkExcerpt(t, row.text, "[[N]]", row.want) })
	}
}

func TestAliases(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"a list", "---\naliases: [a, \"b c\"]\n---\n", "a|b c"},
		{"a single one", "---\naliases: a\n---\n", "a"},
		{"none", "---\ntitle: a\n---\n", ""},
		{"the word in the body alone", "aliases: x", ""},
		{"no value", "---\naliases:\n---\n", ""},
		{"bad YAML", "---\naliases: [a\nb: {\n---\n", ""},
		{"something else", "---\naliases: {a: b}\n---\n", ""},
		{"a list at the top", "---\n- aliases\n---\n", ""},
		{"not closed", "---\naliases: [a]\n", ""},
	} {
		if got := strings.Join(note.Aliases([]byte(row.text)), "|"); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

func FuzzLinks(f *testing.F) {
	for _, text := range []string{"[[A#B|c]]", "![[A#^b]]", "`[[`]]", "%%\n[[a]]", "[[[a]]]", "\\[[a]]", "> ```\n[[a]]", "[[a\x00]]", sample, blocksSample} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		end := 0
		for _, l := range note.Links(text) {
			if l.Start < end || l.End > len(text) || text[l.Start:l.End] != l.Text {
				t.Fatalf("%+v overlaps or is not where it says", l)
			}
			end = l.End
			if l.Line != 1+strings.Count(text[:l.Start], "\n") || strings.Contains(l.Text, "\n") {
				t.Fatalf("%+v is not on its line", l)
			}
			if l.Target == "" && l.Part() == "" || l.Embed != (l.Text[0] == '!') {
				t.Fatalf("%+v", l)
			}
			again := note.Links(l.Text)
			if len(again) == 1 && (again[0].Target != l.Target || again[0].Part() != l.Part()) {
				t.Fatalf("%+v reads anew as %+v", l, again[0])
			}
		}
	})
}

func FuzzExcerpt(f *testing.F) {
	for _, text := range []string{sample, blocksSample, "a ^b", "^b", "# b", "b\n="} {
		f.Add(text, "b", "a", "b")
	}
	f.Fuzz(func(t *testing.T, text, block, a, b string) {
		whole, err := note.Excerpt([]byte(text), note.Link{})
		if err != nil {
			return
		}
		for _, l := range []note.Link{{Block: block}, {Headings: []string{a}}, {Headings: []string{a, b}}} {
			if l.Part() == "#^" {
				continue
			}
			got, err := note.Excerpt([]byte(text), l)
			if err == nil && (len(got) > len(whole) || !utf8.ValidString(got)) {
				t.Fatalf("%q is no part of %q", got, whole)
			}
		}
		note.Aliases([]byte(text))
	})
}
