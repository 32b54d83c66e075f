package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// syntaxError is a file that is no YAML document.
type syntaxError struct {
	line int
	text string
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// parse returns the one document in data, nil for an empty file. It does not
// expand aliases, so that its result is no larger than its input.
func parse(data []byte) (*yaml.Node, *syntaxError) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, next yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err == nil {
		if err = decoder.Decode(&next); errors.Is(err, io.EOF) {
			if len(document.Content) == 0 {
				return nil, nil
			}
			return document.Content[0], nil
		}
		if err == nil {
			return nil, &syntaxError{next.Line, "a second document is not read; put all keys into one"}
		}
	}
	text, line := err.Error(), 0
	if strings.HasPrefix(text, "yaml: unknown anchor") { // it goes on with a piece of a value
		return nil, &syntaxError{text: noAliases}
	}
	if found := yamlLine.FindStringSubmatch(text); found != nil {
		line, _ = strconv.Atoi(found[1]) // digits; 0, for no line, if they are too many
		text = strings.TrimPrefix(text, found[0])
	}
	// The decoder counts some lines from 0 and some from where a value began.
	return nil, &syntaxError{line, "is not YAML, here or on the next line: " + strings.TrimPrefix(text, "yaml: ")}
}

const noAliases = "YAML aliases (*name) are refused; write the value out, in quotes if it begins with *"

func (l *loader) refuseAliases(n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		l.failAt(n.Line, "", noAliases)
	}
	for _, c := range n.Content {
		l.refuseAliases(c)
	}
}

// group reads a mapping into keys.
func (l *loader) group(at place, n *yaml.Node, keys []key) {
	if n.Kind == yaml.AliasNode || isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode || tagged(n) {
		l.failAt(n.Line, at.path, "must be keys with values")
		return
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, content := n.Content[i], n.Content[i+1]
		if name.Kind == yaml.AliasNode {
			continue
		}
		to := at.key(shown(name.Value))
		if name.Kind != yaml.ScalarNode {
			l.failAt(name.Line, at.path, "a key must be a word")
			continue
		}
		if first, twice := seen[name.Value]; twice {
			l.failAt(name.Line, to.path, "is set twice, first in line %d", first)
			continue
		}
		seen[name.Value] = name.Line
		l.key(at, to, name, content, keys)
	}
}

// key reads what the file gives for one name of a group.
func (l *loader) key(at, to place, name, content *yaml.Node, keys []key) {
	for _, k := range keys {
		if k.secret != nil {
			if form, ok := strings.CutPrefix(name.Value, k.name+"_"); ok && (form == formEnv || form == formFile) {
				l.secretSource(at.key(k.name), to, k, form, content)
				return
			}
			if name.Value == k.name {
				l.failAt(name.Line, to.path, "is not written here; name its variable by %[1]s_env or its file by %[1]s_file", k.name)
				return
			}
			continue
		}
		if k.name == name.Value {
			l.content(to, k, name.Line, content)
			return
		}
	}
	l.failAt(name.Line, to.path, "is no key; %s", namesOf(keys))
}

func (l *loader) content(at place, k key, line int, n *yaml.Node) {
	if isEmpty(n) {
		return
	}
	if k.items == nil || n.Kind != yaml.SequenceNode || len(n.Content) > 0 {
		l.set[at.path] = origin{line: line}
	}
	switch {
	case k.keys != nil:
		l.group(at, n, k.keys)
	case k.items != nil, k.texts != nil:
		l.list(at, k, n)
	default:
		l.scalar(at, k.value, n)
	}
}

func (l *loader) scalar(at place, v value, n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		return
	}
	if n.Kind != yaml.ScalarNode || tagged(n) || !slices.Contains(v.tags, n.ShortTag()) || !v.set(n.Value) {
		l.failAt(n.Line, at.path, "must be %s", v.want)
	}
}

func (l *loader) list(at place, k key, n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		return
	}
	if n.Kind != yaml.SequenceNode || tagged(n) {
		l.failAt(n.Line, at.path, "must be a list")
		return
	}
	if k.texts != nil {
		*k.texts = make([]string, len(n.Content))
		for i, item := range n.Content {
			l.scalar(at.item(i), text(&(*k.texts)[i]), item)
		}
		return
	}
	for i, keys := range k.items(len(n.Content)) {
		to := at.item(i)
		l.set[to.path] = origin{line: n.Content[i].Line}
		standards(keys)
		l.group(to, n.Content[i], keys)
		if kind := n.Content[i].Kind; kind == yaml.MappingNode || isNull(n.Content[i]) {
			l.required(to, keys)
		}
	}
}

// required refuses what must be set and is not, unless it was refused before.
func (l *loader) required(at place, keys []key) {
	for _, k := range keys {
		to := at.key(k.name)
		if _, ok := l.set[to.path]; k.needed == always && !ok {
			text := "must be set"
			if at.path == "" && k.items == nil {
				text += ", here or by " + variable(to.path)
			}
			l.fail(to.path, "%s", text)
		}
	}
}

// isNull says that a key has nothing after its colon.
func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && !tagged(n) && n.ShortTag() == "!!null"
}

// isEmpty says that a key counts as not set: it has no value or an empty text.
func isEmpty(n *yaml.Node) bool {
	return isNull(n) || n.Kind == yaml.ScalarNode && n.Value == "" && !tagged(n)
}

// tagged says that n carries a type of its own, such as !!str, which would
// overrule what is written.
func tagged(n *yaml.Node) bool { return n.Style&yaml.TaggedStyle != 0 }

var word = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)

// shown is how a name from the file appears in an error.
func shown(name string) string {
	if word.MatchString(name) {
		return name
	}
	if r := []rune(name); len(r) > 40 {
		name = string(r[:40]) + "…"
	}
	return strconv.Quote(name)
}

func namesOf(keys []key) string {
	var names []string
	for _, k := range keys {
		if k.secret != nil {
			names = append(names, k.name+"_env", k.name+"_file")
			continue
		}
		names = append(names, k.name)
	}
	return "known here: " + strings.Join(names, ", ")
}
