package note

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var seeds = []string{
	"", "---", "---\n---\n", "---\na: 1\n---\nbody\n", "\ufeff---\r\na: 1\r\n---\r\nbody\r\n",
	"---\nstatus: |\n  x\n  # y\n # z\na: 1 # c\n---\nb\n\n%% runner: begin %%\nx\n%% runner: end %%\n",
	"---\n  \"status\": 'a\n   b'\n  z: [1,\n  2]\n---\n## One\nmodel:: m\n```\n## no\n```\n",
	"---\nrun:\n- a\n# c\n- b\n\n# d\n---\n%% runner: begin %%\n%% runner: begin %%\n%% runner: end %%\n",
	"---\na: >+\n  x\n\nerror: \"\n# not a comment\"\n---",
	"%% runner: begin %%\n%% runner: end %%\n---\na: &x [*x]\n---\n", "---\n? a\n: {<<: b}\n...\n--- c\n---\n\x00\xff",
}

func FuzzParse(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := Parse(data)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Reason == "" || e.Line < 0 || e.Line > bytes.Count(data, []byte("\n"))+1 {
				t.Fatalf("error %#v", err)
			}
			return
		}
		body, content := n.Body(), string(n.Content())
		if body != strings.TrimRight(body, blank) || strings.HasPrefix(body, "\n") || n.BodyLine() < 3 {
			t.Errorf("body %q on line %d is not trimmed", body, n.BodyLine())
		}
		again := mustParse(t, content)
		if got := string(again.Content()); got != content {
			t.Errorf("content of the content %q, want %q", got, content)
		}
		if got := again.Body(); got != body {
			t.Errorf("body of the content %q, want %q", got, body)
		}
		for _, field := range n.Fields() {
			if field.end < field.Line || field.end >= n.file.body {
				t.Errorf("%s ends at %d", field.Key, field.end)
			}
			_, _ = field.Int()
			_, _ = field.Float()
			_, _ = field.Strings()
		}
		_, _, _ = n.Sections()
	})
}

func FuzzAnnotate(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed), "failed", "[[a]]", "> [!failure]\n> x", uint8(7))
		f.Add([]byte(seed), "a\nb", "yes", "", uint8(2))
	}
	f.Fuzz(func(t *testing.T, data []byte, status, output, callout string, which uint8) {
		var fields []KV
		for i, kv := range []KV{{"status", status}, {"output", output}, {"attempts", 3}, {"error", status + output}} {
			if which&(1<<i) != 0 {
				fields = append(fields, kv)
			}
		}
		checkAnnotated(t, data, Annotate(data, fields, callout), fields, callout)
	})
}

// checkAnnotated checks all that Annotate promises.
func checkAnnotated(t *testing.T, data, got []byte, fields []KV, callout string) {
	t.Helper()
	if again := Annotate(got, fields, callout); !bytes.Equal(again, got) {
		t.Errorf("annotating again turns\n%q into\n%q", got, again)
	}
	marked := bytes.Contains(data, []byte("%% runner: "))
	before, err := Parse(data)
	if err != nil {
		if !marked && !bytes.HasPrefix(got, data) {
			t.Errorf("a note that cannot be read was changed: %q", got)
		}
		return
	}
	after, err := Parse(got)
	if err != nil {
		t.Fatalf("%q became %q, which cannot be read: %v", data, got, err)
	}
	if want := before.Content(); !bytes.Equal(after.Content(), want) {
		t.Errorf("content %q, want %q", after.Content(), want)
	}
	if after.Body() != before.Body() {
		t.Errorf("body %q, want %q", after.Body(), before.Body())
	}
	// The lines of the user, counted without the package's own idea of them.
	if !marked {
		_, rest := head(data)
		if _, body := head(got); !bytes.HasPrefix(body, rest) {
			t.Errorf("body bytes %q, want them to begin with %q", body, rest)
		}
	}
	foreign := func(f Field) bool { return !slices.Contains(OwnedKeys(), f.Key) }
	if !slices.ContainsFunc(before.Fields(), func(f Field) bool { return !foreign(f) }) {
		first, _ := head(data)
		if cut, _ := head(got); !bytes.HasPrefix(cut, first) {
			t.Errorf("frontmatter %q, want it to begin with %q", cut, first)
		}
	}
	var old, kept []string
	for _, f := range before.Fields() {
		if foreign(f) {
			old = append(old, f.Key+dump(f.value))
		}
	}
	for _, f := range after.Fields() {
		if foreign(f) {
			kept = append(kept, f.Key+dump(f.value))
		}
	}
	if !slices.Equal(old, kept) {
		t.Errorf("fields %q, want %q", kept, old)
	}
	if len(data)+len(callout) > MaxFrontmatter/2 {
		return // what is too large may be left out
	}
	for _, key := range OwnedKeys() {
		var want *KV
		for _, kv := range fields {
			if kv.Key == key {
				want = &kv
			}
		}
		f, ok := after.Field(key)
		// It stays, empty, where a comment below it would become text of a block above it.
		if ok && want == nil && f.Null() {
			at := slices.IndexFunc(after.Fields(), func(f Field) bool { return f.Key == key })
			if at > 0 && after.Fields()[at-1].block() {
				continue
			}
		}
		if ok != (want != nil) {
			if len(Frontmatter(fields)) < MaxFrontmatter/2 {
				t.Errorf("key %s is there: %v", key, ok)
			}
			continue
		}
		if !ok {
			continue
		}
		if text, isText := want.Value.(string); isText {
			if got, err := f.String(); err != nil || got != string([]rune(text)) {
				t.Errorf("key %s holds %q, %v; want %q", key, got, err, text)
			}
		}
	}
}

