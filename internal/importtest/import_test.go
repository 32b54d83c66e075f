// Package importtest holds the project's packages to their floors: an import
// points downward. It reads the import lines of every Go file, whatever system the
// file is for, so that a build on one system does not hide what another imports.
//
// A package that has no floor here fails the test: who adds one says where it
// stands. A floor may name a package that does not exist yet.
package importtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "davidcockson.com/runner/"

// floors, from the ground. A folder inside a package stands on the package's floor.
var floors = [][]string{
	{"note", "vault", "sqlite", "live", "secret", "config", "examples"},
	{"job", "provider", "history"},
	{"queue", "ledger", "jobtype", "prepare"},
	{"control", "notify", "trace", "metrics", "health", "access"},
	{"ask"},
	{"worker", "chat"},
	{"web"},
	{"cmd"},
}

// besides lists the imports that do not point downward and are meant.
var besides = map[string][]string{
	"config":  {"secret"},   // the file's keys are secrets
	"live":    {"provider"}, // a running answer is a provider's events
	"job":     {"provider"}, // what is asked is stated in the provider's terms
	"history": {"provider"}, // and so is what was answered
}

// never lists the imports that point downward and are forbidden all the same. The
// queue knows no SQL and the ledger no files: the order between the two stores is
// in worker alone. What a page needs of a running job it asks of an interface.
var never = map[string][]string{
	"queue":  {"sqlite", "history"},
	"ledger": {"vault"},
	"web":    {"worker"},
}

// forTests begins the paths from outside that belong in test files alone.
var forTests = []string{"testing", "net/http/httptest", "github.com/rogpeppe/go-internal"}

func TestImportsPointDownward(t *testing.T) {
	imports := productImports(t)
	if len(imports["internal/note"]) == 0 || len(imports["internal/provider/echo"]) == 0 {
		t.Fatal("the tree was not read: internal/note and internal/provider/echo import something")
	}
	for _, from := range slices.Sorted(maps.Keys(imports)) {
		for _, to := range slices.Sorted(maps.Keys(imports[from])) {
			if fault := check(from, to); fault != "" {
				t.Errorf("%s imports %s: %s", from, to, fault)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	const down = ""
	for _, row := range []struct{ name, from, to, want string }{
		{"down one floor", "internal/worker", module + "internal/control", down},
		{"down to the ground", "cmd/runner", module + "internal/note", down},
		{"the standard library", "internal/note", "bytes", down},
		{"a module from outside", "internal/sqlite", "modernc.org/sqlite", down},
		{"a provider's implementation imports provider", "internal/provider/echo", module + "internal/provider", down},
		{"a test package imports what it tests", "internal/provider/providertest", "testing", down},
		{"one that is meant though it points up", "internal/live", module + "internal/provider", down},
		{"providers share what is below their protocols", "internal/provider/openai", module + "internal/provider/wire", down},
		{"up", "internal/note", module + "internal/job", "does not point downward"},
		{"across a floor", "internal/chat", module + "internal/worker", "does not point downward"},
		{"a page does not know the worker", "internal/web", module + "internal/worker", "is forbidden"},
		{"the ledger reads no files", "internal/ledger", module + "internal/vault", "is forbidden"},
		{"the queue knows no SQL", "internal/queue", module + "internal/sqlite", "is forbidden"},
		{"the queue knows no SQL of the library either", "internal/queue", "database/sql", "is forbidden"},
		{"only cmd knows the implementations", "internal/worker", module + "internal/provider/echo", "only cmd may"},
		{"cmd knows the implementations", "cmd/runner", module + "internal/provider/echo", down},
		{"a provider's implementation stands by itself", "internal/provider/echo", module + "internal/provider/ollama", "only cmd may"},
		{"no test package in the binary", "cmd/runner", module + "internal/vault/vaulttest", "belongs in tests"},
		{"no testing in the binary", "internal/worker", "testing/synctest", "belongs in tests"},
		{"a package without a floor imports", "internal/extra", module + "internal/note", "has no floor"},
		{"a package without a floor is imported", "cmd/runner", module + "internal/extra", "has no floor"},
		{"a package without a floor imports the library", "internal/extra", "bytes", "has no floor"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := check(row.from, row.to)
			if (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
				t.Errorf("%s imports %s: %q, want %q", row.from, row.to, got, row.want)
			}
		})
	}
}

// check says what is wrong with an import of the package in folder from, or nothing.
func check(from, to string) string {
	if isTest(from) {
		return ""
	}
	own := top(from)
	if floor(own) < 0 {
		return own + " has no floor"
	}
	folder, ours := strings.CutPrefix(to, module)
	if !ours {
		for _, prefix := range forTests {
			if to == prefix || strings.HasPrefix(to, prefix+"/") {
				return "belongs in tests"
			}
		}
		if own == "queue" && strings.HasPrefix(to, "database/sql") {
			return "is forbidden"
		}
		return ""
	}
	other := top(folder)
	switch {
	case isTest(folder):
		return "belongs in tests"
	case floor(other) < 0:
		return other + " has no floor"
	case path.Dir(folder) == "internal/provider" && own != "cmd" && folder != "internal/provider/wire":
		return "only cmd may"
	case slices.Contains(never[own], other):
		return "is forbidden"
	case own == other || slices.Contains(besides[own], other):
		return ""
	case floor(other) >= floor(own):
		return "does not point downward"
	}
	return ""
}

// top is the package by whose floor a folder is judged.
func top(folder string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(folder, "internal/"), "/")
	return name
}

// floor counts from the ground, which is 0; -1 is a package without one.
func floor(name string) int {
	return slices.IndexFunc(floors, func(names []string) bool { return slices.Contains(names, name) })
}

// isTest reports whether a folder exists for tests alone.
func isTest(folder string) bool {
	return strings.HasSuffix(folder, "test") || folder == "internal/bench"
}

// productImports returns, by folder, what the files that are no tests import.
func productImports(t *testing.T) map[string]map[string]bool {
	root := filepath.Join("..", "..")
	imports := make(map[string]map[string]bool)
	for _, begin := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, begin), func(file string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && entry.Name() == "testdata":
				return filepath.SkipDir
			case entry.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
				return nil
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			folder, err := filepath.Rel(root, filepath.Dir(file))
			if err != nil {
				return err
			}
			folder = filepath.ToSlash(folder)
			if imports[folder] == nil {
				imports[folder] = make(map[string]bool)
			}
			for _, spec := range parsed.Imports {
				to, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return err
				}
				imports[folder][to] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return imports
}
