package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestARunFits(t *testing.T) {
	const rest = "MemTotal:       33554432 kB\nMemFree:          123456 kB\n"
	for name, c := range map[string]struct {
		meminfo, want string
		refused       bool
	}{
		"enough":     {meminfo: rest + "MemAvailable:   30000000 kB\n"},
		"too little": {meminfo: rest + "MemAvailable:    1048576 kB\n", want: "1.0 GiB of memory", refused: true},
		"no count":   {meminfo: rest, want: "no MemAvailable"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "meminfo")
			if err := os.WriteFile(path, []byte(c.meminfo), 0o600); err != nil {
				t.Fatal(err)
			}
			err := fits(t.TempDir(), path)
			if c.want == "" && err != nil && !strings.Contains(err.Error(), "free of the") {
				t.Fatal(err) // the disk of the test's own machine may be full
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, errNotRehearsed) != c.refused) {
				t.Errorf("%v", err)
			}
		})
	}
}
