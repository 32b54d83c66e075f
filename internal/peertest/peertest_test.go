package peertest_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"davidcockson.com/runner/internal/peertest"
)

// ending records how a test under test ends, and ends its goroutine as testing does.
type ending struct {
	testing.TB
	how string
}

func (e *ending) Helper() {}

func (e *ending) Fatalf(string, ...any) { e.how = "failed"; runtime.Goexit() }

func (e *ending) Skipf(string, ...any) { e.how = "skipped"; runtime.Goexit() }

// end runs the test function to its end and tells how it ended.
func end(t *testing.T, f func(testing.TB)) string {
	e := &ending{TB: t, how: "went on"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(e)
	}()
	<-done
	return e.how
}

func TestNeed(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "syncthing"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, path, ci, want string }{
		{"with its peer a test goes on", bin, "", "went on"},
		{"with its peer a test goes on in CI too", bin, "true", "went on"},
		{"without its peer a test is skipped", "", "", "skipped"},
		{"without its peer a test fails in CI", "", "true", "failed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("PATH", row.path)
			t.Setenv("CI", row.ci)
			if got := end(t, func(t testing.TB) { peertest.Need(t, "syncthing") }); got != row.want {
				t.Errorf("the test %s, want %s", got, row.want)
			}
		})
	}
}

func TestSoak(t *testing.T) {
	for _, row := range []struct {
		name, soak  string
		short, full int
		want        int
		how         string
	}{
		{"not set, the short count counts", "", 20, 1000, 20, "went on"},
		{"a factor multiplies the short count", "3", 20, 1000, 60, "went on"},
		{"a large factor stops at the full count", "99999999999", 20, 1000, 1000, "went on"},
		{"full is the full count", "full", 20, 1000, 1000, "went on"},
		{"a word that means nothing fails the test", "long", 20, 1000, 0, "failed"},
		{"zero repetitions prove nothing, so the test fails", "0", 20, 1000, 0, "failed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("RUNNER_SOAK", row.soak)
			got := 0
			how := end(t, func(t testing.TB) { got = peertest.Soak(t, row.short, row.full) })
			if got != row.want || how != row.how {
				t.Errorf("%d and the test %s, want %d and %s", got, how, row.want, row.how)
			}
		})
	}
}
