package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/worker"
)

// states are the words in which a job's state is shown.
func states() []string {
	return []string{"waiting", "held", "duplicate", "active", "completed", "failed", "cancelled"}
}

func runList(ctx context.Context, c *call) error {
	for _, s := range c.states {
		if !slices.Contains(states(), s) {
			return usageError{fmt.Sprintf("there is no state %q; there are: %s", s, strings.Join(states(), ", "))}
		}
	}
	if c.limit < 0 {
		return usageError{"--limit must be 0 or more"}
	}
	conf, err := c.load()
	if err != nil {
		return err
	}
	f := control.Filter{States: c.states, Limit: c.limit}
	jobs, err := control.Dial(filepath.Join(conf.StateDir, socketFile)).List(ctx, f)
	if errors.Is(err, control.ErrNoWorker) {
		if jobs, err = listAlone(ctx, conf, f); err == nil {
			fmt.Fprintln(c.stderr, "runner: no worker runs; this is from the ledger and the folders")
		}
	}
	if err != nil {
		return err
	}
	if c.json {
		return printJSON(c.stdout, jobs)
	}
	if len(jobs) == 0 && len(c.states) > 0 {
		_, err := fmt.Fprintln(c.stdout, "no job is "+strings.Join(c.states, " or "))
		return err
	}
	return printJobs(c.stdout, jobs, conf.Timezone)
}

// listAlone lists without a worker.
func listAlone(ctx context.Context, conf *config.Config, f control.Filter) ([]control.Job, error) {
	l, err := openLedger(ctx, conf)
	switch {
	case err == nil:
		defer l.Close()
	case errors.Is(err, control.ErrNoWorker): // none has run yet: the folders tell
		l = nil
	default:
		return nil, err
	}
	v, err := vault.Open(conf.Vault)
	if err != nil {
		return nil, fmt.Errorf("open the vault: %w; `runner init` makes it", err)
	}
	defer v.Close()
	return worker.Listing(ctx, l, v, f)
}

func openLedger(ctx context.Context, conf *config.Config) (*ledger.Ledger, error) {
	l, err := ledger.OpenReadOnly(ctx, filepath.Join(conf.StateDir, ledgerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no worker has run with this state folder yet, so there is no ledger: %w", control.ErrNoWorker)
	}
	return l, err
}

func printJobs(w io.Writer, jobs []control.Job, zone *time.Location) error {
	if len(jobs) == 0 {
		_, err := fmt.Fprintln(w, "no jobs yet: `runner submit \"a prompt\"`, or put a note into the queue")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "STATE\tJOB\tNOTE\tWHEN\tWHY")
	for _, j := range jobs {
		when := j.FirstSeen
		if !j.Finished.IsZero() {
			when = j.Finished
		} else if !j.Started.IsZero() {
			when = j.Started
		}
		shown := "-"
		if !when.IsZero() {
			shown = when.In(zone).Format("2006-01-02 15:04:05")
		}
		var why []string
		if j.State == "active" && j.Steps > 1 {
			why = append(why, fmt.Sprintf("step %d of %d", j.Step, j.Steps))
		}
		if j.Reason != "" {
			why = append(why, j.Reason)
		}
		if j.State == "completed" && j.Output != "" {
			why = append(why, j.Output)
		}
		id, name := j.ID, printable(j.Name)
		if id == "" {
			id = "-" // it is named by its note's whole name
		} else {
			name = short(name)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", j.State, id, name, shown, printable(strings.Join(why, "; ")))
	}
	return t.Flush()
}

// mostName is how many characters of a note's name a list shows.
const mostName = 48

// short cuts a long name in its middle: names differ at both ends.
func short(name string) string {
	runes := []rune(name)
	if len(runes) <= mostName {
		return name
	}
	half := (mostName - 1) / 2
	return string(runes[:mostName-1-half]) + "…" + string(runes[len(runes)-half:])
}

// printable is a text that cannot move the cursor or end the line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

func runShow(ctx context.Context, c *call) error {
	if len(c.args) != 1 {
		return usageError{"name one job; `runner list` shows them"}
	}
	conf, err := c.load()
	if err != nil {
		return err
	}
	d, err := control.Dial(filepath.Join(conf.StateDir, socketFile)).Show(ctx, c.args[0])
	if errors.Is(err, control.ErrNoWorker) {
		var l *ledger.Ledger
		if l, err = openLedger(ctx, conf); err != nil {
			return err
		}
		defer l.Close()
		fmt.Fprintln(c.stderr, "runner: no worker runs; this is from the ledger")
		d, err = worker.Detailed(ctx, l, c.args[0])
	}
	if err != nil {
		return err
	}
	if c.json {
		return printJSON(c.stdout, d)
	}
	return printDetail(c.stdout, d, conf.Timezone)
}

func printDetail(w io.Writer, d control.Detail, zone *time.Location) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(key, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", key, printable(value))
		}
	}
	moment := func(at time.Time) string {
		if at.IsZero() {
			return ""
		}
		return at.In(zone).Format("2006-01-02 15:04:05")
	}
	row("job", d.ID)
	row("note", d.Folder+"/"+d.Name)
	row("state", d.State)
	row("why", d.Reason)
	row("title", d.Title)
	row("type", d.JobType)
	row("asked", strings.Trim(d.Provider+"/"+d.Model, "/"))
	row("run", d.Run)
	row("attempt", fmt.Sprint(d.Attempt))
	row("first seen", moment(d.FirstSeen))
	row("started", moment(d.Started))
	row("finished", moment(d.Finished))
	row("output", d.Output)
	for _, call := range d.Calls {
		text := fmt.Sprintf("run %s, step %d, attempt %d, try %d: %s/%s %s", call.Run, call.Step, call.Attempt, call.Try, call.Provider, call.Model, call.State)
		if call.State == "answered" {
			text += fmt.Sprintf(", %d tokens read, %d written, %s", call.Read, call.Written, call.Took.Round(time.Millisecond))
		} else if call.Billed {
			text += " (may have been billed)"
		}
		if call.Reason != "" {
			text += ": " + call.Reason
		}
		row("call", text)
	}
	return t.Flush()
}

func runRetry(ctx context.Context, c *call) error {
	return c.each(ctx, func(client *control.Client, ref string) (control.Job, error) { return client.Retry(ctx, ref) })
}

func runCancel(ctx context.Context, c *call) error {
	return c.each(ctx, func(client *control.Client, ref string) (control.Job, error) { return client.Cancel(ctx, ref) })
}

// each does something to each job that was named, and goes on after a failure.
func (c *call) each(ctx context.Context, do func(*control.Client, string) (control.Job, error)) error {
	if len(c.args) == 0 {
		return usageError{"name at least one job; `runner list` shows them"}
	}
	conf, err := c.load()
	if err != nil {
		return err
	}
	client := control.Dial(filepath.Join(conf.StateDir, socketFile))
	jobs := []control.Job{}
	var failures []error
	for _, ref := range c.args {
		j, err := do(client, ref)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		jobs = append(jobs, j)
		if !c.json {
			text := j.Name + ": " + j.State
			if j.Reason != "" {
				text += ", " + j.Reason
			}
			fmt.Fprintln(c.stdout, printable(text))
		}
	}
	if c.json {
		failures = append(failures, printJSON(c.stdout, jobs))
	}
	return errors.Join(failures...)
}
