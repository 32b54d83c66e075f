package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/job"
)

const (
	mostOpen   = 200 // jobs that have not ended in a list
	fewEnded   = 30  // jobs that have ended on a page
	moreEnded  = 200 // where more were asked for
	mostEnded  = 500 // in a list for programs
	searched   = 500 // jobs among which those of one type are looked for
	stateHeld  = "held"
	stateTwice = "duplicate"
)

// endStates are the states in which a job has ended, in the order of the filter.
func endStates() []string {
	return []string{string(job.Failed), string(job.Completed), string(job.Cancelled)}
}

func jobTypes() []string { return []string{string(job.Text), string(job.Chain), string(job.Research)} }

// filter chooses among the jobs that have ended; it stands in the page's address.
type filter struct {
	State string // one of endStates, "" for all
	Type  string // one of jobTypes, "" for all
	More  bool
}

// allFilters is every filter that there is: each has one list, which all its readers
// share.
func allFilters() []filter {
	var all []filter
	for _, state := range append(endStates(), "") {
		for _, kind := range append(jobTypes(), "") {
			all = append(all, filter{state, kind, false}, filter{state, kind, true})
		}
	}
	return all
}

func readFilter(q url.Values) (filter, error) {
	f := filter{State: q.Get("state"), Type: q.Get("type"), More: q.Get("more") != ""}
	if f.State != "" && !slices.Contains(endStates(), f.State) {
		return f, &fault{Status: http.StatusBadRequest, Text: "state is one of " + strings.Join(endStates(), ", "), Field: "state"}
	}
	if f.Type != "" && !slices.Contains(jobTypes(), f.Type) {
		return f, &fault{Status: http.StatusBadRequest, Text: "type is one of " + strings.Join(jobTypes(), ", "), Field: "type"}
	}
	return f, nil
}

