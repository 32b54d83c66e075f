package gemini

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/providertest"
	"davidcockson.com/runner/internal/provider/wire"
	"davidcockson.com/runner/internal/secret"
)

const key = "AIza" + providertest.Canary

func quoted(t testing.TB, name string) providertest.Reply {
	return providertest.Quoted(t, filepath.Join("testdata", name+".http"))
}

// config is that of a provider under test.
func config() Config {
	return Config{Name: "gemini", BaseURL: "http://canary.example", Key: secret.New(key), Deadlines: provider.DefaultDeadlines(), Version: "1.2.3"}
}

// open returns a provider whose questions are answered by ask; nobody listens
// where it is nil.
func open(t testing.TB, c Config, ask providertest.Reply) (*Provider, *providertest.Server) {
	t.Helper()
	s := providertest.NewServer(t, func(r providertest.Request) providertest.Reply {
		switch {
		case r.Method == "GET" && r.URL.Path == "/v1beta/models":
			return quoted(t, "assumed-models")
		case r.Method == "POST" && strings.HasSuffix(r.URL.Path, ":streamGenerateContent"):
			return ask
		}
		return nil
	})
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	dial := s.Dial
	if ask == nil {
		dial = providertest.Nobody
	}
	p.transport.Next = wire.NewTransport(c.Deadlines.Connect, dial)
	return p, s
}

const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

func data(json string) string { return "data: " + json + "\r\n\r\n" }

func part(text, more string) string {
	quoted, _ := json.Marshal(text) // a string always is
	return data(fmt.Sprintf(`{"candidates":[{"content":{"role":"model","parts":[{"text":%s%s}]}}]}`, quoted, more))
}

func finish(reason string) string {
	return data(fmt.Sprintf(`{"candidates":[{"finishReason":%q}],"usageMetadata":{"promptTokenCount":16,"candidatesTokenCount":4}}`, reason))
}

func TestFaults(t *testing.T) {
	providertest.Faults(t, providertest.Protocol{
		Open: func(t *testing.T, ask providertest.Reply) provider.Provider {
			p, _ := open(t, config(), ask)
			return p
		},
		Model: "gemini-2.5-flash", Key: key, Head: head,
		Text:  func(text string) string { return part(text, "") },
		Think: func(text string) string { return part(text, `,"thought":true`) },
		End: func(ending string) string {
			switch ending {
			case "blocked prompt":
				return data(`{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"}}`)
			case "moon":
				return finish("moon")
			}
			reason := map[string]string{"stop": "STOP", "length": "MAX_TOKENS", "blocked": "SAFETY", "tool": "UNEXPECTED_TOOL_CALL"}[ending]
			return finish(reason)
		},
		Failure: func(message string) string {
			return data(fmt.Sprintf(`{"error":{"code":503,"message":%q,"status":"UNAVAILABLE"}}`, message))
		},
		Error: func(status int, message string) string {
			return fmt.Sprintf(`{"error":{"code":%d,"message":%q,"status":"X"}}`, status, message)
		},
		TooLarge: quoted(t, "assumed-small-quota"),
		Quoted: map[string]providertest.Reply{
			"a whole answer":                    quoted(t, "whole"),
			"an answer with thinking before it": quoted(t, "assumed-thinking"),
			"thinking that used up max_tokens":  quoted(t, "assumed-thinking-length"),
			"no word":                           quoted(t, "empty"),
			"a server without room":             quoted(t, "overloaded"),
			"an end in good order, but without the server's word for it": quoted(t, "partial"),
			"a failure of the server within the stream":                  quoted(t, "assumed-error-inside"),
			"a piece that is not what the protocol says":                 quoted(t, "malformed"),
			"an answer that is withheld half-way":                        quoted(t, "assumed-safety"),
			"a prompt that is withheld from the model":                   quoted(t, "prompt-blocked"),
			"a call of a tool that was not offered":                      quoted(t, "tool"),
		},
	})
}

func TestSuite(t *testing.T) {
	providertest.Run(t, providertest.Suite{
		Open: func(t *testing.T) provider.Provider {
			slow, none := providertest.Then(providertest.Raw(head+part("The", "")), providertest.Silence), quoted(t, "no-model")
			p, s := open(t, config(), quoted(t, "whole"))
			handle := s.Handle
			s.Handle = func(r providertest.Request) providertest.Reply {
				switch {
				case strings.Contains(r.URL.Path, "/slow:"):
					return slow
				case strings.Contains(r.URL.Path, "/nope:"):
					return none
				}
				return handle(r)
			}
			return p
		},
		Whole: "gemini-2.5-flash", Slow: "slow", Unknown: "nope",
	})
}

