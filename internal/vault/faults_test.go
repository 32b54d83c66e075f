package vault_test

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/vault/vaulttest"
)

const (
	note = "_completed/job.md"
	temp = vault.TempDir + "/job"
	old  = "the question"
	mark = "\n> answered"
)

func annotate(text []byte) []byte { return append(slices.Clip(text), mark...) }

func TestEveryFaultOfWrite(t *testing.T) {
	const name, text = "runner-outputs/x.md", "a whole answer"
	write := func(v *vault.Vault) error { return v.Write(name, []byte(text)) }
	scene{
		name: "a new file", act: write,
		whole: func(t *testing.T, files map[string]string, err error) {
			got, there := files[name]
			if there && got != text {
				t.Errorf("torn: %q", got)
			}
			if err == nil && !there {
				t.Error("acknowledged and not there")
			}
			for other := range files {
				if other != name && !strings.HasPrefix(other, vault.TempDir+"/write-") {
					t.Errorf("left behind: %s", other)
				}
			}
		},
	}.run(t)
	scene{
		name: "a taken name", act: write, want: fs.ErrExist,
		setup: func(w world) { w.put(name, "mine") },
		whole: func(t *testing.T, files map[string]string, err error) {
			if files[name] != "mine" || err == nil {
				t.Errorf("the file that was there is now %q", files[name])
			}
		},
	}.run(t)
}

func TestEveryFaultOfMove(t *testing.T) {
	const from, to = "_queue/x.md", "_active/x.md"
	move := func(v *vault.Vault) error { return v.Move(from, to) }
	scene{
		name: "a free target", act: move,
		setup: func(w world) { w.put(from, old) },
		whole: func(t *testing.T, files map[string]string, err error) {
			if len(files) != 1 || files[from]+files[to] != old {
				t.Errorf("not exactly one whole file")
			}
			if err == nil && files[to] != old {
				t.Error("acknowledged and not moved")
			}
		},
	}.run(t)
	scene{
		name: "a taken target", act: move, want: fs.ErrExist,
		setup: func(w world) { w.put(from, old); w.put(to, "other") },
		whole: func(t *testing.T, files map[string]string, err error) {
			if files[from] != old || files[to] != "other" || err == nil {
				t.Error("a file was replaced or lost")
			}
		},
	}.run(t)
}

// edits are a user's texts that were really written: none may vanish.
type edits struct{ made []string }

func (e *edits) whole(t *testing.T, files map[string]string, err error) {
	for _, text := range e.made {
		if !slices.Contains(slices.Collect(maps.Values(files)), text) {
			t.Errorf("the user's %q is gone", text)
		}
	}
	if err == nil && files[note] != old+mark {
		t.Errorf("acknowledged, and the note is %q", files[note])
	}
}

func (e *edits) settled(t *testing.T, files map[string]string, err error) {
	var kept *vault.KeptError
	if errors.As(err, &kept) {
		if len(e.made) == 0 {
			t.Error("a copy was kept although nobody edited")
		}
		if _, there := files[kept.Kept]; !there {
			t.Errorf("%s does not exist", kept.Kept)
		}
		err = nil
	}
	if err != nil {
		t.Error(err)
	}
	if _, there := files[temp]; there {
		t.Error("the temporary file is still there")
	}
	e.whole(t, files, errors.New("not acknowledged"))
	if len(e.made) == 0 && files[note] != old && files[note] != old+mark {
		t.Errorf("the note is %q", files[note])
	}
}

func TestEveryFaultOfRewrite(t *testing.T) {
	type deed struct {
		at   int // of the exchanges
		in   bool
		text string
	}
	// In place means that the editor writes into the file it finds, as Obsidian
	// does; else it puts a new one there, as Syncthing does.
	rows := []struct {
		name  string
		deeds []deed
		want  error
	}{
		{"nobody edits", nil, nil},
		{"an edit in place before the exchange", []deed{{1, true, "U1"}}, vault.ErrChanged},
		{"a new file before the exchange", []deed{{1, false, "U1"}}, vault.ErrChanged},
		{"a longer new file before the exchange", []deed{{1, false, strings.Repeat("U1", 99)}}, vault.ErrChanged},
		{"an edit before each exchange", []deed{{1, true, "U1"}, {2, true, "U2"}}, nil},
		{"a new file before each exchange", []deed{{1, false, "U1"}, {2, false, "U2"}}, nil},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			e := &edits{}
			s := scene{
				setup: func(w world) { e.made = nil; w.put(note, old) },
				hooks: func(w world, f *vaulttest.Faults) {
					for _, d := range row.deeds {
						f.Inject(vaulttest.Fault{Match: vaulttest.Is(vaulttest.Exchange), At: d.at, Hook: func(vaulttest.Call) {
							write := w.put
							if d.in {
								write = w.edit
							}
							write(note, d.text)
							e.made = append(e.made, d.text)
						}})
					}
				},
				act: func(v *vault.Vault) error {
					err := v.Rewrite(note, temp, []byte(old), annotate([]byte(old)))
					var kept *vault.KeptError
					if len(row.deeds) == 2 && errors.As(err, &kept) {
						return errKept
					}
					return err
				},
				want:    row.want,
				whole:   e.whole,
				settle:  func(v *vault.Vault) error { return v.RecoverRewrite(note, temp, annotate) },
				settled: e.settled,
			}
			if len(row.deeds) == 2 {
				s.want = errKept
			}
			s.run(t)
		})
	}
}

var errKept = errors.New("both were kept")

// A start can crash as well.
func TestEveryFaultOfRecoverRewrite(t *testing.T) {
	rows := []struct {
		name, note, temp string
		made             []string
	}{
		{"before the exchange", old, old + mark, nil},
		{"after the exchange", old + mark, old, nil},
		{"an edit came out", old + mark, "U1", []string{"U1"}},
		{"the note was edited since", "U2", old, []string{"U2", old}},
		{"the note is gone", "", "U1", []string{"U1"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			e := &edits{made: row.made}
			again := func(v *vault.Vault) error { return v.RecoverRewrite(note, temp, annotate) }
			scene{
				setup: func(w world) {
					w.put(temp, row.temp)
					if row.note != "" {
						w.put(note, row.note)
					}
				},
				act: func(v *vault.Vault) error {
					err := again(v)
					var kept *vault.KeptError
					if errors.As(err, &kept) {
						return errKept
					}
					return err
				},
				want: map[bool]error{true: errKept}[row.made != nil],
				whole: func(t *testing.T, files map[string]string, _ error) {
					e.whole(t, files, errors.New("not acknowledged"))
				},
				settle: again, settled: e.settled,
			}.run(t)
		})
	}
}
