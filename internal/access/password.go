package access

import (
	"bytes"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

const (
	// shortestPassword in characters. One client gets about 2,900 guesses a day, and
	// many clients as many each, for ever: nothing is locked. Ten characters that
	// are no common word outlast that, and a stolen file of hashes too.
	shortestPassword = 10
	// longestPassword in bytes: more is no password and not worth hashing.
	longestPassword = 1024
	saltBytes       = 16
	hashBytes       = 32
)

// ErrPassword is returned by HashPassword for a password that is not taken.
var ErrPassword = fmt.Errorf("a password needs at least %d characters, since guesses are slowed down but never locked out, and at most %d bytes, without control characters", shortestPassword, longestPassword)

// password is the line of a password file: a hash by Argon2id.
type password struct {
	line       string // the whole, for its fingerprint
	memory     uint32 // KiB
	passes     uint32
	threads    uint8
	salt, hash []byte
}

// HashPassword returns the line for a password file, without a newline: the
// password's Argon2id hash (RFC 9106) with 19 MiB and two passes, as OWASP's
// password storage sheet asks for, as a PHC string. The salt is read from random.
func HashPassword(text string, random io.Reader) (string, error) {
	if utf8.RuneCountInString(text) < shortestPassword || len(text) > longestPassword || strings.ContainsFunc(text, unicode.IsControl) {
		return "", ErrPassword
	}
	p := password{memory: 19 << 10, passes: 2, threads: 1, salt: make([]byte, saltBytes)}
	if _, err := io.ReadFull(random, p.salt); err != nil {
		return "", fmt.Errorf("read a salt: %w", err)
	}
	hash := argon2.IDKey([]byte(text), p.salt, p.passes, p.memory, p.threads, hashBytes)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.passes, p.threads,
		base64.RawStdEncoding.EncodeToString(p.salt), base64.RawStdEncoding.EncodeToString(hash)), nil
}

// is reports whether text is the password.
func (p password) is(text string) bool {
	if len(text) > longestPassword {
		return false
	}
	hash := argon2.IDKey([]byte(text), p.salt, p.passes, p.memory, p.threads, uint32(len(p.hash)))
	return subtle.ConstantTimeCompare(hash, p.hash) == 1
}

var errPHC = errors.New("must be one line as `runner passwd` writes it: $argon2id$v=19$m=…,t=…,p=…$salt$hash")

// parsePassword reads a password file. Costs are taken as they stand in it, within
// bounds: a damaged line must not take all memory or minutes of each login.
func parsePassword(data []byte) (password, error) {
	line := string(bytes.TrimRight(data, "\r\n"))
	fields := strings.Split(line, "$")
	if len(fields) != 6 || fields[0] != "" || fields[1] != "argon2id" || fields[2] != "v="+strconv.Itoa(argon2.Version) {
		return password{}, errPHC
	}
	costs := strings.Split(fields[3], ",")
	if len(costs) != 3 {
		return password{}, errPHC
	}
	memory, err1 := cost(costs[0], "m=", 8, 256<<10)
	passes, err2 := cost(costs[1], "t=", 1, 16)
	threads, err3 := cost(costs[2], "p=", 1, 8)
	salt, err4 := base64.RawStdEncoding.Strict().DecodeString(fields[4])
	hash, err5 := base64.RawStdEncoding.Strict().DecodeString(fields[5])
	if errors.Join(err1, err2, err3, err4, err5) != nil || memory < 8*threads ||
		len(salt) < 8 || len(salt) > 64 || len(hash) < 16 || len(hash) > 64 || strings.ContainsAny(line, "\r\n") {
		return password{}, errPHC
	}
	return password{line: line, memory: memory, passes: passes, threads: uint8(threads), salt: salt, hash: hash}, nil
}

// cost reads one of Argon2's costs.
func cost(text, name string, least, most uint32) (uint32, error) {
	digits, named := strings.CutPrefix(text, name)
	n, err := strconv.ParseUint(digits, 10, 32)
	if !named || err != nil || uint32(n) < least || uint32(n) > most {
		return 0, errPHC
	}
	return uint32(n), nil
}
