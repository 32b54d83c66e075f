package checks

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// one is the only file that a pattern of the vessel names.
func (v *vessel) one(pattern string) string {
	v.Helper()
	names, err := filepath.Glob(v.path(pattern))
	if err != nil || len(names) != 1 {
		v.Fatalf("%s: %q, %v", pattern, names, err)
	}
	name, err := filepath.Rel(v.dir, names[0])
	if err != nil {
		v.Fatal(err)
	}
	return name
}

// Each item comes back from what was kept of it, what was there is kept aside, and what was
// stopped runs again.
func TestEachItemComesBack(t *testing.T) {
	t.Parallel()
	v := newVessel(t)
	v.run(true, "homelab-backup")
	restore := func(item string) {
		t.Helper()
		v.said(v.run(true, "homelab-restore", "restore", item), "restored "+item+" from the snapshot ")
		for _, service := range []string{"db", "traces", "kuma", "sync", "runner", "web"} {
			if _, err := os.Stat(v.path("running/" + service)); err != nil {
				t.Errorf("after %s: %s does not run: %v", item, service, err)
			}
		}
	}

	v.write("databases/db/data", "torn\n")
	restore("db")
	v.has("databases/db/data", "a row\nend of dump\n")
	v.has(v.one("databases/db/data_replaced_*"), "torn\n")
	v.remove("databases/db")
	v.write("databases/db/other", "")
	restore("db")
	v.has("databases/db/data", "a row\nend of dump\n")

	v.write("volumes/traces/_data/store/part", "torn\n")
	restore("traces")
	v.has("volumes/traces/_data/store/part", "spans\n")
	v.has(v.one("volumes/traces/_data.replaced-*/store/part"), "torn\n")

	v.write("volumes/kuma/_data/kuma.db", "torn\n")
	v.write("volumes/kuma/_data/.new", "new\n")
	restore("kuma")
	v.has("volumes/kuma/_data/kuma.db", "monitors\n")
	v.has("volumes/kuma/_data/.new", "")
	v.has(v.one("volumes/kuma/_data.replaced-*/.new"), "new\n")

	v.remove("volumes/sync/_data/config")
	restore("sync")
	v.has("volumes/sync/_data/config/key.pem", "key\n")
	v.has("volumes/sync/_data/index/big", "index\n")

	v.remove("state")
	v.write("state/tokens", "name hash\n")
	restore("runner")
	v.has("state/ledger.db", "ledger\n")
	v.has("state/password", "hash\n")
	v.has("state/tokens", "name hash\n")

	v.write("keys/tls/cert.pem", "another\n")
	v.write("keys/tls/other.pem", "stays\n")
	restore("keys")
	v.has("keys/tls/cert.pem", "certificate\n")
	v.has("keys/tls/other.pem", "stays\n")
	v.has(v.one("keys.replaced-*/tls/cert.pem"), "another\n")
	v.remove("keys")
	restore("keys")
	v.has("keys/ca/ca.pem", "authority\n")
	if left, err := filepath.Glob(v.path("*/*/_data.restoring-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// A folder that was lost has the rights that it had, or its service could not read it.
func TestALostFolderComesBackAsItWas(t *testing.T) {
	t.Parallel()
	v := newVessel(t)
	if err := os.Chmod(v.path("volumes/sync/_data/config"), 0o755); err != nil {
		t.Fatal(err)
	}
	v.run(true, "homelab-backup", "init")
	v.run(true, "homelab-backup", "item", "sync")
	v.remove("volumes/sync/_data/config")
	v.run(true, "homelab-restore", "restore", "sync")
	if info, err := os.Stat(v.path("volumes/sync/_data/config")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
}

// Where a restore does not come to its end, what was there is in its place, and runs.
func TestARestoreThatEndsBadlyPutsBackWhatWasThere(t *testing.T) {
	t.Parallel()
	rows := []struct {
		name, item  string
		fault       string // a file of the fake
		verb        string
		said        string
		file, words string // what was there before
	}{
		{"a volume whose service does not start", "kuma", "down/kuma", "restore", "what was there is put back", "volumes/kuma/_data/kuma.db", "now\n"},
		{"a volume whose service does not stop", "kuma", "stuck/kuma", "restore", "kuma are started again", "volumes/kuma/_data/kuma.db", "now\n"},
		{"ClickHouse refuses its backup", "traces", "refused/traces", "restore", "ClickHouse restored nothing", "volumes/traces/_data/store/part", "now\n"},
		{"ClickHouse does not start", "traces", "down/traces", "restore", "what was there is put back", "volumes/traces/_data/store/part", "now\n"},
		{"a database server that does not start", "db", "down/db", "restore", "-e anew=true", "databases/db/data", "now\n"},
		{"a database server that does not start with new files either", "db", "down/db", "anew", "what was there is put back", "volumes/db/_data/PG_VERSION", "now\n"},
		{"a dump that is refused", "db", "refused/db", "restore", "nothing was changed", "databases/db/data", "now\n"},
		{"a file whose service cannot be stopped", "sync", "stuck/sync", "restore", "sync are started again", "volumes/sync/_data/config/key.pem", "now\n"},
	}
	base := newVessel(t)
	base.run(true, "homelab-backup", "init")
	for _, item := range []string{"kuma", "traces", "db", "sync"} {
		base.run(true, "homelab-backup", "item", item)
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			v := newVessel(t)
			if err := os.CopyFS(v.path("repository"), os.DirFS(base.path("repository"))); err != nil {
				t.Fatal(err)
			}
			v.write(row.file, row.words)
			v.write(row.fault, "")
			v.said(v.run(false, "homelab-restore", row.verb, row.item), row.said)
			v.has(row.file, row.words)
			for _, service := range []string{"db", "traces", "kuma", "sync", "web"} {
				if _, err := os.Stat(v.path("running/" + service)); err != nil && row.fault != "down/db" {
					t.Errorf("%s does not run: %v", service, err)
				}
			}
			for _, pattern := range []string{"volumes/*/_data.restoring-*", "volumes/*/_data.replaced-*[0-9]"} {
				if left, err := filepath.Glob(v.path(pattern)); err != nil || len(left) > 0 {
					t.Errorf("left behind: %q, %v", left, err)
				}
			}
		})
	}
}

// New files are given where that is asked for, and the old ones are kept.
func TestADatabaseServerGetsNewFiles(t *testing.T) {
	t.Parallel()
	v := newVessel(t)
	v.run(true, "homelab-backup", "init")
	v.run(true, "homelab-backup", "item", "db")
	v.write("databases/db/data", "torn\n")
	v.run(true, "homelab-restore", "anew", "db")
	v.has("databases/db/data", "a row\nend of dump\n")
	v.has(v.one("volumes/db/_data.replaced-*/PG_VERSION"), "18\n")
	v.said(v.run(false, "homelab-restore", "anew", "kuma"), "only a database server")
}

func TestTheVaultComesBackFileByFile(t *testing.T) {
	t.Parallel()
	v := newVessel(t)
	v.run(true, "homelab-backup", "init")
	v.run(true, "homelab-backup", "item", "vault")
	v.remove("vault/Notes", "vault/_queue")
	v.said(v.run(true, "homelab-restore", "restore", "vault", "latest", "Notes/a [1].md"), "brought back Notes/a [1].md", "1 files brought back, 0 kept")
	v.has("vault/Notes/a [1].md", "old words\n")
	v.has("vault/Notes/b.md", "")

	v.write("vault/Notes/a [1].md", "new words\n")
	v.write("vault/Notes/c.md", "c\n")
	v.said(v.run(true, "homelab-restore", "restore", "vault"), "2 files brought back, 1 kept", "left out 1 of runner's own folders")
	v.has("vault/Notes/a [1].md", "old words\n")
	copies, err := filepath.Glob(v.path("vault/Notes/a*.sync-conflict-*-RESTORE.md"))
	if err != nil || len(copies) != 1 || string(read(t, copies[0])) != "new words\n" {
		t.Errorf("the newer words are not kept: %q, %v", copies, err)
	}
	v.has("vault/Notes/b.md", "b\n")
	v.has("vault/Notes/c.md", "c\n")
	v.has("vault/_queue/job.md", "")
	v.said(v.run(false, "homelab-restore", "restore", "vault", "latest", "_queue/job.md"), "would be asked again")
	v.said(v.run(false, "homelab-restore", "restore", "vault", "latest", "Notes/none.md"), "has no Notes/none.md")
}

func TestARestoreThatCannotBeLeavesThingsAsTheyAre(t *testing.T) {
	t.Parallel()
	v := newVessel(t)
	v.run(true, "homelab-backup", "init")
	v.said(v.run(false, "homelab-restore", "show", "db"), "no single snapshot of db is latest")
	v.run(true, "homelab-backup", "item", "db")
	v.run(true, "homelab-backup", "item", "kuma")
	v.write("databases/db/data", "now\n")

	v.write("refused/db", "")
	v.said(v.run(false, "homelab-restore", "restore", "db"), "nothing was changed")
	v.has("databases/db/data", "now\n")
	if _, err := os.Stat(v.path("running/web")); err != nil {
		t.Error(err)
	}
	shown := v.run(true, "homelab-restore", "show", "kuma")
	id := regexp.MustCompile(`snapshot ([0-9a-f]{8}) of 20`).FindStringSubmatch(shown)
	if id == nil {
		t.Fatal(shown)
	}
	v.said(v.run(true, "homelab-restore", "show", "kuma", id[1]), id[1])
	v.said(v.run(false, "homelab-restore", "restore", "db", id[1]), "no single snapshot of db is "+id[1])
	v.said(v.run(false, "homelab-restore", "restore", "kuma", "latest", "x"), "only the vault is restored file by file")
	v.said(v.run(false, "homelab-restore", "restore", "nothing"), "there is no item nothing; there are: db traces")
	v.remove("repository")
	v.run(false, "homelab-restore", "restore", "kuma")
	if _, err := os.Stat(v.path("running/kuma")); err != nil {
		t.Errorf("what could not be fetched was stopped for: %v", err)
	}
	if got := strings.Fields(v.run(true, "homelab-restore")); len(got) != 7 {
		t.Errorf("it lists %q", got)
	}
}
