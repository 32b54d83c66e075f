package wire

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"

	"davidcockson.com/runner/internal/provider"
)

// maxAnswer bounds text and thinking together, in bytes.
const maxAnswer = 16 << 20

// Draft is an answer while it comes, and its events. It belongs to one
// goroutine.
type Draft struct {
	provider.Answer
	max            int // tokens that the request allowed, 0 for no bound
	sink           provider.Sink
	text, thinking strings.Builder
}

// NewDraft begins an answer of the named provider.
func NewDraft(name string, req provider.Request, sink provider.Sink) *Draft {
	d := &Draft{max: req.MaxTokens, sink: sink}
	d.Answer = provider.Answer{Provider: name, Model: req.Model, Started: time.Now()}
	d.Usage.Estimate = provider.Estimate(req.Messages)
	return d
}

// Phase tells that the call has come to p.
func (d *Draft) Phase(p provider.Phase) { d.sink(provider.Event{Kind: provider.PhaseEvent, Phase: p}) }

// Add passes further pieces of thinking and text on; either may be "".
func (d *Draft) Add(thinking, text string) error {
	if thinking == "" && text == "" {
		return nil
	}
	if d.text.Len()+d.thinking.Len()+len(thinking)+len(text) > maxAnswer {
		return &provider.Error{Kind: provider.Malformed, Reason: "the answer is longer than 16 MiB", Sent: true}
	}
	if d.FirstToken == 0 {
		d.FirstToken = max(time.Since(d.Started), 1)
		d.Phase(provider.Answering)
	}
	if thinking != "" {
		d.thinking.WriteString(thinking)
		d.sink(provider.Event{Kind: provider.ThinkingEvent, Text: thinking})
	}
	if text != "" {
		d.text.WriteString(text)
		d.sink(provider.Event{Kind: provider.TextEvent, Text: text})
	}
	return nil
}

// End completes the answer and sends the last events. Text loses the blank
// that some models begin with; the events keep it.
func (d *Draft) End(err error) provider.Answer {
	if d.Usage.Read > 0 || d.Usage.Written > 0 {
		usage := d.Usage
		d.sink(provider.Event{Kind: provider.UsageEvent, Usage: &usage})
	}
	d.Text = strings.TrimLeftFunc(d.text.String(), unicode.IsSpace)
	d.Thinking = d.thinking.String()
	d.Took = time.Since(d.Started)
	d.sink(provider.Event{Kind: provider.EndEvent, Text: cmp.Or(string(provider.KindOf(err)), "stop")})
	return d.Answer
}

// Stopped decides whether an answer that the model itself ended is a success.
// Where the server does not say how much it read, nothing is held against it.
func (d *Draft) Stopped() error {
	switch {
	case d.Usage.Read > 0 && d.Usage.Read < d.Usage.Estimate:
		return &provider.Error{
			Kind:   provider.Unread,
			Reason: fmt.Sprintf("the server read %d tokens of a prompt that has at least %d", d.Usage.Read, d.Usage.Estimate),
			Advice: "shorten the prompt, or choose a model with a larger context",
			Sent:   true,
		}
	case d.blank() && d.thought():
		return &provider.Error{Kind: provider.Empty, Reason: "the model thought, and ended without an answer", Sent: true}
	case d.blank():
		return &provider.Error{Kind: provider.Empty, Reason: "the model ended without a word", Sent: true}
	}
	return nil
}

// Cut is the failure of an answer that ran into a limit of length.
func (d *Draft) Cut() error {
	limit, advice := "the model's own limit of length", "ask for less in one answer, or choose another model"
	if d.max > 0 {
		limit, advice = fmt.Sprintf("its limit of %d tokens (max_tokens)", d.max), "raise max_tokens"
	}
	switch {
	case d.blank() && d.thought():
		return &provider.Error{
			Kind:   provider.Empty,
			Reason: fmt.Sprintf("the model used up %s by thinking, before a word of the answer", limit),
			Advice: advice, Sent: true,
		}
	case d.blank():
		return &provider.Error{Kind: provider.Empty, Reason: fmt.Sprintf("the answer was cut at %s, before its first word", limit), Advice: advice, Sent: true}
	}
	return &provider.Error{Kind: provider.Cut, Reason: "the answer was cut at " + limit, Advice: advice, Sent: true}
}

func (d *Draft) blank() bool   { return strings.TrimSpace(d.text.String()) == "" }
func (d *Draft) thought() bool { return d.thinking.Len() > 0 || d.Usage.Reasoning > 0 }

// Unfinished is the failure of a stream that ended in good order, but without
// the server's word for the end.
func Unfinished() error {
	return &provider.Error{Kind: provider.Unfinished, Reason: "the stream ended without a finish reason", Sent: true}
}

// Blocked is the failure of an answer that the provider withheld, for the cause
// that it names.
func Blocked(what, cause string) error {
	return &provider.Error{
		Kind:   provider.Blocked,
		Reason: fmt.Sprintf("the provider withheld the %s: %s", what, cause),
		Advice: "word the prompt differently, or ask another provider by name",
		Sent:   true,
	}
}
