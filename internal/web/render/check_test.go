package render

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// payloads are texts that try to get something into a page, as the browser's test
// uses them too: one after another, with lines of %% between them.
func payloads(t testing.TB) []string {
	t.Helper()
	file, err := os.ReadFile("testdata/payloads.txt")
	if err != nil {
		t.Fatal(err)
	}
	texts := strings.Split(strings.TrimSuffix(string(file), "\n"), "\n%%\n")
	if len(texts) < 100 {
		t.Fatalf("%d payloads were read", len(texts))
	}
	return texts
}

// allowed has the attributes of each element that may be in the HTML, and their
// values where these are fixed.
var allowed = map[string]map[string][]string{
	"p": {"class": {"raw"}}, "br": {}, "hr": {}, "h3": {}, "h4": {}, "h5": {}, "h6": {},
	"strong": {}, "em": {}, "del": {}, "blockquote": {}, "ul": {}, "ol": {"start": nil}, "li": {},
	"pre":  {"class": {"chroma"}, "tabindex": {"0"}},
	"code": {}, "table": {}, "thead": {}, "tbody": {}, "tr": {},
	"th": {"align": {"left", "center", "right"}}, "td": {"align": {"left", "center", "right"}},
	"div":    {"class": {"code", "code-bar", "table", "plain"}, "tabindex": {"0"}},
	"span":   {"class": nil},
	"button": {"type": {"button"}, "class": {"copy"}},
	"a": {"href": nil, "class": {"image"}, "target": {"_blank"},
		"rel": nil},
}

// unsafe says what is in the HTML, as a browser's parser sees it, that must not be.
func unsafe(shown string) error {
	body := &html.Node{Type: html.ElementNode, DataAtom: atom.Article, Data: "article"}
	nodes, err := html.ParseFragment(strings.NewReader(shown), body)
	if err != nil {
		return unsafeTags(shown) // nested deeper than this parser goes
	}
	for _, top := range nodes {
		if err := unsafeNode(top, nil); err != nil {
			return err
		}
	}
	return unsafeTags(shown)
}

func unsafeNode(n *html.Node, within []string) error {
	switch n.Type {
	case html.TextNode:
		return nil
	case html.ElementNode:
	default:
		return fmt.Errorf("a node that is neither element nor text: %q", n.Data)
	}
	if n.Namespace != "" {
		return fmt.Errorf("an element of %s", n.Namespace)
	}
	if n.Data == "a" && slices.Contains(within, "a") {
		return fmt.Errorf("a link within a link")
	}
	if err := unsafeElement(n.Data, n.Attr); err != nil {
		return err
	}
	within = append(within, n.Data)
	for child := range n.ChildNodes() {
		if err := unsafeNode(child, within); err != nil {
			return err
		}
	}
	return nil
}

// unsafeTags looks at the tags as they are written, so that it does not depend on
// where a parser would put or drop them.
func unsafeTags(shown string) error {
	for z := html.NewTokenizer(strings.NewReader(shown)); ; {
		switch z.Next() {
		case html.ErrorToken:
			return nil
		case html.TextToken:
		case html.StartTagToken, html.EndTagToken:
			token := z.Token()
			if err := unsafeElement(token.Data, token.Attr); err != nil {
				return err
			}
		default:
			return fmt.Errorf("a token %q", z.Token())
		}
	}
}

func unsafeElement(name string, attributes []html.Attribute) error {
	known, ok := allowed[name]
	if !ok {
		return fmt.Errorf("an element <%s>", name)
	}
	for _, a := range attributes {
		values, ok := known[a.Key]
		if !ok || a.Namespace != "" || values != nil && !slices.Contains(values, a.Val) {
			return fmt.Errorf("an attribute %s=%q of <%s>", a.Key, a.Val, name)
		}
	}
	if name == "a" && len(attributes) > 0 {
		return unsafeLink(attributes)
	}
	return nil
}

func unsafeLink(attributes []html.Attribute) error {
	var (
		href, rel string
		blank     bool
	)
	for _, a := range attributes {
		switch a.Key {
		case "href":
			href = a.Val
		case "rel":
			rel = a.Val
		case "target":
			blank = true
		}
	}
	u, err := url.Parse(href)
	switch {
	case err != nil:
		return fmt.Errorf("a link to %q: %w", href, err)
	case !strings.Contains(rel, "noreferrer") || !strings.Contains(rel, "nofollow") || blank && !strings.Contains(rel, "noopener"):
		return fmt.Errorf("a link to %q with rel %q", href, rel)
	case strings.ContainsFunc(href, func(c rune) bool { return c <= ' ' }):
		return fmt.Errorf("a link to %q, which has blanks", href)
	case u.Scheme == "https" && u.Host != "", u.Scheme == "http" && u.Host != "", u.Scheme == "mailto",
		u.Scheme == "obsidian" && u.Host == "open":
		return nil
	}
	return fmt.Errorf("a link to %q", href)
}

func TestTheCheckFindsWhatMustNotBeThere(t *testing.T) {
	for _, bad := range []string{
		"<script>x</script>", "<p onclick=x>", "<p style=x>", "<form>", "<iframe>", "<object>", "<embed>", "<img>",
		"<svg></svg>", "<math></math>", "<base>", "<meta>", "<link>", "<input>", "<p id=x>", "<!-- x -->", "<h1>",
		`<a href="javascript:x" rel="noopener noreferrer nofollow">`, `<a href="https://a.example">`,
		`<a href="/x" rel="noopener noreferrer nofollow">`, `<button formaction=x>`, `<p class="notice">`,
		`<a href="https:x" rel="noopener noreferrer nofollow">`, `<a rel="noopener noreferrer nofollow">x</a>`,
		`<a href="obsidian://new?x" rel="noopener noreferrer nofollow">`, `<a hx-get="/x">`,
	} {
		if unsafe(bad) == nil {
			t.Errorf("%s passed", bad)
		}
	}
}
