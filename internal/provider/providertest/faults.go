package providertest

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/provider"
)

// Canary is part of the key that a provider under test is given, and of every
// error that its server words. It must be in no text of ours.
const Canary = "canary7f3a"

// Protocol is how one provider's server speaks: enough to play every fault.
type Protocol struct {
	// Open returns a provider with provider.DefaultDeadlines and Key. Its requests for an answer are answered by ask,
	// all others as usual; where ask is nil nobody listens.
	Open func(t *testing.T, ask Reply) provider.Provider
	// Model is asked for. Its answers take no time to begin.
	Model string
	// Key holds Canary, and servers repeat it in their errors; "" for a provider
	// that has none.
	Key string
	// Head begins a streamed answer of status 200, with the empty line.
	Head string
	// Text and Think are one piece of a stream; Think is nil where no thinking is
	// told apart.
	Text, Think func(text string) string
	// End ends a stream by the name of an ending: "stop", "length", "blocked",
	// "blocked prompt", "tool". It is "" for one that the protocol does not have.
	End func(ending string) string
	// Failure is a piece that says that the server failed.
	Failure func(message string) string
	// Error is the body of a refusal.
	Error func(status int, message string) string
	// TooLarge is a refusal of a request that the rate limit can never take; nil
	// where there are no such limits.
	TooLarge Reply
	// Quoted are answers of real servers, by the name of the row that they
	// replace the made-up one of.
	Quoted map[string]Reply
}

// fault is one row: what the server does, and what must come of it.
type fault struct {
	name   string
	reply  func(p Protocol) Reply // nil for a fault that the protocol does not have
	max    int
	kind   provider.Kind // "" for a success
	reason string        // a part of it
	sent   bool
	again  bool
	wait   time.Duration // RetryAfter
	kept   bool          // some text had come
	took   time.Duration // by the clock of the test
	within time.Duration // the caller's own limit, 0 for none
}

const nobody = "a port where nobody listens"

