package render

import (
	"errors"
	"strings"

	"github.com/alecthomas/chroma/v2"
	"github.com/alecthomas/chroma/v2/lexers"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/util"
)

// languages are those that are highlighted. The library knows some 280; each that
// is used once stays in memory with its expressions, so a text could load them all.
var languages = []string{
	"Bash", "C", "C#", "C++", "CSS", "Caddyfile", "Clojure", "CMake", "CSV", "Dart", "Diff", "Docker",
	"Elixir", "Erlang", "Fish", "Go", "GraphQL", "Groovy", "Haskell", "HCL", "HTML", "INI", "Java",
	"JavaScript", "JSON", "Julia", "Kotlin", "Lua", "Makefile", "markdown", "Nginx configuration file",
	"Nix", "OCaml", "Perl", "PHP", "PowerShell", "properties", "Protocol Buffer", "Python", "R", "Ruby",
	"Rust", "Scala", "SQL", "Swift", "systemd", "Terraform", "TOML", "TypeScript", "XML", "YAML", "Zig",
	"JSX", "vue", "Bash Session",
}

// lexersByWord finds a language by its name, by another name that the library has
// for it, and by the ending of its files.
func lexersByWord() map[string]chroma.Lexer {
	byWord := make(map[string]chroma.Lexer)
	add := func(word string, lexer chroma.Lexer) {
		if word = strings.ToLower(word); byWord[word] == nil {
			byWord[word] = lexer
		}
	}
	for _, name := range languages {
		lexer := lexers.Get(name)
		add(name, lexer)
		for _, alias := range lexer.Config().Aliases {
			add(alias, lexer)
		}
	}
	for _, name := range languages {
		lexer := lexers.Get(name)
		for _, pattern := range lexer.Config().Filenames {
			if ending, ok := strings.CutPrefix(pattern, "*."); ok {
				add(ending, lexer)
			}
		}
	}
	return byWord
}

func (r *Renderer) codeBlock(w util.BufWriter, source []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkSkipChildren, nil
	}
	p, word := w.(*page), ""
	if p.full() {
		return ast.WalkStop, errFull
	}
	if n, ok := node.(*ast.FencedCodeBlock); ok {
		word = string(n.Language(source))
	}
	code := string(node.Lines().Value(source))
	p.WriteString(`<div class="code"><div class="code-bar"><span class="code-lang">`)
	if len(word) <= 32 {
		p.Write(util.EscapeHTML([]byte(word)))
	}
	p.WriteString(`</span><button type="button" class="copy">Copy</button></div>` +
		`<pre class="chroma" tabindex="0"><code>`)
	tokens, err := r.highlight(p, word, code)
	if err != nil {
		tokens = []chroma.Token{{Type: chroma.Text, Value: code}}
	}
	r.writeTokens(p, tokens)
	p.WriteString("</code></pre></div>\n")
	return ast.WalkSkipChildren, nil
}

var errPlain = errors.New("the code is not highlighted")

// highlight splits code into tokens. It fails if there is no lexer for the word, if
// the text's share of bytes or time is used up, and if the lexer fails, panics or
// does not return the very code.
func (r *Renderer) highlight(p *page, word, code string) (tokens []chroma.Token, err error) {
	lexer := r.lexers[strings.ToLower(word)]
	if lexer == nil || len(code) > p.codeLeft {
		return nil, errPlain
	}
	p.codeLeft -= len(code)
	defer func() {
		if recover() != nil {
			err = errPlain
		}
	}()
	next, err := lexer.Tokenise(nil, code)
	if err != nil {
		return nil, err
	}
	rest := code
	for token := next(); token != chroma.EOF; token = next() {
		var ok bool
		if rest, ok = strings.CutPrefix(rest, token.Value); !ok || r.now().After(p.until) {
			return nil, errPlain
		}
		tokens = append(tokens, token)
	}
	if rest != "" {
		return nil, errPlain
	}
	return tokens, nil
}

// writeTokens writes neighbours of one class as one: the markup is most of the
// output.
func (r *Renderer) writeTokens(p *page, tokens []chroma.Token) {
	open := ""
	for _, token := range append(tokens, chroma.EOF) {
		name := r.class(token.Type)
		blank := strings.TrimSpace(token.Value) == "" && token != chroma.EOF
		if name != open && !blank {
			if open != "" {
				p.WriteString("</span>")
			}
			if name != "" {
				p.WriteString(`<span class="` + name + `">`)
			}
			open = name
		}
		p.Write(util.EscapeHTML([]byte(token.Value)))
	}
}
