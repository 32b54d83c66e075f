package roomtest

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// langfuse stands in for the server: it keeps the spans.
type langfuse struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*otlp.Span
}

func newLangfuse(t *testing.T) *langfuse {
	l := new(langfuse)
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			if err := l.keep(r); err != nil {
				t.Error(err)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"id": "1"}`)
	}))
	t.Cleanup(func() { l.CloseClientConnections(); l.Close() })
	return l
}

func (l *langfuse) keep(r *http.Request) error {
	unzipped, err := gzip.NewReader(r.Body)
	if err != nil {
		return fmt.Errorf("a post to Langfuse: %w", err)
	}
	data, err := io.ReadAll(unzipped)
	if err != nil {
		return fmt.Errorf("a post to Langfuse: %w", err)
	}
	var sent collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &sent); err != nil {
		return fmt.Errorf("a post to Langfuse: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, resource := range sent.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			l.spans = append(l.spans, scope.Spans...)
		}
	}
	return nil
}

// traced is one trace: its name, its session, and the results of its generations.
type traced struct {
	session     string
	generations []string
}

// traces are what has come, by trace id.
func (l *langfuse) traces() map[string]*traced {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[string]*traced)
	slices.SortStableFunc(l.spans, func(a, b *otlp.Span) int { return int(int64(a.StartTimeUnixNano) - int64(b.StartTimeUnixNano)) })
	for _, s := range l.spans {
		id := fmt.Sprintf("%x", s.TraceId)
		if all[id] == nil {
			all[id] = new(traced)
		}
		one := all[id]
		attributes := make(map[string]string)
		for _, kv := range s.Attributes {
			attributes[kv.Key] = kv.Value.GetStringValue()
		}
		if session := attributes["langfuse.session.id"]; session != "" {
			one.session = session
		}
		if attributes["langfuse.observation.type"] == "generation" {
			one.generations = append(one.generations, s.Status.GetCode().String())
		}
	}
	return all
}

// TestATurnIsATrace asks three times in one conversation, of which the second needs
// a further try, and once anew.
func TestATurnIsATrace(t *testing.T) {
	t.Parallel()
	m, l := newModels(t), newLangfuse(t)
	w := newWorld(t, fmt.Sprintf("langfuse: {host: %q, public_key: pk-lf-test, secret_key_env: LANGFUSE_KEY}\nproviders:\n%s", l.URL, m.provider("fake", 1)), "LANGFUSE_KEY=sk-lf-test")
	s := w.start("up")
	m.refuses("two", 1)
	for _, script := range []string{"one", "two", "three"} {
		m.script(script).give("hello ", script)
		m.script(script).finish()
		s.say("talk", script)
		s.answered("talk")
	}
	s.ask(http.StatusAccepted, "POST", "/chat/talk/turns/3/again", "{}")
	s.answered("talk")
	metrics := s.gauge(`gen_ai_client_operation_duration_seconds_count{error_type="",gen_ai_operation_name="chat",gen_ai_provider_name="fake",gen_ai_request_model="one"}`)
	if metrics != 4 {
		t.Errorf("%v calls were counted that went well", metrics)
	}
	if retries := s.gauge(`runner_call_retries_total{kind="busy",provider="fake"}`); retries != 1 {
		t.Errorf("%v further tries were counted", retries)
	}
	answers := make(map[string]bool)
	for _, got := range s.messages("talk") {
		if got.Role == "assistant" {
			answers[got.Trace[strings.LastIndex(got.Trace, "/")+1:]] = true
		}
	}
	s.Terminate() // sends what is left
	all := l.traces()
	var generations []int
	for id, trace := range all {
		if trace.session != "talk" {
			t.Errorf("a trace has the session %q", trace.session)
		}
		if !answers[id] {
			t.Errorf("no answer has a link to the trace %s: %v", id, answers)
		}
		generations = append(generations, len(trace.generations))
	}
	slices.Sort(generations)
	if !slices.Equal(generations, []int{1, 1, 1, 2}) {
		t.Errorf("there are traces of %v generations, want one a turn and version, with one for each try", generations)
	}
	if calls := w.rows(t, "ledger.db", "SELECT state FROM chat_calls ORDER BY id"); !slices.Equal(calls, []string{"answered", "failed", "answered", "answered", "answered"}) {
		t.Errorf("the ledger has %v", calls)
	}
}

// TestJobsAndChatShareTheDay spends most of a day's tokens in a conversation.
func TestJobsAndChatShareTheDay(t *testing.T) {
	t.Parallel()
	m := newModels(t)
	w := newWorld(t, "caps: {day_tokens: 2500}\nproviders:\n"+m.provider("fake", 2))
	s := w.start("up")
	m.script("much").give(numbered(0, 600)...) // as many tokens, by the fake's count
	m.script("much").finish()
	s.say("talk", "much")
	s.answered("talk")
	w.drop("job.md", "---\njob_type: text\n---\nsay more\n")
	s.until("the job waits for the next day", func() bool {
		queue := s.ask(http.StatusOK, "GET", "/queue", "")
		return strings.Contains(queue, "job.md") && strings.Contains(queue, "tokens")
	})
	s.say("talk", "more")
	s.answered("talk")
	if got := s.answer("talk"); got.State != "failed" || !strings.Contains(got.Reason, "not asked: ") || got.Advice == "" {
		t.Errorf("the answer is %+v", got)
	}
	if got := m.asked("more"); got != 0 {
		t.Errorf("the model was asked %d times beyond the cap", got)
	}
	s.Terminate()
}
