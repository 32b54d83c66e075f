package ollama

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/wire"
)

// chatRequest is the body of /api/chat. Without messages it only loads the
// model. There is no field "think": its absence leaves a model as it was made,
// and true would be refused by those that cannot.
type chatRequest struct {
	Model    string             `json:"model"`
	Messages []provider.Message `json:"messages,omitempty"`
	Stream   bool               `json:"stream"`
	// Both must be sent and stand beside the options. Truncate would drop the
	// head of a prompt that is too long, Shift that of one which becomes too
	// long while the answer is written; neither would be told.
	Truncate bool    `json:"truncate"`
	Shift    bool    `json:"shift"`
	Options  options `json:"options"`
}

type options struct {
	NumCtx      int      `json:"num_ctx"`
	Temperature *float64 `json:"temperature,omitempty"`
	NumPredict  int      `json:"num_predict,omitempty"`
}

// call is one Ask on its way. It belongs to one goroutine.
type call struct {
	p              *Provider
	req            provider.Request
	sink           provider.Sink
	answer         provider.Answer
	own            int // the model's own context in tokens, 0 where unknown
	asked          time.Time
	text, thinking strings.Builder
}

func newCall(p *Provider, req provider.Request, sink provider.Sink) *call {
	c := &call{p: p, req: req, sink: sink}
	c.answer = provider.Answer{Provider: p.name, Model: req.Model, Started: time.Now()}
	c.answer.Usage.Estimate = provider.Estimate(req.Messages)
	return c
}

// run makes the call from connecting to the verdict.
func (c *call) run(ctx context.Context) (err error) {
	if len(c.req.Messages) == 0 {
		return &provider.Error{Kind: provider.Refused, Reason: "the request has no messages"}
	}
	c.phase(provider.Connecting)
	if c.answer.Digest, err = c.p.digest(ctx, c.req.Model); err != nil {
		return unsent(err)
	}
	if c.own, err = c.p.ownContext(ctx, c.req.Model, c.answer.Digest); err != nil {
		return unsent(err)
	}
	c.answer.Context = c.p.numCtx(c.req.Model, c.own)
	if c.answer.Usage.Estimate >= c.answer.Context {
		return &provider.Error{
			Kind: provider.TooLong,
			Reason: fmt.Sprintf("the prompt, at least %d tokens long, does not fit the context of %d tokens (num_ctx)",
				c.answer.Usage.Estimate, c.answer.Context),
			Advice: c.adviceContext(),
		}
	}
	c.phase(provider.Loading)
	if err := c.load(ctx); err != nil {
		return unsent(err)
	}
	c.phase(provider.Reading)
	return c.ask(ctx)
}

// unsent marks an error of a step that spends no tokens.
func unsent(err error) error {
	if e, ok := errors.AsType[*provider.Error](err); ok {
		e.Sent = false
	}
	return err
}

func (c *call) load(ctx context.Context) error {
	begin := time.Now()
	var reply chunk
	d := &wire.Deadline{Length: c.p.deadlines.Load, What: "the model was not loaded within %s", Key: "load"}
	err := c.p.fetch(ctx, d, http.MethodPost, "api/chat", chatRequest{
		Model:   c.req.Model,
		Options: options{NumCtx: c.answer.Context},
	}, &reply)
	c.answer.Load = time.Since(begin)
	if e, ok := errors.AsType[*provider.Error](err); ok {
		if e.Kind == provider.Failed {
			e.Reason = "the model could not be loaded: " + e.Reason
		}
		return err
	}
	if reply.DoneReason != "load" {
		return &provider.Error{Kind: provider.Malformed, Reason: "the server did not say that it loaded the model"}
	}
	return nil
}

// ask sends the prompt and reads the answer.
func (c *call) ask(ctx context.Context) error {
	c.asked = time.Now()
	firstByte := &wire.Deadline{Length: c.p.deadlines.ForPrompt(c.answer.Usage.Estimate), What: "no first byte within %s after the model was loaded", Key: "first_byte"}
	w := wire.NewWatch(ctx, firstByte)
	defer w.Stop()
	resp, err := c.p.send(w, http.MethodPost, "api/chat", chatRequest{
		Model:    c.req.Model,
		Messages: c.req.Messages,
		Stream:   true,
		Options:  options{c.answer.Context, c.req.Temperature, c.req.MaxTokens},
	})
	if err != nil {
		if e, ok := errors.AsType[*provider.Error](err); ok && e.Kind == provider.TooLong {
			e.Reason = fmt.Sprintf("the server says that the prompt does not fit the context of %d tokens (num_ctx)", c.answer.Context)
			e.Advice = c.adviceContext()
		}
		return err
	}
	defer resp.Body.Close()
	var last chunk
	silence := &wire.Deadline{Length: c.p.deadlines.Silence, What: "no further piece of the answer within %s", Key: "silence"}
	err = readStream(&watched{resp.Body, w, silence}, func(next chunk) {
		c.take(next)
		last = next
	})
	if err != nil {
		return broken(w, err)
	}
	return c.judge(last)
}

