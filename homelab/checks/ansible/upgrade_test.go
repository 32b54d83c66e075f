package ansible

import (
	"os"
	"strings"
	"testing"
)

const (
	giteaBefore = "docker.gitea.com/gitea:1.27.3"
	giteaAfter  = "docker.gitea.com/gitea:1.27.4"
	deployed    = "prod/opt/prod-services/compose.yaml"
	inTree      = "tree/prod-services/compose.yaml"
)

// newUpgrade is a lab in which prod-services is deployed, a newer Gitea can be had, and
// the program that makes backups notes what it was asked.
func newUpgrade(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	l.settings["homelab_tree"] = l.path("tree")
	for _, stack := range []string{"prod-services", "dev-learning", "contabo"} {
		text, err := os.ReadFile("../../" + stack + "/compose.yaml")
		if err != nil {
			t.Fatal(err)
		}
		l.write(t, "tree/"+stack+"/compose.yaml", string(text))
	}
	l.write(t, deployed, l.read(t, inTree))
	l.write(t, "docker/images", giteaBefore+"\n")
	l.write(t, "docker/registry", giteaAfter+"\n")
	l.write(t, "docker/container", giteaBefore)
	text, err := os.ReadFile("testdata/upgrade-docker")
	if err != nil {
		t.Fatal(err)
	}
	l.program(t, "docker", string(text))
	l.write(t, "prod/opt/bin/homelab-backup", "#!/bin/sh\necho \"homelab-backup $*\" >>\"$LAB/calls\"\ntest ! -e \"$LAB/backup-fails\" || { echo \"$3: the disk is full\" >&2; exit 1; }\n")
	if err := os.Chmod(l.path("prod/opt/bin/homelab-backup"), 0o755); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) upgrade(t *testing.T, arguments ...string) outcome {
	t.Helper()
	return l.play(t, "upgrade.yml", append([]string{"-e", "service=gitea", "-e", "tag=1.27.4"}, arguments...)...)
}

