package trace_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	oteltrace "go.opentelemetry.io/otel/trace"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/secret"
	"davidcockson.com/runner/internal/trace"
)

func TestJobAsLangfuseGetsIt(t *testing.T) {
	server := newLangfuse(t, nil)
	tracer, log := start(t, server.URL+"/base/", nil)
	id := runJob(tracer).TraceID()
	if err := stop(tracer, generous); err != nil {
		t.Fatal(err)
	}
	spans, posts := server.got()
	if len(posts) != 1 {
		t.Fatalf("%d posts, want 1: %s", len(posts), log)
	}
	p := posts[0]
	if p.method != http.MethodPost || p.path != "/base/api/public/otel/v1/traces" {
		t.Errorf("%s %s", p.method, p.path)
	}
	for name, want := range map[string]string{"Authorization": "Basic " + inBase64, "X-Langfuse-Ingestion-Version": "4",
		"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip", "X-Langfuse-Sdk-Name": ""} {
		if got := p.header.Get(name); got != want {
			t.Errorf("header %s: %q, want %q", name, got, want)
		}
	}
	golden(t, "job.txt", dump(t, spans, p))
	if got, want := tracer.Link(id), server.URL+"/base/trace/"+id; got != want || len(id) != 32 {
		t.Errorf("link %q, want %q", got, want)
	}
	if s := tracer.Stats(); s.Ended != 6 || s.Sent != 6 || s.Failed+s.Dropped+s.Queued != 0 || s.LastSuccess.IsZero() || s.LastError != "" {
		t.Errorf("stats %+v", s)
	}
	if log.String() != "" {
		t.Errorf("log:\n%s", log)
	}
}

func TestContentOffLeavesAllTextOut(t *testing.T) {
	server := newLangfuse(t, nil)
	tracer, _ := start(t, server.URL, func(o *trace.Options) { o.Content = false })
	runJob(tracer)
	if err := stop(tracer, generous); err != nil {
		t.Fatal(err)
	}
	spans, posts := server.got()
	got := dump(t, spans, posts[0])
	golden(t, "job-content-off.txt", got)
	if strings.Contains(strings.ToLower(got), "canary") {
		t.Error("a text got out")
	}
}

func TestEnvironmentChangesNothing(t *testing.T) {
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a post went where the environment says") }))
	t.Cleanup(trap.Close)
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": trap.URL, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": trap.URL + "/v1/traces",
		"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic b3RoZXI=", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
		"OTEL_EXPORTER_OTLP_COMPRESSION": "none", "OTEL_EXPORTER_OTLP_INSECURE": "false", "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
		"OTEL_TRACES_SAMPLER": "always_off", "OTEL_BSP_MAX_QUEUE_SIZE": "1", "OTEL_BSP_EXPORT_TIMEOUT": "1", "OTEL_BSP_SCHEDULE_DELAY": "3600000",
		"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "1", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "1",
		"OTEL_SERVICE_NAME":        "other",
		"OTEL_RESOURCE_ATTRIBUTES": "service.version=9,langfuse.release=other,langfuse.environment=other,deployment.environment.name=other",
	} {
		t.Setenv(name, value)
	}
	server := newLangfuse(t, nil)
	tracer, _ := start(t, server.URL, nil)
	runJob(tracer)
	if err := stop(tracer, generous); err != nil {
		t.Fatal(err)
	}
	spans, posts := server.got()
	if len(posts) == 0 {
		t.Fatal("nothing was posted")
	}
	golden(t, "job.txt", dump(t, spans, posts[0]))
}

func TestTracesDoNotMixNorInherit(t *testing.T) {
	server := newLangfuse(t, nil)
	tracer, _ := start(t, server.URL, nil)
	remote := oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: oteltrace.TraceID{1}, SpanID: oteltrace.SpanID{1}, Remote: true})
	outside := oteltrace.ContextWithRemoteSpanContext(context.Background(), remote)
	ctx, first := tracer.Start(outside, trace.Root{Name: "first", Session: "a"})
	_, second := tracer.Start(ctx, trace.Root{Name: "second", Session: "b"})
	_, step := second.Step(ctx, 1, "of second") // a context of another trace
	step.End("", nil)
	second.End("", nil)
	first.End("", nil)
	if g := tracer.Generation(outside, trace.Call{}); g != nil {
		t.Error("a generation without a trace was made")
	}
	if err := stop(tracer, generous); err != nil {
		t.Fatal(err)
	}
	spans, _ := server.got()
	if len(spans) != 3 {
		t.Fatalf("%d spans", len(spans))
	}
	if len(spans[0].ParentSpanId)+len(spans[1].ParentSpanId) != 0 || string(spans[0].TraceId) == string(spans[1].TraceId) {
		t.Error("a root has a parent, or shares its trace")
	}
	if string(spans[2].ParentSpanId) != string(spans[1].SpanId) || value(spans[2], "langfuse.session.id").GetStringValue() != "b" {
		t.Error("the step is not its span's")
	}
}

