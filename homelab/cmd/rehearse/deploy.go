package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"davidcockson.com/runner/homelab/internal/rehearsal"
)

const (
	inventory = "/rehearsal/inventory.json"
	evidence  = "/rehearsal/evidence"
	root      = "/opt/homelab" // homelab_root
	vpsRoot   = "/opt/contabo" // that of contabo, which shares the files of this machine
	vault     = "/srv/contabo-vault"
	prodVault = "/srv/prod-vault"

	// What group_vars/all.yml says otherwise. No unit is switched on.
	settings = `{"homelab_evidence": "` + evidence + `", "common_systemd": false, "homelab_backup_same_disk": true, `

	// Stand-ins are quick; Langfuse itself takes minutes, and its traces some seconds.
	quick, slow = `"homelab_wait_seconds": 240, "verify_patience": 5}`, `"homelab_wait_seconds": 900}`
)

// folderOf is where a stack's project lies.
func folderOf(stack string) string {
	if stack == "contabo" {
		return vpsRoot + "/contabo"
	}
	return root + "/" + stack
}

// writeHosts writes the inventory, the programs that stand in for Tailscale, and the
// interpreter by which Ansible's modules run in contabo's network. Where a task becomes
// another user it needs no network, and cannot change to another one.
func (w *world) writeHosts() error {
	host := func(group, name string, values map[string]any) map[string]any {
		return map[string]any{group: map[string]any{"hosts": map[string]any{name: values}}}
	}
	children := map[string]any{}
	for _, one := range []map[string]any{
		host("prod_services", "prod-services", map[string]any{"homelab_units": "/rehearsal/units/prod-services", "homelab_tailscale_ip": prodIP, "homelab_lan_ip": prodLAN, "homelab_public_ip": publicIP, "homelab_backup_repository": "/rehearsal/disk/backup/prod-services"}),
		host("dev_learning", "dev-learning", map[string]any{"homelab_units": "/rehearsal/units/dev-learning", "homelab_tailscale_ip": devIP}),
		host("contabo", "vps", map[string]any{"homelab_tailscale_ip": contaboIP, "ansible_python_interpreter": "/rehearsal/bin/python-contabo",
			"homelab_root": vpsRoot, "homelab_units": "/rehearsal/units/contabo", "homelab_backup_repository": "/rehearsal/disk/backup/contabo"}),
	} {
		for group, values := range one {
			children[group] = values
		}
	}
	text, err := json.MarshalIndent(map[string]any{"homelab": map[string]any{"children": children, "vars": map[string]any{
		"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3", "ansible_become_flags": "-s /bin/sh",
		"homelab_domain": "home.example.org", "homelab_timezone": "Europe/London", "homelab_owner_email": "you@example.org",
		"homelab_media_uid": 1000, "homelab_media_gid": 1000, "homelab_media_dir": "/srv/media", "homelab_prod_vault_dir": prodVault,
		"homelab_vault_owner": "vault", "homelab_vault_dir": vault, "homelab_runner_state_dir": "/var/lib/runner",
		"homelab_public_host": "control.example.org", "homelab_tunnel_id": "6f1a52d8-3c1b-4e0a-9f57-2b8f0c7d9e41",
		"homelab_access_team": "example-team", "homelab_access_aud": strings.Repeat("4714c135", 8),
		"homelab_contabo_ollama": "http://127.0.0.1:11434", "homelab_davas_ollama": "http://" + davasIP + ":11434",
	}}}, "", "  ")
	if err != nil {
		return err
	}
	for _, name := range stacks {
		if err := os.MkdirAll("/rehearsal/units/"+name, 0o755); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{
		inventory:                  string(text),
		"/rehearsal/bin/tailscale": "#!/bin/sh\nprintf '%s\\n' " + prodIP + " " + devIP + " " + contaboIP + "\n",
		"/rehearsal/bin/python-contabo": "#!/bin/sh\n[ \"$(id -u)\" = 0 ] || exec /usr/bin/python3 \"$@\"\n" +
			"exec nsenter --net=/run/netns/contabo /usr/bin/python3 \"$@\"\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o755); err != nil {
			return err
		}
	}
	// Compose reads it beside compose.yaml by itself.
	return w.writeOverrides()
}

