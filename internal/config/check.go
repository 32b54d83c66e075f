package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// check refuses what each key alone cannot show to be wrong, and fills in the
// defaults that hang on other keys.
func (l *loader) check(c *Config) {
	if c.VaultName == "" {
		c.VaultName = filepath.Base(c.Vault)
	}
	if c.Vault != "" && c.StateDir != "" {
		vault, state := target(c.Vault, maxLinks), target(c.StateDir, maxLinks)
		switch {
		case inside(vault, state):
			l.fail("state_dir", "must lie outside the vault")
		case inside(state, vault):
			l.fail("vault", "must lie outside state_dir")
		}
	}
	taken := make(map[string]int)
	for i := range c.Providers {
		p := &c.Providers[i]
		path := fmt.Sprintf("providers[%d]", i)
		if first, twice := taken[p.Name]; twice && p.Name != "" {
			l.fail(path+".name", "is the name of providers[%d] too", first)
		} else {
			taken[p.Name] = i
		}
		l.checkProvider(p, path)
		if c.Caps.JobUSD != nil || c.Caps.DayUSD != nil {
			l.checkPrices(p, path)
		}
	}
	l.checkLocks(c)
	_, host := l.set["langfuse.host"]
	_, public := l.set["langfuse.public_key"]
	_, private := l.set["langfuse.secret_key"] // also where its source was refused, once
	if (public || private) && !host {
		l.fail("langfuse.host", "must be set with the keys")
	}
	if host && (!public || !private) {
		l.fail("langfuse", "needs public_key and a secret key with its host")
	}
}

// checkLocks refuses names by which others could reach a control room that keeps
// nobody out but by a link.
func (l *loader) checkLocks(c *Config) {
	switch {
	case c.Access.Team != "" && c.Access.Aud == "":
		l.fail("access.team", "needs aud beside it")
	case c.Access.Team == "" && c.Access.Aud != "":
		l.fail("access.aud", "needs team beside it")
	}
	if c.Access.Team != "" || c.Access.Aud != "" || c.Auth.PasswordFile != "" || c.Auth.TokenFile != "" {
		return
	}
	if len(l.problems) > 0 {
		return // some of a lock may be among what was refused
	}
	if c.PublicURL != "" {
		l.fail("public_url", "needs access or auth: a login link alone is for this machine")
	}
	if len(c.Hosts) > 0 {
		l.fail("hosts", "needs access or auth: a login link alone is for this machine")
	}
}

// checkPrices refuses a cap of money that could not be kept: a paid model without
// a price, or a paid provider that takes any model. No price list is built in.
func (l *loader) checkPrices(p *Provider, path string) {
	if p.Kind != OpenAI && p.Kind != Gemini {
		return
	}
	if len(p.Models) == 0 {
		l.fail(path+".models", "must be listed with usd_in and usd_out, since caps limit money")
	}
	for i, m := range p.Models {
		if m.USDIn == nil || m.USDOut == nil {
			l.fail(fmt.Sprintf("%s.models[%d]", path, i), "needs usd_in and usd_out, since caps limit money")
		}
	}
}

func (l *loader) checkProvider(p *Provider, path string) {
	_, hasURL := l.set[path+".url"]
	_, hasKey := l.set[path+".api_key"]
	switch p.Kind {
	case Ollama, OpenAI:
		if !hasURL {
			l.fail(path+".url", "must be set for %s", p.Kind)
		}
	case Gemini:
		if !hasKey {
			l.fail(path+".api_key", "must be set for gemini, by api_key_env or api_key_file")
		}
	case Echo:
		if hasURL {
			l.fail(path+".url", "must not be set for echo, which is built in")
		}
		if hasKey {
			l.fail(path+".api_key", "must not be set for echo, which is built in")
		}
	}
	if p.Concurrency == 0 {
		p.Concurrency = 4
		if p.Kind == Ollama { // it answers one after another by default
			p.Concurrency = 1
		}
	}
	taken := make(map[string]int)
	for i, m := range p.Models {
		name := strings.ToLower(m.Name)
		if first, twice := taken[name]; twice && name != "" {
			l.fail(fmt.Sprintf("%s.models[%d].name", path, i), "is the name of models[%d] too", first)
			continue
		}
		taken[name] = i
	}
}

// maxLinks is how many dangling links target follows one after another, as many
// as Linux does.
const maxLinks = 40

// target follows the links of an absolute path as far as it exists, a last link
// to something that is not there yet included.
func target(path string, links int) string {
	if whole, err := filepath.EvalSymlinks(path); err == nil {
		return whole
	}
	parent := filepath.Dir(path)
	if parent == path {
		return path
	}
	parent = target(parent, links)
	to, err := os.Readlink(path)
	if err != nil || links == 0 {
		return filepath.Join(parent, filepath.Base(path))
	}
	return target(absolute(to, parent), links-1)
}

// inside says that path is outer or lies in it, by name or, for what exists, by
// being the same folder under another name.
func inside(outer, path string) bool {
	folder, err := os.Stat(outer)
	exists := err == nil
	for {
		if path == outer {
			return true
		}
		if info, err := os.Stat(path); exists && err == nil && os.SameFile(folder, info) {
			return true
		}
		parent := filepath.Dir(path)
		if parent == path {
			return false
		}
		path = parent
	}
}
