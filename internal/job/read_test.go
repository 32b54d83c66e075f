package job

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/note"
)

// rules are two hosts with lists of models and one without.
func rules(t *testing.T) Rules {
	t.Helper()
	london, err := time.LoadLocation("Europe/London")
	if err != nil {
		t.Fatal(err)
	}
	return Rules{Location: london, Providers: []ProviderRule{
		{Name: "Home", Models: []string{"small", "qwen3:latest"}}, {Name: "cloud", Models: []string{"big"}}, {Name: "any"},
	}}
}

func parse(t *testing.T, text string) *note.Note {
	t.Helper()
	n, err := note.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// textNote is a text job with further lines of frontmatter, which begin on line 3.
func textNote(lines string) string {
	if lines != "" {
		lines += "\n"
	}
	return "---\njob_type: text\n" + lines + "---\nWhy?\n"
}

// plain is what a text job without further keys becomes, but for a change.
func plain(change func(*Spec)) Spec {
	s := Spec{Type: Text, Provider: "Home", Model: "small", ProviderDefault: true, ModelDefault: true,
		Steps: []Step{{Prompt: "Why?", Provider: "Home", Model: "small"}}}
	if change != nil {
		change(&s)
	}
	return s
}

func at(provider, model string) func(*Spec) {
	return func(s *Spec) {
		s.Provider, s.Model, s.ProviderDefault, s.ModelDefault = provider, model, false, false
		s.Steps[0].Provider, s.Steps[0].Model = provider, model
	}
}

func TestReadFillsInASpec(t *testing.T) {
	half, zero := 0.5, 0.0
	summer := time.Date(2026, 7, 1, 7, 0, 0, 0, time.UTC) // 08:00 in London
	notBefore := func(at time.Time) func(*Spec) { return func(s *Spec) { s.NotBefore = at } }
	for _, c := range []struct {
		name, lines string
		want        Spec
	}{
		{"the config's first provider and its first model are the default", "", plain(nil)},
		{"an empty property is one that is not set", "provider:\nmodel:\ntimeout:\npriority:\nretry:\nnot_before:\nid:\ndraft:", plain(nil)},
		{"draft: false runs", "draft: false", plain(nil)},
		{"a named provider has its own default model", "provider: cloud",
			plain(func(s *Spec) { at("cloud", "big")(s); s.ModelDefault = true })},
		{"provider and model are found without regard to case", "provider: HOME\nmodel: SMALL", plain(at("Home", "small"))},
		{"a model without a tag is the latest", "provider: home\nmodel: qwen3", plain(at("Home", "qwen3:latest"))},
		{"a model with the tag latest is the one without", "provider: home\nmodel: small:latest", plain(at("Home", "small"))},
		{"a model alone is of the default provider", "model: small", plain(func(s *Spec) { s.ModelDefault = false })},
		{"a provider without a list takes any model", "provider: any\nmodel: what:ever", plain(at("any", "what:ever"))},
		{"a provider without a list has no default model", "provider: any",
			plain(func(s *Spec) { at("any", "")(s); s.ModelDefault = true })},
		{"all the rest", "title: \" A title \"\ntags: [a, b]\nsystem: Be brief.\ntemperature: 0.5\nmax_tokens: 10\ntimeout: 1h30m\nretry: never\npriority: -3\nid: 20261124",
			plain(func(s *Spec) {
				s.Title, s.Tags, s.System, s.Temperature, s.MaxTokens = "A title", []string{"a", "b"}, "Be brief.", &half, 10
				s.Timeout, s.RetryNever, s.Priority, s.ID = 90*time.Minute, true, -3, "20261124"
			})},
		{"a temperature of zero is sent", "temperature: 0", plain(func(s *Spec) { s.Temperature = &zero })},
		{"an id may be a date or words in any script", "id: \"2026-11-24T10:00:00_ärger.x\"", plain(func(s *Spec) { s.ID = "2026-11-24T10:00:00_ärger.x" })},
		{"keys that we do not know are kept in order", "zeta: 1\nalpha: {b: 2}", plain(func(s *Spec) { s.Unknown = []string{"zeta", "alpha"} })},
		{"a key in other letters is not ours", "Priority: 3", plain(func(s *Spec) { s.Unknown = []string{"Priority"} })},
		{"what an earlier run wrote and what is Obsidian's is not unknown",
			"status: failed\nrun: abc\noutput: \"[[x]]\"\nstarted: 1\nfinished: 2\nattempts: 3\nerror: e\naliases: [x]\ncssclasses: y", plain(nil)},
		{"a date & time is in the owner's zone", "not_before: 2026-07-01T08:00:00", plain(notBefore(summer))},
		{"a date & time of Obsidian has no seconds", "not_before: 2026-07-01T08:00", plain(notBefore(summer))},
		{"a date & time may have a blank", "not_before: 2026-07-01 08:00:00", plain(notBefore(summer))},
		{"a blank and no seconds", "not_before: \"2026-07-01 08:00\"", plain(notBefore(summer))},
		{"a date is its first moment in the owner's zone", "not_before: 2026-07-01", plain(notBefore(summer.Add(-8 * time.Hour)))},
		{"a zone in the note counts", "not_before: 2026-07-01T08:00:00+02:00", plain(notBefore(summer.Add(-time.Hour)))},
		{"Z is UTC", "not_before: 2026-07-01T08:00:00Z", plain(notBefore(summer.Add(time.Hour)))},
		{"winter time is another offset", "not_before: 2026-12-01T08:00:00", plain(notBefore(time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)))},
		{"a draft is not looked at further", "draft: true\njob_type: nonsense\npriority: high\nprovider: nobody", Spec{Draft: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := textNote(c.lines)
			if c.want.Draft {
				text = strings.Replace(text, "job_type: text\n", "", 1)
			}
			got, err := Read(parse(t, text), rules(t))
			if err != nil {
				t.Fatal(err)
			}
			if !got.NotBefore.Equal(c.want.NotBefore) {
				t.Errorf("not before %v, want %v", got.NotBefore, c.want.NotBefore)
			}
			got.NotBefore, c.want.NotBefore = time.Time{}, time.Time{}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got\n%+v, want\n%+v", got, c.want)
			}
		})
	}
}

