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
	v.has(v.one("backup/replaced/traces-*/store/part"), "torn\n")

	v.write("volumes/kuma/_data/kuma.db", "torn\n")
	v.write("volumes/kuma/_data/.new", "new\n")
	restore("kuma")
	v.has("volumes/kuma/_data/kuma.db", "monitors\n")
	v.has("volumes/kuma/_data/.new", "")
	v.has(v.one("backup/replaced/kuma-*/.new"), "new\n")

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
	v.has(v.one("backup/replaced/keys-*/tls/cert.pem"), "another\n")
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
	v.said(v.run(false, "homelab-restore", "restore", "db"), "what was there is in its place again", "web are started again")
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
