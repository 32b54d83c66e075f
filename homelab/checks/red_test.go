package checks

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Each of the breaks is seen, and each check sees one.
func TestEachCheckGoesRed(t *testing.T) {
	var shelf library
	var mu sync.Mutex
	red := map[string]bool{} // checks that a row made red, by name
	t.Cleanup(func() {
		for _, c := range checks {
			if !red[c.name] {
				t.Errorf("no row breaks what the check %q looks at", c.name)
			}
		}
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
				if !strings.Contains(err.Error(), row.want) {
					t.Errorf("want %q, the tree does not load: %v", row.want, err)
				}
				return
			}
			var all []string
			for _, c := range checks {
				problems := strings.Join(c.find(tree), "\n")
				if strings.Contains(problems, row.want) {
					mu.Lock()
					red[c.name] = true
					mu.Unlock()
					return
				}
				all = append(all, problems)
			}
			t.Errorf("want %q, got %q", row.want, all)
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
