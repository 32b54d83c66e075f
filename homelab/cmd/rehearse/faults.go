package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"davidcockson.com/runner/homelab/internal/rehearsal"
)

// verifySettings: a trace is looked for five times.
const verifySettings = `{"verify_patience": 5}`

// verify runs verify.yml and reads the evidence that it wrote.
func (w *world) verify(ctx context.Context) ([]rehearsal.Finding, error) {
	if err := os.RemoveAll(evidence); err != nil {
		return nil, err
	}
	_, playErr := w.playbook(ctx, "verify.yml", "-e", verifySettings)
	files, err := filepath.Glob(evidence + "/*.md")
	if err != nil || len(files) != 1 {
		return nil, fmt.Errorf("the verification left %d files of evidence: %w", len(files), errors.Join(err, playErr))
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	found := rehearsal.Findings(string(text))
	if bad := rehearsal.Count(found, "fail"); (bad > 0) != (playErr != nil) {
		return nil, fmt.Errorf("%d findings failed, and verify.yml says %v", bad, playErr)
	}
	return found, nil
}

func (w *world) verifyGreen(ctx context.Context) (string, error) {
	found, err := w.verify(ctx)
	if err != nil {
		return "", err
	}
	var bad []string
	for _, f := range found {
		if f.Verdict == "fail" {
			bad = append(bad, f.From+" → "+f.To+", "+f.What+": "+f.Seen)
		}
	}
	if len(bad) > 0 {
		return "", errors.New(strings.Join(bad, "; "))
	}
	return fmt.Sprintf("%d hold, %d not tried", rehearsal.Count(found, "pass"), rehearsal.Count(found, "not tried")), nil
}

// synced writes a note on prod-services' side and waits for it on contabo's.
func (w *world) synced(ctx context.Context) (string, error) {
	const name = "rehearsal.md"
	if err := os.WriteFile(prodVault+"/"+name, []byte("a note of the rehearsal\n"), 0o644); err != nil {
		return "", err
	}
	if err := os.Chown(prodVault+"/"+name, 1000, 1000); err != nil {
		return "", err
	}
	began := time.Now()
	for ctx.Err() == nil && time.Since(began) < 2*time.Minute {
		if text, err := os.ReadFile(vault + "/" + name); err == nil && strings.Contains(string(text), "rehearsal") {
			return fmt.Sprintf("there after %.0f s", time.Since(began).Seconds()), nil
		}
		time.Sleep(500 * time.Millisecond)
	}
	return "", fmt.Errorf("the note did not come within %.0f s", time.Since(began).Seconds())
}

// fromLAN looks from a machine of the LAN: pages by name through nginx, and no SearXNG.
func (w *world) fromLAN(ctx context.Context) (string, error) {
	seen, err := w.do(ctx, "ip", "netns", "exec", "lan", "curl", "-fsS", "--cacert", root+"/ca/ca.pem", "--output", "/dev/null",
		"--write-out", "%{http_code}", "--resolve", "control.home.example.org:443:"+prodLAN, "https://control.home.example.org/healthz")
	if err != nil {
		return "", err
	}
	if _, err := w.do(ctx, "ip", "netns", "exec", "lan", "curl", "-sS", "--max-time", "5", "http://"+prodLAN+":8080/healthz"); err == nil {
		return "", errors.New("SearXNG answers on the LAN address")
	}
	return "the control room by name, TLS and nginx: " + seen + "; SearXNG closed", nil
}

func (w *world) compose(stack string, words string) string {
	return "docker compose --project-directory " + root + "/" + stack + " " + words
}

// searxng writes a further override, so that SearXNG is started anew with it; an empty one
// mends it. The plain override of the rehearsal stays as it is.
func (w *world) searxng(ctx context.Context, change string) error {
	const folder = root + "/prod-services"
	line := "docker compose --project-directory " + folder + " -f " + folder + "/compose.yaml -f " + folder + "/compose.override.yaml"
	if change != "" {
		if err := os.WriteFile(folder+"/fault.yaml", []byte("services:\n  searxng:\n"+change), 0o644); err != nil {
			return err
		}
		line += " -f " + folder + "/fault.yaml"
	}
	return w.doAll(ctx, line+" up --detach --no-deps --wait searxng")
}

// A fault is made, named by the verification, and mended.
type fault struct {
	name, what   string   // what: the finding that must fail
	causes       []string // one of which that finding must have seen
	real         string
	make, remedy func(context.Context) error
}

func (w *world) allFaults() []fault {
	run := func(lines ...string) func(context.Context) error {
		return func(ctx context.Context) error { return w.doAll(ctx, lines...) }
	}
	change := func(text string) func(context.Context) error {
		return func(ctx context.Context) error { return w.searxng(ctx, text) }
	}
	boot := run(root + "/bin/compose-up " + root + "/prod-services " + prodIP)
	const search = "SearXNG answers a search as JSON"
	return []fault{
		{"SearXNG stopped", "SearXNG answers on its Tailscale address", []string{"refused"}, "real engine, SearXNG " + standin,
			run(w.compose("prod-services", "stop searxng")), run(w.compose("prod-services", "up --detach --no-deps --wait searxng"))},
		{"SearXNG bound to another address", "SearXNG listens on its Tailscale address alone", []string{prodLAN}, "real engine, SearXNG " + standin,
			change("    ports: !override [\"" + prodLAN + ":8080:8080\"]\n"), change("")},
		{"SearXNG without JSON", search, []string{"403"}, standin + " answers as SearXNG does",
			change("    environment: {STANDIN_FAULT: forbidden}\n"), change("")},
		{"SearXNG limited", search, []string{"429"}, standin + " answers as SearXNG does",
			change("    environment: {STANDIN_FAULT: limited}\n"), change("")},
		{"SearXNG slow", search, []string{"no answer"}, standin + " is silent",
			change("    environment: {STANDIN_FAULT: slow}\n"), change("")},
		{"a killed container", "gitea-db is healthy", []string{"exited"}, "real PostgreSQL, mended by the boot script",
			run("docker kill prod-services-gitea-db-1"), w.mended(boot, "prod-services")},
		{"nginx with a dead upstream", "portainer is healthy", []string{"exited"}, "real nginx, Portainer " + standin,
			func(ctx context.Context) error {
				if err := w.doAll(ctx, w.compose("prod-services", "stop portainer")); err != nil {
					return err
				}
				return w.badGateway(ctx)
			}, w.mended(boot, "prod-services")},
	}
}

// mended starts what is missing by the script that the unit calls at boot, and waits until
// all is healthy.
func (w *world) mended(start func(context.Context) error, stack string) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := start(ctx); err != nil {
			return err
		}
		return w.doAll(ctx, w.compose(stack, "up --detach --wait"))
	}
}

