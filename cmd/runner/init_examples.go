package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"davidcockson.com/runner/examples"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
)

const (
	// coreTemplates holds the settings of Obsidian's core plugin Templates.
	coreTemplates = examples.Settings + "/templates.json"
	// ignoreFile is Syncthing's; what init adds to it, it adds in one place.
	ignoreFile = ".stignore"
	// mostSettings bounds a settings file of Obsidian that is read, in bytes.
	mostSettings = 1 << 20
)

// initExamples writes what the vault lacks of the example vault, and says of each
// file whether it was made or was there. Obsidian's settings stay as they are.
func (c *call) initExamples(v *vault.Vault, dir string) error {
	templates, err := templatesFolder(v)
	if err != nil {
		fmt.Fprintf(c.stdout, "templates go to %s: %v\n", examples.Templates, err)
		templates = examples.Templates
	}
	from := examples.Vault()
	return fs.WalkDir(from, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == examples.Settings:
			return fs.SkipDir
		case entry.IsDir():
			return nil
		}
		data, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		target := name
		if rest, ok := strings.CutPrefix(name, examples.Templates+"/"); ok {
			target = path.Join(templates, rest)
		}
		if err := makeFolders(v, path.Dir(target)); err != nil {
			return fmt.Errorf("make the folder of %s: %w", target, err)
		}
		word, after := "made", ""
		if err := v.Write(target, data); errors.Is(err, fs.ErrExist) {
			if target == ignoreFile {
				return nil // it may get a line yet, which is told then
			}
			word, after = "kept", " as it is"
		} else if err != nil {
			return err
		}
		fmt.Fprintf(c.stdout, "%s %s%s\n", word, filepath.Join(dir, target), after)
		return nil
	})
}

// templatesFolder is the folder that Obsidian's core plugin Templates is set to,
// ours where it is set to none. An error is why the one it is set to cannot be
// used: nothing is written outside the vault, into settings, or into the queue.
func templatesFolder(v *vault.Vault) (string, error) {
	data, _, err := v.Read(coreTemplates, mostSettings)
	if errors.Is(err, fs.ErrNotExist) {
		return examples.Templates, nil
	}
	if err != nil {
		return "", err
	}
	var settings struct {
		Folder string `json:"folder"`
	}
	if err := json.Unmarshal(data, &settings); err != nil {
		return "", fmt.Errorf("%s cannot be read: %w", coreTemplates, err)
	}
	folder := strings.Trim(settings.Folder, "/")
	if folder == "" {
		return examples.Templates, nil
	}
	hidden := func(part string) bool { return strings.HasPrefix(part, ".") }
	parts := strings.Split(folder, "/")
	switch {
	case !fs.ValidPath(folder) || strings.ContainsAny(folder, "\\:\x00") || slices.ContainsFunc(parts, hidden):
		return "", fmt.Errorf("%s names %q, which is no folder for notes in this vault", coreTemplates, settings.Folder)
	case slices.Contains(queue.Folders(), parts[0]):
		return "", fmt.Errorf("%s names %q, which is the queue's", coreTemplates, settings.Folder)
	}
	return folder, nil
}

// makeFolders makes a folder of the vault and what is missing above it, durably.
func makeFolders(v *vault.Vault, dir string) error {
	if dir == "." {
		return nil
	}
	if err := makeFolders(v, path.Dir(dir)); err != nil {
		return err
	}
	err := v.FS().Mkdir(dir)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return v.FS().SyncDir(path.Dir(dir))
}
