package kuma

import (
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestWhatADeclarationRefuses(t *testing.T) {
	const admin = "admin: {name: admin, password: secret-of-the-file}\n"
	rows := []struct{ name, text, want string }{
		{"a key that is none", admin + "monitor: []", "field monitor not found"},
		{"no admin", "monitors: []", "admin needs name and password"},
		{"a variable that is not set", "admin: {name: admin, password: \"${NOBODY}\"}", "the variable NOBODY is not set"},
		{"a monitor without a name", admin + "monitors: [{type: ping, hostname: a}]", "monitors[0] has no name"},
		{"two of one name", admin + "monitors: [{name: A, type: ping, hostname: a}, {name: A, type: ping, hostname: b}]", "two monitors are called A"},
		{"a type that is none", admin + "monitors: [{name: A, type: pong}]", `type "pong"`},
		{"a key that is missing", admin + "monitors: [{name: A, type: keyword, url: \"http://a/\"}]", "needs keyword"},
		{"a key of another type", admin + "monitors: [{name: A, type: http, url: \"http://a/\", port: 7}]", "has no port"},
		{"an interval that Kuma refuses", admin + "monitors: [{name: A, type: ping, hostname: a, interval: 5}]", "20 at least"},
		{"a push without its token", admin + "monitors: [{name: A, type: push, interval: 90000}]", "needs pushToken"},
		{"a push that says not how long it may be away", admin + "monitors: [{name: A, type: push, pushToken: a}]", "needs interval"},
		{"a token that Kuma cuts", admin + "monitors: [{name: A, type: push, interval: 90000, pushToken: " + strings.Repeat("a", 33) + "}]", "Kuma keeps 32"},
		{"a token of what pushes nothing", admin + "monitors: [{name: A, type: ping, hostname: a, pushToken: b}]", "has no pushToken"},
		{"a webhook that is missing", admin + "discord: {name: D}", "discord needs name and webhook"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := parse([]byte(row.text), func(string) string { return "" })
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret-of-the-file") {
				t.Errorf("it repeats a value: %v", err)
			}
		})
	}
}

// The declaration that is deployed is one, with every variable that the deploy gives.
func TestTheDeployedDeclaration(t *testing.T) {
	given := map[string]string{"KUMA_PASSWORD": "a", "DISCORD_ALERT_WEBHOOK": "b", "HOME_DOMAIN": "home.example.org",
		"PROD_BACKUP_PUSH_TOKEN": "c", "CONTABO_BACKUP_PUSH_TOKEN": "d"}
	d, err := Load("../../prod-services/kuma/monitors.yaml", func(name string) string { return given[name] })
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../ansible/roles/prod-services/vars/main.yml")
	if err != nil {
		t.Fatal(err)
	}
	var vars struct {
		Values map[string]string `yaml:"prod_services_kuma_values"`
	}
	if err := yaml.Unmarshal(text, &vars); err != nil {
		t.Fatal(err)
	}
	for name := range given {
		if vars.Values[name] == "" {
			t.Errorf("the deploy does not give %s", name)
		}
	}
	if len(d.Monitors) < 20 || d.Discord == nil {
		t.Errorf("it has %d monitors", len(d.Monitors))
	}
}
