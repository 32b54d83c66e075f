package echo_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/echo"
	"davidcockson.com/runner/internal/provider/providertest"
)

func TestSuite(t *testing.T) {
	providertest.Run(t, providertest.Suite{
		Open: func(*testing.T) provider.Provider {
			return echo.New("echo", provider.DefaultDeadlines())
		},
		Whole: echo.Echo, Slow: echo.Slow, Unknown: "gemma4:12b",
	})
}

func TestModels(t *testing.T) {
	const opening = "This is runner's built-in echo provider, not a language model. It repeats the prompt it was given:\n\n"
	one := []provider.Message{{Role: provider.User, Content: "Where is\n\nthe note? 'Tis  here.\n"}}
	two := []provider.Message{{Role: provider.System, Content: "Be brief."}, {Role: provider.User, Content: "Where?"}}
	for _, test := range []struct {
		name     string
		model    string
		messages []provider.Message
		kind     provider.Kind
		text     string
		finish   string
		took     time.Duration
		reason   string
	}{
		{name: "echo repeats a single message to the byte", model: "echo", messages: one,
			text: opening + one[0].Content, finish: "stop"},
		{name: "echo names the roles of several messages", model: "echo", messages: two,
			text: opening + "[system]\nBe brief.\n\n[user]\nWhere?", finish: "stop"},
		{name: "slow writes the same with a pause after each word", model: "slow", messages: two,
			text: opening + "[system]\nBe brief.\n\n[user]\nWhere?", finish: "stop",
			took: 50 * time.Millisecond * time.Duration(strings.Count(opening+"[system]\nBe brief.", " ")+1)},
		{name: "cut ends half-way with what had come", model: "cut", messages: two, kind: provider.Cut,
			text: "This is runner's built-in echo provider, not a language ", finish: "length", reason: "cut half-way"},
		{name: "busy answers nothing", model: "busy", messages: two, kind: provider.Busy, reason: "no room"},
		{name: "silent ends by the deadline for silence and names it", model: "silent", messages: two, kind: provider.Timeout,
			text: "This ", took: time.Minute, reason: "no further piece of the answer within 1m0s"},
		{name: "the default of no model is not guessed", model: "", messages: two, kind: provider.NoModel, reason: "no such model"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := echo.New("demo", provider.DefaultDeadlines())
				answer, err := p.Ask(t.Context(), provider.Request{Model: test.model, Messages: test.messages}, func(provider.Event) {})
				if kind := provider.KindOf(err); kind != test.kind {
					t.Fatalf("kind is %q, want %q: %v", kind, test.kind, err)
				}
				if err != nil && !strings.Contains(err.Error(), test.reason) {
					t.Errorf("the error is %q, want %q in it", err, test.reason)
				}
				if answer.Text != test.text || answer.Finish != test.finish || answer.Took != test.took {
					t.Errorf("answer is %q, finish %q, took %s\nwant %q, %q, %s",
						answer.Text, answer.Finish, answer.Took, test.text, test.finish, test.took)
				}
			})
		})
	}
}

func TestBusySaysWhenToComeBack(t *testing.T) {
	_, err := echo.New("demo", provider.DefaultDeadlines()).Ask(t.Context(), provider.Request{Model: "busy"}, func(provider.Event) {})
	e := err.(*provider.Error)
	if !e.Again() || e.RetryAfter != time.Second || e.Sent {
		t.Errorf("got again %v, after %s, sent %v; want again, after 1s, nothing sent", e.Again(), e.RetryAfter, e.Sent)
	}
}

func TestSilentIsStoppedByItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		answer, err := echo.New("demo", provider.DefaultDeadlines()).Ask(ctx, provider.Request{Model: "silent"}, func(provider.Event) {})
		if provider.KindOf(err) != provider.Cancelled || answer.Took != time.Second || answer.Text == "" {
			t.Errorf("got %v after %s with %q; want cancelled after 1s with the first piece", err, answer.Took, answer.Text)
		}
	})
}
