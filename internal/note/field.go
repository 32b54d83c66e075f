package note

import (
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Field is a top level key of the frontmatter with its value. Its readers do
// not convert: a value of another type is an *Error with key and line.
type Field struct {
	Key   string
	Line  int // of the file, from 1
	value *yaml.Node
	end   int // index of the line after the field's last
}

// Null reports whether the key has no value ("key:", "key: null").
func (f Field) Null() bool { return null(f.value) }

// block reports whether the value is a text of several lines, after | or >.
func (f Field) block() bool {
	return f.value != nil && f.value.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
}

func null(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// String returns a scalar as text. A number, a date, or true and false are
// returned as they are written: `model: 7` and `id: 20261124` mean text.
func (f Field) String() (string, error) {
	if f.value.Kind != yaml.ScalarNode || null(f.value) {
		return "", f.mustBe("text")
	}
	return f.value.Value, nil
}

// Strings returns a list of scalars as text, or one scalar as a list of one.
// A key without a value is an empty list.
func (f Field) Strings() ([]string, error) {
	if f.Null() {
		return nil, nil
	}
	items := []*yaml.Node{f.value}
	if f.value.Kind == yaml.SequenceNode {
		items = f.value.Content
	}
	texts := make([]string, 0, len(items))
	for _, item := range items {
		if item.Kind != yaml.ScalarNode || null(item) {
			return nil, wrong(item.Line, f.Key, "has to be a list of texts, and one item is %s", describe(item))
		}
		texts = append(texts, item.Value)
	}
	return texts, nil
}

// Int returns a whole number, written in decimal. A leading zero does not make
// it octal.
func (f Field) Int() (int, error) {
	if f.value.Kind == yaml.ScalarNode && f.value.Tag == "!!int" {
		if i, err := strconv.Atoi(f.value.Value); err == nil {
			return i, nil
		}
	}
	return 0, f.mustBe("a whole number")
}

// Float returns a finite number, written in decimal.
func (f Field) Float() (float64, error) {
	if f.value.Kind == yaml.ScalarNode && (f.value.Tag == "!!int" || f.value.Tag == "!!float") {
		x, err := strconv.ParseFloat(f.value.Value, 64)
		if err == nil && !math.IsNaN(x) && !math.IsInf(x, 0) {
			return x, nil
		}
	}
	return 0, f.mustBe("a number")
}

// Bool returns true or false. The words yes, no, on and off are text in YAML
// 1.2 and in Obsidian, and are refused.
func (f Field) Bool() (bool, error) {
	if f.value.Kind == yaml.ScalarNode && f.value.Tag == "!!bool" {
		return strings.EqualFold(f.value.Value, "true"), nil
	}
	return false, f.mustBe("true or false")
}

func (f Field) mustBe(want string) error {
	return wrong(f.value.Line, f.Key, "has to be %s and is %s", want, describe(f.value))
}

// describe says what a value is, for an error text.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a set of keys"
	case null(n):
		return "empty"
	}
	text := []rune(n.Value)
	if len(text) > 40 {
		text = append(text[:40], '…')
	}
	if n.Tag == "!!str" {
		return "the text " + strconv.Quote(string(text))
	}
	return string(text)
}
