package checks

import (
	"maps"
	"slices"
	"strings"
)

const (
	prod     = "prod-services/compose.yaml"
	dev      = "dev-learning/compose.yaml"
	contabo  = "contabo/compose.yaml"
	scrapes  = "dev-learning/prometheus/prometheus.yml"
	homeRule = "dev-learning/prometheus/rules/homelab.yml"
	alerting = "dev-learning/alertmanager/alertmanager.yml"
	board    = "dev-learning/grafana/dashboards/homelab.json"
	sources  = "dev-learning/grafana/provisioning/datasources/prometheus.yml"
	monitors = "prod-services/kuma/monitors.yaml"
	nginx    = "prod-services/nginx/templates/"
)

// A breach is a way to break the tree: in file of a copy, the first old becomes new ("" for
// old: new is added at the end). A check that must see it says what want has.
type breach struct{ name, file, old, new, want string }

// derived are the breaks that the tables of checks ask for by themselves.
func derived() (rows []breach) {
	for _, name := range slices.Sorted(maps.Keys(doorLines)) {
		for _, line := range doorLines[name] {
			rows = append(rows, breach{name + " without " + line, nginx + name, line, "", name + " does not say " + line})
		}
	}
	for _, job := range measured {
		rows = append(rows, breach{job + " is not scraped", scrapes, "job_name: " + job + "\n", "job_name: other\n", job + " is not scraped"})
	}
	for _, shape := range shapes {
		rows = append(rows, breach{"a secret like " + shape.pattern.String(), "dev-learning/extra.yml", "", shape.like + "\n", "looks like a secret"})
	}
	return rows
}

