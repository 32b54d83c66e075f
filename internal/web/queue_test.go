package web

import (
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
)

// One job of every kind that a page can show.
func everyJob() []control.Job {
	return []control.Job{
		{ID: "a1", Name: "rivers-a1.md", State: "active", JobType: "chain", Provider: "davas", Model: "gemma3:4b", Title: "Rivers", Attempt: 2, Folder: "_active", Started: noon, Step: 1, Steps: 3},
		{ID: "h1", Name: "held-h1.md", State: "held", Reason: "a call may have been billed", Folder: "_active"},
		{Name: "plan.sync-conflict-20261124-120000-ABC.md", State: "held", Reason: "a conflict copy of two edits", Folder: "_queue"},
		{ID: "c1", Name: "again & again?.md", State: "duplicate", Reason: "its id is that of a job that is completed", Folder: "_queue"},
		{Name: "half.md", State: "waiting", Reason: "the prompt is missing: in a note it stands below the frontmatter", Folder: "_queue", FirstSeen: noon},
		{ID: "w1", Name: "later.md", State: "waiting", Reason: "waits until tomorrow", Folder: "_queue", Priority: 5, NotBefore: noon.Add(time.Hour)},
		{ID: "f1", Name: "broken.md", State: "failed", Reason: "davas: the model is not there", JobType: "text", Provider: "davas", Model: "x", Folder: "_failed", Started: noon, Finished: noon.Add(90 * time.Second), Trace: "https://traces.example/f1"},
		{ID: "f2", Name: "broken too.md", State: "failed", Reason: "cut half-way", JobType: "chain", Folder: "_failed", Output: "runner-outputs/part.md"},
		{ID: "x1", Name: "stopped.md", State: "cancelled", Reason: "cancelled by its owner", JobType: "text", Folder: "_failed"},
		{ID: "c1", Name: "thames.md", State: "completed", JobType: "text", Provider: "echo", Model: "echo", Title: "The Thames", Folder: "_completed", Started: noon, Finished: noon.Add(2400 * time.Millisecond), Output: "runner-outputs/the thames.md"},
	}
}

func TestTheQueueShowsEachJobWithItsReasonFirst(t *testing.T) {
	d := newPanel(t, newFakeJobs(t, everyJob()...)).page("/queue", 200)

	active := d.id("active")
	active.says("active", "Rivers", "Step 1 of 3", "chain · davas / gemma3:4b · attempt 2", "Cancel")
	if since := active.all(hasAttr("data-since")); len(since) != 1 || attr(since[0], "data-since") != "2026-11-24T12:00:00Z" {
		t.Errorf("the time that ticks is %v", since)
	}

	waiting := d.id("waiting")
	waiting.says("Needs you", "held a call may have been billed", "Run", "Discard", "the prompt is missing", "waits until tomorrow", "priority 5")
	links := waiting.links()
	for _, want := range []string{"/queue/jobs/h1/retry", "/queue/jobs/h1/cancel", "/queue/jobs/again%20&%20again%3F.md/retry", "/queue/jobs/again%20&%20again%3F.md/cancel",
		"/queue/jobs/plan.sync-conflict-20261124-120000-ABC.md/cancel", "/queue/jobs/half.md/cancel", "/queue/jobs/later.md/cancel"} {
		if !slices.Contains(links, want) {
			t.Errorf("the link %s is missing in %q", want, links)
		}
	}
	if slices.Contains(links, "/queue/jobs/plan.sync-conflict-20261124-120000-ABC.md/retry") {
		t.Error("a conflict copy can be run")
	}

	recent := d.id("recent")
	jobs := recent.class("job")
	if len(jobs) != 4 {
		t.Fatalf("%d jobs have ended, want 4", len(jobs))
	}
	if text := jobs[0].text(); !strings.HasPrefix(text, "failed 24 Nov 12:01 took 1 min 30 s davas: the model is not there broken ") {
		t.Errorf("a failed job reads: %s", text)
	}
	if got, want := jobs[0].links(), []string{"/queue/jobs/f1", "obsidian://open?vault=My%20Vault&file=_failed%2Fbroken", "https://traces.example/f1", "/queue/jobs/f1/retry"}; !slices.Equal(got, want) {
		t.Errorf("its links are %q, want %q", got, want)
	}
	jobs[3].says("completed", "took 2.4 s", "The Thames", "Output")
	jobs[3].saysNot("Retry")
	if !slices.Contains(jobs[3].links(), "obsidian://open?vault=My%20Vault&file=runner-outputs%2Fthe%20thames") {
		t.Errorf("the output is not linked: %q", jobs[3].links())
	}
	if previews := jobs[3].all(hasAttr("hx-get")); len(previews) != 1 || attr(previews[0], "hx-get") != "/queue/jobs/c1?preview=1" {
		t.Errorf("the preview is %v", previews)
	}
	recent.says("Retry all 2 failed")
	for _, j := range d.class("job") {
		if len(j.class("state")) != 1 {
			t.Errorf("a job has no state in words: %s", j.text())
		}
	}
	if got := d.id("stream").attr("hx-sse:connect"); got != "/queue/stream" {
		t.Errorf("the page's stream is %q", got)
	}
}

