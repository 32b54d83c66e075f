package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
)

// submitted is what submit --json prints.
type submitted struct {
	ID   string `json:"id"`
	Note string `json:"note"` // the note's path in the vault
	// The rest is filled with --wait.
	State  string `json:"state,omitempty"`
	Reason string `json:"reason,omitempty"`
	Output string `json:"output,omitempty"`
	Answer string `json:"answer,omitempty"`
}

func runSubmit(ctx context.Context, c *call) error {
	conf, err := c.load()
	if err != nil {
		return err
	}
	prompt, err := c.prompt()
	if err != nil {
		return err
	}
	client := control.Dial(filepath.Join(conf.StateDir, socketFile))
	if c.wait {
		if _, err := client.Status(ctx); err != nil {
			return fmt.Errorf("wait for an answer: %w", err)
		}
	}
	s, err := c.write(conf, prompt)
	if err != nil {
		return err
	}
	if c.wait {
		if err = c.await(ctx, conf, client, &s); err != nil && s.State == "" {
			return fmt.Errorf("%w; the job %s stays in the queue", err, s.ID)
		}
	}
	if c.json {
		return errors.Join(printJSON(c.stdout, s), err)
	}
	if err != nil {
		return err
	}
	if c.wait {
		fmt.Fprintf(c.stderr, "runner: job %s, kept in %s\n", s.ID, s.Output)
		_, err := fmt.Fprintln(c.stdout, s.Answer)
		return err
	}
	fmt.Fprintf(c.stdout, "%s\n", s.ID)
	return nil
}

// prompt is the argument; what the file has if it names one; or stdin.
func (c *call) prompt() (string, error) {
	if len(c.args) > 1 {
		return "", usageError{"give the prompt as one argument (in quotes), a file, or - for stdin"}
	}
	if len(c.args) == 0 || c.args[0] == "-" {
		data, err := io.ReadAll(io.LimitReader(c.stdin, note.MaxSize+1))
		if err != nil {
			return "", fmt.Errorf("read the prompt from stdin: %w", err)
		}
		return string(data), tooLong(data)
	}
	info, err := os.Stat(c.args[0])
	if errors.Is(err, fs.ErrNotExist) && looksLikeFile(c.args[0]) {
		return "", usageError{fmt.Sprintf("there is no file %s; to ask that very text, give it on stdin: echo %[1]q | runner submit -", c.args[0])}
	}
	if err != nil || !info.Mode().IsRegular() {
		return c.args[0], tooLong([]byte(c.args[0]))
	}
	f, err := os.Open(c.args[0])
	if err != nil {
		return "", fmt.Errorf("read the prompt: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, note.MaxSize+1))
	if err != nil {
		return "", fmt.Errorf("read the prompt: %w", err)
	}
	return string(data), tooLong(data)
}

// looksLikeFile says that an argument was meant as the name of a file: one word that
// ends as those of texts do.
func looksLikeFile(text string) bool {
	end := strings.ToLower(filepath.Ext(text))
	return (end == ".md" || end == ".txt") && !strings.ContainsFunc(text, unicode.IsSpace)
}

func tooLong(data []byte) error {
	if len(data) > note.MaxSize {
		return usageError{fmt.Sprintf("the prompt is longer than a note may be (%d MiB)", note.MaxSize>>20)}
	}
	return nil
}

// write puts the note into the queue.
func (c *call) write(conf *config.Config, prompt string) (submitted, error) {
	fields := []note.KV{{Key: "job_type", Value: c.kind}}
	for _, f := range []note.KV{{Key: "provider", Value: c.provider}, {Key: "model", Value: c.model}, {Key: "title", Value: c.title}} {
		if f.Value != "" {
			fields = append(fields, f)
		}
	}
	v, err := vault.Open(conf.Vault)
	if err != nil {
		return submitted{}, fmt.Errorf("open the vault: %w; `runner init` makes it", err)
	}
	defer v.Close()
	id, file, err := queue.Submit(v, rules(conf), fields, prompt, time.Now())
	if bad, ok := errors.AsType[*note.Error](err); ok {
		return submitted{}, usageError{fmt.Sprintf("this would be no valid job: %v", bad)}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; `runner init` makes the folders", err)
	}
	if err != nil {
		return submitted{}, fmt.Errorf("submit: %w", err)
	}
	return submitted{ID: id, Note: file}, nil
}

// rules are what notes are checked against: the providers as the worker has them.
func rules(conf *config.Config) job.Rules {
	r := job.Rules{Location: conf.Timezone}
	for _, h := range roster(conf) {
		r.Providers = append(r.Providers, job.ProviderRule{Name: h.Name, Models: h.Models})
	}
	return r
}

// await waits for the end of a job that was just submitted, and fills in how it
// ended. Ending the wait ends no job.
func (c *call) await(ctx context.Context, conf *config.Config, client *control.Client, s *submitted) error {
	name := path.Base(s.Note)
	shown := ""
	for {
		d, err := client.Show(ctx, s.ID)
		if isNotFound(err) {
			d, err = client.Show(ctx, name)
		}
		switch {
		case isNotFound(err): // not seen yet
		case err != nil:
			return err
		case d.State == "completed":
			s.State, s.Output = d.State, d.Output
			s.Answer, err = readAnswer(conf.Vault, d.Output)
			return err
		case d.State == "failed", d.State == "cancelled", d.State == "held", d.State == "duplicate":
			s.State, s.Reason, s.Output = d.State, d.Reason, d.Output
			return jobError{s.unanswered()}
		case d.State == "waiting" && d.Reason != "" && d.Reason != shown && !c.json:
			shown = d.Reason
			fmt.Fprintf(c.stderr, "runner: %s\n", d.Reason)
		}
		if err := untilChange(ctx, client); err != nil {
			return err
		}
	}
}

// unanswered says how a job ended that did not complete.
func (s submitted) unanswered() string {
	how := map[string]string{"failed": "failed", "cancelled": "was cancelled", "held": "is held", "duplicate": "is a duplicate"}[s.State]
	text := fmt.Sprintf("job %s %s: %s", s.ID, how, s.Reason)
	if s.Output != "" {
		text += "; what had come until then is in " + s.Output
	}
	return text
}

func isNotFound(err error) bool {
	var refused *control.Error
	return errors.As(err, &refused) && refused.Code == control.NotFound
}

// untilChange returns after a job came to another state, or a second.
func untilChange(ctx context.Context, client *control.Client) error {
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, err := range client.Events(short, "", 0) {
		if err != nil && short.Err() == nil {
			return err
		}
		break
	}
	if ctx.Err() == nil && short.Err() == nil { // a burst of events is one change
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// readAnswer is the text of an output note without its frontmatter.
func readAnswer(dir, output string) (string, error) {
	v, err := vault.Open(dir)
	if err != nil {
		return "", err
	}
	defer v.Close()
	data, _, err := v.Read(output, 256<<20)
	if err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}
	text, found := belowProperties(string(data))
	if !found {
		return "", fmt.Errorf("read the answer: %s has no frontmatter", output)
	}
	return text, nil
}

// belowProperties is the text of a note of ours without its frontmatter, and all of
// it where there is none.
func belowProperties(note string) (text string, found bool) {
	if rest, begins := strings.CutPrefix(note, "---\n"); begins {
		_, text, found = strings.Cut(rest, "\n---\n")
	}
	if !found {
		text = note
	}
	return strings.TrimSpace(text), found
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
