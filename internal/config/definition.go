package config

import (
	"time"

	"davidcockson.com/runner/internal/secret"
)

// key is one entry of the definition. Exactly one of value, secret, texts, keys
// and items says what it holds.
type key struct {
	name string
	// about is its meaning and unit, standard its default as one would write it,
	// otherwise the default in words where it is not one fixed value.
	about, standard, otherwise string
	// needed says when the key must be set, "" for never; always is enforced.
	needed string
	// example is what the example file shows where there is no standard.
	example string

	// form says what is wrong with a secret, without a part of it, "" for nothing; nil
	// where any one line will do.
	form func(text string) string

	value  value               // a single value
	secret *secret.Key         // name_env or name_file
	texts  *[]string           // a list of texts
	keys   []key               // a group of keys
	items  func(n int) [][]key // a list of n groups
}

// always marks a key that must be set.
const always = "always"

// definition lists every key in the order of the example file and ties each to
// its place in c. Relative paths are meant from dir.
func definition(c *Config, dir string) []key {
	keys := []key{
		{name: "vault", value: path(&c.Vault, dir), needed: always, example: "/srv/vault",
			about: "The vault: the folder whose `_queue/` takes notes. A relative path counts from this file's folder."},
		{name: "vault_name", value: text(&c.VaultName), otherwise: "the vault folder's name", example: "Notes",
			about: "The vault's name on your devices, for obsidian:// links."},
		{name: "state_dir", value: path(&c.StateDir, dir), needed: always, example: "/var/lib/runner",
			about: "The folder for the ledger, its backups and the control socket. It lies outside the vault, on a local disk."},
		{name: "timezone", value: zone(&c.Timezone), otherwise: "the machine's", example: "Europe/London",
			about: "The time zone of dates in notes that name none, and of the days of `caps`."},
		{name: "guard", value: duration(&c.Guard, 0), standard: "2s",
			about: "How long a note must lie unchanged before it is read, as a duration such as 2s; 0s waits not at all."},
		{name: "concurrency", value: whole(&c.Concurrency, 1), standard: "8",
			about: "How many jobs run at once. Each provider has its own limit beside it."},
		{name: "grace", value: duration(&c.Grace, 0), standard: "20s",
			about: "How long a stop waits for running jobs before it puts them back, as a duration."},
		{name: "log", value: oneOf(&c.Log, LogText, LogJSON), standard: "text",
			about: "The form of log lines: text or json."},
		{name: "log_level", value: level(&c.LogLevel), standard: "info",
			about: "The least level that is logged: debug, info, warn or error."},
		{name: "deadlines", keys: deadlineKeys(&c.Deadlines),
			about: "How long each part of a job may take, as durations. The one that was reached is named in the failure."},
		{name: "providers", needed: always,
			items: group(&c.Providers, providerKeys),
			about: "The model servers. The first is asked by notes that name no provider."},
	}
	return append(keys, outsideKeys(c, dir)...)
}

func deadlineKeys(d *Deadlines) []key {
	const least = time.Nanosecond
	return []key{
		{name: "connect", value: duration(&d.Connect, least), standard: "10s",
			about: "Making a connection to the provider."},
		{name: "load", value: duration(&d.Load, least), standard: "10m",
			about: "Loading the model into memory."},
		{name: "first_byte", value: duration(&d.FirstByte, least), standard: "120s",
			about: "The first piece of an answer, counted from the loaded model. 1 s more for each 10 tokens of the prompt is added, by our own count."},
		{name: "silence", value: duration(&d.Silence, least), standard: "60s",
			about: "The silence between two pieces of an answer."},
		{name: "job", value: duration(&d.Job, least), standard: "15m",
			about: "The whole job; loading the model and waiting in line do not count."},
	}
}

func providerKeys(p *Provider) []key {
	return []key{
		{name: "name", value: providerName(&p.Name), needed: always, example: "local",
			about: "The name by which notes ask for it: a to z, 0 to 9, dot, dash and underscore, each name once."},
		{name: "kind", value: oneOf(&p.Kind, Ollama, OpenAI, Gemini, Echo), needed: always, example: "ollama",
			about: "What it speaks: ollama, openai (any OpenAI-compatible server), gemini, or echo, which is built in and repeats the prompt."},
		{name: "url", value: webURL(&p.URL), needed: "for ollama and openai", example: "http://127.0.0.1:11434",
			about: "Its base URL, http or https, without user, query or fragment. Not for echo."},
		{name: "api_key", secret: &p.Key, example: "LOCAL_API_KEY",
			about: "Its key. gemini needs one; an openai server of your own mostly does not. Not for echo."},
		{name: "concurrency", value: whole(&p.Concurrency, 1), otherwise: "1 for ollama, 4 for others", example: "1",
			about: "How many calls run at once."},
		{name: "offline", value: oneOf(&p.Offline, Wait, Fail), standard: "wait",
			about: "What to do while it cannot be reached: wait keeps its notes in the queue, fail fails them."},
		{name: "models", items: group(&p.Models, modelKeys), otherwise: "whatever it lists",
			about: "The models that may be asked. The first is asked by notes that name no model."},
	}
}

