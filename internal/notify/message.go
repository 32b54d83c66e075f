package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"davidcockson.com/runner/internal/ledger"
)

// Message is what a ping tells. Whatever is zero is left out.
type Message struct {
	// Title, JobID and Note name the job: its title, its id, and its note's path
	// in the vault. The first that is set heads the ping.
	Title, JobID, Note string
	// State is one of the ledger's kinds of pings.
	State string
	// Reason and Advice say why and what to do.
	Reason, Advice           string
	JobType, Provider, Model string
	Attempt, Steps           int
	TokensRead               int
	TokensWritten            int
	// Took is the time of the run, Queued the time before it.
	Took, Queued time.Duration
	// Output is the output note's path in the vault, NoteLink the obsidian:// URI
	// of what the owner would open, TraceURL an address of http or https.
	Output, NoteLink, TraceURL string
	// Unaccounted counts the calls that may have been billed and are not in Output.
	Unaccounted int
	At          time.Time
}

// Discord's limits on an embed, in characters, from "Embed Limits" of its
// documentation; spaces around a text are not counted.
const (
	mostTitle       = 256
	mostDescription = 4096
	mostValue       = 1024
	mostTogether    = 6000
)

// mostPath and mostName keep one value from taking the room of the reason.
const (
	mostPath = 600
	mostName = 128
)

type payload struct {
	Embeds          []embed         `json:"embeds"`
	AllowedMentions allowedMentions `json:"allowed_mentions"`
}

// allowedMentions with an empty list, not a missing one, turns all mentions off.
type allowedMentions struct {
	Parse []string `json:"parse"`
}

type embed struct {
	Title       string  `json:"title"`
	Description string  `json:"description,omitempty"`
	Color       int     `json:"color"`
	Timestamp   string  `json:"timestamp,omitempty"`
	Fields      []field `json:"fields,omitempty"`
}

type field struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Inline bool   `json:"inline,omitempty"`
}

// look is how a state shows: a word and a colour, 0xRRGGBB, since a colour alone
// tells nothing to who cannot see it, or to a notification.
func look(state ledger.PingKind) (word string, color int, ok bool) {
	switch state {
	case ledger.PingCompleted:
		return "Completed", 0x2e7d32, true
	case ledger.PingFailed:
		return "Failed", 0xc62828, true
	case ledger.PingCancelled:
		return "Cancelled", 0x616161, true
	case ledger.PingHeld:
		return "Held", 0xf9a825, true
	case ledger.PingDuplicate:
		return "Duplicate", 0x1565c0, true
	case ledger.PingUnfinished:
		return "Unfinished", 0xf9a825, true
	case ledger.PingConflict:
		return "Conflict copy", 0xef6c00, true
	}
	return "", 0, false
}

// Payload is a message as the JSON that Discord takes: one embed within all of
// its limits, mentions off. An unknown State is an error.
func Payload(m Message) ([]byte, error) {
	word, color, ok := look(ledger.PingKind(m.State))
	if !ok {
		return nil, fmt.Errorf("make a ping: no state is called %q", m.State)
	}
	e := embed{Title: heading(word, m), Color: color, Fields: fields(m)}
	if !m.At.IsZero() {
		e.Timestamp = m.At.UTC().Format(time.RFC3339)
	}
	room := mostTogether - size(e.Title)
	for _, f := range e.Fields {
		room -= size(f.Name) + size(f.Value)
	}
	e.Description = description(m, min(room, mostDescription))
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // no browser reads it as a page
	if err := encoder.Encode(payload{Embeds: []embed{e}, AllowedMentions: allowedMentions{Parse: []string{}}}); err != nil {
		return nil, fmt.Errorf("make a ping: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

func heading(word string, m Message) string {
	for _, name := range []string{m.Title, m.Note, m.JobID} {
		if name = prose(name, mostTitle-len(word+": ")); name != "" {
			return word + ": " + name
		}
	}
	return word
}

func description(m Message, most int) string {
	const label = "\n**What to do:** "
	advice := prose(m.Advice, most/3)
	if advice != "" {
		most -= size(label) + size(advice)
	}
	reason := prose(m.Reason, most)
	switch {
	case advice == "":
		return reason
	case reason == "":
		return strings.TrimSpace(label + advice)
	}
	return reason + label + advice
}

// fields lists the values that are set. An empty value would be refused.
func fields(m Message) []field {
	var all []field
	add := func(name, value string, inline bool) {
		if value != "" {
			all = append(all, field{name, value, inline})
		}
	}
	add("Note", code(m.Note, mostPath), false)
	add("Job", code(m.JobID, mostName), true)
	add("Asked", asked(m), true)
	add("Attempt", number(m.Attempt), true)
	add("Steps", number(m.Steps), true)
	if m.TokensRead > 0 || m.TokensWritten > 0 {
		add("Tokens", fmt.Sprintf("%d read, %d written", m.TokensRead, m.TokensWritten), true)
	}
	add("Took", span(m.Took), true)
	add("Waited", span(m.Queued), true)
	if m.Unaccounted > 0 {
		calls := "calls"
		if m.Unaccounted == 1 {
			calls = "call"
		}
		add("Not in the output", fmt.Sprintf("%d %s that may have been billed", m.Unaccounted, calls), true)
	}
	add("Output", code(m.Output, mostPath), false)
	// Discord makes no link of a scheme other than http, https and its own, and
	// refuses it as the embed's url: the owner copies it.
	if link := code(m.NoteLink, len(m.NoteLink)+len("``")); size(link) <= mostValue { // one that is cut opens nothing
		add("In Obsidian", link, false)
	}
	add("Trace", trace(m.TraceURL), false)
	return all
}

func asked(m Message) string {
	who := m.Provider
	if m.Model != "" {
		who = strings.TrimPrefix(who+" / "+m.Model, " / ")
	}
	parts := []string{code(m.JobType, mostName), code(who, 2*mostName)}
	if parts[0] == "" || parts[1] == "" {
		return parts[0] + parts[1]
	}
	return parts[0] + " by " + parts[1]
}

func number(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// span is a duration as one reads it, "" for none.
func span(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < 10*time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// trace is a link to the trace, "" where the address is none or too long.
func trace(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	// Neither may end the link before its end.
	text := strings.NewReplacer("(", "%28", ")", "%29", "<", "%3C", ">", "%3E", "`", "%60", `\`, "%5C", "|", "%7C", "*", "%2A").Replace(u.String())
	link := "[open](" + text + ")"
	if clean(link) != link || size(link) > mostValue {
		return ""
	}
	return link
}
