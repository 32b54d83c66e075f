package ollama

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/wire"
)

const (
	maxErrorBody = 64 << 10 // bytes read of an error's body

	adviceURL = "check the provider's url: it must be that of Ollama itself, without /api or /v1"
)

// refusal turns a response whose status is not 200 into an error. Ollama's own
// errors are JSON with one key; plain text or HTML comes from a wrong path or
// from something in front of it, and is not shown.
func (p *Provider) refusal(resp *http.Response) *provider.Error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	var body struct {
		Error string `json:"error"`
	}
	own := err == nil && json.Unmarshal(data, &body) == nil && body.Error != ""
	e := &provider.Error{Cause: fmt.Errorf("status %s: %q", resp.Status, data)}
	switch {
	case own:
		e.Reason = fmt.Sprintf("status %d: %s", resp.StatusCode, clean(body.Error))
	case len(data) == 0:
		e.Reason = fmt.Sprintf("status %d without a word", resp.StatusCode)
	default:
		e.Reason = fmt.Sprintf("status %d, and the body is not Ollama's JSON", resp.StatusCode)
	}
	switch code := resp.StatusCode; {
	case code < 300:
		e.Kind, e.Sent = provider.Malformed, true
	case code < 400:
		e.Kind = provider.Refused
		e.Reason = fmt.Sprintf("status %d: a redirect, which is not followed", code)
		e.Advice = "set the provider's url to where Ollama really is"
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		e.Kind = provider.Auth
		e.Advice = "Ollama itself asks for no key: look at what stands in front of it, and at this provider's api_key. Where Ollama listens on loopback only, " +
			"it refuses foreign host names: a proxy must set the header Host to localhost"
	case code == http.StatusNotFound && own:
		e.Kind = provider.NoModel
	case code == http.StatusNotFound, code == http.StatusMethodNotAllowed:
		e.Kind, e.Advice = provider.Refused, adviceURL
	case code == http.StatusBadRequest && strings.Contains(body.Error, "exceeds the context length"):
		e.Kind = provider.TooLong
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		e.Kind = provider.Busy
		e.RetryAfter = wire.RetryAfter(resp.Header.Get("Retry-After"), time.Now())
	case code < 500:
		e.Kind = provider.Refused
	case code == http.StatusBadGateway, code == http.StatusGatewayTimeout:
		e.Kind, e.Sent = provider.Gateway, true
		e.Advice = "look at what stands in front of Ollama"
	case strings.HasPrefix(body.Error, "option ") && strings.Contains(body.Error, "must be of type"):
		e.Kind = provider.Refused // a 500 that no repetition cures
	default:
		e.Kind, e.Sent = provider.Failed, true
	}
	return e
}

// clean makes one short line of an error text of the server, without anything
// that looks like a path or a URL.
func clean(text string) string { return wire.Line(wire.WithoutPaths(wire.Words(text))) }
