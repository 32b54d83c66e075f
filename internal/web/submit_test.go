package web

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// options are the values of a select, and which is chosen.
func (d *dom) options() (values []string, chosen string) {
	for _, n := range d.all(func(n *html.Node) bool { return n.Data == "option" }) {
		values = append(values, attr(n, "value"))
		if (&dom{d.t, n}).has("selected") {
			chosen = attr(n, "value")
		}
	}
	return values, chosen
}

func TestAFormMakesANote(t *testing.T) {
	for _, row := range []struct {
		name string
		form url.Values
		want string // the note, without the line of its id
	}{
		{"the fewest words", url.Values{"job_type": {"text"}, "body": {"Why?"}}, "---\njob_type: text\n---\n\nWhy?\n"},
		{"fields left empty are not written", url.Values{"job_type": {"text"}, "choice": {""}, "title": {" "}, "temperature": {""}, "tags": {""}, "context": {"\r\n"}, "not_before": {""}, "body": {"Why?"}},
			"---\njob_type: text\n---\n\nWhy?\n"},
		{"a provider's first model", url.Values{"job_type": {"text"}, "choice": {"echo/"}, "body": {"Why?"}}, "---\njob_type: text\nprovider: echo\n---\n\nWhy?\n"},
		{"a model with a slash in its name", url.Values{"job_type": {"text"}, "choice": {"echo/org/slow"}, "body": {"Why?"}}, "---\njob_type: text\nprovider: echo\nmodel: org/slow\n---\n\nWhy?\n"},
		{"everything", url.Values{"job_type": {"chain"}, "title": {"Rivers: all"}, "choice": {"echo/echo"}, "system": {"Be brief.\r\nAlways."}, "temperature": {"0.5"}, "max_tokens": {"100"},
			"timeout": {"20m"}, "retry": {"never"}, "priority": {"-3"}, "not_before": {"2026-12-31T08:00"}, "tags": {"home, no"}, "context": {"[[Bees, in winter]]\r\n[[Hive#Heating]]\r\n"},
			"body": {"## One\r\nWhy?\r\n## Two\r\nWhy not?"}},
			"---\njob_type: chain\ntitle: \"Rivers: all\"\nprovider: echo\nmodel: echo\nsystem: \"Be brief.\\nAlways.\"\ntemperature: 0.5\nmax_tokens: 100\ntimeout: \"20m\"\nretry: never\npriority: -3\n" +
				"not_before: \"2026-12-31T08:00\"\ntags: [\"home\", \"no\"]\ncontext: [\"[[Bees, in winter]]\", \"[[Hive#Heating]]\"]\n---\n\n## One\nWhy?\n## Two\nWhy not?\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPanel(t, newFakeJobs(t))
			if w := p.post("/queue/jobs", row.form); w.Code != 303 || w.Header().Get("Location") != "/queue" {
				t.Fatalf("%d to %q: %s", w.Code, w.Header().Get("Location"), w.Body)
			}
			if got := withoutID(p.jobs.submitted(t)); got != row.want {
				t.Errorf("the note is\n%s\nwant\n%s", got, row.want)
			}
		})
	}
}

func withoutID(text string) string {
	lines := strings.Split(text, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "id: ") }), "\n")
}

