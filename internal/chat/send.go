package chat

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/provider"
)

// Post is a message of the owner's. Provider and Model may be "": the
// conversation's, or the configuration's first. System, "" for none, and Temperature,
// nil for the server's own, come with a conversation's first message; later they are
// changed by Settings.
type Post struct {
	Provider, Model, Text string
	System                string
	Temperature           *float64
}

// Turn names an answer that was begun.
type Turn struct {
	Conversation string `json:"conversation"`
	Turn         int    `json:"turn"`    // from 1
	Version      int    `json:"version"` // from 1
	Provider     string `json:"provider"`
	Model        string `json:"model"`
}

// Send adds a message to a conversation and begins the answer. An id that is not in
// use begins a conversation. The errors that the sender can mend are *Invalid,
// ErrRunning, history.ErrDeleted and ErrStopping.
func (c *Chat) Send(ctx context.Context, conversation string, p Post) (Turn, error) {
	if !ValidID(conversation) {
		return Turn{}, &Invalid{"id", "a conversation's id is 1 to 64 of a to z, 0 to 9 and dash"}
	}
	text := strings.TrimSpace(p.Text)
	switch {
	case text == "":
		return Turn{}, &Invalid{"text", "the message is empty"}
	case len(text) > MaxText:
		return Turn{}, &Invalid{"text", fmt.Sprintf("the message is longer than %d KiB; put it into a note and queue it as a job", MaxText>>10)}
	case !utf8.ValidString(text):
		return Turn{}, &Invalid{"text", "the message is not valid UTF-8"}
	}
	known, err := c.o.History.Conversation(ctx, conversation)
	fresh := errors.Is(err, history.ErrUnknown)
	if err != nil && !fresh {
		return Turn{}, err
	}
	settings := known.Settings
	switch {
	case fresh:
		settings.Title, settings.System, settings.Temperature = Title(text), p.System, p.Temperature
		if err := valid(settings); err != nil {
			return Turn{}, err
		}
	case p.System != "":
		return Turn{}, &Invalid{"system", "this conversation has begun: its system prompt is changed in its settings"}
	case p.Temperature != nil:
		return Turn{}, &Invalid{"temperature", "this conversation has begun: its temperature is changed in its settings"}
	}
	if settings.Provider, settings.Model, err = c.choose(ctx, p.Provider, p.Model, settings); err != nil {
		return Turn{}, err
	}
	return c.begin(ctx, question{conversation: conversation, settings: settings, known: known.Turns, text: text})
}

// Again begins a further version of the answer to the conversation's last message,
// number turn. What was answered before stays.
func (c *Chat) Again(ctx context.Context, conversation string, number int, p Post) (Turn, error) {
	known, err := c.o.History.Conversation(ctx, conversation)
	if err != nil {
		return Turn{}, err
	}
	if number != known.Turns {
		return Turn{}, ErrNoTurn
	}
	settings := known.Settings
	if settings.Provider, settings.Model, err = c.choose(ctx, p.Provider, p.Model, settings); err != nil {
		return Turn{}, err
	}
	return c.begin(ctx, question{conversation: conversation, settings: settings, known: number})
}

// Settings changes what the owner may set of a conversation: title, system prompt
// and temperature. They hold from the next message on.
func (c *Chat) Settings(ctx context.Context, conversation string, s history.Settings) error {
	known, err := c.o.History.Conversation(ctx, conversation)
	if err != nil {
		return err
	}
	s.Provider, s.Model = known.Provider, known.Model
	if s.Title = strings.Join(strings.Fields(s.Title), " "); s.Title == "" {
		s.Title = known.Title
	}
	if err := valid(s); err != nil {
		return err
	}
	return c.o.History.Change(ctx, conversation, s, time.Now())
}

// valid is nil or an *Invalid.
func valid(s history.Settings) error {
	switch {
	case utf8.RuneCountInString(s.Title) > 200:
		return &Invalid{"title", "the title is longer than 200 letters"}
	case len(s.System) > MaxText:
		return &Invalid{"system", fmt.Sprintf("the system prompt is longer than %d KiB", MaxText>>10)}
	case s.Temperature != nil && (math.IsNaN(*s.Temperature) || *s.Temperature < 0 || *s.Temperature > 2):
		return &Invalid{"temperature", "the temperature is a number from 0 to 2"}
	}
	return nil
}

// Delete hides a conversation, then stops its running answer: whoever hears of that
// end finds it gone.
func (c *Chat) Delete(ctx context.Context, conversation string) error {
	if _, err := c.o.History.Conversation(ctx, conversation); err != nil {
		return err
	}
	if err := c.o.History.Delete(ctx, conversation, time.Now()); err != nil {
		return err
	}
	c.Stop(conversation)
	return nil
}

// choose completes who is to be asked, and refuses who cannot be.
func (c *Chat) choose(ctx context.Context, providerName, model string, s history.Settings) (string, string, error) {
	if providerName == "" {
		providerName = s.Provider
	}
	if providerName == "" {
		providerName = c.o.Hosts[0].Name
	}
	h, ok := c.hosts[providerName]
	if !ok {
		return "", "", &Invalid{"provider", fmt.Sprintf("the provider %q is not configured; there are %s", providerName, strings.Join(c.names(), ", "))}
	}
	if model == "" && providerName == s.Provider {
		model = s.Model
	}
	if model == "" && len(h.Models) > 0 {
		model = h.Models[0]
	}
	if model == "" {
		offered, err := h.Provider.Models(ctx)
		if err != nil {
			return "", "", &Invalid{"model", fmt.Sprintf("name a model: %s lists none now (%v)", h.Name, err)}
		}
		if len(offered) == 0 {
			return "", "", &Invalid{"model", h.Name + " has no model"}
		}
		model = askable(nil, offered)[0].Name
	}
	if len(h.Models) == 0 {
		return providerName, model, nil
	}
	// What is not in the configuration is refused with the words that a job gets. A
	// paid model, moreover, might have no price, and its cost would not be counted.
	at := slices.IndexFunc(h.Models, func(m string) bool { return provider.SameModel(m, model) })
	if at < 0 {
		return "", "", &Invalid{"model", fmt.Sprintf("%q is not among the models of %s: %s", model, h.Name, strings.Join(h.Models, ", "))}
	}
	return providerName, h.Models[at], nil
}

func (c *Chat) names() []string {
	var all []string
	for _, h := range c.o.Hosts {
		all = append(all, h.Name)
	}
	return all
}

// Title makes the title of a conversation of its first message: its first words.
func Title(text string) string {
	const most = 60 // letters
	title := ""
	for _, word := range strings.Fields(text) {
		longer := strings.TrimSpace(title + " " + word)
		if utf8.RuneCountInString(longer) > most {
			if title == "" {
				return string([]rune(word)[:most-1]) + "…"
			}
			return title + "…"
		}
		title = longer
	}
	return title
}
