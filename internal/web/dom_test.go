package web

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// dom is a page as a browser reads it.
type dom struct {
	t    *testing.T
	root *html.Node
}

func parse(t *testing.T, text string) *dom {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return &dom{t, root}
}

// all returns the elements that a function chooses, in the page's order.
func (d *dom) all(choose func(*html.Node) bool) []*html.Node {
	var found []*html.Node
	for n := range d.root.Descendants() {
		if n.Type == html.ElementNode && choose(n) {
			found = append(found, n)
		}
	}
	return found
}

// id returns a part of the page, which must be there.
func (d *dom) id(id string) *dom {
	d.t.Helper()
	found := d.all(func(n *html.Node) bool { return attr(n, "id") == id })
	if len(found) != 1 {
		d.t.Fatalf("%d elements have the id %s", len(found), id)
	}
	return &dom{d.t, found[0]}
}

// class returns the elements of a class.
func (d *dom) class(class string) []*dom {
	var all []*dom
	for _, n := range d.all(func(n *html.Node) bool { return slices.Contains(strings.Fields(attr(n, "class")), class) }) {
		all = append(all, &dom{d.t, n})
	}
	return all
}

// field returns the form's control of a name.
func (d *dom) field(name string) *dom {
	d.t.Helper()
	found := d.all(func(n *html.Node) bool { return attr(n, "name") == name && n.Data != "meta" })
	if len(found) == 0 {
		d.t.Fatalf("there is no field %s", name)
	}
	return &dom{d.t, found[0]}
}

func (d *dom) attr(name string) string { return attr(d.root, name) }

func (d *dom) has(name string) bool {
	return slices.ContainsFunc(d.root.Attr, func(a html.Attribute) bool { return a.Key == name })
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// text is what a reader reads, with single spaces.
func (d *dom) text() string {
	var b strings.Builder
	for n := range d.root.Descendants() {
		if n.Type == html.TextNode {
			b.WriteString(n.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func (d *dom) says(words ...string) {
	d.t.Helper()
	text := d.text()
	for _, w := range words {
		if !strings.Contains(text, w) {
			d.t.Errorf("%q is missing in: %s", w, text)
		}
	}
}

func (d *dom) saysNot(words ...string) {
	d.t.Helper()
	text := d.text()
	for _, w := range words {
		if strings.Contains(text, w) {
			d.t.Errorf("%q stands in: %s", w, text)
		}
	}
}

// links are the addresses of all links and forms.
func (d *dom) links() []string {
	var all []string
	for _, n := range d.all(func(n *html.Node) bool { return n.Data == "a" || n.Data == "form" }) {
		all = append(all, attr(n, "href")+attr(n, "action"))
	}
	return all
}

// check holds for every page: nothing that the content policy forbids, ids once, and
// a name for every control.
func (d *dom) check() {
	d.t.Helper()
	ids := map[string]bool{}
	labels := map[string]bool{}
	for _, n := range d.all(func(n *html.Node) bool { return n.Data == "label" }) {
		labels[attr(n, "for")] = true
	}
	for _, n := range d.all(func(*html.Node) bool { return true }) {
		switch {
		case n.Data == "script" && (attr(n, "src") == "" || n.FirstChild != nil), n.Data == "style", n.Data == "img", n.Data == "iframe":
			d.t.Errorf("the page holds a %s: %v", n.Data, n.Attr)
		case (n.Data == "input" && attr(n, "type") != "hidden" && n.Parent.Data != "label") || n.Data == "select" || n.Data == "textarea":
			if !labels[attr(n, "id")] {
				d.t.Errorf("the field %s has no label", attr(n, "name"))
			}
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.HasPrefix(a.Key, "hx-on") || strings.HasPrefix(strings.ToLower(strings.TrimSpace(a.Val)), "javascript:") {
				d.t.Errorf("a %s has %s=%q", n.Data, a.Key, a.Val)
			}
		}
		if id := attr(n, "id"); id != "" {
			if ids[id] {
				d.t.Errorf("the id %s is there twice", id)
			}
			ids[id] = true
		}
	}
	for _, n := range d.all(func(n *html.Node) bool { return attr(n, "aria-describedby") != "" }) {
		for _, id := range strings.Fields(attr(n, "aria-describedby")) {
			if !ids[id] {
				d.t.Errorf("%s is described by %s, which is not there", attr(n, "name"), id)
			}
		}
	}
}