// badGateway sees nginx answer 502 for what is away, and go on with the others.
func (w *world) badGateway(ctx context.Context) error {
	for path, want := range map[string]string{"/portainer/health": "502", "/nginx/metrics": "200"} {
		seen, err := w.do(ctx, "curl", "-sS", "--output", "/dev/null", "--write-out", "%{http_code}", "http://"+prodIP+":9180"+path)
		if err != nil {
			return err
		}
		if seen != want {
			return fmt.Errorf("nginx answers %s with %s, want %s", path, seen, want)
		}
	}
	return nil
}

// faults makes each fault in turn. One that is not named, or not mended, fails its step and
// the play goes on, unless the time is over.
func (w *world) faults(ctx context.Context) error {
	for _, f := range w.allFaults() {
		err := w.step(ctx, f.name, f.real, func(ctx context.Context) (string, error) {
			if err := f.make(ctx); err != nil {
				return "", fmt.Errorf("make it: %w", err)
			}
			found, err := w.verify(ctx)
			if err == nil {
				if named, ok := rehearsal.Named(found, f.what, f.causes...); ok {
					return named.From + ": " + named.What + ": " + named.Seen + fmt.Sprintf("; %d findings failed", rehearsal.Count(found, "fail")), nil
				}
				err = fmt.Errorf("%q was not named with %q; %d findings failed", f.what, f.causes, rehearsal.Count(found, "fail"))
			}
			return "", err
		})
		if err != nil && ctx.Err() != nil {
			return err
		}
		err = w.step(ctx, "mended: "+f.name, f.real, func(ctx context.Context) (string, error) {
			if err := f.remedy(ctx); err != nil {
				return "", err
			}
			return w.verifyGreen(ctx)
		})
		if err != nil && ctx.Err() != nil {
			return err
		}
	}
	return nil
}
