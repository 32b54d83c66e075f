package trace_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/secret"
	"davidcockson.com/runner/internal/trace"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	publicKey = "pk-lf-canary-public"
	secretKey = "sk-lf-canary-secret"
	// inBase64 is what the Authorization header says of them.
	inBase64 = "cGstbGYtY2FuYXJ5LXB1YmxpYzpzay1sZi1jYW5hcnktc2VjcmV0"
)

// langfuse stands in for the server: it keeps the decoded posts.
type langfuse struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*otlp.Span
	posts []post
	// answer writes the answer to a post; nil is what Langfuse says.
	answer http.HandlerFunc
}

// post is what a request was, beside its spans.
type post struct {
	method, path string
	header       http.Header
	size         int // before compression
	spans        int
	resource     []*common.KeyValue
	scope        *common.InstrumentationScope
}

func newLangfuse(t *testing.T, answer http.HandlerFunc) *langfuse {
	l := &langfuse{answer: answer}
	l.Server = httptest.NewServer(l)
	t.Cleanup(l.Close)
	return l
}

func (l *langfuse) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := l.keep(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if l.answer != nil {
		l.answer(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	io.WriteString(w, `{"id":"1"}`)
}

func (l *langfuse) keep(r *http.Request) error {
	unzipped, err := gzip.NewReader(r.Body)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(unzipped)
	if err != nil {
		return err
	}
	var req collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &req); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := post{method: r.Method, path: r.URL.Path, header: r.Header, size: len(data)}
	for _, resource := range req.ResourceSpans {
		p.resource = resource.Resource.Attributes
		for _, scope := range resource.ScopeSpans {
			p.scope = scope.Scope
			p.spans += len(scope.Spans)
			l.spans = append(l.spans, scope.Spans...)
		}
	}
	l.posts = append(l.posts, p)
	return nil
}

// got returns the spans in the order of their starts, and the posts.
func (l *langfuse) got() ([]*otlp.Span, []post) {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.SortStableFunc(l.spans, func(a, b *otlp.Span) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
	return slices.Clone(l.spans), slices.Clone(l.posts)
}

// journal is a log that may be read while it is written.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

// start returns a Tracer for host whose log is the journal.
func start(t *testing.T, host string, change func(*trace.Options)) (*trace.Tracer, *journal) {
	t.Helper()
	log := &journal{}
	o := trace.Options{Host: host, PublicKey: publicKey, SecretKey: secret.New(secretKey), Content: true,
		Version: "1.2.3", Release: "r7", Environment: "home",
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&o)
	}
	tracer, err := trace.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(tracer, 0) })
	return tracer, log
}

// stop shuts the Tracer down within limit.
func stop(tracer *trace.Tracer, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return tracer.Shutdown(ctx)
}

const generous = 30 * time.Second

// runJob makes the golden case: a job of two steps, where the first is asked twice,
// because the server is busy, and the second is cut. Its texts hold "canary".
func runJob(tracer *trace.Tracer) *trace.Span {
	warm := 0.0
	ctx, job := tracer.Start(context.Background(), trace.Root{Name: "Canary title", Type: "chain", ID: "0199-job", Attempt: 2,
		Session: "0199-session", User: "owner", Kind: trace.Chain, Tags: []string{"canary-tag", ""},
		Metadata: map[string]string{"note": "canary-file.md \xff"}, Input: "canary prompt <b> & \"quotes\""})
	outline := provider.Request{Model: "qwen3:4b", MaxTokens: 200, Temperature: &warm, Messages: []provider.Message{
		{Role: provider.System, Content: "canary system"}, {Role: provider.User, Content: "canary ünïcode \xff 🐤"}}}

	ctx1, step := job.Step(ctx, 1, "Canary outline")
	g := tracer.Generation(ctx1, trace.Call{Step: 1, Try: 1, Provider: "davas", Kind: "ollama", Request: outline})
	g.End(provider.Answer{Provider: "davas", Usage: provider.Usage{Estimate: 3}}, fmt.Errorf("step 1: %w",
		&provider.Error{Kind: provider.Busy, Provider: "davas", Model: "qwen3:4b", Reason: "429, it quotes: canary echo", Cause: errors.New("canary cause")}))
	g = tracer.Generation(ctx1, trace.Call{Step: 1, Try: 2, Provider: "davas", Kind: "ollama", Request: outline})
	g.FirstToken(time.Now())
	g.FirstToken(time.Now().Add(time.Hour)) // a later piece
	g.Cost(0)
	g.End(provider.Answer{Text: "canary answer", Thinking: "canary thought", Model: "qwen3:4b-q4", Digest: "sha256:aa", Finish: "stop", Context: 8192,
		Load: 1500 * time.Millisecond, Rate: 12.5, Usage: provider.Usage{Estimate: 3, Read: 12, Cached: 4, Written: 7, Reasoning: 2}}, nil)
	g.End(provider.Answer{}, errors.New("a second end"))
	step.End("", nil)

	ctx2, step := job.Step(ctx, 2, "Canary text")
	g = tracer.Generation(ctx2, trace.Call{Step: 2, Try: 1, Provider: "cloud", Kind: "gemini",
		Request: provider.Request{Model: "gemini-x", Messages: []provider.Message{{Role: provider.User, Content: "canary two"}}}})
	cut := &provider.Error{Kind: provider.Cut, Provider: "cloud", Model: "gemini-x", Reason: "canary: cut at 200 tokens"}
	g.End(provider.Answer{Text: "canary partial", Model: "gemini-x", Finish: "MAX_TOKENS"}, cut)
	step.End("", cut)
	job.End("canary partial output", cut)
	return job
}

