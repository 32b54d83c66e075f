package rehearsal

import (
	"regexp"
	"strconv"
	"strings"
)

var recap = regexp.MustCompile(`(?m)^([\w-]+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)`)

// Recap adds up the last lines of a playbook's output.
func Recap(output string) (hosts, ok, changed, failed int) {
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0 // the pattern lets only digits through; a number too long is no count
		}
		return n
	}
	for _, line := range recap.FindAllStringSubmatch(output, -1) {
		hosts++
		ok += number(line[2])
		changed += number(line[3])
		failed += number(line[4]) + number(line[5])
	}
	return hosts, ok, changed, failed
}

// A Finding is a row of the evidence of a verification.
type Finding struct{ From, To, What, Verdict, Seen string }

// Findings reads the table of all that was tried from the evidence.
func Findings(evidence string) (all []Finding) {
	_, table, _ := strings.Cut(evidence, "## All that was tried")
	table, _, _ = strings.Cut(table, "\n## ")
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.ReplaceAll(strings.TrimSpace(line), `\|`, "/"), "|")
		if len(cells) != 7 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[1] == "from" || strings.HasPrefix(cells[1], "---") {
			continue
		}
		all = append(all, Finding{cells[1], cells[2], cells[3], cells[4], cells[5]})
	}
	return all
}

// Count counts the findings of a verdict.
func Count(all []Finding, verdict string) (n int) {
	for _, f := range all {
		if f.Verdict == verdict {
			n++
		}
	}
	return n
}

// Named finds the failed finding whose description contains what and that saw one of the
// causes, and says whether there is one.
func Named(all []Finding, what string, causes ...string) (Finding, bool) {
	for _, f := range all {
		if f.Verdict != "fail" || !strings.Contains(f.What, what) {
			continue
		}
		for _, cause := range causes {
			if strings.Contains(f.Seen, cause) {
				return f, true
			}
		}
	}
	return Finding{}, false
}
