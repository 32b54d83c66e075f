// Package secret holds keys, tokens and other texts that must not be seen.
//
// It promises that a Key shows itself as "[redacted]" wherever it is printed,
// logged or marshalled, inside other values too: only Reveal gives the text away,
// so that a search for Reveal finds every place where a secret is used. A Key
// cannot be unmarshalled: a redacted text read back would be a wrong key.
//
// A Key hides its text from accidents, not from code in the same process. Errors
// of FromFile name neither the content nor the path, since a key pasted where a
// path belongs would be printed by its own error. Nothing is stored here.
package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"
)

// Redacted is what every Key looks like, a zero one too: whether a secret is set
// is asked by IsZero, never read out of a log.
const Redacted = "[redacted]"

// MaxFile is the largest file, in bytes, that FromFile takes.
const MaxFile = 64 << 10

// Key is one secret. The zero value holds none. A Key never changes and is safe
// for concurrent use; it is passed by value, and == does not compare the texts.
type Key struct {
	// A pointer, because fmt calls no methods on unexported fields of other
	// types: there it prints an address and not the text.
	text *string
}

// New returns a Key that holds text; the zero Key for "".
func New(text string) Key {
	if text == "" {
		return Key{}
	}
	return Key{text: &text}
}

// FromFile reads a Key from a regular file of at most MaxFile bytes and leaves
// out one newline at its end, as editors and echo write it. A file that holds
// nothing else is an error. The error names neither path nor content: the caller
// says which setting named the file.
func FromFile(path string) (Key, error) {
	// Without O_NONBLOCK a FIFO would hang the open until somebody writes.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Key{}, withoutPath("open the secret's file", err)
	}
	defer file.Close() // only read: nothing can be lost by closing
	info, err := file.Stat()
	if err != nil {
		return Key{}, withoutPath("look at the secret's file", err)
	}
	if !info.Mode().IsRegular() {
		return Key{}, errors.New("the secret's file is not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(file, MaxFile+1))
	if err != nil {
		return Key{}, withoutPath("read the secret's file", err)
	}
	if len(data) > MaxFile {
		return Key{}, fmt.Errorf("the secret's file is larger than %d KiB", MaxFile>>10)
	}
	text, newline := strings.CutSuffix(string(data), "\n")
	if newline {
		text = strings.TrimSuffix(text, "\r")
	}
	if text == "" {
		return Key{}, errors.New("the secret's file is empty")
	}
	return New(text), nil
}

// withoutPath keeps the cause of a file error, such as fs.ErrNotExist, and drops
// the path that the os package adds to it.
func withoutPath(attempt string, err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	return fmt.Errorf("%s: %w", attempt, err)
}

// Reveal returns the secret itself, "" where there is none.
func (k Key) Reveal() string {
	if k.text == nil {
		return ""
	}
	return *k.text
}

// IsZero says that there is no secret.
func (k Key) IsZero() bool { return k.text == nil }

// String returns Redacted.
func (k Key) String() string { return Redacted }

// GoString returns Redacted.
func (k Key) GoString() string { return Redacted }

// Format writes Redacted for every verb, flag and width.
func (k Key) Format(state fmt.State, _ rune) {
	io.WriteString(state, Redacted) // fmt buffers: it takes every write
}

// MarshalJSON gives Redacted as a JSON string.
func (k Key) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// MarshalText gives Redacted.
func (k Key) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalYAML gives Redacted.
func (k Key) MarshalYAML() (any, error) { return Redacted, nil }

// LogValue gives Redacted to slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(Redacted) }
