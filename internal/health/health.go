// Package health says how the parts that we depend on are: probed together,
// cached, bounded in time, and free of cost.
//
// It promises that a report is answered from what is known, at most one round of
// probes runs at a time, and each probe has its own deadline; that only a part
// that the worker cannot do without makes the whole fail; and that a part which is
// not configured says so. Nothing is stored.
package health

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"
)

// State is how a part is, in one word. Monitors match on these words.
type State string

// The states of a part.
const (
	OK            State = "ok"
	Slow          State = "slow"           // it answers, later than it should
	Down          State = "down"           // it does not answer
	WrongKey      State = "wrong key"      // it answers and does not accept our key
	ModelMissing  State = "model missing"  // it answers and lacks a model that is configured
	Failing       State = "failing"        // it answers with an error, or does not do its work
	NotConfigured State = "not configured" // nothing is set for it
)

// Problem is why a part is not ok. A probe's error that is none counts as Down.
type Problem struct {
	State  State
	Reason string // what was seen
	Advice string // what to do, "" for the probe's own
	// Since is when that began, where it is known from elsewhere; zero else.
	Since time.Time
}

// Error returns the reason.
func (p *Problem) Error() string { return p.Reason }

// Probe looks at one part.
type Probe struct {
	Name string
	// Core parts are those without which no job runs.
	Core bool
	// Advice is what to do where a problem says nothing of it.
	Advice string
	// Check is nil for a part that is not configured. It spends no tokens. Its
	// text is shown beside ok.
	Check func(ctx context.Context) (text string, err error)
}

// Part is how one part was when it was last probed.
type Part struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Core  bool   `json:"core,omitempty"`
	// Since is when State began, as far as this process knows.
	Since  time.Time `json:"since,omitzero"`
	Probed time.Time `json:"probed,omitzero"`
	// LatencyMS is how long the probe took, in milliseconds.
	LatencyMS int64  `json:"latency_ms"`
	Text      string `json:"text,omitempty"`
	Advice    string `json:"advice,omitempty"`
}

// Status is how the whole is.
type Status string

// The statuses.
const (
	Healthy  Status = "ok"
	Degraded Status = "degraded" // jobs run; something that they may need does not
	Broken   Status = "failing"  // no job runs
)

// Report is all parts at one moment.
type Report struct {
	Status  Status    `json:"status"`
	Version string    `json:"version,omitempty"`
	Time    time.Time `json:"time"`
	Parts   []Part    `json:"parts"`
}

const (
	// fresh is how long a round of probes is believed.
	fresh = 15 * time.Second
	// probeTime bounds one probe.
	probeTime = 5 * time.Second
	// grace is what a probe has beyond that to return.
	grace = 100 * time.Millisecond
	// slow is the time after which an answer counts as slow.
	slow = 2 * time.Second
)

// Checker is safe for concurrent use.
type Checker struct {
	version string
	probes  []Probe

	mu    sync.Mutex
	parts []Part        // of the last round, in the order of probes
	at    time.Time     // when it ended
	round chan struct{} // closed when the round under way ends, nil if none is
	// hangs says of each probe that a look of an earlier round has not returned.
	hangs []bool
}

// New returns a Checker over probes, in the order in which they are shown.
func New(version string, probes ...Probe) *Checker {
	c := &Checker{version: version, probes: probes, hangs: make([]bool, len(probes))}
	for _, p := range probes {
		c.parts = append(c.parts, Part{Name: p.Name, Core: p.Core, State: NotConfigured})
	}
	return c
}

// Report tells how all parts are: from the last round while it is fresh, else from
// a new one. If ctx ends before that, the last known is told, and the round goes on
// for whoever asks next.
func (c *Checker) Report(ctx context.Context) Report {
	if round := c.begin(ctx); round != nil {
		select {
		case <-round:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := Report{Status: Healthy, Version: c.version, Time: time.Now().UTC(), Parts: append([]Part(nil), c.parts...)}
	for _, p := range r.Parts {
		switch {
		case p.State == OK || p.State == NotConfigured:
		case p.Core && p.State != Slow:
			r.Status = Broken
		case r.Status == Healthy:
			r.Status = Degraded
		}
	}
	return r
}

// begin starts a round if the last one is stale and none is under way. It returns
// the channel that the round under way closes, nil if none is needed.
func (c *Checker) begin(ctx context.Context) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.round == nil && (c.at.IsZero() || time.Since(c.at) >= fresh) {
		c.round = make(chan struct{})
		go c.probe(context.WithoutCancel(ctx))
	}
	if c.round == nil {
		return nil
	}
	return c.round
}

// probe looks at every part at once.
func (c *Checker) probe(ctx context.Context) {
	parts := make([]Part, len(c.probes))
	var group sync.WaitGroup
	for i := range c.probes {
		group.Go(func() { parts[i] = c.look(ctx, i) })
	}
	group.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range parts {
		if parts[i].State == c.parts[i].State && !c.parts[i].Since.IsZero() {
			parts[i].Since = c.parts[i].Since
		}
	}
	c.parts, c.at = parts, time.Now()
	close(c.round)
	c.round = nil
}

// look is one look at a part. A check that does not heed its context, such as one
// of a disk that hangs, is left behind, and not repeated before it has returned.
func (c *Checker) look(ctx context.Context, i int) Part {
	p := c.probes[i]
	if p.Check == nil {
		return Part{Name: p.Name, Core: p.Core, State: NotConfigured}
	}
	began := time.Now()
	lost := Part{Name: p.Name, Core: p.Core, State: Down, Since: began.UTC(), Probed: began.UTC(), LatencyMS: probeTime.Milliseconds(),
		Text: "no answer within " + probeTime.String(), Advice: p.Advice}
	c.mu.Lock()
	hangs := c.hangs[i]
	c.hangs[i] = true
	c.mu.Unlock()
	if hangs {
		return lost
	}
	done := make(chan Part, 1)
	go func() {
		part := check(ctx, p)
		c.mu.Lock()
		c.hangs[i] = false
		c.mu.Unlock()
		done <- part
	}()
	timer := time.NewTimer(probeTime + grace)
	defer timer.Stop()
	select {
	case part := <-done:
		return part
	case <-timer.C:
		return lost
	}
}

// check asks a part.
func check(ctx context.Context, p Probe) Part {
	part := Part{Name: p.Name, Core: p.Core}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	began := time.Now()
	text, err := p.Check(ctx)
	took := time.Since(began)
	part.Probed, part.Since, part.LatencyMS, part.Text = began.UTC(), began.UTC(), took.Milliseconds(), text
	var problem *Problem
	switch {
	case errors.As(err, &problem):
		part.State, part.Text, part.Advice = problem.State, problem.Reason, cmp.Or(problem.Advice, p.Advice)
		if !problem.Since.IsZero() {
			part.Since = problem.Since.UTC()
		}
	case err != nil && ctx.Err() != nil:
		part.State, part.Text, part.Advice = Down, "no answer within "+probeTime.String(), p.Advice
	case err != nil:
		part.State, part.Text, part.Advice = Down, err.Error(), p.Advice
	case took > slow:
		part.State, part.Advice = Slow, "it works; if it stays slow, look at what else its machine does, and at the network between"
	default:
		part.State = OK
	}
	return part
}