func TestEndOfARootEndsWhatIsOpen(t *testing.T) {
	server := newLangfuse(t, nil)
	tracer, _ := start(t, server.URL, nil)
	func() {
		ctx, job := tracer.Start(context.Background(), trace.Root{Name: "panics"})
		defer func() {
			recover()
			job.End("", errors.New("it panicked"))
		}()
		ctx, _ = job.Step(ctx, 1, "left")
		tracer.Generation(ctx, trace.Call{Step: 1, Try: 1, Request: provider.Request{Model: "m"}})
		panic("canary")
	}()
	if err := stop(tracer, generous); err != nil {
		t.Fatal(err)
	}
	spans, posts := server.got()
	if len(spans) != 3 {
		t.Fatalf("%d spans, want 3", len(spans))
	}
	for _, s := range spans {
		if value(s, "langfuse.observation.level").GetStringValue() != "ERROR" || s.Status.GetCode() != otlp.Status_STATUS_CODE_ERROR {
			t.Errorf("%s did not fail", s.Name)
		}
	}
	if strings.Contains(dump(t, spans, posts[0]), "canary") {
		t.Error("the panic's text got out")
	}
}

func TestHowErrorsLook(t *testing.T) {
	const body = "canary body"
	for _, row := range []struct {
		name                 string
		err                  error
		level, kind, message string
	}{
		{"a success has the usual level and no message", nil, "DEFAULT", "", ""},
		{"a provider's failure says its kind", &provider.Error{Kind: provider.Timeout, Provider: "p", Reason: body}, "ERROR", "timeout", "p: " + body},
		{"a cancelled call is no error but a warning", &provider.Error{Kind: provider.Cancelled, Provider: "p", Reason: body}, "WARNING", "cancelled", "p: " + body},
		{"a context that ended is one too", context.Canceled, "WARNING", "cancelled", "context canceled"},
		{"any other failure", errors.New(body), "ERROR", "failed", body},
		{"a long message is cut at a whole character", errors.New("a" + strings.Repeat("é", 3000)), "ERROR", "failed", "a" + strings.Repeat("é", 1999)},
		{"a message of broken UTF-8 is mended", errors.New("a\xffb"), "ERROR", "failed", "a\uFFFDb"},
	} {
		for _, content := range []bool{true, false} {
			t.Run(row.name, func(t *testing.T) {
				server := newLangfuse(t, nil)
				tracer, log := start(t, server.URL, func(o *trace.Options) { o.Content = content })
				_, s := tracer.Start(context.Background(), trace.Root{Type: "text"})
				s.End("", row.err)
				if err := stop(tracer, generous); err != nil {
					t.Fatal(err)
				}
				spans, _ := server.got()
				if len(spans) != 1 {
					t.Fatalf("%d spans: %s", len(spans), log)
				}
				want := row.message
				if !content {
					want = row.kind
				}
				got := []string{value(spans[0], "langfuse.observation.level").GetStringValue(), value(spans[0], "error.type").GetStringValue(),
					value(spans[0], "langfuse.observation.status_message").GetStringValue()}
				if got[0] != row.level || got[1] != row.kind || got[2] != want {
					t.Errorf("got %q, want %q", got, []string{row.level, row.kind, want})
				}
				if row.level == "ERROR" != (spans[0].Status.GetCode() == otlp.Status_STATUS_CODE_ERROR) || row.level == "ERROR" && spans[0].Status.Message != want {
					t.Errorf("status %v", spans[0].Status)
				}
			})
		}
	}
}

