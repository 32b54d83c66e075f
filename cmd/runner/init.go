package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/ollama"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
)

// ollamaHere is where Ollama listens if nothing else was said. Only init looks.
const ollamaHere = "http://127.0.0.1:11434"

// ignoreLine keeps our temporary files out of what Syncthing sends. It is a line
// of this peer's .stignore, which is not synced itself.
const ignoreLine = "/" + vault.TempDir

func runInit(ctx context.Context, c *call) error {
	path, made, err := c.initConfig(ctx)
	if err != nil {
		return err
	}
	c.config = path
	conf, err := c.load()
	if err != nil {
		if made { // places that cannot be used: nothing stays of them
			err = errors.Join(err, os.Remove(path))
		}
		return err
	}
	if made {
		fmt.Fprintf(c.stdout, "made %s\n", path)
	} else {
		vaultDir, stateDir, err := c.places()
		if err != nil {
			return err
		}
		if vaultDir != "" && vaultDir != conf.Vault || stateDir != "" && stateDir != conf.StateDir {
			return usageError{fmt.Sprintf("%s exists already and names other places: change vault and state_dir there, or name another file with --config", path)}
		}
		fmt.Fprintf(c.stdout, "kept %s as it is\n", path)
	}
	if err := c.initVault(conf.Vault); err != nil {
		return err
	}
	if !c.examples {
		fmt.Fprintf(c.stdout, "for Obsidian: `runner init --examples --config %s` puts templates, an overview and a page that explains them into the vault\n", path)
	}
	if c.demo && made { // once: a second init adds nothing
		if err := c.initDemo(conf); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.stdout, "ready: start with `runner up --config %s`, then put notes into %s\n", path, filepath.Join(conf.Vault, queue.Waiting))
	return nil
}

// initConfig makes a configuration where there is none. It returns its path, and
// whether it was made.
func (c *call) initConfig(ctx context.Context) (path string, made bool, err error) {
	path = cmp.Or(c.config, config.FileName)
	if c.config == "" && !c.demo && c.vault == "" && c.stateDir == "" {
		// The one that every command finds, since they advise `runner init`.
		if path, err = config.Find(".", "/etc/runner"); errors.Is(err, fs.ErrNotExist) {
			path = config.FileName
		} else if err != nil {
			return path, false, err
		}
	}
	if _, err := os.Stat(path); err == nil {
		return path, false, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return path, false, fmt.Errorf("look for %s: %w", path, err)
	}
	vaultDir, stateDir, err := c.places()
	if err != nil {
		return path, false, err
	}
	if c.demo { // beside the configuration
		vaultDir, stateDir = cmp.Or(vaultDir, "vault"), cmp.Or(stateDir, "state")
	}
	if vaultDir == "" || stateDir == "" {
		return path, false, usageError{fmt.Sprintf("there is no %s yet: say where the vault and our own state are, with --vault and --state-dir (outside the vault), or try --demo", path)}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return path, false, fmt.Errorf("make the configuration's folder: %w", err)
	}
	text := firstConfig(vaultDir, stateDir, installed(ctx))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return path, false, fmt.Errorf("make %s: %w", path, err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return path, false, fmt.Errorf("write %s: %w", path, err)
	}
	return path, true, nil
}

// places are the vault and the state folder that the flags name, as absolute
// paths, "" for a flag that is not given.
func (c *call) places() (vaultDir, stateDir string, err error) {
	if c.vault != "" {
		if vaultDir, err = filepath.Abs(c.vault); err != nil {
			return "", "", err
		}
	}
	if c.stateDir != "" {
		stateDir, err = filepath.Abs(c.stateDir)
	}
	return vaultDir, stateDir, err
}

// installed asks for an Ollama on this machine's default port and returns its
// models, none if there is no such server.
func installed(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	p, err := ollama.New(ollama.Config{Name: "ollama", URL: ollamaHere, Deadlines: provider.DefaultDeadlines()})
	if err != nil {
		return nil
	}
	models, err := p.Models(ctx)
	if err != nil {
		return nil
	}
	names := make([]string, len(models))
	for i, m := range models {
		names[i] = m.Name
	}
	return names
}

// firstConfig is a configuration with the least that is needed.
func firstConfig(vaultDir, stateDir string, models []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The least that runner needs; runner.example.yaml and docs/configuration.md\n# tell what else can be set.\nvault: %q\nstate_dir: %q\n\n# A note that names no provider goes to the first one here.\nproviders:\n", vaultDir, stateDir)
	if len(models) > 0 {
		fmt.Fprintf(&b, "  - name: ollama\n    kind: ollama\n    url: %s\n    models:\n", ollamaHere)
		for _, m := range models {
			fmt.Fprintf(&b, "      - name: %q\n", m)
		}
	}
	b.WriteString("  # Repeats the prompt; for trying things without an account or a network.\n  - name: echo\n    kind: echo\n")
	return b.String()
}

// initVault adds what a vault lacks, and says what it added.
func (c *call) initVault(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("make the vault: %w", err)
	}
	v, err := vault.Open(dir)
	if err != nil {
		return fmt.Errorf("open the vault: %w", err)
	}
	defer v.Close()
	for _, folder := range queue.Folders() {
		err := v.FS().Mkdir(folder)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("make %s: %w", folder, err)
		}
		fmt.Fprintf(c.stdout, "made %s\n", filepath.Join(dir, folder))
	}
	if err := v.FS().SyncDir("."); err != nil {
		return fmt.Errorf("make the vault's folders: %w", err)
	}
	if c.examples {
		if err := c.initExamples(v, dir); err != nil {
			return fmt.Errorf("write the examples: %w", err)
		}
	}
	return c.ignoreTemp(v, dir)
}

// ignoreTemp adds our line to .stignore. A file that is there keeps its other
// bytes.
func (c *call) ignoreTemp(v *vault.Vault, dir string) error {
	const name = ignoreFile
	data, _, err := v.Read(name, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		if err := v.Write(name, []byte(ignoreLine+"\n")); err != nil {
			return err
		}
		fmt.Fprintf(c.stdout, "made %s, so that Syncthing leaves %s alone\n", filepath.Join(dir, name), vault.TempDir)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	text := string(data)
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == ignoreLine {
			return nil
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("add a line to %s: %w", name, err)
	}
	add := ignoreLine + "\n"
	if text != "" && !strings.HasSuffix(text, "\n") {
		add = "\n" + add
	}
	_, err = f.WriteString(add)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("add a line to %s: %w", name, err)
	}
	fmt.Fprintf(c.stdout, "added the line %s to %s, so that Syncthing leaves it alone\n", ignoreLine, filepath.Join(dir, name))
	return nil
}

// initDemo puts a first job into the queue, for the built-in echo provider.
func (c *call) initDemo(conf *config.Config) error {
	name := ""
	for _, p := range conf.Providers {
		if p.Kind == config.Echo {
			name = p.Name
		}
	}
	if name == "" {
		return nil // an own configuration without it: no job is invented
	}
	v, err := vault.Open(conf.Vault)
	if err != nil {
		return err
	}
	defer v.Close()
	id := job.NewID(time.Now())
	text := note.Frontmatter([]note.KV{
		{Key: "job_type", Value: "text"}, {Key: "provider", Value: name}, {Key: "title", Value: "First job"}, {Key: "id", Value: id},
	}) + "\nHello. This note was put into the queue by `runner init --demo`.\n"
	file := queue.Waiting + "/first-job-" + id + ".md"
	if err := v.Write(file, []byte(text)); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "made %s, a first job\n", filepath.Join(conf.Vault, file))
	return nil
}
