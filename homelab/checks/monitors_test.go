package checks

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"davidcockson.com/runner/homelab/internal/kuma"
)

var monitorChecks = []check{
	{"Uptime Kuma looks at all services, and at nothing that is not there", (*tree).monitors},
}

// unwatched is what looks at all others; Prometheus looks at it.
const unwatched = "prod-services/uptime-kuma"

func (t *tree) monitors() (problems []string) {
	declared, err := kuma.Load(filepath.Join(t.dir, "prod-services/kuma/monitors.yaml"), func(name string) string {
		switch name {
		case "HOME_DOMAIN":
			return "home.example"
		case "LAN_IP":
			return lanIP
		}
		return "a" // secrets, and names that no address has
	})
	if err != nil {
		return []string{err.Error()}
	}
	watched := map[string]bool{}
	for _, m := range declared.Monitors {
		if m.Type == "push" {
			continue // it asks nobody
		}
		service, why := t.aim(m)
		if why != "" {
			problems = append(problems, fmt.Sprintf("monitor %s: %s", m.Name, why))
		}
		watched[service] = true
	}
	for _, host := range hosts {
		wanted := append(t.stacks[host].ServiceNames(), packaged[host]...)
		for _, name := range wanted {
			if service := host + "/" + name; !watched[service] && service != unwatched {
				problems = append(problems, "no monitor looks at "+service)
			}
		}
	}
	return problems
}

// aim returns the service that a monitor asks, as host/service, and why it finds none.
func (t *tree) aim(m kuma.Monitor) (service, why string) {
	name, number, scheme := m.Hostname, uint32(m.Port), ""
	if address := m.URL + m.ConnectionString; address != "" {
		parsed, err := url.Parse(address)
		if err != nil {
			return "", "its address is none"
		}
		name, scheme = parsed.Hostname(), parsed.Scheme
		usual := map[string]uint32{"http": 80, "https": 443, "postgres": 5432, "postgresql": 5432, "redis": 6379}
		number = usual[scheme]
		if digits := parsed.Port(); digits != "" {
			given, err := strconv.ParseUint(digits, 10, 16)
			if err != nil {
				return "", "its port is none"
			}
			number = uint32(given)
		}
	}
	if page, ok := strings.CutSuffix(name, ".home.example"); ok {
		return t.behind(page, scheme)
	}
	if why := t.answers("prod-services", "uptime-kuma", name, number); why != "" {
		return "", why
	}
	machine, ok := machines[name]
	if !ok {
		return "prod-services/" + name, ""
	}
	ports := t.ports[machine.host] // one of them it is, since it answers
	i := slices.IndexFunc(ports, func(p port) bool {
		return p.Port == number && (slices.Contains(p.On, machine.on) || slices.Contains(p.On, "all"))
	})
	return machine.host + "/" + ports[i].Service, ""
}

// behind returns the service whose page nginx serves under a name.
func (t *tree) behind(page, scheme string) (service, why string) {
	text, ok := t.templates()[page+".conf.template"]
	if !ok || scheme != "https" {
		return "", "nginx serves no page " + scheme + " " + page
	}
	found := upstream.FindStringSubmatch(text)
	if found == nil {
		return "prod-services/nginx", "" // it only shows the way
	}
	name, digits, _ := strings.Cut(strings.TrimPrefix(found[1], "http://"), ":")
	machine, ok := variables[name]
	if !ok {
		return "prod-services/" + name, ""
	}
	for _, p := range t.ports[machine.host] {
		if strconv.Itoa(int(p.Port)) == digits && slices.Contains(p.On, machine.on) {
			return machine.host + "/" + p.Service, ""
		}
	}
	return "", "nobody is behind " + page
}
