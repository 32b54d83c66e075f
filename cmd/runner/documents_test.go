package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the commands in docs/commands.md anew")

const (
	documentPath  = "../../docs/commands.md"
	commandsBegin = "<!-- commands: begin; written by go test ./cmd/runner -update -->\n"
	commandsEnd   = "<!-- commands: end -->\n"
)

func TestDocumentIsUpToDate(t *testing.T) {
	data, err := os.ReadFile(documentPath)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), commandsBegin)
	got, after, ok2 := strings.Cut(rest, commandsEnd)
	if !ok || !ok2 {
		t.Fatal("docs/commands.md lacks the marks around its commands")
	}
	want := reference()
	if *update {
		if err := os.WriteFile(documentPath, []byte(before+commandsBegin+want+commandsEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		got = want
	}
	if got != want {
		t.Error("docs/commands.md differs from the commands; run go test ./cmd/runner -update")
	}
	for _, state := range states() {
		if !strings.Contains(before, "| `"+state+"` |") {
			t.Errorf("docs/commands.md does not tell of the state %q", state)
		}
	}
}

// reference is the part of docs/commands.md that follows from the code: every
// command with its flags, and the exit codes.
func reference() string {
	var b strings.Builder
	b.WriteString("\n## The commands and their flags\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "\n### `runner %s`\n\n%s.\n", strings.TrimSpace(c.name+" "+c.args), strings.ToUpper(c.short[:1])+c.short[1:])
		flags := false
		c.flagSet(&options{}).VisitAll(func(f *pflag.Flag) {
			if f.Name == "config" {
				return // told once, at the top
			}
			if !flags {
				b.WriteString("\n| flag | meaning |\n| --- | --- |\n")
				flags = true
			}
			value, about := pflag.UnquoteUsage(f)
			name := "--" + f.Name
			if f.Value.Type() != "bool" {
				name += " " + strings.ToUpper(value)
			}
			if f.Value.Type() == "string" && f.DefValue != "" {
				about += " (default: " + f.DefValue + ")"
			}
			fmt.Fprintf(&b, "| `%s` | %s |\n", name, about)
		})
	}
	b.WriteString("\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n")
	for code, meaning := range exitCodes() {
		fmt.Fprintf(&b, "| %d | %s |\n", code, meaning)
	}
	b.WriteString("\n")
	return b.String()
}

func TestHelpNamesEveryCommandAndExitCode(t *testing.T) {
	var out strings.Builder
	if code := run(t.Context(), []string{"help"}, environment{stdout: &out, stderr: &out}); code != exitOK {
		t.Fatalf("exit code %d: %s", code, out.String())
	}
	for _, c := range commands() {
		if !strings.Contains(out.String(), "\n  "+c.name+" ") {
			t.Errorf("help does not name %s", c.name)
		}
	}
	if got := len(exitCodes()); got != exitJob+1 {
		t.Errorf("%d exit codes are told, there are %d", got, exitJob+1)
	}
	for code, meaning := range exitCodes() {
		if meaning == "" || !strings.Contains(out.String(), fmt.Sprintf("\n  %d  %s\n", code, meaning)) {
			t.Errorf("help does not tell exit code %d", code)
		}
	}
}
