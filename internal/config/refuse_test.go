package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLoadRefuses(t *testing.T) {
	const provider = head + "providers:\n  - name: a\n    kind: ollama\n    url: http://a\n" // ends with line 6
	tests := []struct {
		name, file string
		want       []string
	}{
		{"an empty file", "", []string{
			"runner.yaml: vault: must be set, here or by RUNNER_VAULT",
			"runner.yaml: state_dir: must be set, here or by RUNNER_STATE_DIR",
			"runner.yaml: providers: must be set"}},
		{"a file of comments", "# vault: x\n", []string{
			"runner.yaml: vault: must be set, here or by RUNNER_VAULT",
			"runner.yaml: state_dir: must be set, here or by RUNNER_STATE_DIR",
			"runner.yaml: providers: must be set"}},
		{"a list in place of keys", "- vault\n", []string{
			"runner.yaml:1: must be keys with values",
			"runner.yaml: vault: must be set, here or by RUNNER_VAULT",
			"runner.yaml: state_dir: must be set, here or by RUNNER_STATE_DIR",
			"runner.yaml: providers: must be set"}},
		{"what is no YAML", head + "\tx: [\n", []string{
			"runner.yaml:2: is not YAML, here or on the next line: found a tab character that violates indentation"}},
		{"a second document", head + tail + "---\nvault: /x\n", []string{
			"runner.yaml:4: a second document is not read; put all keys into one"}},
		{"an unknown key", head + tail + "gaurd: 2s\n", []string{
			"runner.yaml:4: gaurd: is no key; known here: vault, vault_name, state_dir, timezone, guard, concurrency, grace, log, log_level, deadlines, providers, listen, ops_listen, public_url, hosts, access, auth, caps, discord, langfuse, services"}},
		{"an unknown key in an item", provider + "    host: x\n", []string{
			"runner.yaml:7: providers[0].host: is no key; known here: name, kind, url, api_key_env, api_key_file, concurrency, offline, models"}},
		{"an unknown key in a group", head + tail + "services: {redis: http://r}\n", []string{
			"runner.yaml:4: services.redis: is no key; known here: qdrant, searxng"}},
		{"a key in another case", "Vault: /v\n" + head + tail, []string{
			"runner.yaml:1: Vault: is no key; known here: vault, vault_name, state_dir, timezone, guard, concurrency, grace, log, log_level, deadlines, providers, listen, ops_listen, public_url, hosts, access, auth, caps, discord, langfuse, services"}},
		{"a key that is no word", head + tail + "services: {? [a] : b}\n", []string{
			"runner.yaml:4: services: a key must be a word"}},
		{"a key set twice", head + tail + "vault: /other\n", []string{
			"runner.yaml:4: vault: is set twice, first in line 1"}},
		{"a key set twice in an item", provider + "    kind: echo\n", []string{
			"runner.yaml:7: providers[0].kind: is set twice, first in line 5"}},
		{"an alias", head + tail + "services: {qdrant: &q http://q, searxng: *q}\n", []string{
			"runner.yaml:4: YAML aliases (*name) are refused; write the value out, in quotes if it begins with *"}},
		{"an alias to nothing", head + tail + "vault_name: *canary\n", []string{
			"runner.yaml: YAML aliases (*name) are refused; write the value out, in quotes if it begins with *"}},
		{"a tag", head + tail + "vault_name: !!str 5\n", []string{
			"runner.yaml:4: vault_name: must be one line of text, in quotes where it looks like a number, a date or true"}},
		{"a number where text belongs", head + tail + "vault_name: 5\n", []string{
			"runner.yaml:4: vault_name: must be one line of text, in quotes where it looks like a number, a date or true"}},
		{"a list where text belongs", head + tail + "vault_name: [a]\n", []string{
			"runner.yaml:4: vault_name: must be one line of text, in quotes where it looks like a number, a date or true"}},
		{"an empty list where a duration belongs", head + tail + "guard: []\n", []string{
			"runner.yaml:4: guard: must be a duration such as 2s or 10m, not negative"}},
		{"two lines where one belongs", head + tail + "vault_name: \"a\\nb\"\n", []string{
			"runner.yaml:4: vault_name: must be one line of text, in quotes where it looks like a number, a date or true"}},
		{"text where a list belongs", head + tail + "hosts: a.lan\n", []string{
			"runner.yaml:4: hosts: must be a list"}},
		{"a number in a list of texts", head + tail + "hosts: [a, 5]\n", []string{
			"runner.yaml:4: hosts[1]: must be one line of text, in quotes where it looks like a number, a date or true"}},
		{"text where keys belong", head + tail + "deadlines: 5s\n", []string{
			"runner.yaml:4: deadlines: must be keys with values"}},
		{"a path from the home folder", "vault: ~/vault\nstate_dir: /s\n" + tail, []string{
			"runner.yaml:1: vault: must be a path, in which ~ is not expanded"}},
		{"an unknown time zone", head + tail + "timezone: Europe/Lundon\n", []string{
			"runner.yaml:4: timezone: must be a time zone such as Europe/London"}},
		{"a duration without unit", head + tail + "guard: 2\n", []string{
			"runner.yaml:4: guard: must be a duration such as 2s or 10m, not negative"}},
		{"a negative guard", head + tail + "guard: -1s\n", []string{
			"runner.yaml:4: guard: must be a duration such as 2s or 10m, not negative"}},
		{"a deadline of zero", head + tail + "deadlines:\n  job: 0s\n", []string{
			"runner.yaml:5: deadlines.job: must be a duration such as 2s or 10m, above zero"}},
		{"no jobs at once", head + tail + "concurrency: 0\n", []string{
			"runner.yaml:4: concurrency: must be a whole number of at least 1"}},
		{"half a job at once", head + tail + "concurrency: 1.5\n", []string{
			"runner.yaml:4: concurrency: must be a whole number of at least 1"}},
		{"a quoted number", head + tail + "concurrency: \"2\"\n", []string{
			"runner.yaml:4: concurrency: must be a whole number of at least 1"}},
		{"an unknown form of log", head + tail + "log: xml\n", []string{
			"runner.yaml:4: log: must be text or json"}},
		{"an unknown level", head + tail + "log_level: INFO\n", []string{
			"runner.yaml:4: log_level: must be debug, info, warn or error"}},
		{"an address without port", head + tail + "listen: localhost\n", []string{
			"runner.yaml:4: listen: must be a host and port such as 127.0.0.1:8080"}},
		{"an address with a port too large", head + tail + "ops_listen: :65536\n", []string{
			"runner.yaml:4: ops_listen: must be a host and port such as 127.0.0.1:8080"}},
		{"no provider", head + "providers: []\n", []string{
			"runner.yaml: providers: must be set"}},
		{"a provider without anything", head + "providers:\n  -\n", []string{
			"runner.yaml:4: providers[0].name: must be set",
			"runner.yaml:4: providers[0].kind: must be set"}},
		{"a provider that is a word", head + "providers:\n  - ollama\n", []string{
			"runner.yaml:4: providers[0]: must be keys with values"}},
		{"a provider's name with a space", head + "providers: [{name: a b, kind: echo}]\n", []string{
			"runner.yaml:3: providers[0].name: must be a name of a to z, 0 to 9, dot, dash and underscore that begins with a letter or digit"}},
		{"a provider's name in upper case", head + "providers: [{name: Echo, kind: echo}]\n", []string{
			"runner.yaml:3: providers[0].name: must be a name of a to z, 0 to 9, dot, dash and underscore that begins with a letter or digit"}},
		{"two providers of one name", provider + "  - name: a\n    kind: echo\n", []string{
			"runner.yaml:7: providers[1].name: is the name of providers[0] too"}},
		{"an unknown kind", provider + "  - name: b\n    kind: llama\n", []string{
			"runner.yaml:8: providers[1].kind: must be ollama, openai, gemini or echo"}},
		{"an Ollama without URL", head + "providers:\n  - name: a\n    kind: ollama\n", []string{
			"runner.yaml:4: providers[0].url: must be set for ollama"}},
		{"an OpenAI-compatible server without URL", head + "providers:\n  - name: a\n    kind: openai\n", []string{
			"runner.yaml:4: providers[0].url: must be set for openai"}},
		{"an echo with URL and key", head + "providers:\n  - name: a\n    kind: echo\n    url: http://a\n    api_key_file: k\n", []string{
			"runner.yaml:6: providers[0].url: must not be set for echo, which is built in",
			"runner.yaml:7: providers[0].api_key_file: open the secret's file: no such file or directory",
			"runner.yaml:7: providers[0].api_key: must not be set for echo, which is built in"}},
		{"a URL with a password", head + "providers: [{name: a, kind: ollama, url: \"http://u:canary@a\"}]\n", []string{
			"runner.yaml:3: providers[0].url: must be an http or https URL without user, query or fragment"}},
		{"a URL with a query", head + "providers: [{name: a, kind: ollama, url: \"http://a?key=canary\"}]\n", []string{
			"runner.yaml:3: providers[0].url: must be an http or https URL without user, query or fragment"}},
		{"a URL with a fragment", head + "providers: [{name: a, kind: ollama, url: \"http://a#\"}]\n", []string{
			"runner.yaml:3: providers[0].url: must be an http or https URL without user, query or fragment"}},
		{"a URL of another scheme", head + "providers: [{name: a, kind: ollama, url: \"unix:///a\"}]\n", []string{
			"runner.yaml:3: providers[0].url: must be an http or https URL without user, query or fragment"}},
		{"a URL without scheme", head + "providers: [{name: a, kind: ollama, url: \"a:11434\"}]\n", []string{
			"runner.yaml:3: providers[0].url: must be an http or https URL without user, query or fragment"}},
		{"an unknown way to be offline", provider + "    offline: skip\n", []string{
			"runner.yaml:7: providers[0].offline: must be wait or fail"}},
		{"a context that is too small", provider + "    models: [{name: m, num_ctx: 511}]\n", []string{
			"runner.yaml:7: providers[0].models[0].num_ctx: must be a whole number of at least 512"}},
		{"a model without name", provider + "    models: [{num_ctx: 512}]\n", []string{
			"runner.yaml:7: providers[0].models[0].name: must be set"}},
		{"a model twice", provider + "    models:\n      - name: m\n      - name: M\n", []string{
			"runner.yaml:9: providers[0].models[1].name: is the name of models[0] too"}},
		{"a negative price", provider + "    models: [{name: m, usd_in: -1}]\n", []string{
			"runner.yaml:7: providers[0].models[0].usd_in: must be an amount of US dollars such as 0.59, not negative"}},
		{"an endless price", provider + "    models: [{name: m, usd_out: .inf}]\n", []string{
			"runner.yaml:7: providers[0].models[0].usd_out: must be an amount of US dollars such as 0.59, not negative"}},
		{"a key in the file itself", provider + "    api_key: canary\n", []string{
			"runner.yaml:7: providers[0].api_key: is not written here; name its variable by api_key_env or its file by api_key_file"}},
		{"a key where the name of a variable belongs", provider + "    api_key_env: gsk_canary\n", []string{
			"runner.yaml:7: providers[0].api_key_env: must be the name of an environment variable in upper case"}},
		{"a variable that is not set", provider + "    api_key_env: NOT_SET\n", []string{
			"runner.yaml:7: providers[0].api_key_env: the variable NOT_SET is not set"}},
		{"a variable of two lines", provider + "    api_key_env: TWO_LINES\n", []string{
			"runner.yaml:7: providers[0].api_key_env: the secret must be one line"}},
		{"a key where its file's path belongs", provider + "    api_key_file: gsk_canary\n", []string{
			"runner.yaml:7: providers[0].api_key_file: open the secret's file: no such file or directory"}},
		{"a key by variable and by file", provider + "    api_key_env: NOT_SET\n    api_key_file: gsk_canary\n", []string{
			"runner.yaml:8: providers[0].api_key_file: is set beside providers[0].api_key_env; set one of the two"}},
		{"a cap of money beside a paid provider that takes any model", head + "caps: {day_usd: 0}\nproviders:\n  - {name: a, kind: openai, url: http://a}\n", []string{
			"runner.yaml:5: providers[0].models: must be listed with usd_in and usd_out, since caps limit money"}},
		{"a cap of money beside a paid model with half a price", head + "caps: {job_usd: 1}\nproviders:\n  - name: a\n    kind: gemini\n    api_key_env: SET\n    models:\n      - {name: m, usd_in: 1, usd_out: 0}\n      - {name: n, usd_in: 1}\n", []string{
			"runner.yaml:10: providers[0].models[1]: needs usd_in and usd_out, since caps limit money"}},
		{"a negative cap", head + tail + "caps: {day_tokens: -1}\n", []string{
			"runner.yaml:4: caps.day_tokens: must be a whole number of at least 0"}},
		{"a Gemini without a key", head + "providers:\n  - name: a\n    kind: gemini\n", []string{
			"runner.yaml:4: providers[0].api_key: must be set for gemini, by api_key_env or api_key_file"}},
		{"a Gemini whose key is not there, once", head + "providers:\n  - name: a\n    kind: gemini\n    api_key_env: NOT_SET\n", []string{
			"runner.yaml:6: providers[0].api_key_env: the variable NOT_SET is not set"}},
		{"an OpenAI-compatible server whose key is not there", head + "providers:\n  - name: a\n    kind: openai\n    url: http://a\n    api_key_file: gsk_canary\n", []string{
			"runner.yaml:7: providers[0].api_key_file: open the secret's file: no such file or directory"}},
		{"a webhook whose variable is not set", head + tail + "discord:\n  webhook_env: NOT_SET\n", []string{
			"runner.yaml:5: discord.webhook_env: the variable NOT_SET is not set"}},
		{"a webhook where its file's path belongs", head + tail + "discord: {webhook_file: \"https://canary\"}\n", []string{
			"runner.yaml:4: discord.webhook_file: open the secret's file: no such file or directory"}},
		{"a webhook in the file itself", head + tail + "discord:\n  webhook: https://canary\n", []string{
			"runner.yaml:5: discord.webhook: is not written here; name its variable by webhook_env or its file by webhook_file"}},
		{"Langfuse without keys", head + tail + "langfuse:\n  host: https://a\n", []string{
			"runner.yaml:4: langfuse: needs public_key and a secret key with its host"}},
		{"Langfuse with half its keys", head + tail + "langfuse:\n  host: https://a\n  secret_key_env: SET\n", []string{
			"runner.yaml:4: langfuse: needs public_key and a secret key with its host"}},
		{"Langfuse's keys without its host", head + tail + "langfuse:\n  public_key: pk\n  secret_key_env: SET\n", []string{
			"runner.yaml:4: langfuse.host: must be set with the keys"}},
		{"Langfuse with a secret key that is not there, once", head + tail + "langfuse:\n  host: https://a\n  public_key: pk\n  secret_key_env: NOT_SET\n", []string{
			"runner.yaml:7: langfuse.secret_key_env: the variable NOT_SET is not set"}},
		{"Access without its audience", head + tail + "access: {team: t}\n", []string{
			"runner.yaml:4: access.team: needs aud beside it"}},
		{"a public name without a lock", head + tail + "public_url: https://a.example.com\n", []string{
			"runner.yaml:4: public_url: needs access or auth: a login link alone is for this machine"}},
		{"further names without a lock", head + tail + "hosts: [runner.lan]\n", []string{
			"runner.yaml:4: hosts: needs access or auth: a login link alone is for this machine"}},
		{"several things at once, in the order of the file", "guard: x\nvault: /v\nlog: x\nproviders:\n  - {name: a, kind: b}\n", []string{
			"runner.yaml:1: guard: must be a duration such as 2s or 10m, not negative",
			"runner.yaml:3: log: must be text or json",
			"runner.yaml:5: providers[0].kind: must be ollama, openai, gemini or echo",
			"runner.yaml: state_dir: must be set, here or by RUNNER_STATE_DIR"}},
	}
	t.Setenv("NOT_SET", "canary: the process's own environment is not asked")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.file)
			c, warnings, err := Load(path, []string{"TWO_LINES=canary\nb", "SET=canary"})
			got := strings.ReplaceAll(errorText(err), path, "runner.yaml")
			if want := strings.Join(tt.want, "\n"); got != want || c != nil {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			for _, w := range warnings {
				got += w.String()
			}
			if strings.Contains(got, "canary") {
				t.Errorf("a value is shown: %s", got)
			}
		})
	}
}

