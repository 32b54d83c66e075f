package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// allFaults are the faults in the order in which they are made.
func (w *world) allFaults() []fault {
	run := func(lines ...string) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) { return "", w.doAll(ctx, lines...) }
	}
	change := func(text string) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) { return "", w.searxng(ctx, text) }
	}
	// Only a stand-in can be told to answer as a SearXNG does that is set up wrongly.
	instead := func(fault string) func(context.Context) (string, error) {
		return change("    image: rehearsal/standin:1.0.0\n    command: [searxng, \"0.0.0.0:8080\"]\n" +
			"    environment: {STANDIN_FAULT: " + fault + "}\n" +
			"    healthcheck: {test: [CMD, /rehearsal/standin, probe, \"http://127.0.0.1:8080/healthz\"]}\n")
	}
	boot := w.boot("prod-services", prodIP)
	const search = "SearXNG answers a search as JSON"
	const likeIt = standin + " answers as SearXNG does"
	reach := []string{"reach"}
	return []fault{
		{"SearXNG stopped", "SearXNG answers on its Tailscale address", []string{"refused"}, reach, "real searx",
			run(w.compose("prod-services", "stop searxng")), run(w.compose("prod-services", "up --detach --no-deps --wait searxng"))},
		{"SearXNG bound to another address", "SearXNG listens on its Tailscale address alone", []string{prodLAN}, []string{"listen"}, "real searx",
			change("    ports: !override [\"" + prodLAN + ":8080:8080\"]\n"), change("")},
		{"SearXNG without JSON", search, []string{"403"}, reach, likeIt, instead("forbidden"), change("")},
		{"SearXNG limited", search, []string{"429"}, reach, likeIt, instead("limited"), change("")},
		{"SearXNG slow", search, []string{"no answer"}, reach, standin + " is silent", instead("slow"), change("")},
		{"Tailscale's address is late", "SearXNG answers on its Tailscale address", []string{"no route", "timeout"}, reach,
			"real engine and boot script; the address is taken away", w.tailnetGone, w.tailnetBack},
		{"a killed container", "gitea-db is healthy", []string{"exited"}, []string{"containers"}, "real PostgreSQL",
			run("docker kill prod-services-gitea-db-1"), boot},
		{"a full disk", "prod-services_gitea-db", []string{"100% full"}, []string{"disks"}, "real PostgreSQL on a disk of its own",
			w.fillDisk, w.emptyDisk},
		{"a wrong secret", "runner says that its langfuse is well", []string{"wrong key"}, []string{"runner"},
			"real runner and roles, Langfuse " + standin, w.wrongSecret, w.rightSecret},
		{"nginx with a dead upstream", "portainer is healthy", []string{"exited"}, []string{"containers"}, "real nginx, Portainer " + standin,
			w.deadUpstream, boot},
		{"Langfuse down while a job runs", "langfuse-web of prod-services", []string{"refused"}, reach, "real runner, Langfuse " + standin,
			w.langfuseDown, run(w.compose("prod-services", "up --detach --no-deps --wait langfuse-web"))},
		{"runner killed in mid-job and in mid-stream", "runner is healthy", []string{"exited"}, []string{"containers"}, "real runner, nginx, Syncthing",
			w.killRunner, w.runnerBack},
	}
}

func (w *world) compose(stack string, words string) string {
	return "docker compose --project-directory " + folderOf(stack) + " " + words
}

// boot starts what is missing by the script that the unit calls when the machine starts,
// and waits until all is healthy.
func (w *world) boot(stack, address string) func(context.Context) (string, error) {
	line := filepath.Dir(folderOf(stack)) + "/bin/compose-up " + folderOf(stack) + " " + address
	if stack == "contabo" {
		line = "nsenter --net=/run/netns/contabo " + line
	}
	return func(ctx context.Context) (string, error) {
		return "", w.doAll(ctx, line, w.compose(stack, "up --detach --wait"))
	}
}

