// Package trace sends each job as a trace, and each try at a provider as a
// generation, to Langfuse 3.22 or newer, by OTLP over HTTP.
//
// It promises that tracing never touches a job: starting and ending a span makes
// no network call and waits for none. What was ended is kept in memory, up to 512
// spans or 64 MiB, and sent in the background; beyond that spans are dropped. Every
// ended span is counted as sent, failed, dropped or still queued. Nothing is stored
// on disk: what Shutdown could not send in its time is lost, and counted.
//
// A nil *Tracer, and all that is made from it, does nothing. With content off no
// text, title, tag or error text leaves the process: names, counts, times and ids
// do. The keys are in the requests' headers and nowhere else. The OTEL_*
// variables change nothing but attributes of the resource that are not set here,
// and no state of the OpenTelemetry library that others share is changed.
package trace

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"

	"davidcockson.com/runner/internal/secret"
)

const (
	// scope must not begin with "langfuse-sdk": Langfuse would take the spans for
	// its own library's.
	scope = "davidcockson.com/runner"
	// ingestionVersion asks for the direct write of Langfuse 4, without which a
	// trace may show up minutes later. Langfuse 3 ignores it.
	ingestionVersion = "4"

	batchSize  = 64
	batchDelay = time.Second
	// postLimit bounds a post before compression, in bytes. Langfuse warns above
	// 16 MiB. chunkLimit is how many bytes of text we put in one: the rest is for
	// the names and frames around them.
	postLimit  = 15 << 20
	chunkLimit = 12 << 20
	// requestLimit bounds one request, sendLimit one post with its repetitions.
	requestLimit = 10 * time.Second
	sendLimit    = 30 * time.Second
)

// Options say where traces go and what they carry.
type Options struct {
	// Host is the base URL of Langfuse.
	Host string
	// PublicKey and SecretKey are a project's keys, not an organization's.
	PublicKey string
	SecretKey secret.Key
	// Content lets texts out: prompts, answers, titles, tags and errors.
	Content bool
	// Version is the program's. Release groups traces in Langfuse. Environment is
	// lower case, at most 40 of a to z, 0 to 9, dash and underscore, and does not
	// begin with "langfuse". Each may be "".
	Version, Release, Environment string
	// Log takes what goes wrong: the first failure, then one line a minute.
	Log *slog.Logger
}

// Tracer makes traces. It is safe for concurrent use, and a nil one does nothing.
type Tracer struct {
	host    string
	auth    string
	content bool
	tracer  oteltrace.Tracer
	queue   *queue
	batch   sdktrace.SpanProcessor
	sender  *sender
	http    *transport
}

// New returns a Tracer. It does not reach for the network: a Langfuse that is down
// never stops a start. The error never shows the host or a key.
func New(o Options) (*Tracer, error) {
	base, err := url.Parse(o.Host)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Hostname() == "" ||
		base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("trace to Langfuse: the host is no http or https URL without user, query or fragment")
	}
	if o.PublicKey == "" || o.SecretKey.IsZero() {
		return nil, errors.New("trace to Langfuse: the public or the secret key is missing")
	}
	t := &Tracer{
		host:    strings.TrimRight(base.String(), "/"),
		auth:    "Basic " + base64.StdEncoding.EncodeToString([]byte(o.PublicKey+":"+o.SecretKey.Reveal())),
		content: o.Content,
		http:    newTransport(),
	}
	exporter, err := otlptracehttp.New(context.Background(), exporterOptions(t)...)
	if err != nil {
		return nil, errors.New("trace to Langfuse: the exporter refuses its options")
	}
	t.sendBy(exporter, o)
	return t, nil
}

// sendBy puts the queue, the batches and the spans before the exporter.
func (t *Tracer) sendBy(exporter sdktrace.SpanExporter, o Options) {
	t.queue = &queue{}
	t.sender = newSender(exporter, t.queue, o.Log)
	t.batch = sdktrace.NewBatchSpanProcessor(t.sender,
		// The queue before it is the limit: here nothing is ever dropped.
		sdktrace.WithMaxQueueSize(queueSpans),
		sdktrace.WithMaxExportBatchSize(batchSize),
		sdktrace.WithBatchTimeout(batchDelay),
		sdktrace.WithExportTimeout(0)) // sendLimit bounds each post of a batch
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithResource(describe(o)),
		sdktrace.WithRawSpanLimits(noLimits()),
		sdktrace.WithSpanProcessor(&processor{batch: t.batch, queue: t.queue}))
	t.tracer = provider.Tracer(scope, oteltrace.WithInstrumentationVersion(o.Version))
}

