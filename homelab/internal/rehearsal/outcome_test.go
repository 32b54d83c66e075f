package rehearsal

import (
	"slices"
	"testing"
)

func TestRecap(t *testing.T) {
	const output = `TASK [one] ***
changed: [prod-services]

PLAY RECAP ***
dev-learning               : ok=29   changed=7    unreachable=0    failed=0    skipped=6
prod-services              : ok=46   changed=10   unreachable=0    failed=1    skipped=6
vps                        : ok=5    changed=0    unreachable=1    failed=0    skipped=6
`
	hosts, ok, changed, failed := Recap(output)
	if got := []int{hosts, ok, changed, failed}; !slices.Equal(got, []int{3, 80, 17, 2}) {
		t.Errorf("hosts, ok, changed, failed: %v", got)
	}
	if hosts, _, _, _ := Recap("ERROR! no inventory"); hosts != 0 {
		t.Error("an output without a recap has hosts")
	}
}

const evidence = `# Verification of the homelab

| 3 | SearXNG reachable: not this table | fail | refused |

## All that was tried

| from | to | what | verdict | seen |
| --- | --- | --- | --- | --- |
| contabo | http://100.64.0.10:8080/healthz | SearXNG answers on its Tailscale address | fail | refused |
| contabo | http://100.64.0.10:8080/search | SearXNG answers a search as JSON | fail | 429 |
| prod-services | docker | nginx is healthy | pass | running \| healthy |
| your browser | https://control.example.org | a browser shows it | not tried | only you can |

## What can be done

| a | b | c | d | e |
`

func TestFindings(t *testing.T) {
	all := Findings(evidence)
	want := Finding{"prod-services", "docker", "nginx is healthy", "pass", "running / healthy"}
	if len(all) != 4 || all[2] != want {
		t.Fatalf("%q", all)
	}
	for verdict, n := range map[string]int{"fail": 2, "pass": 1, "not tried": 1} {
		if got := Count(all, verdict); got != n {
			t.Errorf("%d are %q, want %d", got, verdict, n)
		}
	}
	if all := Findings("no evidence"); len(all) != 0 {
		t.Errorf("%q", all)
	}
}

func TestNamed(t *testing.T) {
	all := Findings(evidence)
	for name, row := range map[string]struct {
		what   string
		causes []string
		found  bool
	}{
		"the finding with its cause":          {"SearXNG answers a search", []string{"429"}, true},
		"one of two causes":                   {"on its Tailscale address", []string{"timeout", "refused"}, true},
		"another cause":                       {"SearXNG answers a search", []string{"403"}, false},
		"another finding with the same cause": {"Langfuse", []string{"429"}, false},
		"a finding that passed":               {"nginx", []string{"healthy"}, false},
	} {
		if _, ok := Named(all, row.what, row.causes...); ok != row.found {
			t.Errorf("%s: found %v", name, ok)
		}
	}
}
