package checks

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

var doorChecks = []check{
	{"the tunnel lets in whom Access let in, at one name, and nobody else", (*tree).tunnel},
	{"nginx gives the control room no header of Cloudflare's", (*tree).controlRoom},
	{"big pushes, streams and the control room pass nginx as they must", (*tree).streams},
}

func (t *tree) tunnel() (problems []string) {
	stack := t.stacks["contabo"]
	s := stack.Services["cloudflared"]
	if len(s.Configs) != 1 || s.Configs[0].Target != "/etc/cloudflared/config.yml" {
		return []string{"cloudflared is not given its configuration"}
	}
	var config struct {
		Tunnel      string
		Credentials string `yaml:"credentials-file"`
		Metrics     string
		Ingress     []struct {
			Hostname, Service string
			Origin            struct {
				Access struct {
					Required bool
					Team     string   `yaml:"teamName"`
					Aud      []string `yaml:"audTag"`
				}
			} `yaml:"originRequest"`
		}
	}
	if err := yaml.Unmarshal([]byte(stack.Configs[s.Configs[0].Source].Content), &config); err != nil {
		return []string{"cloudflared: " + err.Error()}
	}
	if len(config.Ingress) != 2 {
		return []string{fmt.Sprintf("the tunnel has %d rules", len(config.Ingress))}
	}
	door, rest := config.Ingress[0], config.Ingress[1]
	if access := door.Origin.Access; !access.Required || access.Team == "" || len(access.Aud) != 1 || len(access.Aud[0]) != 64 {
		problems = append(problems, "the tunnel lets in without Access")
	}
	if listen := *stack.Services["runner"].Environment["RUNNER_LISTEN"]; door.Service != "http://"+listen {
		problems = append(problems, "the tunnel leads to "+door.Service+", and runner listens on "+listen)
	}
	if rest.Hostname != "" || rest.Service != "http_status:404" {
		problems = append(problems, "the tunnel leads further for other names")
	}
	if health := strings.Join(s.HealthCheck.Test, " "); !strings.Contains(health, "--metrics "+config.Metrics+" ready") {
		problems = append(problems, "cloudflared's health is asked where it does not answer")
	}
	if len(s.Secrets) != 1 || s.Secrets[0].Target != config.Credentials {
		problems = append(problems, "cloudflared is not given its credentials")
	}
	for _, name := range []string{"runner", "cloudflared"} {
		if len(stack.Services[name].Ports) > 0 {
			problems = append(problems, name+" opens a port beside the host's network")
		}
	}
	return problems
}

func (t *tree) controlRoom() (problems []string) {
	for line := range strings.Lines(t.text("prod-services/nginx/templates/control.conf.template")) {
		if strings.Contains(strings.ToLower(line), "proxy_set_header cf-") {
			problems = append(problems, "control.conf.template hands on "+strings.TrimSpace(line))
		}
	}
	return problems
}

// doorLines are lines that nginx's templates must have. Each is left out once in derived.
var doorLines = map[string][]string{
	"control.conf.template":   {"proxy_pass_request_headers off;", "proxy_buffering off;", "gzip off;", "proxy_read_timeout 1h;"},
	"git.conf.template":       {"client_max_body_size 512m;", "proxy_request_buffering off;", "location = /metrics { return 404; }"},
	"langfuse.conf.template":  {"client_max_body_size 50m;", "proxy_buffering off;"},
	"kuma.conf.template":      {"proxy_read_timeout 1h;", "location = /metrics { return 404; }"},
	"portainer.conf.template": {"proxy_read_timeout 1h;"},
	"grafana.conf.template":   {"proxy_read_timeout 1h;"},
}

func (t *tree) streams() (problems []string) {
	for name, wanted := range doorLines {
		text := t.text("prod-services/nginx/templates/" + name)
		for _, line := range wanted {
			if !strings.Contains(text, "\n    "+line) && !strings.Contains(text, "\n        "+line) {
				problems = append(problems, name+" does not say "+line)
			}
		}
	}
	return problems
}
