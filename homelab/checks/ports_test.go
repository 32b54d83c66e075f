package checks

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"
)

var portChecks = []check{
	{"published ports are those of the map", (*tree).published},
	{"on the host's network is what the map says", (*tree).hostNetwork},
	{"the map makes sense in itself", (*tree).mapItself},
	{"SearXNG is on the tailnet address and nowhere else", (*tree).searxng},
	{"SearXNG answers in JSON and has no limiter", (*tree).searxngSettings},
}

// bound names the kind of an address to which a host's service is bound.
func bound(host, address string) string {
	switch {
	case address == map[string]string{"prod-services": prodIP, "dev-learning": devIP, "contabo": contaboIP}[host]:
		return "tailscale"
	case address == lanIP && host == "prod-services":
		return "lan"
	case address == "127.0.0.1":
		return "loopback"
	}
	return "all"
}

func (t *tree) published() (problems []string) {
	for _, host := range hosts {
		mapped, real := map[string]bool{}, map[string]bool{}
		for _, p := range t.ports[host] {
			for _, on := range p.On {
				if p.published() {
					mapped[fmt.Sprintf("%s %d on %s", p.Service, p.Port, on)] = true
				}
			}
		}
		for name, s := range t.stacks[host].Services {
			for _, p := range s.Ports {
				real[fmt.Sprintf("%s %s on %s", name, p.Published, bound(host, p.HostIP))] = true
			}
		}
		for port := range real {
			if !mapped[port] {
				problems = append(problems, host+": published and not in the map: "+port)
			}
		}
		for port := range mapped {
			if !real[port] {
				problems = append(problems, host+": in the map and not published: "+port)
			}
		}
	}
	return problems
}

// packaged are the services of the map that no compose file has: Debian's package on
// that host.
var packaged = map[string][]string{"contabo": {"syncthing"}}

func (t *tree) hostNetwork() (problems []string) {
	for _, host := range hosts {
		mapped := map[string]bool{}
		for _, p := range t.ports[host] {
			if !p.published() && !slices.Contains(packaged[host], p.Service) {
				mapped[p.Service] = true
			}
		}
		for name, s := range t.stacks[host].Services {
			if onHost := s.NetworkMode == "host"; onHost != mapped[name] {
				problems = append(problems, fmt.Sprintf("%s: %s: on the host's network: %t, by the map: %t", host, name, onHost, mapped[name]))
			}
			delete(mapped, name)
		}
		for name := range mapped {
			problems = append(problems, host+": the map has "+name+", which is no service")
		}
	}
	return append(problems, t.listens()...)
}

// listens compares where the services on the host's network are told to listen.
func (t *tree) listens() []string {
	return t.services(func(host string, s types.ServiceConfig) (problems []string) {
		if s.NetworkMode != "host" {
			return nil
		}
		said := strings.Join(s.Command, "\n") + "\n"
		for _, value := range s.Environment {
			if value != nil {
				said += *value + "\n"
			}
		}
		for _, config := range s.Configs {
			said += t.stacks[host].Configs[config.Source].Content
		}
		for _, p := range t.ports[host] {
			if p.Service != s.Name || len(p.On) != 1 {
				continue // 22000 of Syncthing is set over REST by the deploy
			}
			address := map[string]string{"tailscale": map[string]string{"prod-services": prodIP, "dev-learning": devIP, "contabo": contaboIP}[host], "lan": lanIP}[p.On[0]]
			if address == "" {
				continue
			}
			if !strings.Contains(said, address+":"+strconv.Itoa(int(p.Port))) {
				problems = append(problems, fmt.Sprintf("is not told to listen on %s:%d", address, p.Port))
			}
		}
		return problems
	})
}

func (t *tree) mapItself() (problems []string) {
	known := append(slices.Collect(maps.Keys(t.ports)), "lan", "tailnet")
	for host, ports := range t.ports {
		seen := map[string]string{}
		for _, p := range ports {
			for _, on := range p.On {
				if !slices.Contains([]string{"lan", "tailscale", "loopback", "all"}, on) {
					problems = append(problems, fmt.Sprintf("%s: %s is bound to %s", host, p.Service, on))
				}
				for _, overlapping := range []string{on, "all"} {
					key := fmt.Sprint(p.Port, overlapping)
					if other, ok := seen[key]; ok && other != p.Service {
						problems = append(problems, fmt.Sprintf("%s: %s and %s both have port %d", host, other, p.Service, p.Port))
					}
				}
				seen[fmt.Sprint(p.Port, on)] = p.Service
			}
			for _, from := range p.From {
				if !slices.Contains(known, from) {
					problems = append(problems, fmt.Sprintf("%s: %s is reached from %s, which nobody is", host, p.Service, from))
				}
			}
			say := func(holds bool, problem string) {
				if !holds {
					problems = append(problems, fmt.Sprintf("%s: %s %d: %s", host, p.Service, p.Port, problem))
				}
			}
			say(len(p.From) > 0, "nobody reaches it")
			say(p.For != "", "it is not said what it is for")
			say(len(p.On) > 0, "it is bound to no address")
		}
	}
	return problems
}

func (t *tree) searxng() (problems []string) {
	ports := t.stacks["prod-services"].Services["searxng"].Ports
	if len(ports) != 1 {
		return []string{fmt.Sprintf("SearXNG is published %d times", len(ports))}
	}
	if ports[0].HostIP != prodIP {
		problems = append(problems, fmt.Sprintf("SearXNG is published on %q", ports[0].HostIP))
	}
	// The deploy refuses another address by this format.
	if !slices.ContainsFunc(t.env["prod-services"], func(v variable) bool { return v.name == "TAILSCALE_IP" && v.format == "IPv4 in 100.64.0.0/10" }) {
		problems = append(problems, "SearXNG's address need not be one of the tailnet")
	}
	if s := t.stacks["prod-services"].Services["searxng"]; s.NetworkMode != "" {
		problems = append(problems, "SearXNG is on the network "+s.NetworkMode)
	}
	return problems
}

func (t *tree) searxngSettings() (problems []string) {
	s := t.stacks["prod-services"].Services["searxng"]
	if len(s.Configs) != 1 || s.Configs[0].Target != "/etc/searxng/settings.yml" {
		return []string{"SearXNG is not given its settings"}
	}
	var settings struct {
		UseDefaultSettings bool `yaml:"use_default_settings"`
		General            struct {
			OpenMetrics string `yaml:"open_metrics"`
		}
		Search struct{ Formats []string }
		Server struct{ Limiter *bool }
	}
	if err := yaml.Unmarshal([]byte(t.stacks["prod-services"].Configs[s.Configs[0].Source].Content), &settings); err != nil {
		return []string{"SearXNG's settings: " + err.Error()}
	}
	if !settings.UseDefaultSettings {
		problems = append(problems, "SearXNG has only the settings that are given here")
	}
	if !slices.Contains(settings.Search.Formats, "json") {
		problems = append(problems, "SearXNG refuses JSON with 403")
	}
	if settings.Server.Limiter == nil || *settings.Server.Limiter {
		problems = append(problems, "SearXNG refuses programs with 429")
	}
	if settings.General.OpenMetrics == "" {
		problems = append(problems, "SearXNG has no metrics")
	}
	return problems
}
