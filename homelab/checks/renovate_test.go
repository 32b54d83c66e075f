package checks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// renovateConfig is renovate.json; a key that it does not have here is refused, so that one
// that is spelled wrongly is seen.
type renovateConfig struct {
	Schema            string `json:"$schema"`
	Description       []string
	Extends           []string
	SemanticCommits   string
	EnabledManagers   []string
	IgnorePaths       []string
	Schedule          []string
	PostUpdateOptions []string
	DockerCompose     struct{ ManagerFilePatterns []string } `json:"docker-compose"`
	CustomManagers    []customManager
	PackageRules      []renovateRule
}

type customManager struct {
	Description, CustomType, DepNameTemplate, DatasourceTemplate string
	ManagerFilePatterns, MatchStrings                            []string
}

type renovateRule struct {
	Description, Versioning, AllowedVersions, GroupName                                 string
	MatchManagers, MatchDatasources, MatchPackageNames, MatchUpdateTypes, MatchDepTypes []string
	PinDigests, Enabled, DependencyDashboardApproval                                    *bool
}

// names reports whether the rule is for the image.
func (r renovateRule) names(image string) bool {
	return slices.ContainsFunc(r.MatchPackageNames, func(pattern string) bool {
		ok, err := path.Match(pattern, image)
		return ok && err == nil
	})
}

func off(b *bool) bool { return b != nil && !*b }
func on(b *bool) bool  { return b != nil && *b }

// pattern compiles a regular expression of Renovate's, which stands between slashes.
func pattern(text string) (*regexp.Regexp, error) {
	if len(text) < 2 || text[0] != '/' || text[len(text)-1] != '/' {
		return nil, fmt.Errorf("%s does not stand between slashes", text)
	}
	return regexp.Compile(text[1 : len(text)-1])
}

func matches(patterns []string, file string) bool {
	return slices.ContainsFunc(patterns, func(text string) bool {
		expression, err := pattern(text)
		return err == nil && expression.MatchString(file)
	})
}

// ordered are the tags that Renovate orders by itself. What follows a dash must stay the
// same from version to version (its docs, "docker versioning").
var ordered = regexp.MustCompile(`^v?\d+(\.\d+)*(-[a-z]+)?$`)

// noWayBack cannot go to another major version by another image alone.
var noWayBack = []string{"postgres", "clickhouse/clickhouse-server", "redis"}

// renovate looks whether Renovate, by this configuration, sees all versions of the tree.
func (t *tree) renovate(text []byte) (problems []string) {
	var config renovateConfig
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&config); err != nil {
		return []string{err.Error()}
	}
	say := func(format string, values ...any) { problems = append(problems, fmt.Sprintf(format, values...)) }
	for _, manager := range []string{"docker-compose", "dockerfile", "gomod", "custom.regex"} {
		if !slices.Contains(config.EnabledManagers, manager) {
			say("the manager %s is off", manager)
		}
	}
	if len(config.EnabledManagers) != 4 {
		say("of the managers %q one is not known", config.EnabledManagers)
	}
	files := []string{"homelab/contabo/Dockerfile"}
	for _, host := range hosts {
		file := "homelab/" + host + "/compose.yaml"
		files = append(files, file)
		if !matches(config.DockerCompose.ManagerFilePatterns, file) {
			say("no manager reads %s", file)
		}
		for _, service := range t.stacks[host].Services {
			if name, tag, _ := split(service.Image); name != "runner" {
				problems = append(problems, config.image(name, tag)...)
			}
		}
	}
	if matches(config.DockerCompose.ManagerFilePatterns, "homelab/rehearsal/prod-services.yaml") {
		say("the rehearsal's images are looked for in a registry")
	}
	for _, module := range []string{".", "homelab", "tools", "homelab/rehearsal/compose"} {
		files = append(files, path.Join(module, "go.mod"))
	}
	for _, file := range files {
		if _, err := os.Stat(filepath.Join(home, "..", file)); err != nil {
			problems = append(problems, err.Error())
		}
	}
	for _, custom := range config.CustomManagers {
		seen, why := custom.seen()
		files = append(files, seen...)
		problems = append(problems, why...)
	}
	for _, file := range files {
		for _, ignored := range config.IgnorePaths {
			ok, err := path.Match(ignored, file)
			if folder, all := strings.CutSuffix(ignored, "/**"); ok || err != nil || all && strings.HasPrefix(file, folder+"/") {
				say("%s is ignored", file)
			}
		}
	}
	return append(problems, config.rules(t)...)
}