// query is the filter as it stands in an address.
func (f filter) query() string {
	q := url.Values{}
	for key, value := range map[string]string{"state": f.State, "type": f.Type} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if f.More {
		q.Set("more", "1")
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// openView is all that has not ended, and the worker.
type openView struct {
	Worker *control.Status
	// Away is why there is no word from a worker, "" where there is.
	Away                  string
	Active, Held, Waiting []jobView
	// More says that there are more than are shown.
	More bool
}

// openJobs asks for all that has not ended.
func (a *App) openJobs(ctx context.Context) (openView, error) {
	var v openView
	status, err := a.o.Jobs.Status(ctx)
	var refused *control.Error
	switch {
	case err == nil:
		v.Worker = &status
	case ended(ctx, err):
		return v, err
	case errors.Is(err, control.ErrNoWorker):
		v.Away = "No worker runs: nothing is claimed until one does."
	case errors.As(err, &refused):
		v.Away = refused.Text
	default:
		a.o.Log.Warn("ask the worker how it is", "reason", err)
		v.Away = "The worker does not answer; the log says more."
	}
	jobs, err := a.o.Jobs.List(ctx, control.Filter{States: []string{"active", stateHeld, stateTwice, "waiting"}, Limit: mostOpen + 1})
	if err != nil && !errors.Is(err, control.ErrNoWorker) {
		return v, fmt.Errorf("list the jobs: %w", err)
	}
	if v.More = len(jobs) > mostOpen; v.More {
		jobs = jobs[:mostOpen]
	}
	var active []control.Job
	for _, j := range jobs {
		view := viewOf(j)
		switch {
		case j.State == string(job.Active):
			active = append(active, j)
		case view.NeedsHand():
			v.Held = append(v.Held, view)
		default:
			v.Waiting = append(v.Waiting, view)
		}
	}
	v.Active = a.activeViews(ctx, active)
	return v, nil
}

func (a *App) activeViews(ctx context.Context, active []control.Job) []jobView {
	live := a.queueSeen.look(ctx, active)
	all := views(active)
	for i := range all {
		all[i].Live = live[all[i].ID]
	}
	return all
}

// endedJobs asks for the jobs that ended last. Among all there are the last ones of
// a type are not looked for: it would cost more with every job.
func (a *App) endedJobs(ctx context.Context, f filter, limit int) ([]control.Job, error) {
	ask := control.Filter{States: endStates(), Limit: limit}
	if f.State != "" {
		ask.States = []string{f.State}
	}
	if f.Type != "" {
		ask.Limit = searched
	}
	jobs, err := a.o.Jobs.List(ctx, ask)
	if err != nil && !errors.Is(err, control.ErrNoWorker) {
		return nil, fmt.Errorf("list the jobs that have ended: %w", err)
	}
	if f.Type != "" {
		jobs = slices.DeleteFunc(slices.Clone(jobs), func(j control.Job) bool { return j.JobType != f.Type })
	}
	return jobs[:min(len(jobs), limit)], nil
}

// showQueue makes what the queue's pages share: the worker, what runs, what waits.
func (a *App) showQueue(ctx context.Context) ([]byte, error) {
	v, err := a.openJobs(ctx)
	if err != nil {
		return nil, err
	}
	return a.pages.part("queue", "open", v)
}

// recentView is the jobs that ended last.
type recentView struct {
	filter
	Jobs []jobView
	// Next says that there may be more to show.
	Next bool
	// Failed are those of Jobs that may be tried again.
	Failed []jobView
}

func (a *App) recentJobs(ctx context.Context, f filter) (recentView, error) {
	limit := fewEnded
	if f.More {
		limit = moreEnded
	}
	jobs, err := a.endedJobs(ctx, f, limit)
	v := recentView{filter: f, Jobs: views(jobs), Next: !f.More && len(jobs) == limit}
	for _, j := range v.Jobs {
		if j.State == string(job.Failed) {
			v.Failed = append(v.Failed, j)
		}
	}
	return v, err
}

func (a *App) showRecent(ctx context.Context, f filter) ([]byte, error) {
	v, err := a.recentJobs(ctx, f)
	if err != nil {
		return nil, err
	}
	return a.pages.part("queue", "recent", v)
}

// choice is a way to filter.
type choice struct {
	Name, Link string
	Chosen     bool
}

// States and Types are the filters that a page offers.
func (v recentView) States() []choice {
	all := []choice{{"all", "/queue" + filter{Type: v.Type}.query(), v.State == ""}}
	for _, s := range endStates() {
		all = append(all, choice{s, "/queue" + filter{State: s, Type: v.Type}.query(), v.State == s})
	}
	return all
}

func (v recentView) Types() []choice {
	all := []choice{{"every type", "/queue" + filter{State: v.State}.query(), v.Type == ""}}
	for _, t := range jobTypes() {
		all = append(all, choice{t, "/queue" + filter{State: v.State, Type: t}.query(), v.Type == t})
	}
	return all
}

// NextLink leads to a longer list.
func (v recentView) NextLink() string { return "/queue" + filter{v.State, v.Type, true}.query() }

// Searched is among how many jobs those of a type were looked for.
func (v recentView) Searched() int { return searched }

// queuePageView is the queue's page.
type queuePageView struct {
	frame
	Open   openView
	Recent recentView
	Form   jobForm
}

func (a *App) queuePage(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilter(r.URL.Query())
	if err != nil {
		return err
	}
	if wantsHTML(r) {
		return a.writeQueue(w, r, http.StatusOK, f, jobForm{})
	}
	open, err := a.openJobs(r.Context())
	if err != nil {
		return err
	}
	recent, err := a.endedJobs(r.Context(), f, fewEnded)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct {
		Worker  *control.Status `json:"worker"`
		Waiting []control.Job   `json:"waiting"`
		Active  []activeJSON    `json:"active"`
		Recent  []control.Job   `json:"recent"`
	}{open.Worker, jobsOf(append(slices.Clone(open.Held), open.Waiting...)), activeOf(open.Active), append([]control.Job{}, recent...)})
	return nil
}

func (a *App) writeQueue(w http.ResponseWriter, r *http.Request, status int, f filter, form jobForm) error {
	p := queuePageView{frame: a.frame(r, "Queue", "/queue"), Form: form}
	p.Stream = "/queue/stream" + f.query()
	var err error
	if p.Open, err = a.openJobs(r.Context()); err != nil {
		return err
	}
	if p.Recent, err = a.recentJobs(r.Context(), f); err != nil {
		return err
	}
	p.Form.Offers = a.offersNow(r.Context(), form)
	first := f == filter{} && len(p.Recent.Jobs)+len(p.Open.Active)+len(p.Open.Held)+len(p.Open.Waiting) == 0
	p.Form.Open = first || form.Text != ""
	return a.pages.write(w, r, status, "queue", p)
}

func (a *App) queueStream(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilter(r.URL.Query())
	if err != nil {
		return err
	}
	recent := a.queueSeen.recent(f, func(ctx context.Context) ([]byte, error) { return a.showRecent(ctx, f) }, a.o.Log)
	return a.stream(w, r, "", a.hosts, a.queue, recent)
}

// activeJSON is a running job as programs read it.
type activeJSON struct {
	control.Job
	Phase     string `json:"phase,omitempty"`
	StepTitle string `json:"step_title,omitempty"`
	// Text is the end of what the step has brought so far.
	Text string `json:"text,omitempty"`
}

func activeOf(jobs []jobView) []activeJSON {
	all := []activeJSON{}
	for _, j := range jobs {
		at := j.At()
		one := activeJSON{j.Job, string(j.Live.Phase), j.Live.Title, j.Live.Text}
		one.Step = at
		all = append(all, one)
	}
	return all
}

func jobsOf(views []jobView) []control.Job {
	all := []control.Job{}
	for _, v := range views {
		all = append(all, v.Job)
	}
	return all
}

func (a *App) queueActive(w http.ResponseWriter, r *http.Request) error {
	jobs, err := a.o.Jobs.List(r.Context(), control.Filter{States: []string{string(job.Active)}})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, activeOf(a.activeViews(r.Context(), jobs)))
	return nil
}

func (a *App) queueRecent(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilter(r.URL.Query())
	if err != nil {
		return err
	}
	limit := fewEnded
	if text := r.URL.Query().Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > mostEnded {
			return &fault{Status: http.StatusBadRequest, Text: fmt.Sprintf("limit is a number from 1 to %d", mostEnded), Field: "limit"}
		}
	}
	jobs, err := a.endedJobs(r.Context(), f, limit)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, append([]control.Job{}, jobs...))
	return nil
}

// previewView is the beginning of an output note.
type previewView struct {
	HTML  template.HTML
	Whole bool
	// Lack is why there is nothing to show, "" where there is.
	Lack string
}
