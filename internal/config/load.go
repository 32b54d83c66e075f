package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// FileName is the name of the configuration file where none is given.
const FileName = "runner.yaml"

// maxFile is the largest configuration that is read, in bytes.
const maxFile = 1 << 20

// maxProblems is how many problems one error lists.
const maxProblems = 20

// Warning is something in the configuration that has no effect.
type Warning struct {
	// File and Line say where it stands; "" and 0 for the environment.
	File string
	Line int
	// Key is the key's path, or the name of the environment's variable.
	Key  string
	Text string
}

// String gives the warning as one line.
func (w Warning) String() string { return sentence(w.File, w.Line, w.Key, w.Text) }

// problem is one reason to refuse a configuration; its fields are as Warning's.
type problem Warning

func (p problem) Error() string { return sentence(p.File, p.Line, p.Key, p.Text) }

func sentence(file string, line int, key, text string) string {
	var b strings.Builder
	if file != "" {
		b.WriteString(file)
		if line > 0 {
			fmt.Fprintf(&b, ":%d", line)
		}
		b.WriteString(": ")
	}
	if key != "" {
		b.WriteString(key + ": ")
	}
	return b.String() + text
}

// Find returns the path of the first FileName in dirs. One that is there and
// cannot be looked at is an error, and is not passed over. Where there is none
// the error is fs.ErrNotExist and says what to do.
func Find(dirs ...string) (string, error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, FileName)
		_, err := os.Stat(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("look for the configuration: %w", err)
		}
	}
	return "", notFound{dirs}
}

type notFound struct{ dirs []string }

func (e notFound) Error() string {
	return fmt.Sprintf("no %s in %s: make one with \"runner init\" or name one with --config FILE",
		FileName, strings.Join(e.dirs, " or "))
}

func (e notFound) Is(target error) bool { return target == fs.ErrNotExist }

// Load reads the configuration file at path, or, where path is "", the one that
// Find sees in the working directory or in /etc/runner. environ holds NAME=value
// as os.Environ gives it: its RUNNER_ variables override the file, and secrets
// are read from the variables that the file names. The error lists every problem
// in a line of its own; with one there is no Config. Warnings come in both cases.
func Load(path string, environ []string) (*Config, []Warning, error) {
	return load(path, &loader{environ: variables(environ)})
}

// LoadWithoutSecrets is Load for what asks nobody outside: the variables and files
// that hold secrets are not looked at, so that one which is missing or wrong is no
// problem, and each Key is zero. That one is named counts as ever.
func LoadWithoutSecrets(path string, environ []string) (*Config, []Warning, error) {
	return load(path, &loader{environ: variables(environ), unread: true})
}

func load(path string, l *loader) (*Config, []Warning, error) {
	if path == "" {
		found, err := Find(".", "/etc/runner")
		if err != nil {
			return nil, nil, err
		}
		path = found
	}
	data, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, nil, fmt.Errorf("find the folder of %s: %w", path, err)
	}
	l.file, l.dir = path, dir
	return l.load(data)
}

func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the configuration: %w: make one with \"runner init\"", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer file.Close() // only read: nothing can be lost by closing
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if len(data) > maxFile {
		return nil, problem{File: path, Text: fmt.Sprintf("is larger than %d KiB", maxFile>>10)}
	}
	return data, nil
}

// loader turns one file and one environment into a Config. It is used once.
type loader struct {
	file    string
	dir     string // absolute, of file
	environ map[string]string
	unread  bool // secrets are not read

	set      map[string]origin // where each key that is set stands, by its path
	secrets  []source
	known    map[string]bool // variables that are a setting or were named by one
	problems []problem
	warnings []Warning
}

// origin says where a key was set: by a line of the file or by a variable.
type origin struct {
	line     int
	variable string
}

func (l *loader) load(data []byte) (*Config, []Warning, error) {
	l.set, l.known = make(map[string]origin), make(map[string]bool)
	c := &Config{File: l.file, Timezone: time.Local}
	keys := definition(c, l.dir)
	standards(keys)
	document, err := parse(data)
	if err != nil {
		return nil, nil, problem{File: l.file, Line: err.line, Text: err.text}
	}
	if document != nil {
		l.refuseAliases(document)
		l.group(place{}, document, keys)
	}
	l.environment(place{}, keys)
	l.required(place{}, keys)
	l.readSecrets()
	l.unknownVariables()
	l.check(c)
	slices.SortStableFunc(l.warnings, func(a, b Warning) int { return cmp.Compare(rank(a), rank(b)) })
	if len(l.problems) > 0 {
		return nil, l.warnings, l.refusal()
	}
	return c, l.warnings, nil
}

// standards gives every key its default. What an item of a list lacks is filled
// in when the item is made.
func standards(keys []key) {
	for _, k := range keys {
		if k.standard != "" {
			k.value.set(k.standard)
		}
		standards(k.keys)
	}
}

// refusal joins the problems in the order in which the owner meets them: down
// the file, then what the file lacks, then the environment.
func (l *loader) refusal() error {
	slices.SortStableFunc(l.problems, func(a, b problem) int {
		return cmp.Compare(rank(Warning(a)), rank(Warning(b)))
	})
	var list []error
	for _, p := range l.problems[:min(len(l.problems), maxProblems)] {
		list = append(list, p)
	}
	if more := len(l.problems) - maxProblems; more > 0 {
		list = append(list, fmt.Errorf("and %d more", more))
	}
	return errors.Join(list...)
}

func rank(w Warning) int {
	switch {
	case w.File == "":
		return maxFile + 2
	case w.Line == 0:
		return maxFile + 1
	}
	return w.Line
}

// place is the way to a key: path with the numbers of list items, pattern with
// [] in their stead.
type place struct{ path, pattern string }

func (p place) key(name string) place {
	if p.path == "" {
		return place{name, name}
	}
	return place{p.path + "." + name, p.pattern + "." + name}
}

func (p place) item(i int) place {
	return place{fmt.Sprintf("%s[%d]", p.path, i), p.pattern + "[]"}
}

// fail notes a problem with the key at path, at the place where it, or the
// nearest group around it, was set.
func (l *loader) fail(path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for around := path; ; {
		if from, ok := l.set[around]; ok {
			l.problems = append(l.problems, l.at(from, path, text))
			return
		}
		cut := strings.LastIndexAny(around, ".[")
		if cut < 0 {
			l.problems = append(l.problems, problem{File: l.file, Key: path, Text: text})
			return
		}
		around = around[:cut]
	}
}

func (l *loader) failAt(line int, path, format string, args ...any) {
	l.problems = append(l.problems, l.at(origin{line: line}, path, fmt.Sprintf(format, args...)))
}

func (l *loader) at(from origin, path, text string) problem {
	if from.variable != "" {
		return problem{Key: from.variable, Text: text}
	}
	return problem{File: l.file, Line: from.line, Key: path, Text: text}
}
