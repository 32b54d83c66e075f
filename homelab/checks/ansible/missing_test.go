package ansible

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"davidcockson.com/runner/homelab/internal/peer"
)

// without takes a program from the lab, also where this machine has one.
func (l *lab) without(t *testing.T, program string) {
	t.Helper()
	folder := l.path("others")
	err := os.Mkdir(folder, 0o755)
	if err == nil {
		err = os.Remove(filepath.Join(l.programs, program))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range filepath.SplitList(l.others) {
		entries, err := os.ReadDir(from)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if entry.Name() == program {
				continue
			}
			if err := os.Symlink(filepath.Join(from, entry.Name()), filepath.Join(folder, entry.Name())); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
		}
	}
	l.others = folder
}

// What is not there, or not as a deployment needs it.
func TestWhatIsMissing(t *testing.T) {
	t.Parallel()
	needAnsible(t)
	for _, row := range []struct {
		name, arguments string
		prepare         func(*testing.T, *lab)
		want            string
	}{
		{"Tailscale", "--tags assert --limit dev", func(t *testing.T, l *lab) { l.without(t, "tailscale") }, "Tailscale is not installed on dev"},
		{"Docker", "--tags assert --limit dev", func(t *testing.T, l *lab) { l.without(t, "docker") }, "Docker is not installed on dev"},
		{"Davas", "--tags assert --limit vps", func(t *testing.T, l *lab) {
			l.ollama(t)
			davas := regexp.MustCompile(`"homelab_davas_ollama": "[^"]*"`)
			l.write(t, "inventory.json", davas.ReplaceAllString(l.read(t, "inventory.json"), `"homelab_davas_ollama": "http://127.0.0.1:1"`))
		}, "No Ollama answers vps at http://127.0.0.1:1 "},
		{"a host of its own for each group", "--tags assert --limit dev", func(t *testing.T, l *lab) {
			l.write(t, "inventory.json", strings.Replace(l.read(t, "inventory.json"), `"dev": {`, `"dev2": {}, "dev": {`, 1))
		}, "must have exactly one host in the group dev_learning."},
		{"a project that compose understands", "--tags deploy --limit dev --skip-tags assert", func(t *testing.T, l *lab) {
			l.made(t)
			l.program(t, "docker", "#!/bin/sh\necho 'service \"grafana\" has neither an image nor a build context' >&2\nexit 15\n")
		}, `docker compose refuses dev-learning: service \"grafana\" has neither an image`},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := newLab(t)
			row.prepare(t, l)
			if o := l.play(t, "site.yml", strings.Fields(row.arguments)...); o.err == nil || !strings.Contains(o.text, row.want) {
				t.Errorf("want %q in\n%s", row.want, o.text)
			}
		})
	}
}

// What a verification says of each part that does not hold: in the first run what ends
// before it was begun, in the second what is begun and does not arrive.
func TestVerifyTellsWhatFails(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	peer.Need(t, "curl")
	l.made(t)
	w := newWorld(t, l, 5)
	l.settings["verify_patience"] = 1
	submit := func(echo, cut string) {
		l.write(t, "docker/submit", "#!/bin/sh\ncase \"$*\" in\n*'--model echo'*) "+echo+" ;;\n*) "+cut+" ;;\nesac\n")
	}
	w.listen(t, w.dev+":3000", answer(200, `{"status": "ERROR", "message": "dial tcp: connection refused"}`))
	w.listen(t, w.contabo+":9464", w.handler(l, "runner", 9464))
	w.listen(t, w.prod+":3000", w.handler(l, "langfuse-web", 3000))
	for _, run := range []struct {
		name, limit string
		parts       []string
		prepare     func()
		want        []string
	}{
		{"what is not begun", "all", []string{"containers", "listen", "grafana", "job"}, func() {
			l.write(t, "docker/prod-services.ps", `{"Service":"searxng","State":"running","Health":"unhealthy"}`+"\n")
			if err := os.Remove(l.path("docker/dev-learning.services")); err != nil {
				t.Fatal(err)
			}
			l.program(t, "ss", "#!/bin/sh\necho 'LISTEN 0 4096 0.0.0.0:8080 0.0.0.0:*'\n")
			submit("echo 'runner: nobody claims' >&2; exit 1", "echo 'runner: cut, and taken' >&2; exit 0")
		}, []string{
			"searxng is healthy | fail | running unhealthy |",
			"plex is healthy | fail | no container |",
			"the containers of dev-learning | fail | cat: ",
			"SearXNG listens on its Tailscale address alone | fail | 0.0.0.0:8080 |",
			"Grafana asks Prometheus through its datasource prometheus | fail | dial tcp: connection refused |",
			"a job put into _queue/ appears in runner-outputs/ | fail | runner: nobody claims |",
			"a job that fails says so | fail | runner: cut, and taken |",
			"Discord took a ping for the answer and one for the failure | not tried | the jobs did not run |",
			"the job's trace is visible in Langfuse | not tried | the job did not run |",
		}},
		{"what does not arrive", "vps", []string{"job"}, func() {
			l.write(t, "vps/vault/runner-outputs/echo.md", "---\ntrace: http://langfuse/trace/"+strings.Repeat("ab", 16)+"\n---\nthe homelab's verification asks for an echo\n")
			submit(`echo '{"state": "completed", "output": "runner-outputs/echo.md"}'`, "exit 7")
		}, []string{
			"a job put into _queue/ appears in runner-outputs/ | pass |",
			"Discord took a ping for the answer and one for the failure | fail | 0 sent since |",
			"the job's trace is visible in Langfuse | fail | not there: trace abab",
		}},
	} {
		run.prepare()
		if err := os.Chmod(l.path("docker/submit"), 0o755); err != nil {
			t.Fatal(err)
		}
		l.settings["verify_parts"] = run.parts
		o := l.play(t, "verify.yml", "--limit", run.limit)
		text := l.evidence(t, o)
		if o.err == nil {
			t.Errorf("%s: it passed", run.name)
		}
		for _, want := range run.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the evidence has no %q:\n%s", run.name, want, text)
			}
		}
	}
}
