package openai

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/providertest"
)

func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		quoted string
		kind   provider.Kind
		reason string
		advice string
		wait   time.Duration
	}{
		{"groq-invalid-key", provider.Auth, "status 401: Invalid API Key", "api_key_env", 0},
		{"xai-invalid-key", provider.Auth, "status 400: Incorrect API key provided: [key] You can obtain an API key from [link]", "api_key_env", 0},
		{"groq-no-model", provider.NoModel, "status 404: The model `llama-3.1-405b-reasoning` does not exist or you do not have access to it.", "lists", 0},
		{"groq-too-large", provider.Refused, "the request counts 10338 tokens, more than the provider's rate limit of 6000 can ever take", "max_tokens", 0},
		{"openai-too-large", provider.Refused, "the request counts 342389 tokens, more than the provider's rate limit of 30000 can ever take", "max_tokens", 0},
		{"groq-limit-minute", provider.Busy, "status 429: rate limit of 15000 per minute reached: 11972 used, 4351 requested", "", 5289 * time.Millisecond},
		{"groq-limit-day", provider.Busy, "status 429: rate limit of 100000 per day reached: 97050 used, 3619 requested", "of a day", 9*time.Minute + 38016*time.Millisecond},
		{"assumed-context-length", provider.TooLong, "status 400: This model's maximum context length is 8192 tokens.", "shorten the prompt", 0},
		{"assumed-quota", provider.Refused, "status 429: the account's quota is used up", "billing", 0},
	} {
		t.Run(test.quoted, func(t *testing.T) {
			p, _ := open(t, config(), quoted(t, test.quoted))
			_, err := p.Ask(t.Context(), ask(), ignore)
			e, ok := err.(*provider.Error)
			if !ok || e.Kind != test.kind || e.Reason != test.reason || !strings.Contains(e.Advice, test.advice) || e.RetryAfter != test.wait || e.Sent {
				t.Errorf("got %+v", err)
			}
		})
	}
}

func TestBodiesOfErrors(t *testing.T) {
	for _, test := range []struct {
		name, status, body string
		kind               provider.Kind
		reason             string
	}{
		{"an error that is a text", "400 Bad Request", `{"error":"no"}`, provider.Refused, "status 400: no"},
		{"a code that is a number", "400 Bad Request", `{"error":{"message":"no","code":400}}`, provider.Refused, "status 400: no"},
		{"a path that is not there", "404 Not Found", `{"error":{"message":"Invalid URL (POST /v2/chat)"}}`, provider.Refused, "status 404: Invalid URL (POST [path]"},
		{"a page that is not there", "404 Not Found", `<html>model</html>`, provider.Refused, "status 404, and the body is not what the protocol says"},
		{"a model that is gone", "400 Bad Request", `{"error":{"message":"gone","code":"model_decommissioned"}}`, provider.NoModel, "status 400: gone"},
		{"a list", "400 Bad Request", `[1]`, provider.Refused, "status 400, and the body is not what the protocol says"},
		{"a request that is too large for another reason", "413 Payload Too Large", `{"error":{"message":"too big"}}`, provider.Refused, "status 413: too big"},
		{"a failure that speaks of limits", "500 Internal Server Error", `{"error":{"message":"Limit 1, Requested 2"}}`, provider.Failed, "status 500: Limit 1, Requested 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, _ := open(t, config(), providertest.Made(test.status, "", test.body))
			_, err := p.Ask(t.Context(), ask(), ignore)
			if e, ok := err.(*provider.Error); !ok || e.Kind != test.kind || e.Reason != test.reason {
				t.Errorf("got %+v", err)
			}
		})
	}
}

