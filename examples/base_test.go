package examples_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"davidcockson.com/runner/examples"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/queue"
)

// base is a .base file: help.obsidian.md, "Bases syntax"; the sort of a view and
// the parts of groupBy as obsidian.d.ts names them, BasesSortConfig.
type base struct {
	Filters    filter            `yaml:"filters"`
	Formulas   map[string]string `yaml:"formulas"`
	Properties map[string]struct {
		DisplayName string `yaml:"displayName"`
	} `yaml:"properties"`
	Summaries map[string]string `yaml:"summaries"`
	Views     []view            `yaml:"views"`
}

type view struct {
	Type      string            `yaml:"type"`
	Name      string            `yaml:"name"`
	Limit     int               `yaml:"limit"`
	Filters   filter            `yaml:"filters"`
	GroupBy   *sorting          `yaml:"groupBy"`
	Order     []string          `yaml:"order"`
	Sort      []sorting         `yaml:"sort"`
	Summaries map[string]string `yaml:"summaries"`
}

type sorting struct {
	Property  string `yaml:"property"`
	Direction string `yaml:"direction"`
}

// filter holds the statements of a filter: one, or a list under and, or, or not.
type filter []string

func (f *filter) UnmarshalYAML(n *yaml.Node) error {
	switch n.Kind {
	case yaml.ScalarNode:
		*f = append(*f, n.Value)
		return nil
	case yaml.MappingNode:
		if len(n.Content) != 2 || !slices.Contains([]string{"and", "or", "not"}, n.Content[0].Value) || n.Content[1].Kind != yaml.SequenceNode {
			return fmt.Errorf("line %d: a filter is a statement, or a list under one of and, or, not", n.Line)
		}
		for _, item := range n.Content[1].Content {
			if err := f.UnmarshalYAML(item); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("line %d: no filter", n.Line)
}

func readBase(t *testing.T) base {
	t.Helper()
	b, err := parseBase(readExample(t, "runner-examples/Runner.base"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parseBase(text string) (base, error) {
	var b base
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	return b, d.Decode(&b)
}

func TestBase(t *testing.T) {
	b := readBase(t)
	known := propertyTypes(t)
	faults := check(b, known)
	for _, fault := range faults {
		t.Error(fault)
	}
	var names []string
	for _, v := range b.Views {
		names = append(names, v.Name)
	}
	if want := []string{"Waiting", "Running", "Failed", "Done by week", "Answers"}; !slices.Equal(names, want) {
		t.Errorf("the views are %q, want %q", names, want)
	}
}

// The check of the base can fail.
func TestCheckOfABase(t *testing.T) {
	const begin = "views:\n  - type: table\n    name: A\n    order: [file.name]\n"
	for _, row := range []struct{ name, text, want string }{
		{"all that is used is there", begin, ""},
		{"a field that Bases does not have", begin + "    columns: [a]\n", "field columns not found"},
		{"two conjunctions in one filter", begin + "    filters: {and: [a], or: [b]}\n", "list under one of and"},
		{"a property that no note of ours has", begin + "    filters: 'state == \"done\"'\n", `"state" is no property`},
		{"a column that no note of ours has", "views:\n  - type: table\n    name: A\n    order: [note.state]\n", `"note.state" is no property`},
		{"a property of files that there is not", begin + "    filters: file.age > 1\n", `"file.age" is no property`},
		{"a function that there is not", begin + "    filters: file.inFolders(\"_queue\")\n", `inFolders() is no function`},
		{"a formula that is not written", begin + "    groupBy: {property: formula.week, direction: ASC}\n", `"formula.week" is no property`},
		{"a direction that there is not", begin + "    sort: [{property: file.name, direction: UP}]\n", `no direction "UP"`},
		{"a folder that is not the queue's", begin + "    filters: file.inFolder(\"queue\")\n", `"queue" is no folder`},
		{"a name that is displayed of nothing", begin + "properties:\n  state:\n    displayName: State\n", `"state" is no property`},
		{"a layout that there is not", "views:\n  - type: grid\n    name: A\n    order: [file.name]\n", `no layout "grid"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			b, err := parseBase(row.text)
			faults := check(b, map[string]string{"status": "text"})
			if err != nil {
				faults = append(faults, err.Error())
			}
			if got := strings.Join(faults, "\n"); (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
				t.Errorf("faults %q, want %q", got, row.want)
			}
		})
	}
}

var (
	// Functions and properties of files as help.obsidian.md names them, "Functions"
	// and "Bases syntax"; those that the base may use.
	functions      = []string{"if", "date", "format", "inFolder", "hasProperty", "isEmpty", "contains"}
	fileProperties = []string{"ext", "folder", "name", "path", "size", "ctime", "mtime", "tags", "links"}
	layouts        = []string{"table", "cards", "list"}

	literals = regexp.MustCompile(`"[^"]*"|'[^']*'`)
	names    = regexp.MustCompile(`\.?[A-Za-z_][A-Za-z0-9_.]*\(?`)
)

// check says what a base names that is not there, given the properties of notes.
func check(b base, known map[string]string) (faults []string) {
	property := func(name string) {
		kind, rest, dotted := strings.Cut(name, ".")
		ok := false
		switch {
		case !dotted:
			_, ok = known[name]
		case kind == "note":
			_, ok = known[rest]
		case kind == "file":
			ok = slices.Contains(fileProperties, rest)
		case kind == "formula":
			_, ok = b.Formulas[rest]
		}
		if !ok {
			faults = append(faults, fmt.Sprintf("%q is no property", name))
		}
	}
	expression := func(text string) {
		for _, literal := range literals.FindAllString(text, -1) {
			if strings.Contains(text, "inFolder("+literal) || strings.Contains(text, "file.folder == "+literal) {
				if folder := literal[1 : len(literal)-1]; !slices.Contains(queue.Folders(), folder) {
					faults = append(faults, fmt.Sprintf("%q is no folder of the queue", folder))
				}
			}
		}
		for _, name := range names.FindAllString(literals.ReplaceAllString(text, " "), -1) {
			called, isCall := strings.CutSuffix(name, "(")
			if !isCall {
				property(name)
				continue
			}
			if f := called[strings.LastIndex(called, ".")+1:]; !slices.Contains(functions, f) {
				faults = append(faults, fmt.Sprintf("%s() is no function", f))
			}
		}
	}
	for _, statement := range b.Filters {
		expression(statement)
	}
	for _, formula := range b.Formulas {
		expression(formula)
	}
	for name := range b.Properties {
		property(name)
	}
	for _, v := range b.Views {
		if !slices.Contains(layouts, v.Type) {
			faults = append(faults, fmt.Sprintf("no layout %q", v.Type))
		}
		if v.Name == "" || len(v.Order) == 0 {
			faults = append(faults, "a view has no name or no columns")
		}
		for _, statement := range v.Filters {
			expression(statement)
		}
		for _, name := range v.Order {
			property(name)
		}
		sorts := v.Sort
		if v.GroupBy != nil {
			sorts = append(sorts[:len(sorts):len(sorts)], *v.GroupBy)
		}
		for _, s := range sorts {
			property(s.Property)
			if s.Direction != "ASC" && s.Direction != "DESC" {
				faults = append(faults, fmt.Sprintf("no direction %q", s.Direction))
			}
		}
	}
	return faults
}

// propertyTypes reads the types of our properties, strictly.
func propertyTypes(t *testing.T) map[string]string {
	t.Helper()
	var file struct {
		Types map[string]string `json:"types"`
	}
	d := json.NewDecoder(strings.NewReader(readExample(t, examples.PropertyTypes)))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	return file.Types
}

// Each property that a job note can have, or that we write into one, has a type,
// the one that the documentation tells; no other has but those of output notes.
// That those have the types which are written is tested where notes are answered.
func TestPropertyTypes(t *testing.T) {
	types := propertyTypes(t)
	page, err := os.ReadFile(filepath.Join("..", "docs", "job-notes.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, keys, ok := strings.Cut(string(page), "\n## Keys\n")
	keys, rest, ok2 := strings.Cut(keys, "\n## ")
	_, outputs, ok3 := strings.Cut(rest, "\n## What comes back\n")
	if !ok || !ok2 || !ok3 {
		t.Fatal("docs/job-notes.md has no section Keys, or none of What comes back")
	}
	words := map[string]string{"text": "text", "checkbox": "checkbox", "number": "number", "date & time": "datetime", "list": "multitext"}
	told := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z &]+) \\|").FindAllStringSubmatch(keys, -1) {
		key, want := row[1], words[row[2]]
		if key == "tags" {
			want = "tags" // a type of its own (help.obsidian.md, Properties)
		}
		if want == "" || types[key] != want {
			t.Errorf("%s is %q, and docs/job-notes.md says %s", key, types[key], row[2])
		}
		told[key] = true
	}
	for _, key := range note.OwnedKeys() {
		if types[key] == "" {
			t.Errorf("%s, which we write into notes, has no type", key)
		}
		told[key] = true
	}
	for key := range types {
		switch {
		case told[key]:
			if !isJobKey(t, key) {
				t.Errorf("%s is no key of a job note", key)
			}
		case !strings.Contains(outputs, "`"+key+"`"):
			t.Errorf("%s has a type, and docs/job-notes.md does not tell of it", key)
		}
	}
	every, err := note.Parse([]byte(fill(readExample(t, coreFolder+"/Runner text with every key.md"))))
	if err != nil {
		t.Fatal(err)
	}
	in := make(map[string]bool)
	for _, f := range every.Fields() {
		in[f.Key] = true
		if types[f.Key] == "" {
			t.Errorf("%s, which a template has, has no type", f.Key)
		}
	}
	for key := range maps.Keys(told) {
		if !in[key] && !slices.Contains(note.OwnedKeys(), key) {
			t.Errorf("the template with every key lacks %s", key)
		}
	}
}

// isJobKey asks the reader of job notes whether it knows a key: it takes the value,
// or says what is wrong with it.
func isJobKey(t *testing.T, key string) bool {
	t.Helper()
	text := "---\njob_type: text\n" + key + ": 0\n---\n\nHello.\n"
	if key == "job_type" {
		text = "---\njob_type: 0\n---\n\nHello.\n"
	}
	n, err := note.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := job.Read(n, rules)
	if bad, ok := errors.AsType[*note.Error](err); ok {
		return bad.Key == key
	}
	return err == nil && !slices.Contains(spec.Unknown, key)
}

// What is embedded is what lies here, dot files included.
func TestAllIsEmbedded(t *testing.T) {
	count := 0
	err := fs.WalkDir(os.DirFS("vault"), ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		count++
		here, err := os.ReadFile(filepath.Join("vault", filepath.FromSlash(file)))
		if err == nil && !bytes.Equal(here, []byte(readExample(t, file))) {
			t.Errorf("%s is embedded otherwise", file)
		}
		return err
	})
	if err != nil || count != len(exampleFiles(t)) {
		t.Errorf("%d files lie here, %d are embedded (%v)", count, len(exampleFiles(t)), err)
	}
}
