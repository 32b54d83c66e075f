package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"davidcockson.com/runner/internal/control"
)

const (
	pagePreview  = 256 << 10 // bytes of an output note on its job's page
	shortPreview = 4 << 10   // bytes of it in a list
	mostRetried  = 500       // jobs that one request may have tried again
)

func isNotFound(err error) bool {
	var refused *control.Error
	return errors.As(err, &refused) && refused.Code == control.NotFound
}

// jobPage is all that is known of one job.
type jobPage struct {
	frame
	Job     jobView
	Error   string
	Calls   []control.Call
	Preview previewView
}

// job shows one job: its page, the beginning of its output, or JSON.
func (a *App) job(w http.ResponseWriter, r *http.Request) error {
	d, err := a.o.Jobs.Show(r.Context(), r.PathValue("job"))
	if err != nil {
		return err
	}
	if r.URL.Query().Has("preview") {
		preview, err := a.preview(r.Context(), d.Output, shortPreview)
		if err != nil {
			return err
		}
		html, err := a.pages.part("job", "preview", preview)
		if err != nil {
			return err
		}
		writeHTML(w, http.StatusOK, html)
		return nil
	}
	if !wantsHTML(r) {
		if d.Calls == nil {
			d.Calls = []control.Call{}
		}
		writeJSON(w, http.StatusOK, d)
		return nil
	}
	j := viewOf(d.Job)
	if j.State == "active" {
		j = a.activeViews(r.Context(), []control.Job{d.Job})[0]
	}
	p := jobPage{frame: a.frame(r, j.Heading(), "/queue"), Job: j, Error: d.Error, Calls: d.Calls}
	p.Stream = "/stream"
	if d.Output != "" {
		if p.Preview, err = a.preview(r.Context(), d.Output, pagePreview); err != nil {
			return err
		}
	}
	return a.pages.write(w, r, http.StatusOK, "job", p)
}

// preview renders the beginning of an output note.
func (a *App) preview(ctx context.Context, output string, bytes int) (previewView, error) {
	if output == "" {
		return previewView{Lack: "This job has written no output."}, nil
	}
	text, whole, err := a.o.Jobs.Preview(ctx, output, bytes)
	switch {
	case isGone(err):
		return previewView{Lack: "The output note is no longer where it was written: " + output}, nil
	case err != nil:
		return previewView{}, fmt.Errorf("show the output of a job: %w", err)
	}
	return previewView{HTML: a.render.HTML(text), Whole: whole}, nil
}

// moved has the queue's lists made anew.
func (a *App) moved() {
	a.queue.poke()
	a.queueSeen.poke()
}

// everyNamed stands in an address for the jobs that the request's body names. No job
// has it as its id.
const everyNamed = "*"

func (a *App) retry(w http.ResponseWriter, r *http.Request) error {
	ref := r.PathValue("job")
	if ref == everyNamed {
		return a.retryAll(w, r)
	}
	j, err := a.o.Jobs.Retry(r.Context(), ref)
	if err != nil {
		return err
	}
	a.moved()
	return done(w, r, "/queue", j)
}

// retryAll tries several jobs again. What is refused is told, and hinders none of
// the others.
func (a *App) retryAll(w http.ResponseWriter, r *http.Request) error {
	var sent struct {
		Jobs []string `json:"jobs"`
	}
	if err := readForm(r, &sent, func(func(string) string) { sent.Jobs = r.PostForm["job"] }); err != nil {
		return err
	}
	if len(sent.Jobs) == 0 || len(sent.Jobs) > mostRetried {
		return &fault{Status: http.StatusUnprocessableEntity, Text: fmt.Sprintf("name 1 to %d jobs", mostRetried), Field: "jobs"}
	}
	retried, refusal := []control.Job{}, ""
	for _, ref := range sent.Jobs {
		j, err := a.o.Jobs.Retry(r.Context(), ref)
		if err == nil {
			retried = append(retried, j)
			continue
		}
		f, logged := asFault(err)
		if logged || errors.Is(err, control.ErrNoWorker) {
			return err
		}
		if refusal == "" {
			refusal = f.Text
		}
	}
	a.moved()
	if refusal != "" {
		return &fault{Status: http.StatusConflict, Text: fmt.Sprintf("%d of %d wait to run again. Of the others the first was refused: %s", len(retried), len(sent.Jobs), refusal)}
	}
	return done(w, r, "/queue", map[string][]control.Job{"retried": retried})
}

func (a *App) cancel(w http.ResponseWriter, r *http.Request) error {
	j, err := a.o.Jobs.Cancel(r.Context(), r.PathValue("job"))
	if err != nil {
		return err
	}
	a.moved()
	return done(w, r, "/queue", j)
}
