// Package config reads the one configuration file, and the environment that
// overrides it, into typed values.
//
// One table, definition, says of each key its name, meaning, type and default:
// decoding, the example file and the documentation all come from it. A key that
// is unknown, set twice, of the wrong type or out of range is refused with file
// and line, all of them at once; YAML aliases and tags are refused. What is returned without an
// error is complete and consistent in itself; whether folders and hosts exist
// is for the commands to find out. No value appears in an error or a warning,
// since a secret may stand in the wrong place. Nothing is stored.
package config

import (
	"log/slog"
	"strings"
	"time"

	"davidcockson.com/runner/internal/secret"
)

// Config is a whole configuration with its defaults filled in. It is not changed
// after Load and so may be read from any goroutine. It may be printed: secrets
// show as [redacted].
type Config struct {
	// File is the file that was read, as it was named or found.
	File string
	// Vault and StateDir are absolute and clean; neither holds the other.
	Vault     string
	VaultName string
	StateDir  string
	Timezone  *time.Location
	// Guard is how long a note lies unchanged before it is read, 0 for no wait.
	Guard time.Duration
	// Concurrency is how many jobs run at once, at least 1.
	Concurrency int
	// Listen and OpsListen are host:port; a host of "" is every address.
	Listen    string
	OpsListen string
	PublicURL string
	Hosts     []string
	Access    Access
	Auth      Auth
	Caps      Caps
	// Providers holds at least one; the first is the default.
	Providers []Provider
	Discord   Discord
	Langfuse  Langfuse
	Services  Services
	Log       LogFormat
	LogLevel  slog.Level
	// Grace is how long a stop waits for running jobs, 0 for not at all.
	Grace     time.Duration
	Deadlines Deadlines
}

// Provider is one configured model server.
type Provider struct {
	// Name is unique and in lower case.
	Name string
	Kind Kind
	// URL is set for Ollama and OpenAI, empty for Echo.
	URL string
	Key secret.Key
	// Concurrency is how many calls run at once, at least 1.
	Concurrency int
	Offline     Offline
	// Models holds what may be asked; the first is the default. None: whatever
	// the server lists.
	Models []Model
}

// Model is one model of a provider.
type Model struct {
	Name string
	// NumCtx is the context in tokens, 0 where the config sets none.
	NumCtx int
	// USDIn and USDOut are US dollars for a million tokens read and written, nil
	// where no price is given, which is not the same as free.
	USDIn, USDOut *float64
}

// Kind is the protocol that a provider speaks.
type Kind string

// The kinds of providers.
const (
	Ollama Kind = "ollama"
	OpenAI Kind = "openai"
	Gemini Kind = "gemini"
	Echo   Kind = "echo"
)

// Offline says what happens to a job whose provider cannot be reached.
type Offline string

// The ways to meet an unreachable provider.
const (
	Wait Offline = "wait" // the note stays in the queue
	Fail Offline = "fail" // the job fails
)

// LogFormat is the form of log lines.
type LogFormat string

// The forms of log lines.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// Content says how much of the texts a trace carries.
type Content string

// The amounts of text in a trace.
const (
	ContentFull Content = "full"
	ContentOff  Content = "off"
)

// Access names the Cloudflare Access application before the public name.
type Access struct{ Team, Aud string }

// Auth names the files that hold hashed passwords and tokens.
type Auth struct{ PasswordFile, TokenFile string }

// Caps bounds spending, for one job and for one day in the owner's zone. A nil
// cap is no cap; 0 allows nothing.
type Caps struct {
	JobUSD, DayUSD       *float64
	JobTokens, DayTokens *int
}

// Discord is where pings go. The webhook's path is the secret.
type Discord struct{ Webhook secret.Key }

// Langfuse is where traces go.
type Langfuse struct {
	Host, PublicKey string
	SecretKey       secret.Key
	Content         Content
}

// Services are other servers whose health is shown, by URL.
type Services struct{ Qdrant, SearXNG string }

// Deadlines bound the parts of a job, each above zero.
type Deadlines struct {
	// Connect bounds the making of a connection.
	Connect time.Duration
	// Load bounds the loading of a model into memory.
	Load time.Duration
	// FirstByte bounds the wait for an answer's first piece, counted from the
	// loaded model and the first place in line.
	FirstByte time.Duration
	// Silence bounds the wait between two pieces.
	Silence time.Duration
	// Job bounds the whole job; loading and waiting in line do not count.
	Job time.Duration
}

// Provider returns the provider of that name, regardless of case, and whether
// there is one. Nothing else of a name is forgiven.
func (c *Config) Provider(name string) (Provider, bool) {
	for _, p := range c.Providers {
		if p.Name == strings.ToLower(name) {
			return p, true
		}
	}
	return Provider{}, false
}
