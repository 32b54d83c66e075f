package checks

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

var nameChecks = []check{
	{"what nginx leads to is there", (*tree).upstreams},
	{"each name of nginx has a server, and each server a name", (*tree).serverNames},
	{"what Prometheus scrapes is there, and may be reached", (*tree).targets},
	{"all that has metrics is scraped", (*tree).scraped},
	{"keys that Prometheus and Alertmanager read are given to them", (*tree).keyFiles},
}

// listening says on which ports services listen inside, on the networks of compose.
var listening = map[string][]uint32{
	"nginx": {80, 443, 9180}, "gitea": {3000, 22}, "gitea-db": {5432}, "portainer": {9000, 9443}, "uptime-kuma": {3001},
	"searxng": {8080}, "langfuse-web": {3000}, "langfuse-worker": {3030}, "langfuse-db": {5432},
	"langfuse-clickhouse": {8123, 9000, 9363}, "langfuse-redis": {6379}, "langfuse-s3": {9000},
	"cadvisor": {8080}, "prometheus": {9090}, "alertmanager": {9093}, "grafana": {3000}, "blackbox-exporter": {9115},
}

// machines are the names of machines in configurations, with the kind of their address.
var machines = map[string]struct{ host, on string }{
	"prod-services":     {"prod-services", "tailscale"},
	"prod-services-lan": {"prod-services", "lan"},
	"dev-learning":      {"dev-learning", "tailscale"},
	"contabo":           {"contabo", "tailscale"},
}

// answers says why name and port, asked by a service, find nobody; "" if they do.
func (t *tree) answers(host, service, name string, number uint32) string {
	if s, ok := t.stacks[host].Services[name]; ok {
		asker := t.stacks[host].Services[service]
		if !slices.ContainsFunc(slices.Collect(maps.Keys(asker.Networks)), func(n string) bool { _, ok := s.Networks[n]; return ok }) {
			return fmt.Sprintf("%s is on no network of %s", name, service)
		}
		if !slices.Contains(listening[name], number) {
			return fmt.Sprintf("%s does not listen on %d", name, number)
		}
		return ""
	}
	machine, ok := machines[name]
	if !ok {
		return name + " is no service and no machine"
	}
	if len(t.stacks[host].Services[service].ExtraHosts[name]) == 0 {
		return fmt.Sprintf("%s has no address for %s", service, name)
	}
	return t.reaches(host, machine.host, machine.on, number)
}

// reaches says why one host cannot reach a port of another by ports.yaml.
func (t *tree) reaches(from, to, on string, number uint32) string {
	for _, p := range t.ports[to] {
		if p.Port == number && (slices.Contains(p.On, on) || slices.Contains(p.On, "all")) {
			if slices.Contains(p.From, from) {
				return ""
			}
			return fmt.Sprintf("the map does not let %s reach %d of %s", from, number, to)
		}
	}
	return fmt.Sprintf("the map has no port %d of %s on %s", number, to, on)
}

var (
	passing  = regexp.MustCompile(`(?m)^[^#\n]*\bproxy_pass `)
	upstream = regexp.MustCompile(`(?:set \$upstream|proxy_pass) (https?://[^;$/]+|http://\$\{[A-Z_]+\}:\d+)`)
)

// variables of nginx's templates, with the machine whose address they are.
var variables = map[string]struct{ host, on string }{
	"${LAN_IP}":               {"prod-services", "lan"},
	"${DEV_TAILSCALE_IP}":     {"dev-learning", "tailscale"},
	"${CONTABO_TAILSCALE_IP}": {"contabo", "tailscale"},
}

// templates are nginx's, by name.
func (t *tree) templates() map[string]string {
	templates := map[string]string{}
	found, _ := filepath.Glob(filepath.Join(t.dir, "prod-services/nginx/templates/*.template"))
	for _, path := range found {
		name := filepath.Base(path)
		templates[name] = t.text("prod-services/nginx/templates/" + name)
	}
	return templates
}

