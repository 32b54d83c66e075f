package ansible

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"davidcockson.com/runner/homelab/internal/peer"
)

// What is set up inside the containers of prod-services: once, and with the passwords of
// the vault. Syncthing is a real one; Uptime Kuma is away, which is told at the end.
func TestWhatIsSetUpInsideTheContainers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	program := peer.Need(t, "syncthing")
	l.made(t)
	l.give(t, map[string]string{"SYNCTHING_API_KEY": "key-of-the-first"})
	lan := loopback(4) + "230"
	l.inventory(t, map[string]any{"prod.homelab_lan_ip": lan})
	l.syncthing(t, program, "first", lan)
	// The key has not the form of a made one, as little as the address that of a LAN: both are the lab's.
	l.settings["common_secrets_wrong"] = []string{}
	l.settings["prod_services_kuma"] = "http://" + lan + ":3001"
	l.write(t, "prod/opt/bin/kuma-sync", "#!/bin/sh\n{ echo \"$*\"; cat; echo; } >>\"$LAB/kuma\"\n"+
		"for line in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$line; echo; done 2>/dev/null >>\"$LAB/lines\"\ntest -e \"$LAB/synced\" || echo 'made the monitor Gitea'\ntouch \"$LAB/synced\"\n")
	if err := os.Chmod(l.path("prod/opt/bin/kuma-sync"), 0o755); err != nil {
		t.Fatal(err)
	}
	l.write(t, "docker/users", "ID    Username  Email\n")
	l.write(t, "docker/prod-services.services", "gitea\n")
	l.write(t, "docker/prod-services.json", `{"services": {"gitea": {"image": "docker.gitea.com/gitea:1.27.3"}}}`)

	deploy := func() outcome {
		return l.play(t, "site.yml", "--tags", "deploy", "--limit", "prod", "--skip-tags", "assert")
	}
	// A first user that was not finished is, by the next deployment.
	l.write(t, "docker/gitea-refuses", "")
	if o := deploy(); o.err == nil || !strings.Contains(o.text, "PasswordTooShort") {
		t.Fatalf("Gitea refused: %s", o.text)
	}
	if err := os.Remove(l.path("docker/gitea-refuses")); err != nil {
		t.Fatal(err)
	}
	if o := deploy(); o.err != nil || o.changed() == 0 {
		t.Fatal(o.text)
	}
	secrets := l.secrets(t)
	calls := l.read(t, "docker/calls")
	if want := "up --detach --remove-orphans --wait --wait-timeout 900"; !strings.Contains(calls, want) {
		t.Errorf("it did not ask docker for %q:\n%s", want, calls)
	}
	// The arguments of a command are for all to read.
	given := regexp.MustCompile(`(?m)^([A-Z0-9_]+): (.{16,})$`).FindAllStringSubmatch(secrets, -1)
	for _, secret := range given {
		if strings.Contains(calls, secret[2]) || strings.Contains(l.read(t, "docker/lines"), secret[2]) {
			t.Errorf("%s is among the arguments of a command", secret[1])
		}
	}
	if len(given) < 20 {
		t.Errorf("only %d secrets were looked for", len(given))
	}
	var first struct {
		Name            string `json:"login_name"`
		Email, Password string
	}
	if err := json.Unmarshal([]byte(l.read(t, "docker/first-user")), &first); err != nil || first.Name != "owner" || first.Email != "you@example.org" || first.Password != password(secrets, "GITEA_ADMIN_PASSWORD") {
		t.Errorf("Gitea's first user is made of %+v, %v", first, err)
	}
	if got := strings.TrimSpace(l.read(t, "docker/generated")); got != password(secrets, "SYNCTHING_PASSWORD") {
		t.Errorf("Syncthing's page got the password %q", got)
	}
	asked, values, _ := strings.Cut(l.read(t, "docker/kuma"), "\n")
	if want := "--url http://" + lan + ":3001 --values - " + l.path("prod/opt/prod-services/kuma/monitors.yaml"); asked != want ||
		!strings.Contains(values, `"HOME_DOMAIN": "home.example.org"`) || !strings.Contains(values, password(secrets, "KUMA_PASSWORD")) {
		t.Errorf("kuma-sync was asked %q with %s, want %q", asked, values, want)
	}
	if quiet := l.read(t, "docker/quiet"); !strings.Contains(quiet, "<listenAddress>tcp://"+lan+":22000<") || !strings.Contains(quiet, "natEnabled)>true<") {
		t.Errorf("Syncthing's first start: %s", quiet)
	}
	var options struct{ ListenAddresses []string }
	l.get(t, "GET", lan, "key-of-the-first", "/rest/config/options", &options)
	if got := strings.Join(options.ListenAddresses, " "); got != fmt.Sprintf("tcp://%s:22000 tcp://%s:22000 quic://%s:22000 quic://%s:22000", lan, prodIP, lan, prodIP) {
		t.Errorf("Syncthing listens on %s", got)
	}
	if o := deploy(); o.err != nil || o.changed() != 0 {
		t.Errorf("a second deploy changed %d: %s", o.changed(), o.text)
	}
}

func TestRunnersImageIsBuiltOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	withSecrets(t, l)
	l.ollama(t)
	l.write(t, "docker/contabo.services", "runner\n")
	l.write(t, "docker/contabo.json", `{"services": {"runner": {"image": "runner:81a27b5"}}}`)
	l.write(t, "vps/opt/contabo/Dockerfile", "FROM scratch\n")
	for i := range 2 {
		o := l.play(t, "site.yml", "--tags", "deploy", "--limit", "vps", "--skip-tags", "assert,syncthing")
		if o.err != nil || (o.changed() == 0) != (i == 1) {
			t.Fatalf("run %d changed %d: %s", i, o.changed(), o.text)
		}
	}
	if n := strings.Count(l.read(t, "docker/calls"), "build --tag runner:"); n != 1 {
		t.Errorf("the image was built %d times", n)
	}
}
