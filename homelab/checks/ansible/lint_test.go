package ansible

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"davidcockson.com/runner/homelab/internal/peer"
)

// Each linter is content with the tree, and not with one mistake in a copy of it.
func TestLinters(t *testing.T) {
	t.Parallel()
	needAnsible(t)
	lint := func(program string, arguments ...string) func(*testing.T, string) (string, error) {
		return func(t *testing.T, dir string) (string, error) {
			cmd := exec.Command(peer.Need(t, program), arguments...)
			cmd.Dir = dir
			home := t.TempDir()
			cmd.Env = append(withoutAnsible(os.Environ()), "HOME="+home, "TMPDIR="+home, "ANSIBLE_HOME="+home, "ANSIBLE_LOCAL_TEMP="+home, "XDG_CACHE_HOME="+home, "NO_COLOR=1")
			out, err := cmd.CombinedOutput()
			return string(out), err
		}
	}
	rows := []struct {
		name          string
		run           func(*testing.T, string) (string, error)
		file, mistake string // what is appended in the copy
		want          []string
	}{
		{"syntax", lint("ansible-playbook", "-i", "inventory/example.yml", "--syntax-check", "site.yml", "verify.yml",
			"backup.yml", "restore.yml", "upgrade.yml"),
			"roles/runner/tasks/deploy.yml", "\n- name: Wrong\n  ansible.builtin.commend:\n", []string{"couldn't resolve module/action"}},
		{"yamllint", lint("yamllint", "--strict", "."),
			"group_vars/all.yml", "\nhomelab_x: yes\n", []string{"truthy"}},
		{"ansible-lint, profile production", lint("ansible-lint", "--offline", "--nocolor", "-p"),
			"roles/dev-learning/tasks/main.yml", "\n- name: Wrong\n  ansible.builtin.command: systemctl restart docker\n- name: Short\n  stat:\n    path: /\n",
			[]string{"no-changed-when", "fqcn"}},
		{"shellcheck", lint("shellcheck", "roles/common/files/compose-up", "roles/prod-services/files/make-certificate"),
			"roles/common/files/compose-up", "\nrm $folder/*\n", []string{"SC2086"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if out, err := row.run(t, books); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			dir := copyOfTree(t)
			file, err := os.OpenFile(filepath.Join(dir, row.file), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.WriteString(row.mistake); err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
			out, err := row.run(t, dir)
			for _, want := range row.want {
				if err == nil || !strings.Contains(out, want) {
					t.Errorf("a mistake was let through, %s: %v\n%s", want, err, out)
				}
			}
		})
	}
}

// copyOfTree is ansible/ as it is in git, with what it reads beside it.
func copyOfTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "ansible"), os.DirFS(books)); err != nil {
		t.Fatal(err)
	}
	ports, err := os.ReadFile("../../ports.yaml")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "ports.yaml"), ports, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"roles/common/files/compose-up", "roles/prod-services/files/make-certificate"} {
		if err := os.Chmod(filepath.Join(dir, "ansible", script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "ansible")
}

var (
	defined = regexp.MustCompile(`(?m)^ *(homelab_[a-z_]+):`)
	used    = regexp.MustCompile(`\bhomelab_[a-z_]+`)
)

// Each variable has a comment before it where it is set, is used, and is set in one place
// alone, since group_vars would silently win over an inventory file.
func TestEveryVariableIsExplained(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, file, more, want string }{
		{"as they lie", "group_vars/all.yml", "", ""},
		{"one without a comment", "group_vars/all.yml", "\nhomelab_more: a\n", "group_vars/all.yml: homelab_more has no comment"},
		{"one in two places", "group_vars/all.yml", "\n# Again.\nhomelab_domain: a\n", "homelab_domain is set in group_vars/all.yml and in inventory/example.yml, which would win"},
		{"one that nothing uses", "inventory/example.yml", "\n# More.\nhomelab_more: a\n", "nothing uses homelab_more"},
		{"one that only a comment names", "roles/upgrade/vars/main.yml", "\n# homelab_more is no use.\n", ""},
		{"one that is used and not set", "roles/upgrade/vars/main.yml", "\nupgrade_more: \"{{ homelab_more }}\"\n", "homelab_more is used and nowhere explained"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(books)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, row.file)
			text, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, append(text, row.more...), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(variables(t, dir), "\n"); (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// variables says what does not hold of the variables of playbooks.
func variables(t *testing.T, dir string) (problems []string) {
	t.Helper()
	places := map[string]string{}
	for _, file := range []string{"group_vars/all.yml", "inventory/example.yml"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range unexplained(string(text)) {
			problems = append(problems, file+": "+name+" has no comment")
		}
		for _, m := range defined.FindAllStringSubmatch(string(text), -1) {
			if other := places[m[1]]; other != "" && other != file {
				problems = append(problems, m[1]+" is set in "+other+" and in "+file+", which would win")
			}
			places[m[1]] = file
		}
	}
	uses := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.Contains(path, "/inventory/") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, line := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(strings.TrimSpace(line), "#") {
				continue
			}
			for _, at := range used.FindAllStringIndex(line, -1) {
				if name := line[at[0]:at[1]]; !strings.HasPrefix(line, name+":") {
					uses[name] = true
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range places {
		if !uses[name] {
			problems = append(problems, "nothing uses "+name)
		}
	}
	for name := range uses {
		if places[name] == "" && name != "homelab_secrets" {
			problems = append(problems, name+" is used and nowhere explained")
		}
	}
	return problems
}

// unexplained are the variables of a file that stand in a paragraph that does not begin
// with a comment.
func unexplained(text string) (names []string) {
	explained := false
	for _, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		switch m := defined.FindStringSubmatch(line); {
		case trimmed == "":
			explained = false
		case strings.HasPrefix(trimmed, "#"):
			explained = true
		case m != nil && !explained:
			names = append(names, m[1])
		}
	}
	return names
}
