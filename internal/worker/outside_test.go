package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/metrics"
	"davidcockson.com/runner/internal/notify"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
)

func TestNotesAsContext(t *testing.T) {
	tests := []struct {
		name, note string
		failed     bool
		want       []string // in the output, or in the failed note
	}{
		{"it is there", "---\njob_type: text\ncontext:\n  - \"[[Garden plan]]\"\n---\nWhat next?\n", false, []string{"context_notes:", "[[Plans/Garden plan]]"}},
		{"a part is embedded", "---\njob_type: text\n---\n![[Garden plan#Beds]]\nWhat next?\n", false, []string{"[[Plans/Garden plan#Beds]]"}},
		{"it is missing", "---\njob_type: text\ncontext:\n  - \"[[Garden plam]]\"\n---\nWhat next?\n", true, []string{"Garden plam", "Garden plan", "mend the link"}},
		{"its name is taken twice", "---\njob_type: text\n---\n![[Twin]]\n", true, []string{"Twin", "a/Twin", "b/Twin"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.mem.MkdirAll("Plans", "a", "b")
				r.mem.Put("Plans/Garden plan.md", "# Garden\n## Beds\nTwo beds of beans.\n## Paths\nGravel.\n")
				r.mem.Put("a/Twin.md", "One.\n")
				r.mem.Put("b/Twin.md", "Two.\n")
				r.drop("q.md", test.note)
				s := r.start()
				r.until("it ends", func() bool { return s.settled() && !r.in(queue.Waiting, "q.md") })
				defer s.stop()
				where := queue.Outputs
				if test.failed {
					where = queue.Failed
				}
				text := ""
				for file, content := range r.mem.Files() {
					if path.Dir(file) == where {
						text += content
					}
				}
				for _, want := range test.want {
					if !strings.Contains(text, want) {
						t.Errorf("no %q in:\n%s\n%v", want, text, r.mem.Files())
					}
				}
				asked := 0
				for prompt, n := range r.models["davas"].calls {
					asked += n
					if !strings.Contains(prompt, "beans") {
						t.Errorf("the prompt lacks the note: %q", prompt)
					}
				}
				if asked != map[bool]int{true: 0, false: 1}[test.failed] {
					t.Errorf("asked %d times", asked)
				}
			})
		})
	}
}

// told queues pings in the ledger and sends none.
func told(o *Options) {
	o.Outbox, o.VaultName = notify.NewOutbox(o.Ledger, nil, o.Log), "Notes"
}

// takePings takes all pings out of the ledger, as if they had been sent.
func (s *session) takePings() []ledger.Ping {
	s.t.Helper()
	var all []ledger.Ping
	for {
		p, err := s.o.Ledger.NextPing(context.Background())
		if errors.Is(err, ledger.ErrNoPing) {
			return all
		}
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, p)
		if err := s.o.Ledger.PingSent(context.Background(), p.ID, "1", time.Now()); err != nil {
			s.t.Fatal(err)
		}
	}
}

func kinds(pings []ledger.Ping) []ledger.PingKind {
	var all []ledger.PingKind
	for _, p := range pings {
		all = append(all, p.Kind)
	}
	return all
}

func TestEachEndIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.change = told
		r.models["davas"].script = func(ctx context.Context, _ int, req provider.Request) (provider.Answer, error) {
			switch prompt := req.Messages[len(req.Messages)-1].Content; {
			case strings.Contains(prompt, "fails"):
				return provider.Answer{Text: "half"}, &provider.Error{Kind: provider.Cut, Provider: "davas", Reason: "cut at 100 tokens", Sent: true}
			case strings.Contains(prompt, "cancelled"):
				<-ctx.Done()
				return provider.Answer{}, &provider.Error{Kind: provider.Cancelled, Provider: "davas", Reason: "stopped", Sent: true}
			}
			return r.models["davas"].answer(req), nil
		}
		s := r.start()
		tests := []struct {
			name, text string
			kind       ledger.PingKind
			want       []string
		}{
			{"well.md", textNote("works"), ledger.PingCompleted, []string{"obsidian://open", "vault=Notes", "runner-outputs"}},
			{"bad.md", textNote("fails"), ledger.PingFailed, []string{"cut at 100 tokens", "runner-outputs"}},
			{"stopped.md", textNote("cancelled"), ledger.PingCancelled, []string{"cancelled by its owner", "_failed"}},
			{"refused.md", "---\njob_type: text\nmodel: none\n---\nrefused\n", ledger.PingFailed, []string{"is not among the models of davas", "_failed"}},
		}
		for _, test := range tests {
			r.drop(test.name, test.text)
			if test.kind == ledger.PingCancelled {
				r.until("it runs", func() bool { return r.models["davas"].asked("cancelled\n")+r.models["davas"].asked("cancelled") == 1 })
				if _, err := s.Cancel(context.Background(), s.listed(test.name).ID); err != nil {
					t.Fatal(err)
				}
			}
			r.until(test.name+" ends", func() bool {
				return s.settled() && (r.in(queue.Completed, test.name) || r.in(queue.Failed, test.name))
			})
			pings := s.takePings()
			if !slices.Equal(kinds(pings), []ledger.PingKind{test.kind}) {
				t.Errorf("%s is told as %q", test.name, kinds(pings))
				continue
			}
			if !json.Valid(pings[0].Body) || pings[0].Job == "" {
				t.Errorf("%s: job %q, %s", test.name, pings[0].Job, pings[0].Body)
			}
			for _, want := range append(test.want, strings.TrimSuffix(test.name, ".md")) {
				if !strings.Contains(string(pings[0].Body), want) {
					t.Errorf("%s: no %q in %s", test.name, want, pings[0].Body)
				}
			}
		}
		s.stop()
		s = r.start()
		<-time.After(2 * time.Hour)
		if pings := s.takePings(); len(pings) != 0 {
			t.Errorf("told again after a restart: %q", kinds(pings))
		}
		s.stop()
	})
}

func TestNotesThatNeedTheirOwnerAreToldOnce(t *testing.T) {
	tests := []struct {
		name  string
		first string // completed before, as a.md
		file  string
		note  string
		kind  ledger.PingKind
		// after is how long nothing is told.
		after time.Duration
	}{
		{"an unfinished note", "", "u.md", "---\njob_type: text\n---\n", ledger.PingUnfinished, 59 * time.Minute},
		{"a held note", textNote(sea), "a.md", textNote(seaMore), ledger.PingHeld, 0},
		{"a duplicate", textNote(sea), "a.md", textNote(sea), ledger.PingDuplicate, 0},
		{"a conflict copy", "", "a.sync-conflict-20260102-030405-ABCDEFG.md", textNote("one"), ledger.PingConflict, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.change = told
				s := r.start()
				if test.first != "" {
					r.drop("a.md", test.first)
					r.until("the first ends", func() bool { return s.settled() && r.in(queue.Completed, "a.md") })
					s.takePings()
				}
				r.drop(test.file, test.note)
				if test.after > 0 {
					<-time.After(test.after)
					if pings := s.takePings(); len(pings) != 0 {
						t.Errorf("told too early: %q", kinds(pings))
					}
				}
				<-time.After(3 * time.Minute)
				pings := s.takePings()
				if !slices.Equal(kinds(pings), []ledger.PingKind{test.kind}) {
					t.Fatalf("told as %q\n%s", kinds(pings), tail(r.log.String()))
				}
				if !bytes.Contains(pings[0].Body, []byte("obsidian://open")) {
					t.Errorf("no link in %s", pings[0].Body)
				}
				<-time.After(2 * time.Hour)
				s.stop()
				s = r.start()
				<-time.After(2 * time.Hour)
				if pings := s.takePings(); len(pings) != 0 {
					t.Errorf("told again: %q", kinds(pings))
				}
				s.stop()
			})
		})
	}
}

func TestWhatIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := metrics.New("test")
		r.change = func(o *Options) {
			o.Metrics = m
			o.Hosts[0].Paid, o.Hosts[0].Prices = true, map[string]ledger.Price{"m": {In: 1e6, Out: 1e6}}
			told(o)
		}
		r.models["davas"].script = func(_ context.Context, n int, req provider.Request) (provider.Answer, error) {
			prompt := req.Messages[len(req.Messages)-1].Content
			<-time.After(10 * time.Millisecond)
			if strings.Contains(prompt, "busy") && n == 1 {
				return provider.Answer{}, &provider.Error{Kind: provider.Busy, Provider: "davas", Reason: "503"}
			}
			if strings.Contains(prompt, "cut") {
				return provider.Answer{}, &provider.Error{Kind: provider.Cut, Provider: "davas", Reason: "cut", Sent: true}
			}
			return r.models["davas"].answer(req), nil
		}
		s := r.start()
		m.Watch(s.Snapshot)
		r.drop("well.md", textNote("well"))
		r.drop("busy.md", textNote("busy"))
		r.drop("cut.md", textNote("cut"))
		r.drop("refused.md", "---\njob_type: text\nmodel: none\n---\nrefused\n")
		r.drop("draft.md", "---\njob_type: text\ndraft: true\n---\ndraft\n")
		r.drop("unfinished.md", "---\njob_type: text\n---\n")
		r.drop("later.md", "---\njob_type: text\nnot_before: 2000-01-02\n---\nlater\n")
		r.drop("a.sync-conflict-20260102-030405-ABCDEFG.md", textNote("one"))
		r.until("all end", func() bool {
			return s.settled() && r.in(queue.Completed, "well.md") && r.in(queue.Completed, "busy.md") && r.in(queue.Failed, "cut.md") && r.in(queue.Failed, "refused.md")
		})
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		text := w.Body.String()
		for _, want := range []string{
			`runner_jobs_total{job_type="text",outcome="completed",provider="davas"} 2`,
			`runner_jobs_total{job_type="text",outcome="failed",provider="davas"} 1`,
			`runner_jobs_total{job_type="none",outcome="failed",provider="none"} 1`,
			`runner_job_duration_seconds_count{job_type="text",outcome="completed"} 2`,
			`runner_queue_wait_seconds_count 3`,
			`runner_call_retries_total{kind="busy",provider="davas"} 1`,
			`runner_cost_usd_total{model="m",provider="davas"} 10`,
			`gen_ai_client_operation_duration_seconds_count{error_type="busy",gen_ai_operation_name="chat",gen_ai_provider_name="davas",gen_ai_request_model="m"} 1`,
			`gen_ai_client_operation_duration_seconds_count{error_type="",gen_ai_operation_name="chat",gen_ai_provider_name="davas",gen_ai_request_model="m"} 2`,
			`gen_ai_client_token_usage_sum{gen_ai_operation_name="chat",gen_ai_provider_name="davas",gen_ai_request_model="m",gen_ai_token_type="output"} 6`,
			`runner_queue_notes{state="waiting"} 1`, `runner_queue_notes{state="draft"} 1`, `runner_queue_notes{state="unfinished"} 1`,
			`runner_queue_notes{state="conflict"} 1`, `runner_queue_notes{state="held"} 0`,
			`runner_state_read 1`, `runner_claiming 1`, `runner_jobs_active 0`, `runner_provider_up{provider="davas"} 1`, `runner_provider_places{provider="davas"} 2`,
		} {
			if !strings.Contains(text, want+"\n") {
				t.Errorf("no %s", want)
			}
		}
		if t.Failed() {
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, "runner_") && !strings.Contains(line, "_bucket") {
					t.Log(line)
				}
			}
		}
		s.stop()
		w = httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if !strings.Contains(w.Body.String(), "runner_state_read 0\n") {
			t.Error("the state of a stopped worker is read")
		}
	})
}
