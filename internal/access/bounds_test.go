package access

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestClientsThatFailTakeBoundedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDelays(time.Now)
		client := func(i int) netip.Prefix {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
		}
		for i := range mostClients + 100 {
			d.begin(client(i))
			time.Sleep(time.Microsecond)
		}
		if len(d.clients) != mostClients {
			t.Errorf("%d clients are known, want %d", len(d.clients), mostClients)
		}
		if _, known := d.clients[client(99)]; known {
			t.Error("the oldest is still known")
		}
		if _, known := d.clients[client(100)]; !known {
			t.Error("one that is not among the oldest is forgotten")
		}
	})
}

func TestPasswordsAreHashedTwoAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gate{hashing: make(chan struct{}, hashesAtOnce)}
		p := password{memory: 8, passes: 1, threads: 1, salt: make([]byte, 8), hash: make([]byte, 16)}
		for range hashesAtOnce {
			g.hashing <- struct{}{} // one that is being computed
		}
		begun := time.Now()
		_, err := g.check(t.Context(), p, "x")
		if delayed, ok := errors.AsType[*DelayedError](err); !ok || delayed.RetryAfter != hashingWait || time.Since(begun) != hashingWait {
			t.Errorf("after %s: %v, want a delay after %s", time.Since(begun), err, hashingWait)
		}
		go func() {
			time.Sleep(time.Second)
			<-g.hashing
		}()
		if right, err := g.check(t.Context(), p, "x"); right || err != nil {
			t.Errorf("when its turn comes: %v, %v", right, err)
		}
		if len(g.hashing) != hashesAtOnce-1 {
			t.Errorf("%d turns are taken, want %d", len(g.hashing), hashesAtOnce-1)
		}
	})
}

func TestAFileThatIsGoneIsNotRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte("phone "+hashSecret("x")), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &watched[[]token]{setting: "auth.token_file", path: path, parse: parseTokens}
	if tokens, err := f.get(); len(tokens) != 1 || err != nil {
		t.Fatalf("%d tokens, %v", len(tokens), err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if tokens, err := f.get(); len(tokens) != 0 || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after that %d tokens, %v", len(tokens), err)
	}
}

func TestParsePassword(t *testing.T) {
	const salt, hash = "c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	line := func(costs string) string { return "$argon2id$v=19$" + costs + "$" + salt + "$" + hash }
	for _, row := range []struct {
		name, line string
		fine       bool
	}{
		{"as it is written", line("m=19456,t=2,p=1"), true},
		{"with a newline", line("m=19456,t=2,p=1") + "\r\n", true},
		{"the most memory", line("m=262144,t=1,p=1"), true},
		{"more memory than a login may take", line("m=262145,t=1,p=1"), false},
		{"more passes than a login may take", line("m=8,t=17,p=1"), false},
		{"no passes", line("m=8,t=0,p=1"), false},
		{"less memory than the threads need", line("m=8,t=1,p=2"), false},
		{"a negative cost", line("m=-8,t=1,p=1"), false},
		{"costs in another order", line("t=2,m=19456,p=1"), false},
		{"a cost too many", line("m=8,t=1,p=1,x=1"), false},
		{"another algorithm", strings.Replace(line("m=8,t=1,p=1"), "argon2id", "argon2i", 1), false},
		{"another version", strings.Replace(line("m=8,t=1,p=1"), "v=19", "v=16", 1), false},
		{"two lines", line("m=8,t=1,p=1") + "\n" + line("m=8,t=1,p=1"), false},
		{"a short salt", "$argon2id$v=19$m=8,t=1,p=1$c29t$" + hash, false},
		{"a short hash", "$argon2id$v=19$m=8,t=1,p=1$" + salt + "$CTFhFdXP", false},
		{"an endless hash", "$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + base64.RawStdEncoding.EncodeToString(make([]byte, 65)), false},
		{"a newline within the salt", "$argon2id$v=19$m=8,t=1,p=1$c29t\nZXNhbHQ$" + hash, false},
		{"bcrypt", "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", false},
		{"a password", "correct horse battery staple", false},
		{"nothing", "", false},
	} {
		if _, err := parsePassword([]byte(row.line)); (err == nil) != row.fine {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func TestParseTokens(t *testing.T) {
	hash := hashSecret("x")
	for _, row := range []struct {
		name, file, want string // want is names, or what the error says
	}{
		{"nothing", "", ""},
		{"one", "phone " + hash, "phone"},
		{"two, a comment and an empty line", "# mine\nphone " + hash + "\n\n  laptop\t" + strings.ToUpper(hash) + "\r\n", "phone laptop"},
		{"a name without a hash", "phone\n", "line 1: must be a name and a SHA-256"},
		{"a hash without a name", hash + "\n", "line 1: must be a name and a SHA-256"},
		{"a token in place of its hash", "a " + hash + "\nphone sesame", "line 2: the second word must be a SHA-256"},
		{"a hash too short", "phone " + hash[:62], "line 1: the second word must be a SHA-256"},
		{"a hash too long", "phone " + hash + "00", "line 1: the second word must be a SHA-256"},
		{"three words", "phone " + hash + " old", "line 1: must be a name and a SHA-256"},
		{"a name twice", "phone " + hash + "\nphone " + hash, "line 2: an earlier token has the same name"},
	} {
		tokens, err := parseTokens([]byte(row.file))
		var names []string
		for _, token := range tokens {
			names = append(names, token.name)
		}
		got := strings.Join(names, " ")
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, row.want) || (row.want == "" && got != "") || strings.Contains(got, "sesame") {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

func FuzzParsePassword(f *testing.F) {
	f.Add([]byte("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc\n"))
	f.Add([]byte("$argon2id$v=19$m=8,t=1,p=8$$"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePassword(data)
		if err != nil {
			return
		}
		// What is taken must not make Argon2 panic nor take all memory.
		if p.passes < 1 || p.passes > 16 || p.threads < 1 || p.memory > 256<<10 || p.memory < 8*uint32(p.threads) || len(p.hash) < 16 || len(p.salt) < 8 {
			t.Errorf("costs out of bounds are taken: %+v", p)
		}
	})
}

func FuzzParseTokens(f *testing.F) {
	f.Add([]byte("# c\nphone " + hashSecret("x") + "\n"))
	f.Add([]byte("a b\r\nc"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tokens, err := parseTokens(data)
		if err != nil && len(tokens) != 0 {
			t.Error("a broken file has tokens")
		}
		for _, token := range tokens {
			if !tokenName.MatchString(token.name) {
				t.Errorf("the name %q is taken", token.name)
			}
		}
	})
}

func FuzzSplitHost(f *testing.F) {
	for _, host := range []string{"runner.lan:80", "[::1]:8080", "localhost.", "a:b", "[", "]:1", ".."} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		name, port, ok := splitHost(host)
		if !ok {
			return
		}
		again := name
		if strings.Contains(name, ":") {
			again = "[" + name + "]"
		}
		if port != "" {
			again += ":" + port
		}
		if name2, port2, ok := splitHost(again); !ok || name2 != name || port2 != port {
			t.Errorf("%q is %q %q, and that again %q %q %v", host, name, port, name2, port2, ok)
		}
	})
}
