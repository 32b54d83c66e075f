package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"davidcockson.com/runner/internal/secret"
)

// prefix begins the name of every variable that is a setting.
const prefix = "RUNNER_"

// The two ways in which a key of the file gives a secret, as the ends of its
// name. A variable may also hold the secret itself.
const (
	formEnv  = "env"
	formFile = "file"
)

// variables turns NAME=value into a map. Of a name that comes twice the first
// counts, as for os.Getenv.
func variables(environ []string) map[string]string {
	all := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, content, ok := strings.Cut(entry, "=")
		if _, twice := all[name]; ok && !twice {
			all[name] = content
		}
	}
	return all
}

// variable is the name of the variable for the key at path.
func variable(path string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// environment lets the variables override what the file set. An empty one counts
// as not set.
func (l *loader) environment(at place, keys []key) {
	for _, k := range keys {
		to := at.key(k.name)
		name := variable(to.path)
		switch {
		case k.keys != nil:
			l.environment(to, k.keys)
		case k.secret != nil:
			l.secretVariable(to, k, name, "")
			l.secretVariable(to, k, name+"_ENV", formEnv)
			l.secretVariable(to, k, name+"_FILE", formFile)
		case k.items != nil, k.texts != nil:
			l.known[name] = true
			if l.environ[name] != "" {
				l.warnings = append(l.warnings, Warning{Key: name, Text: "is ignored: a list is set in the file alone"})
			}
		default:
			l.known[name] = true
			content := l.environ[name]
			if content == "" {
				continue
			}
			from := origin{variable: name}
			l.set[to.path] = from
			if !k.value.set(content) {
				l.problems = append(l.problems, problem{Key: name, Text: "must be " + k.value.want})
			}
		}
	}
}

// unknownVariables warns of what looks like a setting and is none. Others may
// use the same prefix, so it is no error.
func (l *loader) unknownVariables() {
	for _, name := range slices.Sorted(maps.Keys(l.environ)) {
		if strings.HasPrefix(name, prefix) && !l.known[name] {
			l.warnings = append(l.warnings, Warning{Key: shown(name), Text: "is no setting and is ignored"})
		}
	}
}

// source is one way in which a secret was given.
type source struct {
	key  *secret.Key
	form func(text string) string // of the key's definition
	// path is the secret's own, written the one of the key that gives it.
	path, written string
	by            string // formEnv, formFile, or "" where content is the secret
	content       string
	from          origin
}

func (l *loader) secretSource(at, to place, k key, form string, n *yaml.Node) {
	if isEmpty(n) || n.Kind == yaml.AliasNode {
		return
	}
	from := origin{line: n.Line}
	var content string
	l.set[to.path], l.set[at.path] = from, from
	before := len(l.problems)
	l.scalar(to, text(&content), n)
	if len(l.problems) == before {
		l.secrets = append(l.secrets, source{k.secret, k.form, at.path, to.path, form, content, from})
	}
}

func (l *loader) secretVariable(at place, k key, name, form string) {
	l.known[name] = true
	content := l.environ[name]
	if content == "" {
		return
	}
	from := origin{variable: name}
	l.set[at.path] = from
	l.secrets = append(l.secrets, source{k.secret, k.form, at.path, at.path, form, content, from})
}

// readSecrets fills in the secrets. Variables override the file as a whole; two
// sources of one rank are refused, since either could be the old one.
func (l *loader) readSecrets() {
	given := make(map[string][]source)
	var order []string
	for _, s := range l.secrets {
		if given[s.path] == nil {
			order = append(order, s.path)
		}
		given[s.path] = append(given[s.path], s)
	}
	for _, path := range order {
		sources := given[path]
		if slices.ContainsFunc(sources, source.byVariable) {
			sources = slices.DeleteFunc(sources, func(s source) bool { return !s.byVariable() })
		}
		last := sources[len(sources)-1]
		if len(sources) > 1 {
			first := sources[0].written
			if last.byVariable() {
				first = sources[0].from.variable
			}
			l.problems = append(l.problems, l.at(last.from, last.written, "is set beside "+first+"; set one of the two"))
			continue
		}
		l.readSecret(last)
	}
}

func (s source) byVariable() bool { return s.from.variable != "" }

// variableNames admits upper case alone, so that most keys pasted where the name
// of a variable belongs are refused without being shown.
var variableNames = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

func (l *loader) readSecret(s source) {
	refuse := func(text string) { l.problems = append(l.problems, l.at(s.from, s.written, text)) }
	named := s.by == formEnv && variableNames.MatchString(s.content)
	if named {
		l.known[s.content] = true
	}
	if l.unread && (named || s.by != formEnv) {
		return
	}
	found := secret.New(s.content)
	switch s.by {
	case formEnv:
		if !named {
			refuse("must be the name of an environment variable in upper case")
			return
		}
		found = secret.New(l.environ[s.content])
		if found.IsZero() {
			refuse("the variable " + s.content + " is not set")
			return
		}
	case formFile:
		var err error
		if found, err = secret.FromFile(absolute(s.content, l.dir)); err != nil {
			refuse(err.Error()) // which names no path
			return
		}
	}
	if !oneLine(found.Reveal()) {
		refuse("the secret must be one line")
		return
	}
	if s.form != nil {
		if wrong := s.form(found.Reveal()); wrong != "" {
			refuse(wrong)
			return
		}
	}
	*s.key = found
}