// image says what Renovate would not do for an image.
func (c renovateConfig) image(name, tag string) (problems []string) {
	versioning, major, pinned := ordered, false, false
	for _, rule := range c.PackageRules {
		pinned = pinned || on(rule.PinDigests) && slices.Contains(rule.MatchManagers, "docker-compose")
		if !rule.names(name) {
			continue
		}
		if text, ok := strings.CutPrefix(rule.Versioning, "regex:"); ok {
			expression, err := regexp.Compile(text)
			if err != nil {
				return []string{err.Error()}
			}
			versioning = expression
		}
		if rule.AllowedVersions != "" {
			allowed, err := pattern(rule.AllowedVersions)
			if err != nil {
				problems = append(problems, name+": "+err.Error())
			} else if !allowed.MatchString(tag) {
				problems = append(problems, fmt.Sprintf("%s:%s is not among the allowed versions %s", name, tag, rule.AllowedVersions))
			}
		}
		major = major || off(rule.Enabled) && slices.Equal(rule.MatchUpdateTypes, []string{"major"})
	}
	if !versioning.MatchString(tag) {
		problems = append(problems, fmt.Sprintf("%s:%s cannot be ordered among its versions", name, tag))
	}
	if slices.Contains(noWayBack, name) && !major {
		problems = append(problems, "another major version of "+name+" is proposed")
	}
	if !pinned {
		problems = append(problems, name+" gets no digest")
	}
	return problems
}

// rules says which rules are for nothing.
func (c renovateConfig) rules(t *tree) (problems []string) {
	images := map[string]bool{}
	for _, host := range hosts {
		for _, service := range t.stacks[host].Services {
			name, _, _ := split(service.Image)
			images[name] = true
		}
	}
	together := false
	for _, rule := range c.PackageRules {
		for _, name := range rule.MatchPackageNames {
			one := renovateRule{MatchPackageNames: []string{name}}
			found := false
			for image := range images {
				found = found || one.names(image)
			}
			if !found {
				problems = append(problems, "a rule is for "+name+", which nobody has")
			}
		}
		const langfuse = "docker.langfuse.com/langfuse/langfuse"
		together = together || rule.GroupName != "" && rule.names(langfuse) && rule.names(langfuse+"-worker")
	}
	if !together {
		problems = append(problems, "Langfuse's web and worker are not proposed together")
	}
	return problems
}

// seen are the files that a custom manager reads, each with a version in it.
func (c customManager) seen() (files, problems []string) {
	root := filepath.Join(home, "..")
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{".git", "bin", "demo"}, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		file, err := filepath.Rel(root, name)
		if err != nil || !matches(c.ManagerFilePatterns, file) {
			return err
		}
		files = append(files, file)
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, words := range c.MatchStrings {
			expression, err := regexp.Compile(words)
			if err != nil {
				return err
			}
			if expression.SubexpIndex("currentValue") < 0 || !expression.Match(text) {
				problems = append(problems, fmt.Sprintf("%s has no %s", file, words))
			}
		}
		return nil
	})
	if err != nil {
		problems = append(problems, err.Error())
	}
	if len(files) == 0 {
		problems = append(problems, fmt.Sprintf("no file is %q", c.ManagerFilePatterns))
	}
	return files, problems
}

