package note

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func mustParse(t *testing.T, text string) *Note {
	t.Helper()
	n, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse(%.200q): %v", text, err)
	}
	return n
}

func TestParseReadsUglyNotes(t *testing.T) {
	for _, c := range []struct {
		name, text string
		fields     string // key@line=value, …
		body       string
		bodyLine   int
	}{
		{"a plain note", "---\njob_type: text\n---\nhello\n", "job_type@2=text", "hello", 4},
		{"a byte order mark is gone", "\ufeff---\na: 1\n---\nhi", "a@2=1", "hi", 4},
		{"CRLF becomes LF", "---\r\na: x\r\n---\r\n\r\none\r\ntwo\r\n", "a@2=x", "one\ntwo", 5},
		{"white space after the dashes is let pass", "--- \t\na: 1\n---  \nhi", "a@2=1", "hi", 4},
		{"an emoji key and value", "---\n🚀 key: \"👩‍🚀 go\"\n---\n🎉\n", "🚀 key@2=👩‍🚀 go", "🎉", 4},
		{"a tab inside a value", "---\na:\tx\ty\n---\n\tindented\n", "a@2=x\ty", "\tindented", 4},
		{"dashes in the body", "---\na: 1\n---\nx\n---\ny\n```\n---\n```\n", "a@2=1", "x\n---\ny\n```\n---\n```", 4},
		{"indented dashes in a folded text", "---\na: >\n  x\n  ---\n  y\nb: 2\n---\nhi", "a@2=x --- y\n b@6=2", "hi", 8},
		{"a literal text", "---\na: |\n  x\n  # y\nb: 2\n---\nhi", "a@2=x\n# y\n b@5=2", "hi", 7},
		{"a quoted wikilink", "---\nlink: \"[[A note|shown]]\"\n---\nhi", "link@2=[[A note|shown]]", "hi", 4},
		{"comments and blank lines", "---\n# top\n\na: 1 # one\n# end\n---\nhi", "a@4=1", "hi", 7},
		{"indented keys", "---\n  a: 1\n  b: 2\n---\nhi", "a@2=1 b@3=2", "hi", 5},
		{"a quoted key", "---\n'a b': 1\n---\nhi", "a b@2=1", "hi", 4},
		{"four dashes do not close", "---\na: >\n x\n ----\n---\nhi", "a@2=x ----\n", "hi", 6},
		{"no keys and no body", "---\n---", "", "", 3},
		{"a comment alone", "---\n# draft\n---\nhi", "", "hi", 4},
		{"our block is no prompt", "---\na: 1\n---\none\n\n%% runner: begin %%\n> failed\n%% runner: end %%\ntwo\n", "a@2=1", "one\n\ntwo", 4},
		{"a begin marker alone is text", "---\na: 1\n---\none\n%% runner: begin %%\ntwo\n", "a@2=1", "one\n%% runner: begin %%\ntwo", 4},
		{"an end marker alone is text", "---\na: 1\n---\none\n%% runner: end %%\ntwo\n", "a@2=1", "one\n%% runner: end %%\ntwo", 4},
		{"an indented marker is text", "---\na: 1\n---\n %% runner: begin %%\ntwo\n%% runner: end %%", "a@2=1", " %% runner: begin %%\ntwo\n%% runner: end %%", 4},
		{"a body of our block alone is empty", "---\na: 1\n---\n%% runner: begin %%\nx\n%% runner: end %%\n", "a@2=1", "", 4},
		{"blank lines before the body", "---\na: 1\n---\n\n \n  code\n\n", "a@2=1", "  code", 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := mustParse(t, c.text)
			var got []string
			for _, f := range n.Fields() {
				value, err := f.String()
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprintf("%s@%d=%s", f.Key, f.Line, value))
			}
			if fields := strings.Join(got, " "); fields != c.fields {
				t.Errorf("fields %q, want %q", fields, c.fields)
			}
			if n.Body() != c.body || n.BodyLine() != c.bodyLine {
				t.Errorf("body %q on line %d, want %q on %d", n.Body(), n.BodyLine(), c.body, c.bodyLine)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	fm := func(yaml string) string { return "---\n" + yaml + "\n---\nbody\n" }
	for _, c := range []struct {
		name, text string
		kind       Kind
		line       int
		key        string
		reason     string // a part of it
	}{
		{"an empty file", "", Unfinished, 0, "", "empty"},
		{"white space", " \n\t\r\n", Unfinished, 0, "", "empty"},
		{"a byte order mark alone", "\ufeff", Unfinished, 0, "", "empty"},
		{"dashes alone", "---", Unfinished, 1, "", "not closed"},
		{"a frontmatter not closed", "---\na: 1\n", Unfinished, 1, "", "not closed"},
		{"a frontmatter closed by dots", "---\na: 1\n...\nbody", Unfinished, 1, "", "not closed"},
		{"no frontmatter", "hello\n---\na: 1\n---\n", Wrong, 1, "", "no frontmatter"},
		{"a blank line first", "\n---\na: 1\n---\n", Wrong, 1, "", "no frontmatter"},
		{"a NUL in the body", fm("a: 1") + "x\x00", Wrong, 5, "", "NUL"},
		{"a byte that is no UTF-8", fm("a: 1") + "\ufffd \xff", Wrong, 5, "", "UTF-8"},
		{"a note too large", fm("a: 1") + strings.Repeat("x", MaxSize), Wrong, 0, "", "1048576"},
		{"a frontmatter too large", fm("a: " + strings.Repeat("x", MaxFrontmatter)), Wrong, 1, "", "65536"},
		{"a key set twice", fm("a: 1\nb: 2\na: 3"), Wrong, 4, "a", "already set on line 2"},
		{"an inner key set twice", fm("a:\n  b: 2\n  b: 3"), Wrong, 4, "b", "already set on line 3"},
		{"an indent by tab", fm("a: 1\n\tb: 2"), Wrong, 3, "", "tab"},
		{"a quote left open", fm("a: 1\nb: \"x\nc: 2"), Wrong, 3, "", "end of stream"},
		{"a colon too many", fm("a: 1\nb: x: y\nc: 2"), Wrong, 3, "", "mapping values"},
		{"a line without a colon", fm("a: 1\nb: 2\nfoo\nc: 3"), Wrong, 4, "", "':'"},
		{"text for a frontmatter", fm("just text"), Wrong, 2, "", "key: value"},
		{"a list for a frontmatter", fm("- a\n- b"), Wrong, 2, "", "key: value"},
		{"a mapping in braces", fm("{a: 1}"), Wrong, 2, "", "key: value"},
		{"null for a frontmatter", fm("~"), Wrong, 2, "", "key: value"},
		{"an explicit key", fm("? a\n: 1"), Wrong, 2, "a", "start of its line"},
		{"a number as key", fm("2026: x"), Wrong, 2, "2026", "has to be text"},
		{"a mapping as key", fm("a: 1\nt: {{title}}"), Wrong, 3, "t", "has to be text"},
		{"an anchor", fm("a: &x 1"), Wrong, 2, "a", "anchors"},
		{"an alias", fm("a: &x 1\nb: *x"), Wrong, 2, "a", "anchors"},
		{"an alias to nothing", fm("a: 1\nb: *x"), Wrong, 3, "", "unknown anchor"},
		{"a merge key", fm("<<: {a: 1}"), Wrong, 2, "", "merge"},
		{"a tag", fm("a: !!binary eA=="), Wrong, 2, "a", "tags"},
		{"a tag before the keys", fm("!\na: 1"), Wrong, 2, "", "key: value"},
		{"dots inside", fm("a: 1\n...\nb: 2"), Wrong, 3, "", "..."},
		{"a document start inside", fm("a: 1\n--- b"), Wrong, 3, "", "---"},
		{"keys after a dedent", fm("  a: 1\nb: 2"), Wrong, 3, "", "document"},
		{"a line separator", fm("a: x\u2028status: y"), Wrong, 2, "", "U+2028"},
		{"a lone carriage return", fm("a: x\rstatus: y"), Wrong, 2, "", "U+000D"},
		{"a byte order mark inside", fm("a: 1\n\ufeffb: 2"), Wrong, 3, "", "U+FEFF"},
		{"a control character", fm("a: 1\nb: \x01"), Wrong, 3, "", "control"},
		{"nested 21 deep", fm("a: " + strings.Repeat("[", 20) + strings.Repeat("]", 20)), Wrong, 2, "a", "20 deep"},
		{"a bracket bomb", fm("a: " + strings.Repeat("[", 60_000)), Wrong, 0, "", ""},
		{"a dash bomb", fm(strings.Repeat("- ", 30_000)), Wrong, 0, "", ""},
		{"a value bomb", fm("a: [" + strings.Repeat("1,", 20_000) + "]"), Wrong, 2, "a", "10000 values"},
		{"an alias bomb", fm("a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]"), Wrong, 2, "a", "anchors"},
		{"our markers in the frontmatter", fm(beginMarker + "\n" + endMarker), Wrong, 2, "", "directive"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.text))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v, want an *Error", err)
			}
			if e.Kind != c.kind || e.Line != c.line || e.Key != c.key || !strings.Contains(e.Reason, c.reason) {
				t.Errorf("got %s, %d, %q, %q; want %s, %d, %q, %q", e.Kind, e.Line, e.Key, e.Reason, c.kind, c.line, c.key, c.reason)
			}
		})
	}
}

