package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/chat"
	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/ledger"
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

func TestSettingsThatAProgramLeavesOutStay(t *testing.T) {
	p := withTalk(t, 0, history.Message{State: history.Done, Text: "whole"})
	post := func(body string) int {
		r := httptest.NewRequest(http.MethodPost, "http://localhost:8080/chat/c1/settings", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+p.token)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json")
		w := httptest.NewRecorder()
		p.http.ServeHTTP(w, r)
		return w.Code
	}
	warm := 0.5
	for _, row := range []struct {
		body string
		want history.Settings
	}{
		{`{"title": "one", "system": "Be short.", "temperature": 0.5}`, history.Settings{Title: "one", System: "Be short.", Temperature: &warm}},
		{`{"title": "two"}`, history.Settings{Title: "two", System: "Be short.", Temperature: &warm}},
		{`{"temperature": null}`, history.Settings{Title: "two", System: "Be short."}},
		{`{"system": ""}`, history.Settings{Title: "two"}},
	} {
		if code := post(row.body); code != http.StatusOK {
			t.Fatalf("%s: %d", row.body, code)
		}
		c, err := p.app.o.History.Conversation(t.Context(), "c1")
		if err != nil {
			t.Fatal(err)
		}
		row.want.Provider, row.want.Model = c.Provider, c.Model
		if !reflect.DeepEqual(c.Settings, row.want) {
			t.Errorf("after %s they are %+v", row.body, c.Settings)
		}
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
		"it came at one blow":     {provider.Answer{Took: 2*time.Second + 3*time.Microsecond, FirstToken: 2 * time.Second, Usage: provider.Usage{Written: 12}}, 0},
		"it came too fast":        {provider.Answer{Took: 9 * time.Millisecond, Usage: provider.Usage{Written: 12}}, 0},
		"it was fast":             {provider.Answer{Took: 10 * time.Millisecond, Usage: provider.Usage{Written: 12}}, 1200},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPanel(t, newFakeJobs(t))
			m := history.Message{Role: history.Assistant, Answer: row.answer}
			if page, program := p.app.answer(t.Context(), m).Rate, messageOf(m, p.app.o.TraceLink).Rate; page != row.want || program != row.want {
				t.Errorf("a page says %g, JSON %g, want %g", page, program, row.want)
			}
		})
	}
}

func TestALineIsShownAlsoWhereNothingIsReadAnyMore(t *testing.T) {
	answer := history.Message{State: history.Done, Text: strings.Repeat("answer ", 400)}
	short := history.Message{State: history.Done, Text: "yes"}
	for name, row := range map[string]struct {
		answers []history.Message
		turn    string // in which the line stands, "" for none
		first   bool   // above the message
	}{
		"all is read":          {[]history.Message{short, short}, "", false},
		"the last one is read": {[]history.Message{answer, short}, "turn-2", true},
		"none is read":         {[]history.Message{answer, answer, answer, answer}, "turn-4", false},
	} {
		t.Run(name, func(t *testing.T) {
			d := parse(t, withTalk(t, 512, row.answers...).do("GET", "/chat/c1/messages", "", "HX-Request", "true", "Accept", asPage).Body.String())
			lines := d.all(func(n *html.Node) bool { return attr(n, "class") == "forgotten" })
			if row.turn == "" {
				if len(lines) > 0 {
					t.Errorf("%d lines", len(lines))
				}
				return
			}
			if len(lines) != 1 || attr(lines[0].Parent, "id") != row.turn {
				t.Fatalf("%d lines, want one in %s", len(lines), row.turn)
			}
			above := true
			for n := lines[0].PrevSibling; n != nil; n = n.PrevSibling {
				above = above && n.Data != "article"
			}
			if above != row.first {
				t.Errorf("the line stands above the message: %t", above)
			}
		})
	}
}

