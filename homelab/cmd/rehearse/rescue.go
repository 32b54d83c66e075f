package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"davidcockson.com/runner/homelab/internal/rehearsal"
)

// rescues are the backup, what is lost after it, and how it comes back. Without the backup
// the others are not tried.
func (w *world) rescues(ctx context.Context) error {
	var failed error
	for i, s := range []struct {
		name, real string
		do         func(context.Context) (string, error)
	}{
		{"backup of both hosts", "real restic, PostgreSQL, runner; ClickHouse, Gitea, Uptime Kuma, Portainer, object store " + standin, w.backUp},
		{"restored: a dropped database", "real PostgreSQL", w.dropDatabase},
		{"restored: a deleted file of the vault", "real Syncthing pair", w.deleteNote},
		{"restored: an emptied state folder of runner", "real runner and Syncthing pair", w.emptyState},
		{"restored: Uptime Kuma's data", "real restore, Uptime Kuma " + standin, w.loseVolume},
	} {
		if failed != nil {
			w.rows = append(w.rows, rehearsal.Row{Step: s.name, Result: "not tried", Evidence: "there is no backup", Real: s.real})
			continue
		}
		err := w.step(ctx, s.name, s.real, s.do)
		if i == 0 {
			failed = err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return failed
}

// kept is a file that is put into volumes and into the vault before the backup.
const kept, keptWords = "Kept by the rehearsal.md", "what must come back\n"

func (w *world) volume(ctx context.Context, name string) (string, error) {
	return w.do(ctx, "docker", "volume", "inspect", "--format", "{{.Mountpoint}}", "prod-services_"+name)
}

// backUp puts something into each store whose stand-in keeps nothing there, and backs up as
// the timer does. Uptime Kuma's stand-in takes the push of a monitor that kuma-sync made.
func (w *world) backUp(ctx context.Context) (string, error) {
	// Its stand-in forgot them when a fault stopped it; a deployment sets them anew.
	if _, err := w.playbook(ctx, "site.yml", "--limit", "prod-services", "--tags", "prod-services"); err != nil {
		return "", err
	}
	for _, name := range []string{"uptime-kuma-data", "portainer-data", "langfuse-s3", "langfuse-clickhouse"} {
		folder, err := w.volume(ctx, name)
		if err != nil {
			return "", err
		}
		if name == "langfuse-clickhouse" {
			folder = filepath.Join(folder, "store")
		}
		if err := w.doAll(ctx, "mkdir -p "+folder, "chown --reference "+filepath.Dir(folder)+" "+folder); err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(folder, "kept"), []byte(keptWords), 0o644); err != nil {
			return "", err
		}
	}
	if _, err := w.sql(ctx, "gitea", "CREATE TABLE kept AS SELECT 42 AS answer"); err != nil {
		return "", err
	}
	if err := w.write(kept, keptWords); err != nil {
		return "", err
	}
	if err := until(ctx, "the note to keep comes to contabo", func() (bool, error) { return same(vault+"/"+kept, keptWords) }); err != nil {
		return "", err
	}
	text, err := w.playbook(ctx, "backup.yml")
	if err != nil {
		return "", err
	}
	said := allKept.FindAllString(text, -1)
	if len(said) != 2 {
		return "", fmt.Errorf("not both hosts said that all is kept: %s", tail(text, 8))
	}
	return strings.Join(said, "; ") + "; Uptime Kuma was told of both", nil
}

var allKept = regexp.MustCompile(`all \d+ items are kept`)

// write writes a note on prod-services' side of the vault, as its owner.
func (w *world) write(name, text string) error {
	path := filepath.Join(prodVault, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Chown(path, 1000, 1000)
}

// same says whether the file is there with that text.
func same(path, text string) (bool, error) {
	got, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return string(got) == text, err
}

// restore runs restore.yml and returns its last word.
func (w *world) restore(ctx context.Context, item string, more ...string) (string, error) {
	began := time.Now()
	arguments := []string{"restore.yml", "-e", "item=" + item}
	for _, one := range more {
		arguments = append(arguments, "-e", one)
	}
	if _, err := w.playbook(ctx, arguments...); err != nil {
		return "", fmt.Errorf("restore %s: %w", item, err)
	}
	return fmt.Sprintf("restored in %.0f s", time.Since(began).Seconds()), nil
}

func (w *world) dropDatabase(ctx context.Context) (string, error) {
	if _, err := w.sql(ctx, "postgres", "DROP DATABASE gitea WITH (FORCE)"); err != nil {
		return "", err
	}
	if _, err := w.sql(ctx, "gitea", "SELECT 1"); err == nil {
		return "", errors.New("the database is still there")
	}
	seen, err := w.restore(ctx, "gitea-db")
	if err != nil {
		return "", err
	}
	answer, err := w.sql(ctx, "gitea", "SELECT answer FROM kept")
	if err == nil && answer != "42" {
		err = fmt.Errorf("its row is %q", answer)
	}
	return seen + ", with its rows", err
}

// deleteNote deletes it on prod-services; Syncthing deletes it on contabo too.
func (w *world) deleteNote(ctx context.Context) (string, error) {
	if err := os.Remove(filepath.Join(prodVault, kept)); err != nil {
		return "", err
	}
	if err := until(ctx, "the deletion comes to contabo", func() (bool, error) {
		_, err := os.Stat(filepath.Join(vault, kept))
		return errors.Is(err, os.ErrNotExist), nil
	}); err != nil {
		return "", err
	}
	seen, err := w.restore(ctx, "vault", `{"path": "`+kept+`"}`)
	if err != nil {
		return "", err
	}
	return seen + ", and back on contabo too", until(ctx, "the note comes back to contabo", func() (bool, error) { return same(filepath.Join(vault, kept), keptWords) })
}

func (w *world) loseVolume(ctx context.Context) (string, error) {
	folder, err := w.volume(ctx, "uptime-kuma-data")
	if err != nil {
		return "", err
	}
	if err := os.Remove(filepath.Join(folder, "kept")); err != nil {
		return "", err
	}
	seen, err := w.restore(ctx, "uptime-kuma")
	if err != nil {
		return "", err
	}
	if there, err := same(filepath.Join(folder, "kept"), keptWords); err != nil || !there {
		return "", errors.Join(errors.New("the file did not come back"), err)
	}
	return seen, nil
}

// emptyState runs a job that the backup does not know of, empties the state folder, restores
// the old ledger, and brings the job's note back into the queue as a sync may. It must not run.
func (w *world) emptyState(ctx context.Context) (string, error) {
	const name, words = "After the backup.md", "a job that the old ledger does not know"
	if err := w.drop(name, "---\njob_type: text\nprovider: echo\nmodel: echo\n---\n"+words+"\n"); err != nil {
		return "", err
	}
	done := filepath.Join(prodVault, "_completed", name)
	if err := until(ctx, "the job is done", func() (bool, error) {
		found, err := outputs(words)
		_, statErr := os.Stat(done)
		return len(found) > 0 && statErr == nil, err
	}); err != nil {
		return "", err
	}
	if err := w.doAll(ctx, w.compose("contabo", "stop runner"), "find /var/lib/runner -mindepth 1 -delete"); err != nil {
		return "", err
	}
	seen, err := w.restore(ctx, "runner")
	if err != nil {
		return "", err
	}
	note, err := os.ReadFile(done)
	if err != nil {
		return "", err
	}
	if err := w.drop(name, string(note)); err != nil {
		return "", err
	}
	var list string
	if err := until(ctx, "the note that came back is held", func() (bool, error) {
		list, err = w.inRunner(ctx, "list", "--json", "--state", "held,duplicate")
		return strings.Contains(list, name), err
	}); err != nil {
		return "", err
	}
	found, err := outputs(words)
	if err != nil || len(found) != 1 {
		return "", errors.Join(fmt.Errorf("the job has %d outputs", len(found)), err)
	}
	if active, err := w.inRunner(ctx, "list", "--json", "--state", "active"); err != nil || strings.Contains(active, name) {
		return "", errors.Join(fmt.Errorf("what runs after the restore: %s", active), err)
	}
	reason := reasonOf.FindStringSubmatch(list)
	if reason == nil {
		return "", fmt.Errorf("it is held without a reason: %s", list)
	}
	if err := os.Remove(filepath.Join(prodVault, "_queue", name)); err != nil {
		return "", err
	}
	return seen + "; a note that the old ledger does not know came back, and is held: " + reason[1], nil
}

var reasonOf = regexp.MustCompile(`"reason": "([^"]*)"`)

// upgrades gives SearXNG another version, and then one that does not come up.
func (w *world) upgrades(ctx context.Context) error {
	const searxng = "prod-services-searxng-1"
	var old, before string
	err := w.step(ctx, "an upgrade", "real engine and searx, under another tag", func(ctx context.Context) (string, error) {
		var err error
		if old, err = w.do(ctx, "docker", "inspect", "--format", "{{.Config.Image}}", searxng); err != nil {
			return "", err
		}
		before = old[:strings.LastIndexByte(old, ':')] + ":1.1.1"
		if err := w.doAll(ctx, "docker tag "+old+" "+before); err != nil {
			return "", err
		}
		if _, err := w.playbook(ctx, "upgrade.yml", "-e", "service=searxng", "-e", "tag=1.1.1"); err != nil {
			return "", err
		}
		return w.runs(ctx, searxng, before)
	})
	const rollback, real = "an upgrade that does not come up", "real engine; the new version ends at once"
	if err != nil {
		w.rows = append(w.rows, rehearsal.Row{Step: rollback, Result: "not tried", Evidence: "there was no upgrade", Real: real})
		return err
	}
	return w.step(ctx, rollback, real, func(ctx context.Context) (string, error) {
		cmd := w.command(ctx, "docker", "build", "--quiet", "--tag", old[:strings.LastIndexByte(old, ':')]+":1.1.2", "-")
		cmd.Stdin = strings.NewReader("FROM " + old + "\nENTRYPOINT [\"/bin/sh\", \"-c\", \"echo this version does not start; exit 1\"]\n")
		if text, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build the version that does not start: %w: %s", err, tail(string(text), 2))
		}
		text, err := w.playbook(ctx, "upgrade.yml", "-e", "service=searxng", "-e", "tag=1.1.2")
		if err == nil || !strings.Contains(text, "this version does not start") || !strings.Contains(text, "runs again and is healthy") {
			return "", errors.Join(fmt.Errorf("upgrade.yml did not fail as it should: %s", tail(text, 6)), err)
		}
		seen, err := w.runs(ctx, searxng, before)
		return "it says why, and the version before is back: " + seen, err
	})
}

// runs sees which image a container has, and that it is healthy.
func (w *world) runs(ctx context.Context, container, image string) (string, error) {
	seen, err := w.do(ctx, "docker", "inspect", "--format", "{{.Config.Image}}, {{.State.Health.Status}}", container)
	if err == nil && seen != image+", healthy" {
		err = fmt.Errorf("%s is %s, want %s", container, seen, image)
	}
	return seen, err
}
