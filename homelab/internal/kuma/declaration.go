package kuma

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Declaration says what an Uptime Kuma shall have.
type Declaration struct {
	Admin struct {
		Name     string `yaml:"name"`
		Password string `yaml:"password"`
	} `yaml:"admin"`
	// Discord tells of every declared monitor; absent, none of them tells anybody.
	Discord *struct {
		Name    string `yaml:"name"`
		Webhook string `yaml:"webhook"`
	} `yaml:"discord"`
	Monitors []Monitor `yaml:"monitors"`
}

// A Monitor is one thing to look at. Its keys are Kuma's own; a zero value means
// Kuma's usual one, which [Monitor.wanted] gives. Times are in seconds.
type Monitor struct {
	Name             string `yaml:"name"`
	Type             string `yaml:"type"`
	URL              string `yaml:"url"`
	Hostname         string `yaml:"hostname"`
	Port             int    `yaml:"port"`
	Keyword          string `yaml:"keyword"`
	ConnectionString string `yaml:"databaseConnectionString"`
	// PushToken is the last part of the URL at which a push monitor is told; Kuma's column
	// holds 32 signs.
	PushToken   string   `yaml:"pushToken"`
	StatusCodes []string `yaml:"accepted_statuscodes"`
	Interval    int      `yaml:"interval"`
	MaxRetries  int      `yaml:"maxretries"`
	// CertificateExpiry says when the certificate of an https URL is about to end.
	CertificateExpiry bool `yaml:"expiryNotification"`
	IgnoreTLS         bool `yaml:"ignoreTls"`
}

// needs are the keys that each type of monitor must have, and all types that there
// are for us.
var needs = map[string][]string{
	"http":     {"url"},
	"keyword":  {"url", "keyword"},
	"port":     {"hostname", "port"},
	"ping":     {"hostname"},
	"postgres": {"databaseConnectionString"},
	"redis":    {"databaseConnectionString"},
	"push":     {"pushToken", "interval"},
}

// Load reads a declaration. ${NAME} in a text is replaced by what getenv knows of
// NAME. All problems are returned at once; none repeats a value that came from there.
func Load(path string, getenv func(string) string) (*Declaration, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the declaration: %w", err)
	}
	d, err := parse(text, getenv)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

func parse(text []byte, getenv func(string) string) (*Declaration, error) {
	var d Declaration
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&d); err != nil {
		return nil, err
	}
	problems := expand(&d, getenv)
	if d.Admin.Name == "" || d.Admin.Password == "" {
		problems = append(problems, errors.New("admin needs name and password"))
	}
	if d.Discord != nil && (d.Discord.Name == "" || d.Discord.Webhook == "") {
		problems = append(problems, errors.New("discord needs name and webhook"))
	}
	seen := map[string]bool{}
	for i, m := range d.Monitors {
		if m.Name == "" {
			problems = append(problems, fmt.Errorf("monitors[%d] has no name", i))
			continue
		}
		if seen[m.Name] {
			problems = append(problems, fmt.Errorf("two monitors are called %s", m.Name))
		}
		seen[m.Name] = true
		problems = append(problems, m.problems()...)
	}
	return &d, errors.Join(problems...)
}

func (m Monitor) problems() (problems []error) {
	keys, ok := needs[m.Type]
	if !ok {
		return []error{fmt.Errorf("%s: type %q is none that we know", m.Name, m.Type)}
	}
	has := map[string]bool{
		"url": m.URL != "", "keyword": m.Keyword != "", "hostname": m.Hostname != "",
		"port": m.Port != 0, "databaseConnectionString": m.ConnectionString != "",
		"pushToken": m.PushToken != "",
	}
	if m.Type == "push" { // any other has its usual one
		has["interval"] = m.Interval != 0
	}
	for _, key := range keys {
		if !has[key] {
			problems = append(problems, fmt.Errorf("%s: a monitor of type %s needs %s", m.Name, m.Type, key))
		}
		delete(has, key)
	}
	for key, given := range has {
		if given {
			problems = append(problems, fmt.Errorf("%s: a monitor of type %s has no %s", m.Name, m.Type, key))
		}
	}
	if len(m.PushToken) > 32 {
		problems = append(problems, fmt.Errorf("%s: its pushToken has %d signs; Kuma keeps 32", m.Name, len(m.PushToken)))
	}
	if m.Interval != 0 && m.Interval < 20 {
		problems = append(problems, fmt.Errorf("%s: interval is %d s; Kuma takes 20 at least", m.Name, m.Interval))
	}
	return problems
}

var variable = regexp.MustCompile(`\$\{[^}]*\}`)

// expand puts values in the place of variables, in all texts that may have them.
func expand(d *Declaration, getenv func(string) string) (problems []error) {
	missing := map[string]bool{}
	texts := []*string{&d.Admin.Name, &d.Admin.Password}
	if d.Discord != nil {
		texts = append(texts, &d.Discord.Webhook)
	}
	for i := range d.Monitors {
		m := &d.Monitors[i]
		texts = append(texts, &m.URL, &m.Hostname, &m.Keyword, &m.ConnectionString, &m.PushToken)
	}
	for _, text := range texts {
		*text = variable.ReplaceAllStringFunc(*text, func(reference string) string {
			name := strings.Trim(reference, "${}")
			value := getenv(name)
			if value == "" && !missing[name] {
				missing[name] = true
				problems = append(problems, fmt.Errorf("the variable %s is not set", name))
			}
			return value
		})
	}
	return problems
}
