package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/control"
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

// checkNote tells what a note would send, to whom, without sending it; of a draft what
// it would once it is handed in. day is what was spent today, nil where nobody knows.
func checkNote(ctx context.Context, conf *config.Config, day *ledger.Spending, name string) finding {
	f := finding{What: name, OK: true}
	spec, sources, err := readJob(ctx, conf, name)
	if err == nil {
		err = jobtype.Unavailable(spec.Type)
	}
	var asked []worker.Asked
	if err == nil {
		asked, err = worker.Foresee(ctx, spec)
	}
	var parts []string
	if spec.Draft {
		f.Draft = true
		parts = append(parts, "a draft: it is not taken until draft is unticked")
	}
	switch {
	case err != nil && spec.Draft: // it is being written
		f.Warn, f.Text = true, parts[0]+"; then it could not run: "+reasonOf(err)
		return f
	case err != nil:
		f.OK, f.Text = false, reasonOf(err)
		return f
	}
	parts = append(parts, string(spec.Type))
	hosts := roster(conf)
	for _, a := range asked {
		r := would(hosts, a)
		part := fmt.Sprintf("step %d asks %s/%s, at least %d tokens", r.Step, r.Provider, r.Model, r.Tokens)
		if r.USD != nil {
			part += fmt.Sprintf(", about $%.4f", *r.USD)
		}
		parts, f.Requests = append(parts, part), append(f.Requests, r)
	}
	if text, never := againstCaps(caps(conf), hosts, asked, day); text != "" {
		f.OK, f.Warn = !never || spec.Draft, true
		parts = append(parts, text)
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

// would is a request as it is shown.
func would(hosts []ask.Host, a worker.Asked) wouldSend {
	r := wouldSend{Step: a.Step, Provider: a.Provider, Model: a.Request.Model, Tokens: provider.Estimate(a.Request.Messages), Messages: a.Request.Messages}
	if price, ok := paidHost(hosts, a.Provider).Prices[r.Model]; ok {
		usd := a.Intent(price).SpentUSD
		r.USD = &usd
	}
	return r
}

// paidHost is the host of a name if its calls count for the caps, else none.
func paidHost(hosts []ask.Host, name string) ask.Host {
	for _, h := range hosts {
		if h.Name == name && h.Paid {
			return h
		}
	}
	return ask.Host{}
}

// againstCaps says where a cap would stop a job, "" for nowhere; never says that no
// other day would allow it. Each step counts as much as it may spend, so that those
// after the first may yet fit.
func againstCaps(limits ledger.Caps, hosts []ask.Host, asked []worker.Asked, day *ledger.Spending) (text string, never bool) {
	var run, today ledger.Spending
	if day != nil {
		today = *day
	}
	paid := false
	for i, a := range asked {
		h := paidHost(hosts, a.Provider)
		if !h.Paid {
			continue
		}
		paid = true
		call := a.Intent(h.Prices[a.Request.Model])
		e := limits.Forbid(call, run, today)
		switch {
		case e == nil:
		case e.Scope == ledger.DayCap:
			return fmt.Sprintf("step %d would wait until midnight: %s", a.Step, e.Reason), false
		case i > 0:
			return fmt.Sprintf("step %d might be refused: %s", a.Step, e.Reason), false
		default:
			return fmt.Sprintf("step %d would be refused: %s", a.Step, e.Reason), true
		}
		for _, s := range []*ledger.Spending{&run, &today} {
			s.Tokens, s.USD = s.Tokens+call.SpentTokens, s.USD+call.SpentUSD
			s.EstimatedTokens, s.EstimatedUSD = s.EstimatedTokens+call.SpentTokens, s.EstimatedUSD+call.SpentUSD
		}
	}
	if paid && day == nil && (limits.DayTokens != nil || limits.DayUSD != nil) {
		return "whether the day's cap makes it wait is not known: the ledger cannot be read here", false
	}
	return "", false
}

// spentToday is what the ledger says was spent since midnight, nil where it cannot be
// read. Before the first start nothing was.
func spentToday(ctx context.Context, conf *config.Config) *ledger.Spending {
	l, err := openLedger(ctx, conf)
	if errors.Is(err, control.ErrNoWorker) {
		return &ledger.Spending{}
	}
	if err != nil {
		return nil
	}
	defer l.Close()
	day, err := l.Spent(ctx, ask.Midnight(time.Now(), conf.Timezone))
	if err != nil {
		return nil
	}
	return &day
}

// readJob reads a job note from a file, a draft as if it were none, and puts in what
// its links name. Beside an error the Spec tells whether it is a draft.
func readJob(ctx context.Context, conf *config.Config, name string) (job.Spec, []prepare.Source, error) {
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
	spec, err := job.ReadDraft(n, rules(conf))
	if err != nil {
		return spec, nil, err
	}
	v, err := vault.Open(conf.Vault)
	if err != nil {
		return spec, nil, fmt.Errorf("open the vault: %w; `runner init` makes it", err)
	}
	defer v.Close()
	whole, sources, err := prepare.Inline(ctx, spec, v, worker.Index(v))
	whole.Draft = spec.Draft
	return whole, sources, err
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
