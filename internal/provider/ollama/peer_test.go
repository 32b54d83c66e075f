//go:build peer

// These tests ask a real Ollama, whose URL is in RUNNER_TEST_OLLAMA:
//
//	RUNNER_TEST_OLLAMA=http://127.0.0.1:11434 go test -tags peer ./internal/provider/ollama
//
// It must have the models tiny, gemma4-tiny and tiny-endless of testdata/README.md.
package ollama

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/providertest"
)

func peer(t *testing.T) provider.Provider {
	t.Helper()
	p, err := New(Config{Name: "peer", URL: os.Getenv("RUNNER_TEST_OLLAMA"), Deadlines: provider.DefaultDeadlines()})
	if err != nil {
		t.Fatal("RUNNER_TEST_OLLAMA: ", err)
	}
	return p
}

func TestPeerSuite(t *testing.T) {
	providertest.Run(t, providertest.Suite{Open: func(t *testing.T) provider.Provider { return peer(t) },
		Whole: "tiny", Slow: "tiny-endless", Unknown: "nope"})
}

func TestPeerThinks(t *testing.T) {
	answer, err := peer(t).Ask(t.Context(), ask("gemma4-tiny"), ignore)
	if err != nil || answer.Text != sentence || answer.Thinking == "" {
		t.Errorf("text %q, thinking %q: %v", answer.Text, answer.Thinking, err)
	}
	t.Logf("%+v", answer)
}

func TestPeerServesTheNextCallAfterOneWasStopped(t *testing.T) {
	p := peer(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pieces := 0
	answer, err := p.Ask(ctx, ask("tiny-endless"), func(e provider.Event) {
		if e.Kind == provider.TextEvent {
			if pieces++; pieces == 50 {
				cancel()
			}
		}
	})
	if provider.KindOf(err) != provider.Cancelled || strings.Count(answer.Text, "t") < 50 {
		t.Errorf("%d pieces: %v", pieces, err)
	}
	t.Logf("stopped after %s: %v", answer.Took, err)
	begin := time.Now()
	answer, err = p.Ask(t.Context(), ask("tiny"), ignore)
	if err != nil || answer.Text != sentence {
		t.Errorf("the next call: %q, %v", answer.Text, err)
	}
	t.Logf("the next call took %s, its load %s", time.Since(begin), answer.Load)
}

func TestPeerFailures(t *testing.T) {
	for _, test := range []struct {
		name string
		req  provider.Request
		kind provider.Kind
	}{
		{"3000 words do not fit 2048 tokens", prompt("tiny", strings.Repeat("note ", 3000)), provider.TooLong},
		{"one word of 10000 letters does not either, as the server counts", prompt("tiny", strings.Repeat("x", 10000)), provider.TooLong},
		{"five tokens are no whole answer", provider.Request{Model: "tiny", Messages: ask("").Messages, MaxTokens: 5}, provider.Cut},
		{"three tokens are all thinking", provider.Request{Model: "gemma4-tiny", Messages: ask("").Messages, MaxTokens: 3}, provider.Empty},
		{"a model that finds no end stops at the end of its context", ask("tiny-endless"), provider.Cut},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer, err := peer(t).Ask(t.Context(), test.req, ignore)
			if provider.KindOf(err) != test.kind {
				t.Errorf("got %v, want %q", err, test.kind)
			}
			e, _ := err.(*provider.Error)
			t.Logf("%+v\n%d bytes, usage %+v, took %s", e, len(answer.Text), answer.Usage, answer.Took)
		})
	}
}

func prompt(model, text string) provider.Request {
	return provider.Request{Model: model, Messages: []provider.Message{{Role: provider.User, Content: text}}}
}
