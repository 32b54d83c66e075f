// Package gemini asks Google's Gemini API through Google's own client.
//
// It promises that an answer is whole: the server gave the finish reason STOP
// behind its last piece, and some text came. An answer that was cut, withheld for
// safety or recitation, empty, or ended without a finish reason is a failure that
// keeps what had come and names the cause. System messages become the system
// instruction; thinking is left as the model has it, and kept apart.
//
// The client below repeats nothing, continues nothing by a further request, asks
// no environment for keys or addresses, and never holds the key. It fails with
// the kinds of package provider, and stores nothing.
package gemini

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/genai"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/wire"
	"davidcockson.com/runner/internal/secret"
)

const (
	// defaultURL is the public server.
	defaultURL = "https://generativelanguage.googleapis.com"
	// placeholder is what the client takes for its key; the transport replaces it.
	placeholder = "set by the transport"
	// maxPages bounds the list of models, at pageSize models a page.
	maxPages = 10
	pageSize = 1000
)

// Config describes one account.
type Config struct {
	// Name is the provider's name in the configuration.
	Name string
	// BaseURL is the server's root, http or https; "" for Google's own.
	BaseURL string
	// Key is sent in the header x-goog-api-key. It must be set.
	Key       secret.Key
	Deadlines provider.Deadlines
	// Version is ours, for the server's log. It may be "".
	Version string
	// Paced is told when the server refused for want of room and said for how
	// long. It must not block, and may be nil.
	Paced func(provider.Pace)
}

// Provider is one account. It is safe for concurrent use.
type Provider struct {
	name      string
	key       secret.Key
	deadlines provider.Deadlines
	paced     func(provider.Pace)
	transport *wire.Transport
	models    *genai.Models
}

var _ provider.Provider = (*Provider)(nil)

// New checks the configuration. It reaches for nothing on the network.
func New(c Config) (*Provider, error) {
	base, err := wire.ParseURL(cmp.Or(c.BaseURL, defaultURL))
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", c.Name, err)
	}
	if c.Key.IsZero() {
		return nil, fmt.Errorf("provider %s: an API key is needed", c.Name)
	}
	p := &Provider{name: c.Name, key: c.Key, deadlines: c.Deadlines, paced: c.Paced}
	if p.paced == nil {
		p.paced = func(provider.Pace) {}
	}
	through, transport := wire.NewClient(c.Deadlines.Connect, func(h http.Header) {
		h.Set("User-Agent", wire.Agent(c.Version))
		h.Set("X-Goog-Api-Key", c.Key.Reveal())
	})
	// What is set here is not looked for in the environment.
	inner, err := genai.NewClient(context.Background(), &genai.ClientConfig{
		Backend:    genai.BackendGeminiAPI,
		APIKey:     placeholder,
		HTTPClient: through,
		HTTPOptions: genai.HTTPOptions{
			BaseURL: base.String(), APIVersion: "v1beta", RetryOptions: &genai.HTTPRetryOptions{Attempts: genai.Ptr[int32](1)},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("provider %s: the client of Gemini cannot be made", c.Name) // its error prints its configuration
	}
	p.transport, p.models = transport, inner.Models
	return p, nil
}

// Models lists the models that can answer a prompt.
func (p *Provider) Models(ctx context.Context) ([]provider.Model, error) {
	var models []provider.Model
	token := ""
	for range maxPages {
		d := &wire.Deadline{Length: p.deadlines.FirstByte, What: "no list of models within %s", Key: "first_byte"}
		page, err := p.page(ctx, d, token, pageSize)
		if err != nil {
			return nil, wire.Named(p.name, err, "")
		}
		for _, m := range page.Items {
			if slices.Contains(m.SupportedActions, "generateContent") {
				models = append(models, provider.Model{Name: strings.TrimPrefix(m.Name, "models/")})
			}
		}
		if token = page.NextPageToken; token == "" {
			return models, nil
		}
	}
	return nil, wire.Named(p.name, &provider.Error{
		Kind: provider.Malformed, Reason: fmt.Sprintf("the list of models has no end after %d pages", maxPages),
	}, "")
}

// Ping asks for the first model of the list, within the limit for connecting: it
// costs nothing, and is refused to a wrong key.
func (p *Provider) Ping(ctx context.Context) error {
	_, err := p.page(ctx, &wire.Deadline{Length: p.deadlines.Connect, What: "no answer within %s", Key: "connect"}, "", 1)
	return wire.Named(p.name, err, "")
}

// page asks for one page of the list of models.
func (p *Provider) page(ctx context.Context, d *wire.Deadline, token string, size int32) (genai.Page[genai.Model], error) {
	call := wire.NewReply(ctx, d)
	defer call.Stop()
	page, err := p.models.List(call.Context(), &genai.ListModelsConfig{PageToken: token, PageSize: size})
	if e := p.failure(call, err, provider.Request{}); e != nil {
		e.Sent = false // a list is never billed
		return page, e
	}
	if len(page.Items) == 0 || slices.ContainsFunc(page.Items, func(m *genai.Model) bool { return m == nil || m.Name == "" }) {
		return page, &provider.Error{Kind: provider.Malformed, Reason: "the server answered with status 200, but not with a list of models", Advice: wire.AdviceURL}
	}
	return page, nil
}

// failure explains what a call came to, nil for a success. err is the client's
// own, which quotes what was sent and what came: it is not even kept for the log.
func (p *Provider) failure(call *wire.Call, err error, req provider.Request) *provider.Error {
	if r := call.Refusal(); r != nil {
		e := p.refusal(r, provider.Estimate(req.Messages))
		if e.Kind == provider.Busy && e.RetryAfter > 0 {
			p.paced(provider.Pace{Until: time.Now().Add(e.RetryAfter), Reason: e.Reason})
		}
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