func modelKeys(m *Model) []key {
	return []key{
		{name: "name", value: text(&m.Name), needed: always, example: "qwen3:4b",
			about: "The model's name at the provider."},
		{name: "num_ctx", value: whole(&m.NumCtx, 512), otherwise: "the program's own choice", example: "8192",
			about: "The size of its context in tokens, at least 512, for ollama."},
		{name: "usd_in", value: amount(&m.USDIn), otherwise: "no price", example: "0.59",
			about: "The price of a million tokens read, in US dollars."},
		{name: "usd_out", value: amount(&m.USDOut), otherwise: "no price", example: "0.79",
			about: "The price of a million tokens written, in US dollars."},
	}
}

// outsideKeys lists what reaches beyond vault and providers.
func outsideKeys(c *Config, dir string) []key {
	return []key{
		{name: "listen", value: address(&c.Listen), standard: "127.0.0.1:8080",
			about: "Where the control room listens, as host:port. Nobody gets in without a login there, whatever the address."},
		{name: "ops_listen", value: address(&c.OpsListen), standard: "127.0.0.1:9464",
			about: "Where /metrics, /health and /healthz listen, as host:port."},
		{name: "public_url", value: webURL(&c.PublicURL), otherwise: "none", example: "https://runner.example.com",
			about: "The URL by which the control room is reached from outside. It needs `access` or `auth`."},
		{name: "hosts", texts: &c.Hosts, otherwise: "none", example: "runner.lan",
			about: "Further host names by which the control room is reached, such as LAN and tailnet names. They need `auth`, or `access` at least: other names than these, `public_url`'s, `listen`'s and the loopback's are refused."},
		{name: "access", about: "Cloudflare Access before the public name. Each request that comes through Cloudflare must carry its signed word; other names need `auth`.", keys: []key{
			{name: "team", value: text(&c.Access.Team), otherwise: "none", example: "example",
				about: "The team's name, as in TEAM.cloudflareaccess.com."},
			{name: "aud", value: text(&c.Access.Aud), otherwise: "none", example: "0123456789abcdef",
				about: "The application's audience tag."},
		}},
		{name: "auth", about: "Who gets in by a password or a token, by files of hashes that `runner passwd` writes. With neither `access` nor `auth`, a login link is printed at the start.", keys: []key{
			{name: "password_file", value: path(&c.Auth.PasswordFile, dir), otherwise: "none", example: "/etc/runner/password",
				about: "The file with the hashed password."},
			{name: "token_file", value: path(&c.Auth.TokenFile, dir), otherwise: "none", example: "/etc/runner/tokens",
				about: "The file with the hashed tokens."},
		}},
		{name: "caps", about: "Limits on spending, each by itself; 0 allows nothing. A day is one of `timezone`. A limit of money needs a price for each paid model.", keys: []key{
			{name: "job_usd", value: amount(&c.Caps.JobUSD), otherwise: "no limit", example: "0.50",
				about: "US dollars a job."},
			{name: "day_usd", value: amount(&c.Caps.DayUSD), otherwise: "no limit", example: "2.00",
				about: "US dollars a day."},
			{name: "job_tokens", value: count(&c.Caps.JobTokens), otherwise: "no limit", example: "200000",
				about: "Tokens of paid providers a job, read and written."},
			{name: "day_tokens", value: count(&c.Caps.DayTokens), otherwise: "no limit", example: "2000000",
				about: "Tokens of paid providers a day, read and written."},
		}},
		{name: "discord", about: "Pings when a job ends.", keys: []key{
			{name: "webhook", secret: &c.Discord.Webhook, form: webhook, example: "DISCORD_WEBHOOK",
				about: "The webhook's whole URL, which is a secret."},
		}},
		{name: "langfuse", about: "A trace of each job.", keys: []key{
			{name: "host", value: webURL(&c.Langfuse.Host), otherwise: "none", example: "https://cloud.langfuse.com",
				about: "The base URL of Langfuse."},
			{name: "public_key", value: text(&c.Langfuse.PublicKey), otherwise: "none", example: "pk-lf-example",
				about: "The project's public key."},
			{name: "secret_key", secret: &c.Langfuse.SecretKey, example: "LANGFUSE_SECRET_KEY",
				about: "The project's secret key."},
			{name: "content", value: oneOf(&c.Langfuse.Content, ContentFull, ContentOff), standard: "full",
				about: "What a trace carries: full, or off for no text, file names and error bodies."},
		}},
		{name: "services", about: "Other servers whose health is shown.", keys: []key{
			{name: "qdrant", value: webURL(&c.Services.Qdrant), otherwise: "none", example: "http://127.0.0.1:6333",
				about: "The URL of Qdrant."},
			{name: "searxng", value: webURL(&c.Services.SearXNG), otherwise: "none", example: "http://127.0.0.1:8888",
				about: "The URL of SearXNG."},
		}},
	}
}

// group returns the items of a key that holds a list of T: for n items it makes
// the list, all at once so that places in it stay where they are, and gives the
// keys of each.
func group[T any](list *[]T, keys func(*T) []key) func(n int) [][]key {
	return func(n int) [][]key {
		*list = make([]T, n)
		all := make([][]key, n)
		for i := range *list {
			all[i] = keys(&(*list)[i])
		}
		return all
	}
}
