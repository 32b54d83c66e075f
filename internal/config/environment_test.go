package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestEnvironmentOverridesTheFile(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"hook": "https://h/from-file\n", "other": "https://h/from-other-file"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const file = head + tail + "discord: {webhook_file: hook}\n"
	tests := []struct {
		name    string
		environ []string
		got     func(*Config) any
		want    any
		wantErr string
	}{
		{"text", []string{"RUNNER_VAULT=/other"}, func(c *Config) any { return c.Vault }, "/other", ""},
		{"a relative path counts from the file's folder", []string{"RUNNER_STATE_DIR=s"}, func(c *Config) any { return c.StateDir }, filepath.Join(dir, "s"), ""},
		{"a duration", []string{"RUNNER_GUARD=0s"}, func(c *Config) any { return c.Guard.String() }, "0s", ""},
		{"a number that text would have to quote", []string{"RUNNER_VAULT_NAME=2026"}, func(c *Config) any { return c.VaultName }, "2026", ""},
		{"a key within a group", []string{"RUNNER_DEADLINES_FIRST_BYTE=5s"}, func(c *Config) any { return c.Deadlines.FirstByte.String() }, "5s", ""},
		{"a level", []string{"RUNNER_LOG_LEVEL=warn"}, func(c *Config) any { return c.LogLevel.String() }, "WARN", ""},
		{"a cap", []string{"RUNNER_CAPS_JOB_TOKENS=5"}, func(c *Config) any { return *c.Caps.JobTokens }, 5, ""},
		{"the first of a name counts", []string{"RUNNER_GUARD=3s", "RUNNER_GUARD=4s"}, func(c *Config) any { return c.Guard.String() }, "3s", ""},
		{"an empty variable leaves the file's value", []string{"RUNNER_VAULT="}, func(c *Config) any { return c.Vault }, "/srv/vault", ""},
		{"Langfuse", []string{"RUNNER_LANGFUSE_HOST=http://l", "RUNNER_LANGFUSE_PUBLIC_KEY=pk", "RUNNER_LANGFUSE_SECRET_KEY=sk"},
			func(c *Config) any { return c.Langfuse.Host + c.Langfuse.PublicKey + c.Langfuse.SecretKey.Reveal() }, "http://lpksk", ""},
		{"a secret from the file's file", nil, func(c *Config) any { return c.Discord.Webhook.Reveal() }, "https://h/from-file", ""},
		{"a secret itself", []string{"RUNNER_DISCORD_WEBHOOK=https://h/direct"}, func(c *Config) any { return c.Discord.Webhook.Reveal() }, "https://h/direct", ""},
		{"a secret by another file", []string{"RUNNER_DISCORD_WEBHOOK_FILE=other"}, func(c *Config) any { return c.Discord.Webhook.Reveal() }, "https://h/from-other-file", ""},
		{"a secret by the name of a variable", []string{"RUNNER_DISCORD_WEBHOOK_ENV=HOOK", "HOOK=https://h/h"}, func(c *Config) any { return c.Discord.Webhook.Reveal() }, "https://h/h", ""},
		{"a secret twice", []string{"RUNNER_DISCORD_WEBHOOK=canary", "RUNNER_DISCORD_WEBHOOK_FILE=other"}, nil, nil,
			"RUNNER_DISCORD_WEBHOOK_FILE: is set beside RUNNER_DISCORD_WEBHOOK; set one of the two"},
		{"a bad secret file", []string{"RUNNER_DISCORD_WEBHOOK_FILE=https://canary"}, nil, nil,
			"RUNNER_DISCORD_WEBHOOK_FILE: open the secret's file: no such file or directory"},
		{"a bad duration", []string{"RUNNER_DEADLINES_JOB=canary"}, nil, nil,
			"RUNNER_DEADLINES_JOB: must be a duration such as 2s or 10m, above zero"},
		{"a bad number", []string{"RUNNER_CONCURRENCY=0"}, nil, nil,
			"RUNNER_CONCURRENCY: must be a whole number of at least 1"},
		{"an endless amount", []string{"RUNNER_CAPS_DAY_USD=Inf"}, nil, nil,
			"RUNNER_CAPS_DAY_USD: must be an amount of US dollars such as 0.59, not negative"},
		{"an amount that is no number", []string{"RUNNER_CAPS_JOB_USD=NaN"}, nil, nil,
			"RUNNER_CAPS_JOB_USD: must be an amount of US dollars such as 0.59, not negative"},
		{"a bad combination", []string{"RUNNER_STATE_DIR=/srv/vault/state"}, nil, nil,
			"RUNNER_STATE_DIR: must lie outside the vault"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := loadAll(file, dir, tt.environ...)
			if got := errorText(err); got != tt.wantErr {
				t.Fatalf("got error  %s\nwant %s", got, tt.wantErr)
			}
			if err == nil && tt.got(c) != tt.want {
				t.Errorf("got %v, want %v", tt.got(c), tt.want)
			}
		})
	}
}

func TestEnvironmentCannotSetHalfALock(t *testing.T) {
	_, _, err := Load(write(t, head+tail), []string{"RUNNER_ACCESS_TEAM=t"})
	if got, want := errorText(err), "RUNNER_ACCESS_TEAM: needs aud beside it"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestVariablesAlone(t *testing.T) {
	c, _, err := Load(write(t, tail), []string{"RUNNER_VAULT=/v", "RUNNER_STATE_DIR=/s"})
	if err != nil || c.Vault != "/v" || c.StateDir != "/s" {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestVariableNamesAreUnique(t *testing.T) {
	seen := make(map[string]string)
	var walk func(at place, keys []key)
	walk = func(at place, keys []key) {
		for _, k := range keys {
			to := at.key(k.name)
			if first, twice := seen[variable(to.path)]; twice {
				t.Errorf("%s and %s have one variable", first, to.path)
			}
			seen[variable(to.path)] = to.path
			walk(to, k.keys)
		}
	}
	walk(place{}, definition(&Config{}, "/"))
}

func TestConfigShowsNoSecret(t *testing.T) {
	const canary = "canary-91c2"
	c, warnings, err := loadAll(head+`providers:
  - {name: a, kind: ollama, url: http://a, api_key_env: A_KEY}
`, "/", "A_KEY="+canary, "RUNNER_DISCORD_WEBHOOK=https://hook/"+canary, "RUNNER_LANGFUSE_HOST=http://l", "RUNNER_LANGFUSE_PUBLIC_KEY=pk", "RUNNER_LANGFUSE_SECRET_KEY="+canary)
	if err != nil || c.Providers[0].Key.Reveal() != canary {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal([]any{c.Providers, c.Discord, c.Langfuse})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("start", "config", c, "value", *c)
	forms := []string{fmt.Sprint(warnings), string(asJSON), string(asYAML), log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		forms = append(forms, fmt.Sprintf(verb, c), fmt.Sprintf(verb, *c))
	}
	for _, form := range forms {
		if strings.Contains(form, canary) || strings.Contains(form, fmt.Sprintf("%x", canary)) {
			t.Errorf("a secret is shown: %s", form)
		}
	}
}
