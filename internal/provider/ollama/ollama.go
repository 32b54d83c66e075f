// Package ollama asks a model server that speaks Ollama's native API.
//
// It promises that an answer is whole: the server's last line said "done" with
// "stop", some text came, and the number of tokens that the server read is not
// below what the prompt must have. Prompts are never cut: truncate and shift are
// false, num_ctx is always sent, and is the same for every request for a model,
// so that no caller makes the server load it anew.
//
// A model is loaded first, by a request without messages and with its own limit:
// Ollama aborts a load when its client goes away. Thinking is left as the model
// has it (on for those that can) and kept apart from the text.
//
// It fails with the kinds of package provider. Nothing is retried, and nothing is
// kept but the own context size of each model.
package ollama

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/wire"
	"davidcockson.com/runner/internal/secret"
)

// Config describes one host.
type Config struct {
	// Name is the provider's name in the configuration.
	Name string
	// URL is the server's root, http or https, such as http://davas:11434. It
	// may have a path, where a proxy puts Ollama below one.
	URL string
	// Key is for a proxy in front that asks for one, and is sent as a bearer token;
	// Ollama itself asks for none. Zero sends none.
	Key       secret.Key
	Deadlines provider.Deadlines
	// Contexts is num_ctx in tokens by model. A model that is not in it gets
	// 8192; each gets no more than it was made for.
	Contexts map[string]int
	// Version is ours, for the server's log. It may be "".
	Version string
}

// Provider is one host. It is safe for concurrent use.
type Provider struct {
	name      string
	base      *url.URL
	client    *http.Client
	deadlines provider.Deadlines
	contexts  map[string]int // by canonical name
	key       secret.Key
	agent     string

	mu        sync.Mutex
	described map[string]described // by canonical name; guarded by mu
}

var _ provider.Provider = (*Provider)(nil)

// New checks the configuration. It reaches for nothing on the network.
func New(c Config) (*Provider, error) {
	base, err := wire.ParseURL(c.URL)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", c.Name, err)
	}
	d := c.Deadlines
	if d.Connect <= 0 || d.Load <= 0 || d.FirstByte <= 0 || d.PerPromptToken < 0 || d.Silence <= 0 {
		return nil, fmt.Errorf("provider %s: every deadline must be positive", c.Name)
	}
	contexts := make(map[string]int, len(c.Contexts))
	for model, size := range c.Contexts {
		if size <= 0 {
			return nil, fmt.Errorf("provider %s: num_ctx of %s must be positive", c.Name, model)
		}
		if other, ok := contexts[canonical(model)]; ok && other != size {
			return nil, fmt.Errorf("provider %s: two values of num_ctx for %s", c.Name, canonical(model))
		}
		contexts[canonical(model)] = size
	}
	return &Provider{
		name: c.Name,
		base: base,
		client: &http.Client{
			Transport:     wire.NewTransport(d.Connect, new(net.Dialer).DialContext),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		deadlines: d,
		contexts:  contexts,
		key:       c.Key,
		agent:     wire.Agent(c.Version),
		described: make(map[string]described),
	}, nil
}

// named completes an error with who it is about.
func (p *Provider) named(err error, model string) error {
	if e, ok := errors.AsType[*provider.Error](err); ok {
		e.Provider, e.Model = p.name, model
		if e.Kind == provider.NoModel && e.Advice == "" {
			e.Advice = fmt.Sprintf("run `ollama pull %s` on %s", model, p.name)
		}
	}
	return err
}

// Ask loads the model and sends the request, as the package comment says.
func (p *Provider) Ask(ctx context.Context, req provider.Request, sink provider.Sink) (provider.Answer, error) {
	c := newCall(p, req, sink)
	err := p.named(c.run(ctx), req.Model)
	return c.finish(err), err
}
