package job

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"davidcockson.com/runner/internal/note"
)

func TestReadContextAndEmbeds(t *testing.T) {
	for _, c := range []struct {
		name, text string
		context    []string
		lines      map[string]int
		err        string
	}{
		{"a list of links", "---\njob_type: text\ncontext:\n  - \"[[A#B|c]]\"\n  - \"[[D]]\"\n---\nx",
			[]string{"[[A#B|c]]", "[[D]]"}, map[string]int{"[[A#B|c]]": 4, "[[D]]": 5}, ""},
		{"one link", "---\njob_type: text\ncontext: \"[[A]]\"\n---\nx", []string{"[[A]]"}, map[string]int{"[[A]]": 3}, ""},
		{"an empty property", "---\njob_type: text\ncontext:\n---\nx", nil, nil, ""},
		{"an embed stands where it stands first", "---\njob_type: text\n---\n\nx\n![[A]]\n![[A]] `![[B]]` [[C]]", nil, map[string]int{"![[A]]": 6}, ""},
		{"in a step of a chain", "---\njob_type: chain\n---\n## A\nmodel:: small\n\n![[A]]", nil, map[string]int{"![[A]]": 7}, ""},
		{"no quotes", "---\njob_type: text\ncontext: [[A]]\n---\nx", nil, nil, `line 3: key "context": a link has to stand in quotes: "[[Note]]"`},
		{"no link", "---\njob_type: text\ncontext:\n  - \"[[A]]\"\n  - A\n---\nx", nil, nil,
			`line 5: key "context": each item has to be one link like "[[Note]]", and one is the text "A"`},
		{"the note itself", "---\njob_type: text\ncontext:\n  - \"[[#B]]\"\n---\nx", nil, nil,
			`line 4: key "context": [[#B]] is this very note, which is sent anyway: name another`},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec, err := Read(parse(t, c.text), rules(t))
			if c.err != "" {
				var wrong *note.Error
				if !errors.As(err, &wrong) || wrong.Kind != note.Wrong || err.Error() != c.err {
					t.Errorf("got %v\nwant %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(spec.Context, c.context) || !maps.Equal(spec.Lines, c.lines) || len(spec.Unknown) > 0 {
				t.Errorf("got %q at %v, unknown %q", spec.Context, spec.Lines, spec.Unknown)
			}
			if brief := spec.Brief(); brief.Context != nil || brief.Lines != nil {
				t.Errorf("a brief holds %q", brief.Context)
			}
		})
	}
}
