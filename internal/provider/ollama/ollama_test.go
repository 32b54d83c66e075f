package ollama

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/providertest"
	"davidcockson.com/runner/internal/secret"
)

func TestSuite(t *testing.T) {
	providertest.Run(t, providertest.Suite{
		Open: func(t *testing.T) provider.Provider {
			s := newServer(t)
			s.byModel["show nope"] = recorded(t, "show-no-model")
			s.byModel["ask tiny-endless"] = then(chunked(t, "killed", 20), silence)
			return s.provider(t, nil)
		},
		Whole: "tiny", Slow: "tiny-endless", Unknown: "nope",
	})
}

const sentence = "The note moved from queue <to> active & it was completed ✓."

func ignore(provider.Event) {}

func ask(model string) provider.Request {
	return provider.Request{Model: model, Messages: []provider.Message{{Role: provider.User, Content: "Where is the note?"}}}
}

func TestWholeAnswer(t *testing.T) {
	s := newServer(t)
	p := s.provider(t, nil)
	var events []string
	answer, err := p.Ask(t.Context(), ask("tiny"), func(e provider.Event) {
		events = append(events, strings.TrimSpace(fmt.Sprint(e.Kind, " ", e.Phase, e.Text)))
	})
	if err != nil {
		t.Fatal(err)
	}
	if answer.Load <= 0 || answer.FirstToken <= 0 || answer.Took < answer.Load+answer.FirstToken {
		t.Errorf("load %s, first token %s, took %s", answer.Load, answer.FirstToken, answer.Took)
	}
	if answer.Rate < 10 || answer.Rate > 10_000 {
		t.Errorf("rate is %v tokens a second", answer.Rate)
	}
	answer.Load, answer.FirstToken, answer.Took, answer.Rate, answer.Started = 0, 0, 0, 0, time.Time{}
	want := provider.Answer{
		Text: sentence, Provider: "davas", Model: "tiny",
		Digest: "bd41fe11e9a78b8433ffd6e564496c1ac7f9490d38a1beef4366a1b6c01f9f80",
		Finish: "stop", Usage: provider.Usage{Estimate: 4, Read: 16, Written: 17}, Context: 2048,
	}
	if answer != want {
		t.Errorf("got  %+v\nwant %+v", answer, want)
	}
	if head := events[:6]; !reflect.DeepEqual(head, []string{
		"phase connecting", "phase loading", "phase reading", "phase answering", "text  The", "text  note",
	}) {
		t.Errorf("the events begin with %q", head)
	}
	if tail := events[len(events)-2:]; !reflect.DeepEqual(tail, []string{"usage", "end stop"}) {
		t.Errorf("the events end with %q", tail)
	}
}

func TestThinkingIsKeptApart(t *testing.T) {
	s := newServer(t)
	s.replies["ask"] = recorded(t, "thinking")
	answer, err := s.provider(t, nil).Ask(t.Context(), ask("gemma4-tiny"), ignore)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Text != sentence || answer.Thinking != "Let me check that" {
		t.Errorf("text %q, thinking %q", answer.Text, answer.Thinking)
	}
}