func (t *tree) upstreams() (problems []string) {
	for name, text := range t.templates() {
		all := upstream.FindAllStringSubmatch(text, -1)
		if passes := len(passing.FindAllString(text, -1)); passes != len(all) {
			problems = append(problems, fmt.Sprintf("%s leads %d times further, and to %d addresses that are understood", name, passes, len(all)))
		}
		for _, found := range all {
			host, digits, _ := strings.Cut(strings.TrimPrefix(found[1], "http://"), ":")
			number, err := strconv.ParseUint(digits, 10, 16)
			if err != nil {
				problems = append(problems, name+": "+found[1]+" has no port")
				continue
			}
			why := ""
			if machine, ok := variables[host]; ok {
				why = t.reaches("prod-services", machine.host, machine.on, uint32(number))
			} else {
				why = t.answers("prod-services", "nginx", host, uint32(number))
				// With the name in proxy_pass itself nginx would not start without it.
				if !strings.Contains(text, "set $upstream "+found[1]) {
					why = "a name must go through a variable, else nginx stops with it"
				}
			}
			if why != "" {
				problems = append(problems, name+": "+found[1]+": "+why)
			}
		}
	}
	return problems
}

var serverName = regexp.MustCompile(`server_name ([a-z]+)\.\$\{HOME_DOMAIN\};`)

func (t *tree) serverNames() (problems []string) {
	served := map[string]bool{}
	for name, text := range t.templates() {
		for _, found := range serverName.FindAllStringSubmatch(text, -1) {
			served[found[1]+".home.example"] = true
			if name != found[1]+".conf.template" {
				problems = append(problems, name+" serves "+found[1])
			}
		}
		if serverName.MatchString(text) && !strings.Contains(text, "include /etc/nginx/snippets/server.conf;") {
			problems = append(problems, name+" has no security headers")
		}
		// In a location, one header of its own would drop all of the server's.
		if strings.Contains(text, "add_header") {
			problems = append(problems, name+" adds headers beside those of all")
		}
	}
	for _, alias := range t.stacks["prod-services"].Services["nginx"].Networks["front"].Aliases {
		if !served[alias] {
			problems = append(problems, "nginx has the name "+alias+" and no server for it")
		}
		delete(served, alias)
	}
	for name := range served {
		problems = append(problems, "the name "+name+" does not lead to nginx on its own network")
	}
	return problems
}

// scrapeConfig is what the checks read of prometheus.yml.
type scrapeConfig struct {
	Job           string `yaml:"job_name"`
	Path          string `yaml:"metrics_path"`
	Params        map[string][]string
	Authorization struct {
		File string `yaml:"credentials_file"`
	}
	BasicAuth struct {
		Username string
		File     string `yaml:"password_file"`
	} `yaml:"basic_auth"`
	Static []struct {
		Targets []string
		Labels  map[string]string
	} `yaml:"static_configs"`
	Relabel []map[string]any `yaml:"relabel_configs"`
}

type prometheusConfig struct {
	Global   map[string]any
	Rules    []string `yaml:"rule_files"`
	Alerting struct {
		Alertmanagers []struct {
			Static []struct{ Targets []string } `yaml:"static_configs"`
		}
	}
	Scrapes []scrapeConfig `yaml:"scrape_configs"`
}

func (t *tree) prometheus() (config prometheusConfig, problems []string) {
	if err := t.yaml("dev-learning/prometheus/prometheus.yml", &config); err != nil {
		return config, []string{err.Error()}
	}
	return config, nil
}

func (t *tree) targets() []string {
	config, problems := t.prometheus()
	ask := func(job, service, address string) {
		name, digits, err := net.SplitHostPort(address)
		number, numberErr := strconv.ParseUint(digits, 10, 16)
		why := ""
		switch {
		case err != nil || numberErr != nil:
			why = "is no name with a port"
		case address == "127.0.0.1:9090": // itself
		default:
			why = t.answers("dev-learning", service, name, uint32(number))
		}
		if why != "" {
			problems = append(problems, job+": "+address+": "+why)
		}
	}
	door := t.text("prod-services/nginx/templates/metrics.conf.template")
	for _, scrape := range config.Scrapes {
		for _, static := range scrape.Static {
			for _, target := range static.Targets {
				service := "prometheus"
				if scrape.Path == "/probe" {
					service = "blackbox-exporter"
					address, err := url.Parse(target)
					if err != nil {
						problems = append(problems, scrape.Job+": "+err.Error())
						continue
					}
					if target = address.Host; address.Port() == "" {
						target += ":443"
					}
					if address.Port() == "9180" && !strings.Contains(door, "location = "+address.Path+" ") {
						problems = append(problems, scrape.Job+": nginx has no "+address.Path+" to be probed")
					}
					if static.Labels["service"] == "" {
						problems = append(problems, scrape.Job+": "+target+" has no label service")
					}
				} else if strings.HasSuffix(target, ":9180") && !strings.Contains(door, "location = "+scrape.Path+" ") {
					problems = append(problems, scrape.Job+": nginx has no "+scrape.Path)
				}
				ask(scrape.Job, service, target)
			}
		}
		if scrape.Path == "/probe" {
			problems = append(problems, t.blackbox(scrape)...)
		}
	}
	for _, manager := range config.Alerting.Alertmanagers {
		for _, static := range manager.Static {
			for _, target := range static.Targets {
				ask("alerting", "prometheus", target)
			}
		}
	}
	return problems
}

