package metrics

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"davidcockson.com/runner/internal/provider"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("the scrape is answered %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// ours leaves out what the client library says of the process and of itself.
func ours(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if strings.HasPrefix(name, "runner_") || strings.HasPrefix(name, "gen_ai_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// filled has one of each thing that is counted.
func filled() *Metrics {
	m := New("1.2.3")
	m.JobBegan(3 * time.Second)
	m.JobEnded("text", "davas", "completed", 12*time.Second)
	m.JobEnded("chain", "groq", "failed", 90*time.Minute)
	m.JobEnded("", "", "failed", 0) // a note that was refused
	usd := 0.25
	m.Called("groq", "llama", provider.Answer{Took: 2 * time.Second, FirstToken: 300 * time.Millisecond, Load: 20 * time.Second,
		Usage: provider.Usage{Read: 100, Written: 2_000_000}}, nil, &usd)
	m.Called("groq", "llama", provider.Answer{Took: 40 * time.Millisecond}, &provider.Error{Kind: provider.Busy}, nil)
	m.Retried("groq", provider.Busy)
	return m
}

func state() State {
	return State{
		Notes:    map[string]int{"waiting": 2, "held": 1, "conflict": 0},
		Oldest:   time.Now().Add(-90 * time.Second),
		Active:   3,
		Claiming: true,
		LastPoll: time.UnixMilli(1_700_000_000_500),
		Lines: []provider.Line{{Name: "groq", Limit: 4, Held: make([]provider.Holder, 2),
			Waiting: []provider.Holder{{Class: provider.Batch}, {Class: provider.Batch}, {Class: provider.Interactive}}}},
		Hosts: map[string]bool{"davas": false, "groq": true},
		Messages: map[string]map[string]int64{
			"notify": {"queued": 5, "sent": 6, "failed": 7, "dropped": 8}, "trace": {}},
	}
}

func TestAScrapeAsPrometheusGetsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // whose clock stands: the oldest note's age is exact
		m := filled()
		m.Watch(func(context.Context) (State, error) { return state(), nil })
		got := ours(scrape(t, m))
		path := filepath.Join("testdata", "scrape.txt")
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
			t.Errorf("the scrape differs from %s; -update rewrites it. Got:\n%s", path, got)
		}
	})
}

func TestNamesKeepToTheConventions(t *testing.T) {
	m := filled()
	m.Watch(func(context.Context) (State, error) { return state(), nil })
	problems, err := promlint.New(strings.NewReader(scrape(t, m))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestWhatIsNotKnownIsNotCounted guards the means: an answer that brought no times
// and no tokens adds no zeros to them.
func TestWhatIsNotKnownIsNotCounted(t *testing.T) {
	m := New("v")
	m.Called("p", "m", provider.Answer{Took: time.Second}, errors.New("a failure of no known kind"), nil)
	text := ours(scrape(t, m))
	for _, name := range []string{"gen_ai_client_operation_time_to_first_chunk_seconds", "gen_ai_client_token_usage", "runner_model_load_seconds", "runner_cost_usd_total"} {
		if strings.Contains(text, name) {
			t.Errorf("%s is there:\n%s", name, text)
		}
	}
	if want := `error_type="` + string(provider.KindOf(errors.New(""))) + `"`; !strings.Contains(text, want) {
		t.Errorf("no %s:\n%s", want, text)
	}
	free := 0.0
	m.Called("p", "m", provider.Answer{}, nil, &free)
	if text := scrape(t, m); !strings.Contains(text, `runner_cost_usd_total{model="m",provider="p"} 0`) {
		t.Errorf("a call that cost nothing is not shown:\n%s", ours(text))
	}
}

func TestModelsAreBounded(t *testing.T) {
	m := New("v")
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 3 * mostModels {
				m.Called("p", fmt.Sprintf("model-%d", (i+worker)%(3*mostModels)), provider.Answer{Took: time.Second, Load: time.Second}, nil, nil)
			}
		})
	}
	group.Wait()
	text := scrape(t, m)
	told := strings.Count(text, "gen_ai_client_operation_duration_seconds_count{")
	if told != mostModels+1 {
		t.Errorf("%d models are told apart, want %d and the others", told, mostModels)
	}
	if loads := strings.Count(text, "runner_model_load_seconds_count{"); loads != mostModels+1 {
		t.Errorf("%d models have loading times", loads)
	}
	if !strings.Contains(text, `gen_ai_request_model="other"`) {
		t.Error("the others are not counted")
	}
	m.Called("p", "model-late", provider.Answer{}, nil, nil)
	if strings.Contains(scrape(t, m), "model-late") {
		t.Error("one model too many is told apart")
	}
}

func TestNilCountsNothing(t *testing.T) {
	var m *Metrics
	m.JobBegan(time.Second)
	m.JobEnded("text", "p", "failed", time.Second)
	m.Called("p", "m", provider.Answer{}, nil, nil)
	m.Retried("p", provider.Busy)
	m.Watch(func(context.Context) (State, error) {
		t.Error("the state is read for nobody")
		return State{}, nil
	})
}

func TestStateThatCannotBeRead(t *testing.T) {
	tests := []struct {
		name string
		read func(context.Context) (State, error)
	}{
		{"an error", func(context.Context) (State, error) { return state(), errors.New("the worker stops") }},
		{"a worker that does not answer in time", func(ctx context.Context) (State, error) {
			<-ctx.Done()
			return State{}, ctx.Err()
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := filled()
				m.Watch(test.read)
				text := ours(scrape(t, m))
				if !strings.Contains(text, "runner_state_read 0\n") {
					t.Errorf("it is not said:\n%s", text)
				}
				for _, name := range []string{"runner_queue_notes", "runner_jobs_active", "runner_claiming", "runner_messages_total"} {
					if strings.Contains(text, name) {
						t.Errorf("%s is shown, of which nothing is known", name)
					}
				}
				if !strings.Contains(text, "runner_jobs_total{") {
					t.Error("what was counted is missing")
				}
			})
		})
	}
}

func TestAStateWithoutNotesOrLooks(t *testing.T) {
	m := New("v")
	m.Watch(func(context.Context) (State, error) { return State{}, nil })
	text := ours(scrape(t, m))
	for _, want := range []string{"runner_state_read 1\n", "runner_queue_oldest_seconds 0\n", "runner_jobs_active 0\n", "runner_claiming 0\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "runner_last_poll") {
		t.Error("a look is dated that has not been")
	}
}

// TestScrapesAtOnce is for the race detector.
func TestScrapesAtOnce(t *testing.T) {
	m := New("v")
	m.Watch(func(context.Context) (State, error) { return state(), nil })
	server := httptest.NewServer(m.Handler())
	defer server.Close()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 5 {
				m.JobEnded("text", "p", "completed", time.Second)
				m.Called("p", "m", provider.Answer{Took: time.Second}, nil, nil)
				resp, err := server.Client().Get(server.URL)
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("answered %d", resp.StatusCode)
				}
			}
		})
	}
	group.Wait()
	if text := scrape(t, m); !strings.Contains(text, `runner_jobs_total{job_type="text",outcome="completed",provider="p"} 20`) {
		t.Errorf("jobs were lost:\n%s", ours(text))
	}
}
