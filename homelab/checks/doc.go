// Package checks holds the homelab's files against each other, without a container.
//
// Its tests promise: each compose file loads as compose loads it; every service has a
// pinned image and what keeps it in its bounds; what is published is what ports.yaml
// says; no secret stands in a file; and whatever names something elsewhere (nginx an
// upstream, Prometheus a target, a query a metric, a mount a file) names what is there.
// What a peer can judge, it judges: nginx, promtool, yamllint, shellcheck, systemd.
//
// TestEachCheckGoesRed breaks a copy of the tree for each of them, and each of what they say
// has a row that makes them say it: complaints_test.go reads it from their source.
package checks
