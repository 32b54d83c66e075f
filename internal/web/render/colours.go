package render

import (
	"fmt"
	"io"

	"github.com/alecthomas/chroma/v2"
)

// colour is what one kind of token looks like on a light and on a dark page. Each
// stands out from its ground as WCAG 2 asks for at level AA, 4.5 to 1.
type colour struct {
	kind        chroma.TokenType
	light, dark string
}

// ground is that of all code: its background, and the colour of plain text on it.
var ground = struct{ light, dark, textLight, textDark string }{"#f6f8f7", "#171c1b", "#1f2328", "#e6e8eb"}

// colours has the few kinds that help to read; the others look like plain text, or
// like the wider kind that they belong to.
var colours = []colour{
	{chroma.Comment, "#59636e", "#9198a1"},
	{chroma.Keyword, "#b3202c", "#ff8a80"},
	{chroma.KeywordConstant, "#0550ae", "#79c0ff"},
	{chroma.KeywordType, "#8a3800", "#ffb173"},
	{chroma.NameAttribute, "#0550ae", "#79c0ff"},
	{chroma.NameBuiltin, "#0550ae", "#79c0ff"},
	{chroma.NameClass, "#8a3800", "#ffb173"},
	{chroma.NameConstant, "#0550ae", "#79c0ff"},
	{chroma.NameDecorator, "#6639ba", "#d2a8ff"},
	{chroma.NameFunction, "#6639ba", "#d2a8ff"},
	{chroma.NameTag, "#116329", "#7ee787"},
	{chroma.LiteralNumber, "#0550ae", "#79c0ff"},
	{chroma.LiteralString, "#0a3069", "#a5d6ff"},
	{chroma.GenericDeleted, "#a40e26", "#ffa198"},
	{chroma.GenericHeading, "#0550ae", "#79c0ff"},
	{chroma.GenericInserted, "#116329", "#7ee787"},
	{chroma.GenericPrompt, "#59636e", "#9198a1"},
	{chroma.GenericSubheading, "#6639ba", "#d2a8ff"},
}

// classesByKind names the class of each kind that has a colour, as the library
// names it.
func classesByKind() map[chroma.TokenType]string {
	classes := make(map[chroma.TokenType]string)
	for _, c := range colours {
		classes[c.kind] = chroma.StandardTypes[c.kind]
	}
	return classes
}

// class is that of the kind, or of the narrowest kind around it that has one, or
// "" for plain text.
func (r *Renderer) class(kind chroma.TokenType) string {
	for _, at := range []chroma.TokenType{kind, kind.SubCategory(), kind.Category()} {
		if name := r.classes[at]; name != "" {
			return name
		}
	}
	return ""
}

// Classes writes the style sheet of the classes that HTML gives to code.
func Classes(w io.Writer) error {
	_, err := fmt.Fprint(w, "/* Written by the tests of internal/web/render: go test -update. */\n\n", sheet("light",
		ground.textLight, ground.light, func(c colour) string { return c.light }), "\n", sheet("dark",
		ground.textDark, ground.dark, func(c colour) string { return c.dark }))
	return err
}

func sheet(scheme, text, background string, of func(colour) string) string {
	rules := fmt.Sprintf("@media (prefers-color-scheme: %s) {\n  .chroma { color: %s; background: %s }\n", scheme, text, background)
	for _, c := range colours {
		rules += fmt.Sprintf("  .chroma .%s { color: %s }\n", chroma.StandardTypes[c.kind], of(c))
	}
	return rules + "}\n"
}
