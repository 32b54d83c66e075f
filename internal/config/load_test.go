package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones of the tests do not depend on the machine
)

// head is a configuration that is complete but for its providers, in lines 1 and
// 2; tail adds the least of those.
const (
	head = "vault: /srv/vault\nstate_dir: /var/lib/runner\n"
	tail = "providers: [{name: echo, kind: echo}]\n"
)

// write puts text into a runner.yaml of its own and returns its path.
func write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// loadAll loads text as a version would that has all features.
func loadAll(text, dir string, environ ...string) (*Config, []Warning, error) {
	l := &loader{file: "runner.yaml", dir: dir, environ: variables(environ)}
	return l.load([]byte(text))
}

func TestLoadTakesTheLeastFile(t *testing.T) {
	path := write(t, head+tail)
	got, warnings, err := Load(path, nil)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("warnings %v, error %v", warnings, err)
	}
	want := &Config{
		File: path, Vault: "/srv/vault", VaultName: "vault", StateDir: "/var/lib/runner",
		Timezone: time.Local, Guard: 2 * time.Second, Concurrency: 8,
		Listen: "127.0.0.1:8080", OpsListen: "127.0.0.1:9464",
		Providers: []Provider{{Name: "echo", Kind: Echo, Concurrency: 4, Offline: Wait}},
		Langfuse:  Langfuse{Content: ContentFull},
		Log:       LogText, LogLevel: slog.LevelInfo, Grace: 20 * time.Second,
		Deadlines: Deadlines{10 * time.Second, 10 * time.Minute, 2 * time.Minute, time.Minute, 15 * time.Minute},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestLoadTakesEveryKey(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hook"), []byte("https://hook/w\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, warnings, err := loadAll(`
vault: vault/
vault_name: Notes
state_dir: ../state
timezone: Europe/London
guard: 0
concurrency: 2
grace: 1m
log: json
log_level: debug
deadlines: {connect: 1s, load: 2s, first_byte: 3s, silence: 4s, job: 5s}
listen: ":80"
ops_listen: "[::1]:0"
public_url: https://runner.example.com
hosts: [a.lan, b.lan]
access: {team: t, aud: a}
auth: {password_file: pw, token_file: /etc/tokens}
caps: {job_usd: 0, day_usd: 2.5, job_tokens: 0, day_tokens: 9}
providers:
  - name: davas
    kind: ollama
    url: http://davas:11434/base
    api_key_env: DAVAS_KEY
    offline: fail
    models:
      - {name: "qwen3:4b", num_ctx: 512}
      - {name: other, usd_in: 1, usd_out: 0.5}
  - {name: g, kind: gemini, concurrency: 7, api_key_env: G, models: [{name: m, usd_in: 1, usd_out: 0.5}]}
discord: {webhook_file: hook}
langfuse: {host: https://l.example.com, public_key: pk, secret_key_env: LF, content: off}
services: {qdrant: http://q:1, searxng: http://s:2}
`, dir, "DAVAS_KEY=dk", "LF=lk", "G=gk")
	if err != nil || len(warnings) > 0 {
		t.Fatalf("warnings %v, error %v", warnings, err)
	}
	london, err := time.LoadLocation("Europe/London")
	if err != nil {
		t.Fatal(err)
	}
	zero, two, half, one, none, nine := 0.0, 2.5, 0.5, 1.0, 0, 9
	revealed := []string{got.Providers[0].Key.Reveal(), got.Providers[1].Key.Reveal(), got.Discord.Webhook.Reveal(), got.Langfuse.SecretKey.Reveal()}
	if want := []string{"dk", "gk", "https://hook/w", "lk"}; !reflect.DeepEqual(revealed, want) {
		t.Errorf("secrets %q, want %q", revealed, want)
	}
	want := &Config{
		File: "runner.yaml", Vault: dir + "/vault", VaultName: "Notes", StateDir: filepath.Dir(dir) + "/state",
		Timezone: london, Concurrency: 2, Listen: ":80", OpsListen: "[::1]:0",
		PublicURL: "https://runner.example.com", Hosts: []string{"a.lan", "b.lan"},
		Access: Access{"t", "a"}, Auth: Auth{dir + "/pw", "/etc/tokens"},
		Caps: Caps{&zero, &two, &none, &nine},
		Providers: []Provider{
			{Name: "davas", Kind: Ollama, URL: "http://davas:11434/base", Key: got.Providers[0].Key, Concurrency: 1, Offline: Fail,
				Models: []Model{{Name: "qwen3:4b", NumCtx: 512}, {Name: "other", USDIn: &one, USDOut: &half}}},
			{Name: "g", Kind: Gemini, Key: got.Providers[1].Key, Concurrency: 7, Offline: Wait,
				Models: []Model{{Name: "m", USDIn: &one, USDOut: &half}}},
		},
		Discord:  Discord{got.Discord.Webhook},
		Langfuse: Langfuse{"https://l.example.com", "pk", got.Langfuse.SecretKey, ContentOff},
		Services: Services{"http://q:1", "http://s:2"},
		Log:      LogJSON, LogLevel: slog.LevelDebug, Grace: time.Minute,
		Deadlines: Deadlines{1 * time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second, 5 * time.Second},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestProviderIsFoundRegardlessOfCase(t *testing.T) {
	c := &Config{Providers: []Provider{{Name: "davas"}, {Name: "davas-2"}}}
	for name, want := range map[string]string{"davas": "davas", "DAVAS-2": "davas-2", "dava": "", " davas": "", "": ""} {
		got, ok := c.Provider(name)
		if got.Name != want || ok != (want != "") {
			t.Errorf("Provider(%q) = %q, %v; want %q", name, got.Name, ok, want)
		}
	}
}

func TestFind(t *testing.T) {
	empty, first, second := t.TempDir(), filepath.Dir(write(t, "")), filepath.Dir(write(t, ""))
	if got, err := Find(empty, first, second); err != nil || got != filepath.Join(first, FileName) {
		t.Errorf("got %q, %v; want the first that is there", got, err)
	}
	_, err := Find(empty)
	want := fmt.Sprintf("no runner.yaml in %s: make one with \"runner init\" or name one with --config FILE", empty)
	if !errors.Is(err, fs.ErrNotExist) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	loop := filepath.Join(empty, FileName)
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	if got, err := Find(empty, first); err == nil {
		t.Errorf("one that cannot be looked at is passed over for %q", got)
	}
}

func TestLoadSearchesTheWorkingDirectory(t *testing.T) {
	t.Chdir(filepath.Dir(write(t, "vault: v\nstate_dir: s\n"+tail)))
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := Load("", nil)
	if err != nil || c.File != FileName || c.Vault != filepath.Join(here, "v") {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestLoadNamesAFileThatIsNotThere(t *testing.T) {
	_, _, err := Load(filepath.Join(t.TempDir(), "x.yaml"), nil)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "runner init") {
		t.Errorf("got %v", err)
	}
}

func TestVaultAndStateDirLieApart(t *testing.T) {
	const outside, within = "runner.yaml:2: state_dir: must lie outside the vault", "runner.yaml:1: vault: must lie outside state_dir"
	tests := []struct {
		name, vault, state, want string
	}{
		{"beside each other", "vault", "state", ""},
		{"one name begins the other", "vault", "vault-state", ""},
		{"state in the vault", "vault", "vault/sub/state", outside},
		{"the same folder", "vault", "sub/../vault", outside},
		{"vault in the state folder", "state/vault", "state", within},
		{"everything is the vault", "/", "state", outside},
		{"state in the vault by a link", "vault", "link/state", outside},
		{"vault named by a link", "link", "vault/state", outside},
		{"a link to a folder in the vault that is not there yet", "vault", "dangling", outside},
		{"links in a circle", "vault", "circle", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "vault"), 0o700); err != nil {
				t.Fatal(err)
			}
			for name, to := range map[string]string{"link": "vault", "dangling": "link/none/yet", "circle": "circle"} {
				if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			_, _, err := loadAll("vault: "+tt.vault+"\nstate_dir: "+tt.state+"\n"+tail, dir)
			if got := errorText(err); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