// What makes Renovate blind, and what it then misses.
func TestRenovateSeesEveryVersion(t *testing.T) {
	tree, err := load(home)
	if err != nil {
		t.Fatal(err)
	}
	text := read(t, filepath.Join(home, "../renovate.json"))
	all := complaints(t, "renovate_test.go")
	for _, problem := range tree.renovate(text) {
		t.Error(problem)
	}
	for _, row := range []struct{ name, old, new, want string }{
		{"a key is spelled wrongly", `"enabledManagers"`, `"enabledManager"`, "unknown field"},
		{"it is no JSON", `"extends": [`, `"extends": `, "invalid character"},
		{"a manager is off", `, "gomod"`, ``, "the manager gomod is off"},
		{"a manager is one that there is not", `"gomod",`, `"gomod", "docker",`, "one is not known"},
		{"a compose file is not read", `homelab/[^/]+/compose`, `homelab/prod[^/]+/compose`, "no manager reads homelab/contabo/compose.yaml"},
		{"the rehearsal is read", `/compose\\.yaml$/`, `/compose\\.yaml$/", "/rehearsal/`, "the rehearsal's images are looked for"},
		{"vendored files are ignored", `"examples/**"`, `"internal/web/static/**"`, "internal/web/static/vendor/README.md is ignored"},
		{"a version line has another form", `npm package`, `npm-package`, "vendor/README.md has no"},
		{"a file is elsewhere", `cmd/rehearse/prepare`, `cmd/rehearse/prepared`, "no file is"},
		{"no digests", `"pinDigests": true`, `"pinDigests": false`, "nginx gets no digest"},
		{"a store's major version", `"clickhouse/clickhouse-server", "redis"]`, `"redis"]`, "another major version of clickhouse/clickhouse-server is proposed"},
		{"a short line of ClickHouse", `\\d+\\.(3|8)\\.`, `\\d+\\.8\\.`, "clickhouse/clickhouse-server:26.3"},
		{"a pattern without slashes", `"allowedVersions": "/`, `"allowedVersions": "`, "does not stand between slashes"},
		{"Plex' commit", `-[0-9a-f]{9}$`, `$`, "plexinc/pms-docker:"},
		{"SearXNG's days", `"searxng/searxng"`, `"searxng/searx"`, "searxng/searxng:"},
		{"a rule for nobody", `"portainer/portainer-ce"`, `"portainer/portainer"`, "a rule is for portainer/portainer, which nobody has"},
		{"Langfuse in two parts", `"groupName": "Langfuse"`, `"groupName": ""`, "not proposed together"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if !bytes.Contains(text, []byte(row.old)) {
				t.Fatalf("renovate.json does not have %q: the row breaks nothing", row.old)
			}
			problems := tree.renovate(bytes.Replace(text, []byte(row.old), []byte(row.new), 1))
			if !wanted(all, problems, row.want) {
				t.Errorf("want %q, got %q", row.want, problems)
			}
		})
	}
	owed(t, all)
}

// Gitea's 28 follows on 1.27: the order must not be that of 1 and 28, and tags without a
// patch, which move, are none of its versions.
func TestGiteasVersionsAreInOrder(t *testing.T) {
	var config renovateConfig
	if err := json.Unmarshal(read(t, filepath.Join(home, "../renovate.json")), &config); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(config.PackageRules, func(r renovateRule) bool { return r.names("docker.gitea.com/gitea") && r.Versioning != "" })
	if i < 0 {
		t.Fatal("no rule says what Gitea's versions are")
	}
	versioning := regexp.MustCompile(strings.TrimPrefix(config.PackageRules[i].Versioning, "regex:"))
	allowed, err := pattern(config.PackageRules[i].AllowedVersions)
	if err != nil {
		t.Fatal(err)
	}
	for tag, want := range map[string]string{"1.27.3": "27.3.", "1.26.12": "26.12.", "28.0.0": "28.0.0", "29.1.2": "29.1.2"} {
		found := versioning.FindStringSubmatch(tag)
		if found == nil || strings.Join(found[1:], ".") != want || !allowed.MatchString(tag) {
			t.Errorf("%s is %q, want %s", tag, found, want)
		}
	}
	for _, tag := range []string{"1", "1.27", "28", "28.1", "nightly", "1.27.3-rootless"} {
		if allowed.MatchString(tag) && versioning.MatchString(tag) {
			t.Errorf("%s is among its versions", tag)
		}
	}
}
