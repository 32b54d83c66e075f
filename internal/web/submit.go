package web

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/note"
)

// bodyField is the name of the prompt's field.
const bodyField = "body"

// jobKeys are the properties of a job note that may be given, in the order in which
// they are written. What they may say is decided where notes are read.
func jobKeys() []string {
	return append([]string{"job_type", "title", "provider", "model"}, rareKeys()...)
}

// rareKeys are those that the form folds away.
func rareKeys() []string {
	return []string{"system", "temperature", "max_tokens", "timeout", "retry", "priority", "not_before", "tags", "context"}
}

// jobForm is the form for a new job: what was typed, and what is wrong with it.
type jobForm struct {
	Typed map[string]string
	// Wrong is the field that Text is about, "" for none.
	Wrong, Text string
	Offers      []offerView
	// Open unfolds it.
	Open bool
}

// Get is what was typed into a field.
func (f jobForm) Get(field string) string { return f.Typed[field] }

// problem is what is wrong with a field, for the line below it.
type problem struct{ Field, Text string }

// Problem returns what is wrong with a field, with no text where nothing is.
func (f jobForm) Problem(field string) problem {
	if f.Wrong != field {
		return problem{Field: field}
	}
	return problem{field, f.Text}
}

// Rare says that a field is filled or wrong that is folded away at first.
func (f jobForm) Rare() bool {
	for _, field := range rareKeys() {
		if f.Typed[field] != "" || f.Wrong == field {
			return true
		}
	}
	return false
}

// offersNow is what is known of the providers at once.
func (a *App) offersNow(ctx context.Context, form jobForm) []offerView {
	// What was seen last is enough: a host that is asleep must not hold up the page.
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	name, model, _ := strings.Cut(form.Get("choice"), "/")
	return offers(a.o.Roster.Offers(short), history.Settings{Provider: name, Model: model})
}

// submit puts a new job into the queue.
func (a *App) submit(w http.ResponseWriter, r *http.Request) error {
	s, err := readSubmission(r)
	if err != nil {
		return err
	}
	id, file, err := a.o.Jobs.Submit(r.Context(), s.fields, s.body)
	if bad, ok := errors.AsType[*note.Error](err); ok {
		return a.refuse(w, r, s, bad)
	}
	if err != nil {
		return err
	}
	a.moved()
	if wantsHTML(r) && !fromPage(r) {
		http.Redirect(w, r, "/queue", http.StatusSeeOther)
		return nil
	}
	if fromPage(r) {
		w.Header().Set("HX-Redirect", "/queue")
	}
	w.Header().Set("Location", "/queue/jobs/"+id)
	writeJSON(w, http.StatusCreated, struct {
		ID   string `json:"id"`
		Note string `json:"note"`
	}{id, file})
	return nil
}

// refuse says what is wrong with a job, beside the field that it is about. A form
// keeps what was typed.
func (a *App) refuse(w http.ResponseWriter, r *http.Request, s submission, bad *note.Error) error {
	f := &fault{Status: http.StatusUnprocessableEntity, Text: bad.Reason, Field: cmp.Or(bad.Key, bodyField)}
	if _, ok := s.typed["choice"]; ok && (f.Field == "provider" || f.Field == "model") {
		f.Field = "choice"
	}
	if s.typed == nil || fromPage(r) || !wantsHTML(r) {
		return f
	}
	return a.writeQueue(w, r, f.Status, filter{}, jobForm{Typed: s.typed, Wrong: f.Field, Text: f.Text})
}

// submission is a job as it was sent.
type submission struct {
	fields []note.KV
	body   string
	// typed is what stood in the form's fields, nil for a program's JSON.
	typed map[string]string
}

func readSubmission(r *http.Request) (submission, error) {
	var sent map[string]json.RawMessage
	var s submission
	err := readForm(r, &sent, func(func(string) string) {
		s.typed = make(map[string]string)
		for field := range r.PostForm {
			s.typed[field] = strings.ReplaceAll(r.PostForm.Get(field), "\r\n", "\n")
		}
	})
	switch {
	case err != nil:
		return s, err
	case s.typed != nil:
		return s, s.fromForm()
	}
	return s, s.fromJSON(sent)
}

// fromForm makes properties of a form's texts. Fields that are empty are not set.
func (s *submission) fromForm() error {
	for field := range s.typed {
		if field != bodyField && field != "choice" && !slices.Contains(jobKeys(), field) {
			return unknownKey(field)
		}
	}
	values := make(map[string]any)
	for _, key := range jobKeys() {
		text := strings.TrimSpace(s.typed[key])
		switch {
		case text == "":
		case key == "tags":
			values[key] = list(text, "\n,")
		case key == "context":
			values[key] = list(text, "\n") // a note's name may hold a comma
		case key == "temperature" || key == "max_tokens" || key == "priority":
			values[key] = number(text)
		default:
			values[key] = text
		}
	}
	if name, model, ok := strings.Cut(s.typed["choice"], "/"); ok {
		values["provider"] = name
		if model != "" {
			values["model"] = model
		}
	}
	s.set(values)
	s.body = s.typed[bodyField]
	return nil
}

// list is the parts of a text between separators, without those that are empty.
func list(text, separators string) []string {
	var all []string
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}

// number is a number as YAML is to read it; a text that is none stays what it is,
// and the reader says so.
func number(text string) any {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	if x, err := strconv.ParseFloat(text, 64); err == nil {
		return x
	}
	return text
}

// fromJSON makes properties of a JSON object's values.
func (s *submission) fromJSON(sent map[string]json.RawMessage) error {
	values := make(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(sent)) {
		value, err := valueOf(key, sent[key])
		if err != nil {
			return err
		}
		switch {
		case value == nil: // not set
		case key == bodyField || key == "prompt":
			text, ok := value.(string)
			if !ok {
				return &fault{Status: http.StatusUnprocessableEntity, Text: "has to be text", Field: key}
			}
			if s.body != "" {
				return &fault{Status: http.StatusUnprocessableEntity, Text: "give either body or prompt", Field: key}
			}
			s.body = text
		case !slices.Contains(jobKeys(), key):
			return unknownKey(key)
		default:
			values[key] = value
		}
	}
	s.set(values)
	return nil
}

func (s *submission) set(values map[string]any) {
	for _, key := range jobKeys() {
		if value, ok := values[key]; ok {
			s.fields = append(s.fields, note.KV{Key: key, Value: value})
		}
	}
}

func unknownKey(key string) error {
	return &fault{Status: http.StatusUnprocessableEntity, Text: fmt.Sprintf("%q is no key of a job; there are: %s, %s", key, bodyField, strings.Join(jobKeys(), ", ")), Field: key}
}

// valueOf is a JSON value as a property's: text, a number, true or false, a list of
// texts, or nil.
func valueOf(key string, raw json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, fmt.Errorf("read the value of %s again: %w", key, err) // it was read once
	}
	switch v := value.(type) {
	case json.Number:
		return number(v.String()), nil
	case []any:
		texts := make([]string, len(v))
		for i, item := range v {
			text, ok := item.(string)
			if !ok {
				return nil, &fault{Status: http.StatusUnprocessableEntity, Text: "has to be a list of texts", Field: key}
			}
			texts[i] = text
		}
		return texts, nil
	case map[string]any:
		return nil, &fault{Status: http.StatusUnprocessableEntity, Text: "has to be text, a number or a list of texts", Field: key}
	}
	return value, nil
}
