package trace_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/trace"
)

// leaks are what no log line, error or figure may show.
var leaks = []string{"canary", inBase64}

func noLeak(t *testing.T, what, text string) {
	t.Helper()
	for _, leak := range leaks {
		if strings.Contains(text, leak) {
			t.Errorf("%s shows %s: %s", what, leak, text)
		}
	}
}

// status answers with a status, and quotes what no log may show.
func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, "canary prompt, asked with "+r.Header.Get("Authorization"))
	}
}

// first answers the first request by one handler, all later ones by the other.
func first(one, other http.HandlerFunc) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			one(w, r)
			return
		}
		other(w, r)
	}
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestTroubleNeverReachesAJob(t *testing.T) {
	const jobs, spans = 500, 3000
	for _, row := range []struct {
		name   string
		answer http.HandlerFunc
		limit  time.Duration // of the shutdown
		sent   bool          // something arrives
		reason string        // of the last failure
	}{
		{"all is well", status(200), generous, true, ""},
		{"it is slow", func(w http.ResponseWriter, _ *http.Request) { <-time.After(20 * time.Millisecond) }, generous, true, ""},
		{"it hangs", hang, 300 * time.Millisecond, false, "the program stopped"},
		{"the keys are wrong", status(401), generous, false, "401 Unauthorized: the keys are not accepted"},
		{"the key is an organization's", status(403), generous, false, "the keys are not a project's"},
		{"it is too old", status(404), generous, false, "3.22 or newer"},
		{"a post is malformed", status(400), generous, false, "Langfuse answers 400 Bad Request"},
		{"a proxy takes only small posts", status(413), generous, false, "a proxy before it"},
		{"it fails", status(500), generous, false, "Langfuse answers 500 Internal Server Error"},
		{"it asks for an hour of patience", status(429, "Retry-After", "3600"), generous, false, "429"},
		{"it asks for patience once", first(status(429, "Retry-After", "1"), status(200)), generous, true, ""},
		{"it is away for a moment", first(status(503), status(200)), generous, true, ""},
		{"it sends on to another address", status(301, "Location", "/login"), generous, false, "the host must be the address"},
		{"a login page answers", status(200, "Content-Type", "text/html; charset=utf-8"), generous, false, "is not Langfuse"},
		{"it is killed in mid-post", hangUp, generous, false, "the connection was closed before an answer"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := newLangfuse(t, row.answer)
			tracer, log := start(t, server.URL, nil)
			began := time.Now()
			for range jobs {
				runJob(tracer)
			}
			if took := time.Since(began); took > generous {
				t.Errorf("%d spans took %s", spans, took)
			}
			began = time.Now()
			err := stop(tracer, row.limit)
			if took := time.Since(began); took > row.limit+generous/2 {
				t.Errorf("the shutdown took %s", took)
			}
			if (err != nil) != (row.limit < generous) || err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("shutdown: %v", err)
			}
			s := tracer.Stats()
			if s.Ended != spans || s.Queued != 0 || s.Sent+s.Failed+s.Dropped != spans || s.Sent+s.Failed < 64 || (s.Sent > 0) != row.sent {
				t.Errorf("stats %+v", s)
			}
			if (s.LastError != "") != (row.reason != "") || !strings.Contains(s.LastError, row.reason) || s.LastFailure.IsZero() != (row.reason == "") {
				t.Errorf("last error %q, want %q", s.LastError, row.reason)
			}
			if lines := strings.Count(log.String(), "\n"); lines > 1 || lines == 0 && row.reason != "" {
				t.Errorf("%d lines of log:\n%s", lines, log)
			}
			noLeak(t, "the log", log.String())
			noLeak(t, "the last error", s.LastError)
			if err != nil {
				noLeak(t, "the shutdown's error", err.Error())
			}
		})
	}
}

func TestAnAnswerLostOnceIsAskedForAgain(t *testing.T) {
	server := newLangfuse(t, first(hangUp, status(200)))
	tracer, log := start(t, server.URL, nil)
	runJob(tracer)
	until(t, "the spans are sent", func() bool { return tracer.Stats().Sent == 6 })
	if s := tracer.Stats(); s.Failed != 0 || log.String() != "" {
		t.Errorf("stats %+v, log %s", s, log)
	}
}

func TestSpansAfterShutdownAreCountedAsDropped(t *testing.T) {
	server := newLangfuse(t, nil)
	tracer, _ := start(t, server.URL, nil)
	ctx, job := tracer.Start(context.Background(), trace.Root{Name: "late"})
	if err := errors.Join(stop(tracer, generous), stop(tracer, generous)); err != nil {
		t.Fatal(err)
	}
	tracer.Generation(ctx, trace.Call{}).End(provider.Answer{}, nil)
	job.End("", nil)
	if s := tracer.Stats(); s.Dropped == 0 || s.Ended != s.Dropped || s.Queued != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestShutdownWhoseTimeIsUpLosesNoCount(t *testing.T) {
	server := newLangfuse(t, nil)
	tracer, _ := start(t, server.URL, nil)
	runJob(tracer)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := tracer.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	if s := tracer.Stats(); s.Ended != 6 || s.Queued != 0 || s.Sent+s.Failed+s.Dropped != 6 {
		t.Errorf("stats %+v", s)
	}
}

func TestCheck(t *testing.T) {
	project := func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/api/public/projects" || r.Header.Get("Authorization") != "Basic "+inBase64 {
			http.Error(w, "not that", http.StatusBadRequest)
			return
		}
		io.WriteString(w, `{"data":[{"id":"p1","name":"home"}]}`)
	}
	for _, row := range []struct {
		name   string
		answer http.HandlerFunc
		want   string // "" for no error
		keys   bool
	}{
		{"it knows the project", project, "", false},
		{"wrong keys are told apart from a server that is down", status(401), "the keys are not accepted by Langfuse: it answers 401", true},
		{"so is the wrong kind of key", status(403), "the keys are not accepted by Langfuse: it answers 403", true},
		{"it fails", status(503), "Langfuse answers 503 Service Unavailable", false},
		{"another server", status(404), "Langfuse answers 404", false},
		{"it is sent on", status(302, "Location", "/canary"), "the host must be the address", false},
		{"a login page", status(200, "Content-Type", "text/html"), "is not Langfuse", false},
		{"no JSON", status(200), "is not Langfuse", false},
		{"it hangs", hang, "did not answer in time", false},
		{"it breaks off", hangUp, "closed before an answer", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			server := httptest.NewServer(row.answer)
			t.Cleanup(server.Close)
			tracer, log := start(t, server.URL, nil)
			limit := generous
			if row.name == "it hangs" {
				limit = 100 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			err := tracer.Check(ctx)
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Fatalf("got %v, want %q", err, row.want)
			}
			if errors.Is(err, trace.ErrKeys) != row.keys {
				t.Errorf("%v is ErrKeys: %v", err, !row.keys)
			}
			if err != nil {
				noLeak(t, "the error", err.Error())
			}
			noLeak(t, "the log", log.String())
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		server := httptest.NewServer(nil)
		server.Close()
		tracer, _ := start(t, server.URL, nil)
		err := tracer.Check(context.Background())
		if err == nil || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "http://") {
			t.Errorf("got %v", err)
		}
	})
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick, limit := time.NewTicker(time.Millisecond), time.After(generous)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not so in %s: %s", generous, what)
		}
	}
}
