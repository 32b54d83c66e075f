package checks

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var secretChecks = []check{
	{"variables of compose files must be set, and are explained", (*tree).variablesExplained},
	{"no value that works stands in env.example", (*tree).placeholders},
	{"no secret stands in a compose file", (*tree).literals},
	{"no secret stands in any file", (*tree).leaked},
	{"nothing is called latest", (*tree).latest},
}

var reference = regexp.MustCompile(`\$(\$|\{([A-Z_0-9]+)([^}]*)\}|[A-Za-z_]+)`)

func (t *tree) variablesExplained() (problems []string) {
	// What may be empty: a claim token that is good for four minutes.
	optional := []string{"PLEX_CLAIM"}
	for _, host := range hosts {
		used := map[string]bool{}
		for _, found := range reference.FindAllStringSubmatch(t.text(host+"/compose.yaml"), -1) {
			name, rule := found[2], found[3]
			switch {
			case found[1] == "$":
				continue
			case name == "":
				problems = append(problems, host+": "+found[0]+" is not written as ${NAME:?}")
			case rule != ":?" && !(rule == ":-" && slices.Contains(optional, name)):
				problems = append(problems, host+": ${"+name+rule+"} may be empty or has a default")
			}
			used[name] = true
		}
		for _, v := range t.env[host] {
			if !used[v.name] {
				problems = append(problems, host+": env.example has "+v.name+", which compose.yaml does not use")
			}
			delete(used, v.name)
		}
		for name := range used {
			problems = append(problems, host+": env.example does not have "+name)
		}
	}
	return problems
}

func (t *tree) placeholders() (problems []string) {
	for _, host := range hosts {
		for _, v := range t.env[host] {
			if v.value != "REPLACE_ME" && !(v.value == "" && strings.Contains(v.format, "or empty")) {
				problems = append(problems, host+": env.example gives "+v.name+" a value")
			}
		}
	}
	return problems
}

// secretKey is a line of a compose file whose key says that its value is a secret.
var secretKey = regexp.MustCompile(`(?i)^\s*-?\s*"?([a-z_0-9]*(?:passw|secret|token|salt|credential)[a-z_0-9]*|[a-z_0-9]*(?:_key|apikey|_auth))"?\s*[:=]\s*(.*)$`)

func (t *tree) literals() (problems []string) {
	for _, host := range hosts {
		for number, line := range strings.Split(t.text(host+"/compose.yaml"), "\n") {
			found := secretKey.FindStringSubmatch(line)
			if found == nil || strings.HasSuffix(found[1], "FILE") || found[1] == "secrets" {
				continue
			}
			value := strings.Trim(found[2], `"'`)
			ok := value == "" || strings.HasPrefix(value, "${") || strings.HasPrefix(value, "{environment: ")
			if !ok {
				problems = append(problems, fmt.Sprintf("%s/compose.yaml:%d: %s has a value", host, number+1, found[1]))
			}
		}
	}
	return problems
}

// shapes are what secrets look like wherever they stand, each with one that is none. Each
// stands in a file once in derived.
var shapes = []struct {
	pattern *regexp.Regexp
	like    string
}{
	{regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----`), "-----BEGIN EC " + "PRIVATE KEY-----"},
	{regexp.MustCompile(`discord(app)?\.com/api/webhooks/\d`), "https://discord.com/api/" + "webhooks/1234/x"},
	{regexp.MustCompile(`\b[sp]k-lf-[0-9a-f]{8}-`), "sk-lf-" + "01234567-89ab"},
	{regexp.MustCompile(`\btskey-[a-z]+-`), "tskey-" + "auth-k"},
	{regexp.MustCompile(`\bAKIA[0-9A-Z]{16}\b`), "AKIA" + strings.Repeat("A", 16)},
	{regexp.MustCompile(`\bghp_[A-Za-z0-9]{36}\b`), "ghp_" + strings.Repeat("a", 36)},
	{regexp.MustCompile(`\bgsk_[A-Za-z0-9]{40}\b`), "gsk_" + strings.Repeat("a", 40)},
	{regexp.MustCompile(`\bAIza[0-9A-Za-z_-]{35}\b`), "AIza" + strings.Repeat("a", 35)},
	{regexp.MustCompile(`(?i)(passw(or)?d|secret|token|api_?key)["']?\s*[:=]\s*["']?[0-9a-f]{16,}`), "password: " + strings.Repeat("0f", 10)},
}

func (t *tree) leaked() (problems []string) {
	err := t.files(func(name, text string) {
		for _, shape := range shapes {
			if found := shape.pattern.FindString(text); found != "" {
				problems = append(problems, name+" has what looks like a secret: "+found[:min(len(found), 20)]+"…")
			}
		}
	})
	if err != nil {
		problems = append(problems, err.Error())
	}
	return problems
}

var movingTag = regexp.MustCompile(`(?m)^[^#]*image:.*:(latest|stable|main|master|edge|nightly)\b`)

func (t *tree) latest() (problems []string) {
	err := t.files(func(name, text string) {
		if found := movingTag.FindString(text); found != "" && strings.HasSuffix(name, "ml") {
			problems = append(problems, name+": "+strings.TrimSpace(found))
		}
	})
	if err != nil {
		problems = append(problems, err.Error())
	}
	return problems
}

// files calls f with each text file of the tree but the tests' own and what they need.
func (t *tree) files(f func(name, text string)) error {
	return filepath.WalkDir(t.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(t.dir, path)
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == "testdata" {
			return fs.SkipDir
		}
		if !entry.Type().IsRegular() || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "go.") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f(name, string(text))
		return nil
	})
}

func TestAnEmptyVariableIsRefused(t *testing.T) {
	tree, err := load(home)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range hosts {
		for _, v := range tree.env[host] {
			if v.name == "PLEX_CLAIM" {
				continue
			}
			values := map[string]string{}
			for _, other := range tree.env[host] {
				if values[other.name], err = sample(host, other); err != nil {
					t.Fatal(err)
				}
			}
			values[v.name] = ""
			if _, err := tree.stack(host, values); err == nil || !strings.Contains(err.Error(), v.name) {
				t.Errorf("%s without %s: error %v, want one that names it", host, v.name, err)
			}
		}
	}
}
