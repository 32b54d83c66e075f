package ollama

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/wire"
)

// checkWords holds every text for the owner against what may not be in it.
func checkWords(t *testing.T, e *provider.Error) {
	t.Helper()
	for _, text := range []string{e.Reason, e.Advice, e.Error()} {
		for _, canary := range []string{"canary", "://", "/var/", "/root", "blobs", "<html", "\n", "JSON input", "invalid character", "unmarshal"} {
			if strings.Contains(text, canary) {
				t.Errorf("%q is in %q", canary, text)
			}
		}
	}
	if n := len([]rune(e.Reason)); n == 0 || n > 300 {
		t.Errorf("the reason has %d characters: %q", n, e.Reason)
	}
}

func TestFailures(t *testing.T) {
	end := func(reason string, read, written int) string {
		return fmt.Sprintf(`{"model":"tiny","message":{"role":"assistant","content":""},"done":true,"done_reason":%q,"prompt_eval_count":%d,"eval_count":%d}`,
			reason, read, written)
	}
	text := func(s string) string {
		return fmt.Sprintf(`{"model":"tiny","message":{"role":"assistant","content":%q},"done":false}`, s)
	}
	const partial = "The note moved"
	html := "<html><body>canary http://10.0.0.1/root</body></html>"
	for _, test := range []struct {
		name   string
		step   string // of the reply, "ask" where it is ""
		reply  reply
		prompt string
		max    int

		kind   provider.Kind
		reason string
		advice string
		sent   bool
		text   string
		finish string
		wait   time.Duration
	}{
		// before the first line
		{name: "an unknown model, as its description says", step: "show", reply: recorded(t, "show-no-model"),
			kind: provider.NoModel, reason: "status 404: model 'nope' not found", advice: "run `ollama pull tiny` on davas"},
		{name: "an unknown model, as the answer says", reply: recorded(t, "no-model"),
			kind: provider.NoModel, reason: "status 404: model 'nope' not found", advice: "run `ollama pull tiny` on davas"},
		{name: "a prompt that the server finds too long", reply: recorded(t, "too-long"),
			kind: provider.TooLong, reason: "the server says that the prompt does not fit the context of 2048 tokens (num_ctx)", advice: "made for 2048 tokens"},
		{name: "a prompt that cannot fit is not even sent", reply: hangUp, prompt: strings.Repeat("note ", 3000),
			kind: provider.TooLong, reason: "at least 3000 tokens long, does not fit the context of 2048", advice: "shorten the prompt"},
		{name: "a model that cannot think", reply: recorded(t, "no-thinking"),
			kind: provider.Refused, reason: `status 400: "tiny" does not support thinking`},
		{name: "an option of the wrong type, which the server calls its own failure", reply: recorded(t, "bad-option"),
			kind: provider.Refused, reason: `option "num_ctx" must be of type integer`},
		{name: "a model that does not load, with a path of the server", step: "load", reply: recorded(t, "load-failure"),
			kind: provider.Failed, reason: "the model could not be loaded: status 500: llama runner process has terminated: error loading model: missing tensor 'blk.1.ffn_down.weight' panic: unable to load model: [path]"},
		{name: "a queue that is full", reply: recorded(t, "busy"),
			kind: provider.Busy, reason: "status 503: server busy, please try again. maximum pending requests exceeded"},
		{name: "a queue that is full at the load", step: "load", reply: recorded(t, "busy"),
			kind: provider.Busy, reason: "status 503"},
		{name: "a proxy that says when to come back",
			reply: raw([]byte("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")),
			kind:  provider.Busy, reason: "status 429 without a word", wait: 7 * time.Second},
		{name: "a foreign host name, refused without a word", reply: recorded(t, "foreign-host"),
			kind: provider.Auth, reason: "status 403 without a word", advice: "header Host"},
		{name: "a path that Ollama does not have, in plain text", reply: recorded(t, "wrong-path"),
			kind: provider.Refused, reason: "status 404, and the body is not Ollama's JSON", advice: "url"},
		{name: "a proxy's page", reply: made("502 Bad Gateway", "text/html", html),
			kind: provider.Gateway, reason: "status 502, and the body is not Ollama's JSON", advice: "in front", sent: true},
		{name: "a redirect is not followed",
			reply: raw([]byte("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://canary.example/api/chat\r\nContent-Length: 0\r\n\r\n")),
			kind:  provider.Refused, reason: "status 307: a redirect, which is not followed", advice: "url"},
		{name: "a proxy's page with status 200", reply: made("200 OK", "text/html", html),
			kind: provider.Malformed, reason: "a line of the stream is not what the protocol says", sent: true},
		{name: "a status that means nothing here", reply: raw([]byte("HTTP/1.1 204 No Content\r\n\r\n")),
			kind: provider.Malformed, reason: "status 204", sent: true},
		{name: "a connection that ends before the first byte", reply: hangUp,
			kind: provider.Failed, reason: "connection lost before the first byte", sent: true},
		{name: "a connection that ends during the load", step: "load", reply: hangUp,
			kind: provider.Failed, reason: "the model could not be loaded: connection lost before the first byte"},
		{name: "a load that is answered with something else", step: "load", reply: made("200 OK", "application/json", "{}"),
			kind: provider.Malformed, reason: "did not say that it loaded"},
		// inside the stream
		{name: "an engine that dies", reply: recorded(t, "error-inside"), kind: provider.Failed, sent: true,
			reason: "the server failed during the answer: an error was encountered while running the model: unexpected EOF", text: "tick tock"},
		{name: "a server that is stopped", reply: recorded(t, "killed"), kind: provider.Unfinished, sent: true,
			reason: "connection lost in the middle of the answer", text: "tick tock"},
		{name: "a server that is stopped within a line", kind: provider.Unfinished, sent: true,
			reply:  raw(recording(t, "whole")[:600]),
			reason: "connection lost in the middle of the answer", text: partial},
		{name: "a proper end without done", reply: recorded(t, "stuck"), kind: provider.Unfinished, sent: true,
			reason: "the stream ended without its end marker", advice: "repeats itself", text: "ha ha ha"},
		{name: "a proper end within a line", kind: provider.Unfinished, sent: true,
			reply:  then(stream(text(partial)), raw([]byte(`{"message":{"content":" from`))),
			reason: "the stream ended without its end marker", text: partial},
		{name: "no line at all", reply: stream(), kind: provider.Unfinished, sent: true, reason: "without its end marker"},
		{name: "a malformed line", reply: stream(text(partial), `{"canary":`, end("stop", 16, 3)), kind: provider.Malformed, sent: true,
			reason: "a line of the stream is not what the protocol says", text: partial},
		{name: "a line that is null", reply: stream(text(partial), "null", end("stop", 16, 3)), kind: provider.Malformed, sent: true,
			reason: "a line of the stream is not what the protocol says", text: partial},
		{name: "a negative count", reply: stream(text(partial), end("stop", -1, 3)), kind: provider.Malformed, sent: true,
			reason: "a line of the stream is not what the protocol says", text: partial},
		{name: "a line of 10 MiB", reply: stream(text(partial), text(strings.Repeat("a", 10<<20))), kind: provider.Malformed, sent: true,
			reason: "a line of the stream is longer than 8 MiB", text: partial},
		{name: "an answer of more than 16 MiB", kind: provider.Malformed, sent: true,
			reply:  stream(text(strings.Repeat("a", 7<<20)), text(strings.Repeat("a", 7<<20)), text(strings.Repeat("a", 7<<20))),
			reason: "the answer is longer than 16 MiB", text: "aaa"},
		{name: "an error that holds a path and is long", kind: provider.Failed, sent: true,
			reply:  stream(text(partial), `{"error":"open /root/.ollama/my models/blobs/x: denied `+strings.Repeat("b ", 300)+`"}`),
			reason: "the server failed during the answer: open [path] denied b b", text: partial},
		// ends with done
		{name: "an answer cut by max_tokens", reply: recorded(t, "length"), max: 5, kind: provider.Cut, sent: true,
			reason: "the answer was cut at its limit of 5 tokens (max_tokens)", advice: "raise max_tokens", text: "The note moved from queue", finish: "length"},
		{name: "an answer cut by the end of the context", reply: stream(text(partial), end("length", 2000, 47)), kind: provider.Cut, sent: true,
			reason: "limit of 2048 tokens, prompt and answer together (num_ctx)", advice: "shorten the prompt: this model was made for 2048 tokens", text: partial, finish: "length"},
		{name: "an answer without end, cut by the end of the context", reply: stream(text(partial), end("length", 47, 2000)), kind: provider.Cut, sent: true,
			reason: "limit of 2048 tokens, prompt and answer together (num_ctx)", advice: "ask for a shorter answer: this model was made for 2048 tokens", text: partial, finish: "length"},
		{name: "thinking that used up max_tokens", reply: recorded(t, "thinking-length"), max: 3, kind: provider.Empty, sent: true,
			reason: "used up its limit of 3 tokens (max_tokens) by thinking", advice: "raise max_tokens", finish: "length"},
		{name: "thinking alone", kind: provider.Empty, sent: true, finish: "stop",
			reply:  stream(`{"message":{"content":"","thinking":"Hm."},"done":false}`, end("stop", 16, 3)),
			reason: "the model thought, and ended without an answer"},
		{name: "no word", reply: stream(text(" \n"), end("stop", 16, 1)), kind: provider.Empty, sent: true,
			reason: "the model ended without a word", finish: "stop"},
		{name: "a question that was only taken as a load", reply: recorded(t, "load"), kind: provider.Malformed, sent: true,
			reason: `ended for the reason "load"`, finish: "load"},
		{name: "done without a reason", reply: stream(text(partial), `{"done":true,"prompt_eval_count":16}`), kind: provider.Malformed, sent: true,
			reason: `ended for the reason ""`, text: partial},
		// prompts that were not read whole
		{name: "a prompt that the server cut in silence", reply: recorded(t, "cut-prompt"), prompt: strings.Repeat("note ", 2000),
			kind: provider.Unread, sent: true, finish: "stop",
			reason: "the server read 2048 tokens, the whole context of 2048", advice: "shorten the prompt", text: "The note moved"},
		{name: "fewer tokens read than the prompt has words", reply: stream(text(partial), end("stop", 499, 3)), prompt: strings.Repeat("note ", 500),
			kind: provider.Unread, sent: true, finish: "stop",
			reason: "the server read 499 tokens of a prompt that has at least 500", advice: "shorten the prompt", text: partial},
		{name: "no count at all", reply: stream(text(partial), `{"done":true,"done_reason":"stop"}`), kind: provider.Unread, sent: true, finish: "stop",
			reason: "the server read 0 tokens of a prompt that has at least 4", text: partial},
		{name: "one token less than the context", reply: stream(text(partial), end("stop", 2047, 1)), kind: provider.Unread, sent: true, finish: "stop",
			reason: "the server read 2047 tokens, the whole context of 2048", text: partial},
		{name: "half of the context and 2, of a prompt that may be longer", reply: stream(text(partial), end("stop", 1026, 3)),
			prompt: strings.Repeat("note ", 900), kind: provider.Unread, sent: true, finish: "stop",
			reason: "the server read 1026 tokens, just what is left of a prompt cut to half the context of 2048; the prompt has at least 900", text: partial},
		{name: "a cut answer to a cut prompt is unread first of all", reply: stream(text(partial), end("length", 2048, 1)), kind: provider.Unread, sent: true,
			reason: "the server read 2048 tokens", text: partial, finish: "length"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t)
			step := test.step
			if step == "" {
				step = "ask"
			}
			s.replies[step] = test.reply
			req := ask("tiny")
			req.MaxTokens = test.max
			if test.prompt != "" {
				req.Messages[0].Content = test.prompt
			}
			var last provider.Event
			answer, err := s.provider(t, nil).Ask(t.Context(), req, func(e provider.Event) { last = e })
			e, ok := err.(*provider.Error)
			if !ok {
				t.Fatalf("the error is %v", err)
			}
			checkWords(t, e)
			if e.Kind != test.kind || !strings.Contains(e.Reason, test.reason) || !strings.Contains(e.Advice, test.advice) {
				t.Errorf("got kind %q, reason %q, advice %q\nwant %q, %q, %q", e.Kind, e.Reason, e.Advice, test.kind, test.reason, test.advice)
			}
			if e.Sent != test.sent || e.RetryAfter != test.wait || e.Provider != "davas" || e.Model != "tiny" {
				t.Errorf("sent %v, retry after %s, provider %q, model %q", e.Sent, e.RetryAfter, e.Provider, e.Model)
			}
			if !strings.HasPrefix(answer.Text, test.text) || test.text == "" && answer.Text != "" || answer.Finish != test.finish {
				t.Errorf("text begins with %.40q, finish %q; want %q, %q", answer.Text, answer.Finish, test.text, test.finish)
			}
			if last.Kind != provider.EndEvent || last.Text != string(test.kind) {
				t.Errorf("the last event is %+v", last)
			}
		})
	}
}

