package access

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"davidcockson.com/runner/internal/secret"
)

// token is a line of a token file.
type token struct {
	name string
	hash [32]byte // SHA-256: what is random needs no slow hash
}

var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ErrTokenName is returned by NewToken for a name that a token file cannot hold.
var ErrTokenName = errors.New("a token's name is 1 to 64 letters, digits, dots, hyphens and underscores, and begins with a letter or digit")

// NewToken makes a bearer token, and the line for a token file, without a newline,
// by which it is known. The token itself is kept nowhere.
func NewToken(name string) (token, line string, err error) {
	if !tokenName.MatchString(name) {
		return "", "", ErrTokenName
	}
	token = newSecret()
	return token, name + " " + hashSecret(token), nil
}

// parseTokens reads a token file: a name and a hash a line. Empty lines and those
// that begin with # are left out; a file without tokens lets none in.
func parseTokens(data []byte) ([]token, error) {
	var tokens []token
	names := make(map[string]bool)
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		// The line itself stays out of the error: somebody may have pasted a token.
		if len(fields) != 2 || !tokenName.MatchString(fields[0]) {
			return nil, fmt.Errorf("line %d: must be a name and a SHA-256 in hex, as `runner passwd` writes it", number)
		}
		t := token{name: fields[0]}
		hash, err := hex.DecodeString(fields[1])
		if err != nil || len(hash) != len(t.hash) {
			return nil, fmt.Errorf("line %d: the second word must be a SHA-256 in hex, never the token itself", number)
		}
		copy(t.hash[:], hash)
		if names[t.name] {
			return nil, fmt.Errorf("line %d: an earlier token has the same name", number)
		}
		names[t.name] = true
		tokens = append(tokens, t)
	}
	return tokens, nil
}

// stateToken returns the token of a first start, which it makes if there is none.
func stateToken(path string) (secret.Key, error) {
	text, err := readStateToken(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeStateToken(path); err != nil {
			return secret.Key{}, fmt.Errorf("make the login token: %w", err)
		}
		text, err = readStateToken(path)
	}
	if err != nil {
		return secret.Key{}, fmt.Errorf("read the login token (delete it to have a new one made): %w", err)
	}
	return secret.New(text), nil
}

func readStateToken(path string) (string, error) {
	data, _, err := readPrivate(path, 0o077)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(data))
	if !isSecret(text) {
		return "", errors.New("the file holds no token")
	}
	return text, nil
}

// makeStateToken writes a new token. It appears whole and replaces none: of two
// processes that start at once both use the first's.
func makeStateToken(path string) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".token-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // one left behind is harmless
	_, err = file.WriteString(newSecret() + "\n")
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Link is the URL by which the owner signs in where nothing is configured, "" where
// something is. It is a secret: for the terminal, not for a log.
func (g *Gate) Link() string {
	if g.link.IsZero() {
		return ""
	}
	host, port, err := net.SplitHostPort(g.listen)
	if err != nil {
		host, port = g.listen, ""
	}
	if ip, err := netip.ParseAddr(host); host == "" || (err == nil && ip.IsUnspecified()) {
		host = "localhost"
	}
	if port != "" {
		host = net.JoinHostPort(host, port)
	}
	return "http://" + host + "/login?token=" + g.link.Reveal()
}
