package job

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/provider"
)

// Rules is what a note is checked against: the owner's configuration as far as
// notes may refer to it.
type Rules struct {
	// Location is the zone of times without one; nil is UTC.
	Location *time.Location
	// Providers in the order of the config; the first is the default.
	Providers []ProviderRule
}

// ProviderRule is a configured provider as a note may name it.
type ProviderRule struct {
	Name string
	// Models in the order of the config; empty means whatever the server lists.
	Models []string
}

func (r Rules) provider(name string) (ProviderRule, bool) {
	for _, p := range r.Providers {
		if strings.EqualFold(p.Name, name) {
			return p, true
		}
	}
	return ProviderRule{}, false
}

func (r Rules) names() string {
	names := make([]string, len(r.Providers))
	for i, p := range r.Providers {
		names[i] = p.Name
	}
	return strings.Join(names, ", ")
}

const (
	maxID    = 120       // bytes; it becomes part of file names
	maxTitle = 300       // bytes
	maxSteps = 100       // of one chain
	maxLimit = 7 * 24    // hours a note may ask for
	maxWrite = 1_000_000 // tokens
)

// Read turns a note into a Spec. The error is a *note.Error: its Kind says
// whether the note is merely unfinished or wrong.
func Read(n *note.Note, rules Rules) (Spec, error) {
	r := reader{note: n, rules: rules}
	if f, ok := n.Field("draft"); ok && !f.Null() {
		r.spec.Draft = r.bool(f)
		if r.err == nil && r.spec.Draft {
			return r.spec, nil
		}
	}
	return r.read()
}

// ReadDraft reads a note that is not taken, as if draft were unticked; Draft tells
// whether it is ticked, also beside an error. An id that a template has yet to make is
// left out.
func ReadDraft(n *note.Note, rules Rules) (Spec, error) {
	r := reader{note: n, rules: rules, template: true}
	if f, ok := n.Field("draft"); ok && !f.Null() {
		r.spec.Draft = r.bool(f)
	}
	draft := r.spec.Draft
	if r.err != nil {
		return Spec{}, r.err
	}
	spec, err := r.read()
	spec.Draft = draft
	return spec, err
}

// read reads all but draft.
func (r *reader) read() (Spec, error) {
	n := r.note
	for _, f := range n.Fields() {
		if f.Null() {
			continue // an empty property is how Obsidian shows one that is not set
		}
		r.field(f)
		if r.err != nil {
			return Spec{}, r.err
		}
	}
	if r.spec.Type == "" {
		return Spec{}, &note.Error{Kind: note.Wrong, Line: 1, Key: "job_type", Reason: "missing: say text, chain or research"}
	}
	r.target()
	if r.err == nil {
		r.steps()
	}
	r.embeds()
	if r.err != nil {
		return Spec{}, r.err
	}
	return r.spec, nil
}

// reader fills a Spec and keeps the first error.
type reader struct {
	note  *note.Note
	rules Rules
	spec  Spec
	err   error
	// template allows an id that is yet to be made.
	template bool
	// lines of the keys that are checked once all are read
	providerLine, modelLine int
}

func (r *reader) field(f note.Field) {
	switch f.Key {
	case "draft", "status", "run", "output", "started", "finished", "attempts", "error", "aliases", "cssclasses":
		// draft was read before; the others are ours from an earlier run, or Obsidian's
	case "id":
		r.spec.ID = r.id(f)
	case "job_type":
		r.spec.Type = Type(r.word(f, string(Text), string(Chain), string(Research)))
	case "provider":
		r.spec.Provider, r.providerLine = r.text(f, maxID), f.Line
	case "model":
		r.spec.Model, r.modelLine = r.text(f, maxID), f.Line
	case "system":
		r.spec.System = r.text(f, note.MaxSize)
	case "title":
		r.spec.Title = r.text(f, maxTitle)
	case "temperature":
		v, err := f.Float()
		r.keep(err)
		if err == nil && (v < 0 || v > 2) {
			r.wrong(f, "must be between 0 and 2")
		}
		r.spec.Temperature = &v
	case "max_tokens":
		r.spec.MaxTokens = r.number(f, 1, maxWrite)
	case "priority":
		r.spec.Priority = r.number(f, -1000, 1000)
	case "timeout":
		r.spec.Timeout = r.duration(f)
	case "retry":
		r.spec.RetryNever = r.word(f, "never") == "never"
	case "not_before":
		r.spec.NotBefore = r.time(f)
	case "tags":
		tags, err := f.Strings()
		r.keep(err)
		r.spec.Tags = tags
	case "context":
		r.context(f)
	default:
		r.spec.Unknown = append(r.spec.Unknown, f.Key)
	}
}

// target fills in the defaults for provider and model and checks both.
func (r *reader) target() {
	if len(r.rules.Providers) == 0 {
		r.err = &note.Error{Kind: note.Wrong, Key: "provider", Reason: "the config names no provider"}
		return
	}
	s := &r.spec
	if s.Provider == "" {
		s.Provider, s.ProviderDefault = r.rules.Providers[0].Name, true
	}
	s.ModelDefault = s.Model == ""
	s.Provider, s.Model, r.err = r.resolve(s.Provider, s.Model, r.providerLine, r.modelLine)
}

