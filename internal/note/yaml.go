package note

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	maxDepth  = 20
	maxValues = 10_000
	// maxSearch bounds the frontmatter in which the line of a YAML error is
	// searched for, as the search reads it several times over.
	maxSearch = 8 << 10
)

// readFields reads the lines between the two "---". Its error is an *Error.
func readFields(lines []string) ([]Field, error) {
	text := strings.Join(lines, "")
	if len(text) > MaxFrontmatter {
		return nil, wrong(1, "", "the frontmatter has %d bytes, more than the %d that are read", len(text), MaxFrontmatter)
	}
	if err := checkLines(lines); err != nil {
		return nil, err
	}
	root, err := decode(text)
	if err != nil {
		line, reason := explain(lines, err)
		return nil, wrong(line, "", "the frontmatter is not valid YAML: %s", reason)
	}
	if root == nil {
		return nil, onlyComments(lines)
	}
	if root.Kind != yaml.MappingNode || root.Style&yaml.FlowStyle != 0 {
		return nil, wrong(2, "", "the frontmatter has to be lines of the form \"key: value\"")
	}
	c := checker{}
	if err := c.check(root, 1, ""); err != nil {
		return nil, err
	}
	if err := onlyComments(lines[:root.Content[0].Line-2]); err != nil {
		return nil, err
	}
	return cutFields(lines, root)
}

// checkLines refuses what makes a line of YAML differ from a line of the file:
// YAML knows more line breaks than LF and CRLF, ends a document at "..." and
// skips a byte order mark at the start of a line.
func checkLines(lines []string) *Error {
	for i, line := range lines {
		rest := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if at := strings.IndexAny(rest, "\r\u0085\u2028\u2029\ufeff"); at >= 0 {
			r := []rune(rest[at:])[0]
			return wrong(i+2, "", "the frontmatter holds the invisible character %U: delete it", r)
		}
		for _, mark := range []string{"...", fence} {
			if after, ok := strings.CutPrefix(rest, mark); ok && (after == "" || after[0] == ' ' || after[0] == '\t') {
				return wrong(i+2, "", "a line of the frontmatter may not start with %q: only a line %s alone ends it", mark, fence)
			}
		}
	}
	return nil
}

func onlyComments(lines []string) error {
	for i, line := range lines {
		if line = strings.Trim(line, blank); line != "" && line[0] != '#' {
			return wrong(i+2, "", "the frontmatter has to be lines of the form \"key: value\"")
		}
	}
	return nil
}

// decode returns the one value of a YAML text, nil if there is none. The
// library reports some faults by panicking; those are errors here.
func decode(text string) (root *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			root, err = nil, fmt.Errorf("%v", p)
		}
	}()
	decoder := yaml.NewDecoder(strings.NewReader(text))
	var document, second yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := decoder.Decode(&second); err == nil {
		return nil, errors.New("more than one document")
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return document.Content[0], nil
}

var yamlPrefix = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// explain returns the file line and the reason of an error of decode. The
// library's own line is that of the enclosing value, often far above the
// fault, so the line is searched for: the first after which the same fault
// shows.
func explain(lines []string, cause error) (line int, reason string) {
	reason = yamlPrefix.ReplaceAllString(cause.Error(), "")
	size := 0
	for _, l := range lines {
		size += len(l)
	}
	if size > maxSearch {
		if at := yamlPrefix.FindStringSubmatch(cause.Error()); at != nil {
			_, _ = fmt.Sscan(at[1], &line)
		}
		if line > 0 {
			line++
		}
		return line, reason
	}
	fails := func(n int) bool {
		_, err := decode(strings.Join(lines[:n], ""))
		return err != nil && yamlPrefix.ReplaceAllString(err.Error(), "") == reason
	}
	low, high := 0, len(lines) // fails(high) holds
	for high-low > 1 {
		if middle := (low + high) / 2; fails(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high + 1, reason
}

// checker bounds a YAML value and turns its line numbers into those of the file.
type checker struct{ values int }

func (c *checker) check(n *yaml.Node, depth int, key string) error {
	n.Line++ // the opening "---" is line 1
	c.values++
	switch {
	case c.values > maxValues:
		return wrong(n.Line, key, "the frontmatter holds more than %d values", maxValues)
	case depth > maxDepth:
		return wrong(n.Line, key, "is nested more than %d deep", maxDepth)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return wrong(n.Line, key, "YAML anchors and aliases (&, *) are not allowed")
	case n.Style&yaml.TaggedStyle != 0:
		return wrong(n.Line, key, "YAML tags (%s) are not allowed", n.Tag)
	case n.Kind != yaml.MappingNode:
		for _, item := range n.Content {
			if err := c.check(item, depth+1, key); err != nil {
				return err
			}
		}
		return nil
	}
	return c.checkMapping(n, depth, key)
}

func (c *checker) checkMapping(n *yaml.Node, depth int, key string) error {
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		top := key
		if depth == 1 {
			top = name.Value
		}
		if err := c.check(name, depth, top); err != nil {
			return err
		}
		if name.Tag == "!!merge" {
			return wrong(name.Line, "", "YAML merge keys (<<) are not allowed")
		}
		if name.Kind != yaml.ScalarNode || name.Tag != "!!str" {
			return wrong(name.Line, top, "a key has to be text: put it in quotes")
		}
		if first, ok := seen[name.Value]; ok {
			return wrong(name.Line, name.Value, "is already set on line %d: delete one of the two", first)
		}
		seen[name.Value] = name.Line
		if err := c.check(value, depth+1, top); err != nil {
			return err
		}
	}
	return nil
}

// cutFields finds the lines of each top level key. It insists that a key
// starts its line, as the lines are what Annotate replaces.
func cutFields(lines []string, root *yaml.Node) ([]Field, error) {
	fields := make([]Field, 0, len(root.Content)/2)
	for i := 0; i < len(root.Content); i += 2 {
		name, value := root.Content[i], root.Content[i+1]
		if line := lines[name.Line-2]; indent(line) != name.Column-1 {
			return nil, wrong(name.Line, name.Value, "has to stand at the start of its line, as \"key: value\"")
		}
		end := len(lines) + 1
		if i+2 < len(root.Content) {
			end = root.Content[i+2].Line - 1
		}
		f := Field{Key: name.Value, Line: name.Line, value: value}
		f.end = trimComments(lines, f, end)
		fields = append(fields, f)
	}
	return fields, nil
}

// trimComments returns the end of a field whose lines reach at most to end:
// blank lines and comments after its value belong to nobody. In a block scalar
// a "#" as deep as its text is text.
func trimComments(lines []string, f Field, end int) int {
	text := func(i int) string { return lines[i-1] } // lines[0] is line 2 of the file, index 1
	block := f.value.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
	depth := 0
	for i := f.Line; block && i < end; i++ {
		if strings.Trim(text(i), blank) != "" {
			depth = indent(text(i))
			break
		}
	}
	for ; end > f.Line; end-- {
		line := text(end - 1)
		trimmed := strings.Trim(line, blank)
		comment := strings.HasPrefix(trimmed, "#") && (!block || indent(line) < depth)
		if trimmed != "" && !comment {
			break
		}
	}
	return end
}

func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