func TestParseTakesTheLargestNote(t *testing.T) {
	head := "---\na: 1\n---\n"
	n := mustParse(t, head+strings.Repeat("x", MaxSize-len(head)))
	if got := len(n.Body()); got != MaxSize-len(head) {
		t.Errorf("body of %d bytes", got)
	}
	mustParse(t, "---\na: "+strings.Repeat("[", 19)+strings.Repeat("]", 19)+"\n---\n")
}

func TestErrorNamesLineAndKey(t *testing.T) {
	for want, e := range map[string]*Error{
		`line 4: key "model": is wrong`: wrong(4, "model", "is wrong"),
		`line 4: is wrong`:              wrong(4, "", "is wrong"),
		`is wrong`:                      wrong(0, "", "is wrong"),
	} {
		if e.Error() != want {
			t.Errorf("%q, want %q", e, want)
		}
	}
}

func TestFieldReaders(t *testing.T) {
	str := func(f Field) (any, error) { return f.String() }
	list := func(f Field) (any, error) { return f.Strings() }
	integer := func(f Field) (any, error) { return f.Int() }
	number := func(f Field) (any, error) { return f.Float() }
	boolean := func(f Field) (any, error) { return f.Bool() }
	for _, c := range []struct {
		name, value string
		read        func(Field) (any, error)
		want        any
		reason      string
	}{
		{"text", "hello", str, "hello", ""},
		{"a number as text", "7", str, "7", ""},
		{"a date as text", "2026-11-24", str, "2026-11-24", ""},
		{"a long number as text", "20261124101500123456789", str, "20261124101500123456789", ""},
		{"a number with zeros as text", "007.10", str, "007.10", ""},
		{"true as text", "True", str, "True", ""},
		{"empty text in quotes", `""`, str, "", ""},
		{"nothing is no text", "", str, nil, "has to be text and is empty"},
		{"a list is no text", "[a]", str, nil, "has to be text and is a list"},
		{"an unquoted link is no text", "[[a]]", str, nil, "has to be text and is a list"},
		{"keys are no text", "{a: 1}", str, nil, "has to be text and is a set of keys"},
		{"a list", "[a, 7, true]", list, []string{"a", "7", "true"}, ""},
		{"one scalar as list", "a", list, []string{"a"}, ""},
		{"an empty list", "[]", list, []string{}, ""},
		{"nothing as list", "", list, []string(nil), ""},
		{"a list in a list", "[a, [b]]", list, nil, "one item is a list"},
		{"an empty item", "[a, null]", list, nil, "one item is empty"},
		{"keys are no list", "{a: 1}", list, nil, "one item is a set of keys"},
		{"a whole number", "-42", integer, -42, ""},
		{"a leading zero is decimal", "0100", integer, 100, ""},
		{"hexadecimal is refused", "0x10", integer, nil, "has to be a whole number and is 0x10"},
		{"a fraction is no whole number", "1.5", integer, nil, "has to be a whole number and is 1.5"},
		{"a quoted number is text", `"5"`, integer, nil, `has to be a whole number and is the text "5"`},
		{"a number too large", "99999999999999999999", integer, nil, "has to be a whole number"},
		{"a float", "0.7", number, 0.7, ""},
		{"a whole number as float", "2", number, 2.0, ""},
		{"NaN is refused", ".nan", number, nil, "has to be a number and is .nan"},
		{"infinity is refused", "-.inf", number, nil, "has to be a number and is -.inf"},
		{"an overflow is refused", "1e999", number, nil, "has to be a number"},
		{"a date is no number", "2026-11-24", number, nil, "has to be a number and is 2026-11-24"},
		{"true", "true", boolean, true, ""},
		{"false in capitals", "FALSE", boolean, false, ""},
		{"yes is text", "yes", boolean, nil, `has to be true or false and is the text "yes"`},
		{"one is no bool", "1", boolean, nil, "has to be true or false and is 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, ok := mustParse(t, "---\na: 1\nkey: "+c.value+"\n---\n").Field("key")
			if !ok {
				t.Fatal("no field")
			}
			got, err := c.read(f)
			if c.reason == "" {
				if err != nil || !reflect.DeepEqual(got, c.want) {
					t.Errorf("got %#v, %v; want %#v", got, err, c.want)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Kind != Wrong || e.Line != 3 || e.Key != "key" || !strings.Contains(e.Reason, c.reason) {
				t.Errorf("error %v, want line 3, key and %q", err, c.reason)
			}
		})
	}
	n := mustParse(t, "---\na:\nb: ~\nc: \"\"\n---\n")
	for i, want := range []bool{true, true, false} {
		if f := n.Fields()[i]; f.Null() != want {
			t.Errorf("Null of %s is %v", f.Key, !want)
		}
	}
	if _, ok := n.Field("z"); ok {
		t.Error("found a field that is not there")
	}
}

func TestContentLeavesOutWhatIsOurs(t *testing.T) {
	want := "---\na: 1\n# kept\nz: 2\n---\nbody"
	for name, text := range map[string]string{
		"a note without ours":        "---\na: 1\n# kept\nz: 2\n---\nbody\n",
		"other line ends and a mark": "\ufeff---\r\na: 1\r\n# kept\r\nz: 2\r\n---\r\nbody\r\n\r\n",
		"our keys":                   "---\na: 1\nstatus: done\n# kept\nz: 2\noutput: \"[[x]]\"\n---\nbody",
		"our keys over many lines":   "---\nerror: |\n  x\n\n  # y\na: 1\nrun:\n- x\n- y\n# kept\nz: 2\n\"status\": \"a\n b\"\n---\nbody",
		"our block":                  "---\na: 1\n# kept\nz: 2\n---\nbody\n\n" + beginMarker + "\nx\n" + endMarker + "\n",
		"two blocks, one nested":     "---\na: 1\n# kept\nz: 2\n---\n" + beginMarker + "\n" + beginMarker + "\n" + endMarker + "\n" + endMarker + "\nbody\n" + beginMarker + "\nx\n" + endMarker + "\n",
	} {
		if got := string(mustParse(t, text).Content()); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestSimilar(t *testing.T) {
	for _, c := range []struct {
		name, a, b string
		want       bool
	}{
		{"equal texts", "hello", "hello", true},
		{"white space makes no difference", " a  b\n\tc ", "a b c", true},
		{"one begins with the other", "write a poem", "write a poem about rain and the sea today", true},
		{"cut inside a word", "write a po", "write a poem", true},
		{"an edit in the middle", "one two three four five six seven eight", "one two three four FIVE six seven eight nine ten", false},
		{"a small edit in a longer text", "one two three four five six seven eight nine", "one two three four five six seven eight NINE ten", true},
		{"half of the runs is not enough", "a b c x", "z a b c y", false},
		{"other texts", "write a poem about rain", "sum up this long report", false},
		{"two words are too short for runs", "alpha beta", "gamma alpha beta", false},
		{"an empty text is like nothing", "", "hello", false},
		{"two empty texts", "", " \n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if Similar(c.a, c.b) != c.want || Similar(c.b, c.a) != c.want {
				t.Errorf("want %v both ways", c.want)
			}
		})
	}
}

func TestSections(t *testing.T) {
	type inline = map[string]string
	for _, c := range []struct {
		name, body, preamble string
		want                 []Section
	}{
		{"no headings", "hello\n# one\n### three\n##no\n    ## code\n", "hello\n# one\n### three\n##no\n    ## code", nil},
		{"a preamble and two steps", "for all\n\n## One\nfirst\n\n## Two ##\n\nsecond\n### deeper\n", "for all",
			[]Section{{"One", 6, nil, "first"}, {"Two", 9, nil, "second\n### deeper"}}},
		{"no preamble and no text", "## One\n##\n   ## Three", "",
			[]Section{{"One", 4, nil, ""}, {"", 5, nil, ""}, {"Three", 6, nil, ""}}},
		{"headings in fences are text", "```go\n## a\n``\n```\n~~~~\n## b\n~~~\n## b\n~~~~ x\n~~~~\n## Real\n```\n## c", "```go\n## a\n``\n```\n~~~~\n## b\n~~~\n## b\n~~~~ x\n~~~~",
			[]Section{{"Real", 14, nil, "```\n## c"}}},
		{"inline code is no fence", "```a``` b\n## Real", "```a``` b", []Section{{"Real", 5, nil, ""}}},
		{"inline fields", "## One\n\nprovider:: davas\n\nModel::  llama3.2:3b \ntext\nmodel:: not taken\n", "",
			[]Section{{"One", 4, inline{"provider": "davas", "model": "llama3.2:3b"}, "text\nmodel:: not taken"}}},
		{"an unknown inline field is text", "## One\nnote:: x\nmodel::m\ntext", "",
			[]Section{{"One", 4, inline{"model": "m"}, "note:: x\ntext"}}},
		{"lines count on over our block", "a\n" + beginMarker + "\n## ours\n" + endMarker + "\n## One\nx", "a",
			[]Section{{"One", 8, nil, "x"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			preamble, got, err := mustParse(t, "---\na: 1\n---\n"+c.body).Sections()
			if err != nil {
				t.Fatal(err)
			}
			if preamble != c.preamble || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %q, %#v\nwant %q, %#v", preamble, got, c.preamble, c.want)
			}
		})
	}
	for name, c := range map[string]struct{ body, want string }{
		"set twice": {"## One\nmodel:: a\nmodel:: b\n", `line 6: key "model": is set twice under the heading of line 4`},
		"no value":  {"## One\n\nprovider::\n## Two", `line 6: key "provider": has no value`},
	} {
		_, _, err := mustParse(t, "---\na: 1\n---\n"+c.body).Sections()
		var e *Error
		if !errors.As(err, &e) || e.Error() != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
