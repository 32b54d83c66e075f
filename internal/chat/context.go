package chat

import (
	"context"
	"fmt"
	"math"
	"slices"

	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/provider"
)

// turn is one message and the answer to it that counts: of its versions the newest
// with a text.
type turn struct {
	number int
	asked  string
	answer history.Message // zero for none
}

// turns gathers messages, oldest first, into turns.
func turns(messages []history.Message) []turn {
	var all []turn
	for _, m := range messages {
		switch m.Role {
		case history.User:
			all = append(all, turn{number: m.Turn, asked: m.Text})
		case history.Assistant:
			if n := len(all) - 1; n >= 0 && all[n].number == m.Turn && m.Text != "" {
				all[n].answer = m
			}
		}
	}
	return all
}

// prompt is what a model is given to read of a conversation, for its last turn.
type prompt struct {
	messages []provider.Message
	// first is the oldest turn in it.
	first int
}

// compose puts as many of the last turns into a prompt as fit a context of size
// tokens, 0 for all of them. The last turn is always in it, without its answer.
func compose(system string, all []turn, size int, scale float64) prompt {
	last := len(all) - 1
	first := 0
	if size > 0 {
		left := float64(size-reserve(size)) - tokens(system, scale) - tokens(all[last].asked, scale)
		first = last
		for first > 0 {
			t := all[first-1]
			left -= tokens(t.asked, scale) + tokens(t.answer.Text, scale)
			if left < 0 {
				break
			}
			first--
		}
	}
	p := prompt{first: all[first].number}
	if system != "" {
		p.messages = append(p.messages, provider.Message{Role: provider.System, Content: system})
	}
	for i, t := range all[first:] {
		// A message that nobody answered stands before the next: providers want
		// the two sides to take turns.
		if n := len(p.messages) - 1; n >= 0 && p.messages[n].Role == provider.User {
			p.messages[n].Content += "\n\n" + t.asked
		} else {
			p.messages = append(p.messages, provider.Message{Role: provider.User, Content: t.asked})
		}
		if t.answer.Text != "" && first+i != last {
			p.messages = append(p.messages, provider.Message{Role: provider.Assistant, Content: t.answer.Text})
		}
	}
	return p
}

// reserve is how much of a context is left for the answer, in tokens.
func reserve(size int) int { return min(max(size/4, 64), 2048) }

// perMessage is what the frame of one message costs, in tokens, in the chat
// templates that are known.
const perMessage = 8

// tokens guesses what a text costs. The scale is what a token of our lower bound
// came to when the model last counted; 0 is not known.
func tokens(text string, scale float64) float64 {
	if text == "" {
		return 0
	}
	least := float64(provider.Estimate([]provider.Message{{Content: text}}))
	if scale > 0 {
		return math.Ceil(least*scale) + perMessage
	}
	return math.Max(least*1.5, float64(len(text))/3) + perMessage
}

// measured is what the newest answer of a model in a conversation tells of its
// context, in tokens, and of how it counts; zeros where there is none.
func measured(all []turn, providerName, model string) (size int, scale float64) {
	for i := len(all) - 1; i >= 0; i-- {
		m := all[i].answer
		if m.Provider != providerName || m.Model != model {
			continue
		}
		u := m.Answer.Usage
		if size == 0 {
			size = m.Answer.Context
		}
		if u.Read > 0 && u.Estimate > 0 {
			return size, 1.1 * float64(u.Read) / float64(u.Estimate)
		}
	}
	return size, 0
}

// mostRecalled bounds what is read of a conversation whose model's context is not
// known, in bytes; turnsRecalled is how many turns are read at a time.
const (
	mostRecalled  = 8 << 20
	turnsRecalled = 50
)

// recalled is as much of a conversation as its model could be given.
type recalled struct {
	turns []turn // at least one, the oldest first
	// size is the context in tokens, 0 unknown; see tokens for scale.
	size  int
	scale float64
}

// recall reads the turns of a conversation that are before one, 0 being its end, as far
// back as its model could read, or until a turn before from is read.
func (c *Chat) recall(ctx context.Context, conversation string, s history.Settings, before, from int) (recalled, error) {
	var r recalled
	var pages [][]turn // the last turns first
	bytes, cost := 0, 0.0
	for {
		messages, more, err := c.o.History.Page(ctx, conversation, before, turnsRecalled)
		if err != nil {
			return r, err
		}
		page := turns(messages)
		if len(page) == 0 {
			return r, fmt.Errorf("the conversation %s has no message", conversation)
		}
		if len(pages) == 0 {
			r.size, r.scale = c.measure(page, s)
		}
		pages = append(pages, page)
		for _, t := range page {
			bytes += len(t.asked) + len(t.answer.Text)
			cost += tokens(t.asked, r.scale) + tokens(t.answer.Text, r.scale)
		}
		if !more || page[0].number < from || r.size > 0 && cost > float64(r.size) || bytes > mostRecalled {
			slices.Reverse(pages)
			r.turns = slices.Concat(pages...)
			return r, nil
		}
		before = page[0].number
	}
}

// Reads is the oldest turn that the model of a conversation would still be given
// with a further, short message: 1 while all of it fits. It is looked for among the
// turns of number from on; where it is before them, what is returned is one of those.
func (c *Chat) Reads(ctx context.Context, known history.Conversation, from int) (int, error) {
	r, err := c.recall(ctx, known.ID, known.Settings, 0, from)
	if err != nil {
		return 0, err
	}
	return compose(known.System, append(r.turns, turn{number: known.Turns + 1}), r.size, r.scale).first, nil
}

// measure is what is known of the context of a conversation's model.
func (c *Chat) measure(all []turn, s history.Settings) (size int, scale float64) {
	size, scale = measured(all, s.Provider, s.Model)
	if c.o.Context == nil {
		return size, scale
	}
	if configured := c.o.Context(s.Provider, s.Model); configured > 0 {
		size = configured
	}
	return size, scale
}