func TestLoadListsTwentyProblemsAtMost(t *testing.T) {
	_, _, err := Load(write(t, head+tail+"services: {5: x}\nhosts:\n"+strings.Repeat("  - 1\n", 30)), nil)
	lines := strings.Split(errorText(err), "\n")
	if len(lines) != maxProblems+1 || lines[maxProblems] != "and 11 more" {
		t.Errorf("got %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

func TestLoadRefusesAHugeFile(t *testing.T) {
	path := write(t, head+tail+strings.Repeat("#", maxFile))
	if _, _, err := Load(path, nil); errorText(err) != path+": is larger than 1024 KiB" {
		t.Errorf("got %v", err)
	}
}

func TestLoadCountsKeysWithoutValueAsNotSet(t *testing.T) {
	file := head + tail + "vault_name:\nguard: ~\ndeadlines:\nlisten: \"\"\nhosts: []\naccess: {team: \"\", aud: }\nauth:\ncaps: {day_usd: null}\ndiscord: {webhook_env: \"\"}\n"
	c, warnings, err := Load(write(t, file), []string{"RUNNER_VAULT=", "RUNNER_CAPS_DAY_USD="})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("warnings %v, error %v", warnings, err)
	}
	if c.Guard.String() != "2s" || c.Listen != "127.0.0.1:8080" || c.VaultName != "vault" {
		t.Errorf("the defaults are lost: %+v", c)
	}
}

func TestLoadWarnsOfWhatHasNoEffect(t *testing.T) {
	tests := []struct {
		name, file string
		environ    []string
		want       []string
	}{
		{"a variable that is no setting", "", []string{"RUNNER_VALUT=canary", "RUNNERS=1", "HOME=/"}, []string{
			"RUNNER_VALUT: is no setting and is ignored"}},
		{"a list by variable", "", []string{"RUNNER_PROVIDERS=canary", "RUNNER_HOSTS=canary"}, []string{
			"RUNNER_PROVIDERS: is ignored: a list is set in the file alone",
			"RUNNER_HOSTS: is ignored: a list is set in the file alone"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, head+tail+tt.file)
			_, warnings, err := Load(path, tt.environ)
			if err != nil {
				t.Fatal(err)
			}
			checkWarnings(t, path, warnings, tt.want)
		})
	}
}

func checkWarnings(t *testing.T, path string, warnings []Warning, want []string) {
	t.Helper()
	var got []string
	for _, w := range warnings {
		got = append(got, strings.ReplaceAll(w.String(), path, "runner.yaml"))
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

// TestKeysThatAreUsed loads as a worker does what once had no effect.
func TestKeysThatAreUsed(t *testing.T) {
	file := head + `caps: {day_usd: 0, job_tokens: 5}
ops_listen: 127.0.0.1:0
discord: {webhook_env: HOOK}
langfuse: {host: https://l, public_key: pk, secret_key_env: LF}
services: {qdrant: http://q}
providers:
  - {name: own, kind: openai, url: http://a, models: [{name: m, usd_in: 0, usd_out: 0}]}
  - {name: g, kind: gemini, api_key_env: RUNNER_GEMINI, models: [{name: m, usd_in: 1, usd_out: 2}]}
  - {name: o, kind: ollama, url: http://o}
`
	c, warnings, err := Load(write(t, file), []string{"HOOK=https://h/w", "LF=l", "RUNNER_GEMINI=k"})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("warnings %v, error %v", warnings, err)
	}
	got := []string{c.Discord.Webhook.Reveal(), c.Langfuse.SecretKey.Reveal(), c.Providers[1].Key.Reveal()}
	if want := []string{"https://h/w", "l", "k"}; !slices.Equal(got, want) || !c.Providers[0].Key.IsZero() || *c.Caps.DayUSD != 0 {
		t.Errorf("got %q of %+v", got, c)
	}
}

func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile(filepath.Join("..", "..", "runner.example.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example), "RUNNER_GUARD=1s")
	f.Add(uncommented(string(example)), "RUNNER_DISCORD_WEBHOOK_FILE=/dev/zero")
	f.Add(head+tail, "RUNNER_VAULT=../x")
	f.Add("&a [*a, {? *a : *a, <<: *a}]", "=")
	f.Add("providers: [{name: a, models: [[], ~, {name: [*b]}]}]", "RUNNER_")
	f.Add("\ufeffvault: !!binary aGk=\n---\n...\n%YAML 1.2\n", "X")
	f.Fuzz(func(t *testing.T, file, entry string) {
		l := &loader{file: "runner.yaml", dir: "/nowhere", environ: variables([]string{entry})}
		c, _, err := l.load([]byte(file))
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v beside error %v", c, err)
		}
		if c == nil {
			return
		}
		if !filepath.IsAbs(c.Vault) || !filepath.IsAbs(c.StateDir) || inside(c.Vault, c.StateDir) ||
			len(c.Providers) == 0 || c.Concurrency < 1 || c.Guard < 0 || c.Timezone == nil {
			t.Fatalf("an incomplete config is taken: %+v", c)
		}
	})
}
