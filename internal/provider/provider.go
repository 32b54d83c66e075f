// Package provider is the vocabulary between those who want an answer and the
// model servers that give one: a request, the events while it is answered, the
// answer, and every way in which it may end badly.
//
// It promises that an answer is whole: Ask returns a nil error only when the
// server said by itself that the model had finished, and had read all of the
// prompt. Everything else is an *Error whose Kind a caller decides by, beside an
// Answer that holds what had come until then.
//
// The implementations live in the folders below; providertest is the suite that
// all of them pass. Nothing is stored here.
package provider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

// Provider is one configured model server. Implementations are safe for
// concurrent use and make no retries of their own: one Ask is at most one call
// that a server could bill.
type Provider interface {
	// Ask sends one request and streams its answer into sink, which it calls
	// from one goroutine and never after it has returned. The error is nil or an
	// *Error; the Answer is filled as far as it came in both cases.
	Ask(ctx context.Context, req Request, sink Sink) (Answer, error)
	// Models lists what the server offers now. It spends no tokens.
	Models(ctx context.Context) ([]Model, error)
	// Ping says whether the server can be reached. It spends no tokens. The
	// error is nil or an *Error.
	Ping(ctx context.Context) error
}

// Role names who speaks in a Message.
type Role string

// The roles that every provider knows.
const (
	System    Role = "system"
	User      Role = "user"
	Assistant Role = "assistant"
)

// Message is one turn of what a model is given to read.
type Message struct {
	Role    Role   `json:"role"`
	Content string `json:"content"`
}

// Request is all that a provider needs to know for one answer. What is zero or
// nil is not sent.
type Request struct {
	Model    string    `json:"model"`
	Messages []Message `json:"messages"`
	// Temperature is nil for the server's own.
	Temperature *float64 `json:"temperature,omitempty"`
	// MaxTokens bounds what is written, thinking included; 0 sets no bound.
	MaxTokens int `json:"max_tokens,omitempty"`
}

// Hash names exactly what would be sent to the named provider: two requests of
// one hash may stand for one another. It is 64 hexadecimal digits.
func (r Request) Hash(providerName string) string {
	data, err := json.Marshal(struct {
		Provider string `json:"provider"`
		Request
	}{providerName, r})
	if err != nil { // strings and numbers only; a NaN temperature is refused when a note is read
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Model is one entry of what a provider offers.
type Model struct {
	Name string `json:"name"`
	// Size is in bytes, 0 where the server does not say.
	Size int64 `json:"size,omitempty"`
	// Digest names the weights, "" where the server does not say.
	Digest string `json:"digest,omitempty"`
	// Loaded says that the model is in memory now.
	Loaded bool `json:"loaded,omitempty"`
}

// SameModel compares two names as Ollama does: without regard to case, and ":latest" is
// implied (https://docs.ollama.com/api, "Model names").
func SameModel(a, b string) bool { return strings.EqualFold(baseName(a), baseName(b)) }

func baseName(model string) string {
	if at := len(model) - len(":latest"); at > 0 && strings.EqualFold(model[at:], ":latest") {
		return model[:at]
	}
	return model
}

// Usage counts tokens. A zero means that the server did not say.
type Usage struct {
	// Estimate is our own lower bound for the tokens of the prompt.
	Estimate int `json:"estimate,omitempty"`
	// Read is how many tokens of prompt the server says it read.
	Read int `json:"read,omitempty"`
	// Cached is the part of Read that the server had read before.
	Cached int `json:"cached,omitempty"`
	// Written is how many tokens the server says it wrote, thinking included.
	Written int `json:"written,omitempty"`
	// Reasoning is the part of Written that was thinking.
	Reasoning int `json:"reasoning,omitempty"`
}

// Answer is what came back. Of a failed Ask it holds what came before the
// failure.
type Answer struct {
	// Text is the answer alone, Thinking what the model thought beside it.
	Text     string `json:"text"`
	Thinking string `json:"thinking,omitempty"`
	// Provider is the configured name, Model the name by which the server
	// answered, Digest the weights it says it used ("" where unknown).
	Provider string `json:"provider"`
	Model    string `json:"model"`
	Digest   string `json:"digest,omitempty"`
	// Finish is the server's own word for the end, "" when it gave none.
	Finish string `json:"finish,omitempty"`
	Usage  Usage  `json:"usage"`
	// Context is the size of the model's context in tokens, 0 where unknown.
	Context int `json:"context,omitempty"`
	// Load is the time spent on loading the model, FirstToken from the request
	// for the answer (after the load) to its first piece, Took the whole call.
	Load       time.Duration `json:"load,omitempty"`
	FirstToken time.Duration `json:"first_token,omitempty"`
	Took       time.Duration `json:"took"`
	// Rate is tokens written a second as the server measured them, 0 unknown.
	Rate float64 `json:"rate,omitempty"`
	// Started is the wall-clock time of the call.
	Started time.Time `json:"started"`
}

// EventKind says which fields of an Event are filled.
type EventKind string

// The kinds of events.
const (
	PhaseEvent    EventKind = "phase"    // Phase
	StepEvent     EventKind = "step"     // Step, Text: its title
	TextEvent     EventKind = "text"     // Text: a further piece of the answer
	ThinkingEvent EventKind = "thinking" // Text: a further piece of the thinking
	UsageEvent    EventKind = "usage"    // Usage
	EndEvent      EventKind = "end"      // Text: "stop", or the failure's kind
)

// Phase is what a call is busy with while no text comes.
type Phase string

// The phases, in their order.
const (
	Waiting    Phase = "waiting"    // in line for a place at the provider
	Connecting Phase = "connecting" // looking whether the server answers
	Loading    Phase = "loading"    // the server loads the model
	Reading    Phase = "reading"    // the server reads the prompt
	Answering  Phase = "answering"  // text or thinking comes
)

// Event is one thing that happened while an answer was made.
type Event struct {
	Kind  EventKind `json:"kind"`
	Phase Phase     `json:"phase,omitempty"`
	// Step counts from 1; 0 where the job has no steps.
	Step  int    `json:"step,omitempty"`
	Text  string `json:"text,omitempty"`
	Usage *Usage `json:"usage,omitempty"`
}

// Sink takes events. It must not block.
type Sink func(Event)