func TestReadTakesTimesWithoutALocationAsUTC(t *testing.T) {
	r := rules(t)
	r.Location = nil
	got, err := Read(parse(t, textNote("not_before: 2026-07-01T08:00:00")), r)
	if want := time.Date(2026, 7, 1, 8, 0, 0, 0, time.UTC); err != nil || !got.NotBefore.Equal(want) {
		t.Errorf("%v, %v; want %v", got.NotBefore, err, want)
	}
}

func TestReadMakesStepsOfAChain(t *testing.T) {
	for _, c := range []struct {
		name, keys, body string
		preamble         string
		steps            []Step
	}{
		{"sections are steps, and what stands before them is for all", "", "About tea.\n\n## First\nName three.\n\n### Aside\nstays\n## Second\nChoose.\n",
			"About tea.", []Step{{"First", "Name three.\n\n### Aside\nstays", "Home", "small"}, {"Second", "Choose.", "Home", "small"}}},
		{"provider and model of a step", "", "## A\nprovider:: cloud\nmodel:: BIG\nGo.\n## B\nStop.",
			"", []Step{{"A", "Go.", "cloud", "big"}, {"B", "Stop.", "Home", "small"}}},
		{"a step's provider alone has its own default model", "model: qwen3", "## A\nprovider:: Cloud\n\nGo.\n## B\nStop.",
			"", []Step{{"A", "Go.", "cloud", "big"}, {"B", "Stop.", "Home", "qwen3:latest"}}},
		{"a step's model alone is of the job's provider", "provider: cloud", "## A\nmodel:: big\nGo.", "", []Step{{"A", "Go.", "cloud", "big"}}},
		{"a step that names the job's own provider keeps the job's model", "provider: home\nmodel: qwen3", "## A\nprovider:: HOME\nGo.",
			"", []Step{{"A", "Go.", "Home", "qwen3:latest"}}},
		{"a heading inside a fence is no step", "", "## A\n```\n## no\n```\n", "", []Step{{"A", "```\n## no\n```", "Home", "small"}}},
		{"two steps may have one title, or none", "", "##\nGo.\n##\nStop.", "", []Step{{"", "Go.", "Home", "small"}, {"", "Stop.", "Home", "small"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Read(parse(t, "---\njob_type: chain\n"+c.keys+"\n---\n"+c.body), rules(t))
			if err != nil {
				t.Fatal(err)
			}
			if got.Preamble != c.preamble || !reflect.DeepEqual(got.Steps, c.steps) {
				t.Errorf("preamble %q, steps\n%q, want %q,\n%q", got.Preamble, got.Steps, c.preamble, c.steps)
			}
		})
	}
}

func TestReadRefusesWithKeyAndLine(t *testing.T) {
	many := "---\njob_type: chain\n---\n" + strings.Repeat("## S\nGo.\n", maxSteps+1)
	for _, c := range []struct {
		name, text string
		kind       note.Kind
		line       int
		key        string
		reason     string // a part of it
	}{
		{"no job type", "---\ntitle: x\n---\nWhy?", note.Wrong, 1, "job_type", "missing"},
		{"an empty job type", "---\njob_type:\n---\nWhy?", note.Wrong, 1, "job_type", "missing"},
		{"an unknown job type", "---\ntitle: x\njob_type: txt\n---\nWhy?", note.Wrong, 3, "job_type", `"txt" is not known; say text, chain, research`},
		{"a job type that is a list", "---\njob_type: [text]\n---\nWhy?", note.Wrong, 2, "job_type", "a list"},
		{"a draft that is neither", textNote("draft: maybe"), note.Wrong, 3, "draft", "true or false"},
		{"an unknown provider", textNote("title: x\nprovider: Nobody"), note.Wrong, 4, "provider", `"Nobody" is not configured; there are: Home, cloud, any`},
		{"a path as provider", textNote("provider: ../cloud"), note.Wrong, 3, "provider", "not configured"},
		{"an address as provider", textNote("provider: http://cloud"), note.Wrong, 3, "provider", "not configured"},
		{"an unknown model", textNote("model: big"), note.Wrong, 3, "model", `"big" is not among the models of Home: small, qwen3:latest`},
		{"a temperature that is no number", textNote("temperature: warm"), note.Wrong, 3, "temperature", "number"},
		{"a temperature that is not finite", textNote("temperature: .nan"), note.Wrong, 3, "temperature", "number"},
		{"a temperature that is too high", textNote("temperature: 2.1"), note.Wrong, 3, "temperature", "between 0 and 2"},
		{"a temperature below zero", textNote("temperature: -0.1"), note.Wrong, 3, "temperature", "between 0 and 2"},
		{"no tokens at all", textNote("max_tokens: 0"), note.Wrong, 3, "max_tokens", "between 1 and 1000000"},
		{"half a token", textNote("max_tokens: 1.5"), note.Wrong, 3, "max_tokens", "whole number"},
		{"a priority beyond the limit", textNote("priority: 1001"), note.Wrong, 3, "priority", "between -1000 and 1000"},
		{"a timeout without a unit", textNote("timeout: 90"), note.Wrong, 3, "timeout", `"90" is no time limit`},
		{"a timeout of nothing", textNote("timeout: 0s"), note.Wrong, 3, "timeout", "no time limit"},
		{"a timeout of more than a week", textNote("timeout: 169h"), note.Wrong, 3, "timeout", "no time limit"},
		{"a retry other than never", textNote("retry: always"), note.Wrong, 3, "retry", `"always" is not known; say never`},
		{"a time in words", textNote("not_before: tomorrow"), note.Wrong, 3, "not_before", `"tomorrow" is no date & time`},
		{"a time that does not exist", textNote("not_before: 2026-02-30T08:00:00"), note.Wrong, 3, "not_before", "no date & time"},
		{"an id with a slash", textNote("id: a/b"), note.Wrong, 3, "id", "letters, digits"},
		{"an id with a blank", textNote("id: a b"), note.Wrong, 3, "id", "letters, digits"},
		{"an id with an unfilled template", textNote("id: '{{date}}'"), note.Wrong, 3, "id", "letters, digits"},
		{"an id that is too long", textNote("id: " + strings.Repeat("x", maxID+1)), note.Wrong, 3, "id", "longer than 120 bytes"},
		{"a title that is too long", textNote("title: " + strings.Repeat("x", maxTitle+1)), note.Wrong, 3, "title", "longer than 300 bytes"},
		{"tags that are no texts", textNote("tags: [[a]]"), note.Wrong, 3, "tags", "list of texts"},
		{"the first of two faults", textNote("priority: x\ntimeout: y"), note.Wrong, 3, "priority", "whole number"},
		{"no prompt", "---\njob_type: text\n---\n\n", note.Unfinished, 4, "", "the prompt is missing: in a note it stands below"},
		{"no prompt of a research job", "---\njob_type: research\n---\n", note.Unfinished, 4, "", "the prompt is missing"},
		{"only our own block as prompt", "---\njob_type: text\n---\n%% runner: begin %%\nfailed\n%% runner: end %%\n", note.Unfinished, 4, "", "the prompt is missing"},
		{"a chain without steps", "---\njob_type: chain\n---\nJust text.", note.Unfinished, 4, "", "at least one step"},
		{"a chain whose last step is empty", "---\njob_type: chain\n---\n## A\nGo.\n## B\n", note.Unfinished, 6, "", `the step "B" has no prompt yet`},
		{"a chain whose step has a model and no prompt", "---\njob_type: chain\n---\n## A\nmodel:: small\n", note.Unfinished, 4, "", "no prompt yet"},
		{"a step's unknown provider", "---\njob_type: chain\n---\n## A\nGo.\n## B\nprovider:: nobody\nStop.", note.Wrong, 6, "provider", "not configured"},
		{"a step's unknown model", "---\njob_type: chain\n---\n## A\nprovider:: cloud\nmodel:: small\nGo.", note.Wrong, 4, "model", "not among the models of cloud: big"},
		{"a step's model that is set twice", "---\njob_type: chain\n---\n## A\nmodel:: small\nmodel:: small\nGo.", note.Wrong, 6, "model", "twice"},
		{"too many steps", many, note.Wrong, 4 + 2*maxSteps, "", "at most 100 steps"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec, err := Read(parse(t, c.text), rules(t))
			bad, ok := errors.AsType[*note.Error](err)
			if !ok {
				t.Fatalf("%+v, %v; want a *note.Error", spec, err)
			}
			if bad.Kind != c.kind || bad.Line != c.line || bad.Key != c.key || !strings.Contains(bad.Reason, c.reason) {
				t.Errorf("%s: line %d, key %q, %q; want %s: line %d, key %q, %q", bad.Kind, bad.Line, bad.Key, bad.Reason, c.kind, c.line, c.key, c.reason)
			}
			if !reflect.DeepEqual(spec, Spec{}) {
				t.Errorf("a refused note gave %+v", spec)
			}
		})
	}
}

