// Package render turns the markdown of a model, a note or a provider into HTML
// that a page may show as it is.
//
// The text is hostile. Whatever it says, the HTML has no script, no handler, no
// style, no form, no frame, no image and no id; links go to https, http, mailto
// and Obsidian notes alone and say nothing of where they were followed from; HTML
// in the text is shown as text. Nothing is loaded by showing it: an image becomes
// a link. The whole text is parsed, then its code is highlighted by classes, then
// the result is sanitised by a policy that knows only what this package writes.
//
// Work and output are bounded: nesting, links and table cells beyond what people
// write stay text, much or slow code stays plain, and what is too long, too large
// when rendered, or makes a library panic is shown as escaped text. Nothing is
// stored and nothing fails.
package render

import (
	"bytes"
	"html"
	"html/template"
	"strings"
	"time"

	"github.com/alecthomas/chroma/v2"
	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
)

const (
	mostText   = 1 << 20   // bytes of markdown; more is shown as text
	mostOutput = 8 << 20   // bytes of HTML, about; more, and the text is shown as it is
	mostCode   = 100 << 10 // bytes of code that are highlighted in one text
	// mostLexing is for the code of one text together.
	mostLexing = 500 * time.Millisecond
)

// Renderer renders markdown. It is made by New, once for a process, and is safe
// for concurrent use.
type Renderer struct {
	markdown goldmark.Markdown
	lexers   map[string]chroma.Lexer // by the word after the fence, in lower case
	classes  map[chroma.TokenType]string
	policy   *bluemonday.Policy
	now      func() time.Time
}

// New makes a Renderer, which takes some milliseconds.
func New() *Renderer {
	r := &Renderer{lexers: lexersByWord(), classes: classesByKind(), policy: newPolicy(), now: time.Now}
	r.markdown = newMarkdown(r)
	return r
}

// HTML renders a whole text. Bytes that are not UTF-8, control characters and
// those that reorder the text around them are shown as U+FFFD.
func (r *Renderer) HTML(text string) (shown template.HTML) {
	text = clean(text)
	if len(text) > mostText {
		return plain(text)
	}
	defer func() {
		if recover() != nil { // of a library, on this text
			shown = plain(text)
		}
	}()
	p := &page{codeLeft: mostCode, until: r.now().Add(mostLexing)}
	if r.markdown.Convert([]byte(text), p) != nil {
		return plain(text)
	}
	return template.HTML(r.policy.SanitizeBytes(p.Bytes()))
}

// plain shows a text as it was written.
func plain(text string) template.HTML {
	return template.HTML(`<div class="plain">` + html.EscapeString(text) + `</div>`)
}

// clean replaces what shows nothing or makes a text look like another one: the
// embeddings, overrides and isolates of Unicode's bidirectional algorithm (UAX #9)
// can show code in another order than it runs in.
func clean(text string) string {
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\n', c == '\t':
			return c
		case c < ' ', c >= 0x7f && c < 0xa0, c >= 0x202a && c <= 0x202e, c >= 0x2066 && c <= 0x2069:
			return '\uFFFD'
		}
		return c
	}, text)
}

// page is one text's HTML while it is written. It is goldmark's util.BufWriter,
// which hands it on to the node renderers as it is.
type page struct {
	bytes.Buffer
	codeLeft int       // bytes that may still be highlighted
	until    time.Time // when highlighting ends
	inLink   bool      // inside an <a>, which must not hold another
}

// Buffered and Flush have nothing to do: the buffer is the page itself.
func (p *page) Buffered() int { return 0 }
func (p *page) Flush() error  { return nil }

func (p *page) full() bool { return p.Len() > mostOutput }
