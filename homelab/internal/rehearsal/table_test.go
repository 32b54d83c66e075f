package rehearsal

import (
	"strings"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	rows := []Row{
		{"probe", "pass", "docker ran a container", 1300 * time.Millisecond, "real"},
		{"deploy", "FAIL", "a | b\nc", 61 * time.Second, "SearXNG stand-in"},
	}
	want := `| step   | result | evidence               | time   | real or stand-in |
| ------ | ------ | ---------------------- | ------ | ---------------- |
| probe  | pass   | docker ran a container | 1.3 s  | real             |
| deploy | FAIL   | a / b c                | 61.0 s | SearXNG stand-in |
`
	if got := Table(rows); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := Failed(rows); got != 1 {
		t.Errorf("%d rows failed, want 1", got)
	}
}

func TestTableCountsSignsAndNotBytes(t *testing.T) {
	lines := strings.Split(Table([]Row{{Step: "a → b", Result: "pass"}, {Step: "abcde", Result: "pass"}}), "\n")
	if a, b := len([]rune(lines[2])), len([]rune(lines[3])); a != b {
		t.Errorf("rows of %d and %d signs:\n%s", a, b, strings.Join(lines, "\n"))
	}
}
