// Package examples_test holds the job notes that people copy, those of this
// folder and those in the documentation, to the rules that the program reads them
// by: a draft until its owner unticks it, and then a valid job.
package examples_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/note"
)

// rules are those of a configuration as the documentation shows it.
var rules = job.Rules{Providers: []job.ProviderRule{
	{Name: "davas", Models: []string{"gemma4:12b"}},
	{Name: "attic"},
	{Name: "echo", Models: []string{"echo", "slow", "cut", "busy", "silent"}},
}}

func TestTemplates(t *testing.T) {
	types := map[string]job.Type{
		"text.md":                job.Text,
		"text with every key.md": job.Text,
		"chain.md":               job.Chain,
		"research.md":            job.Research,
	}
	files, err := filepath.Glob(filepath.Join("vault", "_templates", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			want, known := types[name]
			if !known {
				t.Fatalf("say in this test which job type it is")
			}
			delete(types, name)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if idLine := "\nid: '{{date:YYYYMMDD}}{{time:HHmmss}}'\n"; !strings.Contains(string(text), idLine) {
				t.Errorf("it has no line %q", strings.TrimSpace(idLine))
			}
			spec := checkExample(t, fill(string(text)))
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
	for name := range types {
		t.Errorf("there is no %s", name)
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

// fill does what core Templates does with its placeholders.
func fill(text string) string {
	return strings.NewReplacer("{{date:YYYYMMDD}}", "20261124", "{{time:HHmmss}}", "181205").Replace(text)
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
	if strings.Contains(text, "{{") {
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