var breaks = []breach{
	{"an image is called latest", prod, "nginx:1.30.4-alpine", "nginx:latest", "the tag of nginx:latest moves"},
	{"latest stands in a file", "contabo/extra.yaml", "", "image: a/b:latest\n", "extra.yaml: image: a/b:latest"},
	{"an image has no tag", prod, "redis:7.4.11-alpine", "redis", "the tag of redis moves"},
	{"a tag has the major version alone", prod, "redis:7.4.11-alpine", "redis:7-alpine", "moves"},
	{"a tag leaves out the patch", dev, "prom/prometheus:v3.14.0", "prom/prometheus:v3.14", "moves"},
	{"PostgreSQL's tag leaves out the minor version", prod, "postgres:18.6-alpine", "postgres:18-alpine", "moves"},
	{"ClickHouse's tag leaves out the build", prod, "26.3.33.24", "26.3.33", "moves"},
	{"a digest is none", prod, "nginx:1.30.4-alpine", "nginx:1.30.4-alpine@sha256:abc", "sha256:abc is no digest"},
	{"runner's image could be pulled", contabo, "    pull_policy: never\n", "", "could be pulled"},
	{"a service is built where it runs", contabo, "    pull_policy: never\n", "    pull_policy: never\n    build: .\n", "is built where it runs"},

	{"a health check is missing", prod, "      test: [CMD, /healthcheck.sh]\n", "      disable: true\n", "plex: has no health check"},
	{"a health check calls what the image has not", prod, "[CMD, wget, -q, --spider, \"http://127.0.0.1:3030/api/health\"]", "[CMD, curl, -f, \"http://127.0.0.1:3030/api/health\"]", "not known to have curl"},
	{"a health check asks localhost", prod, "http://127.0.0.1:3030/api/health", "http://localhost:3030/api/health", "asks localhost"},
	{"Portainer's image has no shell", prod, "portainer-ce:2.45.3-alpine", "portainer-ce:2.45.3", "only the -alpine image"},
	{"a health check has no times", prod, "      <<: *health\n      test: [CMD, /healthcheck.sh]\n", "      test: [CMD, /healthcheck.sh]\n", "leaves a time"},
	{"a health check is of another kind", prod, "      test: [CMD, /healthcheck.sh]\n", "      test: [NONE, /healthcheck.sh]\n", "the health check is NONE"},

	{"a service is not started again", prod, "  restart: unless-stopped", "  restart: \"no\"", "restart is not unless-stopped"},
	{"a service has no limit of memory", prod, "    mem_limit: 4g\n", "", "plex: has no mem_limit"},
	{"a log grows without end", prod, "    options: {max-size: 10m, max-file: \"3\"}\n", "", "its log grows"},
	{"a service may gain privileges", prod, "  security_opt: [\"no-new-privileges:true\"]\n", "", "may gain privileges"},
	{"a service is privileged", prod, "    devices: [/dev/kmsg]\n", "    privileged: true\n", "is privileged"},
	{"a service has a name of its own", prod, "    devices: [/dev/kmsg]\n", "    container_name: cadvisor\n", "a name that a second stack cannot have"},
	{"Langfuse does not wait for its object store", prod, "      langfuse-s3: {condition: service_healthy}\n", "", "langfuse-web: does not wait for all of its stores"},
	{"a service waits for a start, not for health", prod, "      gitea-db: {condition: service_healthy}", "      gitea-db: {condition: service_started}", "does not wait for the health of gitea-db"},
	{"a database's network leads out", prod, "  gitea: {internal: true}", "  gitea: {}", "gitea-db: is on gitea, which is not internal"},
	{"a database publishes a port", prod, "    networks: [gitea]\n", "    networks: [gitea]\n    ports: [\"127.0.0.1:5432:5432\"]\n", "gitea-db: publishes a port"},
	{"a database is on no network of compose", prod, "    networks: [gitea]\n", "    network_mode: host\n", "gitea-db: is on a network that is not internal"},
	{"PostgreSQL 18 has the volume of 17", prod, "      - gitea-db:/var/lib/postgresql\n", "      - gitea-db:/var/lib/postgresql/data\n", "its data is not kept"},
	{"a mounted file is not there", prod, "./clickhouse/server.xml", "./clickhouse/servers.xml", "is mounted and not there"},
	{"a service may write to the tree", prod, "./nginx/snippets:/etc/nginx/snippets:ro", "./nginx/snippets:/etc/nginx/snippets", "may write to prod-services/nginx/snippets"},
	{"a read-only service is given a secret", dev, "    secrets: [grafana_admin_password]\n", "    secrets: [grafana_admin_password]\n    read_only: true\n", "cannot be given the secret"},
	{"a read-only service is given a configuration", contabo, "    mem_limit: 256m\n", "    mem_limit: 256m\n    read_only: true\n", "cannot be given the config cloudflared"},

	{"runner's root can be written", contabo, "    read_only: true\n    tmpfs", "    tmpfs", "runner's root can be written"},
	{"runner runs as root", contabo, "    user: ${VAULT_UID:?}:${VAULT_GID:?}\n", "", "does not run as the vault's owner"},
	{"the vault is two mounts", contabo, "      - ${VAULT_DIR:?}:${VAULT_DIR:?}\n", "      - ${VAULT_DIR:?}:${VAULT_DIR:?}\n      - ${VAULT_DIR:?}/_queue:${VAULT_DIR:?}/_queue\n", "runner can write"},
	{"runner sees a folder elsewhere", contabo, "      - /etc/runner:/etc/runner:ro\n", "      - /etc/runner:/etc/run:ro\n", "runner sees /etc/runner at /etc/run"},
	{"runner keeps capabilities", contabo, "  cap_drop: [ALL]\n", "", "runner keeps capabilities"},
	{"runner's container runs another command", contabo, "command: [up, ", "command: [check, ", "runner is not run as up"},
	{"runner has less time to stop than it takes", contabo, "stop_grace_period: 30s", "stop_grace_period: 10s", "killed before its grace is over"},
	{"runner has Docker's time to stop", contabo, "    stop_grace_period: 30s\n", "", "killed before its grace is over"},
	{"runner's image has no certificates", "contabo/Dockerfile", "COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt\n", "", "no CA certificates"},
	{"runner's image has a base", "contabo/Dockerfile", "FROM scratch", "FROM debian:12", "has a base"},

	{"a port is published beside the map", prod, "      - ${LAN_IP:?}:2222:22\n", "      - ${LAN_IP:?}:2222:22\n      - ${LAN_IP:?}:3000:3000\n", "published and not in the map: gitea 3000 on lan"},
	{"a port is published on every address", prod, "${LAN_IP:?}:2222:22", "2222:22", "gitea 2222 on all"},
	{"the map has a port that is not published", "ports.yaml", "port: 2222", "port: 2223", "in the map and not published: gitea 2223"},
	{"the map has two services on one port", "ports.yaml", "{service: searxng, port: 8080", "{service: searxng, port: 3000", "both have port 3000"},
	{"the map names nobody", "ports.yaml", "from: [lan], for: git over SSH", "from: [lam], for: git over SSH", "from lam, which nobody is"},
	{"the map has a service that is none", "ports.yaml", "contabo:\n", "contabo:\n  - {service: ghost, port: 1234, \"on\": [tailscale], from: [tailnet], for: a, docker: false}\n", "the map has ghost, which is no service"},
	{"the map has another kind of address", "ports.yaml", "port: 2222, \"on\": [lan]", "port: 2222, \"on\": [wlan]", "gitea is bound to wlan"},
	{"a port of the map is bound to nothing", "ports.yaml", "port: 9464, \"on\": [tailscale]", "port: 9464, \"on\": []", "runner 9464: it is bound to no address"},
	{"a port of the map is reached by nobody", "ports.yaml", "from: [lan], for: git over SSH", "from: [], for: git over SSH", "gitea 2222: nobody reaches it"},
	{"a port of the map is for nothing", "ports.yaml", "for: git over SSH", "for: \"\"", "gitea 2222: it is not said what it is for"},
	{"an exporter listens elsewhere", prod, "--web.listen-address=${TAILSCALE_IP:?}:9100", "--web.listen-address=:9100", "is not told to listen on " + prodIP + ":9100"},
	{"a service is on the host's network beside the map", prod, "    networks: [front]\n    volumes:\n      - searxng-cache", "    network_mode: host\n    volumes:\n      - searxng-cache", "searxng: on the host's network: true"},
	{"SearXNG is in the LAN", prod, "${TAILSCALE_IP:?}:8080:8080", "${LAN_IP:?}:8080:8080", "SearXNG is published on \"" + lanIP},
	{"SearXNG's address may be of another network", "prod-services/env.example", "IPv4 in 100.64.0.0/10 · this VM's", "IPv4 · this VM's", "SearXNG's address need not be one of the tailnet"},
	{"SearXNG is on the host's network", prod, "    networks: [front]\n    volumes:\n      - searxng-cache", "    network_mode: host\n    volumes:\n      - searxng-cache", "SearXNG is on the network host"},
	{"SearXNG is on two addresses", prod, "      - ${TAILSCALE_IP:?}:8080:8080\n", "      - ${TAILSCALE_IP:?}:8080:8080\n      - 127.0.0.1:8080:8080\n", "SearXNG is published 2 times"},
	{"SearXNG's address may be empty", prod, "      - ${TAILSCALE_IP:?}:8080:8080\n", "      - ${TAILSCALE_IP}:8080:8080\n", "${TAILSCALE_IP} may be empty"},
	{"SearXNG gives no JSON", prod, "formats: [html, json]", "formats: [html]", "refuses JSON with 403"},
	{"SearXNG's settings are elsewhere", prod, "target: /etc/searxng/settings.yml", "target: /etc/searxng/setting.yml", "SearXNG is not given its settings"},
	{"SearXNG's settings are no YAML", prod, "      use_default_settings: true\n", "      use_default_settings: [true\n", "SearXNG's settings: yaml"},
	{"SearXNG has no default settings", prod, "      use_default_settings: true\n", "", "SearXNG has only the settings that are given here"},
	{"SearXNG gives no metrics", prod, "        open_metrics: ${SEARXNG_METRICS_PASSWORD:?}\n", "", "SearXNG has no metrics"},
	{"SearXNG's limiter is left to its default", prod, "        limiter: false\n", "", "refuses programs with 429"},
	{"SearXNG has its limiter on", prod, "        limiter: false", "        limiter: true", "refuses programs with 429"},

	{"a password has a default", prod, "${LANGFUSE_DB_PASSWORD:?}", "${LANGFUSE_DB_PASSWORD:-langfuse}", "may be empty or has a default"},
	{"a variable is not explained", prod, "${LANGFUSE_SALT:?}", "${LANGFUSE_SALTS:?}", "LANGFUSE_SALTS"},
	{"a variable that may be empty is not explained", prod, "${LANGFUSE_SALT:?}", "${LANGFUSE_SALTS:-}", "env.example does not have LANGFUSE_SALTS"},
	{"a variable is written without braces", prod, "${LAN_IP:?}:2222:22", "$LAN_IP:2222:22", "$LAN_IP is not written as ${NAME:?}"},
	{"a variable says not who gives it", "contabo/env.example", "# given · UUID · the named tunnel\n", "", "TUNNEL_ID says neither who gives it nor its format"},
	{"a variable has a format that nobody knows", "contabo/env.example", "# given · UUID · the named", "# given · GUID · the named", "the format \"GUID\" is not known"},
	{"a variable is explained and not used", "contabo/env.example", "", "# made · 64 hex\nOTHER=REPLACE_ME\n", "has OTHER, which compose.yaml does not use"},
	{"env.example has a value that works", "prod-services/env.example", "GITEA_DB_PASSWORD=REPLACE_ME", "GITEA_DB_PASSWORD=gitea", "gives GITEA_DB_PASSWORD a value"},
	{"a password stands in a compose file", prod, "MINIO_ROOT_PASSWORD: ${LANGFUSE_S3_SECRET_KEY:?}", "MINIO_ROOT_PASSWORD: miniosecret", "MINIO_ROOT_PASSWORD has a value"},

	{"nginx leads to what is not there", nginx + "git.conf.template", "http://gitea:3000", "http://gitee:3000", "gitee is no service"},
	{"nginx leads to a port on which nobody listens", nginx + "kuma.conf.template", "uptime-kuma:3001", "uptime-kuma:3002", "does not listen on 3002"},
	{"nginx leads to an address without a port", nginx + "git.conf.template", "http://gitea:3000", "http://gitea", "http://gitea has no port"},
	{"nginx leads to what is no URL", nginx + "git.conf.template", "http://gitea:3000", "gitea:3000", "git.conf.template leads 1 times further, and to 0 addresses"},
	{"nginx is on no network of what it leads to", nginx + "git.conf.template", "http://gitea:3000", "http://gitea-db:5432", "gitea-db is on no network of nginx"},
	{"nginx stops with one that is away", nginx + "git.conf.template", "        set $upstream http://gitea:3000;\n        proxy_pass $upstream;", "        proxy_pass http://gitea:3000;", "must go through a variable"},
	{"nginx leads to another machine's port that the map has not", nginx + "grafana.conf.template", "}:3000", "}:3001", "the map has no port 3001"},
	{"a name has no server", prod, "          - kuma.${HOME_DOMAIN:?}\n", "          - kuma.${HOME_DOMAIN:?}\n          - wiki.${HOME_DOMAIN:?}\n", "wiki.home.example and no server"},
	{"a server has no name", prod, "          - kuma.${HOME_DOMAIN:?}\n", "", "kuma.home.example does not lead to nginx"},
	{"a server has no security headers", nginx + "kuma.conf.template", "    include /etc/nginx/snippets/server.conf;\n", "", "kuma.conf.template has no security headers"},
	{"a server drops the security headers", nginx + "kuma.conf.template", "    location / {\n", "    location / {\n        add_header X-A b;\n", "adds headers beside"},
	{"a server stands in another's file", nginx + "git.conf.template", "server_name git.", "server_name gits.", "git.conf.template serves gits"},
	{"nginx hands on a header of Cloudflare's", nginx + "control.conf.template", "        proxy_set_header Cookie $http_cookie;\n", "        proxy_set_header Cf-Ray $http_cf_ray;\n", "control.conf.template hands on proxy_set_header Cf-Ray"},

	{"a target is no machine", scrapes, "contabo:9464", "contabbo:9464", "contabbo is no service and no machine"},
	{"a target has no port", scrapes, "\"contabo:9464\"", "\"contabo\"", "contabo: is no name with a port"},
	{"alerts are sent to nobody", scrapes, "[\"alertmanager:9093\"]}]\n\n", "[\"alertmanager:9094\"]}]\n\n", "alerting: alertmanager:9094: alertmanager does not listen on 9094"},
	{"a target's port is not in the map", scrapes, "contabo:9464", "contabo:9465", "the map has no port 9465"},
	{"a target may not be reached", "ports.yaml", "port: 9464, \"on\": [tailscale], from: [dev-learning, prod-services]", "port: 9464, \"on\": [tailscale], from: [prod-services]", "does not let dev-learning reach 9464"},
	{"nginx has no door for a target", scrapes, "metrics_path: /gitea/metrics", "metrics_path: /gitea/metric", "nginx has no /gitea/metric"},
	{"nginx has no door for a probe", nginx + "metrics.conf.template", "/portainer/health ", "/portainer/live ", "nginx has no /portainer/health"},
	{"a probe does not say of which service", scrapes, "labels: {service: plex}", "labels: {kind: plex}", "has no label service"},
	{"a probe asks a module that is not there", scrapes, "module: [http_2xx]", "module: [http_3xx]", "no module http_3xx"},
	{"a probe asks its target itself", scrapes, "replacement: blackbox-exporter:9115", "replacement: blackbox-exporter:9116", "not asked through the blackbox exporter"},
	{"an exporter is not scraped", scrapes, "\"prod-services:8081\", ", "", "cadvisor of prod-services: runs true, is scraped false"},
	{"Prometheus is not given a key", dev, "      - kuma_password\n", "", "prometheus is not given /run/secrets/kuma_password"},
	{"Alertmanager is not given its webhook", dev, "    secrets: [discord_alert_webhook]\n", "", "alertmanager is not given /run/secrets/discord_alert_webhook"},
	{"a secret of two hosts has two formats", "dev-learning/env.example", "# made · 48 hex · as in", "# made · 32 hex · as in", "GITEA_METRICS_TOKEN has another format in prod-services"},
	{"Prometheus has no address of a machine", dev, "      - contabo:${CONTABO_TAILSCALE_IP:?}\n", "", "has no address for contabo"},

	{"the datasource has another uid", sources, "uid: prometheus", "uid: P1809F7CD0C75ACF3", "not the default datasource under the uid prometheus"},
	{"the datasource leads nowhere", sources, "http://prometheus:9090", "http://prometheus:9091", "does not listen on 9091"},
	{"a datasource has no uid", sources, "    uid: alertmanager\n", "", "Alertmanager: has no fixed uid"},
	{"a datasource is asked by the browser", sources, "access: proxy", "access: direct", "is asked by the browser"},
	{"a datasource can be edited", sources, "editable: false", "editable: true", "can be edited in Grafana"},
	{"a datasource may be edited by default", sources, "    editable: false\n", "", "can be edited in Grafana"},
	{"two datasources are the default", sources, "    uid: alertmanager\n", "    uid: alertmanager\n    isDefault: true\n", "2 datasources are the default"},
	{"no datasource is the default", sources, "    isDefault: true\n", "", "not the default datasource under the uid prometheus"},
	{"a panel has another datasource", board, "\"uid\": \"prometheus\"", "\"uid\": \"${DS_PROMETHEUS}\"", "is an export for sharing"},
	{"a panel has a datasource that is not there", board, "\"type\": \"prometheus\",\n        \"uid\": \"prometheus\"", "\"type\": \"prometheus\",\n        \"uid\": \"prometheus2\"", "there is no datasource prometheus2"},
	{"a third dashboard is not looked at", "dev-learning/grafana/dashboards/third.json", "", "{}", "3 dashboards"},
	{"a dashboard has no uid", board, "\"uid\": \"homelab\"", "\"uid\": \"\"", "homelab.json: has no uid that Grafana takes"},
	{"a dashboard's uid is too long", board, "\"uid\": \"homelab\"", "\"uid\": \"" + strings.Repeat("a", 41) + "\"", "homelab.json: has no uid that Grafana takes"},
	{"two dashboards have one uid", board, "\"uid\": \"homelab\"", "\"uid\": \"runner\"", "has the uid of another dashboard"},
	{"a dashboard has no title", board, "\"title\": \"Homelab\"", "\"title\": \"\"", "homelab.json: has no title"},
	{"a dashboard has no schema version", board, "\"schemaVersion\": 41", "\"schemaVersion\": 0", "homelab.json: has no schema version"},
	{"two panels have one id", board, "\"id\": 2,", "\"id\": 1,", "Targets that are down: has the id of another panel"},
	{"a panel has no width", board, "\"w\": 4,", "\"w\": 0,", "Targets that are down: has no place on the page"},
	{"a panel is beyond the page", board, "\"w\": 4,", "\"w\": 25,", "Targets that are down: has no place on the page"},
	{"a panel has no query", board, "\"targets\": [", "\"target\": [", "Targets that are down: asks nothing"},
	{"a query is no PromQL", board, "count(up == 0)", "count(up = 0)", "parse error"},
	{"a query asks for what there is not", board, "node_memory_MemAvailable_bytes", "node_memory_MemFreeish_bytes", "there is no metric node_memory_MemFreeish_bytes"},
	{"a query of runner asks for an outcome that is not", "dev-learning/grafana/dashboards/runner.json", "outcome=\\\"failed\\\"", "outcome=\\\"fail\\\"", "was ever seen with these labels"},
	{"a query of runner groups by a label that is not", "dev-learning/grafana/dashboards/runner.json", "sum by (channel, outcome)", "sum by (channels, outcome)", "has no label channels"},
	{"an alert asks for what there is not", homeRule, "monitor_status == 0", "monitor_state == 0", "there is no metric monitor_state"},
	{"an alert says nothing", homeRule, "          summary: \"{{ $labels.host }} has not", "          text: \"{{ $labels.host }} has not", "HostDown: says not what is wrong"},
	{"an alert is there twice", homeRule, "- alert: TargetDown", "- alert: HostDown", "HostDown: is there twice"},
	{"Prometheus does not read the alerts", scrapes, "rules/*.yml", "rule/*.yml", "reads only 0 alerts"},
	{"alerts go nowhere", alerting, "receiver: discord", "receiver: nobody", "which is not Discord"},
	{"alerts go to a webhook that is not the secret's", alerting, "webhook_url_file: /run/secrets/discord_alert_webhook", "webhook_url_file: /run/secrets/discord", "alerts go to discord, which is not Discord"},
	{"alerts' words are no template", alerting, ".Status | toUpper", ".Status | upper", "upper"},

	{"the tunnel lets everybody in", contabo, "required: true", "required: false", "lets in without Access"},
	{"the tunnel is of no team", contabo, "teamName: ${ACCESS_TEAM:?}", "teamName: \"\"", "lets in without Access"},
	{"the tunnel is of no application", contabo, "audTag: [${ACCESS_AUD:?}]", "audTag: []", "lets in without Access"},
	{"the tunnel's application is none", contabo, "audTag: [${ACCESS_AUD:?}]", "audTag: [abc]", "lets in without Access"},
	{"cloudflared's configuration is elsewhere", contabo, "target: /etc/cloudflared/config.yml", "target: /etc/cloudflared/config.yaml", "cloudflared is not given its configuration"},
	{"cloudflared's credentials are elsewhere", contabo, "target: /etc/cloudflared/credentials.json", "target: /etc/cloudflared/credential.json", "cloudflared is not given its credentials"},
	{"the tunnel has a second name", contabo, "        - service: http_status:404", "        - hostname: a.example\n          service: http://127.0.0.1:1\n        - service: http_status:404", "the tunnel has 3 rules"},
	{"the tunnel's last rule is for a name", contabo, "        - service: http_status:404", "        - hostname: a.example\n          service: http_status:404", "leads further for other names"},
	{"runner publishes a port", contabo, "    stop_grace_period: 30s\n", "    stop_grace_period: 30s\n    ports: [\"8080:8080\"]\n", "runner opens a port beside the host's network"},
	{"cloudflared publishes a port", contabo, "    mem_limit: 256m\n", "    mem_limit: 256m\n    ports: [\"2000:2000\"]\n", "cloudflared opens a port beside the host's network"},
	{"the tunnel leads past runner", contabo, "service: http://${TAILSCALE_IP:?}:8080", "service: http://${TAILSCALE_IP:?}:9464", "and runner listens on"},
	{"the tunnel has a second way in", contabo, "        - service: http_status:404", "        - service: http://127.0.0.1:11434", "leads further for other names"},
	{"Ansible makes a secret in another format", "ansible/roles/common/vars/main.yml", "LANGFUSE_ENCRYPTION_KEY: { kind: hex, length: 64 }", "LANGFUSE_ENCRYPTION_KEY: { kind: hex, length: 32 }", "LANGFUSE_ENCRYPTION_KEY is made as 32 hex"},
	{"Ansible does not give a variable", "ansible/roles/prod-services/vars/main.yml", "  PUID: ", "  PUIDS: ", "Ansible gives no PUID"},
	{"Ansible gives what nobody takes", "ansible/roles/prod-services/vars/main.yml", "  PUID: ", "  OTHER: \"1\"\n  PUID: ", "Ansible gives OTHER, which env.example does not have"},
	{"a service has no monitor", monitors, "  - {name: Plex, type: http, url: \"http://prod-services-lan:32400/identity\"}\n", "", "no monitor looks at prod-services/plex"},
	{"a monitor asks what is not there", monitors, "http://gitea:3000/api/healthz", "http://gitee:3000/api/healthz", "monitor Gitea: gitee is no service and no machine"},
	{"a monitor asks a port on which nobody listens", monitors, "hostname: gitea-db, port: 5432", "hostname: gitea-db, port: 5433", "gitea-db does not listen on 5433"},
	{"a monitor's address is none", monitors, "http://gitea:3000/api/healthz", "http://gitea:%zz/api/healthz", "its address is none"},
	{"a monitor's port is none", monitors, "http://gitea:3000/api/healthz", "http://gitea:99999/api/healthz", "its port is none"},
	{"a monitor's page leads nowhere", nginx + "grafana.conf.template", "}:3000", "}:3001", "nobody is behind grafana"},
	{"a monitor asks for a page that nginx has not", monitors, "https://git.${HOME_DOMAIN}/", "https://wiki.${HOME_DOMAIN}/", "nginx serves no page https wiki"},
	{"Uptime Kuma is on no network of what it asks", prod, "    networks: [front, gitea, langfuse]\n", "    networks: [front, langfuse]\n", "gitea-db is on no network of uptime-kuma"},
	{"a monitor may not reach its machine", "ports.yaml", "port: 9093, \"on\": [tailscale], from: [prod-services, tailnet]", "port: 9093, \"on\": [tailscale], from: [tailnet]", "does not let prod-services reach 9093"},
	{"the tunnel's health is asked elsewhere", contabo, "metrics: ${TAILSCALE_IP:?}:2000", "metrics: 127.0.0.1:2000", "where it does not answer"},
}