func TestTheFactsOfAnAnswer(t *testing.T) {
	for name, row := range map[string]struct {
		m    history.Message
		want string
		not  string
	}{
		"the load has its name":                  {history.Message{State: history.Done, Answer: provider.Answer{FirstToken: 19 * time.Millisecond, Load: 400 * time.Millisecond}}, "first token after 19 ms, model loaded in 400 ms", ""},
		"a model that was there was not loaded":  {history.Message{State: history.Done, Answer: provider.Answer{FirstToken: 19 * time.Millisecond, Load: 99 * time.Millisecond}}, "first token after 19 ms", "loaded"},
		"from a tenth of a second on it was":     {history.Message{State: history.Done, Answer: provider.Answer{Load: 100 * time.Millisecond}}, "model loaded in 100 ms", ""},
		"no token comes in no time":              {history.Message{State: history.Done, Answer: provider.Answer{FirstToken: 999 * time.Microsecond}}, "first token after less than 1 ms", "0 ms"},
		"without a load none is told":            {history.Message{State: history.Done, Answer: provider.Answer{FirstToken: 19 * time.Millisecond}}, "first token after 19 ms", "loaded"},
		"a stopped answer tells what was read":   {history.Message{State: history.Stopped, Answer: provider.Answer{Usage: provider.Usage{Read: 7}}}, "7 tokens read", "written"},
		"one that broke off tells all":           {history.Message{State: history.Failed, Answer: provider.Answer{Usage: provider.Usage{Read: 7, Written: 3}}}, "7 tokens read, 3 written", ""},
		"what costs nothing was not billed":      {history.Message{State: history.Interrupted, Provider: "echo"}, "What was shown is kept.", "billed"},
		"nothing is told where nothing is known": {history.Message{State: history.Stopped}, "Stopped here", "tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			p := withTalk(t, 0)
			html, err := p.app.pages.part("chat", "answer", p.app.answer(t.Context(), row.m))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(html), row.want) || row.not != "" && strings.Contains(string(html), row.not) {
				t.Errorf("the answer is\n%s\nwant %q and not %q", html, row.want, row.not)
			}
		})
	}
}

func TestAdviceSpeaksOfABillWhereOneCanCome(t *testing.T) {
	for paid, want := range map[bool]string{false: "ask for the answer anew", true: "ask for the answer anew; the provider may have billed this one"} {
		t.Run(fmt.Sprintf("paid: %t", paid), func(t *testing.T) {
			p := withTalk(t, 0, history.Message{State: history.Interrupted, Text: "half", Advice: "ask for the answer anew"})
			l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			ref := ledger.ChatRef{Conversation: "c1", Turn: 1, Version: 1}
			if _, err := l.IntendChat(t.Context(), ref, ledger.Call{Provider: "echo", Model: "m", Try: 1, Started: noon}, ledger.Allowance{}); err != nil {
				t.Fatal(err)
			}
			if _, err := l.RecoverChat(t.Context(), noon); err != nil {
				t.Fatal(err)
			}
			p.app.o.Chat = chat.New(chat.Options{History: p.app.o.History, Hub: p.jobs.hub, Ledger: l, Log: slog.New(slog.DiscardHandler),
				Hosts: []ask.Host{{Name: "echo", Paid: paid, Provider: echo.New("echo", provider.Deadlines{})}}, Context: func(string, string) int { return 0 }})
			var c struct {
				Messages []struct{ Advice string }
			}
			p.json("/chat/c1", 200, &c)
			if got := c.Messages[1].Advice; got != want {
				t.Errorf("the advice is %q, want %q", got, want)
			}
		})
	}
}

// noPlace is the line at a model server that never comes to an end.
type noPlace struct{}

