package ansible

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"davidcockson.com/runner/homelab/internal/peer"
)

// The backup is laid down once, where the owner says so, and what it kept of the vault comes
// back by restore.yml.
func TestTheBackupIsLaidDownAndRestores(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	peer.Need(t, "restic")
	if os.Getuid() != 0 {
		peer.Absent(t, "the deployment gives files to root, and the test is another user")
	}
	withSecrets(t, l)
	l.program(t, "docker", "#!/bin/sh\n[ \"$1\" = info ] || exit 0\necho /var/lib/docker\n")
	l.program(t, "curl", "#!/bin/sh\necho '{\"ok\":true}'\n")
	l.settings["backup_secrets"] = l.path("copies")
	l.write(t, "prod/opt/ca/ca.pem", "an authority\n")
	l.write(t, "prod/vault/note.md", "words\n")
	repositories := map[string]any{"prod.homelab_backup_repository": l.path("repositories/prod"), "vps.homelab_backup_repository": "local:" + l.path("repositories/vps")}
	deploy := func(arguments ...string) outcome {
		return l.play(t, "site.yml", append([]string{"--tags", "backup"}, arguments...)...)
	}

	if o := deploy(); o.err != nil || o.changed() != 0 || strings.Count(o.text, "Not done: the inventory has no homelab_backup_repository") != 2 {
		t.Fatalf("without a repository: %s", o.text)
	}
	l.inventory(t, repositories)
	if o := deploy(); o.err == nil || !strings.Contains(o.text, "on the same filesystem as what it is to save: both would be lost together") {
		t.Fatalf("on the same disk: %s", o.text)
	}
	l.settings["homelab_backup_same_disk"] = true
	if o := deploy("--check"); o.err != nil {
		t.Fatalf("check mode before the first deployment: %s", o.text)
	}
	if o := deploy(); o.err != nil || o.changed() == 0 {
		t.Fatal(o.text)
	}
	if o := deploy(); o.err != nil || o.changed() != 0 {
		t.Fatalf("a second run changed %d: %s", o.changed(), o.text)
	}

	secrets := l.secrets(t)
	if text := l.read(t, "copies/secrets.yml"); !strings.HasPrefix(text, "$ANSIBLE_VAULT;") {
		t.Errorf("the copy of the secrets is not encrypted: %.40q", text)
	}
	for name, want := range map[string]string{
		"prod/opt/backup/plan":             "\ngitea-db postgres project=" + l.path("prod/opt/prod-services") + " service=gitea-db volume=prod-services_gitea-db stop=gitea\n",
		"vps/opt/backup/plan":              "\ncontabo-syncthing files folder=/root/.config/syncthing only=config.xml,cert.pem,key.pem unit=syncthing@root.service\n",
		"prod/opt/backup/push":             "\nurl = \"http://127.0.0.1:3001/api/push/" + password(secrets, "PROD_BACKUP_PUSH_TOKEN") + "\"\n",
		"vps/opt/backup/push":              "\nresolve = \"kuma.home.example.org:443:" + prodIP + "\"\ncacert = \"" + l.path("vps/opt/backup/ca.pem") + "\"\n",
		"vps/opt/backup/ca.pem":            "an authority\n",
		"vps/opt/backup/password":          password(secrets, "BACKUP_PASSWORD") + "\n",
		"prod/opt/backup/known":            " ",
		"vps/units/homelab-backup.service": "ReadWritePaths=" + l.path("vps/opt/backup") + " " + l.path("vps/state") + " -" + l.path("repositories/vps") + "\n",
	} {
		if text := l.read(t, name); !strings.Contains(text, want) {
			t.Errorf("%s has no %q:\n%s", name, want, text)
		}
	}
	for _, name := range []string{"plan", "password", "push", "environment", "repository"} {
		if info, err := os.Stat(l.path("prod/opt/backup", name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	analyze := peer.Need(t, "systemd-analyze")
	for _, host := range []string{"prod", "vps"} {
		out, err := exec.Command(analyze, "verify", "--man=no", l.path(host, "units/homelab-backup.service"), l.path(host, "units/homelab-backup.timer")).CombinedOutput()
		if err != nil {
			t.Errorf("the units of %s: %v\n%s", host, err, out)
		}
	}

	if out, err := l.command(t.Context(), l.path("prod/opt/bin/homelab-backup"), l.path("prod/opt/backup"), "item", "vault").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Remove(l.path("prod/vault/note.md")); err != nil {
		t.Fatal(err)
	}
	restore := []string{"-e", "item=vault", "-e", "path=note.md"}
	if o := l.play(t, "restore.yml", append(restore, "--check")...); o.err != nil || !strings.Contains(o.text, "vault: the snapshot ") {
		t.Errorf("check mode: %s", o.text)
	}
	if _, err := os.Stat(l.path("prod/vault/note.md")); err == nil {
		t.Error("check mode brought it back")
	}
	if o := l.play(t, "restore.yml", restore...); o.err != nil || !strings.Contains(o.text, "1 files brought back") {
		t.Errorf("it was not brought back: %s", o.text)
	}
	if text := l.read(t, "prod/vault/note.md"); text != "words\n" {
		t.Errorf("it has %q", text)
	}
	if o := l.play(t, "restore.yml", append(restore, "--limit", "vps")...); o.err == nil || !strings.Contains(o.text, "vault is kept of prod, which --limit leaves out") {
		t.Errorf("on the wrong host: %s", o.text)
	}
	if o := l.play(t, "backup.yml", "--limit", "vps"); o.err == nil || !strings.Contains(o.text, "failed: runner") {
		t.Errorf("a backup of nothing is no failure: %s", o.text)
	}
}
