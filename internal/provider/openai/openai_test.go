package openai

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/providertest"
	"davidcockson.com/runner/internal/provider/wire"
	"davidcockson.com/runner/internal/secret"
)

const key = "gsk_" + providertest.Canary

func quoted(t testing.TB, name string) providertest.Reply {
	return providertest.Quoted(t, filepath.Join("testdata", name+".http"))
}

// config is that of a provider under test.
func config() Config {
	return Config{Name: "groq", BaseURL: "http://canary.example/openai/v1", Key: secret.New(key), Deadlines: provider.DefaultDeadlines(), Version: "1.2.3"}
}

// open returns a provider whose questions are answered by ask; nobody listens
// where it is nil.
func open(t testing.TB, c Config, ask providertest.Reply) (*Provider, *providertest.Server) {
	t.Helper()
	s := providertest.NewServer(t, func(r providertest.Request) providertest.Reply {
		switch r.Method + " " + r.URL.Path {
		case "GET /openai/v1/models":
			return quoted(t, "assumed-models")
		case "POST /openai/v1/chat/completions":
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

func piece(delta, finish string) string {
	return fmt.Sprintf(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gemma2-9b-it","choices":[{"index":0,"delta":%s,"finish_reason":%s}]}`+"\n\n", delta, finish)
}

func field(name, text string) string {
	data, _ := json.Marshal(text) // a string always is
	return fmt.Sprintf(`{%q:%s}`, name, data)
}

const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

func protocol() providertest.Protocol {
	return providertest.Protocol{
		Open: func(t *testing.T, ask providertest.Reply) provider.Provider {
			p, _ := open(t, config(), ask)
			return p
		},
		Model: "gemma2-9b-it", Key: key, Head: head,
		Text:  func(text string) string { return piece(field("content", text), "null") },
		Think: func(text string) string { return piece(field("reasoning_content", text), "null") },
		End: func(ending string) string {
			reason := map[string]string{"stop": "stop", "length": "length", "blocked": "content_filter", "tool": "tool_calls", "moon": "moon"}[ending]
			if reason == "" {
				return ""
			}
			return piece("{}", `"`+reason+`"`) + "data: [DONE]\n\n"
		},
		Failure: func(message string) string {
			return fmt.Sprintf(`data: {"error":{"message":%q,"type":"internal_server_error"}}`+"\n\n", message)
		},
		Error: func(_ int, message string) string {
			return fmt.Sprintf(`{"error":{"message":%q,"type":"invalid_request_error"}}`, message)
		},
	}
}

func TestFaults(t *testing.T) {
	p := protocol()
	p.TooLarge = quoted(t, "groq-too-large")
	p.Quoted = map[string]providertest.Reply{
		"a whole answer":                                             quoted(t, "assumed-groq-whole"),
		"an answer with thinking before it":                          quoted(t, "assumed-groq-thinking"),
		"a wrong key, as 401":                                        quoted(t, "groq-invalid-key"),
		"an answer that is cut by another limit":                     quoted(t, "assumed-groq-length"),
		"a failure of the server within the stream":                  quoted(t, "assumed-groq-error-inside"),
		"an end in good order, but without the server's word for it": quoted(t, "openai-partial"),
	}
	providertest.Faults(t, p)
}

func TestSuite(t *testing.T) {
	providertest.Run(t, providertest.Suite{
		Open: func(t *testing.T) provider.Provider {
			whole, slow, none := quoted(t, "assumed-groq-whole"), providertest.Then(providertest.Raw(head+piece(field("content", "The"), "null")), providertest.Silence), quoted(t, "groq-no-model")
			p, s := open(t, config(), whole)
			handle := s.Handle
			s.Handle = func(r providertest.Request) providertest.Reply {
				switch {
				case strings.Contains(r.Body, `"model":"slow"`):
					return slow
				case strings.Contains(r.Body, `"model":"nope"`):
					return none
				}
				return handle(r)
			}
			return p
		},
		Whole: "gemma2-9b-it", Slow: "slow", Unknown: "nope",
	})
}

func ask() provider.Request {
	return provider.Request{Model: "gemma2-9b-it", Messages: []provider.Message{{Role: provider.User, Content: "Where is the note?"}}}
}

func ignore(provider.Event) {}

func TestWholeAnswers(t *testing.T) {
	for _, test := range []struct {
		name           string
		text, thinking string
		usage          provider.Usage
	}{
		{"assumed-groq-whole", "The note moved.", "", provider.Usage{Estimate: 4, Read: 16, Written: 9}},
		{"assumed-groq-thinking", "It moved.", "Let me see.", provider.Usage{Estimate: 4, Read: 16, Cached: 4, Written: 9, Reasoning: 5}},
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
			want := provider.Answer{Text: test.text, Thinking: test.thinking, Provider: "groq", Model: "gemma2-9b-it", Finish: "stop", Usage: test.usage}
			if answer != want {
				t.Errorf("got  %+v\nwant %+v", answer, want)
			}
		})
	}
}

func TestWhatIsSent(t *testing.T) {
	// What the client would read from the environment must not reach the server.
	for _, name := range []string{"OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"} {
		t.Setenv(name, "environment")
	}
	t.Setenv("OPENAI_BASE_URL", "http://environment.example")
	t.Setenv("HTTP_PROXY", "http://environment.example")
	temperature := 0.0
	many := []provider.Message{{Role: provider.System, Content: "Be <brief>."}, {Role: provider.User, Content: "Hi"}, {Role: provider.Assistant, Content: "Ho"}, {Role: provider.User, Content: "?"}}
	for _, test := range []struct {
		name string
		req  provider.Request
		want string
	}{
		{"what the request leaves open is not sent", ask(),
			`{"messages":[{"content":"Where is the note?","role":"user"}],"model":"gemma2-9b-it","stream_options":{"include_usage":true},"stream":true}`},
		{"a temperature of 0 is sent, and all messages as they are",
			provider.Request{Model: "gemma2-9b-it", Messages: many, Temperature: &temperature, MaxTokens: 50},
			`{"messages":[{"content":"Be <brief>.","role":"system"},{"content":"Hi","role":"user"},{"content":"Ho","role":"assistant"},{"content":"?","role":"user"}],"model":"gemma2-9b-it","max_completion_tokens":50,"temperature":0,"stream_options":{"include_usage":true},"stream":true}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, s := open(t, config(), quoted(t, "assumed-groq-whole"))
			if _, err := p.Ask(t.Context(), test.req, ignore); err != nil {
				t.Fatal(err)
			}
			asked := s.Asked()
			if len(asked) != 1 {
				t.Fatalf("%d requests for one answer", len(asked))
			}
			var got, want any
			if json.Unmarshal([]byte(asked[0].Body), &got) != nil || json.Unmarshal([]byte(test.want), &want) != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got  %s\nwant %s", asked[0].Body, test.want)
			}
			h := asked[0].Header
			if h.Get("Authorization") != "Bearer "+key || h.Get("User-Agent") != "runner/1.2.3" || !asked[0].Close {
				t.Errorf("the header is %v, close %v", h, asked[0].Close)
			}
			if asked[0].URL.RawQuery != "" || strings.Contains(fmt.Sprint(h), "environment") {
				t.Errorf("sent to %s with %v", asked[0].URL, h)
			}
		})
	}
}

func TestAServerWithoutAKeyGetsNone(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "environment")
	c := config()
	c.Key = secret.Key{}
	p, s := open(t, c, quoted(t, "assumed-groq-whole"))
	if _, err := p.Ask(t.Context(), ask(), ignore); err != nil {
		t.Fatal(err)
	}
	if h, sent := s.Asked()[0].Header["Authorization"]; sent {
		t.Errorf("sent %q", h)
	}
}

func TestPingTellsAWrongKeyFromAServerThatIsDown(t *testing.T) {
	p, s := open(t, config(), quoted(t, "assumed-groq-whole"))
	s.Handle = func(providertest.Request) providertest.Reply { return quoted(t, "groq-invalid-key") }
	if err := p.Ping(t.Context()); provider.KindOf(err) != provider.Auth {
		t.Errorf("a wrong key: %v", err)
	}
	p, _ = open(t, config(), nil)
	if err := p.Ping(t.Context()); provider.KindOf(err) != provider.Unreachable {
		t.Errorf("down: %v", err)
	}
}

func TestListsThatAreNone(t *testing.T) {
	for _, test := range []struct{ name, contentType, body string }{
		{"a page", "text/html", "<html>"},
		{"another object", "application/json", "{}"},
		{"half of a list", "application/json", `{"data":[{"id":"a"`},
		{"a model without a name", "application/json", `{"data":[{}]}`},
		{"more than 16 MiB", "application/json", `{"data":[{"id":"` + strings.Repeat("a", 16<<20) + `"}]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, s := open(t, config(), quoted(t, "assumed-groq-whole"))
			s.Handle = func(providertest.Request) providertest.Reply {
				return providertest.Made("200 OK", "Content-Type: "+test.contentType+"\r\n", test.body)
			}
			models, err := p.Models(t.Context())
			e, ok := err.(*provider.Error)
			if !ok || e.Kind != provider.Malformed || e.Sent || e.Provider != "groq" {
				t.Errorf("got %v, %+v", models, err)
			}
		})
	}
}

func TestNewChecksTheURL(t *testing.T) {
	for _, url := range []string{"", "groq", "ftp://x/", "https://u:canary7f3a@x/", "https://x/?key=canary7f3a", "https://x/#a", "https:///v1", "http://x\x7f"} {
		c := config()
		c.BaseURL = url
		if _, err := New(c); err == nil || strings.Contains(err.Error(), providertest.Canary) {
			t.Errorf("%q: %v", url, err)
		}
	}
}
