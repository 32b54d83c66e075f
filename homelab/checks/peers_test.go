package checks

import (
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"davidcockson.com/runner/homelab/internal/peer"
)

// judge runs a peer, and returns what it said and whether it was content.
func judge(t *testing.T, dir, program string, args ...string) (string, bool) {
	t.Helper()
	command := exec.Command(peer.Need(t, program), args...)
	command.Dir = dir
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), err == nil
}

// The keys' files are looked for where they are in the container: for the judging they
// are beside the configuration.
func TestPromtoolTakesTheConfigurationAndTheRules(t *testing.T) {
	peer.Need(t, "promtool")
	for _, row := range []struct {
		name, file, old, new string
		taken                bool
	}{
		{"as it lies", "prometheus.yml", "", "", true},
		{"with an unknown key", "prometheus.yml", "metrics_path: /gitea/metrics", "metric_path: /gitea/metrics", false},
		{"with a key file that is not there", "prometheus.yml", "secrets/gitea_metrics_token", "secrets/gitea", false},
		{"with a rule that is no PromQL", "rules/runner.yml", "runner_claiming == 0", "runner_claiming = 0", false},
		{"with words that are no template", "rules/runner.yml", "{{ $labels.provider }} has not", "{{ $label.provider }} has not", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := copyTree("../dev-learning/prometheus", dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(dir, "secrets"), 0o700); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"gitea_metrics_token", "searxng_metrics_password", "syncthing_api_key", "contabo_syncthing_api_key", "kuma_password"} {
				if err := os.WriteFile(filepath.Join(dir, "secrets", name), []byte("a"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			rewrite(t, filepath.Join(dir, "prometheus.yml"), "/run/secrets/", "secrets/")
			if row.old != "" {
				rewrite(t, filepath.Join(dir, row.file), row.old, row.new)
			}
			if out, taken := judge(t, dir, "promtool", "check", "config", "prometheus.yml"); taken != row.taken {
				t.Errorf("promtool: taken %t, want %t:\n%s", taken, row.taken, out)
			}
		})
	}
}

// rewrite replaces old by new, everywhere in a file that must have it.
func rewrite(t *testing.T, path, old, new string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s does not have %q", path, old)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, new)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Every alert of testdata/alerts.yml fires, or does not, as it says there.
func TestAlertsFireWhenTheyShould(t *testing.T) {
	peer.Need(t, "promtool")
	for _, row := range []struct {
		name, file, old, new string
		content              bool
	}{
		{"as they lie", "", "", "", true},
		{"one that waits longer", "homelab.yml", "for: 5m", "for: 8m", false},
		{"one that never fires", "homelab.yml", "up{job=\"node\"} == 0", "up{job=\"node\"} == 2", false},
		{"one that says something else", "homelab.yml", "has not answered for 5 minutes", "is away", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := copyTree("../dev-learning/prometheus/rules", dir); err != nil {
				t.Fatal(err)
			}
			if err := copyTree("testdata/alerts.yml", filepath.Join(dir, "alerts.yml")); err != nil {
				t.Fatal(err)
			}
			rewrite(t, filepath.Join(dir, "alerts.yml"), "../../dev-learning/prometheus/rules/", "")
			if row.old != "" {
				rewrite(t, filepath.Join(dir, row.file), row.old, row.new)
			}
			if out, content := judge(t, dir, "promtool", "test", "rules", "alerts.yml"); content != row.content {
				t.Errorf("content %t, want %t:\n%s", content, row.content, out)
			}
		})
	}
}

func TestYamllintIsContent(t *testing.T) {
	config := filepath.Join(t.TempDir(), "yamllint")
	rules := "extends: default\nrules: {line-length: {max: 200}, document-start: disable, braces: {max-spaces-inside: 1}, comments: {min-spaces-from-content: 1}, octal-values: disable}\n"
	if err := os.WriteFile(config, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, content := judge(t, home, "yamllint", "--strict", "--config-file", config, "ports.yaml", "prod-services", "dev-learning", "contabo"); !content {
		t.Error(out)
	}
	broken := filepath.Join(t.TempDir(), "broken.yaml")
	if err := os.WriteFile(broken, []byte("a: 1\na: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, content := judge(t, home, "yamllint", "--strict", "--config-file", config, broken); content {
		t.Errorf("yamllint takes a key that is there twice: %s", out)
	}
}

func TestShellcheckIsContent(t *testing.T) {
	scripts := []string{}
	err := filepath.WalkDir(home, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		head := make([]byte, 64)
		n, err := io.ReadFull(file, head)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		}
		first, _, _ := strings.Cut(string(head[:n]), "\n")
		if strings.HasPrefix(first, "#!") && strings.HasSuffix(first, "sh") {
			scripts = append(scripts, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(scripts) > 0 {
		if out, content := judge(t, ".", "shellcheck", scripts...); !content {
			t.Error(out)
		}
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\nrm $1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, content := judge(t, ".", "shellcheck", broken); content {
		t.Errorf("shellcheck takes a variable without quotes: %s", out)
	}
}

// systemd asks that the program is there, so the unit is judged with one that is.
func TestSystemdTakesTheUnit(t *testing.T) {
	peer.Need(t, "systemd-analyze")
	for _, row := range []struct {
		name, old, new string
		taken          bool
	}{
		{"as it lies", "", "", true},
		{"with a key that systemd does not know", "ProtectSystem=strict", "ProtectTheSystem=strict", false},
		{"with a program that is not there", "/bin/true up", "/bin/runner-is-not-here up", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			unit := filepath.Join(t.TempDir(), "runner.service")
			if err := copyTree("../contabo/runner.service", unit); err != nil {
				t.Fatal(err)
			}
			rewrite(t, unit, "ExecStart=/usr/local/bin/runner up", "ExecStart=/bin/true up")
			if row.old != "" {
				rewrite(t, unit, row.old, row.new)
			}
			out, content := judge(t, ".", "systemd-analyze", "verify", "--man=no", unit)
			if taken := content && strings.TrimSpace(out) == ""; taken != row.taken {
				t.Errorf("taken %t, want %t: %s", taken, row.taken, out)
			}
		})
	}
}

// The unit keeps runner as far from the machine as systemd can, by systemd's own mark:
// 0 is best, 10 is worst.
func TestTheUnitIsHardened(t *testing.T) {
	if out, content := judge(t, ".", "systemd-analyze", "security", "--offline=yes", "--threshold=20", "../contabo/runner.service"); !content {
		t.Error(out)
	}
	loose := filepath.Join(t.TempDir(), "runner.service")
	if err := copyTree("../contabo/runner.service", loose); err != nil {
		t.Fatal(err)
	}
	rewrite(t, loose, "ProtectSystem=strict\n", "")
	rewrite(t, loose, "SystemCallFilter=@system-service\n", "")
	rewrite(t, loose, "SystemCallFilter=~@privileged @resources\n", "")
	if out, content := judge(t, ".", "systemd-analyze", "security", "--offline=yes", "--threshold=20", loose); content {
		t.Errorf("a loose unit passes too: %s", out)
	}
}

func TestClickHouseFilesAreXML(t *testing.T) {
	files, err := filepath.Glob("../prod-services/clickhouse/*.xml")
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := isXML(string(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, row := range []struct{ name, old, new string }{
			{"an element is not closed", "</clickhouse>", ""},
			{"an element is closed as another", "</clickhouse>", "</click>"},
			{"a sign is no XML", "<clickhouse>", "<clickhouse>\n<<"},
		} {
			if isXML(strings.Replace(string(text), row.old, row.new, 1)) == nil {
				t.Errorf("%s: %s, and it is taken", name, row.name)
			}
		}
	}
}

func isXML(text string) error {
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
