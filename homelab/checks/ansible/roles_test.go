package ansible

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"davidcockson.com/runner/homelab/internal/peer"
)

// ollama answers for both model servers.
func (l *lab) ollama(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"version":"0.13.0"}`))
	}))
	t.Cleanup(server.Close)
	l.inventory(t, map[string]any{"homelab_contabo_ollama": server.URL, "homelab_davas_ollama": server.URL})
}

// The whole of what a deployment lays down, in the order in which an owner meets it.
func TestADeploymentLaysEverythingDownOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	peer.Need(t, "git")
	peer.Need(t, "openssl")
	if os.Getuid() != 0 {
		peer.Absent(t, "the deployment gives files to root, and the test is another user")
	}
	l.ollama(t)

	t.Run("the tag secrets makes them and asks no host", func(t *testing.T) {
		if o := l.play(t, "site.yml", "--tags", "secrets"); o.err != nil || strings.Contains(o.text, "TASK [runner") {
			t.Fatal(o.text)
		}
	})
	t.Run("the first run makes the secrets and stops at what only the owner can give", func(t *testing.T) {
		o := l.play(t, "site.yml", "--tags", "config", "--limit", "dev")
		if o.err == nil || !strings.Contains(o.text, "dev-learning/env.example wants a value for DISCORD_ALERT_WEBHOOK") {
			t.Fatal(o.text)
		}
		if text := l.read(t, "home/.config/homelab/secrets.yml"); !strings.HasPrefix(text, "$ANSIBLE_VAULT;") {
			t.Errorf("the secrets are not encrypted: %.40q", text)
		}
		l.give(t, given)
	})
	secrets := l.secrets(t)
	t.Run("the next run lays everything down", func(t *testing.T) {
		l.settings["homelab_plex_claim"] = "claim-of-the-first-run"
		if o := l.play(t, "site.yml", "--tags", "config"); o.err != nil || o.changed() == 0 {
			t.Fatal(o.text)
		}
	})
	t.Run("a further run changes nothing, also without what is given once", func(t *testing.T) {
		delete(l.settings, "homelab_plex_claim")
		var o outcome
		for range 3 { // another runner, of a tree that was edited meanwhile, is a reason to change
			before := runnerOfTree(t)
			o = l.play(t, "site.yml", "--tags", "config")
			if o.changed() == 0 || before == runnerOfTree(t) {
				break
			}
		}
		if o.err != nil || o.changed() != 0 {
			t.Fatalf("changed %d\n%s", o.changed(), o.text)
		}
		if l.secrets(t) != secrets {
			t.Error("the secrets are others now")
		}
	})
	t.Run("modes", l.modes)
	t.Run("every variable has its value", l.variables)
	t.Run("units are valid", func(t *testing.T) {
		analyze := peer.Need(t, "systemd-analyze")
		for _, unit := range []string{"prod/units/homelab-prod-services.service", "dev/units/homelab-dev-learning.service", "vps/units/homelab-contabo.service"} {
			// Units of programs that this machine has not are no fault of ours.
			out, err := exec.Command(analyze, "verify", l.path(unit)).CombinedOutput()
			if text := string(out); err != nil && !strings.Contains(text, "docker.service not found") {
				t.Errorf("%s: %v\n%s", unit, err, text)
			}
		}
	})
	t.Run("runner accepts its configuration", func(t *testing.T) {
		out, err := exec.Command(l.path("vps/opt/contabo/runner"), "init", "--config", l.path("vps/etc/runner.yaml")).CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if text := l.read(t, "vps/state/password"); strings.Contains(text, password(secrets, "RUNNER_PASSWORD")) || len(text) < 40 {
			t.Error("the control room's password is not hashed")
		}
	})
	t.Run("another password in the vault is set by the next run", func(t *testing.T) {
		before := l.read(t, "vps/state/password")
		l.give(t, map[string]string{"RUNNER_PASSWORD": strings.Repeat("0123456789abcdef", 2)})
		if o := l.play(t, "site.yml", "--tags", "password", "--limit", "vps"); o.err != nil || o.changed() != 2 {
			t.Errorf("changed %d: %s", o.changed(), o.text)
		}
		if l.read(t, "vps/state/password") == before {
			t.Error("the password is the old one")
		}
	})
}

func TestCheckModeWritesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if o := l.play(t, "site.yml", "--tags", "config", "--limit", "prod", "--check"); o.err != nil {
		t.Fatal(o.text)
	}
	for _, folder := range []string{"home/.config/homelab", "prod/opt", "prod/media"} {
		if _, err := os.Stat(l.path(folder)); !os.IsNotExist(err) {
			t.Errorf("%s was made: %v", folder, err)
		}
	}
}

// Before there is anything, check mode shows all but what containers would do.
func TestCheckModeComesBeforeTheFirstDeployment(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	withSecrets(t, l)
	l.ollama(t)
	o := l.play(t, "site.yml", "--check", "--skip-tags", "verify,syncthing")
	if o.err != nil {
		t.Fatal(o.text)
	}
	for _, words := range []string{"Not shown: prod-services does not lie on prod yet", "Not shown: dev-learning does not lie on dev yet", "Not shown: contabo does not lie on vps yet"} {
		if !strings.Contains(o.text, words) {
			t.Errorf("it does not say %q: %s", words, o.text)
		}
	}
	for _, host := range []string{"prod", "dev", "vps"} {
		if names, err := filepath.Glob(l.path(host + "/opt/*")); err != nil || len(names) > 0 {
			t.Errorf("on %s were made: %q, %v", host, names, err)
		}
	}
}

func TestNoSecretIsPrinted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	withSecrets(t, l)
	const key = "the owner's own key"
	l.write(t, "own.pem", "a certificate\n")
	l.write(t, "own.key", key+"\n")
	l.settings["homelab_certificate"], l.settings["homelab_certificate_key"] = l.path("own.pem"), l.path("own.key")
	o := l.play(t, "site.yml", "--tags", "config", "--limit", "dev,prod", "-vv", "--diff")
	if l.read(t, "prod/opt/prod-services/nginx/tls/key.pem") != key+"\n" || strings.Contains(o.text, key) {
		t.Error("the certificate's key is in the output, or not in its place")
	}
	if o.err != nil || !strings.Contains(o.text, "+++ after: ") || !strings.Contains(l.read(t, "dev/opt/dev-learning/.env"), given["DISCORD_ALERT_WEBHOOK"]) {
		t.Fatal("it did not show what it wrote: ", o.text)
	}
	n := 0
	for _, line := range strings.Split(l.secrets(t), "\n") {
		if name, value, ok := strings.Cut(line, ": "); ok && len(value) > 8 {
			n++
			if strings.Contains(o.text, strings.Trim(value, "'")) {
				t.Errorf("%s is in the output", name)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d secrets were looked for", n)
	}
}

// runnerOfTree tells the runner that a deployment builds from that of another tree.
func runnerOfTree(t *testing.T) string {
	t.Helper()
	programs, err := filepath.Glob("../../../bin/runner-linux-*")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	for _, program := range programs {
		text, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(text)
	}
	version, err := exec.Command("git", "-c", "safe.directory=*", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %x", version, sum.Sum(nil))
}

func password(secrets, name string) string {
	return regexp.MustCompile(`(?m)^` + name + `: (.*)$`).FindStringSubmatch(secrets)[1]
}

func (l *lab) modes(t *testing.T) {
	for name, want := range map[string]fs.FileMode{
		"home/.config/homelab/secrets.yml": 0o600, "home/.config/homelab/vault-password": 0o600,
		"prod/opt/prod-services/.env": 0o600, "dev/opt/dev-learning/.env": 0o600, "vps/opt/contabo/.env": 0o600,
		"prod/opt/prod-services/nginx/tls/key.pem": 0o600, "prod/opt/ca/ca-key.pem": 0o600,
		"vps/etc/runner.yaml": 0o640, "vps/etc/secrets/discord_webhook": 0o440, "vps/opt/contabo/runner": 0o755,
		"prod/opt/bin/compose-up": 0o755, "prod/opt/bin/kuma-sync": 0o755,
	} {
		info, err := os.Stat(l.path(name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", name, info.Mode().Perm(), want)
		}
	}
	if _, err := os.Stat(l.path("prod/opt/prod-services/env.example")); err == nil {
		t.Error("env.example was copied too")
	}
}

// variables holds each .env against its env.example: names, and for made ones the form.
func (l *lab) variables(t *testing.T) {
	forms := map[string]string{"hex": `[0-9a-f]`, "base64url": `[A-Za-z0-9_-]`}
	entry := regexp.MustCompile(`(?m)^# (made|given) · (.*)\n(?:# .*\n)*([A-Z][A-Z0-9_]*)=`)
	sized := regexp.MustCompile(`^(\d+) (hex|base64url)`)
	for stack, host := range map[string]string{"prod-services": "prod", "dev-learning": "dev", "contabo": "vps"} {
		env := l.read(t, host+"/opt/"+stack+"/.env")
		example, err := os.ReadFile("../../" + stack + "/env.example")
		if err != nil {
			t.Fatal(err)
		}
		entries := entry.FindAllStringSubmatch(string(example), -1)
		if len(entries) < 10 {
			t.Fatalf("%s/env.example has %d variables", stack, len(entries))
		}
		for _, e := range entries {
			line := regexp.MustCompile(`(?m)^` + e[3] + `='(.*)'$`).FindStringSubmatch(env)
			if line == nil {
				t.Errorf("%s: %s is missing", stack, e[3])
				continue
			}
			pattern := `.*`
			if m := sized.FindStringSubmatch(e[2]); m != nil {
				pattern = forms[m[2]] + `{` + m[1] + `}`
			} else if strings.HasPrefix(e[2], "pk-lf-") || strings.HasPrefix(e[2], "sk-lf-") {
				pattern = e[2][:6] + `[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`
			}
			if !regexp.MustCompile(`^` + pattern + `$`).MatchString(line[1]) {
				t.Errorf("%s: %s is not %s", stack, e[3], e[2])
			}
		}
	}
}

