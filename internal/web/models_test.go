package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/chat"
	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/provider"
)

func TestThePickerNeverPutsAnotherInThePlaceOfWhatWasChosen(t *testing.T) {
	model := func(name string) chat.Model { return chat.Model{Model: provider.Model{Name: name}} }
	missing := model("gone")
	missing.Missing = true
	all := []chat.Offer{
		{Provider: "davas", Word: "unreachable", Since: noon, Models: []chat.Model{model("tiny"), model("big")}},
		{Provider: "cloud", Up: true, Since: noon, Models: []chat.Model{model("gpt"), missing}},
		{Provider: "new", Word: "not asked yet"},
	}
	const rest = "davas/tiny unreachable, davas/big unreachable, cloud/gpt, cloud/gone missing there"
	for _, tt := range []struct {
		name   string
		chosen history.Settings
		want   string
	}{
		{"nothing was chosen", history.Settings{}, rest},
		{"one of a provider that is away", history.Settings{Provider: "davas", Model: "big"}, strings.Replace(rest, "davas/big", "*davas/big", 1)},
		{"one that is in no list", history.Settings{Provider: "cloud", Model: "o1"}, rest + ", *cloud/o1 not listed"},
		{"one in no list of a provider that nobody has asked", history.Settings{Provider: "new", Model: "m"}, rest + ", *new/m not asked yet"},
		{"one of a provider that is not configured any more", history.Settings{Provider: "old", Model: "m"}, rest + ", *old/m not configured"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, o := range offers(all, tt.chosen) {
				for _, c := range o.Choices {
					star := ""
					if c.Chosen {
						star = "*"
					}
					got = append(got, strings.TrimSpace(star+c.Value()+" "+c.Mark))
				}
			}
			if strings.Join(got, ", ") != tt.want {
				t.Errorf("got %s\nwant %s", strings.Join(got, ", "), tt.want)
			}
		})
	}
}

// TestAChatAndAJobMayAskTheSameModels compares what the two say of a name.
func TestAChatAndAJobMayAskTheSameModels(t *testing.T) {
	for name, refused := range map[string]bool{"gpt": true, "slow": true, "org/slow:latest:latest": true, "Org/Slow": false, "echo:latest": false} {
		t.Run(name, func(t *testing.T) {
			p := withTalk(t, 0)
			p.app.o.Chat = chat.New(chat.Options{History: p.app.o.History, Hub: p.jobs.hub, Log: slog.New(slog.DiscardHandler),
				Hosts: []ask.Host{{Name: "echo", Models: []string{"echo", "org/slow"}}}})
			said := func(target, body string) string {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // what is taken waits for a chat that runs
				defer cancel()
				r := httptest.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(body))
				r.Host = "localhost:8080"
				r.Header.Set("Authorization", "Bearer "+p.token)
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				p.http.ServeHTTP(w, r)
				if (w.Code == 422) != refused {
					t.Errorf("%s: %d %s", target, w.Code, w.Body)
				}
				return w.Body.String()
			}
			job := said("/queue/jobs", `{"job_type": "text", "provider": "echo", "model": "`+name+`", "body": "Why?"}`)
			if !refused {
				return // an answer would begin
			}
			if talk := said("/chat/new/messages", `{"provider": "echo", "model": "`+name+`", "text": "Why?"}`); talk != job {
				t.Errorf("a chat says %s, a job %s", talk, job)
			}
		})
	}
}
