package render

import (
	"bytes"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// goldmark's time grows with the square of these, its memory with the product of a
// table's columns and rows.
const (
	mostNesting    = 32       // quotes and lists within one another
	mostLinks      = 256      // opening brackets in one paragraph, heading or cell
	mostReferences = 1 << 10  // lines of a paragraph that begins with a link's definition
	mostCells      = 32 << 10 // of all tables of one text
)

// newMarkdown is GitHub's flavour: tables, strikethrough, task lists, bare links.
// A line's end breaks the line, as it does on GitHub's comments and in Obsidian.
// Heading ids are not made, since a page has ids of its own.
func newMarkdown(r *Renderer) goldmark.Markdown {
	return goldmark.New(
		goldmark.WithParser(parser.NewParser(
			parser.WithBlockParsers(
				util.Prioritized(parser.NewSetextHeadingParser(), 100),
				util.Prioritized(parser.NewThematicBreakParser(), 200),
				util.Prioritized(nested{parser.NewListParser()}, 300),
				util.Prioritized(parser.NewListItemParser(), 400),
				util.Prioritized(parser.NewCodeBlockParser(), 500),
				util.Prioritized(parser.NewATXHeadingParser(), 600),
				util.Prioritized(parser.NewFencedCodeBlockParser(), 700),
				util.Prioritized(nested{parser.NewBlockquoteParser()}, 800),
				util.Prioritized(parser.NewHTMLBlockParser(), 900),
				util.Prioritized(parser.NewParagraphParser(), 1000),
			),
			parser.WithInlineParsers(
				util.Prioritized(extension.NewTaskCheckBoxParser(), 0),
				util.Prioritized(parser.NewCodeSpanParser(), 100),
				util.Prioritized(links{parser.NewLinkParser().(linkParser)}, 200),
				util.Prioritized(parser.NewAutoLinkParser(), 300),
				util.Prioritized(parser.NewRawHTMLParser(), 400),
				util.Prioritized(parser.NewEmphasisParser(), 500),
			),
			parser.WithParagraphTransformers(
				util.Prioritized(references{parser.LinkReferenceParagraphTransformer}, 100),
				util.Prioritized(tables{extension.NewTableParagraphTransformer()}, 200),
			),
			parser.WithASTTransformers(util.Prioritized(extension.NewTableASTTransformer(), 0)),
		)),
		goldmark.WithExtensions(
			extension.Strikethrough,
			extension.NewLinkify(extension.WithLinkifyAllowedProtocols([]string{"https:", "http:"})),
		),
		goldmark.WithRendererOptions(
			html.WithHardWraps(),
			renderer.WithNodeRenderers(
				util.Prioritized(extension.NewTableHTMLRenderer(
					extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)), 500),
				util.Prioritized(r, 100),
			),
		),
	)
}

// nested opens no block where enough are open already; its mark stays text.
type nested struct{ parser.BlockParser }

func (n nested) Open(parent ast.Node, reader text.Reader, pc parser.Context) (ast.Node, parser.State) {
	depth := 0
	for at := parent; at != nil; at = at.Parent() {
		depth++
	}
	if depth > mostNesting {
		return nil, parser.NoChildren
	}
	return n.BlockParser.Open(parent, reader, pc)
}

// linkParser is what goldmark's parser of links is.
type linkParser interface {
	parser.InlineParser
	parser.CloseBlocker
}

// links takes no opening bracket after the first mostLinks of a block.
type links struct{ linkParser }

func (l links) Parse(parent ast.Node, block text.Reader, pc parser.Context) ast.Node {
	if line, _ := block.PeekLine(); line[0] == '[' || bytes.HasPrefix(line, []byte("![")) {
		opened, _ := pc.Get(linksKey).(int)
		if opened >= mostLinks {
			return nil
		}
		pc.Set(linksKey, opened+1)
	}
	return l.linkParser.Parse(parent, block, pc)
}

func (l links) CloseBlock(parent ast.Node, block text.Reader, pc parser.Context) {
	pc.Set(linksKey, 0)
	l.linkParser.CloseBlock(parent, block, pc)
}

// references takes no definitions from a paragraph of too many lines.
type references struct{ parser.ParagraphTransformer }

func (r references) Transform(node *ast.Paragraph, reader text.Reader, pc parser.Context) {
	if node.Lines().Len() <= mostReferences {
		r.ParagraphTransformer.Transform(node, reader, pc)
	}
}

// tables leaves a paragraph as it is if the text's tables would become too large
// with it: a short row is filled up to the width of the head.
type tables struct{ parser.ParagraphTransformer }

func (t tables) Transform(node *ast.Paragraph, reader text.Reader, pc parser.Context) {
	lines, columns := node.Lines(), 0
	for i := range lines.Len() {
		segment := lines.At(i)
		line := segment.Value(reader.Source())
		if len(bytes.Trim(line, " \t\n|:-")) == 0 { // what may be below a table's head
			columns = max(columns, 1+bytes.Count(line, []byte("|")))
		}
	}
	cells, _ := pc.Get(cellsKey).(int)
	if cells += lines.Len() * columns; cells > mostCells {
		return
	}
	pc.Set(cellsKey, cells)
	t.ParagraphTransformer.Transform(node, reader, pc)
}

var (
	linksKey = parser.NewContextKey()
	cellsKey = parser.NewContextKey()
)
