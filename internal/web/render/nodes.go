package render

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/yuin/goldmark/ast"
	extensions "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/util"
)

// errFull ends the rendering of a text whose HTML is too large: a long address that
// is defined once can be referred to a hundred thousand times. It is for links and
// code; no other markup is more than six times as long as what it is written for.
var errFull = errors.New("the HTML is too large")

const mostURL = 2 << 10 // bytes; a link to a longer one is text

// RegisterFuncs names the nodes that are written otherwise than by goldmark.
func (r *Renderer) RegisterFuncs(reg renderer.NodeRendererFuncRegisterer) {
	reg.Register(ast.KindHeading, heading)
	reg.Register(ast.KindHTMLBlock, htmlBlock)
	reg.Register(ast.KindRawHTML, rawHTML)
	reg.Register(ast.KindLink, link)
	reg.Register(ast.KindImage, image)
	reg.Register(ast.KindAutoLink, autoLink)
	reg.Register(ast.KindFencedCodeBlock, r.codeBlock)
	reg.Register(ast.KindCodeBlock, r.codeBlock)
	reg.Register(extensions.KindTable, table)
	reg.Register(extensions.KindTaskCheckBox, taskCheckBox)
}

// heading leaves the first two levels to the page.
func heading(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	level := min(6, n.(*ast.Heading).Level+2)
	if entering {
		fmt.Fprintf(w, "<h%d>", level)
	} else {
		fmt.Fprintf(w, "</h%d>\n", level)
	}
	return ast.WalkContinue, nil
}

func htmlBlock(w util.BufWriter, source []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkSkipChildren, nil
	}
	n := node.(*ast.HTMLBlock)
	text := n.Lines().Value(source)
	if n.HasClosure() {
		text = append(text, n.ClosureLine.Value(source)...)
	}
	w.WriteString(`<p class="raw">`)
	w.Write(util.EscapeHTML(bytes.TrimRight(text, "\n")))
	w.WriteString("</p>\n")
	return ast.WalkSkipChildren, nil
}

// rawHTML shows a tag as text, but for the line break: models use it in tables,
// where markdown has none.
func rawHTML(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkSkipChildren, nil
	}
	tag := n.(*ast.RawHTML).Segments.Value(source)
	switch strings.ToLower(strings.ReplaceAll(string(tag), " ", "")) {
	case "<br>", "<br/>":
		w.WriteString("<br>")
	default:
		w.Write(util.EscapeHTML(tag))
	}
	return ast.WalkSkipChildren, nil
}

func link(w util.BufWriter, _ []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	p, n := w.(*page), node.(*ast.Link)
	if p.full() {
		return ast.WalkStop, errFull
	}
	address := written(n.Destination)
	switch {
	case !followed(address):
	case entering:
		p.openLink(address, "")
	default:
		p.closeLink()
	}
	return ast.WalkContinue, nil
}

// image writes a link to what would have been loaded, or the text that stands for
// it. A title is not shown: it could say anything about where the link goes.
func image(w util.BufWriter, source []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	p, n := w.(*page), node.(*ast.Image)
	if !entering {
		return ast.WalkSkipChildren, nil
	}
	if p.full() {
		return ast.WalkStop, errFull
	}
	address := written(n.Destination)
	label := words(n, source)
	if len(bytes.TrimSpace(label)) == 0 {
		label = n.Destination[:min(len(n.Destination), mostURL)]
	}
	remote := bytes.HasPrefix(bytes.ToLower(address), []byte("http"))
	linked := remote && !p.inLink && followed(address)
	if linked {
		p.openLink(address, "image")
	}
	p.Write(util.EscapeHTML(bytes.ToValidUTF8(label, nil)))
	if linked {
		p.closeLink()
	}
	return ast.WalkSkipChildren, nil
}

// words collects the text within a node.
func words(n ast.Node, source []byte) (text []byte) {
	_ = ast.Walk(n, func(at ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch at := at.(type) {
		case *ast.Text:
			text = append(text, util.UnescapePunctuations(util.ResolveEntityNames(
				util.ResolveNumericReferences(at.Value(source))))...)
			if at.SoftLineBreak() || at.HardLineBreak() {
				text = append(text, ' ')
			}
		case *ast.String:
			text = append(text, at.Value...)
		case *ast.AutoLink:
			text = append(text, at.Label(source)...)
		}
		return ast.WalkContinue, nil
	})
	return text
}

func autoLink(w util.BufWriter, source []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	p, n := w.(*page), node.(*ast.AutoLink)
	if !entering {
		return ast.WalkContinue, nil
	}
	if p.full() {
		return ast.WalkStop, errFull
	}
	address := n.URL(source)
	if n.AutoLinkType == ast.AutoLinkEmail && !bytes.HasPrefix(bytes.ToLower(address), []byte("mailto:")) {
		address = append([]byte("mailto:"), address...)
	}
	linked := !p.inLink && len(address) <= mostURL && followed(util.URLEscape(address, false))
	if linked {
		p.openLink(util.URLEscape(address, false), "")
	}
	p.Write(util.EscapeHTML(n.Label(source)))
	if linked {
		p.closeLink()
	}
	return ast.WalkContinue, nil
}

// openLink begins a link to an address that is followed. One on the web opens in a
// tab of its own; one to a program opens that.
func (p *page) openLink(address []byte, class string) {
	p.WriteString(`<a href="`)
	p.Write(util.EscapeHTML(address))
	p.WriteByte('"')
	if class != "" {
		p.WriteString(` class="` + class + `"`)
	}
	if bytes.HasPrefix(bytes.ToLower(address), []byte("http")) {
		p.WriteString(` target="_blank"`)
	}
	p.WriteString(` rel="noopener noreferrer nofollow">`)
	p.inLink = true
}

func (p *page) closeLink() {
	p.WriteString("</a>")
	p.inLink = false
}

// written is a link's address as HTML has it, nothing if it is too long.
func written(destination []byte) []byte {
	if len(destination) > mostURL {
		return nil
	}
	return util.URLEscape(destination, true)
}

// followed reports whether there is a link to an address.
func followed(address []byte) bool {
	u, err := url.Parse(string(address))
	return err == nil && schemes[u.Scheme] != nil && schemes[u.Scheme](u)
}

// schemes says of which URLs there are links, by their schemes. A browser reads
// http:name as a path on the page's own site; a name before an @ looks like the
// site that one goes to. Of Obsidian's own commands only the one that opens a note
// is taken: others write to the vault.
var schemes = map[string]func(*url.URL) bool{
	"http":     func(u *url.URL) bool { return u.Hostname() != "" && u.User == nil },
	"https":    func(u *url.URL) bool { return u.Hostname() != "" && u.User == nil },
	"mailto":   func(u *url.URL) bool { return strings.Contains(u.Opaque, "@") },
	"obsidian": func(u *url.URL) bool { return u.Host == "open" && u.Path == "" },
}

// table is in a box that scrolls by itself, by keyboard too.
func table(w util.BufWriter, _ []byte, _ ast.Node, entering bool) (ast.WalkStatus, error) {
	if entering {
		w.WriteString("<div class=\"table\" tabindex=\"0\"><table>\n")
	} else {
		w.WriteString("</table></div>\n")
	}
	return ast.WalkContinue, nil
}

// taskCheckBox is a character: a box that cannot be ticked is no form's.
func taskCheckBox(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	switch {
	case !entering:
	case n.(*extensions.TaskCheckBox).IsChecked:
		w.WriteString(`<span class="task">☑</span> `)
	default:
		w.WriteString(`<span class="task">☐</span> `)
	}
	return ast.WalkContinue, nil
}
