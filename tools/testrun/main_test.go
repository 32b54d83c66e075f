package main

import (
	"slices"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	for _, row := range []struct {
		name, events, out string
		skipped           []string
	}{
		{name: "a package that passes shows its closing line alone",
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: noise\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`,
			out: "ok  \tp\t0.1s\n"},
		{name: "a test that fails shows all it said",
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: got 1\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- FAIL: TestA (0.00s)\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"FAIL\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
`,
			out: "=== RUN   TestA\n    a_test.go:1: got 1\n--- FAIL: TestA (0.00s)\nFAIL\nFAIL\tp\t0.1s\n"},
		{name: "a test that was cut short shows what it said",
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"panic: test timed out\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
`,
			out: "panic: test timed out\nFAIL\tp\t0.1s\n"},
		{name: "a package that does not compile shows the compiler's words",
			events: `{"ImportPath":"p","Action":"build-output","Output":"a.go:1: undefined: b\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","FailedBuild":"p"}
`,
			out: "a.go:1: undefined: b\nFAIL\tp [build failed]\n"},
		{name: "a test that skips itself is left out, with its reason",
			events: `{"Action":"output","Package":"p","Test":"TestPair","Output":"=== RUN   TestPair\n"}
{"Action":"output","Package":"p","Test":"TestPair","Output":"    a_test.go:9: no syncthing on PATH\n"}
{"Action":"output","Package":"p","Test":"TestPair","Output":"--- SKIP: TestPair (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestPair"}
`,
			skipped: []string{"TestPair (no syncthing on PATH)"}},
		{name: "a package without tests leaves nothing out",
			events: `{"Action":"output","Package":"p","Output":"?   \tp\t[no test files]\n"}
{"Action":"skip","Package":"p"}
`,
			out: "?   \tp\t[no test files]\n"},
		{name: "a line that is no event is shown, also without its end",
			events: "go: cannot find main module",
			out:    "go: cannot find main module"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var out strings.Builder
			skipped, err := report(strings.NewReader(row.events), &out)
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != row.out {
				t.Errorf("printed %q, want %q", out.String(), row.out)
			}
			if !slices.Equal(skipped, row.skipped) {
				t.Errorf("left out %q, want %q", skipped, row.skipped)
			}
		})
	}
}
