package checks

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A complaint is what a check may say, at one place of its source. Whoever adds a condition
// adds a complaint, and so owes a row.
type complaint struct {
	at      string // file and line
	text    string // a regular expression for it; what is filled in is .*
	letters int    // of what is not filled in
	red     bool   // a row wanted it
}

var (
	verb   = regexp.MustCompile(`%[dqstvw]`)
	phrase = regexp.MustCompile(`[a-z] | [a-z]`)
)

// complaints are those of some of this package's files: what is appended to problems,
// handed to say, put into why, or returned. A name or an error that stands alone is none, nor
// is what only passes on a problem or a why.
func complaints(t *testing.T, files ...string) (all []*complaint) {
	t.Helper()
	places := token.NewFileSet()
	for _, name := range files {
		file, err := parser.ParseFile(places, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok || strings.HasPrefix(function.Name.Name, "Test") {
				continue
			}
			ast.Inspect(function.Body, func(node ast.Node) bool {
				for _, expression := range said(node) {
					if text, letters := wording(expression); phrase.MatchString(text) {
						all = append(all, &complaint{at: places.Position(expression.Pos()).String(), text: text, letters: letters})
					}
				}
				return true
			})
		}
	}
	slices.SortFunc(all, func(a, b *complaint) int { return cmp.Or(b.letters-a.letters, strings.Compare(a.text, b.text)) })
	for i, c := range all {
		if i > 0 && all[i-1].text == c.text {
			t.Errorf("%s and %s say the same: no row can tell them apart", all[i-1].at, c.at)
		}
	}
	return all
}

// said are the expressions of a statement that may be complaints.
func said(node ast.Node) []ast.Expr {
	switch node := node.(type) {
	case *ast.CallExpr:
		name, ok := node.Fun.(*ast.Ident)
		if ok && name.Name == "say" {
			return node.Args
		}
		if ok && name.Name == "append" && fmt.Sprint(node.Args[0]) == "problems" {
			return node.Args[1:]
		}
	case *ast.AssignStmt:
		if fmt.Sprint(node.Lhs[0]) == "why" {
			return node.Rhs
		}
	case *ast.ReturnStmt:
		if len(node.Results) == 0 {
			return nil
		}
		last := node.Results[len(node.Results)-1]
		if list, ok := last.(*ast.CompositeLit); ok {
			return list.Elts
		}
		return []ast.Expr{last}
	}
	return nil
}

// wording is a string's expression as a regular expression, and how much of it stands
// in the source.
func wording(expression ast.Expr) (text string, letters int) {
	switch expression := expression.(type) {
	case *ast.BasicLit:
		value, err := strconv.Unquote(expression.Value)
		if err != nil {
			return ".*", 0
		}
		parts := verb.Split(value, -1)
		for i, part := range parts {
			letters += len(part)
			parts[i] = regexp.QuoteMeta(part)
		}
		return strings.Join(parts, ".*"), letters
	case *ast.BinaryExpr:
		left, m := wording(expression.X)
		right, n := wording(expression.Y)
		if expression.Op != token.ADD || left == "" || right == "" {
			return "", 0
		}
		return left + right, m + n
	case *ast.CallExpr:
		if name, ok := expression.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"Sprintf", "Errorf"}, name.Sel.Name) {
			if passesOn(expression.Args[0]) || passesOn(expression.Args[len(expression.Args)-1]) {
				return "", 0
			}
			return wording(expression.Args[0])
		}
	case *ast.Ident:
		if passesOn(expression) {
			return "", 0
		}
	}
	return ".*", 0
}

// passesOn reports whether an expression is what was found elsewhere.
func passesOn(expression ast.Expr) bool {
	name, ok := expression.(*ast.Ident)
	return ok && slices.Contains([]string{"why", "problem", "format"}, name.Name)
}

// credit notes that a row wanted the problem: of the complaints that it may be, the one with
// the most words of its own said it.
func credit(all []*complaint, problem string) {
	for _, c := range all { // the longest first
		if regexp.MustCompile(`(?s)(^|: )` + c.text + `$`).MatchString(problem) {
			c.red = true
			return
		}
	}
}

// owed fails for each complaint that no row wanted.
func owed(t *testing.T, all []*complaint) {
	t.Helper()
	for _, c := range all {
		if !c.red {
			t.Errorf("%s: no row makes a check say %q", c.at, c.text)
		}
	}
}

// wanted credits the problem that has what a row wants, and reports whether there is one.
func wanted(all []*complaint, problems []string, want string) bool {
	i := slices.IndexFunc(problems, func(problem string) bool { return strings.Contains(problem, want) })
	if i < 0 {
		return false
	}
	credit(all, problems[i])
	return true
}

// What is said in each of the ways that the checks use owes a row, and nothing else does.
func TestAComplaintOwesARow(t *testing.T) {
	name := filepath.Join(t.TempDir(), "some_test.go")
	source := `package checks
func (t *tree) some() (problems []string) {
	problems = append(problems, t.dir+": is not appended", err.Error(), t.dir)
	say(ok, "is not said")
	say("is not %d of %q", 1, "two")
	why = "is not why"
	problems = append(problems, fmt.Sprintf("in it: %s", why), "a part: "+problem)
	services(func() []string { return []string{"is not listed"} })
	return nil, fmt.Errorf("is not read: %w", err)
}
func TestOther() { say("what a test says") }
`
	if err := os.WriteFile(name, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	all := complaints(t, name)
	for _, problem := range []string{"a: is not appended", "prod: plex: is not said", "is not 3 of \"four\"", "b: is not listed", "c: is not read: d"} {
		credit(all, problem)
	}
	var left []string
	for _, c := range all {
		if !c.red {
			left = append(left, c.text)
		}
	}
	if len(all) != 6 || !slices.Equal(left, []string{"is not why"}) {
		t.Errorf("of %d complaints these owe a row: %q", len(all), left)
	}
}