func (noPlace) Acquire(ctx context.Context, _ string, _ provider.Class, _ string) (func(), error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (noPlace) Lines(context.Context) []provider.Line { return nil }

func TestWhileAnAnswerIsMadeAnewTheOneBeforeIsThere(t *testing.T) {
	p := withTalk(t, 0, history.Message{State: history.Done, Text: "The Thames"})
	l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c := chat.New(chat.Options{History: p.app.o.History, Hub: p.jobs.hub, Ledger: l, Places: noPlace{}, Asker: &ask.Asker{Location: time.UTC, Log: slog.New(slog.DiscardHandler)}, Location: time.UTC, Log: slog.New(slog.DiscardHandler),
		Hosts: []ask.Host{{Name: "echo", Provider: echo.New("echo", provider.Deadlines{})}}})
	p.app.o.Chat = c
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	<-c.Ready()
	show := func() *dom { return parse(t, p.get("/chat/c1", asPage).Body.String()) }
	if n := len(show().class("earlier")); n != 0 {
		t.Fatalf("%d lists of earlier answers before there is a second", n)
	}
	if w := p.post("/chat/c1/turns/1/again", nil); w.Code != 303 {
		t.Fatalf("answering anew: %d %s", w.Code, w.Body)
	}
	d := show()
	if !d.id("turn-1").has("data-running") {
		t.Fatalf("no answer is made: %s", d.text())
	}
	earlier := d.class("earlier")
	if len(earlier) != 1 {
		t.Fatalf("%d lists of earlier answers", len(earlier))
	}
	earlier[0].says("Earlier answers (1)", "The Thames")
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestADeletedConversationIsSaidToBeDeleted(t *testing.T) {
	p := withTalk(t, 0, history.Message{State: history.Done, Text: "The Thames"})
	if err := p.app.o.History.Delete(t.Context(), "c1", noon); err != nil {
		t.Fatal(err)
	}
	for target, form := range map[string]url.Values{
		"/chat/c1/messages":      {"text": {"And then?"}},
		"/chat/c1/turns/1/again": nil,
		"/chat/c1/settings":      {"title": {"Rivers"}},
		"/chat/c1/stop":          nil,
		"/chat/c1/delete":        nil,
	} {
		w := p.post(target, form, "HX-Request", "true")
		if w.Code != 409 || !strings.Contains(w.Body.String(), `"this conversation was deleted; begin a new one"`) {
			t.Errorf("POST %s: %d %s", target, w.Code, w.Body)
		}
	}
	p.json("/chat/c1", 404, new(any)) // for who only reads, it is not there
	d := p.page("/chat/c1", 404)
	d.says("The conversation is deleted.", "Undo")
	if !slices.Contains(d.links(), "/chat/c1/undelete") {
		t.Fatalf("nothing leads back: %q", d.links())
	}
	if w := p.post("/chat/c1/undelete", nil); w.Code != 303 || w.Header().Get("Location") != "/chat/c1" {
		t.Errorf("bringing it back: %d %v", w.Code, w.Header())
	}
	if w := p.get("/chat/c1", asPage); w.Code != 200 {
		t.Errorf("it is not back: %d", w.Code)
	}
}

func TestOnlyWhatCanBeBroughtBackIsOffered(t *testing.T) {
	p := withTalk(t, 0, history.Message{State: history.Done, Text: "The Thames"})
	h := p.app.o.History
	offered := func(target string) bool {
		d := parse(t, p.get(target, asPage).Body.String())
		return slices.ContainsFunc(d.links(), func(link string) bool { return strings.HasSuffix(link, "/undelete") })
	}
	if offered("/chat?deleted=c1") {
		t.Error("one that is there is offered, as by Back after Undo")
	}
	if offered("/chat?deleted=abc") || offered("/chat/abc") {
		t.Error("one that never was is offered")
	}
	if err := h.Delete(t.Context(), "c1", noon); err != nil {
		t.Fatal(err)
	}
	if !offered("/chat?deleted=c1") || !offered("/chat/c1") {
		t.Error("one that was deleted a moment ago is not offered")
	}
	if n, err := h.Purge(t.Context(), noon.Add(time.Hour)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if offered("/chat?deleted=c1") || offered("/chat/c1") {
		t.Error("one that was removed for good is offered")
	}
	parse(t, p.get("/chat/c1", asPage).Body.String()).says("this conversation was deleted")
}
