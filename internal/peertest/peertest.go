// Package peertest says what a test may count on around it: the peers, which are
// other programs such as Syncthing or the product itself, and how long it may go on.
//
// A test whose peer is absent skips itself with the reason, and make test names
// it at its end. With CI=true an absent peer is a failure. Tests install nothing.
// The product is built by the test that runs it. A process that was started does
// not outlive its test.
//
// How often a test repeats what it does at random is bounded by RUNNER_SOAK, for
// which make test takes SOAK. Only tests import this package.
package peertest

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// Need returns the path of a program that the test runs. Where it is not on PATH
// the test ends: skipped, or failed if CI=true.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("no %s on PATH", program)
	}
	t.Skipf("no %s on PATH", program)
	return ""
}

// Soak returns how often a test should repeat itself: short times RUNNER_SOAK, a
// whole number from 1 that is 1 when not set, and never more than full.
// RUNNER_SOAK=full gives full. Any other value fails the test.
func Soak(t testing.TB, short, full int) int {
	t.Helper()
	switch value := os.Getenv("RUNNER_SOAK"); value {
	case "":
		return min(short, full)
	case "full":
		return full
	default:
		factor, err := strconv.Atoi(value)
		if err != nil || factor < 1 {
			t.Fatalf("RUNNER_SOAK=%s: want a whole number from 1, or full", value)
		}
		if factor > full/max(short, 1) {
			return full
		}
		return short * factor
	}
}