func TestCountsThatAreNotHeldAgainstAnAnswer(t *testing.T) {
	for _, test := range []struct {
		name   string
		read   int
		prompt string
	}{
		{"as many tokens as words", 500, strings.Repeat("note ", 500)},
		{"half of the context and 2, of a prompt of fewer bytes than the context has tokens", 1026, strings.Repeat("note ", 400)},
		{"half of the context and 3", 1027, strings.Repeat("note ", 900)},
		{"two tokens less than the context", 2046, strings.Repeat("note ", 900)},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t)
			s.replies["ask"] = stream(fmt.Sprintf(`{"message":{"content":"Yes."},"done":true,"done_reason":"stop","prompt_eval_count":%d,"eval_count":1}`, test.read))
			req := ask("tiny")
			req.Messages[0].Content = test.prompt
			answer, err := s.provider(t, nil).Ask(t.Context(), req, ignore)
			if err != nil || answer.Text != "Yes." || answer.Rate != 0 {
				t.Errorf("got %q at %v tokens a second: %v", answer.Text, answer.Rate, err)
			}
		})
	}
}

func TestNoConnection(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	fail := func(err error) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) { return nil, err }
	}
	for _, test := range []struct {
		name   string
		url    string
		dial   func(context.Context, string, string) (net.Conn, error)
		reason string
		took   time.Duration
	}{
		{"a port where nobody listens", "http://canary", fail(refused), "unreachable: connection refused", 0},
		{"a host that nothing leads to", "http://canary", fail(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), "unreachable: no route to the host", 0},
		{"a net that nothing leads to", "http://canary", fail(os.NewSyscallError("connect", syscall.ENETUNREACH)), "unreachable: no route to the host", 0},
		{"a name that nobody knows", "http://canary", fail(&net.DNSError{Err: "no such host", Name: "canary", IsNotFound: true}), "unreachable: host name not found", 0},
		{"a reason without a name", "http://canary", fail(errors.New("canary")), "unreachable: no connection came about", 0},
		{"a host that sleeps", "http://canary", func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, "unreachable: timed out after 10s", 10 * time.Second},
		{"a host that is silent where TLS should begin", "https://canary", func(context.Context, string, string) (net.Conn, error) {
			client, conn := net.Pipe()
			go silence(conn)
			return client, nil
		}, "unreachable: timed out after 10s", 10 * time.Second},
		{"a certificate that nobody vouches for", "https://canary",
			fail(&tls.CertificateVerificationError{Err: errors.New("x509: canary")}), "unreachable: its certificate is not trusted", 0},
		{"a server that speaks http where https was meant", "https://canary", func(context.Context, string, string) (net.Conn, error) {
			client, conn := net.Pipe()
			go func() {
				defer conn.Close()
				buffer := make([]byte, 1<<16)
				_, _ = conn.Read(buffer)
				_, _ = conn.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"))
			}()
			return client, nil
		}, "unreachable: it speaks http, not https", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, err := New(Config{Name: "davas", URL: test.url, Deadlines: provider.DefaultDeadlines()})
				if err != nil {
					t.Fatal(err)
				}
				p.client.Transport = wire.NewTransport(p.deadlines.Connect, test.dial)
				answer, err := p.Ask(t.Context(), ask("tiny"), ignore)
				_, listed := p.Models(t.Context())
				for what, err := range map[string]error{"Ask": err, "Ping": p.Ping(t.Context()), "Models": listed} {
					e, ok := err.(*provider.Error)
					if !ok || e.Kind != provider.Unreachable || e.Sent || !e.Again() {
						t.Fatalf("%s: %+v, want an unreachable host to which nothing was sent", what, err)
					}
					checkWords(t, e)
					if want := test.reason; e.Reason != want && (what != "Ping" || test.took == 0 || !strings.HasPrefix(e.Reason, "unreachable: ")) {
						t.Errorf("%s: reason is %q, want %q", what, e.Reason, want)
					}
				}
				if answer.Took != test.took || answer.Text != "" {
					t.Errorf("took %s, want %s", answer.Took, test.took)
				}
			})
		})
	}
}

func TestAPingThatIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.replies["version"] = silence
		begin := time.Now()
		err := s.provider(t, nil).Ping(t.Context())
		if provider.KindOf(err) != provider.Timeout || time.Since(begin) != 10*time.Second {
			t.Errorf("after %s: %v, want a timeout after 10s", time.Since(begin), err)
		}
	})
}

func TestAHostThatIsLostBetweenLoadAndAnswer(t *testing.T) {
	s := newServer(t)
	p := s.provider(t, nil)
	dials := 0
	through := p.client.Transport.(*http.Transport).DialContext
	p.client.Transport = wire.NewTransport(time.Second, func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials++; dials == 4 { // after list, description and load
			return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
		}
		return through(ctx, network, address)
	})
	_, err := p.Ask(t.Context(), ask("tiny"), ignore)
	e, ok := err.(*provider.Error)
	if !ok || e.Kind != provider.Unreachable || e.Sent || len(s.bodies("load")) != 1 {
		t.Errorf("got %+v, want an unreachable host to which nothing was sent", err)
	}
}

func TestClean(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"a plain text stays", "model 'nope' not found", "model 'nope' not found"},
		{"several lines become one", "a\r\n\tb\u2028c", "a b c"},
		{"a path goes", "open /root/.ollama/x: denied", "open [path] denied"},
		{"a path in quotes goes", `open "/root/x": denied`, "open [path] denied"},
		{"a path with blanks goes whole", "open /Users/Jo Ann Smith/x y/z: denied", "open [path] denied"},
		{"a path of Windows goes", `open C:\Users\jo: denied`, "open [path] denied"},
		{"a URL goes", `Post "http://127.0.0.1:1/completion": EOF`, "Post [path] EOF"},
		{"signs that do not print go", "a\x1b[31mb\u202ec", "a [31mb c"},
		{"a long text is cut", strings.Repeat("é", 300), strings.Repeat("é", 199) + "…"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := clean(test.text); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
