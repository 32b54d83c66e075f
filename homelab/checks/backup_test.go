package checks

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"davidcockson.com/runner/homelab/internal/kuma"
	"davidcockson.com/runner/homelab/internal/peer"
)

var backupChecks = []check{
	{"each volume is backed up, or it is said why not", (*tree).volumesKept},
	{"what is backed up can be, and can be restored", (*tree).backupPlanned},
	{"each backup tells Uptime Kuma, in time", (*tree).backupsWatched},
	{"the owner is told of each item and of each volume that is left out", (*tree).backupsExplained},
}

// planned is what the role keeps, by group of hosts, and what it leaves out, by host and volume.
type planned struct {
	Plan    map[string][]map[string]string `yaml:"backup_plan"`
	LeftOut map[string]map[string]string   `yaml:"backup_left_out"`
}

// backupHosts are the hosts of the plan's groups.
var backupHosts = map[string]string{"prod_services": "prod-services", "contabo": "contabo"}

func (t *tree) planned() (p planned, err error) {
	variables, err := t.roleVariables("backup")
	if err != nil {
		return p, err
	}
	plan, left := variables["backup_plan"], variables["backup_left_out"]
	if err := plan.Decode(&p.Plan); err != nil {
		return p, fmt.Errorf("backup_plan: %w", err)
	}
	return p, left.Decode(&p.LeftOut)
}

func (t *tree) volumesKept() (problems []string) {
	p, err := t.planned()
	if err != nil {
		return []string{err.Error()}
	}
	kept := map[string]bool{}
	for _, items := range p.Plan {
		for _, item := range items {
			kept[item["volume"]] = true
		}
	}
	for _, host := range hosts {
		for _, name := range t.stacks[host].VolumeNames() {
			reason, left := p.LeftOut[host][name]
			volume := t.stacks[host].Volumes[name].Name
			switch {
			case kept[volume] == left:
				problems = append(problems, fmt.Sprintf("%s: the volume %s is kept %t and left out %t", host, name, kept[volume], left))
			case left && len(reason) < 4:
				problems = append(problems, host+": it is not said why "+name+" is left out")
			}
			delete(kept, volume)
			delete(p.LeftOut[host], name)
		}
		for name := range p.LeftOut[host] {
			problems = append(problems, host+": "+name+" is left out and no volume")
		}
	}
	delete(kept, "")
	for volume := range kept {
		problems = append(problems, volume+" is to be kept and no volume")
	}
	// What a service writes to outside of volumes is the owner's or runner's.
	for _, want := range [][3]string{
		{"prod_services", "folder", "{{ homelab_prod_vault_dir }}"}, {"contabo", "state", "{{ homelab_runner_state_dir }}"},
	} {
		if !slices.ContainsFunc(p.Plan[want[0]], func(item map[string]string) bool { return item[want[1]] == want[2] }) {
			problems = append(problems, "nothing keeps "+want[2])
		}
	}
	return problems
}

var branch = regexp.MustCompile(`(?m)^\t([a-z]+(?: \| [a-z]+)*)\)`)

// branches are the kinds that a program of the role knows.
func (t *tree) branches(program string) map[string]bool {
	kinds := map[string]bool{}
	_, text, _ := strings.Cut(t.text("ansible/roles/backup/files/"+program), "case ${plan[kind]} in")
	text, _, _ = strings.Cut(text, "esac")
	for _, found := range branch.FindAllStringSubmatch(text, -1) {
		for kind := range strings.SplitSeq(found[1], " | ") {
			kinds[kind] = true
		}
	}
	return kinds
}

// backupNeeds are the keys of an item of each kind.
var backupNeeds = map[string][]string{
	"postgres": {"project", "service", "volume", "stop"}, "clickhouse": {"project", "service", "volume", "database", "stop"},
	"frozen": {"project", "service", "volume"}, "volume": {"project", "service", "volume"},
	"runner": {"project", "service", "state", "only"}, "files": {"folder", "only"}, "vault": {"folder", "skip"},
}

