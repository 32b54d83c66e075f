// Package openai asks a server that speaks OpenAI's chat completions, as Groq and
// many others do, through OpenAI's own client.
//
// It promises that an answer is whole: the server gave the finish reason "stop",
// and some text came. An answer that was cut, withheld, empty, or ended without
// a finish reason is a failure that keeps what had come. Thinking is kept apart
// from the text under either name that servers have for it. Messages are sent as
// they are, and no tools are offered.
//
// The client below repeats nothing, asks no environment for keys or addresses,
// and never holds the key. Rate-limit headers are handed on as a pace before they
// are felt. It fails with the kinds of package provider, and stores nothing.
package openai

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	client "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/wire"
	"davidcockson.com/runner/internal/secret"
)

// Config describes one account at one server.
type Config struct {
	// Name is the provider's name in the configuration.
	Name string
	// BaseURL is what comes before /chat/completions and /models, http or https,
	// such as https://api.groq.com/openai/v1.
	BaseURL string
	// Key is sent as a bearer token; the zero Key for a server that wants none.
	Key       secret.Key
	Deadlines provider.Deadlines
	// Version is ours, for the server's log. It may be "".
	Version string
	// Paced is told when the server's limits leave no room for a further call. It
	// must not block, and may be nil.
	Paced func(provider.Pace)
}

// Provider is one account. It is safe for concurrent use.
type Provider struct {
	name      string
	key       secret.Key
	deadlines provider.Deadlines
	paced     func(provider.Pace)
	transport *wire.Transport
	chats     client.ChatCompletionService
	models    client.ModelService
}

var _ provider.Provider = (*Provider)(nil)

// New checks the configuration. It reaches for nothing on the network.
func New(c Config) (*Provider, error) {
	base, err := wire.ParseURL(c.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", c.Name, err)
	}
	p := &Provider{name: c.Name, key: c.Key, deadlines: c.Deadlines, paced: c.Paced}
	if p.paced == nil {
		p.paced = func(provider.Pace) {}
	}
	through, transport := wire.NewClient(c.Deadlines.Connect, func(h http.Header) {
		h.Set("User-Agent", wire.Agent(c.Version))
		if !c.Key.IsZero() {
			h.Set("Authorization", "Bearer "+c.Key.Reveal())
		}
	})
	p.transport = transport
	// The services alone: the whole client would read keys, addresses and
	// accounts from the environment.
	options := []option.RequestOption{option.WithBaseURL(base.String()), option.WithHTTPClient(through), option.WithMaxRetries(0)}
	p.chats, p.models = client.NewChatCompletionService(options...), client.NewModelService(options...)
	return p, nil
}

// Models lists what the server offers to the account.
func (p *Provider) Models(ctx context.Context) ([]provider.Model, error) {
	list, err := p.list(ctx, &wire.Deadline{Length: p.deadlines.FirstByte, What: "no list of models within %s", Key: "first_byte"})
	if err != nil {
		return nil, wire.Named(p.name, err, "")
	}
	models := make([]provider.Model, 0, len(list))
	for _, m := range list {
		models = append(models, provider.Model{Name: m.ID})
	}
	return models, nil
}

// Ping asks for the list of models, within the limit for connecting: it costs
// nothing, and is refused to a wrong key.
func (p *Provider) Ping(ctx context.Context) error {
	_, err := p.list(ctx, &wire.Deadline{Length: p.deadlines.Connect, What: "no answer within %s", Key: "connect"})
	return wire.Named(p.name, err, "")
}

// list asks for all models. The API knows no pages for them.
func (p *Provider) list(ctx context.Context, d *wire.Deadline) ([]client.Model, error) {
	call := wire.NewReply(ctx, d)
	defer call.Stop()
	page, err := p.models.List(call.Context())
	if failure := p.failure(call, err, provider.Request{}); failure != nil {
		failure.Sent = false // a list is never billed
		return nil, failure
	}
	if page == nil || !page.JSON.Data.Valid() || slices.ContainsFunc(page.Data, func(m client.Model) bool { return m.ID == "" }) {
		return nil, &provider.Error{Kind: provider.Malformed, Reason: "the server answered with status 200, but not with a list of models", Advice: wire.AdviceURL}
	}
	return page.Data, nil
}

// failure explains what a call came to, nil for a success. err is the client's
// own, which may quote what was sent and what came: it is not even kept for the log.
func (p *Provider) failure(call *wire.Call, err error, req provider.Request) *provider.Error {
	if r := call.Refusal(); r != nil {
		e := p.refusal(r)
		p.slowed(e, r.Header, req)
		return e
	}
	return call.Failure(err, p.deadlines.Connect)
}

// Ask sends the request, as the package comment says.
func (p *Provider) Ask(ctx context.Context, req provider.Request, sink provider.Sink) (provider.Answer, error) {
	c := &call{p: p, req: req, draft: wire.NewDraft(p.name, req, sink)}
	err := wire.Named(p.name, c.run(ctx), req.Model)
	return c.draft.End(err), err
}
