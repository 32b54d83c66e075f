// Package metrics counts what the worker does, for Prometheus.
//
// It promises that label values are bounded: job types, outcomes and kinds of
// failure are fixed words, providers come from the configuration, and of models
// the first fifty are told apart, the rest are "other". A nil *Metrics counts
// nothing. Names follow Prometheus' conventions and, where they fit, the names of
// OpenTelemetry's conventions for generative AI as Prometheus spells them.
// Nothing is stored.
package metrics

import (
	"cmp"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"davidcockson.com/runner/internal/provider"
)

// Metrics is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	jobs      *prometheus.CounterVec   // type, provider, outcome
	jobTime   *prometheus.HistogramVec // type, outcome
	queueTime prometheus.Histogram
	calls     *prometheus.HistogramVec // operation, provider, model, error
	first     *prometheus.HistogramVec // operation, provider, model
	tokens    *prometheus.HistogramVec // operation, provider, model, token type
	load      *prometheus.HistogramVec // provider, model
	cost      *prometheus.CounterVec   // provider, model
	retries   *prometheus.CounterVec   // provider, kind

	mu     sync.Mutex
	models map[string]struct{}
}

// mostModels is how many models are told apart.
const mostModels = 50

// otherModel stands for all models beyond those.
const otherModel = "other"

// New returns Metrics with a registry of their own. version is shown by
// runner_build_info.
func New(version string) *Metrics {
	// From a tenth of a second to an hour: an echo, a chat answer, a long chain.
	seconds := []float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}
	call := []string{"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		registry:  prometheus.NewRegistry(),
		models:    make(map[string]struct{}),
		jobs:      counter("runner_jobs_total", "Jobs that ended, by outcome.", "job_type", "provider", "outcome"),
		jobTime:   histogram("runner_job_duration_seconds", "From the claim of a job to its end.", seconds, "job_type", "outcome"),
		queueTime: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "runner_queue_wait_seconds", Help: "From the first sight of a note to its claim, guard and waits included.", Buckets: seconds}),
		calls:     histogram("gen_ai_client_operation_duration_seconds", "Duration of provider calls.", seconds, append(call, "error_type")...),
		first:     histogram("gen_ai_client_operation_time_to_first_chunk_seconds", "From a call of a loaded model to the first piece of its answer.", seconds, call...),
		tokens: histogram("gen_ai_client_token_usage", "Tokens of provider calls.",
			[]float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576}, append(call, "gen_ai_token_type")...),
		load:    histogram("runner_model_load_seconds", "Time spent on loading models.", seconds, "provider", "model"),
		cost:    counter("runner_cost_usd_total", "Cost of provider calls in US dollars, by the prices of the configuration.", "provider", "model"),
		retries: counter("runner_call_retries_total", "Calls that were made again, by the failure before.", "provider", "kind"),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "runner_build_info", Help: "Always 1; its label is the version.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	m.registry.MustRegister(m.jobs, m.jobTime, m.queueTime, m.calls, m.first, m.tokens, m.load, m.cost, m.retries, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// JobBegan counts the claim of a note that was first seen so long ago.
func (m *Metrics) JobBegan(waited time.Duration) {
	if m != nil {
		m.queueTime.Observe(waited.Seconds())
	}
}

// none stands for the type or provider of a note that was refused before it had one.
const none = "none"

// JobEnded counts a job: its type, its first provider, and how it ended. took is 0
// for a note that never ran, which has no duration.
func (m *Metrics) JobEnded(jobType, providerName, outcome string, took time.Duration) {
	if m == nil {
		return
	}
	jobType, providerName = cmp.Or(jobType, none), cmp.Or(providerName, none)
	m.jobs.WithLabelValues(jobType, providerName, outcome).Inc()
	if took > 0 {
		m.jobTime.WithLabelValues(jobType, outcome).Observe(took.Seconds())
	}
}

// Operation is what a call was for.
const Operation = "chat"

// Called counts one provider call with what it brought; usd is its cost, nil where
// no price is known.
func (m *Metrics) Called(providerName, model string, a provider.Answer, err error, usd *float64) {
	if m == nil {
		return
	}
	model = m.model(model)
	m.calls.WithLabelValues(Operation, providerName, model, string(provider.KindOf(err))).Observe(a.Took.Seconds())
	if a.FirstToken > 0 {
		m.first.WithLabelValues(Operation, providerName, model).Observe(a.FirstToken.Seconds())
	}
	if a.Usage.Read > 0 {
		m.tokens.WithLabelValues(Operation, providerName, model, "input").Observe(float64(a.Usage.Read))
	}
	if a.Usage.Written > 0 {
		m.tokens.WithLabelValues(Operation, providerName, model, "output").Observe(float64(a.Usage.Written))
	}
	if a.Load > 0 {
		m.load.WithLabelValues(providerName, model).Observe(a.Load.Seconds())
	}
	if usd != nil {
		m.cost.WithLabelValues(providerName, model).Add(*usd)
	}
}

// Retried counts a call that is made again after a failure.
func (m *Metrics) Retried(providerName string, kind provider.Kind) {
	if m != nil {
		m.retries.WithLabelValues(providerName, string(kind)).Inc()
	}
}

// model bounds the values of the model's label.
func (m *Metrics) model(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.models[name]; !ok {
		if len(m.models) >= mostModels {
			return otherModel
		}
		m.models[name] = struct{}{}
	}
	return name
}
