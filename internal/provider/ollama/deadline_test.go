package ollama

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/provider"
)

// pass lets time pass in a synctest bubble, where it costs nothing.
func pass(d time.Duration) { <-time.After(d) }

// TestDeadlines runs on a clock of its own: each limit strikes at its length to
// the nanosecond, and only where nothing came.
func TestDeadlines(t *testing.T) {
	slow := func(d time.Duration, then reply) reply {
		return func(conn net.Conn) { pass(d); then(conn) }
	}
	long := strings.Repeat("word ", 70)
	for _, test := range []struct {
		name   string
		change func(t *testing.T, s *server)
		kind   provider.Kind
		reason string
		advice string
		took   time.Duration
		sent   bool
		text   string
	}{
		{
			name:   "a load that takes too long",
			change: func(t *testing.T, s *server) { s.replies["load"] = silence },
			kind:   provider.Timeout, reason: "the model was not loaded within 10m0s", advice: "deadlines.load", took: 10 * time.Minute,
		},
		{
			name:   "a load just within its limit, whose time is not the answer's",
			change: func(t *testing.T, s *server) { s.replies["load"] = slow(599*time.Second, recorded(t, "load")) },
			took:   599 * time.Second, text: sentence,
		},
		{
			name:   "a prompt read in silence for longer than its 70 tokens allow",
			change: func(t *testing.T, s *server) { s.replies["ask"] = silence },
			kind:   provider.Timeout, reason: "no first byte within 2m7s after the model was loaded", advice: "deadlines.first_byte",
			took: 127 * time.Second, sent: true,
		},
		{
			name: "a prompt read in silence for just as long, and pieces that are slow, but not too slow",
			change: func(t *testing.T, s *server) {
				s.replies["ask"] = slow(126*time.Second, stream(
					`{"message":{"content":" Yes"},"done":false}`,
					`{"message":{"content":"."},"done":true,"done_reason":"stop","prompt_eval_count":80,"eval_count":2}`))
			},
			took: 126 * time.Second, text: "Yes.",
		},
		{
			name:   "a stream that stalls in its midst",
			change: func(t *testing.T, s *server) { s.replies["ask"] = then(chunked(t, "whole", 3), silence) },
			kind:   provider.Timeout, reason: "no further piece of the answer within 1m0s", advice: "deadlines.silence",
			took: time.Minute, sent: true, text: "The note moved",
		},
		{
			name: "a stream that stalls within a line",
			change: func(t *testing.T, s *server) {
				s.replies["ask"] = then(stream(`{"message":{"content":"Yes"},"done":false}`), raw([]byte(`{"mess`)), silence)
			},
			kind: provider.Timeout, reason: "no further piece of the answer within 1m0s", advice: "deadlines.silence",
			took: time.Minute, sent: true, text: "Yes",
		},
		{
			name: "a load whose reply stalls within its body",
			change: func(t *testing.T, s *server) {
				s.replies["load"] = then(raw([]byte("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")), silence)
			},
			kind: provider.Timeout, reason: "the model was not loaded within 10m0s", advice: "deadlines.load", took: 10 * time.Minute,
		},
		{
			name:   "a description that does not come",
			change: func(t *testing.T, s *server) { s.replies["show"] = silence },
			kind:   provider.Timeout, reason: "no description of the model within 2m0s", advice: "deadlines.first_byte", took: 2 * time.Minute,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				test.change(t, s)
				req := provider.Request{Model: "tiny", Messages: []provider.Message{{Role: provider.User, Content: long}}}
				if test.kind == "" && test.text == sentence { // the recording is of a short prompt
					req = ask("tiny")
				}
				answer, err := s.provider(t, nil).Ask(t.Context(), req, ignore)
				e, _ := err.(*provider.Error)
				if e == nil {
					e = &provider.Error{}
				}
				if e.Kind != test.kind || e.Reason != test.reason || !strings.Contains(e.Advice, test.advice) || e.Sent != test.sent {
					t.Errorf("got kind %q, reason %q, advice %q, sent %v", e.Kind, e.Reason, e.Advice, e.Sent)
				}
				if answer.Took != test.took || answer.Text != test.text {
					t.Errorf("took %s with %q, want %s with %q", answer.Took, answer.Text, test.took, test.text)
				}
			})
		})
	}
}

func TestASlowStreamIsNotAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.replies["ask"] = func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
			for range 100 {
				pass(59 * time.Second)
				_, _ = io.WriteString(conn, `{"message":{"content":" tick"},"done":false}`+"\n")
			}
			_, _ = io.WriteString(conn, `{"done":true,"done_reason":"stop","prompt_eval_count":22}`)
		}
		answer, err := s.provider(t, nil).Ask(t.Context(), ask("tiny"), ignore)
		if err != nil || answer.Took != 5900*time.Second || strings.Count(answer.Text, "tick") != 100 {
			t.Errorf("after %s: %v", answer.Took, err)
		}
	})
}

func TestTheCallersContextEndsEveryStep(t *testing.T) {
	for _, test := range []struct {
		step string
		sent bool
	}{{"tags", false}, {"show", false}, {"load", false}, {"ask", true}} {
		t.Run(test.step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				s.replies[test.step] = silence
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				answer, err := s.provider(t, nil).Ask(ctx, ask("tiny"), ignore)
				e, ok := err.(*provider.Error)
				if !ok || e.Kind != provider.Cancelled || e.Sent != test.sent || answer.Took != 30*time.Second {
					t.Errorf("after %s: %+v", answer.Took, err)
				}
			})
		})
	}
}

func TestAnEndlessAnswerIsEndedByItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.replies["ask"] = func(conn net.Conn) {
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
			for err == nil {
				pass(time.Second)
				_, err = io.WriteString(conn, `{"message":{"content":" tick"},"done":false}`+"\n")
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
		defer cancel()
		answer, err := s.provider(t, nil).Ask(ctx, ask("tiny"), ignore)
		if provider.KindOf(err) != provider.Cancelled || answer.Took != 15*time.Minute {
			t.Errorf("after %s: %v", answer.Took, err)
		}
		if n := strings.Count(answer.Text, "tick"); n < 898 || n > 900 {
			t.Errorf("%d words are kept of 900", n)
		}
	})
}
