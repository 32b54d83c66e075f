package checks

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Each of the breaks is seen; each check sees one, and says each of its complaints for one.
func TestEachCheckGoesRed(t *testing.T) {
	var shelf library
	var mu sync.Mutex
	red := map[string]bool{} // checks that a row made red, by name
	all := complaints(t, "ansible_test.go", "doors_test.go", "monitors_test.go", "names_test.go", "ports_test.go",
		"queries_test.go", "secrets_test.go", "services_test.go", "tree_test.go")
	t.Cleanup(func() {
		for _, c := range checks {
			if !red[c.name] {
				t.Errorf("no row breaks what the check %q looks at", c.name)
			}
		}
		owed(t, all)
	})
	for _, row := range slices.Concat(breaks, derived()) {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, part := range append([]string{"ports.yaml", "ansible/roles"}, hosts...) {
				if err := copyTree(filepath.Join(home, part), filepath.Join(dir, part)); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, row.file)
			text, err := os.ReadFile(path)
			if err != nil && row.old != "" {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), row.old) {
				t.Fatalf("%s does not have %q: the row breaks nothing", row.file, row.old)
			}
			broken := strings.Replace(string(text), row.old, row.new, 1)
			if row.old == "" {
				broken = string(text) + row.new
			}
			if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
				t.Fatal(err)
			}
			tree, err := shelf.load(dir)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				if !wanted(all, []string{err.Error()}, row.want) {
					t.Errorf("want %q, the tree does not load: %v", row.want, err)
				}
				return
			}
			var seen []string
			for _, c := range checks {
				problems := c.find(tree)
				mu.Lock()
				if wanted(all, problems, row.want) {
					red[c.name] = true
					mu.Unlock()
					return
				}
				mu.Unlock()
				seen = append(seen, problems...)
			}
			t.Errorf("want %q, got %q", row.want, seen)
		})
	}
}

// copyTree copies a file, or a folder with all in it.
func copyTree(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}
