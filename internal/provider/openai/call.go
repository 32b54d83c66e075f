package openai

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	client "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/packages/ssestream"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/wire"
)

// call is one Ask on its way. It belongs to one goroutine.
type call struct {
	p       *Provider
	req     provider.Request
	draft   *wire.Draft
	limits  limits
	refusal strings.Builder // the model's own words for why it does not answer
	pieces  int             // chunks that came
	named   json.RawMessage // the model's name as it came last
}

// run makes the call from connecting to the verdict.
func (c *call) run(ctx context.Context) error {
	if len(c.req.Messages) == 0 {
		return &provider.Error{Kind: provider.Refused, Reason: "the request has no messages"}
	}
	c.draft.Phase(provider.Connecting)
	first := &wire.Deadline{Length: c.p.deadlines.ForPrompt(c.draft.Usage.Estimate), What: "no first byte within %s", Key: "first_byte"}
	silence := &wire.Deadline{Length: c.p.deadlines.Silence, What: "no further piece of the answer within %s", Key: "silence"}
	exchange := wire.NewStream(ctx, first, silence, c.answered)
	defer exchange.Stop()
	stream := c.p.stream(exchange.Context(), c.params())
	defer stream.Close() // only read: nothing can be lost by closing
	for stream.Next() {
		if !stream.object() {
			return malformed()
		}
		if err := c.take(stream.Current()); err != nil {
			return err
		}
	}
	c.limits.pace(c.draft.Usage.Read+c.draft.Usage.Written, c.p.paced)
	if err := c.broken(exchange, stream.Err()); err != nil {
		return err
	}
	return c.judge(exchange.Header())
}

// params is the request as the client wants it. The bound is sent as
// max_completion_tokens: Groq and OpenAI call max_tokens deprecated, and OpenAI's
// thinking models refuse it.
func (c *call) params() client.ChatCompletionNewParams {
	params := client.ChatCompletionNewParams{
		Model:         c.req.Model,
		StreamOptions: client.ChatCompletionStreamOptionsParam{IncludeUsage: param.NewOpt(true)},
	}
	if c.req.Temperature != nil {
		params.Temperature = param.NewOpt(*c.req.Temperature)
	}
	if c.req.MaxTokens > 0 {
		params.MaxCompletionTokens = param.NewOpt(int64(c.req.MaxTokens))
	}
	for _, m := range c.req.Messages {
		switch m.Role {
		case provider.System:
			params.Messages = append(params.Messages, client.SystemMessage(m.Content))
		case provider.Assistant:
			params.Messages = append(params.Messages, client.AssistantMessage(m.Content))
		default:
			params.Messages = append(params.Messages, client.UserMessage(m.Content))
		}
	}
	return params
}

// answered looks at the header of an answer that begins.
func (c *call) answered(h http.Header) {
	c.draft.Phase(provider.Reading)
	c.limits = readLimits(h)
	c.limits.pace(c.draft.Usage.Estimate+c.req.MaxTokens, c.p.paced)
}

// take passes one chunk on.
func (c *call) take(next chunk) error {
	c.pieces++
	c.name(next.Model)
	c.count(next.Usage)
	c.countGroq(next.Groq)
	for i := range next.Choices {
		choice := &next.Choices[i]
		if choice.other() {
			continue // one was asked for
		}
		c.refusal.WriteString(words(choice.Delta.Refusal))
		if err := c.draft.Add(choice.thinking(), choice.Delta.Content); err != nil {
			return err
		}
		c.draft.Finish = cmp.Or(choice.FinishReason, c.draft.Finish)
	}
	return nil
}

func malformed() error {
	return &provider.Error{Kind: provider.Malformed, Reason: "a piece of the stream is not what the protocol says", Sent: true}
}

// name takes the name by which the server answers, which is mostly that of the piece
// before.
func (c *call) name(raw json.RawMessage) {
	if len(raw) == 0 || bytes.Equal(raw, c.named) {
		return
	}
	c.named = raw
	c.draft.Model = cmp.Or(words(raw), c.draft.Model)
}

// count takes the server's figures. The client reads what is not a number as 0.
func (c *call) count(raw json.RawMessage) {
	var u client.CompletionUsage
	if !bytes.HasPrefix(raw, []byte("{")) || json.Unmarshal(raw, &u) != nil {
		return
	}
	c.draft.Usage.Read = int(max(u.PromptTokens, 0))
	c.draft.Usage.Cached = int(max(u.PromptTokensDetails.CachedTokens, 0))
	c.draft.Usage.Written = int(max(u.CompletionTokens, 0))
	c.draft.Usage.Reasoning = int(max(u.CompletionTokensDetails.ReasoningTokens, 0))
}

// countGroq takes Groq's own figures, which it sends where it does not send the
// standard ones.
func (c *call) countGroq(raw json.RawMessage) {
	var own struct {
		Usage json.RawMessage `json:"usage"`
	}
	if len(raw) > 0 && json.Unmarshal(raw, &own) == nil {
		c.count(own.Usage)
	}
}

// broken explains a stream that did not end in good order. Once the server has
// given its finish reason, the answer is whole: that the connection is lost
// before the figures or the end marker takes nothing back.
func (c *call) broken(exchange *wire.Call, err error) error {
	if said, ok := errors.AsType[*ssestream.StreamError](err); ok {
		return &provider.Error{Kind: provider.Failed, Reason: "the server failed during the answer: " + c.p.said(said.Event.Data).text, Sent: true}
	}
	e := c.p.failure(exchange, err, c.req)
	switch {
	case e == nil:
		return nil
	case c.draft.Finish != "" && (e.Kind == provider.Unfinished || e.Kind == provider.Timeout):
		return nil
	case e.Kind == provider.Malformed && c.pieces > 0 && exchange.Fault(0, "") == nil:
		e.Reason, e.Advice = "a piece of the stream is not what the protocol says", ""
	}
	return e
}

// judge decides whether an answer that ended in good order is a success.
func (c *call) judge(h http.Header) error {
	switch finish := c.draft.Finish; finish {
	case "":
		if c.pieces == 0 && !strings.HasPrefix(h.Get("Content-Type"), "text/event-stream") {
			return &provider.Error{
				Kind: provider.Malformed, Sent: true,
				Reason: "the server answered with status 200, but not with a stream of events", Advice: wire.AdviceURL,
			}
		}
		return wire.Unfinished()
	case "stop":
		err := c.draft.Stopped()
		if provider.KindOf(err) == provider.Empty && c.refusal.Len() > 0 {
			return wire.Blocked("answer", "the model refused: "+wire.Clean(c.refusal.String(), c.p.key))
		}
		return err
	case "length":
		return c.draft.Cut()
	case "content_filter":
		return wire.Blocked("answer", "content_filter")
	case "tool_calls", "function_call":
		return &provider.Error{Kind: provider.Malformed, Reason: "the model called a tool, and none was offered", Sent: true}
	default:
		return &provider.Error{
			Kind:   provider.Malformed,
			Reason: fmt.Sprintf("the answer ended for the reason %q, not with \"stop\"", wire.Clean(finish, c.p.key)),
			Sent:   true,
		}
	}
}
