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

func TestTheReadmeHasTheMap(t *testing.T) {
	tree, err := load(home)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, "README.md")
	want := string(read(t, path))
	for part, table := range map[string]string{"reaches": tree.reachesTable(), "ports": tree.portsTable()} {
		if want, err = between(want, part, table); err != nil {
			t.Fatal(err)
		}
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(read(t, path)); got != want {
		t.Error("README.md is not what ports.yaml says: go test ./checks -update")
	}
	if len(machinesInOrder) != len(tree.ports) {
		t.Errorf("the map has %d machines, the tables %d", len(tree.ports), len(machinesInOrder))
	}
}