// faults are all ways in which an answer ends. A limit that strikes does so at
// its length to the nanosecond.
var faults = []fault{
	{name: "a whole answer", reply: stream(text, end("stop")), kept: true},
	{name: "an answer with thinking before it", reply: stream(think, text, end("stop")), kept: true},
	{name: "an answer that is slow, but not too slow", reply: stream(text, wait(59*time.Second), text, end("stop")), kept: true, took: 59 * time.Second},
	// before the first byte
	{name: nobody, kind: provider.Unreachable, reason: "connection refused", again: true},
	{name: "a connection that ends before the first byte", reply: always(HangUp), kind: provider.Failed, reason: "before the first byte", sent: true},
	{name: "silence before the first byte", reply: always(Silence), kind: provider.Timeout, reason: "no first byte within 2m0", sent: true, took: 120*time.Second + 4*100*time.Millisecond},
	{name: "a header, and silence before the first byte of the body", reply: stream(silent), kind: provider.Timeout, reason: "no first byte within 2m0", sent: true, took: 120*time.Second + 4*100*time.Millisecond},
	{name: "a wrong key, as 401", reply: refuse("401 Unauthorized", ""), kind: provider.Auth, reason: "status 401"},
	{name: "a key that may not, as 403", reply: refuse("403 Forbidden", ""), kind: provider.Auth, reason: "status 403"},
	{name: "a bad request", reply: refuse("400 Bad Request", ""), kind: provider.Refused, reason: "status 400"},
	{name: "a status that means nothing here", reply: refuse("418 I'm a teapot", ""), kind: provider.Refused, reason: "status 418"},
	{name: "a request that the rate limit can never take", reply: func(p Protocol) Reply { return p.TooLarge }, kind: provider.Refused, reason: "can ever take"},
	{name: "a limit, and when to come back in seconds", reply: refuse("429 Too Many Requests", "Retry-After: 7\r\n"), kind: provider.Busy, reason: "status 429", again: true, wait: 7 * time.Second},
	{name: "a limit, and when to come back as a date", reply: refuse("429 Too Many Requests", "Retry-After: Sat, 01 Jan 2000 00:01:00 GMT\r\n"), kind: provider.Busy, reason: "status 429", again: true, wait: time.Minute},
	{name: "a limit without when to come back", reply: refuse("429 Too Many Requests", ""), kind: provider.Busy, reason: "status 429", again: true},
	{name: "a failure of the server", reply: refuse("500 Internal Server Error", ""), kind: provider.Failed, reason: "status 500", sent: true},
	{name: "no server behind the gateway", reply: refuse("502 Bad Gateway", ""), kind: provider.Gateway, reason: "status 502", again: true, sent: true},
	{name: "a server without room", reply: refuse("503 Service Unavailable", ""), kind: provider.Busy, reason: "status 503", again: true},
	{name: "a gateway that lost its patience", reply: refuse("504 Gateway Timeout", ""), kind: provider.Gateway, reason: "status 504", again: true, sent: true},
	{name: "a refusal without a word", reply: always(Made("503 Service Unavailable", "", "")), kind: provider.Busy, reason: "status 503 without a word", again: true},
	{name: "a refusal that never ends", reply: always(Then(Raw("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), endless("a", 0))), kind: provider.Refused, reason: "status 400"},
	{name: "a redirect", reply: always(Made("307 Temporary Redirect", "Location: http://"+Canary+".example/\r\n", "")), kind: provider.Refused, reason: "a redirect, which is not followed"},
	{name: "a page with status 200", reply: always(Made("200 OK", "Content-Type: text/html\r\n", "<html><body>"+Canary+"</body></html>")), kind: provider.Malformed, sent: true},
	{name: "no content", reply: always(Raw("HTTP/1.1 204 No Content\r\n\r\n")), kind: provider.Malformed, reason: "status 204", sent: true},
	// inside the stream
	{name: "silence within the stream", reply: stream(text, silent), kind: provider.Timeout, reason: "no further piece of the answer within 1m0s", sent: true, kept: true, took: time.Minute},
	{name: "silence within a piece", reply: stream(text, half, silent), kind: provider.Timeout, reason: "no further piece of the answer within 1m0s", sent: true, kept: true, took: time.Minute},
	{name: "a connection that is lost within the stream", reply: chunked(text), kind: provider.Unfinished, reason: "connection lost in the middle of the answer", sent: true, kept: true},
	{name: "an end in good order, but without the server's word for it", reply: stream(text), kind: provider.Unfinished, reason: "the stream ended without", sent: true, kept: true},
	{name: "no piece at all", reply: stream(), kind: provider.Unfinished, reason: "the stream ended without", sent: true},
	{name: "a failure of the server within the stream", reply: stream(text, failure), kind: provider.Failed, reason: "the server failed during the answer: ", sent: true, kept: true},
	{name: "a piece that is not what the protocol says", reply: stream(text, garbage, end("stop")), kind: provider.Malformed, reason: "is not what the protocol says", sent: true, kept: true},
	{name: "a piece that is null", reply: stream(text, null, end("stop")), kind: provider.Malformed, reason: "is not what the protocol says", sent: true, kept: true},
	{name: "a line of 10 MiB", reply: stream(text, long(10<<20), end("stop")), kind: provider.Malformed, reason: "longer than 8 MiB", sent: true, kept: true},
	{name: "a line without an end", reply: stream(text, func(Protocol) Reply { return endless("a", 0) }), kind: provider.Malformed, reason: "longer than 8 MiB", sent: true, kept: true},
	{name: "an answer of more than 16 MiB", reply: stream(long(7<<20), long(7<<20), long(7<<20), end("stop")), kind: provider.Malformed, reason: "the answer is longer than 16 MiB", sent: true, kept: true},
	{name: "an answer that never ends, until its caller has enough", reply: stream(func(p Protocol) Reply { return endless(p.Text(" tick"), time.Second) }),
		kind: provider.Cancelled, reason: "stopped before the answer was whole", sent: true, kept: true, within: 15 * time.Minute, took: 15 * time.Minute},
	// ends that are told
	{name: "an answer that is cut by max_tokens", reply: stream(text, end("length")), max: 5, kind: provider.Cut, reason: "its limit of 5 tokens (max_tokens)", sent: true, kept: true},
	{name: "an answer that is cut by another limit", reply: stream(text, end("length")), kind: provider.Cut, reason: "the answer was cut at", sent: true, kept: true},
	{name: "thinking that used up max_tokens", reply: stream(think, end("length")), max: 5, kind: provider.Empty, reason: "used up its limit of 5 tokens (max_tokens) by thinking", sent: true},
	{name: "thinking alone", reply: stream(think, end("stop")), kind: provider.Empty, reason: "the model thought, and ended without an answer", sent: true},
	{name: "no word", reply: stream(end("stop")), kind: provider.Empty, reason: "the model ended without a word", sent: true},
	{name: "blanks alone", reply: stream(func(p Protocol) Reply { return Raw(p.Text(" \n")) }, end("stop")), kind: provider.Empty, reason: "the model ended without a word", sent: true},
	{name: "an answer that is withheld half-way", reply: stream(text, end("blocked")), kind: provider.Blocked, reason: "the provider withheld the answer: ", sent: true, kept: true},
	{name: "a prompt that is withheld from the model", reply: stream(end("blocked prompt")), kind: provider.Blocked, reason: "the provider withheld the prompt: ", sent: true},
	{name: "a call of a tool that was not offered", reply: stream(end("tool")), kind: provider.Malformed, reason: "tool", sent: true},
	{name: "an end for a reason that nobody knows", reply: stream(text, end("moon")), kind: provider.Malformed, reason: `"moon`, sent: true, kept: true},
}

// Faults plays all faults against one provider.
func Faults(t *testing.T, p Protocol) {
	known := make(map[string]bool)
	for _, f := range faults {
		known[f.name] = true
		quoted, ok := p.Quoted[f.name]
		if !ok && f.name != nobody && f.reply(p) == nil {
			continue // the protocol has no words for it
		}
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ask := quoted
				if ask == nil && f.name != nobody {
					ask = f.reply(p)
				}
				f.run(t, p, ask)
			})
		})
	}
	for name := range p.Quoted {
		if !known[name] {
			t.Errorf("an answer is quoted for %q, which is no fault", name)
		}
	}
}