func TestEndings(t *testing.T) {
	text := piece(field("content", "The note"), "null")
	lost := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99999\r\n\r\n"
	for _, test := range []struct {
		name   string
		reply  providertest.Reply
		kind   provider.Kind
		reason string
		text   string
	}{
		{"a tool is called behind some text", quoted(t, "openai-tool-calls"), provider.Malformed, "the model called a tool, and none was offered", "Let's take a"},
		{"a connection that is lost behind the finish reason takes nothing back", providertest.Raw(lost + text + piece("{}", `"stop"`)), "", "", "The note"},
		{"silence behind the finish reason takes nothing back", providertest.Then(providertest.Raw(head+text+piece("{}", `"stop"`)), providertest.Silence), "", "", "The note"},
		{"a connection that stays open behind the end marker is not waited for", providertest.Then(providertest.Raw(head+text+piece("{}", `"stop"`)+"data: [DONE]\n\n"), providertest.Silence), "", "", "The note"},
		{"a failure behind the finish reason is one", providertest.Raw(head + text + piece("{}", `"stop"`) + `data: {"error":{"message":"no"}}` + "\n\n"), provider.Failed, "the server failed during the answer: no", "The note"},
		{"a model that refuses", providertest.Raw(head + piece(field("refusal", "I will not."), "null") + piece("{}", `"stop"`)), provider.Blocked, "the provider withheld the answer: the model refused: I will not.", ""},
		{"a text of the wrong type", providertest.Raw(head + text + piece(`{"content":{"canary":1}}`, "null")), provider.Malformed, "a piece of the stream is not what the protocol says", "The note"},
		{"what is not as the protocol says is as good as not there, where it is not the text", providertest.Raw(head +
			`data: {"id":7,"model":5,"choices":[{"index":"0","delta":{"content":"The note","reasoning":{"x":1},"reasoning_content":[],"refusal":7},"finish_reason":null}],"usage":"x","x_groq":[1]}` + "\n\n" +
			piece("{}", `"stop"`)), "", "", "The note"},
		{"a finish reason of the wrong type", providertest.Raw(head + text + piece("{}", "1")), provider.Malformed, "a piece of the stream is not what the protocol says", "The note"},
		{"a second choice is not the answer", providertest.Raw(head + text + strings.Replace(piece(field("content", "x"), "null"), `"index":0`, `"index":1`, 1) + piece("{}", `"stop"`)), "", "", "The note"},
		{"comments keep a stream alive, and are nothing else", providertest.Raw(head + ": waiting\n\n" + text + ": waiting\n\n" + piece("{}", `"stop"`)), "", "", "The note"},
		{"fewer tokens read than the prompt has words", providertest.Raw(head + text + piece("{}", `"stop"`) + `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}` + "\n\n"), provider.Unread, "the server read 3 tokens of a prompt that has at least 4", "The note"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, _ := open(t, config(), test.reply)
				answer, err := p.Ask(t.Context(), ask(), ignore)
				e, _ := err.(*provider.Error)
				if e == nil {
					e = &provider.Error{}
				}
				if e.Kind != test.kind || e.Reason != test.reason || answer.Text != test.text {
					t.Errorf("got %q, %+v", answer.Text, err)
				}
				if strings.Contains(test.name, "not waited for") && answer.Took != 0 {
					t.Errorf("waited for %s", answer.Took)
				}
			})
		})
	}
}

