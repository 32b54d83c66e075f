package checks

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"
)

// The addresses that the tests give to the machines.
const (
	lanIP     = "192.168.1.10"
	prodIP    = "100.64.0.10"
	devIP     = "100.64.0.11"
	contaboIP = "100.64.0.20"
)

// hosts are those with a compose file, in the order of the README.
var hosts = []string{"prod-services", "dev-learning", "contabo"}

// tree is the homelab's files as the checks see them.
type tree struct {
	dir    string
	stacks map[string]*types.Project // by host
	ports  map[string][]port         // by host, of ports.yaml
	env    map[string][]variable     // by host, of env.example
}

// port is a line of ports.yaml.
type port struct {
	Service string
	Port    uint32
	On      []string // lan, tailscale, loopback, all
	From    []string
	For     string
	Docker  *bool
}

// published reports whether Docker publishes the port.
func (p port) published() bool { return p.Docker == nil || *p.Docker }

// variable is one of env.example: its value there, and the format that its comment states.
type variable struct{ name, value, maker, format string }

// load reads the tree in dir. A compose file that does not load, or a variable whose
// comment says no format, is an error.
func load(dir string) (*tree, error) { return new(library).load(dir) }

// library keeps what was loaded, since loading is slow and most trees differ in one file.
// Its zero value is empty; it is safe for concurrent use. Projects are not changed.
type library struct {
	mu     sync.Mutex
	stacks map[string]*types.Project // by host, compose file and variables
}

func (l *library) load(dir string) (*tree, error) {
	t := &tree{dir: dir, stacks: map[string]*types.Project{}, env: map[string][]variable{}}
	if err := t.yaml("ports.yaml", &t.ports); err != nil {
		return nil, err
	}
	for _, host := range hosts {
		variables, err := t.variables(host)
		if err != nil {
			return nil, err
		}
		t.env[host] = variables
		values := map[string]string{}
		for _, v := range variables {
			if values[v.name], err = sample(host, v); err != nil {
				return nil, fmt.Errorf("%s/env.example: %s: %w", host, v.name, err)
			}
		}
		if t.stacks[host], err = l.stack(t, host, values); err != nil {
			return nil, fmt.Errorf("load %s/compose.yaml: %w", host, err)
		}
	}
	return t, nil
}

// stack loads a host's compose file, once.
func (l *library) stack(t *tree, host string, values map[string]string) (*types.Project, error) {
	key := fmt.Sprint(host, values, t.text(host+"/compose.yaml"))
	l.mu.Lock()
	stack, ok := l.stacks[key]
	l.mu.Unlock()
	if ok {
		return stack, nil
	}
	stack, err := t.stack(host, values)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stacks == nil {
		l.stacks = make(map[string]*types.Project)
	}
	l.stacks[key] = stack
	return stack, nil
}

// stack loads a host's compose file with the values of its variables. Paths in it stay
// relative to the host's folder.
func (t *tree) stack(host string, values map[string]string) (*types.Project, error) {
	dir := filepath.Join(t.dir, host)
	return loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml")}},
		Environment: values,
	}, func(o *loader.Options) { o.ResolvePaths = false })
}

// yaml decodes a file of the tree and refuses keys that into does not have.
func (t *tree) yaml(name string, into any) error {
	file, err := os.Open(filepath.Join(t.dir, name))
	if err != nil {
		return err
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// text returns a file of the tree; "" for one that is not there.
func (t *tree) text(name string) string {
	text, err := os.ReadFile(filepath.Join(t.dir, name))
	if err != nil {
		return ""
	}
	return string(text)
}

var comment = regexp.MustCompile(`^# (given|made) · ([^·]+?)(?: · .*)?$`)

// variables reads a host's env.example.
func (t *tree) variables(host string) ([]variable, error) {
	var variables []variable
	var maker, format string
	for line := range strings.Lines(t.text(filepath.Join(host, "env.example"))) {
		line = strings.TrimSuffix(line, "\n")
		if found := comment.FindStringSubmatch(line); found != nil {
			maker, format = found[1], found[2]
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if format == "" {
			return nil, fmt.Errorf("%s/env.example: %s says neither who gives it nor its format", host, name)
		}
		variables = append(variables, variable{name, value, maker, format})
		maker, format = "", ""
	}
	return variables, nil
}

var counted = regexp.MustCompile(`^(\d+) (hex|base64url)`)

// sample returns a value in the format of the variable.
func sample(host string, v variable) (string, error) {
	switch {
	case v.name == "TAILSCALE_IP":
		return map[string]string{"prod-services": prodIP, "dev-learning": devIP, "contabo": contaboIP}[host], nil
	case strings.HasPrefix(v.format, "IPv4"):
		return map[string]string{"LAN_IP": lanIP, "PROD_LAN_IP": lanIP, "PROD_TAILSCALE_IP": prodIP,
			"DEV_TAILSCALE_IP": devIP, "CONTABO_TAILSCALE_IP": contaboIP}[v.name], nil
	case v.format == "absolute path":
		return "/srv/" + strings.ToLower(v.name), nil
	case v.format == "number":
		return "1000", nil
	case v.format == "domain":
		return "home.example", nil
	case strings.HasPrefix(v.format, "JSON"):
		return `{"AccountTag":"a"}`, nil
	}
	if count := counted.FindStringSubmatch(v.format); count != nil {
		var n int
		fmt.Sscan(count[1], &n)
		return strings.Repeat("a", n), nil
	}
	known := []string{"time zone", "text or empty", "text", "e-mail address", "https URL", "version", "host name", "UUID", "pk-lf- and a UUID", "sk-lf- and a UUID"}
	if !slices.Contains(known, v.format) {
		return "", fmt.Errorf("the format %q is not known", v.format)
	}
	return strings.ReplaceAll(v.format, " ", "-"), nil
}

// services calls f for each service, in a fixed order, and returns its problems.
func (t *tree) services(f func(host string, s types.ServiceConfig) []string) (problems []string) {
	for _, host := range hosts {
		for _, name := range t.stacks[host].ServiceNames() {
			for _, problem := range f(host, t.stacks[host].Services[name]) {
				problems = append(problems, fmt.Sprintf("%s: %s: %s", host, name, problem))
			}
		}
	}
	return problems
}

// check looks at the tree and says what does not hold.
type check struct {
	name string
	find func(*tree) []string
}

var checks = slices.Concat(serviceChecks, portChecks, secretChecks, nameChecks, queryChecks, doorChecks, ansibleChecks, monitorChecks)

// home is the homelab's folder.
const home = ".."

func TestTheTreeHolds(t *testing.T) {
	tree, err := load(home)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			for _, problem := range c.find(tree) {
				t.Error(problem)
			}
		})
	}
}