func TestWhatIsSent(t *testing.T) {
	temperature := 0.0
	for _, test := range []struct {
		name     string
		contexts map[string]int
		req      provider.Request
		load     string
		ask      string
	}{
		{
			name: "what the request leaves open is not sent, and num_ctx is the model's own where that is less than 8192",
			req:  ask("tiny"),
			load: `{"model":"tiny","stream":false,"truncate":false,"shift":false,"options":{"num_ctx":2048}}`,
			ask:  `{"model":"tiny","messages":[{"role":"user","content":"Where is the note?"}],"stream":true,"truncate":false,"shift":false,"options":{"num_ctx":2048}}`,
		},
		{
			name:     "a temperature of 0 is sent, and num_ctx is found without regard to case and tag",
			contexts: map[string]int{"Tiny:latest": 1024},
			req: provider.Request{
				Model: "tiny", Messages: ask("").Messages, Temperature: &temperature, MaxTokens: 50,
			},
			load: `{"model":"tiny","stream":false,"truncate":false,"shift":false,"options":{"num_ctx":1024}}`,
			ask:  `{"model":"tiny","messages":[{"role":"user","content":"Where is the note?"}],"stream":true,"truncate":false,"shift":false,"options":{"num_ctx":1024,"temperature":0,"num_predict":50}}`,
		},
		{
			name:     "a configured num_ctx above the model's own is lowered to it",
			contexts: map[string]int{"tiny": 131072},
			req:      ask("TINY:latest"),
			load:     `{"model":"TINY:latest","stream":false,"truncate":false,"shift":false,"options":{"num_ctx":2048}}`,
			ask:      `{"model":"TINY:latest","messages":[{"role":"user","content":"Where is the note?"}],"stream":true,"truncate":false,"shift":false,"options":{"num_ctx":2048}}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t)
			p := s.provider(t, func(c *Config) { c.Contexts = test.contexts })
			if _, err := p.Ask(t.Context(), test.req, ignore); err != nil {
				t.Fatal(err)
			}
			if got := s.bodies("load"); len(got) != 1 || got[0] != test.load {
				t.Errorf("load: got %q\nwant %q", got, test.load)
			}
			if got := s.bodies("ask"); len(got) != 1 || got[0] != test.ask {
				t.Errorf("ask: got %q\nwant %q", got, test.ask)
			}
			for _, e := range s.asked {
				if !e.last {
					t.Errorf("%s: the connection is kept, and may be dead when it is used again", e.what)
				}
				if e.header.Get("User-Agent") != "runner/1.2.3" {
					t.Errorf("%s: User-Agent is %q", e.what, e.header.Get("User-Agent"))
				}
			}
		})
	}
}

func TestAKeyGoesToTheServerAsABearerTokenAndNowhereElse(t *testing.T) {
	for _, row := range []struct{ key, want string }{{"", ""}, {"canary-key", "Bearer canary-key"}} {
		s := newServer(t)
		p := s.provider(t, func(c *Config) { c.Key = secret.New(row.key) })
		if _, err := p.Ask(t.Context(), ask("tiny"), ignore); err != nil {
			t.Fatal(err)
		}
		for _, e := range s.asked {
			if got := e.header.Get("Authorization"); got != row.want || strings.Contains(e.body, "canary") {
				t.Errorf("%s: Authorization is %q, want %q; the body is %q", e.what, got, row.want, e.body)
			}
		}
	}
}

func TestTheModelIsDescribedOncePerDigest(t *testing.T) {
	s := newServer(t)
	p := s.provider(t, nil)
	want := func(n int, when string) {
		t.Helper()
		if _, err := p.Ask(t.Context(), ask("tiny"), ignore); err != nil {
			t.Fatal(err)
		}
		if got := len(s.bodies("show")); got != n {
			t.Errorf("%s: described %d times, want %d", when, got, n)
		}
	}
	want(1, "the first time")
	want(1, "the second time")
	s.replies["tags"] = made("200 OK", "application/json", `{"models":[{"name":"tiny:latest","digest":"other"}]}`)
	want(2, "after the weights changed")
	s.replies["tags"] = made("500 Internal Server Error", "application/json", `{"error":"no list"}`)
	want(3, "while the digest is unknown")
	want(4, "while the digest is unknown, again")
}

func TestTwoCallersOfAModelSendTheSameContext(t *testing.T) {
	s := newServer(t)
	p := s.provider(t, func(c *Config) { c.Contexts = map[string]int{"tiny": 1024} })
	for _, model := range []string{"tiny", "tiny:latest", "TINY"} {
		if _, err := p.Ask(t.Context(), ask(model), ignore); err != nil {
			t.Fatal(err)
		}
	}
	for _, body := range append(s.bodies("load"), s.bodies("ask")...) {
		if !strings.Contains(body, `"num_ctx":1024`) {
			t.Errorf("another num_ctx in %s", body)
		}
	}
}

func TestModels(t *testing.T) {
	models, err := newServer(t).provider(t, nil).Models(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	loaded := map[string]bool{}
	for _, m := range models {
		if len(m.Digest) != 64 || m.Size < 1_000_000 {
			t.Errorf("%+v", m)
		}
		loaded[m.Name] = m.Loaded
	}
	want := map[string]bool{"tiny:latest": true, "gemma4-tiny:latest": false, "gemma4:12b": false, "tiny-endless:latest": false}
	if !reflect.DeepEqual(loaded, want) {
		t.Errorf("got %v, want %v", loaded, want)
	}
}

func TestModelsAndPingFailAsErrors(t *testing.T) {
	for _, test := range []struct {
		name  string
		reply reply
		kind  provider.Kind
	}{
		{"an HTML page with status 200 is not Ollama", made("200 OK", "text/html", "<html>Welcome</html>"), provider.Malformed},
		{"a reply that breaks off", raw([]byte("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")), provider.Failed},
		{"a reply of 17 MiB is not read to its end", made("200 OK", "application/json", `{"version":"1","models":[]}`+strings.Repeat(" ", 17<<20)), provider.Malformed},
		{"a foreign host name is refused", recorded(t, "foreign-host"), provider.Auth},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t)
			s.replies["tags"], s.replies["version"] = test.reply, test.reply
			p := s.provider(t, nil)
			_, err := p.Models(t.Context())
			for what, err := range map[string]error{"Models": err, "Ping": p.Ping(t.Context())} {
				e, ok := err.(*provider.Error)
				if !ok || e.Kind != test.kind || e.Provider != "davas" {
					t.Errorf("%s: got %+v, want kind %q", what, err, test.kind)
				}
			}
		})
	}
	t.Run("what is in memory must be known to be told", func(t *testing.T) {
		s := newServer(t)
		s.replies["ps"] = hangUp
		if models, err := s.provider(t, nil).Models(t.Context()); provider.KindOf(err) != provider.Failed {
			t.Errorf("got %v, %v", models, err)
		}
	})
	t.Run("a server of another kind is not Ollama", func(t *testing.T) {
		s := newServer(t)
		s.replies["version"] = made("200 OK", "application/json", `{"ok":true}`)
		if err := s.provider(t, nil).Ping(t.Context()); provider.KindOf(err) != provider.Malformed {
			t.Errorf("got %v", err)
		}
	})
}

func TestNew(t *testing.T) {
	good := Config{Name: "davas", URL: "http://davas:11434", Deadlines: provider.DefaultDeadlines()}
	for _, test := range []struct {
		name   string
		change func(*Config)
		want   string // in the error, or the URL that is asked
	}{
		{"a plain URL is taken", func(*Config) {}, "http://davas:11434/api/chat"},
		{"a slash at its end is taken", func(c *Config) { c.URL += "/" }, "http://davas:11434/api/chat"},
		{"https below a path is taken", func(c *Config) { c.URL = "https://example.org/ollama" }, "https://example.org/ollama/api/chat"},
		{"a password is refused and not repeated", func(c *Config) { c.URL = "http://me:canary@davas" }, "user or a password"},
		{"a query is refused", func(c *Config) { c.URL += "?key=canary" }, "query"},
		{"another scheme is refused", func(c *Config) { c.URL = "ftp://davas" }, "http://"},
		{"a host without a scheme is refused", func(c *Config) { c.URL = "davas:11434" }, "http://"},
		{"no host is refused", func(c *Config) { c.URL = "http://:11434" }, "host"},
		{"what is no URL is refused and not repeated", func(c *Config) { c.URL = "http://canary\x7f" }, "cannot be read"},
		{"a deadline of 0 is refused", func(c *Config) { c.Deadlines.Load = 0 }, "deadline"},
		{"a num_ctx of 0 is refused", func(c *Config) { c.Contexts = map[string]int{"tiny": 0} }, "num_ctx"},
		{"two sizes for one model are refused", func(c *Config) { c.Contexts = map[string]int{"tiny": 1, "Tiny:latest": 2} }, "two values"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := good
			test.change(&config)
			p, err := New(config)
			if strings.HasSuffix(test.want, "/api/chat") {
				if err != nil || p.base.JoinPath("api/chat").String() != test.want {
					t.Errorf("got %+v, %v", p, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v, want %q in it and no canary", err, test.want)
			}
		})
	}
}

func TestTemperatureThatIsNoNumber(t *testing.T) {
	nan := math.NaN()
	req := ask("tiny")
	req.Temperature = &nan
	_, err := newServer(t).provider(t, nil).Ask(t.Context(), req, ignore)
	if provider.KindOf(err) != provider.Refused {
		t.Errorf("got %v, want refused", err)
	}
}

func TestAQuestionWithoutMessagesIsNotAsked(t *testing.T) {
	s := newServer(t)
	_, err := s.provider(t, nil).Ask(t.Context(), provider.Request{Model: "tiny"}, ignore)
	if provider.KindOf(err) != provider.Refused || len(s.asked) != 0 {
		t.Errorf("got %v after %d requests, want refused after none", err, len(s.asked))
	}
}

func TestContextSize(t *testing.T) {
	show := func(info string) reply { return made("200 OK", "application/json", `{"model_info":`+info+`}`) }
	for _, test := range []struct {
		name     string
		info     string
		contexts map[string]int
		want     int
		advice   string
	}{
		{"8192 where neither configuration nor model says", `{}`, nil, 8192, "raise num_ctx of this model in the configuration"},
		{"8192 where the model's word is no number", `{"general.architecture":"a","a.context_length":"x"}`, nil, 8192, "raise num_ctx of this model in the configuration"},
		{"8192 of a model that could do more", `{"general.architecture":"a","a.context_length":131072}`, nil, 8192, "(131072 at most)"},
		{"that of the architecture, where a model has several", `{"general.architecture":"b","a.context_length":100,"b.context_length":4096}`, nil, 4096, "made for 4096 tokens"},
		{"the configured one", `{"general.architecture":"a","a.context_length":131072}`, map[string]int{"tiny": 16384}, 16384, "(131072 at most)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t)
			s.replies["show"], s.replies["ask"] = show(test.info), recorded(t, "too-long")
			answer, err := s.provider(t, func(c *Config) { c.Contexts = test.contexts }).Ask(t.Context(), ask("tiny"), ignore)
			e, ok := err.(*provider.Error)
			if !ok || answer.Context != test.want || !strings.Contains(e.Advice, test.advice) {
				t.Errorf("context %d, want %d: %+v", answer.Context, test.want, err)
			}
			if load := s.bodies("load"); len(load) != 1 || !strings.Contains(load[0], fmt.Sprintf(`"num_ctx":%d`, test.want)) {
				t.Errorf("loaded with %q", load)
			}
		})
	}
}
