package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"davidcockson.com/runner/internal/provider"
)

// State is what is read anew at each scrape.
type State struct {
	// Notes counts the notes in the queue by state: settling (in the guard's time),
	// waiting, held, duplicate, unfinished, draft, conflict.
	Notes map[string]int
	// Oldest is when the oldest waiting note was first seen, zero for none.
	Oldest time.Time
	Active int
	// Claiming is false while nothing is claimed, for a reason that health tells.
	Claiming bool
	LastPoll time.Time
	Lines    []provider.Line
	// Hosts says by provider whether it could be reached when last asked; one that
	// nobody has asked yet is not in it.
	Hosts map[string]bool
	// Messages counts by channel (notify, trace) and outcome (queued, sent,
	// failed, dropped).
	Messages map[string]map[string]int64
}

// readTime bounds the reading of a State.
const readTime = 5 * time.Second

// Watch shows the state that read returns at each scrape. If it fails, its metrics
// are missing and runner_state_read says 0.
func (m *Metrics) Watch(read func(context.Context) (State, error)) {
	if m == nil {
		return
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	m.registry.MustRegister(&stateCollector{
		read:     read,
		ok:       desc("runner_state_read", "1 if the state of the worker could be read for this scrape."),
		notes:    desc("runner_queue_notes", "Notes in the queue folder by state.", "state"),
		oldest:   desc("runner_queue_oldest_seconds", "Age of the oldest waiting note, 0 if none waits."),
		active:   desc("runner_jobs_active", "Jobs that run now."),
		claiming: desc("runner_claiming", "1 while notes are claimed, 0 while something stands against it."),
		poll:     desc("runner_last_poll_timestamp_seconds", "When the queue was last looked at."),
		limit:    desc("runner_provider_places", "Places at a provider.", "provider"),
		used:     desc("runner_provider_places_used", "Places at a provider that are taken.", "provider"),
		waiting:  desc("runner_provider_places_waiting", "Those who wait for a place at a provider.", "provider", "class"),
		up:       desc("runner_provider_up", "1 if the provider could be reached when it was last asked: before a note is claimed for it, by a call, or by a look at /health. Missing until it was asked.", "provider"),
		queued:   desc("runner_messages_queued", "Messages that wait to be sent, by channel.", "channel"),
		messages: desc("runner_messages_total", "Messages by channel and outcome.", "channel", "outcome"),
	})
}

type stateCollector struct {
	read                                                                                  func(context.Context) (State, error)
	ok, notes, oldest, active, claiming, poll, limit, used, waiting, up, queued, messages *prometheus.Desc
}

// Describe sends the descriptions of all metrics.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.ok, c.notes, c.oldest, c.active, c.claiming, c.poll, c.limit, c.used, c.waiting, c.up, c.queued, c.messages} {
		ch <- d
	}
}

// Collect reads the state and sends it.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s, err := c.read(ctx)
	gauge(c.ok, one(err == nil))
	if err != nil {
		return
	}
	for state, n := range s.Notes {
		gauge(c.notes, float64(n), state)
	}
	age := 0.0
	if !s.Oldest.IsZero() {
		age = time.Since(s.Oldest).Seconds()
	}
	gauge(c.oldest, age)
	gauge(c.active, float64(s.Active))
	gauge(c.claiming, one(s.Claiming))
	if !s.LastPoll.IsZero() {
		gauge(c.poll, float64(s.LastPoll.UnixMilli())/1000)
	}
	for _, l := range s.Lines {
		gauge(c.limit, float64(l.Limit), l.Name)
		gauge(c.used, float64(len(l.Held)), l.Name)
		waiting := map[provider.Class]int{provider.Interactive: 0, provider.Batch: 0}
		for _, h := range l.Waiting {
			waiting[h.Class]++
		}
		for class, n := range waiting {
			gauge(c.waiting, float64(n), l.Name, string(class))
		}
	}
	for name, up := range s.Hosts {
		gauge(c.up, one(up), name)
	}
	for channel, outcomes := range s.Messages {
		for outcome, n := range outcomes {
			if outcome == "queued" {
				gauge(c.queued, float64(n), channel)
				continue
			}
			ch <- prometheus.MustNewConstMetric(c.messages, prometheus.CounterValue, float64(n), channel, outcome)
		}
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
