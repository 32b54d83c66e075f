// Package examples_test holds the job notes that people copy, those of this
// folder and those in the documentation, to the rules that the program reads them
// by: a draft until its owner unticks it, and then a valid job.
package examples_test

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"davidcockson.com/runner/examples"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
)

// rules are those of a configuration as the documentation shows it.
var rules = job.Rules{Providers: []job.ProviderRule{
	{Name: "davas", Models: []string{"gemma4:12b"}},
	{Name: "attic"},
	{Name: "echo", Models: []string{"echo", "slow", "cut", "busy", "silent"}},
}}

const (
	coreFolder      = examples.Templates
	templaterFolder = "runner-examples/Templater"
	quickAddFolder  = "runner-examples/QuickAdd"
)

func TestTemplates(t *testing.T) {
	// The line with the id, as each plugin writes a moment.
	ids := map[string]string{
		coreFolder:      `id: '{{date:YYYYMMDD}}{{time:HHmmss}}'`,
		templaterFolder: `id: '<% tp.date.now("YYYYMMDDHHmmss") %>'`,
		quickAddFolder:  `id: '{{DATE:YYYYMMDDHHmmss}}'`,
	}
	types := map[string]job.Type{
		coreFolder + "/Runner text.md":                      job.Text,
		coreFolder + "/Runner text with every key.md":       job.Text,
		coreFolder + "/Runner chain.md":                     job.Chain,
		coreFolder + "/Runner research.md":                  job.Research,
		templaterFolder + "/Runner text (Templater).md":     job.Text,
		templaterFolder + "/Runner chain (Templater).md":    job.Chain,
		templaterFolder + "/Runner research (Templater).md": job.Research,
		quickAddFolder + "/Runner text (QuickAdd).md":       job.Text,
		quickAddFolder + "/Runner chain (QuickAdd).md":      job.Chain,
		quickAddFolder + "/Runner research (QuickAdd).md":   job.Research,
	}
	for _, file := range exampleFiles(t) {
		idLine, isTemplate := ids[path.Dir(file)]
		if !isTemplate {
			continue
		}
		t.Run(file, func(t *testing.T) {
			want, known := types[file]
			if !known {
				t.Fatalf("say in this test which job type it is")
			}
			delete(types, file)
			text := readExample(t, file)
			if !strings.Contains(text, "\n"+idLine+"\n") {
				t.Errorf("it has no line %q", idLine)
			}
			spec := checkExample(t, fill(text))
			if spec.Type != want {
				t.Errorf("job_type is %q, want %q", spec.Type, want)
			}
			if spec.ID != "20261124181205" {
				t.Errorf("id is %q", spec.ID)
			}
			if want == job.Chain && len(spec.Steps) < 2 {
				t.Errorf("the chain has %d steps", len(spec.Steps))
			}
		})
	}
	for file := range types {
		t.Errorf("there is no %s", file)
	}
}

// Syncthing ignores our temporary files, and nothing else of ours.
func TestStignore(t *testing.T) {
	var lines []string
	for line := range strings.Lines(readExample(t, ".stignore")) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			lines = append(lines, line)
		}
	}
	if want := "/" + vault.TempDir; len(lines) != 1 || lines[0] != want {
		t.Errorf(".stignore ignores %q, want %q alone", lines, want)
	}
}

// The links of the page that explains the rest lead somewhere, and the folders
// that it names are those of the queue.
func TestStartPage(t *testing.T) {
	text := readExample(t, "runner-examples/Start here.md")
	names := make(map[string]bool)
	for _, file := range exampleFiles(t) {
		names[strings.TrimSuffix(path.Base(file), ".md")] = true
	}
	views := make(map[string]bool)
	for _, v := range readBase(t).Views {
		views[v.Name] = true
	}
	links := note.Links(text)
	if len(links) == 0 {
		t.Fatal("it links to nothing")
	}
	linked := make(map[string]bool)
	for _, l := range links {
		if !names[l.Target] {
			t.Errorf("%s leads nowhere", l.Text)
		}
		for _, view := range l.Headings {
			if !views[view] {
				t.Errorf("%s: the base has no such view", l.Text)
			}
		}
		linked[l.Target] = true
	}
	for _, file := range exampleFiles(t) {
		name := strings.TrimSuffix(path.Base(file), ".md")
		if !strings.HasPrefix(file, ".") && name != "Start here" && !linked[name] {
			t.Errorf("it does not link to %s", name)
		}
	}
	for _, folder := range queue.Folders() {
		if !strings.Contains(text, "| `"+folder+"/` |") {
			t.Errorf("it does not tell of %s", folder)
		}
	}
}

