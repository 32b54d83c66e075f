package render

import (
	"regexp"

	"github.com/microcosm-cc/bluemonday"
)

// newPolicy allows what this package writes and nothing else, so that a fault in
// the markdown parser or the highlighter has nothing to gain.
func newPolicy() *bluemonday.Policy {
	exactly := func(expression string) *regexp.Regexp {
		return regexp.MustCompile(`\A(?:` + expression + `)\z`)
	}
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "h3", "h4", "h5", "h6", "strong", "em", "del", "blockquote",
		"ul", "ol", "li", "pre", "code", "div", "span", "table", "thead", "tbody", "tr", "th", "td")
	p.AllowAttrs("class").Matching(exactly("raw")).OnElements("p")
	p.AllowAttrs("start").Matching(exactly("[0-9]{1,9}")).OnElements("ol")
	p.AllowAttrs("align").Matching(exactly("left|center|right")).OnElements("th", "td")
	p.AllowAttrs("class").Matching(exactly("code|code-bar|table")).OnElements("div")
	p.AllowAttrs("class").Matching(exactly("code-lang|task|[a-z][a-z0-9]{0,2}")).OnElements("span")
	p.AllowAttrs("class").Matching(exactly("chroma")).OnElements("pre")
	p.AllowAttrs("tabindex").Matching(exactly("0")).OnElements("pre", "div")
	p.AllowAttrs("type").Matching(exactly("button")).OnElements("button")
	p.AllowAttrs("class").Matching(exactly("copy")).OnElements("button")

	p.AllowAttrs("href").OnElements("a")
	p.AllowAttrs("class").Matching(exactly("image")).OnElements("a")
	p.AllowAttrs("target").Matching(exactly("_blank")).OnElements("a")
	p.AllowAttrs("rel").Matching(exactly("noopener noreferrer nofollow")).OnElements("a")
	p.RequireParseableURLs(true)
	p.AllowRelativeURLs(false)
	for scheme, followed := range schemes {
		p.AllowURLSchemeWithCustomPolicy(scheme, followed)
	}
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnLinks(true)
	return p
}