// exporterOptions names every setting that the exporter would otherwise read from
// the environment.
func exporterOptions(t *Tracer) []otlptracehttp.Option {
	return []otlptracehttp.Option{
		otlptracehttp.WithEndpointURL(t.host + "/api/public/otel/v1/traces"),
		otlptracehttp.WithHeaders(map[string]string{
			"Authorization":                t.auth,
			"x-langfuse-ingestion-version": ingestionVersion,
		}),
		otlptracehttp.WithTLSClientConfig(nil),
		otlptracehttp.WithEncoding(otlptracehttp.EncodingProtobuf),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithHTTPClient(t.http.client(requestLimit)),
		otlptracehttp.WithMaxRequestSize(postLimit),
		otlptracehttp.WithMaxResponseSize(responseLimit),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: 500 * time.Millisecond, MaxInterval: 5 * time.Second, MaxElapsedTime: 20 * time.Second}),
	}
}

// describe is the resource. Release and version stand here and not on spans, where
// Langfuse 3 would let a child without them wipe those of the trace.
func describe(o Options) *resource.Resource {
	var a attributes
	a.text("service.name", "runner")
	a.text("service.version", o.Version)
	a.text("langfuse.release", o.Release)
	a.text("langfuse.environment", o.Environment)
	a.text("deployment.environment.name", o.Environment)
	return resource.NewSchemaless(a...)
}

// noLimits lets every attribute through as it is: texts are cut here, by
// characters, and a cut is written down.
func noLimits() sdktrace.SpanLimits {
	return sdktrace.SpanLimits{AttributeValueLengthLimit: -1, AttributeCountLimit: -1, EventCountLimit: -1, LinkCountLimit: -1,
		AttributePerEventCountLimit: -1, AttributePerLinkCountLimit: -1}
}

// Link is the address of a trace for a reader. It leads to the trace once Langfuse
// has it, some seconds after its end. It is "" where traceID is "".
func (t *Tracer) Link(traceID string) string {
	if t == nil || traceID == "" {
		return ""
	}
	return t.host + "/trace/" + url.PathEscape(traceID)
}

// Stats returns what became of the spans until now.
func (t *Tracer) Stats() Stats {
	if t == nil {
		return Stats{}
	}
	return t.queue.stats()
}

// Shutdown sends what is queued and ends the background work, until ctx ends: the
// rest is counted as failed or dropped, and ctx's error is returned. A Langfuse that
// refuses the connection is not asked again. Spans that end later are dropped.
func (t *Tracer) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	t.http.closing.Store(true)
	t.queue.close()
	// The provider above stays open, so that late spans are counted.
	err := t.batch.Shutdown(ctx)
	if err != nil {
		t.sender.abort()
		err = fmt.Errorf("send the last traces: %w", err)
	}
	<-t.sender.done
	t.queue.giveUp()
	t.http.base.CloseIdleConnections()
	return err
}

// attributes is a list under construction. Texts are made valid UTF-8, because one
// that is not would fail a whole post.
type attributes []attribute.KeyValue

// text adds a text, and nothing where it is "": Langfuse takes that as absent.
func (a *attributes) text(key, value string) {
	if value != "" {
		*a = append(*a, attribute.String(key, strings.ToValidUTF8(value, "\uFFFD")))
	}
}

// number adds a number that is known, so not 0.
func (a *attributes) number(key string, value int) {
	if value != 0 {
		*a = append(*a, attribute.Int(key, value))
	}
}

// fraction adds a number that is known, so not 0.
func (a *attributes) fraction(key string, value float64) {
	if value != 0 {
		*a = append(*a, attribute.Float64(key, value))
	}
}

// list adds a list of texts, and nothing where it is empty.
func (a *attributes) list(key string, values []string) {
	if len(values) > 0 {
		*a = append(*a, attribute.StringSlice(key, values))
	}
}
