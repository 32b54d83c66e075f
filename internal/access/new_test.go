package access_test

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"davidcockson.com/runner/internal/access"
)

func TestNewRefusesASetupThatWouldNotHold(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	hash := quickHash(goodPassword)
	good := file("good", hash, 0o600)
	none := filepath.Join(dir, "token")
	for _, row := range []struct {
		name    string
		options access.Options
		want    string // "" is fine
	}{
		{"nothing but a place for the token", access.Options{StateToken: none}, ""},
		{"a public name without a lock", access.Options{StateToken: none, PublicURL: "https://a.example"}, "public_url and hosts need access or auth"},
		{"further names without a lock", access.Options{StateToken: none, Hosts: []string{"a.lan"}}, "public_url and hosts need access or auth"},
		{"a public name with a password", access.Options{PublicURL: "https://a.example", PasswordFile: good}, ""},
		{"a team without its audience", access.Options{Team: "myteam", PasswordFile: good}, "team and aud belong together"},
		{"an audience without its team", access.Options{Aud: "tag", PasswordFile: good}, "team and aud belong together"},
		{"a public URL that is none", access.Options{PublicURL: "a.example", PasswordFile: good}, "public_url: must be"},
		{"a public URL of another kind", access.Options{PublicURL: "ftp://a.example", PasswordFile: good}, "public_url: must be"},
		{"a host with a path", access.Options{Hosts: []string{"a.lan/x"}, PasswordFile: good}, `hosts: "a.lan/x" must be a name`},
		{"a host with a wildcard", access.Options{Hosts: []string{"*.lan"}, PasswordFile: good}, `hosts: "*.lan" must be a name`},
		{"a password file that all can read", access.Options{PasswordFile: file("all", hash, 0o644)}, "auth.password_file: has mode 0644"},
		{"one that all can write", access.Options{PasswordFile: file("w", hash, 0o602)}, "auth.password_file: has mode 0602"},
		{"one that its group can write", access.Options{PasswordFile: file("gw", hash, 0o620)}, "auth.password_file: has mode 0620"},
		{"one that its group can read", access.Options{PasswordFile: file("gr", hash, 0o640)}, ""},
		{"a token file that all can read", access.Options{TokenFile: file("tokens", "", 0o604)}, "auth.token_file: has mode 0604"},
		{"an empty token file", access.Options{TokenFile: file("empty", "", 0o600)}, ""},
		{"an empty password file", access.Options{PasswordFile: file("empty2", "", 0o600)}, "auth.password_file: must be one line"},
		{"a missing password file", access.Options{PasswordFile: filepath.Join(dir, "missing")}, "auth.password_file: open the file: no such file"},
		{"a folder", access.Options{PasswordFile: dir}, "auth.password_file: is not a regular file"},
		{"a FIFO that nobody writes", access.Options{TokenFile: fifo}, "auth.token_file: is not a regular file"},
		{"a state token that others can read", access.Options{StateToken: file("state", strings.Repeat("A", 43), 0o640)}, "login token"},
		{"a state token that is damaged", access.Options{StateToken: file("short", "AAAA", 0o600)}, "delete it to have a new one made"},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.options.Sessions = newMemory()
			_, err := access.New(t.Context(), row.options)
			if (err == nil) != (row.want == "") || (err != nil && !strings.Contains(err.Error(), row.want)) {
				t.Errorf("got %v, want %q", err, row.want)
			}
			if err != nil && strings.Contains(err.Error(), dir) {
				t.Errorf("the error shows a path: %v", err)
			}
		})
	}
	if _, err := access.New(t.Context(), access.Options{PasswordFile: good}); err == nil {
		t.Error("a password without a place for sessions is taken")
	}
}

func TestTheFirstStartMakesOneToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	links := make([]string, 20)
	var all sync.WaitGroup
	for i := range links { // up and web may start at once
		all.Go(func() {
			gate, err := access.New(t.Context(), access.Options{Listen: "localhost:1", StateToken: path, Sessions: newMemory()})
			if err != nil {
				t.Error(err)
				return
			}
			links[i] = gate.Link()
		})
	}
	all.Wait()
	for _, link := range links {
		if link != links[0] || link == "" {
			t.Fatal("two starts have two tokens")
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's file: %v, %v", info, err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files are left, want 1 (%v)", len(entries), err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	gate, err := access.New(t.Context(), access.Options{Listen: "localhost:1", StateToken: path, Sessions: newMemory()})
	if err != nil || gate.Link() == links[0] {
		t.Errorf("a deleted token comes back (%v)", err)
	}
}

func TestHashPassword(t *testing.T) {
	for name, password := range map[string]string{
		"nine characters": "123456789", "nine characters of many bytes": "äöüäöüäöü", "nothing": "",
		"a newline": "0123456789\n", "more than 1 KiB": strings.Repeat("x", 1025),
	} {
		if line, err := access.HashPassword(password, rand.Reader); !errors.Is(err, access.ErrPassword) || line != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := access.HashPassword(goodPassword, iotest.ErrReader(errors.New("no randomness"))); err == nil {
		t.Error("a hash without a salt is made")
	}
	line, err := access.HashPassword(goodPassword, rand.Reader)
	if err != nil || !strings.HasPrefix(line, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("the line is not as it should be: %v", err)
	}
	if other, _ := access.HashPassword(goodPassword, rand.Reader); other == line {
		t.Error("two hashes have one salt")
	}
	r := newRig(t, func(r *rig, o *access.Options) {
		o.PasswordFile = filepath.Join(r.dir, "password")
		r.write("password", line)
	})
	r.mustLogin()
	_, err = r.login(goodPassword + "x")
	wantWrong(t, err)
}

// The line is one of the reference implementation's own test vectors: the password
// "password", the salt "somesalt", 64 MiB, two passes, one thread.
func TestAHashOfTheReferenceImplementationIsTaken(t *testing.T) {
	const line = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	r := newRig(t, func(r *rig, o *access.Options) {
		o.PasswordFile = filepath.Join(r.dir, "password")
		r.write("password", line)
	})
	if _, err := r.login("password"); err != nil {
		t.Error(err)
	}
}

func TestNewToken(t *testing.T) {
	for _, name := range []string{"", "two words", "-x", "#x", "x\n", "ä", strings.Repeat("x", 65)} {
		if token, line, err := access.NewToken(name); !errors.Is(err, access.ErrTokenName) || token+line != "" {
			t.Errorf("%q: %v", name, err)
		}
	}
	token, line, err := access.NewToken("Phone_1.a-b")
	if err != nil || len(token) != 43 || strings.Contains(line, token) || !strings.HasPrefix(line, "Phone_1.a-b ") {
		t.Errorf("a token of %d bytes, %v", len(token), err)
	}
}
