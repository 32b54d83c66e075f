// Package peer finds other programs that a test runs, such as nginx or promtool.
//
// A test whose peer is absent skips itself with the reason; with CI=true that is a
// failure. Tests install nothing. Only tests import this package.
package peer

import (
	"cmp"
	"os"
	"os/exec"
	"testing"
)

// packages are Debian's for those programs whose package has another name.
var packages = map[string]string{
	"ansible-playbook": "ansible", "ansible-vault": "ansible", "nginx": "nginx-light",
	"promtool": "prometheus", "systemd-analyze": "systemd",
}

// Need returns the path of a program. Where it is not on PATH the test ends: skipped,
// or failed if CI=true.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		Absent(t, "no "+program+" on PATH: Debian's package "+cmp.Or(packages[program], program))
	}
	return path
}

// Absent ends a test that lacks something around it: skipped, or failed if CI=true.
func Absent(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}