func TestPace(t *testing.T) {
	limits := func(requests, requestsReset, tokens, tokensReset string) string {
		return fmt.Sprintf("X-RateLimit-Remaining-Requests: %s\r\nX-Ratelimit-Reset-Requests: %s\r\nx-ratelimit-remaining-tokens: %s\r\nx-ratelimit-reset-tokens: %s\r\n",
			requests, requestsReset, tokens, tokensReset)
	}
	whole := piece(field("content", "Yes."), `"stop"`) + `data: {"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":50}}` + "\n\n"
	for _, test := range []struct {
		name   string
		header string
		status string // of a refusal, with its body in place of the answer
		body   string
		max    int
		until  time.Duration // 0 for no pace
		reason string
	}{
		{name: "no headers", body: whole},
		{name: "room for more", header: limits("14370", "2m59.56s", "17997", "7.66s"), body: whole},
		{name: "no requests", header: limits("0", "2m59.56s", "17997", "7.66s"), body: whole,
			until: 2*time.Minute + 59560*time.Millisecond, reason: "no requests are left of the rate limit, for 2m59.56s"},
		{name: "no tokens", header: limits("14370", "2m59.56s", "0", "7.66s"), body: whole,
			until: 7660 * time.Millisecond, reason: "0 tokens are left of the rate limit, for 7.66s"},
		{name: "neither, where the later one counts", header: limits("0", "1s", "0", "7.66s"), body: whole,
			until: 7660 * time.Millisecond, reason: "0 tokens are left of the rate limit, for 7.66s"},
		{name: "fewer tokens than the request needed, as its end tells", header: limits("9", "1s", "149", "7.66s"), body: whole,
			until: 7660 * time.Millisecond, reason: "149 tokens are left of the rate limit, for 7.66s"},
		{name: "just as many tokens as the request needed", header: limits("9", "1s", "150", "7.66s"), body: whole},
		{name: "fewer tokens than max_tokens, which count beforehand", header: limits("9", "1s", "1003", "7.66s"), max: 1000, body: whole,
			until: 7660 * time.Millisecond, reason: "1003 tokens are left of the rate limit, for 7.66s"},
		{name: "just as many tokens as max_tokens and the prompt", header: limits("9", "1s", "1004", "7.66s"), max: 1000, body: whole},
		{name: "headers that nobody can read", header: limits("-1", "soon", "many", "-7s"), body: whole},
		{name: "no requests, and a reset that nobody can read", header: limits("0", "soon", "9999", "1s"), body: whole},
		{name: "a limit with Retry-After", status: "429 Too Many Requests", header: "Retry-After: 7\r\n", body: "{}", until: 7 * time.Second,
			reason: "status 429, and the body is not what the protocol says"},
		{name: "a limit with headers alone", status: "429 Too Many Requests", header: limits("0", "9s", "9999", "1s"), body: "{}", until: 9 * time.Second,
			reason: "no requests are left of the rate limit, for 9s"},
		{name: "a limit without a word", status: "429 Too Many Requests", body: "{}"},
		{name: "a failure is no limit", status: "500 Internal Server Error", header: "Retry-After: 7\r\n" + limits("0", "9s", "0", "1s"), body: "{}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				status := test.status
				if status == "" {
					status = "200 OK"
				}
				c := config()
				var paces []provider.Pace
				c.Paced = func(p provider.Pace) { paces = append(paces, p) }
				p, _ := open(t, c, providertest.Made(status, "Content-Type: text/event-stream\r\n"+test.header, test.body))
				req := ask()
				req.MaxTokens = test.max
				if _, err := p.Ask(t.Context(), req, ignore); (err == nil) != (test.status == "") {
					t.Fatal(err)
				}
				switch {
				case test.until == 0 && len(paces) == 0:
				case len(paces) != 1 || time.Until(paces[0].Until) != test.until || paces[0].Reason != test.reason:
					t.Errorf("told %+v at %s", paces, time.Now())
				}
			})
		})
	}
}

// FuzzWords: whatever an error says, its numbers and times are within bounds, and
// only a request above its limit is one that can never be taken.
func FuzzWords(f *testing.F) {
	for _, text := range []string{
		"(TPM): Limit 12000, Requested 14137, please reduce", "Limit 6000, Used 5034, Requested 1443. Please try again in 4.77s.",
		"Please try again in 9m38.016s", "try again in 999999999h", "Limit 999999999999, Requested 0", "try again in 1h2m3s4ms",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d := tryAgain(text); d < 0 || d > 24*time.Hour {
			t.Errorf("%q: %s", text, d)
		}
		limit, used, requested, ok := figures(text)
		if limit < 0 || used < 0 || requested < 0 || !ok && limit+used+requested > 0 {
			t.Errorf("%q: %d, %d, %d, %v", text, limit, used, requested, ok)
		}
		if limit, requested, ok := tooLarge(text); ok && requested <= limit {
			t.Errorf("%q: %d of %d", text, requested, limit)
		}
	})
}

// FuzzSaid: whatever the body of an error is, one short line without the key
// comes of it.
func FuzzSaid(f *testing.F) {
	for _, body := range []string{"", "null", `{"error":null}`, `{"error":"` + key + `"}`, `{"error":{"message":"x","code":[]}}`, `[{"error":1}]`} {
		f.Add([]byte(body))
	}
	p, err := New(config())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if s := p.said(body); strings.Contains(s.text, key) || strings.Contains(s.text, "\n") || len([]rune(s.text)) > 200 {
			t.Errorf("%q gives %q", body, s.text)
		}
	})
}