// playbook runs one, and returns its output also where it fails.
func (w *world) playbook(ctx context.Context, arguments ...string) (string, error) {
	patience := quick
	if len(w.truly) > 0 {
		patience = slow
	}
	cmd := w.command(ctx, "ansible-playbook", append([]string{"-i", inventory, "-e", settings + patience}, arguments...)...)
	cmd.Dir = filepath.Join(w.tree, "ansible")
	text, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, complaint(string(text)))
	}
	return string(text), err
}

var fatal = regexp.MustCompile(`(?m)^(TASK \[.*?\]|fatal: .*|failed: .*)`)

// complaint is the first task that failed, and what it said, which may be several lines.
func complaint(output string) string {
	task := ""
	for _, at := range fatal.FindAllStringIndex(output, -1) {
		line := output[at[0]:at[1]]
		if strings.HasPrefix(line, "TASK") {
			task = line
			continue
		}
		if strings.HasSuffix(line, "{") {
			if end := strings.Index(output[at[0]:], "\n}"); end >= 0 {
				line = strings.Join(strings.Fields(output[at[0]:at[0]+end]), " ")
			}
		}
		return task + " … " + line[max(0, len(line)-600):]
	}
	return tail(output, 3)
}

// secrets makes them as a deployment does, and gives those that only an owner can give.
func (w *world) secrets(ctx context.Context) (string, error) {
	if err := w.writeHosts(); err != nil {
		return "", err
	}
	if _, err := w.playbook(ctx, "site.yml", "--tags", "secrets"); err != nil {
		return "", err
	}
	count := 0
	err := w.changeSecrets(ctx, func(text string) string {
		count = strings.Count(text, "\n")
		for name, value := range map[string]string{
			"DISCORD_ALERT_WEBHOOK": "http://127.0.0.1:9111/api/webhooks/1/alerts",
			"DISCORD_WEBHOOK":       "http://127.0.0.1:9111/api/webhooks/1/jobs",
			"TUNNEL_CREDENTIALS":    `{"AccountTag":"a","TunnelSecret":"b"}`,
		} {
			text = strings.Replace(text, name+": REPLACE_ME", name+": '"+value+"'", 1)
		}
		return text
	})
	return fmt.Sprintf("%d made by the role, encrypted", count), err
}

const (
	secretsFile  = "/rehearsal/home/.config/homelab/secrets.yml"
	passwordFile = "/rehearsal/home/.config/homelab/vault-password"
)

var langfuseKey = regexp.MustCompile(`(?m)^LANGFUSE_SECRET_KEY: .*$`)

// changeSecrets is `ansible-vault edit`.
func (w *world) changeSecrets(ctx context.Context, change func(string) string) error {
	text, err := w.do(ctx, "ansible-vault", "view", "--vault-password-file", passwordFile, secretsFile)
	if err != nil {
		return err
	}
	cmd := w.command(ctx, "ansible-vault", "encrypt", "--vault-password-file", passwordFile, "--output", secretsFile, "-")
	cmd.Stdin = strings.NewReader(change(text))
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("encrypt the secrets: %w: %s", err, tail(string(said), 2))
	}
	return nil
}

// secret is one of them.
func (w *world) secret(ctx context.Context, name string) (string, error) {
	text, err := w.do(ctx, "ansible-vault", "view", "--vault-password-file", passwordFile, secretsFile)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			return strings.Trim(strings.TrimSpace(value), `'"`), nil
		}
	}
	return "", fmt.Errorf("the vault has no %s", name)
}

// deploy is a whole first run, but for the verification.
func (w *world) deploy(ctx context.Context) (string, error) {
	done, cancel := context.WithCancel(ctx)
	defer cancel()
	go w.unit(done)
	text, err := w.playbook(ctx, "site.yml", "--skip-tags", "verify")
	if err != nil {
		return "", errors.Join(err, w.sick(ctx))
	}
	hosts, ok, changed, _ := rehearsal.Recap(text)
	return fmt.Sprintf("%d hosts, %d tasks, %d changed", hosts, ok, changed), nil
}