// runs looks which image the container has, and which both files name.
func (l *lab) runs(t *testing.T, container, compose string) {
	t.Helper()
	if got := strings.TrimSpace(l.read(t, "docker/container")); got != container {
		t.Errorf("the container has %s, want %s", got, container)
	}
	text, err := os.ReadFile("../../prod-services/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(string(text), "image: "+giteaBefore+"\n", "image: "+compose+"\n", 1)
	for _, file := range []string{deployed, inTree} {
		if l.read(t, file) != want {
			t.Errorf("%s is not the file of before with the image %s", file, compose)
		}
	}
	if _, err := os.Stat(l.path("prod/opt/prod-services/upgrade.yaml")); !os.IsNotExist(err) {
		t.Errorf("the further file is there: %v", err)
	}
}

// inOrder wants each of the words after the one before it.
func inOrder(t *testing.T, text string, words ...string) {
	t.Helper()
	rest := text
	for _, word := range words {
		_, after, ok := strings.Cut(rest, word)
		if !ok {
			t.Errorf("want %q, in this order, in\n%s", words, text)
			return
		}
		rest = after
	}
}

func TestAnUpgradeMovesTheContainerTheHostAndTheTree(t *testing.T) {
	t.Parallel()
	l := newUpgrade(t)
	if o := l.upgrade(t, "--check", "--diff"); o.err != nil || !strings.Contains(o.text, giteaBefore+" → "+giteaAfter) {
		t.Errorf("check mode: %s", o.text)
	}
	l.runs(t, giteaBefore, giteaBefore)
	if calls := l.read(t, "docker/calls"); strings.Contains(calls, "pull") || strings.Contains(calls, "homelab-backup") || strings.Contains(calls, " up ") {
		t.Errorf("check mode did: %s", calls)
	}

	o := l.upgrade(t)
	if o.err != nil || !strings.Contains(o.text, "Commit prod-services/compose.yaml") {
		t.Fatal(o.text)
	}
	l.runs(t, giteaAfter, giteaAfter)
	calls := l.read(t, "docker/calls")
	inOrder(t, calls, "pull --quiet "+giteaAfter, "homelab-backup "+l.path("prod/opt/backup")+" item gitea-db", "homelab-backup "+l.path("prod/opt/backup")+" item gitea\n", "up --detach --no-deps --wait --wait-timeout 900 gitea")

	if o := l.upgrade(t); o.err != nil || o.changed() != 0 || !strings.Contains(o.text, "has "+giteaAfter+" already") {
		t.Errorf("a second run changed %d: %s", o.changed(), o.text)
	}
	if more := strings.TrimPrefix(l.read(t, "docker/calls"), calls); strings.Contains(more, " up ") || strings.Contains(more, "homelab-backup") {
		t.Errorf("a second run did: %s", more)
	}
}

// A digest is that of one tag: another tag drops it, and one that the tree has already,
// since its owner took an update of Renovate's, comes with its own.
func TestAnUpgradeHandlesDigests(t *testing.T) {
	t.Parallel()
	l := newUpgrade(t)
	before, after := giteaBefore+"@sha256:"+strings.Repeat("a", 64), giteaAfter+"@sha256:"+strings.Repeat("b", 64)
	l.write(t, deployed, strings.Replace(l.read(t, deployed), giteaBefore, before, 1))
	l.write(t, inTree, l.read(t, deployed))
	l.write(t, "docker/container", before)
	if o := l.upgrade(t); o.err != nil {
		t.Fatal(o.text)
	}
	l.runs(t, giteaAfter, giteaAfter)

	l.write(t, inTree, strings.Replace(l.read(t, inTree), giteaAfter, after, 1))
	l.write(t, "docker/registry", after+"\n")
	if o := l.upgrade(t); o.err != nil {
		t.Fatal(o.text)
	}
	l.runs(t, after, after)
}

// compose.override.yaml may name other images, as the rehearsal's does: then that one's tag
// moves too, and nothing else in it.
func TestAnUpgradeMovesAnOverrideToo(t *testing.T) {
	t.Parallel()
	l := newUpgrade(t)
	const override = "prod/opt/prod-services/compose.override.yaml"
	const text = "x-standin: &standin\n  image: rehearsal/standin:1.0.0\n\nservices:\n  nginx:\n    image: rehearsal/nginx:1.22.0\n  gitea:\n    <<: *standin\n    command: [gitea]\n  portainer:\n    <<: *standin\n"
	l.write(t, override, text)
	l.write(t, "docker/container", "rehearsal/standin:1.0.0")
	l.write(t, "docker/images", "rehearsal/standin:1.27.4\nrehearsal/standin:1.27.5\n")
	if o := l.upgrade(t); o.err != nil {
		t.Fatal(o.text)
	}
	l.runs(t, "rehearsal/standin:1.27.4", giteaAfter)
	want := strings.Replace(text, "  gitea:\n", "  gitea:\n    image: rehearsal/standin:1.27.4\n", 1)
	if got := l.read(t, override); got != want {
		t.Errorf("the override is\n%s", got)
	}
	if strings.Contains(l.read(t, "docker/calls"), "pull") {
		t.Error("an image that is here was asked for")
	}
	if o := l.upgrade(t); o.err != nil || o.changed() != 0 {
		t.Errorf("a second run changed %d: %s", o.changed(), o.text)
	}
	if o := l.play(t, "upgrade.yml", "-e", "service=gitea", "-e", "tag=1.27.5"); o.err != nil {
		t.Fatal(o.text)
	}
	if got := l.read(t, override); got != strings.Replace(want, "1.27.4", "1.27.5", 1) {
		t.Errorf("the override is\n%s", got)
	}
}

func TestAnUpgradeThatDoesNotComeUpGoesBack(t *testing.T) {
	t.Parallel()
	needAnsible(t)
	rows := []struct {
		name, broken, container string
		want                    []string
	}{
		{"the version before comes back", giteaAfter + "\n", giteaBefore, []string{
			giteaAfter + " did not become healthy as gitea on prod: container prod-services-gitea-1 is unhealthy",
			"Its last words: the database cannot be read by " + giteaAfter, giteaBefore + " runs again and is healthy. No file was changed."}},
		{"the version before does not come back either", giteaAfter + "\n" + giteaBefore + "\n", giteaBefore, []string{
			giteaAfter + " did not become healthy as gitea on prod", "And " + giteaBefore + " does not come back either: container prod-services-gitea-1 is unhealthy",
			"docs/operations.md, an upgrade that does not come up"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			l := newUpgrade(t)
			l.write(t, "docker/broken", row.broken)
			o := l.upgrade(t)
			if o.err == nil {
				t.Error("it passed")
			}
			for _, want := range row.want {
				if !strings.Contains(o.text, want) {
					t.Errorf("want %q in\n%s", want, o.text)
				}
			}
			l.runs(t, row.container, giteaBefore)
		})
	}
}

// Each leaves all as it was, and says why in a sentence.
func TestWhatAnUpgradeRefuses(t *testing.T) {
	t.Parallel()
	needAnsible(t)
	say := func(words ...string) []string {
		var arguments []string
		for _, word := range words {
			arguments = append(arguments, "-e", word)
		}
		return arguments
	}
	rows := []struct {
		name      string
		arguments []string
		prepare   func(*testing.T, *lab)
		want      string
	}{
		{"no tag", say("service=gitea"), nil, "Say which service is to have which tag"},
		{"a digest for a tag", say("service=gitea", "tag=1.27.4@sha256:abc"), nil, "A digest is not given here"},
		{"a service that is not there", say("service=gitae", "tag=1.27.4"), nil, "There is no service gitae, but in prod-services: cadvisor, gitea, gitea-db, "},
		{"a stack that is not there", say("service=gitea", "tag=1.27.4", "stack=prod"), nil, "There is no stack prod, but prod-services, dev-learning, contabo."},
		{"a service that two stacks have", say("service=cadvisor", "tag=0.60.6"), nil, "prod-services and dev-learning have cadvisor each. Say which: -e stack=prod-services"},
		{"a service that is built here", say("service=runner", "tag=1.2.3"), nil, "ansible-playbook site.yml --tags runner"},
		{"a host that is left out", append(say("service=gitea", "tag=1.27.4"), "--limit", "dev"), nil, "gitea runs on prod, which --limit leaves out"},
		{"a tag that moves", say("service=gitea", "tag=latest"), nil, "latest is another image tomorrow"},
		{"another major version of PostgreSQL", say("service=gitea-db", "tag=19.1-alpine"), nil, "gitea-db has 18.6-alpine, and 19.1-alpine is another major version, which needs a dump and a restore"},
		{"another major version of ClickHouse", say("service=langfuse-clickhouse", "tag=27.3.1.2"), nil, "langfuse-clickhouse has 26.3.33.24, and 27.3.1.2 is another major version"},
		{"a stack that was not deployed", say("service=grafana", "tag=13.2.3"), nil, "dev-learning does not lie on dev. Deploy first"},
		{"a tree that was not deployed", say("service=gitea", "tag=1.27.4"), func(t *testing.T, l *lab) {
			l.write(t, inTree, strings.Replace(l.read(t, inTree), giteaBefore, "docker.gitea.com/gitea:1.27.2", 1))
		}, "gitea has the tag 1.27.3 on prod, and 1.27.2 in this tree. Deploy first"},
		{"an image that cannot be had", say("service=gitea", "tag=1.27.9"), nil,
			"docker.gitea.com/gitea:1.27.9 cannot be had: manifest for docker.gitea.com/gitea:1.27.9 not found: manifest unknown. Nothing was changed"},
		{"no program for backups", say("service=gitea", "tag=1.27.4"), func(t *testing.T, l *lab) {
			if err := os.Remove(l.path("prod/opt/bin/homelab-backup")); err != nil {
				t.Fatal(err)
			}
		}, "homelab-backup is not there, which a deployment installs. Nothing was changed. To go on without: -e backup=false"},
		{"a backup that failed", say("service=gitea", "tag=1.27.4"), func(t *testing.T, l *lab) {
			l.write(t, "docker/backup-fails", "")
		}, "The backup of what gitea keeps failed, so nothing was changed: gitea-db: the disk is full; gitea: the disk is full"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			l := newUpgrade(t)
			if row.prepare != nil {
				row.prepare(t, l)
			}
			tree := l.read(t, inTree)
			o := l.play(t, "upgrade.yml", row.arguments...)
			if o.err == nil || !strings.Contains(o.text, row.want) {
				t.Errorf("want %q in\n%s", row.want, o.text)
			}
			calls, err := os.ReadFile(l.path("docker/calls"))
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if strings.Contains(string(calls), " up ") || l.read(t, inTree) != tree || !strings.Contains(l.read(t, deployed), giteaBefore) {
				t.Errorf("it changed something: %s", calls)
			}
		})
	}
}

