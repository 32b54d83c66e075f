package web

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/health"
)

func partIn(name string, state health.State) health.Part {
	return health.Part{Name: name, State: state, Since: noon, Probed: noon, LatencyMS: 12, Text: "seen of " + name}
}

func core(p health.Part) health.Part { p.Core = true; return p }

func TestHealthSaysFirstWhatIsWrong(t *testing.T) {
	for _, row := range []struct {
		name    string
		status  health.Status
		parts   []health.Part
		code    int
		class   string
		summary string
		order   []string
	}{
		{"everything is well", health.Healthy, []health.Part{core(partIn("vault", health.OK)), partIn("Groq", health.OK)}, 200, "notice", "Everything works.", []string{"vault", "Groq"}},
		{"something is slow", health.Degraded, []health.Part{core(partIn("vault", health.OK)), core(partIn("disk", health.Slow)), partIn("Groq", health.WrongKey)}, 200, "notice warn",
			"Jobs run; not all that they may need is well: disk, Groq.", []string{"disk", "Groq", "vault"}},
		{"no job can run", health.Broken, []health.Part{partIn("Groq", health.Down), core(partIn("vault", health.OK)), core(partIn("worker", health.Failing))}, 503, "notice error",
			"No job can run: worker.", []string{"worker", "Groq", "vault"}},
		{"what is not configured comes last", health.Healthy, []health.Part{{Name: "Qdrant", State: health.NotConfigured}, core(partIn("vault", health.OK))}, 200, "notice", "Everything works.", []string{"vault", "Qdrant"}},
		{"nothing is known yet", health.Healthy, []health.Part{{Name: "vault", State: health.NotConfigured, Core: true}}, 200, "notice", "Nothing has been looked at yet.", []string{"vault"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPanel(t, newFakeJobs(t))
			p.report = health.Report{Status: row.status, Time: noon, Parts: row.parts}
			d := p.page("/health", row.code).id("health")
			if got := d.class("notice")[0]; got.text() != row.summary || got.attr("class") != row.class {
				t.Errorf("it says %q (%s), want %q (%s)", got.text(), got.attr("class"), row.summary, row.class)
			}
			var order []string
			for _, c := range d.class("part") {
				name, _, _ := strings.Cut(c.attr("aria-label"), ":")
				order = append(order, name)
			}
			if !slices.Equal(order, row.order) {
				t.Errorf("the parts are in the order %q, want %q", order, row.order)
			}
		})
	}
}

func TestEachStateHasItsOwnWordCauseAndAdvice(t *testing.T) {
	for _, state := range []health.State{health.OK, health.Slow, health.Down, health.WrongKey, health.ModelMissing, health.Failing} {
		t.Run(string(state), func(t *testing.T) {
			p := newPanel(t, newFakeJobs(t))
			one := partIn("Groq", state)
			one.Text, one.Advice = hostile, "look at <the> key"
			p.report.Parts = []health.Part{one}
			card := p.page("/health", 200).class("part")[0]
			card.says(string(state), hostile, "What to do: look at <the> key", "24 Nov 12:00", "12 ms")
			if want := "part " + strings.ReplaceAll(string(state), " ", "-"); card.attr("class") != want {
				t.Errorf("the class is %q, want %q", card.attr("class"), want)
			}
		})
	}
}

func TestHealthForMonitorsIsWhatTheOtherPortServes(t *testing.T) {
	for _, row := range []struct {
		name  string
		check func(context.Context) (string, error)
	}{
		{"all is well", func(context.Context) (string, error) { return "it <looks> well", nil }},
		{"no job can run", func(context.Context) (string, error) { return "", &health.Problem{State: health.Down, Reason: "gone"} }},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPanel(t, newFakeJobs(t))
			synctest.Test(t, func(t *testing.T) { // where time stands still, both say the same time
				c := health.New("1.2", health.Probe{Name: "vault", Core: true, Check: row.check}, health.Probe{Name: "Qdrant"})
				want := httptest.NewRecorder()
				c.Handler().ServeHTTP(want, httptest.NewRequest("GET", "/", nil))
				p.report = c.Report(t.Context())
				got := p.get("/health", asProgram)
				if got.Code != want.Code || got.Body.String() != want.Body.String() || got.Header().Get("Content-Type") != want.Header().Get("Content-Type") {
					t.Errorf("got %d %s, want %d %s", got.Code, got.Body, want.Code, want.Body)
				}
			})
		})
	}
}

func TestHealthIsSentAnewOnlyWhenItChanges(t *testing.T) {
	p := newPanel(t, newFakeJobs(t))
	p.report.Parts = []health.Part{partIn("vault", health.OK)}
	first, err := p.app.showHealth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.report.Time = noon.Add(time.Minute)
	p.report.Parts[0].Probed = noon.Add(time.Minute)
	second, err := p.app.showHealth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if string(first) != string(second) || !strings.HasPrefix(string(first), `<div id="health" hx-swap-oob="outerMorph">`) {
		t.Errorf("got\n%s\nthen\n%s", first, second)
	}
}
