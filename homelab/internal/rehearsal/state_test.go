package rehearsal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

func TestStateIsReadAsItWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record.json")
	want := State{Folder: "/var/tmp/" + Prefix + "-1", Cgroups: Prefix + "-1", PID: 7, Started: 9}
	if err := want.Save(path); err != nil {
		t.Fatal(err)
	}
	got, found, err := Load(path)
	if err != nil || !found || got != want {
		t.Errorf("got %+v, %v, %v", got, found, err)
	}
}

// Of two runs that start at once one is refused, and the record of the other stays.
func TestARecordIsNotOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record.json")
	first := State{Folder: "/var/tmp/" + Prefix + "-1", Cgroups: Prefix + "-1", PID: 7, Started: 9}
	if err := first.Save(path); err != nil {
		t.Fatal(err)
	}
	second := State{Folder: "/var/tmp/" + Prefix + "-2", Cgroups: Prefix + "-2", PID: 8, Started: 9}
	if err := second.Save(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the second record: %v", err)
	}
	if got, found, err := Load(path); err != nil || !found || got != first {
		t.Errorf("got %+v, %v, %v", got, found, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("%v are there, %v", left, err)
	}
}

func TestLitterIsThatOfTheDead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "record.json")
	living := path + "." + strconv.Itoa(os.Getpid())
	for _, name := range []string{path, living, path + ".999999999", path + ".old"} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Litter(path); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(path + "*")
	if want := []string{path, living, path + ".old"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left are %v, %v; want %v", left, err, want)
	}
}

func TestNoRecordIsNoError(t *testing.T) {
	if _, found, err := Load(filepath.Join(t.TempDir(), "none")); found || err != nil {
		t.Errorf("found %v, %v", found, err)
	}
}

// What a record names is removed, so one that names anything else is refused.
func TestRecordsThatAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":                           `{`,
		"an empty one":                      `{}`,
		"another folder":                    `{"Folder": "/etc", "Cgroups": "homelab-rehearsal-1"}`,
		"a folder that is not a whole path": `{"Folder": "homelab-rehearsal-1", "Cgroups": "homelab-rehearsal-1"}`,
		"a path that leads elsewhere":       `{"Folder": "/tmp/x/../homelab-rehearsal-1", "Cgroups": "homelab-rehearsal-1"}`,
		"another cgroup":                    `{"Folder": "/var/tmp/homelab-rehearsal-1", "Cgroups": "docker"}`,
		"a cgroup with a path":              `{"Folder": "/var/tmp/homelab-rehearsal-1", "Cgroups": "homelab-rehearsal-1/../docker"}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "record.json")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if s, found, err := Load(path); err == nil || found {
				t.Errorf("it was taken: %+v", s)
			}
		})
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	s := State{Folder: filepath.Join(dir, Prefix+"-1"), Cgroups: Prefix + "-of-a-test"}
	if err := os.MkdirAll(filepath.Join(s.Folder, "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "record.json")
	if err := s.Save(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(path); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestAliveKnowsAProcessByItsStart(t *testing.T) {
	started, err := StartOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if s := (State{PID: os.Getpid(), Started: started}); !s.Alive() {
		t.Error("this process is not alive")
	}
	if s := (State{PID: os.Getpid(), Started: started + 1}); s.Alive() {
		t.Error("another process of the same number counts as this one")
	}
}

func TestStartIn(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20"
	for name, stat := range map[string]string{"a plain name": "12 (sh)" + rest, "a name with blanks and brackets": "12 (a) b (c)" + rest} {
		if got, err := startIn(stat); err != nil || got != 4711 {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	for name, stat := range map[string]string{"nothing": "", "a short line": "12 (sh) S 1"} {
		if _, err := startIn(stat); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