// dump writes spans as text, with ids and times replaced by names.
func dump(t *testing.T, spans []*otlp.Span, p post) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "scope %s %s\n", p.scope.Name, p.scope.Version)
	writeAttributes(&b, p.resource)
	names := map[string]string{"": "none"}
	traces := map[string]int{}
	for i, s := range spans {
		names[string(s.SpanId)] = fmt.Sprintf("span %d", i+1)
		if traces[string(s.TraceId)] == 0 {
			traces[string(s.TraceId)] = len(traces) + 1
		}
	}
	for _, s := range spans {
		fmt.Fprintf(&b, "\n%s of trace %d, parent %s: %s\n", names[string(s.SpanId)], traces[string(s.TraceId)], names[string(s.ParentSpanId)], s.Name)
		fmt.Fprintf(&b, "  %s, %s %q, %d events\n", s.Kind, s.Status.GetCode(), s.Status.GetMessage(), len(s.Events))
		for _, kv := range s.Attributes {
			switch kv.Key {
			case "langfuse.observation.completion_start_time":
				at, err := time.Parse(time.RFC3339Nano, kv.Value.GetStringValue())
				if err != nil || !strings.HasSuffix(kv.Value.GetStringValue(), "Z") ||
					at.UnixNano() < int64(s.StartTimeUnixNano) || at.UnixNano() > int64(s.EndTimeUnixNano) {
					t.Errorf("%s is no UTC time within the span (%v)", kv.Value.GetStringValue(), err)
				}
				kv.Value = &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: "<time>"}}
			case "gen_ai.response.time_to_first_chunk":
				if seconds := kv.Value.GetDoubleValue(); seconds <= 0 || seconds > generous.Seconds() {
					t.Errorf("%v s to the first chunk", seconds)
				}
				kv.Value = &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: "<seconds>"}}
			}
		}
		writeAttributes(&b, s.Attributes)
	}
	return b.String()
}

func writeAttributes(b *strings.Builder, attributes []*common.KeyValue) {
	for _, kv := range attributes {
		fmt.Fprintf(b, "  %s = %s\n", kv.Key, show(kv.Value))
	}
}

func show(v *common.AnyValue) string {
	switch v := v.Value.(type) {
	case *common.AnyValue_StringValue:
		return fmt.Sprintf("%q", v.StringValue)
	case *common.AnyValue_IntValue:
		return fmt.Sprint(v.IntValue)
	case *common.AnyValue_DoubleValue:
		return fmt.Sprintf("%g", v.DoubleValue)
	case *common.AnyValue_ArrayValue:
		var parts []string
		for _, part := range v.ArrayValue.Values {
			parts = append(parts, show(part))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprintf("unknown %T", v.Value)
}

// golden compares got with a file, or rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the spans differ from %s; -update rewrites it. Got:\n%s", path, got)
	}
}
