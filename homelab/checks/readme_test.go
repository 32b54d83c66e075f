package checks

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of README.md")

// machinesInOrder are all hosts of ports.yaml, as the tables have them.
var machinesInOrder = append(slices.Clone(hosts), "davas")

// reachesTable says which machine reaches which over the tailnet.
func (t *tree) reachesTable() string {
	var table strings.Builder
	table.WriteString("| from | to | service | port | for |\n| --- | --- | --- | --- | --- |\n")
	for _, from := range machinesInOrder {
		for _, to := range machinesInOrder {
			for _, p := range t.ports[to] {
				if from != to && slices.Contains(p.From, from) && slices.Contains(p.On, "tailscale") {
					fmt.Fprintf(&table, "| %s | %s | %s | %d | %s |\n", from, to, p.Service, p.Port, p.For)
				}
			}
		}
	}
	return table.String()
}

func (t *tree) portsTable() string {
	var table strings.Builder
	table.WriteString("| machine | service | port | bound to | reached from | for |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, host := range machinesInOrder {
		for _, p := range t.ports[host] {
			fmt.Fprintf(&table, "| %s | %s | %d | %s | %s | %s |\n", host, p.Service, p.Port, strings.Join(p.On, ", "), strings.Join(p.From, ", "), p.For)
		}
	}
	return table.String()
}

// between replaces what stands between the marks of a part.
func between(text, part, table string) (string, error) {
	begin := "<!-- " + part + ": begin; written by go test ./checks -update -->\n"
	end := "<!-- " + part + ": end -->"
	head, rest, ok := strings.Cut(text, begin)
	_, tail, ends := strings.Cut(rest, end)
	if !ok || !ends {
		return "", fmt.Errorf("README.md has no part %s", part)
	}
	return head + begin + table + end + tail, nil
}

// withTables is README.md with the tables of the map.
func (t *tree) withTables(text string) (string, error) {
	text, err := between(text, "reaches", t.reachesTable())
	if err != nil {
		return "", err
	}
	return between(text, "ports", t.portsTable())
}

func TestTheReadmeHasTheMap(t *testing.T) {
	real, err := load(home)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, "README.md")
	want, err := real.withTables(string(read(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(read(t, path)); got != want {
		t.Error("README.md is not what ports.yaml says: go test ./checks -update")
	}
	if len(machinesInOrder) != len(real.ports) {
		t.Errorf("the map has %d machines, the tables %d", len(real.ports), len(machinesInOrder))
	}
	for _, row := range []struct{ name, old, new string }{
		{"a port is another", "port: 2222", "port: 2223"},
		{"a port is bound elsewhere", "port: 2222, \"on\": [lan]", "port: 2222, \"on\": [all]"},
		{"a port is reached by another", "from: [lan], for: git over SSH", "from: [tailnet], for: git over SSH"},
		{"a port is for something else", "for: git over SSH", "for: pushes"},
		{"a port is new", "davas:\n", "davas:\n  - {service: ssh, port: 22, \"on\": [tailscale], from: [contabo], for: a shell}\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			changed := &tree{dir: t.TempDir()}
			if err := copyTree(filepath.Join(home, "ports.yaml"), filepath.Join(changed.dir, "ports.yaml")); err != nil {
				t.Fatal(err)
			}
			rewrite(t, filepath.Join(changed.dir, "ports.yaml"), row.old, row.new)
			if err := changed.yaml("ports.yaml", &changed.ports); err != nil {
				t.Fatal(err)
			}
			if got, err := changed.withTables(want); err != nil || got == want {
				t.Errorf("README.md is taken for the map, %v", err)
			}
		})
	}
	for _, part := range []string{"reaches", "ports"} {
		if _, err := real.withTables(strings.Replace(want, "<!-- "+part+": end -->", "", 1)); err == nil {
			t.Errorf("the part %s is not missed", part)
		}
	}
}