// searxng writes a further override, so that SearXNG is started anew with it; an empty one
// mends it. The plain override of the rehearsal stays as it is.
func (w *world) searxng(ctx context.Context, change string) error {
	folder := folderOf("prod-services")
	line := "docker compose --project-directory " + folder + " -f " + folder + "/compose.yaml -f " + folder + "/compose.override.yaml"
	if change != "" {
		if err := os.WriteFile(folder+"/fault.yaml", []byte("services:\n  searxng:\n"+change), 0o644); err != nil {
			return err
		}
		line += " -f " + folder + "/fault.yaml"
	}
	return w.doAll(ctx, line+" up --detach --no-deps --wait searxng")
}

// tailnetGone is a machine that has started without its tailnet: what is published on that
// address does not start, and nothing tries again but the unit's script, which waits.
func (w *world) tailnetGone(ctx context.Context) (string, error) {
	if err := w.doAll(ctx, w.compose("prod-services", "stop --timeout 5"), "ip address del "+prodIP+"/24 dev tailnet"); err != nil {
		return "", err
	}
	said, err := w.do(ctx, "docker", "start", "prod-services-searxng-1")
	if err == nil || !strings.Contains(said, "cannot assign requested address") {
		return "", fmt.Errorf("the engine started SearXNG without its address: %q", said)
	}
	w.booting = make(chan error, 1)
	go func() {
		_, err := w.do(ctx, root+"/bin/compose-up", folderOf("prod-services"), prodIP)
		w.booting <- err
	}()
	return "docker start: cannot assign requested address", nil
}

func (w *world) tailnetBack(ctx context.Context) (string, error) {
	began := time.Now()
	// The second address has become the first; prod-services speaks from its own again.
	if err := w.doAll(ctx, "ip address add "+prodIP+"/24 dev tailnet", "ip route replace 100.64.0.0/24 dev tailnet src "+prodIP); err != nil {
		return "", err
	}
	if w.booting != nil { // it was started
		select {
		case err := <-w.booting:
			if err != nil {
				return "", fmt.Errorf("the script that waited for the address: %w", err)
			}
		case <-ctx.Done():
			return "", fmt.Errorf("wait for the boot script: %w", ctx.Err())
		}
	}
	if err := w.doAll(ctx, w.compose("prod-services", "up --detach --wait")); err != nil {
		return "", err
	}
	return fmt.Sprintf("the boot script had it up and healthy %.0f s after the address came", time.Since(began).Seconds()), nil
}

// small is the disk that gitea-db's volume is moved to, so that it can be full.
const small = "/rehearsal/small"

