package ansible

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"davidcockson.com/runner/homelab/internal/peer"
)

// Between its first start and the REST API's first word a Syncthing has the settings that it
// made itself, which have relays, global discovery and every address. On both hosts they are
// others before it starts.
func TestSyncthingsFirstStartIsQuiet(t *testing.T) {
	program := peer.Need(t, "syncthing")
	for name, change := range map[string]func(t *testing.T, path string){
		"prod-services, by sed": func(t *testing.T, path string) {
			var vars struct {
				Quiet string `yaml:"common_syncthing_quiet"`
			}
			book(t, "roles/common/vars/main.yml", &vars)
			expression := strings.ReplaceAll(vars.Quiet, "{{ syncthing_addresses[0] }}", "192.168.1.10")
			if out, err := exec.Command("sed", "-E", "-i", expression, path).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		},
		"contabo, by Ansible": func(t *testing.T, path string) {
			var tasks []struct {
				Name string
				Loop []struct{ From, To string }
			}
			book(t, "roles/runner/tasks/syncthing.yml", &tasks)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, task := range tasks {
				for _, pair := range task.Loop {
					to := strings.NewReplacer(`\1`, "${1}", "{{ homelab_tailscale_ip }}", "192.168.1.10").Replace(pair.To)
					text = regexp.MustCompile(pair.From).ReplaceAll(text, []byte(to))
				}
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			cmd := exec.CommandContext(t.Context(), program, "generate", "--home="+home, "--gui-user=admin", "--gui-password=x")
			cmd.Env = append(os.Environ(), "STNODEFAULTFOLDER=1", "HOME="+home)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			path := filepath.Join(home, "config.xml")
			loud := func() []string {
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				return regexp.MustCompile(`<(globalAnnounceEnabled|localAnnounceEnabled|relaysEnabled|natEnabled)>true<|<listenAddress>default<`).FindAllString(string(text), -1)
			}
			if len(loud()) < 5 {
				t.Fatalf("its own settings have only %q", loud())
			}
			change(t, path)
			if len(loud()) > 0 {
				t.Errorf("left are %q", loud())
			}
			if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), "<listenAddress>tcp://192.168.1.10:22000</listenAddress>") {
				t.Errorf("it listens elsewhere, %v", err)
			}
		})
	}
}

// book reads a file of the roles.
func book(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(books, path))
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