// resolve checks a provider and a model against the config, and returns them as
// the config spells them. A provider without a list of models takes any name:
// whether the server has it is asked before the claim.
func (r *reader) resolve(name, model string, providerLine, modelLine int) (string, string, error) {
	p, ok := r.rules.provider(name)
	if !ok {
		return "", "", &note.Error{Kind: note.Wrong, Line: providerLine, Key: "provider",
			Reason: fmt.Sprintf("%q is not configured; there are: %s", name, r.rules.names())}
	}
	if model == "" {
		if len(p.Models) == 0 {
			return p.Name, "", nil
		}
		return p.Name, p.Models[0], nil
	}
	if len(p.Models) == 0 {
		return p.Name, model, nil
	}
	for _, m := range p.Models {
		if provider.SameModel(m, model) {
			return p.Name, m, nil
		}
	}
	return "", "", &note.Error{Kind: note.Wrong, Line: modelLine, Key: "model",
		Reason: fmt.Sprintf("%q is not among the models of %s: %s", model, p.Name, strings.Join(p.Models, ", "))}
}

// steps makes the calls out of the body.
func (r *reader) steps() {
	s := &r.spec
	if s.Type != Chain {
		body := r.note.Body()
		if strings.TrimSpace(body) == "" {
			r.err = &note.Error{Kind: note.Unfinished, Line: r.note.BodyLine(), Reason: "the prompt is missing: in a note it stands below the frontmatter"}
			return
		}
		s.Steps = []Step{{Prompt: body, Provider: s.Provider, Model: s.Model}}
		return
	}
	preamble, sections, err := r.note.Sections()
	if err != nil {
		r.err = err
		return
	}
	if len(sections) == 0 {
		r.err = &note.Error{Kind: note.Unfinished, Line: r.note.BodyLine(), Reason: "a chain needs at least one step: a line like \"## First step\" with its prompt below"}
		return
	}
	if len(sections) > maxSteps {
		r.err = &note.Error{Kind: note.Wrong, Line: sections[maxSteps].Line, Reason: fmt.Sprintf("a chain has at most %d steps", maxSteps)}
		return
	}
	s.Preamble = preamble
	for _, section := range sections {
		if strings.TrimSpace(section.Text) == "" {
			r.err = &note.Error{Kind: note.Unfinished, Line: section.Line, Reason: fmt.Sprintf("the step %q has no prompt yet", section.Title)}
			return
		}
		step := Step{Title: section.Title, Prompt: section.Text, Provider: s.Provider, Model: s.Model}
		providerName, model := section.Inline["provider"], section.Inline["model"]
		if providerName != "" || model != "" {
			if providerName == "" {
				providerName = s.Provider
			}
			if model == "" && strings.EqualFold(providerName, s.Provider) {
				model = s.Model
			}
			if step.Provider, step.Model, r.err = r.resolve(providerName, model, section.Line, section.Line); r.err != nil {
				return
			}
		}
		s.Steps = append(s.Steps, step)
	}
}

// context takes the notes that go before the first prompt.
func (r *reader) context(f note.Field) {
	links, err := f.Links()
	r.keep(err)
	for _, l := range links {
		if l.Target == "" {
			r.keep(&note.Error{Kind: note.Wrong, Line: l.Line, Key: f.Key,
				Reason: fmt.Sprintf("%s is this very note, which is sent anyway: name another", l.Text)})
			return
		}
		r.spec.Context = append(r.spec.Context, l.Text)
		r.stands(l)
	}
}

// embeds notes where the embeds of the body stand.
func (r *reader) embeds() {
	for _, l := range r.note.Links() {
		if l.Embed {
			r.stands(l)
		}
	}
}

func (r *reader) stands(l note.Link) {
	if r.spec.Lines == nil {
		r.spec.Lines = make(map[string]int)
	}
	if _, ok := r.spec.Lines[l.Text]; !ok {
		r.spec.Lines[l.Text] = l.Line
	}
}

func (r *reader) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) wrong(f note.Field, reason string) {
	r.keep(&note.Error{Kind: note.Wrong, Line: f.Line, Key: f.Key, Reason: reason})
}

func (r *reader) bool(f note.Field) bool {
	v, err := f.Bool()
	r.keep(err)
	return v
}

func (r *reader) text(f note.Field, most int) string {
	v, err := f.String()
	r.keep(err)
	if len(v) > most {
		r.wrong(f, fmt.Sprintf("is longer than %d bytes", most))
	}
	return strings.TrimSpace(v)
}

func (r *reader) word(f note.Field, words ...string) string {
	v := r.text(f, maxID)
	if r.err == nil && !slices.Contains(words, v) {
		r.wrong(f, fmt.Sprintf("%q is not known; say %s", v, strings.Join(words, ", ")))
	}
	return v
}

func (r *reader) number(f note.Field, least, most int) int {
	v, err := f.Int()
	r.keep(err)
	if err == nil && (v < least || v > most) {
		r.wrong(f, fmt.Sprintf("must be between %d and %d", least, most))
	}
	return v
}

func (r *reader) id(f note.Field) string {
	v := r.text(f, maxID)
	if r.template && (strings.Contains(v, "{{") || strings.Contains(v, "<%")) {
		return ""
	}
	for _, c := range v {
		if !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("-_.:", c) {
			r.wrong(f, "may hold letters, digits, and - _ . : only")
			break
		}
	}
	return v
}

func (r *reader) duration(f note.Field) time.Duration {
	v := r.text(f, maxID)
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 || d > maxLimit*time.Hour {
		r.wrong(f, fmt.Sprintf("%q is no time limit; write for example 90s, 20m or 2h", v))
		return 0
	}
	return d
}

func (r *reader) time(f note.Field) time.Time {
	v := r.text(f, maxID)
	location := r.rules.Location
	if location == nil {
		location = time.UTC
	}
	if t, err := time.Parse(time.RFC3339, v); err == nil {
		return t
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, v, location); err == nil {
			return t
		}
	}
	r.wrong(f, fmt.Sprintf("%q is no date & time; write 2026-12-31T08:00:00", v))
	return time.Time{}
}
