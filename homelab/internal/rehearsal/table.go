// Package rehearsal holds what the rehearsal of the homelab says and remembers: the
// table of its steps, the record of what a run made, and how the output of Ansible and
// the evidence of a verification are read. It touches nothing but its own record.
package rehearsal

import (
	"fmt"
	"strings"
	"time"
)

// A Row is one step of a rehearsal.
type Row struct {
	Step     string
	Result   string // "pass", "FAIL" or "not tried"
	Evidence string // what was seen, in a few words
	Took     time.Duration
	Real     string // what of it was real and what a stand-in
}

// Table writes rows as a Markdown table whose columns line up. Line breaks and bars in a
// cell are replaced, so that each row stays one row of five cells.
func Table(rows []Row) string {
	cells := [][]string{{"step", "result", "evidence", "time", "real or stand-in"}}
	clean := strings.NewReplacer("|", "/", "\r", "", "\n", " ")
	for _, r := range rows {
		took := fmt.Sprintf("%.1f s", r.Took.Seconds())
		line := []string{r.Step, r.Result, r.Evidence, took, r.Real}
		for i := range line {
			line[i] = strings.TrimSpace(clean.Replace(line[i]))
		}
		cells = append(cells, line)
	}
	widths := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var out strings.Builder
	for n, line := range cells {
		for i, cell := range line {
			fmt.Fprintf(&out, "| %s%s ", cell, strings.Repeat(" ", widths[i]-len([]rune(cell))))
		}
		out.WriteString("|\n")
		if n == 0 {
			for _, width := range widths {
				fmt.Fprintf(&out, "| %s ", strings.Repeat("-", max(width, 3)))
			}
			out.WriteString("|\n")
		}
	}
	return out.String()
}

// Failed counts the rows that failed.
func Failed(rows []Row) (n int) {
	for _, r := range rows {
		if r.Result == "FAIL" {
			n++
		}
	}
	return n
}
