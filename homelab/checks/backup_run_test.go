package checks

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"davidcockson.com/runner/homelab/internal/peer"
)

// A vessel is a host to be backed up: the programs of the role, a real restic with a
// repository in a folder, and fakes of docker and curl.
type vessel struct {
	*testing.T
	dir string
}

const backupPlan = `# an example
db postgres project=/p service=db volume=db stop=web
traces clickhouse project=/p service=traces database=default volume=traces stop=web
kuma frozen project=/p service=kuma volume=kuma exclude=secret.ini
sync volume project=/p service=sync volume=sync only=config/key.pem
runner runner project=/p service=runner state=LAB/state only=password,tokens
keys files project=/p folder=LAB/keys only=ca,tls/cert.pem restart=web
vault vault folder=LAB/vault exclude=.syncthing.*.tmp skip=_queue,_active
`

func newVessel(t *testing.T) *vessel {
	t.Helper()
	if os.Getenv("CI") != "true" {
		t.Skip("all that runs restic, which takes half a second to open a repository, takes a minute: with CI=true")
	}
	for _, program := range []string{"restic", "flock"} {
		peer.Need(t, program)
	}
	v := &vessel{t, t.TempDir()}
	for name, text := range map[string]string{
		"backup/plan": strings.ReplaceAll(backupPlan, "LAB", v.dir), "backup/repository": v.dir + "/repository\n", "backup/password": "a\n",
		"backup/environment": "BACKUP_HOST=prod\nBACKUP_WAIT=0\n", "backup/push": "url = \"http://127.0.0.1:1/api/push/token-of-the-file\"\n",
		"databases/db/data": "a row\nend of dump\n", "volumes/db/_data/PG_VERSION": "18\n",
		"volumes/traces/_data/store/part": "spans\n", "volumes/kuma/_data/kuma.db": "monitors\n", "volumes/kuma/_data/secret.ini": "x\n",
		"volumes/sync/_data/config/key.pem": "key\n", "volumes/sync/_data/index/big": "index\n",
		"state/ledger.db": "ledger\n", "state/password": "hash\n", "state/tokens": "",
		"keys/ca/ca.pem": "authority\n", "keys/tls/cert.pem": "certificate\n",
		"vault/Notes/a [1].md": "old words\n", "vault/Notes/b.md": "b\n", "vault/_queue/job.md": "ask\n",
		"running/db": "", "running/traces": "", "running/kuma": "", "running/sync": "", "running/runner": "", "running/web": "",
		"paused/.keep": "", "broken/.keep": "", "refused/.keep": "",
	} {
		v.write(name, text)
	}
	for _, program := range []string{"docker", "curl"} {
		v.write("bin/"+program, string(read(t, "testdata/backup/"+program)))
		if err := os.Chmod(v.path("bin/"+program), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

func (v *vessel) path(name string) string { return filepath.Join(v.dir, name) }

func (v *vessel) write(name, text string) {
	v.Helper()
	if err := os.MkdirAll(filepath.Dir(v.path(name)), 0o755); err != nil {
		v.Fatal(err)
	}
	if err := os.WriteFile(v.path(name), []byte(text), 0o600); err != nil {
		v.Fatal(err)
	}
}

// has looks whether a file has these words; "" for none of them: the file is not there.
func (v *vessel) has(name, want string) {
	v.Helper()
	text, err := os.ReadFile(v.path(name))
	if got := string(text); got != want || (want == "") != os.IsNotExist(err) {
		v.Errorf("%s has %q, want %q", name, got, want)
	}
}

func (v *vessel) remove(names ...string) {
	v.Helper()
	for _, name := range names {
		if err := os.RemoveAll(v.path(name)); err != nil {
			v.Fatal(err)
		}
	}
}

// run runs one of the role's programs, which must end well or not, and returns what it said.
func (v *vessel) run(well bool, program string, arguments ...string) string {
	v.Helper()
	path, err := filepath.Abs("../ansible/roles/backup/files/" + program)
	if err != nil {
		v.Fatal(err)
	}
	cmd := exec.CommandContext(v.Context(), path, append([]string{"backup"}, arguments...)...)
	cmd.Dir = v.dir
	cmd.Env = append(os.Environ(), "PATH="+v.path("bin")+":"+os.Getenv("PATH"), "LAB="+v.dir)
	out, err := cmd.CombinedOutput()
	if (err == nil) != well {
		v.Fatalf("%s %q ended well: %t, want %t:\n%s", program, arguments, err == nil, well, out)
	}
	return string(out)
}

func (v *vessel) said(text string, wants ...string) {
	v.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			v.Errorf("want %q in\n%s", want, text)
		}
	}
}

// pushed is the last word to Uptime Kuma.
func (v *vessel) pushed() string {
	lines := strings.Split(strings.TrimSpace(string(read(v.T, v.path("pushes")))), "\n")
	return lines[len(lines)-1]
}

// restic asks the repository.
func (v *vessel) restic(arguments ...string) string {
	v.Helper()
	cmd := exec.CommandContext(v.Context(), "restic", append([]string{"--no-cache", "--repo", v.path("repository"), "--password-file", v.path("backup/password")}, arguments...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		v.Fatalf("restic %q: %v\n%s", arguments, err, out)
	}
	return string(out)
}

func TestABackupKeepsEachItemByItself(t *testing.T) {
	t.Parallel()
	v := newVessel(t)
	v.said(v.run(true, "homelab-backup"), "made the repository", "all 7 items are kept")
	v.said(v.pushed(), "status=up", "--config "+v.path("backup/push"))
	if strings.Contains(v.pushed(), "token-of-the-file") {
		t.Error("the token is on curl's command line")
	}
	snapshots := v.restic("snapshots", "--compact")
	for _, item := range []string{"db", "traces", "kuma", "sync", "runner", "keys", "vault"} {
		v.said(snapshots, " "+item)
	}
	kept := v.restic("ls", "latest", "--tag", "kuma")
	if !strings.Contains(kept, "kuma.db") || strings.Contains(kept, "secret.ini") {
		t.Errorf("of kuma is kept: %s", kept)
	}
	if kept := v.restic("ls", "latest", "--tag", "sync"); !strings.Contains(kept, "key.pem") || strings.Contains(kept, "big") {
		t.Errorf("of sync is kept: %s", kept)
	}
	left, err := filepath.Glob(v.path("backup/staging/*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	for _, name := range []string{"paused/kuma", "state/backups/homelab/ledger.db", "volumes/traces/_data/backups/homelab/.backup"} {
		v.has(name, "")
	}
}

func TestOneItemThatFailsDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	v := newVessel(t)
	v.write("broken/db", "")
	v.remove("volumes/kuma/_data", "volumes/sync/_data/config/key.pem", "running/runner", "vault/Notes", "vault/_queue")
	v.said(v.run(false, "homelab-backup"), "db is broken", "cannot stat", "key.pem is not there", "runner does not run", "vault/. is empty")
	v.said(v.pushed(), "status=down", "msg=failed: db kuma sync runner vault")
	if kept := v.restic("snapshots", "--json"); strings.Count(kept, `"short_id"`) != 2 || !strings.Contains(kept, "traces") || !strings.Contains(kept, "keys") {
		t.Errorf("kept are %s", kept)
	}
	v.has("paused/kuma", "")
	v.write("databases/db/data", "a dump that breaks off\n")
	v.remove("broken/db")
	v.run(false, "homelab-backup", "item", "db")
}

func TestWhatGoesWrongAroundABackup(t *testing.T) {
	t.Parallel()
	t.Run("Uptime Kuma that does not answer is a failure", func(t *testing.T) {
		t.Parallel()
		v := newVessel(t)
		v.write("deaf", "")
		v.said(v.run(false, "homelab-backup"), "Uptime Kuma was not told that the backup is up")
	})
	t.Run("a container that a killed run left paused goes on", func(t *testing.T) {
		t.Parallel()
		v := newVessel(t)
		v.write("paused/kuma", "")
		v.said(v.run(true, "homelab-backup", "thaw"), "kuma was left paused")
		v.has("paused/kuma", "")
	})
	t.Run("a repository that is gone is not made anew", func(t *testing.T) {
		t.Parallel()
		v := newVessel(t)
		v.run(true, "homelab-backup", "init")
		v.remove("repository")
		v.said(v.run(false, "homelab-backup"), "was here and is gone", "failed: repository")
		v.said(v.pushed(), "status=down", "repository")
		v.has("repository/config", "")
	})
	t.Run("another repository than before is refused", func(t *testing.T) {
		t.Parallel()
		v := newVessel(t)
		v.run(true, "homelab-backup", "init")
		v.remove("repository")
		v.restic("init")
		v.said(v.run(false, "homelab-backup", "init"), "another one than before")
	})
	t.Run("where nobody answers none is made", func(t *testing.T) {
		t.Parallel()
		v := newVessel(t)
		v.write("backup/repository", "rest:http://127.0.0.1:1/\n")
		v.said(v.run(false, "homelab-backup", "init"), "cannot be opened", "refused")
	})
	t.Run("two at once", func(t *testing.T) {
		t.Parallel()
		v := newVessel(t)
		lock := exec.CommandContext(t.Context(), "flock", v.path("backup/lock"), "cat")
		in, err := lock.StdinPipe()
		if err == nil {
			err = lock.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		for locked := false; !locked; { // until the other one has it
			locked = exec.CommandContext(t.Context(), "flock", "--nonblock", v.path("backup/lock"), "true").Run() != nil
		}
		v.said(v.run(false, "homelab-backup"), "another one runs")
		v.write("paused/kuma", "")
		v.said(v.run(true, "homelab-backup", "thaw"), "another one runs")
		if _, err := os.Stat(v.path("paused/kuma")); err != nil {
			t.Errorf("what the other one had paused goes on: %v", err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		if err := lock.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// Of days seven are kept, of weeks four, and the end of each month.
func TestASecondRunKeepsWhatTheRetentionSays(t *testing.T) {
	t.Parallel()
	v := newVessel(t)
	v.run(true, "homelab-backup", "init")
	for _, day := range []int{2, 8, 11, 12, 13, 14, 15, 16} { // of March 2026, whose second is a Monday
		v.restic("backup", "--quiet", "--host", "prod", "--tag", "db", "--time", fmt.Sprintf("2026-03-%02d 12:00:00", day), v.path("keys"))
	}
	for _, hour := range []string{"10", "12"} { // of another host, whose business they are
		v.restic("backup", "--quiet", "--host", "elsewhere", "--tag", "db", "--time", "2020-01-01 "+hour+":00:00", v.path("keys"))
	}
	v.run(true, "homelab-backup")
	v.run(true, "homelab-backup")
	var days []string
	for _, found := range regexp.MustCompile(`"time":"([0-9-]{10})`).FindAllStringSubmatch(v.restic("snapshots", "--json", "--host", "prod", "--tag", "db"), -1) {
		days = append(days, found[1])
	}
	if len(days) != 8 || strings.Join(days[:7], " ") != "2026-03-08 2026-03-11 2026-03-12 2026-03-13 2026-03-14 2026-03-15 2026-03-16" {
		t.Errorf("kept are %s, want all of March but its second, and one of today", days)
	}
	v.said(v.restic("snapshots", "--host", "elsewhere"), "2 snapshots")
}