func ask() provider.Request {
	return provider.Request{Model: "gemini-2.5-flash", Messages: []provider.Message{{Role: provider.User, Content: "Where is the note?"}}}
}

func ignore(provider.Event) {}

func TestWholeAnswers(t *testing.T) {
	for _, test := range []struct {
		name           string
		text, thinking string
		usage          provider.Usage
	}{
		{"whole", "Hop2-A Hop2-B.", "", provider.Usage{Estimate: 4, Read: 66, Cached: 10, Written: 24, Reasoning: 6}},
		{"assumed-thinking", "It moved.", "Let me see.", provider.Usage{Estimate: 4, Read: 16, Written: 9, Reasoning: 5}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, _ := open(t, config(), quoted(t, test.name))
			answer, err := p.Ask(t.Context(), ask(), ignore)
			if err != nil {
				t.Fatal(err)
			}
			if answer.FirstToken <= 0 || answer.Took < answer.FirstToken {
				t.Errorf("first token after %s, took %s", answer.FirstToken, answer.Took)
			}
			answer.FirstToken, answer.Took, answer.Started = 0, 0, time.Time{}
			want := provider.Answer{Text: test.text, Thinking: test.thinking, Provider: "gemini", Model: "gemini-2.5-flash", Finish: "STOP", Usage: test.usage}
			if answer != want {
				t.Errorf("got  %+v\nwant %+v", answer, want)
			}
		})
	}
}