func TestLongTextsAreCutAndSaySo(t *testing.T) {
	for _, row := range []struct{ name, piece string }{
		{"characters of two bytes", "é"},
		{"characters that JSON writes as numbers", "\x01"},
		{"emoji", "🐤"},
		{"broken UTF-8", "\xffa"},
	} {
		t.Run(row.name, func(t *testing.T) {
			server := newLangfuse(t, nil)
			tracer, log := start(t, server.URL, nil)
			many := 4_100_000 / len(row.piece)
			long := strings.Repeat(row.piece, many)
			ctx, s := tracer.Start(context.Background(), trace.Root{Name: long[:2000], Input: long})
			g := tracer.Generation(ctx, trace.Call{Request: provider.Request{Model: "m", Messages: []provider.Message{
				{Role: provider.System, Content: "kept"}, {Role: provider.User, Content: long}, {Role: provider.User, Content: "no room"}}}})
			g.End(provider.Answer{Text: long, Thinking: long}, nil)
			s.End(long, nil)
			if err := stop(tracer, generous); err != nil {
				t.Fatalf("%v: %s", err, log)
			}
			spans, posts := server.got()
			if len(spans) != 2 || tracer.Stats().Sent != 2 || len(posts) != 2 {
				t.Fatalf("%d spans in %d posts, stats %+v: %s", len(spans), len(posts), tracer.Stats(), log)
			}
			for i, s := range spans {
				if posts[i].size > 9_500_000 {
					t.Errorf("a span of %d bytes", posts[i].size)
				}
				if n := len(value(s, "langfuse.trace.name").GetStringValue()); n == 0 || n > 1000 {
					t.Errorf("the trace's name has %d bytes", n)
				}
				for _, which := range []string{"input", "output"} {
					all := value(s, "langfuse.observation.metadata."+which+"_characters").GetIntValue()
					kept := value(s, "langfuse.observation.metadata."+which+"_cut_to_characters").GetIntValue()
					if all < int64(many) || kept < 600_000 || kept >= all {
						t.Errorf("%s: %s says %d of %d characters", s.Name, which, kept, all)
					}
				}
				if input := value(s, "langfuse.observation.input").GetStringValue(); s.Name == "chat m" && !json.Valid([]byte(input)) {
					t.Error("the input is no JSON any more")
				}
			}
		})
	}
}

func TestUnknownUsageIsLeftOut(t *testing.T) {
	for _, row := range []struct {
		name  string
		usage provider.Usage
		want  string
	}{
		{"no counts", provider.Usage{Estimate: 5}, ""},
		{"both", provider.Usage{Read: 3, Written: 4}, `{"input":3,"output":4,"total":7}`},
		{"only what was read, of a failed call", provider.Usage{Read: 3}, `{"input":3,"total":3}`},
		{"parts do not overlap", provider.Usage{Read: 12, Cached: 4, Written: 7, Reasoning: 2},
			`{"input":8,"input_cached_tokens":4,"output":5,"output_reasoning_tokens":2,"total":19}`},
		{"a part larger than the whole does not make it negative", provider.Usage{Read: 3, Cached: 9, Written: 1},
			`{"input_cached_tokens":3,"output":1,"total":4}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			server := newLangfuse(t, nil)
			tracer, _ := start(t, server.URL, nil)
			ctx, s := tracer.Start(context.Background(), trace.Root{})
			tracer.Generation(ctx, trace.Call{}).End(provider.Answer{Usage: row.usage}, nil)
			s.End("", nil)
			if err := stop(tracer, generous); err != nil {
				t.Fatal(err)
			}
			spans, _ := server.got()
			if got := value(spans[1], "langfuse.observation.usage_details").GetStringValue(); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
			if value(spans[1], "langfuse.observation.cost_details") != nil {
				t.Error("a cost that nobody gave")
			}
		})
	}
}

func TestNothingIsTracedWithoutATracer(t *testing.T) {
	var tracer *trace.Tracer
	job := runJob(tracer)
	if job.TraceID() != "" || tracer.Link(job.TraceID()) != "" || tracer.Stats() != (trace.Stats{}) {
		t.Error("a nil Tracer traces")
	}
	if err := errors.Join(tracer.Shutdown(context.Background()), tracer.Check(context.Background())); err != nil {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, row := range []struct {
		name string
		o    trace.Options
	}{
		{"a host with a password", trace.Options{Host: "https://me:canary@l", PublicKey: "p", SecretKey: secret.New("s")}},
		{"a host that is no URL", trace.Options{Host: "https://canary:x/", PublicKey: "p", SecretKey: secret.New("s")}},
		{"a host with a query", trace.Options{Host: "https://l?k=canary", PublicKey: "p", SecretKey: secret.New("s")}},
		{"another scheme", trace.Options{Host: "ftp://canary", PublicKey: "p", SecretKey: secret.New("s")}},
		{"no public key", trace.Options{Host: "https://l", SecretKey: secret.New("canary")}},
		{"no secret key", trace.Options{Host: "https://l", PublicKey: "canary"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := trace.New(row.o); err == nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// value is an attribute of a span, nil where it has none.
func value(s *otlp.Span, key string) *common.AnyValue {
	for _, kv := range s.Attributes {
		if kv.Key == key {
			return kv.Value
		}
	}
	return nil
}
