// Package echo is the built-in provider: it repeats the prompt, without an
// account, a network or a model, and says so in each answer.
//
// Its five models show every way in which an answer can end. "echo" answers at
// once and "slow" word by word; "cut" stops half-way as at a limit of length,
// "busy" has no room, "silent" begins and then says nothing until the deadline
// for silence strikes. Temperature and MaxTokens mean nothing to it: it repeats
// the prompt whole. Tokens are counted as provider.Estimate does. It stores
// nothing.
package echo

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"davidcockson.com/runner/internal/provider"
)

// The models.
const (
	Echo   = "echo"
	Slow   = "slow"
	Cut    = "cut"
	Busy   = "busy"
	Silent = "silent"
)

// pause is the time between two words of Slow.
const pause = 50 * time.Millisecond

const opening = "This is runner's built-in echo provider, not a language model. It repeats the prompt it was given:\n\n"

// Provider repeats prompts. It is safe for concurrent use.
type Provider struct {
	name      string
	deadlines provider.Deadlines
}

var _ provider.Provider = (*Provider)(nil)

// New returns an echo provider of the given name. Of the deadlines only Silence
// has a meaning here.
func New(name string, deadlines provider.Deadlines) *Provider {
	return &Provider{name: name, deadlines: deadlines}
}

// Models lists the five models.
func (p *Provider) Models(ctx context.Context) ([]provider.Model, error) {
	if ctx.Err() != nil {
		return nil, p.cancelled(ctx, "")
	}
	return []provider.Model{
		{Name: Echo, Loaded: true}, {Name: Slow, Loaded: true}, {Name: Cut, Loaded: true},
		{Name: Busy, Loaded: true}, {Name: Silent, Loaded: true},
	}, nil
}

// Ping fails only where ctx is over.
func (p *Provider) Ping(ctx context.Context) error {
	if ctx.Err() != nil {
		return p.cancelled(ctx, "")
	}
	return nil
}

// Ask repeats the messages of the request in the way of its model.
func (p *Provider) Ask(ctx context.Context, req provider.Request, sink provider.Sink) (provider.Answer, error) {
	answer := provider.Answer{Provider: p.name, Model: req.Model, Started: time.Now()}
	answer.Usage.Estimate = provider.Estimate(req.Messages)
	err := p.answer(ctx, req, sink, &answer)
	answer.Took = time.Since(answer.Started)
	sink(provider.Event{Kind: provider.EndEvent, Text: cmp.Or(string(provider.KindOf(err)), "stop")})
	return answer, err
}

func (p *Provider) answer(ctx context.Context, req provider.Request, sink provider.Sink, answer *provider.Answer) error {
	text := repeat(req.Messages)
	var pieces []string
	switch req.Model {
	case Echo:
		pieces = strings.SplitAfter(text, "\n")
	case Slow:
		pieces = words(text)
	case Cut:
		pieces = words(text)
		pieces = pieces[:len(pieces)/2]
	case Silent:
		pieces = words(text)[:1]
	case Busy:
		return p.fail(req.Model, provider.Error{
			Kind: provider.Busy, Reason: "the model busy has no room, as ever", RetryAfter: time.Second,
		})
	default:
		return p.fail(req.Model, provider.Error{
			Kind:   provider.NoModel,
			Reason: "there is no such model",
			Advice: fmt.Sprintf("use one of %s, %s, %s, %s, %s", Echo, Slow, Cut, Busy, Silent),
		})
	}
	sink(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Reading})
	answer.Usage.Read = answer.Usage.Estimate
	if err := p.write(ctx, pieces, sink, answer); err != nil {
		return err
	}
	switch req.Model {
	case Silent:
		if err := p.wait(ctx, p.deadlines.Silence, req.Model); err != nil {
			return err
		}
		return p.fail(req.Model, provider.Error{
			Kind:   provider.Timeout,
			Reason: fmt.Sprintf("no further piece of the answer within %s", p.deadlines.Silence),
			Advice: "raise deadlines.silence if the host needs longer; this model never goes on",
			Sent:   true,
		})
	case Cut:
		answer.Finish = "length"
		p.count(sink, answer)
		return p.fail(req.Model, provider.Error{
			Kind: provider.Cut, Reason: "the answer was cut half-way, as this model always does", Sent: true,
		})
	}
	answer.Finish = "stop"
	p.count(sink, answer)
	return nil
}

// write sends the pieces, for Slow with a pause after each.
func (p *Provider) write(ctx context.Context, pieces []string, sink provider.Sink, answer *provider.Answer) error {
	var text strings.Builder
	defer func() { answer.Text = text.String() }()
	for i, piece := range pieces {
		if ctx.Err() != nil {
			return p.cancelled(ctx, answer.Model)
		}
		if i == 0 {
			answer.FirstToken = max(time.Since(answer.Started), 1)
			sink(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Answering})
		}
		if piece == "" { // what SplitAfter leaves behind the last newline
			continue
		}
		text.WriteString(piece)
		sink(provider.Event{Kind: provider.TextEvent, Text: piece})
		if answer.Model == Slow {
			if err := p.wait(ctx, pause, answer.Model); err != nil {
				return err
			}
		}
	}
	return nil
}

// count fills in the figures of an answer that came to its end.
func (p *Provider) count(sink provider.Sink, answer *provider.Answer) {
	answer.Usage.Written = provider.Estimate([]provider.Message{{Content: answer.Text}})
	// Of an answer in no time a rate says nothing.
	if took := time.Since(answer.Started).Seconds(); took > 0.001 {
		answer.Rate = float64(answer.Usage.Written) / took
	}
	usage := answer.Usage
	sink(provider.Event{Kind: provider.UsageEvent, Usage: &usage})
}

// wait lets d pass. Its error says that ctx ended first.
func (p *Provider) wait(ctx context.Context, d time.Duration, model string) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return p.cancelled(ctx, model)
	}
}

// cancelled says that ctx ended. Where no model is named nothing was asked.
func (p *Provider) cancelled(ctx context.Context, model string) error {
	return p.fail(model, provider.Error{
		Kind: provider.Cancelled, Reason: "stopped before the answer was whole", Cause: context.Cause(ctx), Sent: model != "",
	})
}

func (p *Provider) fail(model string, e provider.Error) error {
	e.Provider, e.Model = p.name, model
	return &e
}

// repeat is the whole answer: a single message as it is, several with their
// roles.
func repeat(messages []provider.Message) string {
	var text strings.Builder
	text.WriteString(opening)
	for i, m := range messages {
		if len(messages) > 1 {
			if i > 0 {
				text.WriteString("\n\n")
			}
			fmt.Fprintf(&text, "[%s]\n", m.Role)
		}
		text.WriteString(m.Content)
	}
	return text.String()
}

// words splits text behind each blank, so that the parts make the whole again.
func words(text string) []string {
	return strings.SplitAfter(text, " ")
}
