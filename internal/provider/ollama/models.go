package ollama

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/wire"
)

// defaultContext is the num_ctx, in tokens, of a model that the configuration
// says nothing about. It is always sent: the server's own default depends on its
// memory and its version, and a prompt beyond it would be cut in silence.
const defaultContext = 8192

// listing is the reply to /api/tags and /api/ps.
type listing struct {
	Models []struct {
		Name   string `json:"name"`
		Size   int64  `json:"size"`
		Digest string `json:"digest"`
	} `json:"models"`
}

// description is what is read of the reply to /api/show.
type description struct {
	ModelInfo map[string]json.RawMessage `json:"model_info"`
}

// contextLength is the model's own limit in tokens, 0 where it does not say.
func (d description) contextLength() int {
	var architecture string
	var length int
	if json.Unmarshal(d.ModelInfo["general.architecture"], &architecture) != nil {
		return 0
	}
	if json.Unmarshal(d.ModelInfo[architecture+".context_length"], &length) != nil {
		return 0
	}
	return max(length, 0)
}

// described is the own limit of a model as some weights were described.
type described struct {
	digest string
	length int
}

// canonical is the name by which models are compared: without regard to case,
// and with the tag that a name without one stands for.
func canonical(name string) string {
	name = strings.ToLower(name)
	if !strings.Contains(name[strings.LastIndexByte(name, '/')+1:], ":") {
		name += ":latest"
	}
	return name
}

// Models lists the models on the server and says which of them are in memory.
// A model that shares its weights with another may be loaded under that one's
// name alone.
func (p *Provider) Models(ctx context.Context) ([]provider.Model, error) {
	all, err := p.list(ctx, "api/tags")
	if err != nil {
		return nil, p.named(err, "")
	}
	running, err := p.list(ctx, "api/ps")
	if err != nil {
		return nil, p.named(err, "")
	}
	loaded := make(map[string]bool)
	for _, m := range running.Models {
		loaded[canonical(m.Name)] = true
	}
	models := make([]provider.Model, 0, len(all.Models))
	for _, m := range all.Models {
		models = append(models, provider.Model{Name: m.Name, Size: m.Size, Digest: m.Digest, Loaded: loaded[canonical(m.Name)]})
	}
	return models, nil
}

// Ping asks for the server's version, within the limit for connecting.
func (p *Provider) Ping(ctx context.Context) error {
	var reply struct {
		Version string `json:"version"`
	}
	d := &wire.Deadline{Length: p.deadlines.Connect, What: "no answer within %s", Key: "connect"}
	if err := p.fetch(ctx, d, http.MethodGet, "api/version", nil, &reply); err != nil {
		return p.named(err, "")
	}
	if reply.Version == "" {
		return p.named(&provider.Error{
			Kind:   provider.Malformed,
			Reason: "the server does not say which Ollama it is",
			Advice: adviceURL,
		}, "")
	}
	return nil
}

func (p *Provider) list(ctx context.Context, path string) (listing, error) {
	var reply listing
	d := &wire.Deadline{Length: p.deadlines.FirstByte, What: "no list of models within %s", Key: "first_byte"}
	err := p.fetch(ctx, d, http.MethodGet, path, nil, &reply)
	return reply, err
}

// digest returns the digest of the model's weights, "" where the list does not
// have it or cannot be had. An error means that nothing else can be had either.
func (p *Provider) digest(ctx context.Context, model string) (string, error) {
	all, err := p.list(ctx, "api/tags")
	switch provider.KindOf(err) {
	case provider.Unreachable, provider.Cancelled:
		return "", err
	}
	for _, m := range all.Models {
		if canonical(m.Name) == canonical(model) {
			return m.Digest, nil
		}
	}
	return "", nil
}

// ownContext returns the model's own limit in tokens, 0 where the server does
// not say. It asks once for each model and digest.
func (p *Provider) ownContext(ctx context.Context, model, digest string) (int, error) {
	key := canonical(model)
	p.mu.Lock()
	known, ok := p.described[key]
	p.mu.Unlock()
	if ok && digest != "" && known.digest == digest {
		return known.length, nil
	}
	var reply description
	d := &wire.Deadline{Length: p.deadlines.FirstByte, What: "no description of the model within %s", Key: "first_byte"}
	if err := p.fetch(ctx, d, http.MethodPost, "api/show", map[string]string{"model": model}, &reply); err != nil {
		return 0, err
	}
	length := reply.contextLength()
	p.mu.Lock()
	p.described[key] = described{digest, length}
	p.mu.Unlock()
	return length, nil
}

// numCtx is the size of the context that every request for the model asks for.
// It depends on the model alone: the server reloads a model when it changes.
func (p *Provider) numCtx(model string, own int) int {
	size := defaultContext
	if configured, ok := p.contexts[canonical(model)]; ok {
		size = configured
	}
	if own > 0 {
		size = min(size, own)
	}
	return size
}