// What a deployment must not begin with. Each is one sentence that the owner reads.
func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	needAnsible(t)
	rows := []struct {
		name      string
		inventory map[string]any
		prepare   func(*testing.T, *lab)
		arguments []string
		want      []string
	}{
		{"addresses that are none of the tailnet, and empty ones", map[string]any{"dev.homelab_tailscale_ip": "192.168.1.11", "prod.homelab_tailscale_ip": ""}, nil,
			[]string{"--tags", "assert", "--limit", "dev,prod"},
			[]string{"homelab_tailscale_ip of dev is 192.168.1.11. It must be the host's own Tailscale address, in 100.64.0.0/10",
				"homelab_tailscale_ip of prod is . It must be the host's own Tailscale address, in 100.64.0.0/10"}},
		{"the same, under the tag of a host's part", map[string]any{"prod.homelab_tailscale_ip": "0.0.0.0"}, nil,
			[]string{"--tags", "prod-services", "--limit", "prod"}, []string{"homelab_tailscale_ip of prod is 0.0.0.0. It must be"}},
		{"the same, without the assertions", map[string]any{"prod.homelab_tailscale_ip": "0.0.0.0"}, withSecrets,
			[]string{"--tags", "config", "--skip-tags", "assert", "--limit", "prod"}, []string{"homelab_tailscale_ip of prod is 0.0.0.0. It must be"}},
		{"an address that is not this host's", map[string]any{"dev.homelab_tailscale_ip": "100.64.0.99"}, nil,
			[]string{"--tags", "assert", "--limit", "dev"}, []string{"and the inventory says 100.64.0.99"}},
		{"a host that is logged out", nil, func(t *testing.T, l *lab) {
			l.program(t, "tailscale", "#!/bin/sh\necho 'no current Tailscale IPs; state: NeedsLogin' >&2\nexit 1\n")
		}, []string{"--tags", "assert", "--limit", "dev"},
			[]string{"has not joined the tailnet (no current Tailscale IPs; state: NeedsLogin). Run `tailscale up` there"}},
		{"a Docker that is stopped", nil, func(t *testing.T, l *lab) {
			l.program(t, "docker", "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
		}, []string{"--tags", "assert", "--limit", "dev"}, []string{"Docker does not answer on"}},
		{"Debian's old compose", nil, func(t *testing.T, l *lab) {
			l.program(t, "docker", "#!/bin/sh\ncase $1 in version) echo 20.10.24;; *) echo 'docker: no compose' >&2; exit 1;; esac\n")
		}, []string{"--tags", "assert", "--limit", "dev"}, []string{"needs the compose plugin of Docker, 2.23.1 or newer, and has none"}},
		{"a model server that is missing", nil, nil,
			[]string{"--tags", "assert", "--limit", "vps"}, []string{"No Ollama answers at http://127.0.0.1:1 on vps"}},
		{"a LAN address that would open every address", map[string]any{"prod.homelab_lan_ip": "0.0.0.0"}, withSecrets,
			[]string{"--tags", "config", "--limit", "prod"}, []string{"would publish services on every address"}},
		{"a placeholder in the inventory", map[string]any{"homelab_domain": "REPLACE_ME"}, withSecrets,
			[]string{"--tags", "config", "--limit", "prod"}, []string{"wants a value for HOME_DOMAIN"}},
		{"a word of an example and 64 zeros among the secrets", nil, func(t *testing.T, l *lab) {
			l.made(t)
			l.give(t, map[string]string{"SEARXNG_SECRET": "ultrasecretkey", "LANGFUSE_ENCRYPTION_KEY": strings.Repeat("0", 64)})
		}, []string{"--tags", "secrets", "--limit", "dev"}, []string{"secrets.yml: SEARXNG_SECRET, LANGFUSE_ENCRYPTION_KEY. Such a value is a placeholder"}},
		{"secrets whose password is lost", nil, func(t *testing.T, l *lab) {
			l.made(t)
			if err := os.Remove(l.path("home/.config/homelab/vault-password")); err != nil {
				t.Fatal(err)
			}
		}, []string{"--tags", "secrets", "--limit", "dev"}, []string{"is there and the password that opens it"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			l := newLab(t)
			l.inventory(t, row.inventory)
			if row.prepare != nil {
				row.prepare(t, l)
			}
			o := l.play(t, "site.yml", row.arguments...)
			if o.err == nil {
				t.Error("it passed")
			}
			for _, want := range row.want {
				if !strings.Contains(o.text, want) {
					t.Errorf("want %q in\n%s", want, o.text)
				}
			}
		})
	}
}

