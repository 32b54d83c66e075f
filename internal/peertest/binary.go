package peertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"sync"
	"testing"
)

// binaryDir is where Build builds; Main makes it.
var binaryDir string

// Main runs the tests of a package that calls Build, and returns their exit code.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "binary")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaryDir = dir
	return m.Run()
}

// Build returns the path of the product's binary, which is built once, in the way
// of this test binary, so that most of it is in Go's cache.
func Build(t testing.TB) string {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

var build = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(binaryDir, "runner")
	args := []string{"build", "-buildvcs=false", "-o", binary}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "-race" || setting.Key == "-gcflags" {
				args = append(args, setting.Key+"="+setting.Value)
			}
		}
	}
	if out, err := exec.Command("go", append(args, "davidcockson.com/runner/cmd/runner")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return binary, nil
})