func (f fault) run(t *testing.T, p Protocol, ask Reply) {
	ctx := t.Context()
	if f.within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.within)
		defer cancel()
	}
	r := newRecorder(t)
	req := request(p.Model, "Where is the note?")
	req.MaxTokens = f.max
	answer, err := r.ask(ctx, p.Open(t, ask), req)
	e, _ := err.(*provider.Error)
	if err != nil && e == nil {
		t.Fatalf("the error is %T %v", err, err)
	}
	last := r.events[len(r.events)-1]
	if e == nil {
		e = &provider.Error{}
	} else {
		words(t, p, e)
		if e.Advise() == "" {
			t.Errorf("nothing says what to do about %q", e.Kind)
		}
		if last.Text != string(e.Kind) || e.Provider == "" || e.Model != p.Model {
			t.Errorf("the last event is %+v of provider %q, model %q", last, e.Provider, e.Model)
		}
	}
	if e.Kind != f.kind || !strings.Contains(e.Reason, f.reason) {
		t.Errorf("got kind %q, reason %q; want %q, %q", e.Kind, e.Reason, f.kind, f.reason)
	}
	if e.Sent != f.sent || e.Again() != f.again || e.RetryAfter != f.wait {
		t.Errorf("sent %v, again %v, retry after %s; want %v, %v, %s", e.Sent, e.Again(), e.RetryAfter, f.sent, f.again, f.wait)
	}
	if (answer.Text != "") != f.kept {
		t.Errorf("%.40q is kept, want text: %v", answer.Text, f.kept)
	}
	if answer.Took != f.took {
		t.Errorf("took %s, want %s", answer.Took, f.took)
	}
}

