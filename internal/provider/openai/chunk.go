package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	client "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
)

// chunk is what we read of one event of the stream. The client's own type for it
// records of every field what came and whether it was there, which costs several
// times the rest of what is done for a token. Fields that are kept as JSON may be of
// any type: what is not as the protocol says is then as good as not there.
type chunk struct {
	Model   json.RawMessage `json:"model"`
	Choices []choice        `json:"choices"`
	Usage   json.RawMessage `json:"usage"`
	Groq    json.RawMessage `json:"x_groq"`
}

type choice struct {
	Index json.RawMessage `json:"index"`
	Delta struct {
		Content string          `json:"content"`
		Refusal json.RawMessage `json:"refusal"`
		// What a model thought: servers call it reasoning (Groq, OpenRouter) or
		// reasoning_content (DeepSeek, vLLM).
		Reasoning        json.RawMessage `json:"reasoning"`
		ReasoningContent json.RawMessage `json:"reasoning_content"`
	} `json:"delta"`
	FinishReason string `json:"finish_reason"`
}

// other says that a choice is not the one that was asked for.
func (c *choice) other() bool {
	n, err := strconv.Atoi(string(c.Index))
	return err == nil && n != 0
}

// thinking is what a model thought.
func (c *choice) thinking() string {
	if text := words(c.Delta.Reasoning); text != "" {
		return text
	}
	return words(c.Delta.ReasoningContent)
}

// words is a text of the stream, "" where it is none.
func words(raw json.RawMessage) string {
	var text string
	if len(raw) == 0 || json.Unmarshal(raw, &text) != nil {
		return ""
	}
	return text
}

// chunks are the events of a stream, as the client reads and ends it.
type chunks struct {
	*ssestream.Stream[chunk]
	decoder ssestream.Decoder
}

// stream sends the request. It must be followed by Close.
func (p *Provider) stream(ctx context.Context, params client.ChatCompletionNewParams) *chunks {
	var response *http.Response
	_, err := p.chats.New(ctx, params, option.WithJSONSet("stream", true), option.WithResponseBodyInto(&response))
	decoder := ssestream.NewDecoder(response)
	return &chunks{ssestream.NewStream[chunk](decoder, err), decoder}
}

// object says that the current event is one: null would pass as an empty chunk.
func (c *chunks) object() bool {
	return bytes.HasPrefix(bytes.TrimSpace(c.decoder.Event().Data), []byte("{"))
}