func TestAnUpgradeWithoutABackupSaysSo(t *testing.T) {
	t.Parallel()
	l := newUpgrade(t)
	if err := os.Remove(l.path("prod/opt/bin/homelab-backup")); err != nil {
		t.Fatal(err)
	}
	o := l.upgrade(t, "-e", "backup=false")
	if o.err != nil || !strings.Contains(o.text, "No backup of gitea-db and gitea is made: backup=false") {
		t.Error(o.text)
	}
	l.runs(t, giteaAfter, giteaAfter)
}

func TestAnUpgradeOfWhatNothingIsKeptNeedsNoBackup(t *testing.T) {
	t.Parallel()
	l := newUpgrade(t)
	l.write(t, "docker/container", "nginx:1.30.4-alpine")
	l.write(t, "docker/images", "nginx:1.30.5-alpine\n")
	o := l.play(t, "upgrade.yml", "-e", "service=nginx", "-e", "tag=1.30.5-alpine")
	if o.err != nil || !strings.Contains(o.text, "The backup keeps nothing of nginx.") {
		t.Error(o.text)
	}
	if strings.Contains(l.read(t, "docker/calls"), "homelab-backup") || !strings.Contains(l.read(t, inTree), "nginx:1.30.5-alpine") {
		t.Error(l.read(t, "docker/calls"))
	}
}
