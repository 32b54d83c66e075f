package checks

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

var serviceChecks = []check{
	{"every image is pinned to a version that does not move", (*tree).images},
	{"every service has a health check that works in its image", (*tree).healthChecks},
	{"every service is kept in its bounds", (*tree).bounds},
	{"services start in order of health", (*tree).order},
	{"databases are on internal networks alone", (*tree).databases},
	{"what is mounted from the tree is there", (*tree).mounts},
	{"runner has the vault as one mount and can write nothing else", (*tree).runner},
}

// versions says, for images whose full version has not three numbers, what it looks
// like; a shorter one is a tag that moves.
var versions = map[string]*regexp.Regexp{
	"postgres":                     regexp.MustCompile(`^\d+\.\d+-alpine$`),
	"pgsty/silo":                   regexp.MustCompile(`^RELEASE\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ$`),
	"searxng/searxng":              regexp.MustCompile(`^\d{4}\.\d+\.\d+-[0-9a-f]{9}$`),
	"clickhouse/clickhouse-server": regexp.MustCompile(`^\d+\.\d+\.\d+\.\d+$`),
}

var (
	threeNumbers = regexp.MustCompile(`^v?\d+\.\d+\.\d+([.-][0-9a-z.-]+)?$`)
	digest       = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// split takes an image's name apart.
func split(image string) (name, tag, sum string) {
	name, sum, _ = strings.Cut(image, "@")
	if colon := strings.LastIndex(name, ":"); colon > strings.LastIndex(name, "/") {
		name, tag = name[:colon], name[colon+1:]
	}
	return name, tag, sum
}

func (t *tree) images() []string {
	return t.services(func(host string, s types.ServiceConfig) (problems []string) {
		if s.Build != nil {
			problems = append(problems, "is built where it runs")
		}
		name, tag, sum := split(s.Image)
		if name == "runner" { // ours: built on the host, by its version
			if s.PullPolicy != types.PullPolicyNever {
				problems = append(problems, "is ours and could be pulled")
			}
			return problems
		}
		pattern := versions[name]
		if pattern == nil {
			pattern = threeNumbers
		}
		if !pattern.MatchString(tag) {
			problems = append(problems, "the tag of "+s.Image+" moves")
		}
		if sum != "" && !digest.MatchString(sum) {
			problems = append(problems, sum+" is no digest")
		}
		return problems
	})
}

// inside says which programs that a health check may call an image has, as far as was
// read from what it is built from.
var inside = map[string][]string{
	"nginx":                                        {"curl", "wget"},
	"plexinc/pms-docker":                           {"/healthcheck.sh", "curl"},
	"docker.gitea.com/gitea":                       {"curl"},
	"postgres":                                     {"pg_isready"},
	"syncthing/syncthing":                          {"curl"},
	"portainer/portainer-ce":                       {"wget"}, // -alpine alone
	"louislam/uptime-kuma":                         {"extra/healthcheck", "curl"},
	"searxng/searxng":                              {"python3", "wget"},
	"docker.langfuse.com/langfuse/langfuse":        {"wget"},
	"docker.langfuse.com/langfuse/langfuse-worker": {"wget"},
	"clickhouse/clickhouse-server":                 {"wget"},
	"redis":                                        {"redis-cli"},
	"pgsty/silo":                                   {"silo", "curl", "mc"},
	"prom/prometheus":                              {"wget", "/bin/promtool"},
	"prom/alertmanager":                            {"wget"},
	"grafana/grafana":                              {"curl", "wget"},
	"quay.io/prometheus/node-exporter":             {"wget"},
	"quay.io/prometheus/blackbox-exporter":         {"wget"},
	"ghcr.io/google/cadvisor":                      {"wget"},
	"cloudflare/cloudflared":                       {"cloudflared"},
	"runner":                                       {"/runner"},
}

func (t *tree) healthChecks() []string {
	return t.services(func(host string, s types.ServiceConfig) (problems []string) {
		if s.HealthCheck == nil || s.HealthCheck.Disable || len(s.HealthCheck.Test) < 2 {
			return []string{"has no health check"}
		}
		test := s.HealthCheck.Test
		name, tag, _ := split(s.Image)
		if test[0] != "CMD" && test[0] != "CMD-SHELL" {
			problems = append(problems, "the health check is "+test[0])
		}
		if program := strings.Fields(test[1])[0]; !slices.Contains(inside[name], program) {
			problems = append(problems, "the image is not known to have "+program)
		}
		if name == "portainer/portainer-ce" && !strings.HasSuffix(tag, "-alpine") {
			problems = append(problems, "only the -alpine image has a program for its check")
		}
		// BusyBox' wget tries ::1 first for this name, and gives up.
		if strings.Contains(strings.Join(test, " "), "localhost") {
			problems = append(problems, "the health check asks localhost, not 127.0.0.1")
		}
		if s.HealthCheck.Interval == nil || s.HealthCheck.Timeout == nil || s.HealthCheck.Retries == nil || s.HealthCheck.StartPeriod == nil {
			problems = append(problems, "the health check leaves a time to the default")
		}
		return problems
	})
}

func (t *tree) bounds() []string {
	return t.services(func(host string, s types.ServiceConfig) (problems []string) {
		say := func(holds bool, problem string) {
			if !holds {
				problems = append(problems, problem)
			}
		}
		say(s.Restart == "unless-stopped", "restart is not unless-stopped")
		say(s.MemLimit > 0, "has no mem_limit")
		say(s.Logging != nil && s.Logging.Driver == "json-file" && s.Logging.Options["max-size"] != "" && s.Logging.Options["max-file"] != "", "its log grows without end")
		say(slices.Contains(s.SecurityOpt, "no-new-privileges:true"), "may gain privileges")
		say(!s.Privileged, "is privileged")
		say(s.ContainerName == "", "has a name that a second stack cannot have")
		return problems
	})
}

func (t *tree) order() []string {
	return t.services(func(host string, s types.ServiceConfig) (problems []string) {
		for name, dependency := range s.DependsOn {
			if dependency.Condition != types.ServiceConditionHealthy {
				problems = append(problems, "does not wait for the health of "+name)
			}
		}
		if strings.Contains(s.Image, "langfuse") && len(s.DependsOn) < 4 {
			problems = append(problems, "does not wait for all of its stores")
		}
		return problems
	})
}

// stores are the images that hold the data of others.
var stores = []string{"postgres", "clickhouse/clickhouse-server", "redis", "pgsty/silo"}

func (t *tree) databases() []string {
	return t.services(func(host string, s types.ServiceConfig) (problems []string) {
		if name, _, _ := split(s.Image); !slices.Contains(stores, name) {
			return nil
		}
		if len(s.Networks) == 0 {
			problems = append(problems, "is on a network that is not internal")
		}
		for network := range s.Networks {
			if !t.stacks[host].Networks[network].Internal {
				problems = append(problems, "is on "+network+", which is not internal")
			}
		}
		if len(s.Ports) > 0 {
			problems = append(problems, "publishes a port")
		}
		if name, tag, _ := split(s.Image); name == "postgres" {
			// From 18 on the data lies one folder higher; the wrong path loses it.
			want := "/var/lib/postgresql"
			if major, _, _ := strings.Cut(tag, "."); len(major) == 2 && major < "18" {
				want += "/data"
			}
			if !slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == want }) {
				problems = append(problems, "its data is not kept: no volume at "+want)
			}
		}
		return problems
	})
}

