package wire

import (
	"fmt"
	"net/http"
	"time"

	"davidcockson.com/runner/internal/provider"
)

// Error turns a refusal into the failure that its status alone means; said is
// what the server has to say about it, as one clean line, or "".
func (r *Refusal) Error(said string) *provider.Error {
	e := &provider.Error{Kind: provider.Failed, Cause: fmt.Errorf("status %d: %s", r.Status, said)}
	switch {
	case said != "":
		e.Reason = fmt.Sprintf("status %d: %s", r.Status, said)
	case len(r.Body) == 0:
		e.Reason = fmt.Sprintf("status %d without a word", r.Status)
	default:
		e.Reason = fmt.Sprintf("status %d, and the body is not what the protocol says", r.Status)
	}
	switch code := r.Status; {
	case code < 300:
		e.Kind, e.Sent = provider.Malformed, true
	case code < 400:
		e.Kind = provider.Refused
		e.Reason = fmt.Sprintf("status %d: a redirect, which is not followed", code)
		e.Advice = "set the provider's url to where the server really is"
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		e.Kind, e.Advice = provider.Auth, AdviceKey
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		e.Kind = provider.Busy
		e.RetryAfter = RetryAfter(r.Header.Get("Retry-After"), time.Now())
	case code < 500:
		e.Kind = provider.Refused
	case code == http.StatusBadGateway, code == http.StatusGatewayTimeout:
		e.Kind, e.Sent = provider.Gateway, true
	default:
		e.Sent = true
	}
	return e
}

// What the owner can do.
const (
	AdviceKey   = "check the key that api_key_env or api_key_file of this provider leads to, and what it may do"
	AdviceModel = "choose one of the models that this provider lists"
	AdviceURL   = "check the provider's url"
	AdviceReach = "check the network, and the provider's url"
)