func TestTheFirstJobIsTaught(t *testing.T) {
	d := newPanel(t, newFakeJobs(t)).page("/queue", 200)
	d.id("active").says("Nothing runs now.")
	d.id("waiting").says("Nothing waits.")
	d.id("recent").says("The first job", "_queue/", "job_type: text", "runner submit")
	if !d.id("new-job").has("open") {
		t.Error("the form is folded away")
	}
}

func TestWhatTheWorkerDoesIsSaid(t *testing.T) {
	for _, row := range []struct {
		name  string
		alter func(*fakeJobs)
		want  []string
	}{
		{"it claims", func(*fakeJobs) {}, []string{"A worker runs on davas, since 24 Nov 12:00"}},
		{"it claims nothing", func(f *fakeJobs) { f.status.Claiming, f.status.Reason = false, "the disk is full" }, []string{"claims nothing now", "the disk is full"}},
		{"none runs", func(f *fakeJobs) { f.away = true }, []string{"No worker runs", "runner worker", "_queue/"}},
		{"none runs, and nothing is known", func(f *fakeJobs) { f.away, f.broken = true, control.ErrNoWorker }, []string{"No worker runs"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			jobs := newFakeJobs(t)
			row.alter(jobs)
			newPanel(t, jobs).page("/queue", 200).id("worker").says(row.want...)
		})
	}
}

func TestFiltersStandInTheAddress(t *testing.T) {
	for _, row := range []struct {
		name, query string
		want        []string // ids of those that ended
		states      []string // that the worker is asked for
		stream      string
	}{
		{"none", "", []string{"f1", "f2", "x1", "c1"}, endStates(), "/queue/stream"},
		{"a state", "?state=failed", []string{"f1", "f2"}, []string{"failed"}, "/queue/stream?state=failed"},
		{"a type", "?type=chain", []string{"f2"}, endStates(), "/queue/stream?type=chain"},
		{"both", "?type=text&state=failed", []string{"f1"}, []string{"failed"}, "/queue/stream?state=failed&type=text"},
		{"nothing fits", "?state=completed&type=research", nil, []string{"completed"}, "/queue/stream?state=completed&type=research"},
	} {
		t.Run(row.name, func(t *testing.T) {
			jobs := newFakeJobs(t, everyJob()...)
			p := newPanel(t, jobs)
			d := p.page("/queue"+row.query, 200)
			if got := d.id("stream").attr("hx-sse:connect"); got != row.stream {
				t.Errorf("the stream is %q, want %q", got, row.stream)
			}
			shown := d.id("recent").class("job")
			if len(shown) != len(row.want) {
				t.Errorf("%d jobs are shown, want %v", len(shown), row.want)
			}
			if len(row.want) == 0 {
				d.id("recent").says("Show all")
			}
			if asked := jobs.asked[len(jobs.asked)-1]; !slices.Equal(asked.States, row.states) || asked.Limit == 0 {
				t.Errorf("the worker was asked for %+v", asked)
			}
			var got []control.Job
			p.json("/queue/recent"+row.query, 200, &got)
			ids := []string(nil)
			for _, j := range got {
				ids = append(ids, j.ID)
			}
			if !slices.Equal(ids, row.want) {
				t.Errorf("as JSON %v, want %v", ids, row.want)
			}
		})
	}
	p := newPanel(t, newFakeJobs(t))
	for _, query := range []string{"state=active", "type=essay", "limit=0", "limit=501", "limit=x"} {
		if w := p.get("/queue/recent?"+query, asProgram); w.Code != 400 {
			t.Errorf("%s: %d, want 400", query, w.Code)
		}
	}
	if w := p.get("/queue/stream?state=nonsense", asPage); w.Code != 400 {
		t.Errorf("a stream with a filter that is none: %d", w.Code)
	}
}

