package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/health"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/secret"
)

func TestEachProbeSaysWhatToDo(t *testing.T) {
	n := &node{conf: &config.Config{StateDir: t.TempDir(), Services: config.Services{Qdrant: "http://127.0.0.1:1", SearXNG: "http://127.0.0.1:1"}}, hosts: []ask.Host{{Name: "davas"}}}
	for _, p := range n.probes() {
		if p.Check != nil && p.Advice == "" {
			t.Errorf("%s: nothing is said of what to do when it is down", p.Name)
		}
	}
}

func TestModelsAreCounted(t *testing.T) {
	for want, listed := range map[string][]provider.Model{
		"answers, and has 0 models": {},
		"answers, and has 1 model":  {{Name: "a"}},
		"answers, and has 2 models": {{Name: "a"}, {Name: "b"}},
	} {
		if ok, got := compareModels(nil, listed); !ok || got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestDiscordIsKnownToAControlRoomAlone has no outbox: the worker's process has it.
func TestDiscordIsKnownToAControlRoomAlone(t *testing.T) {
	tests := []struct {
		name   string
		status int // of the webhook
		tries  int // of the oldest ping, which failed; 0 is none
		state  health.State
		want   string
	}{
		{"it is there", 200, 0, "", "pings: 0 sent, 1 wait"},
		{"it is gone", 404, 0, health.WrongKey, "does not exist any more"},
		{"a ping was not taken", 200, 2, health.Failing, "not taken in 2 tries; 1 wait"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet {
					t.Errorf("a look sends %s", r.Method)
				}
				w.WriteHeader(tt.status)
				fmt.Fprint(w, `{"id": "1"}`)
			}))
			defer hook.Close()
			l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := l.Enqueue(t.Context(), ledger.Ping{Kind: ledger.PingFailed, Key: "k", Body: []byte("{}")}, time.Now()); err != nil {
				t.Fatal(err)
			}
			for range tt.tries {
				if err := l.PingFailed(t.Context(), 1, time.Now(), "no answer"); err != nil {
					t.Fatal(err)
				}
			}
			n := &node{conf: &config.Config{Discord: config.Discord{Webhook: secret.New(hook.URL + "/api/webhooks/1/x")}}, ledger: l}
			probe := n.services()[0]
			if probe.Check == nil {
				t.Fatal("it counts as not configured")
			}
			text, err := probe.Check(t.Context())
			var state health.State
			if problem, ok := errors.AsType[*health.Problem](err); ok {
				state, text = problem.State, problem.Reason
			} else if err != nil {
				t.Fatal(err)
			}
			if state != tt.state || !strings.Contains(text, tt.want) {
				t.Errorf("%s %q, want %s %q", state, text, tt.state, tt.want)
			}
		})
	}
	if probe := (&node{conf: &config.Config{}}).services()[0]; probe.Check != nil {
		t.Error("without a webhook it counts as configured")
	}
}
