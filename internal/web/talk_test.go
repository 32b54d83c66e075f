package web

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/chat"
	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/echo"
)

// withTalk makes a control room with the conversation c1, whose answers are given.
func withTalk(t *testing.T, context int, answers ...history.Message) *panel {
	t.Helper()
	p := newPanel(t, newFakeJobs(t))
	h, err := history.Open(t.Context(), filepath.Join(t.TempDir(), "history.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	p.app.o.History = h
	p.app.o.Chat = chat.New(chat.Options{History: h, Hub: p.jobs.hub, Hosts: []ask.Host{{Name: "echo", Provider: echo.New("echo", provider.Deadlines{})}}, Log: slog.New(slog.DiscardHandler),
		Context: func(string, string) int { return context }})
	for _, m := range answers {
		turn, err := h.Ask(t.Context(), "c1", history.Settings{Title: "t", Provider: "echo", Model: "m"}, strings.Repeat("asked ", 20), noon)
		if err != nil {
			t.Fatal(err)
		}
		if m.State == "" {
			continue // nobody answered
		}
		r, err := h.Start(t.Context(), history.Running{Conversation: "c1", Turn: turn, Provider: "echo", Model: "m", Created: noon})
		if err != nil {
			t.Fatal(err)
		}
		m.Ended = noon
		if _, err := h.Settle(t.Context(), r.ID, m); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestAReaderWhoseAnswerIsGoneIsToldHowItEnded(t *testing.T) {
	tests := []struct {
		name   string
		answer history.Message
		after  string
		want   []string // events
	}{
		{"an answer was interrupted", history.Message{State: history.Interrupted, Thinking: "hm", Text: "half"}, "7",
			[]string{`reset {"turn":1}`, `thinking {"turn":1,"text":"hm"}`, `text {"turn":1,"text":"half"}`, `end {"turn":1,"end":"interrupted"}`, `idle {"turn":1}`}},
		{"it had become whole", history.Message{State: history.Done, Text: "whole"}, "7",
			[]string{`reset {"turn":1}`, `text {"turn":1,"text":"whole"}`, `end {"turn":1,"end":"stop"}`, `idle {"turn":1}`}},
		{"it failed without a word", history.Message{State: history.Failed}, "7", []string{`reset {"turn":1}`, `end {"turn":1,"end":"failed"}`, `idle {"turn":1}`}},
		{"nobody answered yet", history.Message{}, "7", []string{`idle {"turn":1}`}},
		{"who is new is told that nothing runs", history.Message{State: history.Done, Text: "whole"}, "", []string{`idle {"turn":1}`}},
	}
	event := regexp.MustCompile("(?m)^event: (.*)\ndata: (.*)$")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := withTalk(t, 0, tt.answer)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			body := &streamedBody{changed: make(chan struct{}, 1)}
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost:8080/chat/c1/stream", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+p.token)
			r.Header.Set("Last-Event-ID", tt.after)
			done := make(chan struct{})
			go func() { defer close(done); p.http.ServeHTTP(body, r) }()
			last, _, _ := strings.Cut(tt.want[len(tt.want)-1], " ")
			body.await(t, "event: "+last+"\n")
			cancel()
			<-done
			var got []string
			for _, m := range event.FindAllStringSubmatch(body.text.String(), -1) {
				got = append(got, m[1]+" "+m[2])
			}
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

func TestProgramsAreToldWhatTheModelNoLongerReads(t *testing.T) {
	answer := history.Message{State: history.Done, Text: strings.Repeat("answer ", 20)}
	for name, row := range map[string]struct {
		context int
		some    bool
	}{"all fits": {100000, false}, "not all fits": {400, true}} {
		t.Run(name, func(t *testing.T) {
			p := withTalk(t, row.context, answer, answer, answer, answer, answer)
			var c struct {
				Forgotten int `json:"forgotten_before"`
			}
			p.json("/chat/c1", 200, &c)
			if (c.Forgotten > 1) != row.some || c.Forgotten > 6 {
				t.Errorf("forgotten before %d", c.Forgotten)
			}
		})
	}
}

func TestTheRateIsTheSameForPagesAndPrograms(t *testing.T) {
	for name, row := range map[string]struct {
		answer provider.Answer
		want   float64
	}{
		"the server measured it":  {provider.Answer{Rate: 7, Took: time.Second, Usage: provider.Usage{Written: 5}}, 7},
		"it is made of the times": {provider.Answer{Took: 4 * time.Second, Load: time.Second, FirstToken: time.Second, Usage: provider.Usage{Written: 50}}, 25},
		"nothing was counted":     {provider.Answer{Took: 4 * time.Second}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPanel(t, newFakeJobs(t))
			m := history.Message{Role: history.Assistant, Answer: row.answer}
			if page, program := p.app.answer(m).Rate, messageOf(m, p.app.o.TraceLink).Rate; page != row.want || program != row.want {
				t.Errorf("a page says %g, JSON %g, want %g", page, program, row.want)
			}
		})
	}
}
