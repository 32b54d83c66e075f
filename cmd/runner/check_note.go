package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/jobtype"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/prepare"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/worker"
)

// wouldSend is one request that a note would make.
type wouldSend struct {
	Step     int    `json:"step"`
	Provider string `json:"provider"`
	Model    string `json:"model"`
	// Tokens is our lower bound for the prompt. Of a later step the answers before
	// it are not known yet and not counted.
	Tokens int `json:"tokens"`
	// USD is what the call counts for the caps before it is made; nil where no price
	// is known, or nothing is paid.
	USD      *float64           `json:"usd,omitempty"`
	Messages []provider.Message `json:"messages"`
}

// checkNote tells what a note would send, to whom, without sending it.
func checkNote(ctx context.Context, conf *config.Config, known job.Rules, name string) finding {
	f := finding{What: name}
	spec, sources, err := readJob(ctx, conf, known, name)
	if err != nil {
		f.Text = err.Error()
		return f
	}
	f.OK = true
	if spec.Draft {
		f.Text = "a draft: it is not taken until draft is unticked"
		return f
	}
	if err := jobtype.Unavailable(spec.Type, spec.Steps[0]); err != nil {
		f.OK, f.Text = false, reasonOf(err)
		return f
	}
	hosts, _, err := providers(conf, nil)
	if err != nil {
		f.OK, f.Text = false, err.Error()
		return f
	}
	a := &onlyAsked{hosts: hosts}
	runner, err := jobtype.For(spec.Type)
	if err == nil {
		j := job.Job{Type: spec.Type, System: spec.System, Temperature: spec.Temperature, MaxTokens: spec.MaxTokens, Preamble: spec.Preamble, Steps: spec.Steps}
		_, err = runner.Run(ctx, j, a, func(provider.Event) {})
	}
	if err != nil {
		f.OK, f.Text = false, err.Error()
		return f
	}
	f.Requests = a.asked
	parts := []string{string(spec.Type)}
	for _, r := range a.asked {
		part := fmt.Sprintf("step %d asks %s/%s, at least %d tokens", r.Step, r.Provider, r.Model, r.Tokens)
		if r.USD != nil {
			part += fmt.Sprintf(", about $%.4f", *r.USD)
		}
		parts = append(parts, part)
	}
	for _, s := range sources {
		parts = append(parts, fmt.Sprintf("reads %s, at least %d tokens", s.Path, s.Tokens))
	}
	if len(spec.Unknown) > 0 {
		parts = append(parts, "keys that are kept and not known: "+strings.Join(spec.Unknown, ", "))
	}
	f.Text = strings.Join(parts, "; ")
	return f
}

// readJob reads a job note from a file and puts in what its links name.
func readJob(ctx context.Context, conf *config.Config, known job.Rules, name string) (job.Spec, []prepare.Source, error) {
	file, err := os.Open(name)
	if err != nil {
		return job.Spec{}, nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, note.MaxSize+1))
	if err != nil {
		return job.Spec{}, nil, err
	}
	if len(data) > note.MaxSize {
		return job.Spec{}, nil, fmt.Errorf("the file is larger than %d MiB", note.MaxSize>>20)
	}
	n, err := note.Parse(data)
	if err != nil {
		return job.Spec{}, nil, err
	}
	spec, err := job.Read(n, known)
	if err != nil || spec.Draft {
		return spec, nil, err
	}
	v, err := vault.Open(conf.Vault)
	if err != nil {
		return spec, nil, fmt.Errorf("open the vault: %w; `runner init` makes it", err)
	}
	defer v.Close()
	return prepare.Inline(ctx, spec, v, worker.Index(v))
}

// onlyAsked notes what it is asked, and asks nobody.
type onlyAsked struct {
	hosts []ask.Host
	asked []wouldSend
}

func (a *onlyAsked) Ask(_ context.Context, step int, name string, req provider.Request, _ provider.Sink) (provider.Answer, error) {
	r := wouldSend{Step: step, Provider: name, Model: req.Model, Tokens: provider.Estimate(req.Messages), Messages: req.Messages}
	for _, h := range a.hosts {
		if price, ok := h.Prices[req.Model]; ok && h.Name == name && h.Paid {
			usd := cost(price, req)
			r.USD = &usd
		}
	}
	a.asked = append(a.asked, r)
	return provider.Answer{Text: fmt.Sprintf("(the answer to step %d)", step), Provider: name, Model: req.Model}, nil
}

func cost(price ledger.Price, req provider.Request) float64 {
	read, written := ask.Likely(req)
	return price.Cost(read, written)
}

// printRequests shows the messages themselves.
func printRequests(w io.Writer, requests []wouldSend) {
	for _, r := range requests {
		for _, m := range r.Messages {
			fmt.Fprintf(w, "      step %d, %s:\n", r.Step, m.Role)
			for line := range strings.Lines(m.Content) {
				fmt.Fprintf(w, "      | %s\n", printable(strings.TrimRight(line, "\n")))
			}
		}
	}
}