func TestALongQueueIsAskedForInPart(t *testing.T) {
	jobs := newFakeJobs(t)
	for i := range 1000 {
		jobs.jobs = append(jobs.jobs, control.Job{ID: fmt.Sprint("w", i), Name: fmt.Sprint("w", i, ".md"), State: "waiting", Folder: "_queue"},
			control.Job{ID: fmt.Sprint("c", i), Name: fmt.Sprint("c", i, ".md"), State: "completed"})
	}
	jobs.jobs[799].JobType = "chain" // the 400th of those that have ended
	p := newPanel(t, jobs)
	if n := len(p.page("/queue?type=chain", 200).id("recent").class("job")); n != 1 {
		t.Errorf("%d jobs of a rare type were found", n)
	}
	d := p.page("/queue", 200)
	if n := len(d.id("waiting").class("job")); n != mostOpen {
		t.Errorf("%d jobs wait, want %d", n, mostOpen)
	}
	d.id("waiting").says("There are more")
	if n := len(d.id("recent").class("job")); n != fewEnded {
		t.Errorf("%d jobs have ended, want %d", n, fewEnded)
	}
	if !slices.Contains(d.id("recent").links(), "/queue?more=1") {
		t.Error("there is no way to more")
	}
	if n := len(p.page("/queue?more=1", 200).id("recent").class("job")); n != moreEnded {
		t.Errorf("%d jobs have ended, want %d", n, moreEnded)
	}
	var recent []control.Job
	p.json("/queue/recent?limit=400", 200, &recent)
	if len(recent) != 400 {
		t.Errorf("%d jobs as JSON, want 400", len(recent))
	}
	for _, f := range jobs.asked {
		if f.Limit == 0 || f.Limit > searched {
			t.Errorf("the worker was asked for %+v", f)
		}
	}
}

func TestTheQueueAsJSON(t *testing.T) {
	p := newPanel(t, newFakeJobs(t, everyJob()...))
	var all struct {
		Worker                  *control.Status
		Waiting, Active, Recent []map[string]any
	}
	p.json("/queue", 200, &all)
	if all.Worker == nil || all.Worker.Host != "davas" || len(all.Waiting) != 5 || len(all.Active) != 1 || len(all.Recent) != 4 {
		t.Errorf("got %+v", all)
	}
	if one := all.Active[0]; one["id"] != "a1" || one["step"] != 1.0 || one["steps"] != 3.0 {
		t.Errorf("an active job is %v", one)
	}
	empty := newPanel(t, newFakeJobs(t))
	empty.jobs.away = true
	for target, want := range map[string]string{
		"/queue":        `{"worker":null,"waiting":[],"active":[],"recent":[]}`,
		"/queue/active": `[]`, "/queue/recent": `[]`,
	} {
		if w := empty.get(target, asProgram); strings.TrimSpace(w.Body.String()) != want || w.Code != 200 {
			t.Errorf("%s: %d %s, want %s", target, w.Code, w.Body, want)
		}
	}
	empty.jobs.broken = fmt.Errorf("canary: database is locked")
	if w := empty.get("/queue", asProgram); w.Code != 500 || strings.Contains(w.Body.String(), "canary") {
		t.Errorf("an inner error: %d %s", w.Code, w.Body)
	}
}

