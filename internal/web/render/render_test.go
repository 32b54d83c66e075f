package render

import (
	"bytes"
	"flag"
	"html/template"
	"math"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/chroma/v2"
)

var update = flag.Bool("update", false, "write ../static/syntax.css anew")

const rel = ` rel="noopener noreferrer nofollow">`

func TestMarkdown(t *testing.T) {
	const (
		web     = ` target="_blank"` + rel
		bar     = `</span><button type="button" class="copy">Copy</button></div><pre class="chroma" tabindex="0"><code>`
		code    = `<div class="code"><div class="code-bar"><span class="code-lang">`
		codeEnd = "</code></pre></div>\n"
	)
	for _, row := range []struct{ name, text, want string }{
		{"nothing is nothing", "", ""},
		{"a paragraph", "Hello & <you>.", "<p>Hello &amp; &lt;you&gt;.</p>\n"},
		{"emphasis", "*a* **b** ~~c~~ `d`", "<p><em>a</em> <strong>b</strong> <del>c</del> <code>d</code></p>\n"},
		{"a line's end breaks the line", "a\r\nb", "<p>a<br>\nb</p>\n"},
		{"the page keeps the first two headings", "# a\n\n## b\n\n###### c", "<h3>a</h3>\n<h4>b</h4>\n<h6>c</h6>\n"},
		{"headings get no ids", "# composer {#composer}", "<h3>composer {#composer}</h3>\n"},
		{"a quote", "> a", "<blockquote>\n<p>a</p>\n</blockquote>\n"},
		{"a list that does not begin with one", "3. a\n4. b", "<ol start=\"3\">\n<li>a</li>\n<li>b</li>\n</ol>\n"},
		{"a rule", "---", "<hr>\n"},
		{"tasks are characters", "- [x] a\n- [ ] b",
			"<ul>\n<li><span class=\"task\">☑</span> a</li>\n<li><span class=\"task\">☐</span> b</li>\n</ul>\n"},
		{"a table, aligned", "|a|b|\n|-|-:|\n|1|2|", "<div class=\"table\" tabindex=\"0\"><table>\n<thead>\n<tr>\n<th>a</th>\n" +
			"<th align=\"right\">b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>1</td>\n<td align=\"right\">2</td>\n</tr>\n</tbody>\n</table></div>\n"},
		{"a link on the web opens a tab", "[a](https://a.example/b?c=d&e)",
			`<p><a href="https://a.example/b?c=d&amp;e"` + web + "a</a></p>\n"},
		{"a link's title is not shown", `[a](https://a.example "b")`, `<p><a href="https://a.example"` + web + "a</a></p>\n"},
		{"a link by reference", "[a]\n\n[a]: http://a.example", `<p><a href="http://a.example"` + web + "a</a></p>\n"},
		{"a note in Obsidian", "[a](obsidian://open?vault=V&file=a%2Fb)",
			`<p><a href="obsidian://open?vault=V&amp;file=a%2Fb"` + rel + "a</a></p>\n"},
		{"Obsidian's other commands are text", "[a](obsidian://new?vault=V)", "<p>a</p>\n"},
		{"a link to mail", "[a](mailto:a@b.example)", `<p><a href="mailto:a@b.example"` + rel + "a</a></p>\n"},
		{"a bare address", "See https://a.example/b.", `<p>See <a href="https://a.example/b"` + web + "https://a.example/b</a>.</p>\n"},
		{"a bare address of mail", "a@b.example", `<p><a href="mailto:a@b.example"` + rel + "a@b.example</a></p>\n"},
		{"a bare address of another scheme is text", "ftp://a.example/b", "<p>ftp://a.example/b</p>\n"},
		{"a link to this site is text", "[a](/queue) [b](#c) [d](//e.example)", "<p>a b d</p>\n"},
		{"a link that hides its host is text", "[a](https://bank.example@evil.example)", "<p>a</p>\n"},
		{"a link to a very long address is text", "[a](https://a.example/" + strings.Repeat("b", mostURL) + ")", "<p>a</p>\n"},
		{"a remote image is a link to it", `![a *b*](https://a.example/b.png "c")`,
			`<p><a href="https://a.example/b.png" class="image"` + web + "a b</a></p>\n"},
		{"an image without words shows its address", "![](https://a.example/b.png)",
			`<p><a href="https://a.example/b.png" class="image"` + web + "https://a.example/b.png</a></p>\n"},
		{"a local image is its words", "![a](b.png) ![c](data:image/png;base64,d) ![e](obsidian://open?vault=V)", "<p>a c e</p>\n"},
		{"an image in a link is its words", "[![a](https://a.example/b.png)](https://c.example)",
			`<p><a href="https://c.example"` + web + "a</a></p>\n"},
		{"HTML is text", "<div class=\"a\">\n*b*\n</div>\n\nc <b>d</b>",
			"<p class=\"raw\">&lt;div class=&#34;a&#34;&gt;\n*b*\n&lt;/div&gt;</p>\n<p>c &lt;b&gt;d&lt;/b&gt;</p>\n"},
		{"HTML that ends on a line of its own is whole", "<!-- a\n\n-->\nb", "<p class=\"raw\">&lt;!-- a\n\n--&gt;</p>\n<p>b</p>\n"},
		{"a line break is one in HTML too", "a<br>b<BR />c", "<p>a<br>b<br>c</p>\n"},
		{"code has its language and a button", "```go\nx := nil // y\n```",
			code + "go" + bar + `x := <span class="kc">nil </span><span class="c">// y` + "\n</span>" + codeEnd},
		{"a language by its file's ending", "```yml\na: 1\n```",
			code + "yml" + bar + `<span class="nt">a</span>: <span class="m">1` + "\n</span>" + codeEnd},
		{"an unknown language is plain", "```nonsense\nif <a>\n```", code + "nonsense" + bar + "if &lt;a&gt;\n" + codeEnd},
		{"code without a language", "    if <a>", code + bar + "if &lt;a&gt;\n" + codeEnd},
		{"a fence that is not closed", "```go\nif", code + "go" + bar + `<span class="k">if` + "\n</span>" + codeEnd},
		{"what reorders text is shown", "a\u202eb\u2066c\x01d\x85e\xff", "<p>a\ufffdb\ufffdc\ufffdd\ufffde\ufffd</p>\n"},
		{"emoji and marks of direction stay", "👩\u200d💻 \u200fא", "<p>👩\u200d💻 \u200fא</p>\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := New().HTML(row.text); string(got) != row.want {
				t.Errorf("got\n%s\nwant\n%s", got, row.want)
			}
		})
	}
}

