package opstest

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/queue"
)

const echo = "providers: [{name: echo, kind: echo}]\n"

func textNote(model, body string) string {
	return fmt.Sprintf("---\njob_type: text\nmodel: %s\n---\n%s\n", model, body)
}

// jobs runs three jobs that succeed and one that is cut.
func jobs(s *server) {
	for i := range 3 {
		s.w.drop(fmt.Sprintf("well %d.md", i), textNote("echo", fmt.Sprintf("hello %d", i)))
	}
	s.w.drop("cut.md", textNote("cut", "some words that are cut half-way"))
	s.w.until("all jobs end", s.Log.String, func() bool { return s.w.count(queue.Completed) == 3 && s.w.count(queue.Failed) == 1 })
}

// TestPrometheusScrapesIt has a real Prometheus scrape a real worker.
func TestPrometheusScrapesIt(t *testing.T) {
	program := peertest.Need(t, "prometheus")
	w := newWorld(t, echo)
	s := w.serve()
	jobs(s)
	base := prometheus(t, program, strings.TrimPrefix(s.url, "http://"))
	want := map[string]string{
		`runner_jobs_total{job_type="text",provider="echo",outcome="completed"}`: "3",
		`runner_jobs_total{job_type="text",provider="echo",outcome="failed"}`:    "1",
		`runner_state_read`:                                                                  "1",
		`runner_claiming`:                                                                    "1",
		`runner_queue_notes{state="waiting"}`:                                                "0",
		`runner_queue_wait_seconds_count`:                                                    "4",
		`runner_provider_places_used{provider="echo"}`:                                       "0",
		`sum(gen_ai_client_operation_duration_seconds_count)`:                                "4",
		`count(runner_build_info)`:                                                           "1",
		`sum(runner_job_duration_seconds_count{outcome="completed"})`:                        "3",
		`sum(gen_ai_client_operation_duration_seconds_count{error_type="cut"})`:              "1",
		`histogram_quantile(0.5, sum by (le) (runner_job_duration_seconds_bucket)) > bool 0`: "1",
	}
	for query, number := range want {
		got := ""
		w.until(query+" is "+number, func() string { return "it is " + got + "\n" + s.Log.String() }, func() bool {
			got = value(base, query)
			return got == number
		})
	}
	s.stop()
}

// prometheus starts a Prometheus that scrapes address, and returns its URL.
func prometheus(t *testing.T, program, address string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: runner\n    static_configs:\n      - targets: [%q]\n", address)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	if err := l.Close(); err != nil { // it takes no port of its own choice
		t.Fatal(err)
	}
	peertest.Start(t, exec.Command(program, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+listen))
	return "http://" + listen
}

// value returns the value of a query with one result, "" if there is none yet.
func value(base, query string) string {
	code, body, err := fetch(base + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil || code != http.StatusOK {
		return ""
	}
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if json.Unmarshal([]byte(body), &answer) != nil || len(answer.Data.Result) != 1 {
		return ""
	}
	return fmt.Sprint(answer.Data.Result[0].Value[1])
}

// TestPromtoolFindsNothing lints a real scrape.
func TestPromtoolFindsNothing(t *testing.T) {
	program := peertest.Need(t, "promtool")
	w := newWorld(t, echo)
	s := w.serve()
	jobs(s)
	code, body := s.get("/metrics")
	if code != http.StatusOK {
		t.Fatalf("answered %d: %s", code, body)
	}
	cmd := exec.Command(program, "check", "metrics")
	cmd.Stdin = strings.NewReader(body)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v:\n%s", err, out)
	}
	s.stop()
}

type healthReport struct {
	Status string
	Parts  []struct {
		Name, State, Text, Advice string
		Core                      bool
	}
}

func (s *server) health() (int, healthReport) {
	s.w.t.Helper()
	code, body := s.get("/health")
	var r healthReport
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		s.w.t.Fatalf("%v:\n%s", err, body)
	}
	return code, r
}

func (r healthReport) state(name string) string {
	for _, p := range r.Parts {
		if p.Name == name {
			return p.State
		}
	}
	return "not there"
}

func TestHealthOfARealWorker(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, further string
		// lost moves the vault away before anybody asks.
		lost   bool
		code   int
		status string
		states map[string]string
	}{
		{"all is well", echo, false, http.StatusOK, "ok",
			map[string]string{"worker": "ok", "vault": "ok", "ledger": "ok", "disk": "ok", "provider echo": "ok",
				"discord": "not configured", "langfuse": "not configured", "qdrant": "not configured", "searxng": "not configured"}},
		{"a provider and a service are down", "providers: [{name: echo, kind: echo}, {name: away, kind: ollama, url: '" + nobody + "'}]\nservices: {qdrant: '" + nobody + "'}\n",
			false, http.StatusOK, "degraded", map[string]string{"worker": "ok", "provider echo": "ok", "provider away": "down", "qdrant": "down", "searxng": "not configured"}},
		{"the vault is gone", echo, true, http.StatusServiceUnavailable, "failing", map[string]string{"vault": "failing", "ledger": "ok", "provider echo": "ok"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.further)
			s := w.serve()
			if test.lost {
				if err := os.Rename(w.vault, w.vault+" moved"); err != nil {
					t.Fatal(err)
				}
			}
			code, r := s.health()
			if code != test.code || r.Status != test.status {
				t.Errorf("/health answers %d, %q", code, r.Status)
			}
			for name, state := range test.states {
				if got := r.state(name); got != state {
					t.Errorf("%s is %q, want %q: %+v", name, got, state, r.Parts)
				}
			}
			if code, body := s.get("/healthz"); code != test.code || body != test.status+"\n" {
				t.Errorf("/healthz answers %d %q", code, body)
			}
			if code, _ := s.get("/"); code != http.StatusNotFound {
				t.Errorf("/ answers %d", code)
			}
			if test.lost {
				if err := os.Rename(w.vault+" moved", w.vault); err != nil {
					t.Fatal(err)
				}
			}
			s.stop()
		})
	}
}