func (t *tree) backupPlanned() (problems []string) {
	p, err := t.planned()
	if err != nil {
		return []string{err.Error()}
	}
	known := map[string]map[string]bool{"homelab-backup": t.branches("homelab-backup"), "homelab-restore": t.branches("homelab-restore")}
	seen := map[string]bool{}
	for _, group := range slices.Sorted(maps.Keys(p.Plan)) {
		host := backupHosts[group]
		for _, item := range p.Plan[group] {
			name, kind := item["item"], item["kind"]
			say := func(format string, args ...any) {
				problems = append(problems, "backup of "+name+": "+fmt.Sprintf(format, args...))
			}
			if seen[name] {
				say("two items have this name")
			}
			seen[name] = true
			for program, kinds := range known {
				if !kinds[kind] {
					say("%s knows no kind %s", program, kind)
				}
			}
			for _, key := range backupNeeds[kind] {
				if item[key] == "" {
					say("a %s needs %s", kind, key)
				}
			}
			for _, service := range strings.Split(strings.Join([]string{item["service"], item["stop"], item["restart"]}, ","), ",") {
				if _, ok := t.stacks[host].Services[service]; service != "" && !ok {
					say("%s is no service of %s", service, host)
				}
			}
			if s, ok := t.stacks[host].Services[item["service"]]; ok && item["volume"] != "" {
				mounted := false
				for _, v := range s.Volumes {
					mounted = mounted || v.Type == "volume" && t.stacks[host].Volumes[v.Source].Name == item["volume"]
				}
				if !mounted {
					say("%s does not mount %s", item["service"], item["volume"])
				}
			}
			for _, value := range []string{item["folder"], item["only"]} {
				if strings.Contains(value, "/secrets") || strings.Contains(value, ".env") || strings.Contains(value, "runner_config") {
					say("secrets are kept apart, and %s has them", value)
				}
			}
		}
	}
	return problems
}

// longest is how far two backups of a timer are apart, in seconds: a day, the random delay,
// and an hour of work.
const longest = 24*3600 + 1800 + 3600

func (t *tree) backupsWatched() (problems []string) {
	declared, err := kuma.Load(filepath.Join(t.dir, "prod-services/kuma/monitors.yaml"), func(name string) string { return name })
	if err != nil {
		return []string{err.Error()}
	}
	vars, deploy := t.text("ansible/roles/backup/vars/main.yml"), t.text("ansible/roles/prod-services/vars/main.yml")
	pushed := 0
	for _, m := range declared.Monitors {
		if m.Type != "push" {
			continue
		}
		pushed++
		if m.Interval < longest {
			problems = append(problems, fmt.Sprintf("%s: %d s is less than from one backup to the next", m.Name, m.Interval))
		}
		for place, text := range map[string]string{"the backup": vars, "the deploy": deploy} {
			if !strings.Contains(text, "homelab_secrets."+m.PushToken+" }}") {
				problems = append(problems, fmt.Sprintf("%s: %s does not know %s", m.Name, place, m.PushToken))
			}
		}
	}
	if pushed != len(backupHosts) {
		problems = append(problems, fmt.Sprintf("%d backups push, and %d hosts have one", pushed, len(backupHosts)))
	}
	return problems
}

func (t *tree) backupsExplained() (problems []string) {
	p, err := t.planned()
	if err != nil {
		return []string{err.Error()}
	}
	text := t.text("docs/backup.md")
	for _, items := range p.Plan {
		for _, item := range items {
			if !strings.Contains(text, "| `"+item["item"]+"` |") {
				problems = append(problems, "docs/backup.md does not tell of "+item["item"])
			}
		}
	}
	for _, volumes := range p.LeftOut {
		for name := range volumes {
			if !strings.Contains(text, "`"+name+"`") {
				problems = append(problems, "docs/backup.md does not say that "+name+" is left out")
			}
		}
	}
	return problems
}

func TestTheBackupHolds(t *testing.T) {
	tree, err := load(home)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range backupChecks {
		t.Run(c.name, func(t *testing.T) {
			for _, problem := range c.find(tree) {
				t.Error(problem)
			}
		})
	}
}

const (
	keeps  = "ansible/roles/backup/vars/main.yml"
	keeper = "ansible/roles/backup/files/"
)

