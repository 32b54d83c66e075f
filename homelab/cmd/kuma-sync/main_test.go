package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExitCodes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "monitors.yaml")
	if err := os.WriteFile(file, []byte("admin: {name: admin, password: \"${PASSWORD}\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name      string
		arguments []string
		password  string // in the environment
		stdin     string
		code      int
		said      string
	}{
		{"no file", nil, "p", "", 2, "usage:"},
		{"a flag that is none", []string{"--nothing", file}, "p", "", 2, "not defined"},
		{"a file that is missing", []string{file + ".x"}, "p", "", 2, "read the declaration"},
		{"a variable that is not set", []string{file}, "", "", 2, "PASSWORD is not set"},
		{"a URL that is none", []string{"--url", "kuma", file}, "p", "", 1, "no http or https URL"},
		{"values, without the one that is wanted", []string{"--values", "-", file}, "p", `{"OTHER": "x"}`, 2, "PASSWORD is not set"},
		{"values that are none", []string{"--values", "-", file}, "p", `{"PASSWORD": 7}`, 2, "no JSON object of strings"},
		{"a file of values that is missing", []string{"--values", file + ".x", file}, "p", "", 2, "open the values"},
		{"values, and a server that is away", []string{"--values", "-", "--url", "http://127.0.0.1:1", file}, "", `{"PASSWORD": "p"}`, 1, "connect to http://127.0.0.1:1"},
		{"help", []string{"--help"}, "p", "", 0, "DECLARATION says"},
		{"a server that is away", []string{"--url", "http://127.0.0.1:1", file}, "p", "", 1, "connect to http://127.0.0.1:1"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			code := run(t.Context(), row.arguments, func(string) string { return row.password }, strings.NewReader(row.stdin), &stdout, &stderr)
			if code != row.code || !strings.Contains(stderr.String(), row.said) || stdout.Len() > 0 {
				t.Errorf("got %d, %q, %q", code, stdout.String(), stderr.String())
			}
		})
	}
}