func TestReadRefusesEveryNoteWhereNoProviderIsConfigured(t *testing.T) {
	_, err := Read(parse(t, textNote("")), Rules{})
	bad, ok := errors.AsType[*note.Error](err)
	if !ok || bad.Key != "provider" {
		t.Errorf("%v, want an error of the provider", err)
	}
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{"", "provider: cloud", "timeout: 1h", "not_before: 2026-07-01", "id: x", "draft: true", "temperature: 1e400"} {
		f.Add(seed, "## A\nprovider:: any\nGo.")
	}
	f.Fuzz(func(t *testing.T, lines, body string) {
		for _, kind := range []Type{Text, Chain} {
			n, err := note.Parse(fmt.Appendf(nil, "---\njob_type: %s\n%s\n---\n%s", kind, lines, body))
			if err != nil {
				return
			}
			r := Rules{Providers: []ProviderRule{{Name: "Home", Models: []string{"small"}}, {Name: "any"}}}
			spec, err := Read(n, r)
			if err != nil {
				if _, ok := errors.AsType[*note.Error](err); !ok || !reflect.DeepEqual(spec, Spec{}) {
					t.Fatalf("%+v, %v", spec, err)
				}
				continue
			}
			if spec.Draft {
				continue
			}
			if len(spec.Steps) == 0 || spec.Type == "" {
				t.Fatalf("nothing to do: %+v", spec)
			}
			for _, s := range spec.Steps {
				if s.Provider != "Home" && s.Provider != "any" || strings.TrimSpace(s.Prompt) == "" {
					t.Fatalf("a step that cannot run: %+v", s)
				}
			}
		}
	})
}
