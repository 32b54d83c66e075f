// Package ansible runs the playbooks of homelab/ansible for real, against this machine
// and into a temporary folder.
//
// Docker and Tailscale are stand-ins, small programs that come first on PATH; what a
// deployment leaves on disk, asks of them and says is real. Nothing outside of the
// temporary folder is written but bin/ of the tree, where runner is built. No unit is
// switched on, also where systemd runs: tasks that need it say that they were not done.
package ansible

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"davidcockson.com/runner/homelab/internal/peer"
)

const books = "../../ansible"

// A lab is three hosts that are all this machine, each with a folder of its own.
type lab struct {
	dir      string
	settings map[string]any // extra variables
	programs string         // the first folder on PATH
	others   string         // the further ones
}

// Addresses of the tailnet; nobody listens there, and only their form counts.
const prodIP, devIP, contaboIP = "100.64.0.10", "100.64.0.11", "100.64.0.20"

// needAnsible ends a test that cannot run Ansible or has no minutes for it.
func needAnsible(t *testing.T) {
	t.Helper()
	if os.Getenv("CI") != "true" {
		t.Skip("all that runs Ansible takes four minutes: with CI=true")
	}
	peer.Need(t, "ansible-playbook")
}

func newLab(t *testing.T) *lab {
	t.Helper()
	needAnsible(t)
	l := &lab{dir: t.TempDir(), settings: map[string]any{}, others: os.Getenv("PATH")}
	l.programs = filepath.Join(l.dir, "programs")
	for _, folder := range []string{"programs", "home/tmp", "docker", "prod/units", "dev/units", "vps/units"} {
		if err := os.MkdirAll(filepath.Join(l.dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l.program(t, "tailscale", "#!/bin/sh\nprintf '%s\\n' "+strings.Join([]string{prodIP, devIP, contaboIP}, " ")+"\n")
	text, err := os.ReadFile("testdata/docker")
	if err != nil {
		t.Fatal(err)
	}
	l.program(t, "docker", string(text))
	l.inventory(t, nil)
	return l
}

func (l *lab) program(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(l.programs, name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// inventory writes the example's shape with values of the lab, some of them changed. A
// key of a host begins with the host's name and a dot.
func (l *lab) inventory(t *testing.T, changes map[string]any) {
	t.Helper()
	host := func(name, address string) map[string]any {
		return map[string]any{
			"homelab_tailscale_ip": address, "homelab_root": l.path(name, "opt"), "homelab_units": l.path(name, "units"),
		}
	}
	prod, dev, vps := host("prod", prodIP), host("dev", devIP), host("vps", contaboIP)
	prod["homelab_lan_ip"] = "192.168.1.10"
	vars := map[string]any{
		"ansible_connection": "local", "ansible_become": false,
		"homelab_domain": "home.example.org", "homelab_timezone": "Europe/London", "homelab_owner_email": "you@example.org",
		"homelab_media_uid": os.Getuid(), "homelab_media_gid": os.Getgid(),
		"homelab_media_dir": l.path("prod/media"), "homelab_prod_vault_dir": l.path("prod/vault"),
		"homelab_vault_owner": "root", "homelab_vault_dir": l.path("vps/vault"), "homelab_runner_state_dir": l.path("vps/state"),
		"homelab_public_host": "control.example.org", "homelab_tunnel_id": "6f1a52d8-3c1b-4e0a-9f57-2b8f0c7d9e41",
		"homelab_access_team": "example-team", "homelab_access_aud": strings.Repeat("4714c135", 8),
		"homelab_contabo_ollama": "http://127.0.0.1:1", "homelab_davas_ollama": "http://127.0.0.1:1",
	}
	for key, value := range changes {
		name, variable, isHost := strings.Cut(key, ".")
		if !isHost {
			vars[key] = value
			continue
		}
		map[string]map[string]any{"prod": prod, "dev": dev, "vps": vps}[name][variable] = value
	}
	one := func(name string, vars map[string]any) map[string]any {
		return map[string]any{"hosts": map[string]any{name: vars}}
	}
	text, err := json.MarshalIndent(map[string]any{"homelab": map[string]any{
		"children": map[string]any{"prod_services": one("prod", prod), "dev_learning": one("dev", dev), "contabo": one("vps", vps)},
		"vars":     vars,
	}}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, "inventory.json", string(text))
}

func (l *lab) path(elements ...string) string {
	return filepath.Join(append([]string{l.dir}, elements...)...)
}

func (l *lab) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(l.path(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(l.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// An outcome is what a playbook did to each host.
type outcome struct {
	text string
	err  error
}

var recap = regexp.MustCompile(`(?m)^(\w+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)`)

// changed is the number of changed tasks of all hosts.
func (o outcome) changed() (n int) {
	for _, line := range recap.FindAllStringSubmatch(o.text, -1) {
		var c int
		fmt.Sscan(line[3], &c)
		n += c
	}
	return n
}

// play runs a playbook with the lab's inventory and settings.
func (l *lab) play(t *testing.T, book string, arguments ...string) outcome {
	t.Helper()
	extra := map[string]any{
		"homelab_runner_config": l.path("vps/etc"), "homelab_evidence": l.path("evidence"),
		"prod_services_kuma_sync": l.path("bin/kuma-sync"), "common_systemd": false,
	}
	for key, value := range l.settings {
		extra[key] = value
	}
	text, err := json.Marshal(extra)
	if err != nil {
		t.Fatal(err)
	}
	arguments = append([]string{"-i", l.path("inventory.json"), "-e", string(text), book}, arguments...)
	out, err := l.command(t.Context(), "ansible-playbook", arguments...).CombinedOutput()
	return outcome{string(out), err}
}

// command is a program that sees the lab's home and stand-ins, and Go's own folders.
func (l *lab) command(ctx context.Context, name string, arguments ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, arguments...)
	cmd.Dir = books
	home := os.Getenv("HOME")
	cmd.Env = append(withoutAnsible(os.Environ()), "HOME="+l.path("home"), "PATH="+l.programs+":"+l.others, "LAB="+l.path("docker"),
		"GOPATH="+orElse("GOPATH", home+"/go"), "GOCACHE="+orElse("GOCACHE", home+"/.cache/go-build"),
		"GOENV="+orElse("GOENV", home+"/.config/go/env"),
		"ANSIBLE_LOCALHOST_WARNING=false", "ANSIBLE_NOCOLOR=true", "ANSIBLE_HOME="+l.path("home/.ansible"), "TMPDIR="+l.path("home/tmp"),
		"ANSIBLE_LOCAL_TEMP="+l.path("home/tmp"), "ANSIBLE_REMOTE_TEMP="+l.path("home/tmp"), "ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3",
		// The tree may belong to another user, as in a container.
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	return cmd
}

// withoutAnsible leaves out the settings of whoever runs the tests.
func withoutAnsible(environment []string) []string {
	return slices.DeleteFunc(environment, func(entry string) bool { return strings.HasPrefix(entry, "ANSIBLE_") })
}

// loopback is the beginning of 256 addresses of the loopback range: other ones for each
// test, which names its third byte, and mostly for each process.
func loopback(third int) string { return fmt.Sprintf("127.%d.%d.", 20+os.Getpid()%200, third) }

func orElse(variable, value string) string {
	if v := os.Getenv(variable); v != "" {
		return v
	}
	return value
}

// secrets are the decrypted ones.
func (l *lab) secrets(t *testing.T) string {
	t.Helper()
	out, err := l.command(t.Context(), "ansible-vault", "view", "--vault-password-file", l.path("home/.config/homelab/vault-password"),
		l.path("home/.config/homelab/secrets.yml")).Output()
	if err != nil {
		t.Fatalf("decrypt the secrets: %v", err)
	}
	return string(out)
}

// prepared is what made keeps for all labs: the encrypted secrets and the password.
var prepared struct {
	once  sync.Once
	files map[string]string
}

// made gives the lab secrets as the deployment makes them, which is done once for all labs.
func (l *lab) made(t *testing.T) {
	t.Helper()
	names := []string{"home/.config/homelab/vault-password", "home/.config/homelab/secrets.yml"}
	prepared.once.Do(func() {
		if o := l.play(t, "site.yml", "--tags", "secrets", "--limit", "dev"); o.err != nil {
			t.Fatal(o.text)
		}
		prepared.files = map[string]string{}
		for _, name := range names {
			prepared.files[name] = l.read(t, name)
		}
	})
	for _, name := range names {
		if prepared.files[name] == "" {
			t.Fatal("another test could not make the secrets")
		}
		l.write(t, name, prepared.files[name])
		if err := os.Chmod(l.path(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// give replaces lines of the encrypted secrets, as the owner would with ansible-vault edit.
func (l *lab) give(t *testing.T, values map[string]string) {
	t.Helper()
	text := l.secrets(t)
	for name, value := range values {
		line := regexp.MustCompile(`(?m)^` + name + `:.*$`)
		if !line.MatchString(text) {
			t.Fatalf("no secret is called %s", name)
		}
		text = line.ReplaceAllLiteralString(text, name+": '"+value+"'")
	}
	cmd := l.command(t.Context(), "ansible-vault", "encrypt", "--vault-password-file", l.path("home/.config/homelab/vault-password"),
		"--output", l.path("home/.config/homelab/secrets.yml"), "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("encrypt the secrets: %v\n%s", err, out)
	}
}

var given = map[string]string{
	"DISCORD_ALERT_WEBHOOK": "https://discord.example/api/webhooks/1/alerts",
	"DISCORD_WEBHOOK":       "https://discord.example/api/webhooks/1/jobs",
	"TUNNEL_CREDENTIALS":    `{"AccountTag":"a","TunnelSecret":"b"}`,
}