// deployed are the files that the deploy makes.
var deployed = []string{"prod-services/nginx/tls", "prod-services/nginx/tls/cert.pem"}

func (t *tree) mounts() []string {
	return t.services(func(host string, s types.ServiceConfig) (problems []string) {
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind || filepath.IsAbs(v.Source) {
				continue
			}
			below := filepath.Join(host, v.Source)
			if !v.ReadOnly {
				problems = append(problems, "may write to "+below)
			}
			if _, err := os.Stat(filepath.Join(t.dir, below)); err != nil && !slices.Contains(deployed, below) {
				problems = append(problems, below+" is mounted and not there")
			}
		}
		// compose writes such files into the container, which a read-only root forbids.
		if s.ReadOnly {
			for _, secret := range s.Secrets {
				if t.stacks[host].Secrets[secret.Source].Environment != "" {
					problems = append(problems, "is read-only and cannot be given the secret "+secret.Source)
				}
			}
			for _, config := range s.Configs {
				if t.stacks[host].Configs[config.Source].Content != "" {
					problems = append(problems, "is read-only and cannot be given the config "+config.Source)
				}
			}
		}
		return problems
	})
}

func (t *tree) runner() (problems []string) {
	s := t.stacks["contabo"].Services["runner"]
	say := func(holds bool, problem string) {
		if !holds {
			problems = append(problems, problem)
		}
	}
	say(slices.Equal(s.Command[:1], []string{"up"}), "runner is not run as up")
	say(s.ReadOnly, "runner's root can be written")
	say(s.User == "1000:1000", "runner does not run as the vault's owner")
	say(slices.Equal(s.CapDrop, []string{"ALL"}), "runner keeps capabilities")
	vault, state := "/srv/vault_dir", "/srv/runner_state_dir"
	var writable []string
	for _, v := range s.Volumes {
		say(v.Target == v.Source, "runner sees "+v.Source+" at "+v.Target)
		if !v.ReadOnly {
			writable = append(writable, v.Target)
		}
	}
	slices.Sort(writable)
	say(slices.Equal(writable, []string{state, vault}), "runner can write "+strings.Join(writable, ", "))
	dockerfile := t.text("contabo/Dockerfile")
	say(strings.Contains(dockerfile, "\nFROM scratch\n"), "runner's image has a base")
	say(strings.Contains(dockerfile, "\nCOPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt\n"), "runner's image has no CA certificates")
	say(s.StopGracePeriod != nil && s.StopGracePeriod.String() == "30s", "runner is killed before its grace is over")
	return problems
}