// words holds every text of an error against what may not be in it. The cause is
// for the log, which may not hold a key either.
func words(t *testing.T, p Protocol, e *provider.Error) {
	t.Helper()
	texts := []string{e.Reason, e.Advice, e.Error()}
	if p.Key != "" {
		texts = append(texts, fmt.Sprint(e.Cause), fmt.Sprintf("%+v", e.Cause))
	}
	for _, text := range texts {
		for _, no := range []string{Canary, "\n", "\r"} {
			if strings.Contains(text, no) {
				t.Errorf("%q is in %q", no, text)
			}
		}
	}
	if strings.Contains(e.Reason, "://") || len([]rune(e.Reason)) > 300 {
		t.Errorf("the reason is %q", e.Reason)
	}
}

// part is a piece of a stream; it is nil where the protocol has none.
type part func(Protocol) Reply

func always(r Reply) func(Protocol) Reply { return func(Protocol) Reply { return r } }

// stream is a streamed answer, ended by the end of the connection.
func stream(parts ...part) func(Protocol) Reply {
	return func(p Protocol) Reply {
		replies := []Reply{Raw(p.Head)}
		for _, next := range parts {
			r := next(p)
			if r == nil {
				return nil
			}
			replies = append(replies, r)
		}
		return Then(replies...)
	}
}

// chunked is a stream in HTTP's chunks, whose last one does not come.
func chunked(parts ...part) func(Protocol) Reply {
	return func(p Protocol) Reply {
		inner := stream(parts...)(p)
		return func(conn net.Conn) {
			head := strings.Replace(p.Head, "Connection: close\r\n", "Transfer-Encoding: chunked\r\n", 1)
			body := make(chan string, 1)
			client, server := net.Pipe()
			go func() {
				data, _ := io.ReadAll(client) // a pipe ends in good order
				body <- strings.TrimPrefix(string(data), p.Head)
			}()
			inner(server)
			_ = server.Close()
			data := <-body
			_, _ = fmt.Fprintf(conn, "%s%x\r\n%s\r\n", head, len(data), data)
		}
	}
}

func text(p Protocol) Reply { return Raw(p.Text(" The note moved")) }

func think(p Protocol) Reply {
	if p.Think == nil {
		return nil
	}
	return Raw(p.Think("Let me see."))
}

func end(ending string) part {
	return func(p Protocol) Reply {
		if bytes := p.End(ending); bytes != "" {
			return Raw(bytes)
		}
		return nil
	}
}

func failure(p Protocol) Reply { return Raw(p.Failure("the engine died " + p.Key)) }

// garbage replaces the JSON of a piece by half of it.
func garbage(p Protocol) Reply {
	piece := p.Text("x")
	at := strings.Index(piece, "{")
	return Raw(piece[:at+1] + Canary + "\n\n")
}

// null replaces the JSON of a piece by the word.
func null(p Protocol) Reply {
	piece := p.Text("x")
	return Raw(piece[:strings.Index(piece, "{")] + "null\n\n")
}

func half(p Protocol) Reply {
	piece := p.Text("x")
	return Raw(piece[:len(piece)/2])
}

func long(size int) part {
	return func(p Protocol) Reply { return Raw(p.Text(strings.Repeat("a", size))) }
}

func silent(Protocol) Reply { return Silence }

func wait(d time.Duration) part {
	return func(Protocol) Reply { return func(net.Conn) { <-time.After(d) } }
}

// endless repeats itself until the client goes away.
func endless(piece string, pause time.Duration) Reply {
	if pause == 0 {
		piece = strings.Repeat(piece, 1<<16)
	}
	return func(conn net.Conn) {
		var err error
		for err == nil {
			if pause > 0 {
				<-time.After(pause)
			}
			_, err = io.WriteString(conn, piece)
		}
	}
}

// refuse is a refusal in the server's own words, which repeat the key.
func refuse(status, header string) func(Protocol) Reply {
	return func(p Protocol) Reply {
		code := 0
		_, _ = fmt.Sscanf(status, "%d", &code) // it begins with one
		return Made(status, "Content-Type: application/json\r\n"+header,
			p.Error(code, "wrong: "+p.Key+" see https://x.example/?key="+Canary+" "+strings.Repeat("and so on ", 50)))
	}
}
