package checks

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

var ansibleChecks = []check{
	{"Ansible gives each variable of env.example, in its format", (*tree).given},
}

// roleVariables reads the vars of a role.
func (t *tree) roleVariables(role string) (map[string]yaml.Node, error) {
	text, err := os.ReadFile(filepath.Join(t.dir, "ansible/roles", role, "vars/main.yml"))
	if err != nil {
		return nil, err
	}
	variables := map[string]yaml.Node{}
	return variables, yaml.Unmarshal(text, &variables)
}

func (t *tree) given() (problems []string) {
	common, err := t.roleVariables("common")
	if err != nil {
		return []string{err.Error()}
	}
	var made map[string]struct {
		Kind   string
		Length int
	}
	asked := map[string]yaml.Node{}
	makes, asks := common["common_secrets_made"], common["common_secrets_given"]
	if err := makes.Decode(&made); err != nil {
		return []string{err.Error()}
	}
	if err := asks.Decode(&asked); err != nil {
		return []string{err.Error()}
	}
	for host, role := range map[string]string{"prod-services": "prod-services", "dev-learning": "dev-learning", "contabo": "runner"} {
		variables, err := t.roleVariables(role)
		if err != nil {
			return append(problems, err.Error())
		}
		values := map[string]yaml.Node{}
		node := variables[strings.ReplaceAll(role, "-", "_")+"_values"]
		if err := node.Decode(&values); err != nil {
			return append(problems, role+": "+err.Error())
		}
		for _, v := range t.env[host] {
			_, value := values[v.name]
			_, secret := asked[v.name]
			recipe, generated := made[v.name]
			switch {
			case value || secret:
			case !generated:
				problems = append(problems, host+": Ansible gives no "+v.name)
			default:
				want := fmt.Sprintf("%d %s", recipe.Length, recipe.Kind)
				if recipe.Length == 0 {
					want = recipe.Kind + "- and a UUID"
				}
				if want != v.format {
					problems = append(problems, fmt.Sprintf("%s: %s is made as %s, and must be %s", host, v.name, want, v.format))
				}
			}
		}
		for name := range values {
			found := false
			for _, v := range t.env[host] {
				found = found || v.name == name
			}
			if !found {
				problems = append(problems, host+": Ansible gives "+name+", which env.example does not have")
			}
		}
	}
	return problems
}