// blackbox looks at a job whose targets another exporter asks.
func (t *tree) blackbox(scrape scrapeConfig) (problems []string) {
	var config struct{ Modules map[string]map[string]any }
	if err := t.yaml("dev-learning/blackbox/blackbox.yml", &config); err != nil {
		return []string{err.Error()}
	}
	for _, module := range scrape.Params["module"] {
		if config.Modules[module] == nil {
			problems = append(problems, scrape.Job+": the blackbox exporter has no module "+module)
		}
	}
	last := map[string]any{}
	if len(scrape.Relabel) > 0 {
		last = scrape.Relabel[len(scrape.Relabel)-1]
	}
	if last["replacement"] != "blackbox-exporter:9115" || last["target_label"] != "__address__" {
		problems = append(problems, scrape.Job+": is not asked through the blackbox exporter")
	}
	return problems
}

// measured are the jobs for all that has metrics; Langfuse, Portainer, Plex and the
// stores of Gitea and Langfuse but ClickHouse and the object store have none.
var measured = []string{"alertmanager", "blackbox", "cadvisor", "clickhouse", "cloudflared", "gitea", "grafana", "nginx", "node",
	"prometheus", "runner", "s3", "searxng", "syncthing", "syncthing-contabo", "uptime-kuma"}

func (t *tree) scraped() []string {
	config, problems := t.prometheus()
	hosts := map[string][]string{}
	for _, scrape := range config.Scrapes {
		for _, static := range scrape.Static {
			hosts[scrape.Job] = append(hosts[scrape.Job], static.Targets...)
		}
	}
	for _, job := range measured {
		if len(hosts[job]) == 0 {
			problems = append(problems, job+" is not scraped")
		}
	}
	for job, name := range map[string]string{"node": "node-exporter", "cadvisor": "cadvisor"} {
		for host, stack := range t.stacks {
			_, runs := stack.Services[name]
			asked := slices.ContainsFunc(hosts[job], func(target string) bool { return strings.HasPrefix(target, host+":") })
			if runs != asked {
				problems = append(problems, fmt.Sprintf("%s of %s: runs %t, is scraped %t", name, host, runs, asked))
			}
		}
	}
	return problems
}

func (t *tree) keyFiles() []string {
	config, problems := t.prometheus()
	given := func(service, file string) {
		source := strings.TrimPrefix(file, "/run/secrets/")
		if file != "" && !slices.ContainsFunc(t.stacks["dev-learning"].Services[service].Secrets, func(s types.ServiceSecretConfig) bool { return s.Source == source }) {
			problems = append(problems, service+" is not given "+file)
		}
	}
	for _, scrape := range config.Scrapes {
		given("prometheus", scrape.Authorization.File)
		given("prometheus", scrape.BasicAuth.File)
	}
	for _, receiver := range t.alertmanager().Receivers {
		for _, discord := range receiver.Discord {
			given("alertmanager", discord.File)
		}
	}
	// Secrets that two hosts have must be said to be the same.
	for _, v := range t.env["dev-learning"] {
		twin := slices.IndexFunc(t.env["prod-services"], func(other variable) bool { return other.name == v.name })
		if twin >= 0 && v.name != "TAILSCALE_IP" && t.env["prod-services"][twin].format != v.format {
			problems = append(problems, v.name+" has another format in prod-services")
		}
	}
	return problems
}