// unit does what the unit syncthing@vault would: once its files are there Syncthing runs on
// contabo, as the vault's owner.
func (w *world) unit(ctx context.Context) {
	env, home := folderOf("contabo")+"/syncthing.env", "/home/vault/.config/syncthing"
	for {
		_, first := os.Stat(env)
		_, second := os.Stat(home + "/config.xml")
		if errors.Join(first, second) == nil {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(300 * time.Millisecond):
		}
	}
	// It outlives the deployment, and ends with the world.
	cmd := exec.Command("nsenter", "--net=/run/netns/contabo", "setpriv", "--reuid=vault", "--regid=vault", "--init-groups",
		"syncthing", "serve", "--no-browser", "--no-restart", "--logflags=0", "--home="+home)
	cmd.Env = append(w.environment, "HOME=/home/vault")
	text, err := os.ReadFile(env)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			cmd.Env = append(cmd.Env, line)
		}
	}
	if err := cmd.Start(); err != nil {
		fmt.Println("   Syncthing on contabo does not start:", err)
		return
	}
	go cmd.Wait() // how it ends is seen by who asks it
}

// again deploys a second time: nothing may change.
func (w *world) again(ctx context.Context) (string, error) {
	text, err := w.playbook(ctx, "site.yml", "--skip-tags", "verify")
	if err != nil {
		return "", err
	}
	hosts, ok, changed, _ := rehearsal.Recap(text)
	if hosts != 3 {
		return "", fmt.Errorf("the deployment came to %d hosts of 3", hosts)
	}
	if changed > 0 {
		return "", fmt.Errorf("%d of %d tasks changed something: %s", changed, ok, changes(text))
	}
	return fmt.Sprintf("%d hosts, %d tasks, none changed", hosts, ok), nil
}

// changes names the tasks that changed something.
func changes(output string) string {
	var all []string
	task := ""
	for line := range strings.Lines(output) {
		switch {
		case strings.HasPrefix(line, "TASK ["):
			task, _, _ = strings.Cut(strings.TrimPrefix(line, "TASK ["), "]")
		case strings.HasPrefix(line, "changed:"):
			all = append(all, task)
		}
	}
	return strings.Join(all, "; ")
}

// healthy asks the engine.
func (w *world) healthy(ctx context.Context) (string, error) {
	text, err := w.do(ctx, "docker", "ps", "--all", "--format", "{{.Names}}\t{{.Image}}\t{{.Status}}")
	if err != nil {
		return "", err
	}
	var healthy, real int
	var sick []string
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSpace(line), "\t")
		if len(cells) != 3 || !strings.Contains(cells[0], "-1") {
			continue // those that the rehearsal itself started
		}
		if !strings.Contains(cells[2], "(healthy)") {
			sick = append(sick, cells[0]+": "+cells[2])
			continue
		}
		healthy++
		if cells[1] != "rehearsal/standin:1.0.0" {
			real++
		}
	}
	if len(sick) > 0 {
		return "", errors.New(strings.Join(sick, ", "))
	}
	wanted := 0
	for _, stack := range stacks {
		services, err := w.do(ctx, "docker", "compose", "--project-directory", folderOf(stack), "config", "--services")
		if err != nil {
			return "", err
		}
		wanted += len(strings.Fields(services))
	}
	if healthy != wanted {
		return "", fmt.Errorf("%d containers are healthy, of %d services", healthy, wanted)
	}
	return fmt.Sprintf("%d healthy: %d real, %d %ss", healthy, real, healthy-real, standin), nil
}

// sick tells what each container said last that is not healthy.
func (w *world) sick(ctx context.Context) error {
	names, err := w.do(ctx, "docker", "ps", "--all", "--filter", "name=-1", "--format", "{{.Names}} {{.Status}}")
	if err != nil {
		return err
	}
	var all []error
	for line := range strings.Lines(names) {
		if strings.Contains(line, "(healthy)") {
			continue
		}
		name, status, _ := strings.Cut(strings.TrimSpace(line), " ")
		said, err := w.do(ctx, "docker", "logs", "--tail", "5", name)
		checked, checkErr := w.do(ctx, "docker", "inspect", "--format", "{{with .State.Health}}{{range .Log}}{{.Output}}{{end}}{{end}}", name)
		all = append(all, fmt.Errorf("%s, %s: %s; its check: %s", name, status, tail(said, 5), tail(checked, 1)), err, checkErr)
	}
	return errors.Join(all...)
}
