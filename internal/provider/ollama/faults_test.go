package ollama

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/providertest"
	"davidcockson.com/runner/internal/provider/wire"
)

// TestFaults plays what all providers must stand; what is Ollama's own is in
// TestFailures.
func TestFaults(t *testing.T) {
	message := func(field, text string) string {
		data, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"model":"tiny","message":{%q:%s},"done":false}`+"\n", field, data)
	}
	providertest.Faults(t, providertest.Protocol{
		Open: func(t *testing.T, ask providertest.Reply) provider.Provider {
			s := newServer(t)
			s.replies["ask"] = reply(ask)
			p := s.provider(t, nil)
			if ask == nil {
				p.client.Transport = wire.NewTransport(time.Second, providertest.Nobody)
			}
			return p
		},
		Model: "tiny",
		Head:  "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n",
		Text:  func(text string) string { return message("content", text) },
		Think: func(text string) string { return message("thinking", text) },
		End: func(ending string) string {
			if ending == "blocked" || ending == "blocked prompt" || ending == "tool" {
				return "" // Ollama withholds nothing, and ends a call of a tool like an answer
			}
			return fmt.Sprintf(`{"model":"tiny","done":true,"done_reason":%q,"prompt_eval_count":16,"eval_count":5}`+"\n", ending)
		},
		Failure: func(text string) string { return fmt.Sprintf(`{"error":%q}`+"\n", text) },
		Error:   func(_ int, text string) string { return fmt.Sprintf(`{"error":%q}`, text) },
		Quoted: map[string]providertest.Reply{
			"a whole answer":                                             providertest.Reply(recorded(t, "whole")),
			"an answer with thinking before it":                          providertest.Reply(recorded(t, "thinking")),
			"a server without room":                                      providertest.Reply(recorded(t, "busy")),
			"a failure of the server within the stream":                  providertest.Reply(recorded(t, "error-inside")),
			"a connection that is lost within the stream":                providertest.Reply(recorded(t, "killed")),
			"an end in good order, but without the server's word for it": providertest.Reply(recorded(t, "stuck")),
			"an answer that is cut by max_tokens":                        providertest.Reply(recorded(t, "length")),
		},
	})
}
