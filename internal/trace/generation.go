package trace

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	oteltrace "go.opentelemetry.io/otel/trace"

	"davidcockson.com/runner/internal/provider"
)

// Call is one try at a provider, about to be made.
type Call struct {
	// Step and Try count from 1.
	Step, Try int
	// Provider is its configured name, Kind its kind in the configuration.
	Provider, Kind string
	Request        provider.Request
}

// Generation is one try at a provider. A nil one does nothing. It is safe for
// concurrent use.
type Generation struct {
	observation
	started time.Time
	mu      sync.Mutex // guards the two below
	first   time.Time  // zero until a piece came
	usd     *float64   // nil where the cost is not known
}

// Generation begins a generation below the span in ctx. Without one of a Tracer it
// is nil: there is no trace to which it would belong.
func (t *Tracer) Generation(ctx context.Context, c Call) *Generation {
	if t == nil {
		return nil
	}
	gr, ok := ctx.Value(groupKey{}).(*group)
	if !ok {
		return nil
	}
	var a attributes
	a.text("langfuse.observation.type", "generation")
	a.text("gen_ai.operation.name", "chat")
	a.text("gen_ai.provider.name", vendor(c.Kind))
	a.text("langfuse.observation.model.name", c.Request.Model)
	a.text("gen_ai.request.model", c.Request.Model)
	a.parameters(c.Request)
	a.text("langfuse.observation.metadata.provider", c.Provider)
	a.number("langfuse.observation.metadata.step", c.Step)
	a.number("langfuse.observation.metadata.try", c.Try)
	messages, length, kept := conversation(c.Request.Messages)
	t.body(&a, "input", messages, length, kept)
	g := &Generation{observation: observation{t: t, group: gr}, started: time.Now()}
	g.begin(ctx, label("chat "+c.Request.Model), a, oteltrace.WithSpanKind(oteltrace.SpanKindClient), oteltrace.WithTimestamp(g.started))
	return g
}

// vendor is a provider's kind in the words of OpenTelemetry's conventions for
// generative AI, which list none for the local ones.
func vendor(kind string) string {
	if kind == "gemini" {
		return "gcp.gemini"
	}
	return kind
}

// parameters adds what is sent beside model and messages, and nothing else.
func (a *attributes) parameters(r provider.Request) {
	sent := struct {
		Temperature *float64 `json:"temperature,omitempty"`
		MaxTokens   int      `json:"max_tokens,omitempty"`
	}{r.Temperature, r.MaxTokens}
	if sent.Temperature == nil && sent.MaxTokens == 0 {
		return
	}
	a.text("langfuse.observation.model.parameters", encode(sent))
	if r.Temperature != nil {
		*a = append(*a, attribute.Float64("gen_ai.request.temperature", *r.Temperature)) // 0 is one too
	}
	a.number("gen_ai.request.max_tokens", r.MaxTokens)
}

// FirstToken says when the first piece of the answer came. Only the first call
// counts, so that it may be called for each piece.
func (g *Generation) FirstToken(at time.Time) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.first.IsZero() {
		g.first = at
	}
}

// Cost says what the call cost, in US dollars; 0 says that it was free. Without it
// Langfuse computes one from its own prices, where it has any.
func (g *Generation) Cost(usd float64) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.usd = &usd
}

// End ends the generation with what came back, also of a failed call. The first End
// counts, so a deferred one covers a panic.
func (g *Generation) End(answer provider.Answer, err error) {
	if g == nil {
		return
	}
	g.mu.Lock()
	first, usd := g.first, g.usd
	g.mu.Unlock()
	var a attributes
	a.text("langfuse.observation.model.name", answer.Model)
	a.text("gen_ai.response.model", answer.Model)
	if answer.Finish != "" {
		a.list("gen_ai.response.finish_reasons", []string{label(answer.Finish)})
	}
	if !first.IsZero() {
		// Langfuse takes the moment, the conventions the seconds until then.
		a.text("langfuse.observation.completion_start_time", first.UTC().Format(time.RFC3339Nano))
		a.fraction("gen_ai.response.time_to_first_chunk", first.Sub(g.started).Seconds())
	}
	a.usage(answer.Usage)
	if usd != nil {
		a.text("langfuse.observation.cost_details", encode(map[string]float64{"total": *usd}))
	}
	a.text("langfuse.observation.metadata.digest", answer.Digest)
	a.number("langfuse.observation.metadata.context", answer.Context)
	a.fraction("langfuse.observation.metadata.load_seconds", answer.Load.Seconds())
	a.fraction("langfuse.observation.metadata.tokens_per_second", answer.Rate)
	message, length, kept := reply(answer)
	g.t.body(&a, "output", message, length, kept)
	g.end(a, err)
}

// usage adds the counts of tokens that the provider gave. Langfuse's keys must not
// overlap, and without a total it adds them up; with no counts at all it estimates
// by itself, which is better than a zero.
func (a *attributes) usage(u provider.Usage) {
	a.number("langfuse.observation.metadata.estimated_input_tokens", u.Estimate)
	if u.Read == 0 && u.Written == 0 {
		return
	}
	cached, reasoning := min(u.Cached, u.Read), min(u.Reasoning, u.Written)
	a.text("langfuse.observation.usage_details", encode(struct {
		Input     int `json:"input,omitempty"`
		Cached    int `json:"input_cached_tokens,omitempty"`
		Output    int `json:"output,omitempty"`
		Reasoning int `json:"output_reasoning_tokens,omitempty"`
		Total     int `json:"total"`
	}{u.Read - cached, cached, u.Written - reasoning, reasoning, u.Read + u.Written}))
	a.number("gen_ai.usage.input_tokens", u.Read)
	a.number("gen_ai.usage.output_tokens", u.Written)
	a.number("gen_ai.usage.cache_read.input_tokens", cached)
	a.number("gen_ai.usage.reasoning.output_tokens", reasoning)
}

// thought is thinking in the form that Langfuse shows apart from an answer.
type thought struct {
	Type    string `json:"type"`
	Content string `json:"content"`
}

// conversation is messages as JSON, cut to textLimit; length and kept are how many
// characters there were and are.
func conversation(messages []provider.Message) (text string, length, kept int) {
	budget := textLimit
	short := make([]provider.Message, 0, len(messages))
	for _, m := range messages {
		length += characters(m.Content)
		var n int
		m.Content, n, budget = fit(m.Content, budget)
		kept += n
		short = append(short, m)
	}
	if length == 0 {
		return "", 0, 0
	}
	return encode(short), length, kept
}

// reply is an answer as one message of a conversation, cut likewise. It is "" where
// nothing came.
func reply(a provider.Answer) (text string, length, kept int) {
	length = characters(a.Text) + characters(a.Thinking)
	if length == 0 {
		return "", 0, 0
	}
	answer, inAnswer, budget := fit(a.Text, textLimit)
	thinking, inThinking, _ := fit(a.Thinking, budget)
	message := struct {
		provider.Message
		Thinking []thought `json:"thinking,omitempty"`
	}{Message: provider.Message{Role: provider.Assistant, Content: answer}}
	if thinking != "" {
		message.Thinking = []thought{{"thinking", thinking}}
	}
	return encode(message), length, inAnswer + inThinking
}

// encode is value as JSON, "" where it has none, such as a NaN.
func encode(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(data)
}
