package web

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"mime"
	"net/http"
	"strings"

	"davidcockson.com/runner/internal/chat"
	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/note"
)

// handler answers a request. What it returns instead becomes the answer in one
// place, fault.
type handler func(w http.ResponseWriter, r *http.Request) error

// fault is an answer that is not the one that was asked for: a status, and a
// sentence for the reader.
type fault struct {
	Status int    `json:"-"`
	Text   string `json:"error"`
	// Field is the field of a form that is wrong, "" for none.
	Field string `json:"field,omitempty"`
	// Deleted is the conversation that was asked for and can be brought back, "" for none.
	Deleted string `json:"-"`
}

// Error returns the text.
func (f *fault) Error() string { return f.Text }

func notFound(what string) error {
	return &fault{Status: http.StatusNotFound, Text: "there is no such " + what}
}

// asFault turns an error into what its reader may know. An error that is not meant
// for a reader is for the log alone.
func asFault(err error) (f *fault, logged bool) {
	var invalid *chat.Invalid
	var refused *control.Error
	var bad *note.Error
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &f):
		return f, false
	case errors.As(err, &invalid):
		return &fault{Status: http.StatusUnprocessableEntity, Text: invalid.Text, Field: invalid.Field}, false
	case errors.As(err, &bad):
		return &fault{Status: http.StatusUnprocessableEntity, Text: bad.Error(), Field: bad.Key}, false
	case errors.As(err, &large):
		return tooLarge(), false
	case errors.Is(err, history.ErrUnknown):
		return &fault{Status: http.StatusNotFound, Text: "there is no such conversation"}, false
	case errors.Is(err, history.ErrDeleted):
		return &fault{Status: http.StatusConflict, Text: "this conversation was deleted; begin a new one"}, false
	case errors.Is(err, chat.ErrRunning), errors.Is(err, chat.ErrNoTurn):
		return &fault{Status: http.StatusConflict, Text: err.Error()}, false
	case errors.Is(err, chat.ErrStopping):
		return &fault{Status: http.StatusServiceUnavailable, Text: err.Error()}, false
	case errors.Is(err, control.ErrNoWorker):
		return &fault{Status: http.StatusServiceUnavailable, Text: "no worker runs: start one with `runner worker` or `runner up`"}, false
	case errors.As(err, &refused):
		return &fault{Status: statusOf(refused.Code), Text: refused.Text}, false
	case errors.Is(err, fs.ErrNotExist):
		return &fault{Status: http.StatusNotFound, Text: "there is no such note"}, false
	}
	return &fault{Status: http.StatusInternalServerError, Text: "this did not work; the server's log says why"}, true
}

func statusOf(c control.Code) int {
	switch c {
	case control.NotFound:
		return http.StatusNotFound
	case control.Ambiguous, control.Conflict, control.Refused:
		return http.StatusConflict
	case control.Invalid:
		return http.StatusUnprocessableEntity
	case control.Busy, control.Stopping, control.Slow:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// handle makes an http.Handler of a handler.
func (a *App) handle(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil {
			return
		}
		f, logged := asFault(err)
		if r.Context().Err() != nil && logged {
			return // the reader has gone
		}
		if logged {
			a.o.Log.Error("a request failed", "request", r.Method+" "+r.URL.Path, "error", err)
		}
		a.fail(w, r, f)
	})
}

// fail answers with a fault, in the form that the reader reads.
func (a *App) fail(w http.ResponseWriter, r *http.Request, f *fault) {
	w.Header().Set("Cache-Control", "no-store")
	if f.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	switch {
	case fromPage(r):
		// A page shows it where it was asked: by app.js, which reads JSON.
		writeJSON(w, f.Status, f)
	case wantsHTML(r):
		if err := a.pages.write(w, r, f.Status, "error", errorPage{frame: a.frame(r, "Error", ""), Fault: f}); err != nil {
			a.o.Log.Error("show an error", "error", err)
		}
	default:
		writeJSON(w, f.Status, f)
	}
}

// writeJSON answers with a value. The value must be one that can be encoded.
func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(data, '\n')) // a reader who has gone is no loss
}

// fromPage says that a page's script asks, not a person or a program.
func fromPage(r *http.Request) bool { return r.Header.Get("HX-Request") == "true" }

// wantsHTML says whether a request's sender reads HTML rather than JSON.
func wantsHTML(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		switch kind, _, _ := mime.ParseMediaType(part); kind {
		case "text/html", "application/xhtml+xml":
			return true
		case "application/json":
			return false
		}
	}
	return false
}

// readForm reads what a form or a program sent: url-encoded or JSON into v, which
// fill fills from a form.
func readForm(r *http.Request, v any, fill func(get func(string) string)) error {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	switch kind {
	case "application/json":
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
				return large
			}
			return &fault{Status: http.StatusBadRequest, Text: "this is no JSON that is understood here: " + strings.TrimPrefix(err.Error(), "json: ")}
		}
		if d.More() {
			return &fault{Status: http.StatusBadRequest, Text: "there is more than one JSON value"}
		}
		return nil
	case "application/x-www-form-urlencoded":
		if err := r.ParseForm(); err != nil {
			if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
				return large
			}
			return &fault{Status: http.StatusBadRequest, Text: "the form cannot be read"}
		}
		fill(r.PostForm.Get)
		return nil
	}
	return wrongType()
}

func tooLarge() *fault {
	return &fault{Status: http.StatusRequestEntityTooLarge, Text: "the request is larger than 1 MiB"}
}

func wrongType() *fault {
	return &fault{Status: http.StatusUnsupportedMediaType, Text: "send application/json or application/x-www-form-urlencoded"}
}

// overBounds says what is wrong with the body of a request before it is read, nil for
// nothing.
func overBounds(r *http.Request) *fault {
	if r.ContentLength == 0 || r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err != nil || kind != "application/json" && kind != "application/x-www-form-urlencoded":
		return wrongType()
	case r.ContentLength > maxBody:
		return tooLarge()
	}
	return nil
}

// ended says that an error is only the end of its request.
func ended(ctx context.Context, err error) bool { return err != nil && ctx.Err() != nil }