// head cuts a readable note before the line that closes its frontmatter.
func head(data []byte) (front, rest []byte) {
	at := bytes.IndexByte(data, '\n') + 1
	for {
		line, _, _ := bytes.Cut(data[at:], []byte("\n"))
		if bytes.HasPrefix(line, []byte("---")) && len(bytes.Trim(line[3:], " \t\r")) == 0 {
			return data[:at], data[at:]
		}
		at += len(line) + 1
	}
}

func dump(n *yaml.Node) string {
	text := "(" + n.Tag + " " + n.Value
	for _, item := range n.Content {
		text += dump(item)
	}
	return text + ")"
}

// bombs are frontmatters of the largest size that cost a YAML reader most.
func bombs() map[string]string {
	fill := func(text string) string { return strings.Repeat(text, (MaxFrontmatter-16)/len(text)) }
	return map[string]string{
		"brackets": fill("["), "braces": fill("{"), "keys in braces": "a: " + fill("{a: "), "dashes": fill("- "), "question marks": fill("?\n"),
		"items": "a:\n" + fill("- x\n"), "flow items": "a: [" + fill("1,"), "commented items": "a: [" + fill(" #\n1,"),
		"comments": "a: 1\n" + fill("# c\n"), "commented keys": fill("a: 1 # c\n#x\n"), "blank lines": fill("\n"),
		"escapes": "a: \"" + fill(`\x41`) + `"`, "anchors": fill("&a "), "aliases": "a: &a [" + fill("*a,") + "]",
		"deep lines": fill("- " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "\n"), "a long text": "a: " + fill("x"),
	}
}

func TestBombsStayWithinSixtyFourMiB(t *testing.T) {
	for name, bomb := range bombs() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = Parse([]byte("---\n" + bomb + "\n---\nbody\n"))
		runtime.ReadMemStats(&after)
		if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 64 {
			t.Errorf("%s: %d MiB", name, used)
		}
	}
}

func BenchmarkParseBombs(b *testing.B) {
	for name, bomb := range bombs() {
		data := []byte("---\n" + bomb + "\n---\nbody\n")
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, _ = Parse(data)
			}
		})
	}
}

func TestTenThousandMutatedNotes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"---\n", "\n", "a: ", "- ", "  ", "\t", "\"", "'", "|\n", ">\n", "[", "]", "{", "}", "#", "&a ", "*a", "!!x ", "<<: ", "...\n",
		"status: ", "\r\n", "\ufeff", "\x00", "\xff", "🚀", ": ", "? ", "%", "`", beginMarker + "\n", endMarker + "\n"}
	refused := 0
	for range 10_000 {
		data := []byte(seeds[random.IntN(len(seeds))])
		for range 1 + random.IntN(4) {
			at := random.IntN(len(data) + 1)
			data = slices.Insert(data, at, []byte(pieces[random.IntN(len(pieces))])...)
		}
		if _, err := Parse(data); err != nil {
			refused++
		}
		fields := []KV{{"status", "failed"}, {"error", "x: y"}}
		checkAnnotated(t, data, Annotate(data, fields, "> x"), fields, "> x")
		if t.Failed() {
			t.Fatalf("with %q", data)
		}
	}
	if refused < 1000 {
		t.Errorf("only %d of 10000 were malformed", refused)
	}
}

func BenchmarkSectionsOfALargeBody(b *testing.B) {
	n, err := Parse([]byte("---\na: 1\n---\n" + strings.Repeat("a\n", 500_000)))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		_, _, _ = n.Sections()
	}
}