func TestAFormsErrorStandsBesideItsFieldAndNothingTypedIsLost(t *testing.T) {
	typed := url.Values{"job_type": {"chain"}, "choice": {"echo/org/slow"}, "title": {`A "title"`}, "body": {"\n## One\nWhy & how?"}, "system": {"Be <brief>."},
		"temperature": {"0.5"}, "max_tokens": {"7"}, "timeout": {"20m"}, "retry": {"never"}, "priority": {"1"}, "not_before": {"2026-12-31T08:00"}, "tags": {"home, garden"}, "context": {"[[Bees]]"}}
	for _, row := range []struct {
		name, field, value string
		wrong              string // the field that shows it
		reason             string
	}{
		{"no prompt", "body", " ", "body", "a chain needs at least one step"},
		{"a prompt without a step", "body", "Why?", "body", "a chain needs at least one step"},
		{"a type that is none", "job_type", "essay", "job_type", `"essay" is not known`},
		{"an unknown provider", "choice", "nobody/x", "choice", `"nobody" is not configured`},
		{"an unknown model", "choice", "echo/gpt", "choice", "not among the models"},
		{"a title that is too long", "title", strings.Repeat("a", 301), "title", "longer than 300 bytes"},
		{"words for a number", "temperature", "hot", "temperature", "has to be a number"},
		{"a number out of range", "temperature", "3", "temperature", "between 0 and 2"},
		{"no number at all", "temperature", "NaN", "temperature", "has to be a number"},
		{"a fraction of a token", "max_tokens", "1.5", "max_tokens", "whole number"},
		{"no time limit", "timeout", "soon", "timeout", "no time limit"},
		{"no such retry", "retry", "always", "retry", "say never"},
		{"a priority out of range", "priority", "9999", "priority", "between -1000 and 1000"},
		{"no date", "not_before", "tomorrow", "not_before", "no date & time"},
		{"no link", "context", "Bees", "context", "link"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPanel(t, newFakeJobs(t))
			form := url.Values{}
			for key, v := range typed {
				form[key] = v
			}
			form.Set(row.field, row.value)
			w := p.post("/queue/jobs", form)
			d := p.read(w, 422)
			if wrong := d.id("job-" + row.wrong + "-error"); wrong.has("hidden") || !strings.Contains(wrong.text(), row.reason) {
				t.Errorf("beside %s stands %q, want %q", row.wrong, wrong.text(), row.reason)
			}
			shown := 0
			for _, n := range d.all(hasAttr("data-error-for")) {
				if !(&dom{t, n}).has("hidden") {
					shown++
				}
			}
			if shown != 1 {
				t.Errorf("%d errors are shown, want one", shown)
			}
			if d.field(row.wrong).attr("aria-invalid") != "true" && row.wrong != "retry" {
				t.Errorf("the field %s is not marked", row.wrong)
			}
			if !d.id("new-job").has("open") {
				t.Error("the form is folded away")
			}
			for field := range typed {
				switch c := d.field(field); c.root.Data {
				case "select":
					if _, chosen := c.options(); chosen != form.Get(field) && field != row.field {
						t.Errorf("%s is %q, typed was %q", field, chosen, form.Get(field))
					}
				case "textarea":
					// A parser leaves out one line break after the tag.
					if got, want := c.root.FirstChild, form.Get(field); strings.TrimSpace(want) != "" && (got == nil || got.Data != want) {
						t.Errorf("%s holds %v, typed was %q", field, got, want)
					}
				default:
					if field != "retry" && c.attr("value") != form.Get(field) {
						t.Errorf("%s is %q, typed was %q", field, c.attr("value"), form.Get(field))
					}
				}
			}
			if !d.field("retry").has("checked") && row.field != "retry" {
				t.Error("retry is no longer ticked")
			}
			entries, err := p.jobs.vault.List("_queue")
			if err != nil || len(entries) > 0 {
				t.Errorf("a note was written: %v, %v", entries, err)
			}

			w = p.post("/queue/jobs", form, "HX-Request", "true")
			if w.Code != 422 || !strings.Contains(w.Body.String(), `"field":"`+row.wrong+`"`) || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("a page's script gets %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestTheModelPickerHasWhatTheProvidersOffer(t *testing.T) {
	d := newPanel(t, newFakeJobs(t)).page("/queue", 200)
	values, chosen := d.field("choice").options()
	if want := []string{"", "echo/", "echo/echo", "echo/org/slow"}; !slices.Equal(values, want) || chosen != "" {
		t.Errorf("the choices are %q (%q), want %q", values, chosen, want)
	}
}

func TestAProgramHandsInAJob(t *testing.T) {
	p := newPanel(t, newFakeJobs(t))
	w := p.do("POST", "/queue/jobs", `{"job_type":"text","model":"echo","temperature":0.5,"max_tokens":40,"priority":null,"tags":["a, b"],"title":"7","prompt":"Why?"}`, "Content-Type", "application/json")
	note := p.jobs.submitted(t)
	if w.Code != 201 || !strings.HasPrefix(w.Body.String(), `{"id":"20261124-120000-`) || !strings.Contains(w.Body.String(), `"note":"_queue/7-2026`) || !strings.HasPrefix(w.Header().Get("Location"), "/queue/jobs/2026") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if got, want := withoutID(note), "---\njob_type: text\ntitle: \"7\"\nmodel: echo\ntemperature: 0.5\nmax_tokens: 40\ntags: [\"a, b\"]\n---\n\nWhy?\n"; got != want {
		t.Errorf("the note is\n%s\nwant\n%s", got, want)
	}
}

func TestAPageGoesBackToTheQueue(t *testing.T) {
	p := newPanel(t, newFakeJobs(t))
	w := p.post("/queue/jobs", url.Values{"job_type": {"text"}, "body": {"Why?"}}, "HX-Request", "true")
	if w.Code != 201 || w.Header().Get("HX-Redirect") != "/queue" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestWhatIsNoJobIsRefused(t *testing.T) {
	for _, row := range []struct {
		name, kind, body string
		status           int
		field, reason    string
	}{
		{"an unknown key", "application/json", `{"job_type":"text","colour":"red","body":"Why?"}`, 422, "colour", "no key of a job"},
		{"an id of the caller's own", "application/json", `{"job_type":"text","id":"x","body":"Why?"}`, 422, "id", "no key of a job"},
		{"an unknown field of a form", "application/x-www-form-urlencoded", "job_type=text&body=Why&colour=red", 422, "colour", "no key of a job"},
		{"no prompt", "application/json", `{"job_type":"text"}`, 422, "body", "the prompt is missing"},
		{"no type", "application/json", `{"body":"Why?"}`, 422, "job_type", "missing"},
		{"nothing", "application/json", `null`, 422, "job_type", "missing"},
		{"two prompts", "application/json", `{"job_type":"text","body":"Why?","prompt":"Why not?"}`, 422, "prompt", "either body or prompt"},
		{"a prompt that is no text", "application/json", `{"job_type":"text","body":7}`, 422, "body", "has to be text"},
		{"a number that is text", "application/json", `{"job_type":"text","temperature":"hot","body":"Why?"}`, 422, "temperature", "has to be a number"},
		{"a number beyond all", "application/json", `{"job_type":"text","temperature":1e999,"body":"Why?"}`, 422, "temperature", "has to be a number"},
		{"a list with something else in it", "application/json", `{"job_type":"text","tags":["a",7],"body":"Why?"}`, 422, "tags", "list of texts"},
		{"an object", "application/json", `{"job_type":"text","tags":{"a":7},"body":"Why?"}`, 422, "tags", "list of texts"},
		{"no JSON", "application/json", `{`, 400, "", "no JSON"},
		{"a list of jobs", "application/json", `[]`, 400, "", "no JSON"},
		{"two values", "application/json", `{} {}`, 400, "", "more than one"},
		{"another type", "text/plain", "Why?", 415, "", "send application/json"},
		{"no type", "", "Why?", 415, "", "send application/json"},
		{"a file's form", "multipart/form-data; boundary=x", "--x--", 415, "", "send application/json"},
		{"more than 1 MiB", "application/json", `{"body":"` + strings.Repeat("a", 1<<20) + `"}`, 413, "", "1 MiB"},
		{"a form of more than 1 MiB", "application/x-www-form-urlencoded", "body=" + strings.Repeat("a", 1<<20), 413, "", "1 MiB"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPanel(t, newFakeJobs(t))
			w := p.do("POST", "/queue/jobs", row.body, "Content-Type", row.kind)
			if body := w.Body.String(); w.Code != row.status || !strings.Contains(body, row.reason) || row.field != "" && !strings.Contains(body, `"field":"`+row.field+`"`) {
				t.Errorf("%d %s, want %d, %q, field %q", w.Code, w.Body, row.status, row.reason, row.field)
			}
			if entries, err := p.jobs.vault.List("_queue"); err != nil || len(entries) > 0 {
				t.Errorf("a note was written: %v, %v", entries, err)
			}
		})
	}
}