// Every fenced block of the documentation that begins with a frontmatter is a
// job note which somebody will copy.
func TestNotesInTheDocumentation(t *testing.T) {
	pages := []string{filepath.Join("..", "README.md"), filepath.Join("..", "docs", "job-notes.md"), filepath.Join("..", "docs", "providers.md")}
	block := regexp.MustCompile("(?ms)^(`{3,})markdown\n(---\n.*?)^`{3,}\n")
	for _, page := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			found := block.FindAllSubmatch(text, -1)
			if len(found) == 0 {
				t.Fatal("it shows no job note")
			}
			for _, m := range found {
				checkExample(t, fill(string(m[2])))
			}
		})
	}
}

// exampleFiles lists the files of the example vault.
func exampleFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := fs.WalkDir(examples.Vault(), ".", func(file string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func readExample(t *testing.T, file string) string {
	t.Helper()
	text, err := fs.ReadFile(examples.Vault(), file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fill does what each plugin does with its placeholders: core Templates
// (help.obsidian.md, Templates), Templater (silentvoid13.github.io/Templater, date
// and file module; a move inserts nothing), QuickAdd (quickadd.obsidian.guide,
// Format syntax; a value is what its user types).
func fill(text string) string {
	text = strings.NewReplacer(
		"{{date:YYYYMMDD}}", "20261124", "{{time:HHmmss}}", "181205",
		`<% tp.date.now("YYYYMMDDHHmmss") %>`, "20261124181205",
		`<% await tp.file.move("_queue/" + tp.file.title) %>`, "",
		"{{DATE:YYYYMMDDHHmmss}}", "20261124181205",
	).Replace(text)
	return regexp.MustCompile(`\{\{VALUE:[a-z ]+\}\}`).ReplaceAllString(text, "Which is the longest river?")
}

// checkExample holds one note to the rules and returns what it asks for once it
// is no draft any more.
func checkExample(t *testing.T, text string) job.Spec {
	t.Helper()
	const head = "---\ndraft: true\n"
	if !strings.HasPrefix(text, head) {
		t.Errorf("it does not begin with draft: true:\n%s", text)
		return job.Spec{}
	}
	if strings.Contains(text, "{{") || strings.Contains(text, "<%") {
		t.Errorf("a placeholder is left:\n%s", text)
	}
	if !read(t, text).Draft {
		t.Errorf("it is not read as a draft:\n%s", text)
	}
	spec := read(t, "---\ndraft: false\n"+strings.TrimPrefix(text, head))
	if spec.Draft || len(spec.Steps) == 0 {
		t.Errorf("with draft unticked it asks for nothing:\n%s", text)
	}
	if len(spec.Unknown) > 0 {
		t.Errorf("it has keys that are not known: %s", strings.Join(spec.Unknown, ", "))
	}
	return spec
}

func read(t *testing.T, text string) job.Spec {
	t.Helper()
	data := []byte(text)
	n, err := note.Parse(data)
	if err != nil {
		t.Errorf("%v:\n%s", err, text)
		return job.Spec{}
	}
	// What a run writes into a copy must not make another job of it.
	annotated, err := note.Parse(note.Annotate(data, []note.KV{{Key: "status", Value: "completed"}}, "> [!failure] Failed"))
	if err != nil || !bytes.Equal(annotated.Content(), n.Content()) {
		t.Errorf("annotated it is another job (%v):\n%s", err, text)
	}
	spec, err := job.Read(n, rules)
	if err != nil {
		t.Errorf("%v:\n%s", err, text)
	}
	return spec
}