func TestWhatIsSent(t *testing.T) {
	// What the client would read from the environment must not reach the server.
	for name, value := range map[string]string{
		"GOOGLE_API_KEY": "environment", "GEMINI_API_KEY": "environment", "GOOGLE_GENAI_USE_VERTEXAI": "true",
		"GOOGLE_CLOUD_PROJECT": "environment", "GOOGLE_CLOUD_LOCATION": "environment",
		"GOOGLE_GEMINI_BASE_URL": "http://environment.example", "HTTP_PROXY": "http://environment.example",
	} {
		t.Setenv(name, value)
	}
	temperature := 0.7
	many := []provider.Message{{Role: provider.System, Content: "Be brief."}, {Role: provider.System, Content: "Be kind."}, {Role: provider.User, Content: "Hi"}, {Role: provider.Assistant, Content: "Ho"}, {Role: provider.User, Content: "?"}}
	for _, test := range []struct {
		name string
		req  provider.Request
		want string
	}{
		{"what the request leaves open is not sent", ask(),
			`{"contents":[{"parts":[{"text":"Where is the note?"}],"role":"user"}]}`},
		{"system messages become the system instruction, and the assistant is the model",
			provider.Request{Model: "gemini-2.5-flash", Messages: many, Temperature: &temperature, MaxTokens: 50},
			`{"contents":[{"parts":[{"text":"Hi"}],"role":"user"},{"parts":[{"text":"Ho"}],"role":"model"},{"parts":[{"text":"?"}],"role":"user"}],
			"generationConfig":{"maxOutputTokens":50,"temperature":0.7},
			"systemInstruction":{"parts":[{"text":"Be brief."},{"text":"Be kind."}],"role":"user"}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, s := open(t, config(), quoted(t, "whole"))
			if _, err := p.Ask(t.Context(), test.req, ignore); err != nil {
				t.Fatal(err)
			}
			asked := s.Asked()
			if len(asked) != 1 {
				t.Fatalf("%d requests for one answer", len(asked))
			}
			var got, want map[string]any
			if json.Unmarshal([]byte(asked[0].Body), &got) != nil || json.Unmarshal([]byte(test.want), &want) != nil {
				t.Fatalf("sent %s", asked[0].Body)
			}
			if config, ok := got["generationConfig"].(map[string]any); ok && len(config) == 0 {
				delete(got, "generationConfig") // the client's empty object says nothing
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got  %s\nwant %s", asked[0].Body, test.want)
			}
			h := asked[0].Header
			if h.Get("X-Goog-Api-Key") != key || h.Get("User-Agent") != "runner/1.2.3" || !asked[0].Close {
				t.Errorf("the header is %v, close %v", h, asked[0].Close)
			}
			if got := asked[0].URL.String(); got != "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse" || strings.Contains(fmt.Sprint(h), "environment") {
				t.Errorf("sent to %s with %v", got, h)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		quoted string
		kind   provider.Kind
		reason string
		advice string
		wait   time.Duration
	}{
		{"invalid-key", provider.Auth, "status 400: API key not valid. Please pass a valid API key.", "api_key_env", 0},
		{"no-model", provider.NoModel, "status 404: models/gemini-pro is not found for API version v1beta,", "lists", 0},
		{"overloaded", provider.Busy, "status 503: The model is overloaded. Please try again later.", "", 0},
		{"limit-minute", provider.Busy, "status 429: a quota is used up: GenerateContentInputTokensPerModelPerMinute-FreeTier, limit 250000", "", 26 * time.Second},
		{"limit-day", provider.Busy, "status 429: the quota of a day is used up: GenerateRequestsPerDayPerProjectPerModel-FreeTier, limit 20", "of a day", 36 * time.Second},
		{"assumed-no-quota", provider.Refused, "status 429: the account has no quota for this model: GenerateRequestsPerDayPerProjectPerModel-FreeTier, limit 0", "billing", 0},
		{"assumed-small-quota", provider.Refused, "the prompt has at least 4 tokens, more than the provider's rate limit of 3 can ever take", "shorten", 0},
		{"assumed-too-long", provider.TooLong, "status 400: The input token count (1200000) exceeds", "shorten", 0},
	} {
		t.Run(test.quoted, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := config()
				var paces []provider.Pace
				c.Paced = func(p provider.Pace) { paces = append(paces, p) }
				p, _ := open(t, c, quoted(t, test.quoted))
				_, err := p.Ask(t.Context(), ask(), ignore)
				e, ok := err.(*provider.Error)
				if !ok || e.Kind != test.kind || !strings.HasPrefix(e.Reason, test.reason) || !strings.Contains(e.Advice, test.advice) || e.RetryAfter != test.wait || e.Sent {
					t.Fatalf("got %+v", err)
				}
				if (len(paces) == 1) != (test.wait > 0) || len(paces) == 1 && (time.Until(paces[0].Until) != test.wait || paces[0].Reason != e.Reason) {
					t.Errorf("told %+v", paces)
				}
			})
		})
	}
}

func TestEndings(t *testing.T) {
	text := part("The note", "")
	lost := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99999\r\n\r\n"
	for _, test := range []struct {
		name   string
		reply  providertest.Reply
		kind   provider.Kind
		reason string
		text   string
	}{
		{"recitation", quoted(t, "recitation"), provider.Blocked, "the provider withheld the answer: RECITATION", ""},
		{"an answer that a further request would continue", quoted(t, "continuation"), provider.Cut, "the server would go on only with a further request (CONTINUATION)", "Stream part 1, "},
		{"a connection that is lost behind STOP, which need not be the end", providertest.Raw(lost + text + finish("STOP")), provider.Unfinished, "connection lost in the middle of the answer", "The note"},
		{"STOP with each piece", providertest.Raw(head + strings.Replace(text, `]}}`, `]},"finishReason":"STOP"}`, 1) + text + finish("STOP")), "", "", "The noteThe note"},
		{"STOP with a piece before the last, which has none", providertest.Raw(head + finish("STOP") + text), provider.Unfinished, "the stream ended without a finish reason", "The note"},
		{"personal data", providertest.Raw(head + finish("SPII")), provider.Blocked, "the provider withheld the answer: SPII", ""},
		{"prohibited content", providertest.Raw(head + finish("PROHIBITED_CONTENT")), provider.Blocked, "the provider withheld the answer: PROHIBITED_CONTENT", ""},
		{"another object", providertest.Raw(head + text + data(`{"a":1}`)), provider.Malformed, "a piece of the stream is not what the protocol says", "The note"},
		{"fewer tokens read than the prompt has words", providertest.Raw(head + text + data(`{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3}}`)), provider.Unread, "the server read 3 tokens of a prompt that has at least 4", "The note"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, s := open(t, config(), test.reply)
				answer, err := p.Ask(t.Context(), ask(), ignore)
				e, _ := err.(*provider.Error)
				if e == nil {
					e = &provider.Error{}
				}
				if e.Kind != test.kind || e.Reason != test.reason || answer.Text != test.text {
					t.Errorf("got %q, %+v", answer.Text, err)
				}
				if n := len(s.Asked()); n != 1 {
					t.Errorf("%d requests for one answer", n)
				}
			})
		})
	}
}

func TestNamesThatAreNoModel(t *testing.T) {
	for _, name := range []string{"", "a?key=b", "../x"} {
		p, s := open(t, config(), quoted(t, "whole"))
		req := ask()
		req.Model = name
		_, err := p.Ask(t.Context(), req, ignore)
		e, ok := err.(*provider.Error)
		if !ok || e.Kind != provider.Refused || e.Sent || len(s.Asked()) != 0 {
			t.Errorf("%q: %+v after %d requests", name, err, len(s.Asked()))
		}
	}
}

func TestModelsComeInPages(t *testing.T) {
	p, s := open(t, config(), quoted(t, "whole"))
	page := func(names, token string) providertest.Reply {
		return providertest.Made("200 OK", "Content-Type: application/json\r\n",
			fmt.Sprintf(`{"models":[{"name":"models/%s","supportedGenerationMethods":["generateContent"]}],"nextPageToken":%q}`, names, token))
	}
	s.Handle = func(r providertest.Request) providertest.Reply {
		if r.URL.Query().Get("pageToken") == "more" {
			return page("second", "")
		}
		return page("first", "more")
	}
	models, err := p.Models(t.Context())
	if err != nil || len(models) != 2 || models[0].Name != "first" || models[1].Name != "second" {
		t.Errorf("got %v, %v", models, err)
	}
	s.Handle = func(providertest.Request) providertest.Reply { return page("same", "more") }
	before := len(s.Asked())
	if _, err := p.Models(t.Context()); provider.KindOf(err) != provider.Malformed || len(s.Asked())-before != maxPages {
		t.Errorf("a list without an end: %v after %d pages", err, len(s.Asked())-before)
	}
}

func TestPingTellsAWrongKeyFromAServerThatIsDown(t *testing.T) {
	p, s := open(t, config(), quoted(t, "whole"))
	s.Handle = func(providertest.Request) providertest.Reply { return quoted(t, "invalid-key") }
	if err := p.Ping(t.Context()); provider.KindOf(err) != provider.Auth {
		t.Errorf("a wrong key: %v", err)
	}
	for _, r := range s.Asked() {
		if strings.Contains(r.URL.String(), key) {
			t.Errorf("the key is in %s", r.URL)
		}
	}
	p, _ = open(t, config(), nil)
	if err := p.Ping(t.Context()); provider.KindOf(err) != provider.Unreachable {
		t.Errorf("down: %v", err)
	}
}

func TestNewChecksItsConfiguration(t *testing.T) {
	c := config()
	c.Key = secret.Key{}
	t.Setenv("GEMINI_API_KEY", "environment")
	if _, err := New(c); err == nil {
		t.Error("no key")
	}
	for _, url := range []string{"gemini", "ftp://x/", "https://u:canary7f3a@x/", "https://x/?key=canary7f3a"} {
		c := config()
		c.BaseURL = url
		if _, err := New(c); err == nil || strings.Contains(err.Error(), providertest.Canary) {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// TestTheClientLogsNothing: it would log faults of the stream, and a server's
// words with them.
func TestTheClientLogsNothing(t *testing.T) {
	var out bytes.Buffer
	log.SetOutput(&out)
	defer log.SetOutput(log.Default().Writer())
	lost := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99999\r\n\r\n"
	for _, reply := range []providertest.Reply{
		providertest.Raw(lost + part("The", "")), quoted(t, "malformed"), providertest.HangUp,
		providertest.Raw(head + "data: " + strings.Repeat("a", 9<<20)),
	} {
		p, _ := open(t, config(), reply)
		if _, err := p.Ask(t.Context(), ask(), ignore); err == nil {
			t.Error("want a failure")
		}
	}
	if out.Len() > 0 {
		t.Errorf("logged %q", out.String())
	}
}

// FuzzParse: whatever the body of an error is, a failure with a short reason
// comes of it.
func FuzzParse(f *testing.F) {
	for _, body := range []string{"", "null", "[]", `[{"error":{"message":"x"}}]`, `{"error":{"details":[{"retryDelay":"-3s","violations":[{"quotaId":"PerDay","quotaValue":"1e9"}]}]}}`, `{"error":{"message":"` + key + `"}}`} {
		f.Add([]byte(body))
	}
	p, err := New(config())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, status := range []int{400, 404, 429, 503} {
			e := p.refusal(&wire.Refusal{Status: status, Body: body}, 4)
			if e.Kind == "" || e.RetryAfter < 0 || e.RetryAfter > 24*time.Hour || len([]rune(e.Reason)) > 350 || strings.Contains(e.Reason, key) || strings.Contains(e.Reason, "\n") {
				t.Errorf("%q gives %+v", body, e)
			}
		}
	})
}