const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)>`

func TestWhatNotesAndProvidersSayStaysText(t *testing.T) {
	var all []control.Job
	for _, j := range everyJob() {
		j.ID, j.Name, j.Title, j.Reason, j.Model, j.Provider, j.Trace = j.ID+hostile, hostile+j.Name, hostile, hostile, hostile, hostile, "javascript:alert(3)"
		all = append(all, j)
	}
	jobs := newFakeJobs(t, all...)
	jobs.status.Claiming, jobs.status.Reason = false, hostile
	failed := all[7]
	failed.Output = "out.md"
	jobs.details["x"] = control.Detail{Job: failed, Error: hostile,
		Calls: []control.Call{{Provider: hostile, Model: hostile, Reason: hostile, State: "failed"}}}
	jobs.notes["out.md"] = "# Hello\n\n" + hostile + "\n\n[click](javascript:alert(4)) ![](https://evil.example/x.png)"
	p := newPanel(t, jobs)
	stream(t, jobs.hub, all[0].ID, provider.Event{Kind: provider.TextEvent, Text: hostile}, provider.Event{Kind: provider.StepEvent, Step: 1, Text: hostile})
	d := p.page("/queue", 200) // page checks that nothing of it is markup
	d.id("active").says(hostile)
	d.id("waiting").says(hostile)
	d.id("recent").says(hostile)
	d.id("worker").says(hostile)
	p.page("/queue/jobs/x", 200).says(hostile, "Hello", "click")
	p.read(p.get("/queue/jobs/x?preview=1", asPage), 200).says("Hello", "alert(1)")
}

func TestAJobsPage(t *testing.T) {
	all := everyJob()
	jobs := newFakeJobs(t, all...)
	calls := []control.Call{{Step: 1, Attempt: 1, Try: 2, Provider: "davas", Model: "gemma3:4b", State: "answered", Billed: true, Read: 12, Written: 34, Started: noon, Took: 1500 * time.Millisecond}}
	for i, j := range all {
		jobs.details[fmt.Sprint(i)] = control.Detail{Job: j, Calls: calls}
	}
	jobs.details["6"] = control.Detail{Job: all[6], Error: "the whole story"}
	jobs.notes["runner-outputs/the thames.md"] = "It begins at **Kemble**."
	p := newPanel(t, jobs)
	for i, want := range [][]string{
		{"Rivers", "1 of 3", "Cancel", "davas / gemma3:4b", "1, try 2", "12", "34", "1.5 s"},
		{"held", "a call may have been billed", "Run", "Discard"},
		{"a conflict copy", "Discard"},
		{"duplicate", "Run", "Discard"},
		{"the prompt is missing", "Cancel"},
		{"waits until tomorrow", "Not before"},
		{"davas: the model is not there", "the whole story", "Retry", "Nobody has been asked"},
		{"cut half-way", "no longer where it was written"},
		{"cancelled by its owner", "Retry"},
		{"completed", "The Thames", "It begins at Kemble"},
	} {
		t.Run(all[i].State+" "+all[i].Name, func(t *testing.T) {
			p.t = t
			p.page(fmt.Sprint("/queue/jobs/", i), 200).says(want...)
		})
	}
	p.t = t
	p.page("/queue/jobs/9", 200).saysNot("Retry", "Cancel", "Discard")
	p.page("/queue/jobs/2", 200).saysNot("Run ")

	var d control.Detail
	p.json("/queue/jobs/0", 200, &d)
	if !reflect.DeepEqual(d, jobs.details["0"]) {
		t.Errorf("as JSON %+v", d)
	}
	if w := p.get("/queue/jobs/6", asProgram); !strings.Contains(w.Body.String(), `"calls":[]`) {
		t.Errorf("no calls are not []: %s", w.Body)
	}
	p.page("/queue/jobs/nobody", 404).says("there is no job nobody")
	p.json("/queue/jobs/nobody", 404, nil)
}

func TestAPreviewIsTheBeginning(t *testing.T) {
	jobs := newFakeJobs(t)
	jobs.details["c"] = control.Detail{Job: control.Job{ID: "c", State: "completed", Output: "long.md"}}
	jobs.details["n"] = control.Detail{Job: control.Job{ID: "n", State: "cancelled"}}
	jobs.notes["long.md"] = strings.Repeat("word ", shortPreview)
	p := newPanel(t, jobs)
	d := p.read(p.do("GET", "/queue/jobs/c?preview=1", "", "HX-Request", "true", "Accept", "text/html"), 200)
	d.says("word", "This is its beginning.")
	if n := len(d.text()); n > shortPreview+100 {
		t.Errorf("the preview has %d bytes", n)
	}
	p.read(p.get("/queue/jobs/n?preview=1", asPage), 200).says("no output")
}

func TestRetryAndCancel(t *testing.T) {
	for _, row := range []struct {
		name, target string
		moved        string
	}{
		{"a failed job is tried again", "/queue/jobs/f1/retry", "retry f1"},
		{"a note is named by its name", "/queue/jobs/again%20&%20again%3F.md/retry", "retry again & again?.md"},
		{"a job is cancelled", "/queue/jobs/a1/cancel", "cancel a1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			jobs := newFakeJobs(t)
			p := newPanel(t, jobs)
			if w := p.post(row.target, nil); w.Code != 303 || w.Header().Get("Location") != "/queue" {
				t.Errorf("a form: %d to %q", w.Code, w.Header().Get("Location"))
			}
			if w := p.post(row.target, nil, "HX-Request", "true"); w.Code != 204 {
				t.Errorf("a page: %d", w.Code)
			}
			if w := p.do("POST", row.target, "", "Accept", asProgram); w.Code != 200 || !strings.Contains(w.Body.String(), `"state":"waiting"`) {
				t.Errorf("a program: %d %s", w.Code, w.Body)
			}
			if want := []string{row.moved, row.moved, row.moved}; !slices.Equal(jobs.moved, want) {
				t.Errorf("the worker did %q, want %q", jobs.moved, want)
			}
		})
	}
	jobs := newFakeJobs(t)
	jobs.refused["c1"] = &control.Error{Code: control.Conflict, Text: "job c1 is completed"}
	p := newPanel(t, jobs)
	p.read(p.post("/queue/jobs/c1/retry", nil), 409).says("job c1 is completed")
	if w := p.post("/queue/jobs/c1/retry", nil, "HX-Request", "true"); w.Code != 409 || strings.TrimSpace(w.Body.String()) != `{"error":"job c1 is completed"}` {
		t.Errorf("a page: %d %s", w.Code, w.Body)
	}
	jobs.away = true
	p.read(p.post("/queue/jobs/f1/cancel", nil), 503).says("no worker runs", "runner worker")
}

func TestAllFailedJobsAreTriedAgainAtOnce(t *testing.T) {
	jobs := newFakeJobs(t)
	p := newPanel(t, jobs)
	if w := p.post("/queue/jobs/*/retry", url.Values{"job": {"f1", "f2"}}); w.Code != 303 || !slices.Equal(jobs.moved, []string{"retry f1", "retry f2"}) {
		t.Errorf("%d, the worker did %q", w.Code, jobs.moved)
	}
	jobs.moved, jobs.refused["f1"] = nil, &control.Error{Code: control.Conflict, Text: "f1 was refused"}
	w := p.do("POST", "/queue/jobs/*/retry", `{"jobs":["f1","f2"]}`, "Content-Type", "application/json")
	if w.Code != 409 || !strings.Contains(w.Body.String(), "1 of 2") || !strings.Contains(w.Body.String(), "f1 was refused") || !slices.Equal(jobs.moved, []string{"retry f2"}) {
		t.Errorf("%d %s, the worker did %q", w.Code, w.Body, jobs.moved)
	}
	if w := p.post("/queue/jobs/*/retry", nil); w.Code != 422 {
		t.Errorf("nothing named: %d", w.Code)
	}
	jobs.away = true
	if w := p.post("/queue/jobs/*/retry", url.Values{"job": {"f2"}}); w.Code != 503 {
		t.Errorf("no worker: %d", w.Code)
	}
}

// json reads an answer that a program asked for.
func (p *panel) json(target string, status int, v any) {
	p.t.Helper()
	w := p.get(target, asProgram)
	if w.Code != status || w.Header().Get("Content-Type") != "application/json" {
		p.t.Fatalf("%s: %d %v %s", target, w.Code, w.Header(), w.Body)
	}
	if v == nil {
		return
	}
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
		p.t.Fatal(err)
	}
}

func hasAttr(name string) func(n *html.Node) bool {
	return func(n *html.Node) bool { return attr(n, name) != "" }
}

// stream opens a job's stream with some events in it.
func stream(t *testing.T, hub *live.Hub, topic string, events ...provider.Event) *live.Stream {
	t.Helper()
	s, err := hub.Open(topic, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		s.Publish(e)
	}
	return s
}
