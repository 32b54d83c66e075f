package queue

import (
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/vault/vaulttest"
)

var submitRules = job.Rules{Providers: []job.ProviderRule{{Name: "echo", Models: []string{"echo", "7"}}, {Name: "davas"}}}

// submitBox is a vault in memory; with its folders or without.
func submitBox(t *testing.T, folders ...string) *vault.Vault {
	t.Helper()
	mem := vaulttest.NewMem()
	for _, dir := range folders {
		if err := mem.Mkdir(dir); err != nil {
			t.Fatal(err)
		}
	}
	return vault.New(mem)
}

func TestASubmittedNoteSaysWhatWasGiven(t *testing.T) {
	v := submitBox(t, Folders()...)
	now := time.Date(2026, 11, 24, 18, 12, 5, 0, time.UTC)
	temperature := 1.0
	id, file, err := Submit(v, submitRules, []note.KV{
		{Key: "job_type", Value: "chain"}, {Key: "title", Value: "yes: \"quoted\" # and\ttabbed"}, {Key: "provider", Value: "DAVAS"}, {Key: "model", Value: "7"},
		{Key: "system", Value: "---\nBe brief.\n...\nAlways."}, {Key: "temperature", Value: temperature}, {Key: "max_tokens", Value: 40},
		{Key: "timeout", Value: "20m"}, {Key: "retry", Value: "never"}, {Key: "priority", Value: -3}, {Key: "not_before", Value: "2026-12-31T08:00"},
		{Key: "tags", Value: []string{"a, b", "no"}}, {Key: "context", Value: []string{"[[Bees: in winter]]"}},
	}, "\n## One\nWhy?\n---\n## Two\nWhy not?\n\n", now)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(id, "20261124-181205-") || file != "_queue/yes-quoted-and-tabbed-"+id+".md" {
		t.Errorf("id %q, file %q", id, file)
	}
	data, _, err := v.Read(file, note.MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	got, err := job.Read(n, submitRules)
	if err != nil {
		t.Fatal(err)
	}
	got.Lines = nil
	want := job.Spec{ID: id, Type: job.Chain, Title: "yes: \"quoted\" # and\ttabbed", Tags: []string{"a, b", "no"}, Provider: "davas", Model: "7",
		System: "---\nBe brief.\n...\nAlways.", Temperature: &temperature, MaxTokens: 40, Timeout: 20 * time.Minute, RetryNever: true, Priority: -3,
		NotBefore: time.Date(2026, 12, 31, 8, 0, 0, 0, time.UTC), Context: []string{"[[Bees: in winter]]"},
		Steps: []job.Step{{Title: "One", Prompt: "Why?\n---", Provider: "davas", Model: "7"}, {Title: "Two", Prompt: "Why not?", Provider: "davas", Model: "7"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read back\n%+v\nwant\n%+v", got, want)
	}
}

func TestANoteWithoutATitleIsNamedForItsPrompt(t *testing.T) {
	v := submitBox(t, Folders()...)
	id, file, err := Submit(v, submitRules, []note.KV{{Key: "job_type", Value: "text"}}, "Where does the river Thames begin, please?", time.Now())
	if err != nil || file != "_queue/where-does-the-river-thames-begin-"+id+".md" {
		t.Errorf("%q, %v", file, err)
	}
}

func TestWhatANotesReaderWouldRefuseIsRefusedWithItsKey(t *testing.T) {
	text := note.KV{Key: "job_type", Value: "text"}
	for _, row := range []struct {
		name   string
		fields []note.KV
		body   string
		kind   note.Kind
		key    string
		reason string
	}{
		{"no job type", nil, "Why?", note.Wrong, "job_type", "missing"},
		{"a job type that is none", []note.KV{{Key: "job_type", Value: "essay"}}, "Why?", note.Wrong, "job_type", `"essay" is not known`},
		{"an unknown provider", []note.KV{text, {Key: "provider", Value: "nobody"}}, "Why?", note.Wrong, "provider", `"nobody" is not configured`},
		{"an unknown model", []note.KV{text, {Key: "model", Value: "gpt"}}, "Why?", note.Wrong, "model", "not among the models of echo"},
		{"text for a number", []note.KV{text, {Key: "temperature", Value: "hot"}}, "Why?", note.Wrong, "temperature", "has to be a number"},
		{"a number out of range", []note.KV{text, {Key: "temperature", Value: 3.5}}, "Why?", note.Wrong, "temperature", "between 0 and 2"},
		{"a fraction for a whole number", []note.KV{text, {Key: "max_tokens", Value: 1.5}}, "Why?", note.Wrong, "max_tokens", "whole number"},
		{"no time limit", []note.KV{text, {Key: "timeout", Value: "soon"}}, "Why?", note.Wrong, "timeout", "no time limit"},
		{"a link that is none", []note.KV{text, {Key: "context", Value: []string{"Bees"}}}, "Why?", note.Wrong, "context", ""},
		{"a property that no job note has", []note.KV{text, {Key: "colour", Value: "red"}}, "Why?", note.Wrong, "colour", "no property of a job note"},
		{"an id of the caller's own", []note.KV{text, {Key: "id", Value: "x"}}, "Why?", note.Wrong, "id", "set by the queue"},
		{"a draft, of which nothing would be checked", []note.KV{{Key: "draft", Value: true}}, "Why?", note.Wrong, "draft", "set by the queue"},
		{"what we write at a job's end", []note.KV{text, {Key: "status", Value: "completed"}}, "Why?", note.Wrong, "status", "set by the queue"},
		{"no prompt", []note.KV{text}, " \n", note.Unfinished, "", "the prompt is missing"},
		{"a chain without steps", []note.KV{{Key: "job_type", Value: "chain"}}, "Why?", note.Unfinished, "", "at least one step"},
		{"a prompt with a NUL byte", []note.KV{text}, "Wh\x00?", note.Wrong, "", "NUL"},
		{"a prompt that is longer than a note", []note.KV{text}, strings.Repeat("a", note.MaxSize), note.Wrong, "", "bytes"},
	} {
		t.Run(row.name, func(t *testing.T) {
			v := submitBox(t, Folders()...)
			id, file, err := Submit(v, submitRules, row.fields, row.body, time.Now())
			var bad *note.Error
			if !errors.As(err, &bad) || bad.Kind != row.kind || bad.Key != row.key || bad.Line != 0 || !strings.Contains(bad.Reason, row.reason) {
				t.Errorf("got %#v, want kind %q, key %q, no line, reason %q", err, row.kind, row.key, row.reason)
			}
			if entries, err := v.List(Waiting); err != nil || len(entries) > 0 || id != "" || file != "" {
				t.Errorf("something was written: %v, %v; id %q, file %q", entries, err, id, file)
			}
		})
	}
}

func TestAVaultWithoutAQueueFolderSaysSo(t *testing.T) {
	_, _, err := Submit(submitBox(t), submitRules, []note.KV{{Key: "job_type", Value: "text"}}, "Why?", time.Now())
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}