// withSecrets gives the lab all secrets, also those of the owner.
func withSecrets(t *testing.T, l *lab) {
	t.Helper()
	l.made(t)
	l.give(t, given)
}

func TestADeployRestartsWhatChanged(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	withSecrets(t, l)
	tree := l.path("tree")
	for _, folder := range []string{"dev-learning"} {
		if err := os.CopyFS(filepath.Join(tree, folder), os.DirFS("../../"+folder)); err != nil {
			t.Fatal(err)
		}
	}
	l.settings["homelab_tree"] = tree
	config := func(prometheus, grafana string) {
		l.write(t, "docker/dev-learning.json", `{"services": {
			"prometheus": {"image": "`+prometheus+`", "volumes": [{"source": "`+l.path("dev/opt/dev-learning/prometheus")+`"}]},
			"grafana": {"image": "`+grafana+`", "volumes": [{"source": "`+l.path("dev/opt/dev-learning/grafana")+`"}]}}}`)
	}
	config("prom/prometheus:v3.14.0", "grafana/grafana:13.2.2")
	l.write(t, "docker/dev-learning.services", "prometheus\ngrafana\n")
	deploy := func() outcome { return l.play(t, "site.yml", "--tags", "config,deploy", "--limit", "dev") }

	if o := deploy(); o.err != nil || o.changed() == 0 || strings.Contains(l.read(t, "docker/calls"), "restart") {
		t.Fatalf("the first deploy: %s\n%s", o.text, l.read(t, "docker/calls"))
	}
	if o := deploy(); o.err != nil || o.changed() != 0 {
		t.Fatalf("the second deploy changed %d: %s", o.changed(), o.text)
	}
	file := filepath.Join(tree, "dev-learning/prometheus/prometheus.yml")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append(text, "# another line\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	restarted := regexp.MustCompile(` restart prometheus\n.* up --detach --no-deps --wait --wait-timeout 900 prometheus\n$`)
	if o := deploy(); o.err != nil || !restarted.MatchString(l.read(t, "docker/calls")) {
		t.Fatalf("after a file of Prometheus changed: %s\n%s", o.text, l.read(t, "docker/calls"))
	}
	config("prom/prometheus:latest", "registry:5000/grafana")
	o := l.play(t, "site.yml", "--tags", "deploy", "--limit", "dev", "--skip-tags", "assert")
	if o.err == nil || !strings.Contains(o.text, "names prom/prometheus:latest, registry:5000/grafana: such a tag is another image tomorrow") {
		t.Errorf("they were deployed: %s", o.text)
	}
}

func TestComposeUpWaitsForTheAddress(t *testing.T) {
	t.Parallel()
	rows := []struct {
		name, ip string
		seconds  string
		ok       bool
	}{
		{"an address that is there", "echo '2: tailscale0    inet 100.64.0.10/32 scope global tailscale0'", "3", true},
		{"an address that comes late", "test -e $LAB/asked && echo '2: tailscale0    inet 100.64.0.10/32 scope'; echo >$LAB/asked", "3", true},
		{"one that never comes", "true", "1", false},
		{"another that begins alike", "echo '2: tailscale0    inet 100.64.0.101/32 scope'", "1", false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"ip": row.ip, "docker": `echo "$*" > $LAB/up`, "sleep": "true"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command(books+"/roles/common/files/compose-up", "/opt/homelab/prod-services", "100.64.0.10", row.seconds)
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "LAB="+dir)
			out, err := cmd.CombinedOutput()
			up, _ := os.ReadFile(filepath.Join(dir, "up"))
			if row.ok != (err == nil) || row.ok != (string(up) == "compose --project-directory /opt/homelab/prod-services up --detach\n") {
				t.Errorf("got %v, %q: %s", err, up, out)
			}
		})
	}
}

