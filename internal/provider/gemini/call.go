package gemini

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"

	"google.golang.org/genai"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/wire"
)

// call is one Ask on its way. It belongs to one goroutine.
type call struct {
	p       *Provider
	req     provider.Request
	draft   *wire.Draft
	blocked string // why the prompt was withheld from the model
	tool    bool   // the model called one
	pieces  int    // chunks that came
}

// run makes the call from connecting to the verdict.
func (c *call) run(ctx context.Context) error {
	if len(c.req.Messages) == 0 {
		return &provider.Error{Kind: provider.Refused, Reason: "the request has no messages"}
	}
	c.draft.Phase(provider.Connecting)
	first := &wire.Deadline{Length: c.p.deadlines.ForPrompt(c.draft.Usage.Estimate), What: "no first byte within %s", Key: "first_byte"}
	silence := &wire.Deadline{Length: c.p.deadlines.Silence, What: "no further piece of the answer within %s", Key: "silence"}
	exchange := wire.NewStream(ctx, first, silence, func(http.Header) { c.draft.Phase(provider.Reading) })
	defer exchange.Stop()
	contents, config := c.params()
	var failed error
	for chunk, err := range c.p.models.GenerateContentStream(exchange.Context(), c.req.Model, contents, config) {
		if failed = err; failed != nil {
			break
		}
		if err := c.take(chunk); err != nil {
			return err
		}
	}
	if err := c.broken(exchange, failed); err != nil {
		return err
	}
	return c.judge()
}

// params is the request as the client wants it. Without AutomaticContinuation
// set to false the client would send, and the owner pay for, further requests.
func (c *call) params() ([]*genai.Content, *genai.GenerateContentConfig) {
	config := &genai.GenerateContentConfig{AutomaticContinuation: genai.Ptr(false)}
	if c.req.Temperature != nil {
		config.Temperature = genai.Ptr(float32(*c.req.Temperature))
	}
	config.MaxOutputTokens = int32(min(c.req.MaxTokens, math.MaxInt32))
	var contents []*genai.Content
	for _, m := range c.req.Messages {
		switch m.Role {
		case provider.System:
			if config.SystemInstruction == nil {
				config.SystemInstruction = &genai.Content{}
			}
			config.SystemInstruction.Parts = append(config.SystemInstruction.Parts, genai.NewPartFromText(m.Content))
		case provider.Assistant:
			contents = append(contents, genai.NewContentFromText(m.Content, genai.RoleModel))
		default:
			contents = append(contents, genai.NewContentFromText(m.Content, genai.RoleUser))
		}
	}
	return contents, config
}

// take passes one chunk on.
func (c *call) take(chunk *genai.GenerateContentResponse) error {
	if len(chunk.Candidates) == 0 && chunk.PromptFeedback == nil && chunk.UsageMetadata == nil {
		return malformed() // null, or another protocol's object
	}
	c.pieces++
	c.draft.Model = cmp.Or(chunk.ModelVersion, c.draft.Model)
	if u := chunk.UsageMetadata; u != nil {
		c.count(u)
	}
	if f := chunk.PromptFeedback; f != nil {
		c.blocked = cmp.Or(string(f.BlockReason), c.blocked)
	}
	for _, candidate := range chunk.Candidates {
		if candidate == nil || candidate.Index != 0 {
			continue // one was asked for
		}
		if candidate.Content != nil {
			if err := c.parts(candidate.Content.Parts); err != nil {
				return err
			}
		}
		// Some servers repeat STOP with each chunk, so it is the last that counts.
		c.draft.Finish = string(candidate.FinishReason)
	}
	return nil
}

func (c *call) parts(parts []*genai.Part) error {
	for _, part := range parts {
		if part == nil {
			continue
		}
		c.tool = c.tool || part.FunctionCall != nil || part.ToolCall != nil || part.ExecutableCode != nil
		thinking, text := "", part.Text
		if part.Thought {
			thinking, text = part.Text, ""
		}
		if err := c.draft.Add(thinking, text); err != nil {
			return err
		}
	}
	return nil
}

// count takes the server's figures, each chunk's in the place of the last.
// Thinking is not within Gemini's count of the answer.
func (c *call) count(u *genai.GenerateContentResponseUsageMetadata) {
	c.draft.Usage.Read = int(max(u.PromptTokenCount, 0))
	c.draft.Usage.Cached = int(max(u.CachedContentTokenCount, 0))
	c.draft.Usage.Reasoning = int(max(u.ThoughtsTokenCount, 0))
	c.draft.Usage.Written = int(max(u.CandidatesTokenCount, 0)) + c.draft.Usage.Reasoning
}

func malformed() error {
	return &provider.Error{Kind: provider.Malformed, Reason: "a piece of the stream is not what the protocol says", Sent: true}
}

// broken explains a stream that did not end in good order. Gemini has no end
// marker but the end of the stream itself, so a lost connection is one.
func (c *call) broken(exchange *wire.Call, err error) error {
	if said, ok := errors.AsType[genai.APIError](err); ok && exchange.Refusal() == nil {
		return &provider.Error{Kind: provider.Failed, Reason: "the server failed during the answer: " + wire.Clean(said.Message, c.p.key), Sent: true}
	}
	e := c.p.failure(exchange, err, c.req)
	switch {
	case e == nil:
		return nil
	case e.Kind == provider.Malformed && c.pieces > 0 && exchange.Fault(0, "") == nil:
		return malformed()
	}
	return e
}

// judge decides whether an answer that ended in good order is a success.
func (c *call) judge() error {
	if c.blocked != "" {
		return wire.Blocked("prompt", wire.Clean(c.blocked, c.p.key))
	}
	switch reason := genai.FinishReason(c.draft.Finish); reason {
	case "", genai.FinishReasonUnspecified:
		return wire.Unfinished()
	case genai.FinishReasonStop:
		if c.tool {
			return &provider.Error{Kind: provider.Malformed, Reason: "the model called a tool, and none was offered", Sent: true}
		}
		return c.draft.Stopped()
	case genai.FinishReasonMaxTokens:
		return c.draft.Cut()
	case genai.FinishReasonContinuation:
		return &provider.Error{
			Kind: provider.Cut, Sent: true,
			Reason: "the server would go on only with a further request (CONTINUATION)",
			Advice: "ask for less in one answer, or choose another model",
		}
	case genai.FinishReasonSafety, genai.FinishReasonRecitation, genai.FinishReasonBlocklist,
		genai.FinishReasonProhibitedContent, genai.FinishReasonSPII, genai.FinishReasonLanguage,
		genai.FinishReasonImageSafety, genai.FinishReasonImageProhibitedContent, genai.FinishReasonImageRecitation:
		return wire.Blocked("answer", c.draft.Finish)
	case genai.FinishReasonMalformedFunctionCall, genai.FinishReasonUnexpectedToolCall, genai.FinishReasonTooManyToolCalls:
		return &provider.Error{Kind: provider.Malformed, Reason: "the model called a tool, and none was offered", Sent: true}
	}
	return &provider.Error{
		Kind:   provider.Malformed,
		Reason: fmt.Sprintf("the answer ended for the reason %q, not with \"STOP\"", wire.Clean(c.draft.Finish, c.p.key)),
		Sent:   true,
	}
}
