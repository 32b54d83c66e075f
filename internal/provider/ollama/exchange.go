package ollama

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/wire"
)

// maxReply bounds what is read of a reply that is not a stream, in bytes. The
// description of a model holds the names of all its tensors.
const maxReply = 16 << 20

// send makes one request; body is nil or becomes JSON. The response has status
// 200 and must be closed. The error is an *provider.Error, whose Sent says that
// the request reached a server which may have begun to work on it.
func (p *Provider) send(w *wire.Watch, method, path string, body any) (*http.Response, error) {
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil { // a temperature that is no number
			return nil, &provider.Error{Kind: provider.Refused, Reason: "the request cannot be written as JSON", Cause: err}
		}
		payload = bytes.NewReader(data)
	}
	var reached atomic.Bool
	ctx := httptrace.WithClientTrace(w, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { reached.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, method, p.base.JoinPath(path).String(), payload)
	if err != nil {
		return nil, &provider.Error{Kind: provider.Refused, Reason: "the request cannot be built", Cause: err}
	}
	req.Header.Set("User-Agent", p.agent)
	if !p.key.IsZero() {
		req.Header.Set("Authorization", "Bearer "+p.key.Reveal())
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, p.lost(w, err, reached.Load())
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, p.refusal(resp)
	}
	return resp, nil
}

// lost explains a request that brought no response.
func (p *Provider) lost(w *wire.Watch, err error, reached bool) *provider.Error {
	return wire.Lost(w, err, reached, p.deadlines.Connect,
		"check that Ollama runs there, that it listens on the network (OLLAMA_HOST), and the provider's url")
}

// fetch makes one request whose whole reply is decoded into out, within d.
func (p *Provider) fetch(ctx context.Context, d *wire.Deadline, method, path string, body, out any) error {
	w := wire.NewWatch(ctx, d)
	defer w.Stop()
	resp, err := p.send(w, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		if e := w.Ended(); e != nil {
			return e
		}
		return &provider.Error{Kind: provider.Failed, Reason: "connection lost within the reply", Cause: err}
	}
	if len(data) > maxReply {
		return &provider.Error{Kind: provider.Malformed, Reason: "a reply is longer than 16 MiB"}
	}
	if err := json.Unmarshal(data, out); err != nil {
		return &provider.Error{
			Kind:   provider.Malformed,
			Reason: "the server answered with status 200, but not with what Ollama says",
			Advice: adviceURL,
			Cause:  err,
		}
	}
	return nil
}