func TestNothingHostileGetsThrough(t *testing.T) {
	r := New()
	for _, text := range payloads(t) {
		for _, around := range []string{"%", "- %", "> %", "a\n\n%\n\nb", "**%**", "[%](https://a.example)", "| % |\n|--|\n| % |", "```\n%"} {
			if err := unsafe(string(r.HTML(strings.ReplaceAll(around, "%", text)))); err != nil {
				t.Errorf("%q in %q: %v", text, around, err)
			}
		}
	}
}

func TestTheSanitiserAloneLetsNothingThrough(t *testing.T) {
	r := New()
	for _, text := range payloads(t) {
		if err := unsafe(r.policy.Sanitize(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestLargeTextsAreBounded(t *testing.T) {
	repeat := func(s string) string { return strings.Repeat(s, 64<<10/len(s)) }
	r := New()
	for _, row := range []struct {
		name, text, within string
		most               int // how often within may be in the HTML
	}{
		{"quotes within quotes", repeat("> "), "<blockquote>", mostNesting},
		{"lists within lists", repeat("1. "), "<ol>", mostNesting},
		{"brackets", repeat("[a]("), "<a ", 0},
		{"links in one paragraph", repeat("[a](obsidian://open?file=b) "), "<a ", mostLinks},
		{"definitions", repeat("[a]: obsidian://open\n") + "\n[a]", "<a ", 0},
		{"many uses of a long address", "[a]: http://a.example/" + strings.Repeat("b", 2000) + "\n\n" + repeat("[a]\n\n"), "<a ", 0},
		{"many uses of a very long address", "[a]: http://a.example/" + repeat("b") + "\n\n" + repeat("[a]\n\n"), "<a ", 0},
		{"a wide table of short rows", strings.Repeat("|a", 1000) + "|\n" + strings.Repeat("|-", 1000) + "|\n" + strings.Repeat("b\n", 2000), "<td>", 0},
		{"a table of too many cells", strings.Repeat("|a", 200) + "|\n" + strings.Repeat("|-", 200) + "|\n" + strings.Repeat("b\n", 300), "<td>", 0},
		{"many blocks of code", strings.Repeat("```\n```\n", 100<<10), "<pre", mostOutput / 150},
		{"many tables", strings.Repeat(strings.Repeat("|a", 100)+"|\n"+strings.Repeat("|-", 100)+"|\n"+strings.Repeat("b\n", 100)+"\n", 100), "<td>", mostCells},
		{"highlighted code", strings.Repeat("```go\n"+strings.Repeat("nil\n", 5000)+"```\n", 10), "<span class=\"kc\">", mostCode / 4},
		{"much code in one block", "```go\n" + strings.Repeat("nil\n", mostCode/4+1), "<span class=\"kc\">", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			shown := string(r.HTML(row.text))
			if got := strings.Count(shown, row.within); got > row.most {
				t.Errorf("%s is in it %d times, want at most %d", row.within, got, row.most)
			}
			if len(shown) > 2*mostOutput {
				t.Errorf("the HTML has %d bytes", len(shown))
			}
			if err := unsafe(shown); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestATextOverOneMiBIsShownAsItIs(t *testing.T) {
	text := strings.Repeat("**a** <b> ", mostText/10+1)
	if got := New().HTML(text); got != plain(text) {
		t.Errorf("got %.60s", got)
	}
	if got := New().HTML(text[:mostText]); !strings.HasPrefix(string(got), "<p><strong>") {
		t.Errorf("a text of 1 MiB: got %.60s", got)
	}
}

// faulty is a lexer that does something else than to split the text.
type faulty struct {
	chroma.Lexer
	next func() chroma.Token
}

func (f faulty) Tokenise(*chroma.TokeniseOptions, string) (chroma.Iterator, error) {
	return f.next, nil
}

func TestAFaultyLexerLeavesCodePlain(t *testing.T) {
	now := time.Now()
	for _, row := range []struct {
		name string
		next func() chroma.Token
	}{
		{"it loses text", func() chroma.Token { return chroma.EOF }},
		{"it invents text", func() chroma.Token { return chroma.Token{Type: chroma.Keyword, Value: "<script>"} }},
		{"it panics", func() chroma.Token { panic("a state that is not there") }},
		{"it never ends", func() chroma.Token {
			now = now.Add(time.Millisecond)
			return chroma.Token{Type: chroma.Keyword}
		}},
		{"it is slow", func() chroma.Token {
			now = now.Add(2 * mostLexing)
			return chroma.Token{Type: chroma.Keyword, Value: "a <b>\n"}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := New()
			r.now = func() time.Time { return now }
			r.lexers["faulty"] = faulty{next: row.next}
			want := strings.Replace(string(r.HTML("```\na <b>\n```")), `code-lang">`, `code-lang">faulty`, 1)
			if got := string(r.HTML("```faulty\na <b>\n```")); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestALibrarysPanicShowsTheTextAsItIs(t *testing.T) {
	r := New()
	r.policy = nil
	if got, want := r.HTML("**a** <b>"), template.HTML(`<div class="plain">**a** &lt;b&gt;</div>`); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestOneRendererServesManyAtOnce(t *testing.T) {
	r, texts := New(), payloads(t)
	want := make([]template.HTML, len(texts))
	for i, text := range texts {
		want[i] = r.HTML(text)
	}
	shared := New()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i, text := range texts {
				if got := shared.HTML(text); got != want[i] {
					t.Errorf("%q: got %s, alone %s", text, got, want[i])
				}
			}
		})
	}
	wg.Wait()
}

func TestEveryLanguageKeepsTheCode(t *testing.T) {
	const code = "def f(a, b) -> \"<x y='1'>\": # é\n\t\treturn {a: [1.5e3, nil]}; // /* \\ */ <!-- --> 'q' `t` ${v} @m ?>\n\n"
	r := New()
	for _, name := range languages {
		if r.lexers[strings.ToLower(name)] == nil {
			t.Errorf("%s has no lexer", name)
			continue
		}
		p := &page{codeLeft: mostCode, until: time.Now().Add(time.Hour)}
		if _, err := r.highlight(p, name, code); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheStyleSheetIsWhatTheRendererUses(t *testing.T) {
	var want bytes.Buffer
	if err := Classes(&want); err != nil {
		t.Fatal(err)
	}
	const file = "../static/syntax.css"
	if *update {
		if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s is not what Classes writes: go test -update", file)
	}
}

// The formula is WCAG 2's.
func TestCodeStandsOutFromItsGround(t *testing.T) {
	contrast := func(a, b string) float64 {
		l, m := chroma.MustParseColour(a), chroma.MustParseColour(b)
		light, dark := luminance(l), luminance(m)
		return (max(light, dark) + 0.05) / (min(light, dark) + 0.05)
	}
	check := func(what, text, background string) {
		if got := contrast(text, background); got < 4.5 {
			t.Errorf("%s: %s on %s is %.2f to 1", what, text, background, got)
		}
	}
	check("light text", ground.textLight, ground.light)
	check("dark text", ground.textDark, ground.dark)
	for _, c := range colours {
		check(c.kind.String()+", light", c.light, ground.light)
		check(c.kind.String()+", dark", c.dark, ground.dark)
	}
}

func luminance(c chroma.Colour) float64 {
	linear := func(channel uint8) float64 {
		v := float64(channel) / 255
		if v <= 0.03928 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c.Red()) + 0.7152*linear(c.Green()) + 0.0722*linear(c.Blue())
}

func FuzzHTML(f *testing.F) {
	for _, text := range payloads(f) {
		f.Add(text)
	}
	r := New()
	f.Fuzz(func(t *testing.T, text string) {
		if err := unsafe(string(r.HTML(text))); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkHTML(b *testing.B) {
	part := "## A heading\n\nSome words with *emphasis*, `code` and a [link](https://a.example/b), and more of them.\n\n" +
		"- one\n- two\n\n```go\nfunc add(a, b int) int {\n\treturn a + b // the sum\n}\n```\n\n"
	text := strings.Repeat(part, 4<<10/len(part)+1)[:4<<10]
	r := New()
	r.HTML(text)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		r.HTML(text)
	}
}
