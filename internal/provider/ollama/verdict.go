package ollama

import (
	"fmt"
	"strings"

	"davidcockson.com/runner/internal/provider"
)

// judge decides whether an answer that ended with its end marker is a success.
func (c *call) judge(last chunk) error {
	if last.DoneReason != "stop" && last.DoneReason != "length" {
		return &provider.Error{
			Kind:   provider.Malformed,
			Reason: fmt.Sprintf("the answer ended for the reason %q, not with \"stop\"", clean(last.DoneReason)),
			Sent:   true,
		}
	}
	if reason := c.unread(); reason != "" {
		return &provider.Error{Kind: provider.Unread, Reason: reason, Advice: c.adviceContext(), Sent: true}
	}
	blank := strings.TrimSpace(c.text.String()) == ""
	switch {
	case last.DoneReason == "length" && blank && c.thinking.Len() > 0:
		return &provider.Error{
			Kind:   provider.Empty,
			Reason: fmt.Sprintf("the model used up its limit of %s by thinking, before a word of the answer", c.limit()),
			Advice: c.adviceLength(),
			Sent:   true,
		}
	case last.DoneReason == "length":
		return &provider.Error{
			Kind:   provider.Cut,
			Reason: fmt.Sprintf("the answer was cut at its limit of %s", c.limit()),
			Advice: c.adviceLength(),
			Sent:   true,
		}
	case blank && c.thinking.Len() > 0:
		return &provider.Error{Kind: provider.Empty, Reason: "the model thought, and ended without an answer", Sent: true}
	case blank:
		return &provider.Error{Kind: provider.Empty, Reason: "the model ended without a word", Sent: true}
	}
	return nil
}

// unread says why the count of the tokens that the server read cannot be that of
// the whole prompt, "" where it can. Servers drop the head of a prompt in
// silence: they then count the whole context, or half of it and 2 (Ollama issues
// 3839 and 17427, seen by users of 0.32 and 0.33).
func (c *call) unread() string {
	read, estimate, size := c.answer.Usage.Read, c.answer.Usage.Estimate, c.answer.Context
	switch {
	case read < estimate:
		return fmt.Sprintf("the server read %d tokens of a prompt that has at least %d", read, estimate)
	case read >= size-1:
		return fmt.Sprintf("the server read %d tokens, the whole context of %d: it may have dropped a part of the prompt, which has at least %d",
			read, size, estimate)
	case read == size/2+2 && c.promptBytes() > size:
		return fmt.Sprintf("the server read %d tokens, just what is left of a prompt cut to half the context of %d; the prompt has at least %d",
			read, size, estimate)
	}
	return ""
}

// promptBytes is the length of the prompt. No tokenizer makes more tokens than
// there are bytes, so that a prompt of fewer bytes than the context has tokens
// cannot have been cut.
func (c *call) promptBytes() int {
	n := 0
	for _, m := range c.req.Messages {
		n += len(m.Content)
	}
	return n
}

// limit names what ended an answer with "length": the bound of the request, or
// else the end of the context.
func (c *call) limit() string {
	if c.byRequest() {
		return fmt.Sprintf("%d tokens (max_tokens)", c.req.MaxTokens)
	}
	return fmt.Sprintf("%d tokens, prompt and answer together (num_ctx)", c.answer.Context)
}

func (c *call) adviceLength() string {
	if c.byRequest() {
		return "raise max_tokens"
	}
	return c.adviceContext()
}

func (c *call) byRequest() bool {
	return c.req.MaxTokens > 0 && c.answer.Usage.Written >= c.req.MaxTokens
}