// watched gives the server a new deadline with each piece that it sends.
type watched struct {
	io.Reader
	watch   *wire.Watch
	silence *wire.Deadline
}

func (r *watched) Read(data []byte) (int, error) {
	n, err := r.Reader.Read(data)
	if n > 0 {
		r.watch.Within(r.silence)
	}
	return n, err
}

// broken explains a stream that ended without its end marker.
func broken(w *wire.Watch, err error) error {
	e := &provider.Error{Kind: provider.Malformed, Reason: err.Error(), Sent: true, Cause: err}
	said, ok := errors.AsType[lineError](err)
	switch {
	case ok:
		e.Kind, e.Reason = provider.Failed, "the server failed during the answer: "+clean(string(said))
	case errors.Is(err, errMalformed):
		e.Reason = errMalformed.Error() // its cause quotes the server
	case errors.Is(err, errLongLine), errors.Is(err, errTooMuch):
	case w.Err() != nil:
		e = w.Ended()
		e.Sent = true
	case errors.Is(err, errNoEnd):
		e.Kind = provider.Unfinished
		e.Advice = "Ollama ends an answer like this when the model repeats itself: try another temperature, prompt or model"
	default:
		e.Kind, e.Reason = provider.Unfinished, "connection lost in the middle of the answer"
	}
	return e
}

// take passes one line on.
func (c *call) take(next chunk) {
	c.answer.Model = cmp.Or(next.Model, c.answer.Model)
	if next.Message.Content != "" || next.Message.Thinking != "" {
		if c.answer.FirstToken == 0 {
			c.answer.FirstToken = max(time.Since(c.asked), 1)
			c.phase(provider.Answering)
		}
		if piece := next.Message.Thinking; piece != "" {
			c.thinking.WriteString(piece)
			c.sink(provider.Event{Kind: provider.ThinkingEvent, Text: piece})
		}
		if piece := next.Message.Content; piece != "" {
			c.text.WriteString(piece)
			c.sink(provider.Event{Kind: provider.TextEvent, Text: piece})
		}
	}
	if !next.Done {
		return
	}
	c.answer.Finish = next.DoneReason
	c.answer.Usage.Read = int(next.PromptEvalCount)
	c.answer.Usage.Written = int(next.EvalCount)
	if next.EvalDuration > 0 {
		c.answer.Rate = float64(next.EvalCount) / (float64(next.EvalDuration) / float64(time.Second))
	}
	usage := c.answer.Usage
	c.sink(provider.Event{Kind: provider.UsageEvent, Usage: &usage})
}

func (c *call) phase(p provider.Phase) {
	c.sink(provider.Event{Kind: provider.PhaseEvent, Phase: p})
}

// finish completes the answer and sends the last event. Text loses the blank
// that some models begin with; the events keep it.
func (c *call) finish(err error) provider.Answer {
	c.answer.Text = strings.TrimLeftFunc(c.text.String(), unicode.IsSpace)
	c.answer.Thinking = c.thinking.String()
	c.answer.Took = time.Since(c.answer.Started)
	c.sink(provider.Event{Kind: provider.EndEvent, Text: cmp.Or(string(provider.KindOf(err)), "stop")})
	return c.answer
}

// adviceContext says which of prompt and answer fills the context, and how far
// num_ctx can still be raised.
func (c *call) adviceContext() string {
	first := "shorten the prompt"
	if c.answer.Usage.Written > c.answer.Usage.Read {
		first = "ask for a shorter answer"
	}
	switch {
	case c.own == 0:
		return first + ", or raise num_ctx of this model in the configuration"
	case c.answer.Context >= c.own:
		return fmt.Sprintf("%s: this model was made for %d tokens at most", first, c.own)
	}
	return fmt.Sprintf("%s, or raise num_ctx of this model in the configuration (%d at most)", first, c.own)
}
