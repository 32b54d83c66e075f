package checks

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	playbooks  = regexp.MustCompile(`\b([a-z-]+\.yml)\b`)
	playTags   = regexp.MustCompile(`--tags ([a-z,-]+)`)
	links      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings   = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notLetters = regexp.MustCompile(`[^a-z0-9 -]+`)
	// A row of what somebody says, and what stands in it as code.
	saying = regexp.MustCompile(`(?m)^\| (verify|Discord|Uptime Kuma) \| (.*) \|$`)
	code   = regexp.MustCompile("`([^`]+)`")
	// What the verification calls its findings, in its tasks and variables.
	findings  = regexp.MustCompile(`(?m)^\s*(?:- )?what: (.*)$|'what': '([^']*)'`)
	templates = regexp.MustCompile(`\\\{\\\{.*?\\\}\\\}|' ~ .* ~ '`)
	services  = regexp.MustCompile(`docker compose (?:up --detach --wait|restart|logs --tail [0-9]+|exec -T)([a-z -]*)`)
	alerts    = regexp.MustCompile(`(?m)^\s*- alert: (\w+)$`)
)

// anchor is the address of a heading within its page, as GitHub makes it.
func anchor(heading string) string {
	return strings.ReplaceAll(notLetters.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// page says what in a page of the documentation leads nowhere. name is its path from the
// homelab's folder.
func (t *tree) page(name, text string) (problems []string) {
	say := func(format string, values ...any) {
		problems = append(problems, name+": "+fmt.Sprintf(format, values...))
	}
	site := t.text("ansible/site.yml")
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "ansible-playbook ") {
			continue
		}
		_, command, _ := strings.Cut(line, "ansible-playbook ")
		for _, found := range playbooks.FindAllStringSubmatch(strings.ReplaceAll(command, "inventory/", "inventory."), -1) {
			if !t.there("ansible/"+found[1]) && !strings.Contains(command, "inventory/"+found[1]) {
				say("there is no playbook %s", found[1])
			}
		}
		if found := playTags.FindStringSubmatch(command); found != nil {
			for tag := range strings.SplitSeq(found[1], ",") {
				if !strings.Contains(site, tag) {
					say("site.yml knows no tag %s", tag)
				}
			}
		}
	}
	for _, found := range links.FindAllStringSubmatch(text, -1) {
		file, part, _ := strings.Cut(found[1], "#")
		if strings.Contains(file, ":") {
			continue
		}
		target := text
		if file != "" {
			path := filepath.Join(filepath.Dir(name), file)
			if !t.there(path) {
				say("there is no %s", found[1])
				continue
			}
			target = t.text(path)
		}
		known := slices.ContainsFunc(headings.FindAllStringSubmatch(target, -1), func(h []string) bool { return anchor(h[1]) == part })
		if part != "" && !known {
			say("%s has no part %s", file, part)
		}
	}
	for _, found := range services.FindAllStringSubmatch(text, -1) {
		for _, service := range strings.Fields(found[1]) {
			if !slices.ContainsFunc(hosts, func(host string) bool { _, ok := t.stacks[host].Services[service]; return ok }) {
				say("there is no service %s", service)
			}
		}
	}
	for _, row := range saying.FindAllStringSubmatch(text, -1) {
		for _, found := range code.FindAllStringSubmatch(row[2], -1) {
			if !t.says(row[1], found[1]) {
				say("%s never says %q", row[1], found[1])
			}
		}
	}
	return problems
}

func (t *tree) there(name string) bool {
	_, err := os.Stat(filepath.Join(t.dir, name))
	return err == nil
}

// says reports whether the verification has a finding, Prometheus an alert, or Uptime Kuma a
// monitor of that name.
func (t *tree) says(who, words string) bool {
	switch who {
	case "Discord":
		rules := t.text("dev-learning/prometheus/rules/homelab.yml") + t.text("dev-learning/prometheus/rules/runner.yml")
		return slices.ContainsFunc(alerts.FindAllStringSubmatch(rules, -1), func(found []string) bool { return found[1] == words })
	case "Uptime Kuma":
		return strings.Contains(t.text("prod-services/kuma/monitors.yaml"), "name: "+words+",") ||
			strings.Contains(t.text("prod-services/kuma/monitors.yaml"), "name: "+words+"\n")
	}
	for _, host := range slices.Sorted(maps.Keys(t.ports)) {
		for _, p := range t.ports[host] {
			if words == p.Service+" of "+host+", "+p.For {
				return true
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(t.dir, "ansible/roles/verify/*/*.yml"))
	if err != nil {
		return false
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		for _, found := range findings.FindAllStringSubmatch(string(text), -1) {
			name := regexp.QuoteMeta(strings.Trim(found[1], `"`) + found[2])
			if regexp.MustCompile("^" + templates.ReplaceAllString(name, ".+") + "$").MatchString(words) {
				return true
			}
		}
	}
	return false
}

// documents are README.md and the pages in docs/.
func documents(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(home, "docs/*.md"))
	if err != nil || len(names) < 3 {
		t.Fatalf("%d pages: %v", len(names), err)
	}
	pages := map[string]string{"README.md": string(read(t, filepath.Join(home, "README.md")))}
	for _, name := range names {
		pages["docs/"+filepath.Base(name)] = string(read(t, name))
	}
	return pages
}

func TestThePagesLeadSomewhere(t *testing.T) {
	tree, err := load(home)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range documents(t) {
		for _, problem := range tree.page(name, text) {
			t.Error(problem)
		}
	}
	operations := documents(t)["docs/operations.md"]
	all := complaints(t, "operations_test.go")
	for _, row := range []struct{ name, old, new, want string }{
		{"a playbook that is not there", "upgrade.yml -e service", "upgrades.yml -e service", "there is no playbook upgrades.yml"},
		{"a tag that is not there", "--tags runner", "--tags runners", "site.yml knows no tag runners"},
		{"a page that is not there", "(rehearsal.md)", "(rehearsals.md)", "there is no rehearsals.md"},
		{"a part of a page that is not there", "backup.md#secrets", "backup.md#secret", "has no part secret"},
		{"a part of this page", "(#a-full-disk)", "(#full-disk)", "has no part full-disk"},
		{"a service that is not there", "--wait portainer", "--wait portainers", "there is no service portainers"},
		{"a finding that the verification has not", "`portainer is healthy`", "`portainer is well`", `verify never says "portainer is well"`},
		{"a row of ports that is not there", "traces of runner`", "traces`", `verify never says "langfuse-web of prod-services, traces"`},
		{"an alert that is not there", "`SearXNGSlow`", "`SearXNGLate`", `Discord never says "SearXNGLate"`},
		{"a monitor that is not there", "`Control room`", "`Control rooms`", `Uptime Kuma never says "Control rooms"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			if !strings.Contains(operations, row.old) {
				t.Fatalf("the page does not have %q: the row breaks nothing", row.old)
			}
			problems := tree.page("docs/operations.md", strings.Replace(operations, row.old, row.new, 1))
			if !wanted(all, problems, row.want) {
				t.Errorf("want %q, got %q", row.want, problems)
			}
		})
	}
	owed(t, all)
}
