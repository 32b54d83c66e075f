package browsertest

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

//go:embed testdata/axe/axe.min.js
var axe string

// findings asks axe-core what is wrong with the page as it is now.
const findings = `axe.run(document, { resultTypes: ["violations"] }).then((r) => r.violations
	.filter((v) => v.impact === "serious" || v.impact === "critical")
	.flatMap((v) => v.nodes.map((n) => v.id + ": " + v.help + ": " + n.html + " " + n.failureSummary)))`

// accessible checks the page in light and in dark.
func (p *tab) accessible(what string) {
	p.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		p.scheme(scheme)
		eval[bool](p, axe+";true")
		for _, finding := range eval[[]string](p, findings) {
			p.t.Errorf("%s, %s: %s", what, scheme, finding)
		}
	}
}

func TestNobodyIsKeptOut(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.tab()
	p.allow(`^network: .*status of 40[14]`)
	p.open("/login")
	p.accessible("login")
	p.open(r.link())
	p.has("#choice option[value=" + quoted(gemma) + "]")
	p.accessible("an empty chat")
	p.open("/queue")
	p.sees("#recent", "The first job")
	p.unfold("#new-job")
	p.unfold("#new-job details.settings")
	p.accessible("an empty queue with the form")
	p.open("/chat/no-such-id")
	p.sees("h1", "Not Found")
	p.accessible("an error")

	r.furnish(p)
	p.open("/queue")
	p.sees("#waiting .state", "held")
	p.sees("#recent .state", "failed")
	p.sees("#active .live", "the river")
	p.accessible("a full queue")
	p.open("/health")
	p.sees("#health", "provider davas")
	p.accessible("health")
	p.open("/queue")
	p.click("#recent h3 a")
	p.sees("main", "Calls")
	p.accessible("a job")
	p.open("/chat")
	p.click("#talks a")
	p.has(".code pre")
	p.click("form.again button") // it waits behind the job
	p.sees("[data-phase]", "in line")
	p.accessible("a chat in line")
	p.click("button.stop")
	p.done()
	p.accessible("a chat with messages")
	p.send("echo/slow", strings.Repeat("and on it goes ", 400))
	p.until("it streams", "document.querySelector("+quoted(running)+")?.textContent.includes('and on it goes')")
	p.accessible("a chat that streams")
	p.click(`button[popovertarget="settings"]`)
	p.accessible("a conversation's settings")
}

func TestAxeIsAsItWasPublished(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("testdata/axe/README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` .*`([0-9a-f]{64})` \\|$").FindAllStringSubmatch(string(readme), -1)
	if len(rows) != 3 {
		t.Fatalf("%d files are named", len(rows))
	}
	for _, row := range rows {
		data, err := os.ReadFile(filepath.Join("testdata/axe", row[1]))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != row[2] {
			t.Errorf("%s is another file than its checksum says", row[1])
		}
	}
}
