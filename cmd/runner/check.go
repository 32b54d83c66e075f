package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/health"
	"davidcockson.com/runner/internal/provider"
)

// finding is one line of what check found.
type finding struct {
	What string `json:"what"`
	// OK is false where something cannot work as it is.
	OK bool `json:"ok"`
	// Warn is set where all works, and the owner may want it otherwise.
	Warn bool   `json:"warn,omitempty"`
	Text string `json:"text"`
	// Draft says that a note is not taken before its owner hands it in.
	Draft bool `json:"draft,omitempty"`
	// Requests are what a note would send.
	Requests []wouldSend `json:"requests,omitempty"`
}

func (f finding) mark() string {
	switch {
	case !f.OK:
		return "FAIL"
	case f.Warn:
		return "warn"
	}
	return "ok  "
}

// pollOverdue is the age of the last look at the queue after which a worker
// counts as stuck. It looks each second.
const pollOverdue = 30 * time.Second

func runCheck(ctx context.Context, c *call) error {
	load := c.load
	if !c.live && len(c.args) == 0 { // it reaches whatever is configured
		load = c.loadWithSecrets
	}
	conf, err := load()
	if err != nil {
		return err
	}
	var findings []finding
	switch {
	case c.live:
		findings, err = checkLive(ctx, conf)
	case len(c.args) > 0:
		day := spentToday(ctx, conf)
		for _, name := range c.args {
			findings = append(findings, checkNote(ctx, conf, day, name))
		}
	default:
		findings = checkAll(ctx, conf)
	}
	if err != nil {
		return err
	}
	bad := 0
	for _, f := range findings {
		if !f.OK {
			bad++
		}
		if !c.json {
			fmt.Fprintf(c.stdout, "%s  %s: %s\n", f.mark(), f.What, printable(f.Text))
			printRequests(c.stdout, f.Requests)
		}
	}
	if c.json {
		if err := printJSON(c.stdout, findings); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d checks failed", bad, len(findings))
	}
	return nil
}

// checkLive asks the worker whether it lives and claims jobs.
func checkLive(ctx context.Context, conf *config.Config) ([]finding, error) {
	s, err := control.Dial(filepath.Join(conf.StateDir, socketFile)).Status(ctx)
	if err != nil {
		return nil, err
	}
	return []finding{workerFinding(s)}, nil
}

func workerFinding(s control.Status) finding {
	f := finding{What: "worker"}
	switch age := time.Since(s.LastPoll); {
	case s.LastPoll.IsZero():
		f.Text = fmt.Sprintf("runs on %s and has not looked at the queue yet", s.Host)
	case !s.Claiming:
		f.Text = "claims nothing: " + s.Reason
	default:
		f.OK = age <= pollOverdue
		f.Text = fmt.Sprintf("runs on %s, last look at the queue %s ago", s.Host, age.Round(time.Second))
	}
	return f
}

// checkAll tries everything that the configuration names. It changes nothing.
func checkAll(ctx context.Context, conf *config.Config) []finding {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	all := []finding{{What: "configuration", OK: true, Text: conf.File}}
	all = append(all, checkVault(conf)...)
	all = append(all, checkState(conf)...)
	all = append(all, checkWorker(ctx, conf))
	all = append(all, checkProviders(ctx, conf)...)
	return append(all, checkOutside(ctx, conf)...)
}

// checkOutside reaches what jobs can do without, where it is configured. Nothing is
// sent and no token is spent.
func checkOutside(ctx context.Context, conf *config.Config) []finding {
	n := node{conf: conf, log: slog.New(slog.DiscardHandler)}
	defer n.Close()
	if err := errors.Join(n.traces(), n.pings()); err != nil {
		return []finding{{What: "configuration", Text: err.Error()}}
	}
	var probes []health.Probe
	for _, p := range n.services() {
		if p.Name != "discord" { // health tells of what was sent; here the webhook itself is asked
			probes = append(probes, p)
		}
	}
	if n.discord != nil {
		probes = append(probes, health.Probe{Name: "discord", Check: n.webhook})
	}
	var all []finding
	for _, p := range probes {
		if p.Check == nil {
			continue
		}
		f := finding{What: p.Name, OK: true}
		text, err := p.Check(ctx)
		f.Text = cmp.Or(text, "answers")
		if err != nil {
			f.OK, f.Text = false, err.Error()
		}
		all = append(all, f)
	}
	return all
}

// checkWorker tells of the worker. That none runs is no fault of the configuration.
func checkWorker(ctx context.Context, conf *config.Config) finding {
	s, err := control.Dial(filepath.Join(conf.StateDir, socketFile)).Status(ctx)
	switch {
	case errors.Is(err, control.ErrNoWorker):
		return finding{What: "worker", OK: true, Warn: true, Text: "none runs here; `runner up` starts it"}
	case err != nil:
		return finding{What: "worker", Text: err.Error()}
	}
	return workerFinding(s)
}

// checkState looks at the state folder, or at the folder in which a start makes it.
func checkState(conf *config.Config) []finding {
	dir, note := conf.StateDir, ""
	for {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return []finding{{What: "state folder", Text: dir + " is no folder"}}
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(dir) == dir {
			return []finding{{What: "state folder", Text: err.Error()}}
		}
		dir, note = filepath.Dir(dir), "; the first start makes it"
	}
	f := checkWritable("state folder", dir)
	if f.OK {
		f.Text = conf.StateDir + note
	}
	return []finding{f, checkSpace("state folder's disk", dir)}
}

// checkProviders asks each provider for its models.
func checkProviders(ctx context.Context, conf *config.Config) []finding {
	var all []finding
	hosts, _, err := providers(conf, nil)
	if err != nil {
		return append(all, finding{What: "providers", Text: err.Error()})
	}
	for _, h := range hosts {
		f := finding{What: "provider " + h.Name, OK: true}
		if err := h.Provider.Ping(ctx); provider.KindOf(err) == provider.Unreachable && h.Patient {
			f.Warn, f.Text = true, "its notes wait for it, since offline is wait: "+reasonOf(err)
		} else if err != nil {
			f.OK, f.Text = false, reasonOf(err)
		} else if models, err := h.Provider.Models(ctx); err != nil {
			f.OK, f.Text = false, reasonOf(err)
		} else {
			f.OK, f.Text = compareModels(h.Models, models)
		}
		all = append(all, f)
	}
	return all
}

func reasonOf(err error) string {
	var e *provider.Error
	if errors.As(err, &e) {
		return strings.TrimSuffix(e.Reason+"; "+e.Advise(), "; ")
	}
	return err.Error()
}

func compareModels(configured []string, listed []provider.Model) (bool, string) {
	have := make(map[string]bool)
	for _, m := range listed {
		have[strings.ToLower(strings.TrimSuffix(m.Name, ":latest"))] = true
	}
	var missing []string
	for _, m := range configured {
		if !have[strings.ToLower(strings.TrimSuffix(m, ":latest"))] {
			missing = append(missing, m)
		}
	}
	if len(missing) > 0 {
		return false, "answers, and does not have: " + strings.Join(missing, ", ")
	}
	if len(listed) == 1 {
		return true, "answers, and has 1 model"
	}
	return true, fmt.Sprintf("answers, and has %d models", len(listed))
}