// Whoever deploys the same tree twice gets the same programs.
func TestTagsThatMoveAreNone(t *testing.T) {
	var vars struct {
		Pinned string `yaml:"common_image_pinned"`
	}
	book(t, "roles/common/vars/main.yml", &vars)
	pinned := regexp.MustCompile(strings.TrimSpace(vars.Pinned))
	for image, want := range map[string]bool{
		"nginx:1.30.4-alpine": true, "postgres:18.6-alpine": true, "pgsty/silo:RELEASE.2026-09-16T00-00-00Z": true,
		"searxng/searxng:2026.10.9-f4822b3fc": true, "plexinc/pms-docker:1.43.4.10903-e5521bd8c": true, "prom/prometheus:v3.14.0": true,
		"runner:v0.3-12-g81a27b5": true, "localhost:5000/nginx:1.30.4": true, "redis@sha256:" + strings.Repeat("0f", 32): true,
		"nginx": false, "nginx:latest": false, "nginx:LATEST": false, "localhost:5000/nginx": false, "nginx:mainline": false, "nginx:1": false, "nginx:1.30": false,
		"redis:7-alpine3.21": false, "redis:7.4-alpine": false, "prom/prometheus:v3.14": false, "alpine:latest-3.21": false, "plexinc/pms-docker:public": false,
		"portainer/portainer-ce:lts": false, "postgres:18-alpine": false, "redis@sha256:0f": false, "else/runner:x": false,
	} {
		if pinned.MatchString(image) != want {
			t.Errorf("%s: pinned is %v", image, !want)
		}
	}
}