// Each row breaks a copy of the tree, and one of the checks says so.
func TestEachCheckOfTheBackupGoesRed(t *testing.T) {
	var shelf library
	red := map[string]bool{}
	all := complaints(t, "backup_test.go")
	for _, row := range []struct{ name, file, old, new, want string }{
		{"a volume is forgotten", prod, "volumes:\n  plex-config: {}\n", "volumes:\n  photos: {}\n  plex-config: {}\n", "photos is kept false and left out false"},
		{"a volume is left out without a reason", keeps, "searxng-cache: a cache", "searxng-cache: \"\"", "not said why searxng-cache"},
		{"what is left out is no volume", keeps, "    searxng-cache:", "    searx-cache:", "searx-cache is left out and no volume"},
		{"a volume that is kept is none", keeps, "volume: prod-services_gitea-data", "volume: prod-services_gitea", "prod-services_gitea is to be kept and no volume"},
		{"the vault is not kept", keeps, "{{ homelab_prod_vault_dir }}", "{{ homelab_media_dir }}", "nothing keeps {{ homelab_prod_vault_dir }}"},
		{"a kind has no restore", keeper + "homelab-restore", "\tclickhouse) ", "\tclick) ", "homelab-restore knows no kind clickhouse"},
		{"a kind has no backup", keeps, "kind: frozen", "kind: iced", "homelab-backup knows no kind iced"},
		{"two items have one name", keeps, "item: portainer", "item: gitea", "two items have this name"},
		{"who uses a database is not stopped", keeps, "      stop: gitea\n", "", "a postgres needs stop"},
		{"who uses a database is no service", keeps, "stop: gitea\n", "stop: gitee\n", "gitee is no service"},
		{"an item's service has another volume", keeps, "service: uptime-kuma\n", "service: portainer\n", "portainer does not mount prod-services_uptime-kuma-data"},
		{"secrets are in a snapshot", keeps, "ca,prod-services/nginx/tls", "ca,prod-services/.env", "secrets are kept apart"},
		{"a monitor waits less than from night to night", monitors, "interval: 108000", "interval: 86400", "less than from one backup to the next"},
		{"a monitor waits for a token that nobody sends", monitors, "${CONTABO_BACKUP_PUSH_TOKEN}", "${CONTABO_PUSH_TOKEN}", "the backup does not know CONTABO_PUSH_TOKEN"},
		{"a backup is not pushed", monitors, "type: push, pushToken: \"${CONTABO_BACKUP_PUSH_TOKEN}\"", "type: ping, hostname: contabo", "1 backups push, and 2 hosts"},
		{"an item is not explained", "docs/backup.md", "| `uptime-kuma` |", "| Uptime Kuma |", "does not tell of uptime-kuma"},
		{"a volume that is left out is not explained", "docs/backup.md", "`plex-config`", "Plex", "does not say that plex-config"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, part := range append([]string{"ports.yaml", "ansible/roles", "docs"}, hosts...) {
				if err := copyTree(filepath.Join(home, part), filepath.Join(dir, part)); err != nil {
					t.Fatal(err)
				}
			}
			rewrite(t, filepath.Join(dir, row.file), row.old, row.new)
			tree, err := shelf.load(dir)
			if err != nil {
				t.Fatal(err)
			}
			var seen []string
			for _, c := range backupChecks {
				problems := c.find(tree)
				if wanted(all, problems, row.want) {
					red[c.name] = true
					return
				}
				seen = append(seen, problems...)
			}
			t.Errorf("want %q, got %q", row.want, seen)
		})
	}
	for _, c := range backupChecks {
		if !red[c.name] {
			t.Errorf("no row breaks what the check %q looks at", c.name)
		}
	}
	owed(t, all)
}

// The units with the values of a deployment, and with a mistake.
func TestSystemdTakesTheBackupsUnits(t *testing.T) {
	peer.Need(t, "systemd-analyze")
	for _, row := range []struct {
		name, file, old, new string
		taken                bool
	}{
		{"as they lie", "homelab-backup.service", "", "", true},
		{"with a key that systemd does not know", "homelab-backup.service", "ProtectHome", "ProtectHomes", false},
		{"with a time that is none", "homelab-backup.timer", "03:30", "33:30", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{"homelab-backup.service", "homelab-backup.timer"} {
				text := string(read(t, "../ansible/roles/backup/templates/"+name+".j2"))
				for expression, value := range map[string]string{
					`\{\{ backup_program \}\}`: "/bin/true", `\{\{ backup_folder \}\}`: "/opt/homelab/backup", `\{\{ inventory_hostname \}\}`: "vps",
					`\{\{ homelab_backup_time \}\}`: "03:30", `ReadWritePaths=.*`: "ReadWritePaths=/opt/homelab/backup -/srv/backup",
				} {
					text = regexp.MustCompile(expression).ReplaceAllString(text, value)
				}
				if strings.Contains(text, "{") {
					t.Fatalf("%s has an expression that the test does not fill in:\n%s", name, text)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if row.old != "" {
				rewrite(t, filepath.Join(dir, row.file), row.old, row.new)
			}
			out, content := judge(t, dir, "systemd-analyze", "verify", "--man=no", "./homelab-backup.service", "./homelab-backup.timer")
			if taken := content && strings.TrimSpace(out) == ""; taken != row.taken {
				t.Errorf("taken %t, want %t: %s", taken, row.taken, out)
			}
		})
	}
}

// The playbook runs here, against nobody: it is refused before a host is asked.
func TestARestoreWantsAnItem(t *testing.T) {
	program := peer.Need(t, "ansible-playbook")
	for _, row := range []struct {
		name string
		with []string
	}{
		{"no item", nil},
		{"an item that is none", []string{"-e", "item=everything"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), program, append([]string{"-i", "inventory/example.yml", "-e", "ansible_connection=local", "restore.yml"}, row.with...)...)
			cmd.Dir = filepath.Join(home, "ansible")
			home := t.TempDir()
			cmd.Env = append(os.Environ(), "HOME="+home, "ANSIBLE_HOME="+home, "ANSIBLE_LOCAL_TEMP="+home, "ANSIBLE_NOCOLOR=true")
			out, err := cmd.CombinedOutput()
			if want := "-e item=ITEM: gitea-db, gitea, "; err == nil || !strings.Contains(string(out), want) {
				t.Errorf("%v, want %q in\n%s", err, want, out)
			}
		})
	}
}
