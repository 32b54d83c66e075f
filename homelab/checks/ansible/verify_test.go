package ansible

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"davidcockson.com/runner/homelab/internal/peer"
)

// evidence is what the last verification wrote.
func (l *lab) evidence(t *testing.T, o outcome) string {
	t.Helper()
	files, err := filepath.Glob(l.path("evidence/*.md"))
	if err != nil || len(files) == 0 {
		t.Fatal("no evidence was written: ", err, o.text)
	}
	text, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestVerifyWhereEverythingHolds(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	peer.Need(t, "curl")
	if os.Getuid() != 0 {
		peer.Absent(t, "the stand-in of nginx listens on port 80, which only root may")
	}
	l.made(t)
	w := newWorld(t, l, 1)
	w.serve(t, l)

	o := l.play(t, "verify.yml")
	text := l.evidence(t, o)
	if o.err != nil {
		t.Errorf("%s\n%s", o.text, text)
	}
	for _, want := range []string{
		`(?m)^- time: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`, `(?m)^- commit: [0-9a-f]{40}(-dirty)?$`,
		`\| 1 \| All Prod-Services containers healthy .*plex is healthy \| pass \| running healthy \|`,
		`\| 2 \| Grafana datasource .* \| pass \| Successfully queried \|`,
		`\| 3 \| SearXNG reachable .*SearXNG answers a search as JSON \| pass \| answered \|`,
		`\| 4 \| Job submitted .* \| pass \| runner-outputs/echo.md \|`,
		`\| 5 \| .*Discord took a ping for the answer and one for the failure \| pass \| 2 sent since \|`,
		`\| 5 \| .*the job's trace is visible in Langfuse \| pass \| trace 0123456789abcdef`,
		`\| 5 \| .*a trace posted to Langfuse is read back \| pass \| trace [0-9a-f]{32} \|`,
		`\| 6 \| .*a chat's answer streams \| pass \|`,
		`\| 6 \| .*the conversation is in the history \| pass \|`,
		`\| 6 \| .*a browser shows it, .* \| not tried \|`,
		`\| prod-services \| /volumes/prod-services_data \| there is room on the disk of /volumes/prod-services_data \| pass \| 40% full, 9000 MiB left \|`,
		`runner says that its langfuse is well \| pass \| ok: it says 401 \|`, `runner says that its discord is well \| not tried \| not configured \|`,
		`the vault has all that Prod-Services has \| pass \| idle, 0 files to come \|`,
		`SearXNG is closed on the LAN address \| pass \| refused \|`,
		`SearXNG is closed on the public address \| not tried \| homelab_public_ip is not set \|`,
		`SearXNG listens on its Tailscale address alone \| pass \|`,
		`\| contabo \| http://` + w.davas + `:11434/api/version \| ollama of davas.* \| pass \|`,
		`\| dev-learning \| http://` + w.contabo + `:9464/healthz \| runner of contabo.* \| pass \|`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("the evidence has no %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// The causes that the owner must be able to tell apart, all from Contabo in one run.
func TestVerifyTellsCausesApart(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	peer.Need(t, "curl")
	l.made(t)
	w := newWorld(t, l, 2)
	rows := []struct {
		name   string
		start  func(address string)
		seen   string
		advice string
	}{
		{"nobody listens", func(string) {}, "refused", "nothing listens on that address"},
		{"packets are dropped", func(address string) {
			tcp, err := net.ResolveTCPAddr("tcp4", address)
			if err != nil {
				t.Fatal(err)
			}
			deaf(t, [4]byte(tcp.IP.To4()), tcp.Port)
		}, "timeout", "the tailnet's access rules do not let this host through"},
		{"it takes the connection and says nothing", func(address string) { silent(t, address) }, "no answer", "said nothing for 10 seconds"},
		{"JSON is off", func(address string) { w.listen(t, address, answer(403, "no")) }, "403", "`json` is missing under search.formats"},
		{"the limiter is on", func(address string) { w.listen(t, address, answer(429, "no")) }, "429", "its limiter is on"},
		{"it fails", func(address string) { w.listen(t, address, answer(502, "no")) }, "server error", "is not well"},
		{"a page comes", func(address string) { w.listen(t, address, answer(200, "<html>results</html>")) }, "not JSON", "instead of JSON"},
		{"other JSON comes", func(address string) { w.listen(t, address, answer(200, `{"a": 1}`)) }, "not JSON", "instead of JSON"},
		{"no such page", func(address string) { w.listen(t, address, answer(404, "no")) }, "404", "no such page"},
		{"it is right", func(address string) { w.listen(t, address, answer(200, `{"results": []}`)) }, "answered", ""},
	}
	var gate []map[string]any
	for i, row := range rows {
		address := strings.TrimSuffix(w.prod, "10") + string([]byte{'5', byte('0' + i)}) + ":8080"
		row.start(address)
		gate = append(gate, map[string]any{"what": row.name, "url": "http://" + address + "/search", "want": "json", "key": "results", "criterion": 3})
	}
	l.settings["verify_gate"] = gate
	// It answers where it must not.
	l.inventory(t, map[string]any{
		"prod.homelab_tailscale_ip": w.prod, "dev.homelab_tailscale_ip": w.dev, "vps.homelab_tailscale_ip": w.contabo,
		"prod.homelab_lan_ip": w.lan, "prod.homelab_public_ip": w.lan, "homelab_davas_ollama": "http://" + w.davas + ":11434",
	})
	w.listen(t, w.lan+":8080", answer(200, "OK"))
	w.langfuse = "wrong key"
	w.listen(t, w.contabo+":9464", w.handler(l, "runner", 9464))
	l.write(t, "docker/contabo_data.full", "97%  9000")

	o := l.play(t, "verify.yml", "--limit", "vps")
	text := l.evidence(t, o)
	if o.err == nil {
		t.Error("it passed")
	}
	for _, row := range rows {
		verdict := "fail"
		if row.advice == "" {
			verdict = "pass"
		}
		if !strings.Contains(text, ": "+row.name+" | "+verdict+" | "+row.seen+" |") {
			t.Errorf("%s: not told as %s", row.name, row.seen)
		}
		if row.advice != "" && !regexp.MustCompile(`, `+row.name+`: `+row.seen+`\. .*`+regexp.QuoteMeta(row.advice)).MatchString(text) {
			t.Errorf("%s: it does not say %q", row.name, row.advice)
		}
	}
	for _, want := range []string{
		"SearXNG is closed on the public address | fail | answered |",
		"| 1 | All Prod-Services containers healthy (Plex, Gitea, Syncthing, Langfuse stack, nginx, SearXNG) | not tried | the host that would tell it was not reached |",
		"- not reached: ", "the vault is synced with Prod-Services over the tailnet | fail |",
		"a trace posted to Langfuse is read back | fail | the post: ",
		"a chat's answer streams | fail |", "the vault has all that Prod-Services has | fail |",
		"there is room on the disk of /volumes/contabo_data | fail | 97% full, 9000 MiB left |",
		"runner says that its langfuse is well | fail | wrong key: it says 401 |", "wrong key: it says 401. mend the key",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the evidence has no %q", want)
		}
	}
	if t.Failed() {
		t.Log(o.text, text)
	}
}

// A runner that is away is a finding like others, and takes nothing else with it.
func TestVerifyOfARunnerThatIsAway(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.made(t)
	newWorld(t, l, 3)
	l.settings["verify_parts"] = []string{"containers", "runer"}
	if o := l.play(t, "verify.yml", "--limit", "vps"); o.err == nil || !strings.Contains(o.text, "verify_parts has runer, and there are containers, ") {
		t.Errorf("a part that there is not: %s", o.text)
	}
	l.write(t, "docker/no-volumes", "")
	l.settings["verify_parts"] = []string{"containers", "disks", "reach", "runner"}
	o := l.play(t, "verify.yml", "--limit", "vps", "--skip-tags", "davas")
	text := l.evidence(t, o)
	for _, want := range []string{"runner is healthy | pass |", "runner says that it is well | fail |", "ollama of davas, models | not tried | --skip-tags davas |", "the volumes of contabo | fail | no such volume"} {
		if !strings.Contains(text, want) {
			t.Errorf("the evidence has no %q:\n%s", want, text)
		}
	}
}