// fillDisk gives the database a disk of its own with little room, and fills it.
func (w *world) fillDisk(ctx context.Context) (string, error) {
	volume, err := w.volume(ctx, "gitea-db")
	if err != nil {
		return "", err
	}
	if err := w.doAll(ctx, w.compose("prod-services", "stop gitea-db"), "mkdir -p "+small, "mount -t tmpfs -o size=160m tmpfs "+small,
		"cp -a "+volume+"/. "+small, "mount --bind "+small+" "+volume,
		w.compose("prod-services", "up --detach --no-deps --wait gitea-db")); err != nil {
		return "", err
	}
	if said, err := w.do(ctx, "dd", "if=/dev/zero", "of="+small+"/filler", "bs=1M"); err == nil || !strings.Contains(said, "No space") {
		return "", fmt.Errorf("the disk did not fill up: %s", said)
	}
	said, err := w.sql(ctx, "gitea", "CREATE TABLE rehearsal AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
	if err == nil || !strings.Contains(said, "No space left on device") && !strings.Contains(said, "could not write") {
		return "", fmt.Errorf("PostgreSQL on a full disk: %s", said)
	}
	return "PostgreSQL: " + tail(said, 1), nil
}

// emptyDisk makes room, and sees that the database writes again.
func (w *world) emptyDisk(ctx context.Context) (string, error) {
	if err := os.Remove(small + "/filler"); err != nil {
		return "", err
	}
	if _, err := w.sql(ctx, "gitea", "CREATE TABLE rehearsal AS SELECT 1; DROP TABLE rehearsal"); err != nil {
		return "", err
	}
	volume, err := w.volume(ctx, "gitea-db")
	if err != nil {
		return "", err
	}
	return "it writes again", w.doAll(ctx, w.compose("prod-services", "stop gitea-db"), "umount "+volume, "cp -a "+small+"/. "+volume,
		"umount "+small, w.compose("prod-services", "up --detach --no-deps --wait gitea-db"))
}

// sql runs SQL in Gitea's database server, inside its container.
func (w *world) sql(ctx context.Context, database, text string) (string, error) {
	return w.do(ctx, "docker", "compose", "--project-directory", folderOf("prod-services"), "exec", "-T", "gitea-db", "sh", "-c",
		`PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE") exec psql --username=gitea --set=ON_ERROR_STOP=1 --no-align --tuples-only --dbname="$0" --command="$1"`,
		database, text)
}

// wrongSecret gives Langfuse's key another value in the vault, and deploys it to contabo.
func (w *world) wrongSecret(ctx context.Context) (string, error) {
	text, err := os.ReadFile(secretsFile)
	if err != nil {
		return "", err
	}
	w.rightSecrets = text
	if err := w.changeSecrets(ctx, func(text string) string {
		return langfuseKey.ReplaceAllString(text, "LANGFUSE_SECRET_KEY: sk-lf-"+strings.Repeat("1234", 2)+strings.Repeat("-5678", 3)+"-"+strings.Repeat("9abc", 3))
	}); err != nil {
		return "", err
	}
	return "deployed to contabo", w.deployRunner(ctx)
}

func (w *world) rightSecret(ctx context.Context) (string, error) {
	if w.rightSecrets == nil {
		return "", errors.New("the right one was not kept")
	}
	if err := os.WriteFile(secretsFile, w.rightSecrets, 0o600); err != nil {
		return "", err
	}
	return "", w.deployRunner(ctx)
}

func (w *world) deployRunner(ctx context.Context) error {
	_, err := w.playbook(ctx, "site.yml", "--limit", "vps", "--tags", "runner", "--skip-tags", "verify,syncthing,password,assert")
	return err
}

// deadUpstream sees nginx answer 502 for what is away, and go on with the others.
func (w *world) deadUpstream(ctx context.Context) (string, error) {
	if err := w.doAll(ctx, w.compose("prod-services", "stop portainer")); err != nil {
		return "", err
	}
	for path, want := range map[string]string{"/portainer/health": "502", "/nginx/metrics": "200"} {
		seen, err := w.do(ctx, "curl", "-sS", "--output", "/dev/null", "--write-out", "%{http_code}", "http://"+prodIP+":9180"+path)
		if err != nil {
			return "", err
		}
		if seen != want {
			return "", fmt.Errorf("nginx answers %s with %s, want %s", path, seen, want)
		}
	}
	return "nginx: 502 for it, 200 for others", nil
}

// langfuseDown stops it and runs a job, which must not wait for it.
func (w *world) langfuseDown(ctx context.Context) (string, error) {
	if err := w.doAll(ctx, w.compose("prod-services", "stop langfuse-web")); err != nil {
		return "", err
	}
	began := time.Now()
	out, err := w.inRunner(ctx, "submit", "--wait", "--provider", "echo", "--title", "Without Langfuse", "nobody traces this")
	if err != nil || !strings.Contains(out, "nobody traces this") {
		return "", fmt.Errorf("the job without Langfuse: %q: %w", out, err)
	}
	return fmt.Sprintf("the job was answered in %.1f s", time.Since(began).Seconds()), nil
}
