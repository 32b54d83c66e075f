package gemini

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/wire"
	"davidcockson.com/runner/internal/secret"
)

// said is an error in Google's form (google.rpc.Status), with what is read of
// its details: ErrorInfo, QuotaFailure and RetryInfo.
type said struct {
	Message string `json:"message"`
	Status  string `json:"status"`
	Details []struct {
		Reason     string      `json:"reason"`
		RetryDelay string      `json:"retryDelay"`
		Violations []violation `json:"violations"`
	} `json:"details"`
}

// violation is one quota that was exceeded. A user has reported (OmniRoute issue
// 9504) that a quota named PerDay may come with a delay of seconds.
type violation struct {
	ID    string `json:"quotaId"`
	Value string `json:"quotaValue"`
}

// parse reads the body of an error; a stream's may be a list of one.
func parse(data []byte) said {
	var one struct {
		Error said `json:"error"`
	}
	if json.Unmarshal(data, &one) == nil {
		return one.Error
	}
	var list []struct {
		Error said `json:"error"`
	}
	if json.Unmarshal(data, &list) == nil && len(list) > 0 {
		return list[0].Error
	}
	return said{}
}

// refusal turns a response whose status is not 200 into an error. estimate is a
// lower bound for the tokens of the prompt.
func (p *Provider) refusal(r *wire.Refusal, estimate int) *provider.Error {
	s := parse(r.Body)
	e := r.Error(wire.Clean(s.Message, p.key))
	switch {
	case r.Status == http.StatusBadRequest && s.reason("API_KEY_INVALID"):
		e.Kind, e.Advice = provider.Auth, wire.AdviceKey // Google calls a wrong key a bad request
	case r.Status == http.StatusBadRequest && strings.Contains(s.Message, "exceeds the maximum number of tokens"):
		e.Kind, e.Advice = provider.TooLong, "shorten the prompt, or choose a model with a larger context"
	case r.Status == http.StatusNotFound && strings.Contains(s.Message, "models/"):
		e.Kind, e.Advice = provider.NoModel, wire.AdviceModel
	case r.Status == http.StatusNotFound:
		e.Advice = wire.AdviceURL
	case r.Status == http.StatusTooManyRequests:
		s.limited(e, estimate, p.key)
	}
	return e
}

// reason says whether one of the details gives the reason of that name.
func (s said) reason(name string) bool {
	for _, d := range s.Details {
		if d.Reason == name {
			return true
		}
	}
	return false
}

// limited completes a 429: for how long, because of which quota, and whether the
// quota can ever take the request.
func (s said) limited(e *provider.Error, estimate int, key secret.Key) {
	var daily, named string
	for _, d := range s.Details {
		if delay, ok := wire.Delay(d.RetryDelay); ok && e.RetryAfter == 0 {
			e.RetryAfter = delay
		}
		for _, v := range d.Violations {
			named = shown(v, key)
			if strings.Contains(v.ID, "PerDay") {
				daily = shown(v, key)
			}
			limit, err := strconv.Atoi(v.Value)
			switch {
			case err != nil:
			case limit == 0:
				e.Kind, e.RetryAfter = provider.Refused, 0
				e.Reason = "status 429: the account has no quota for this model: " + shown(v, key)
				e.Advice = "choose another model, or look at the plan and the billing of the account"
				return
			case strings.Contains(v.ID, "InputTokens") && estimate > limit:
				e.Kind, e.RetryAfter = provider.Refused, 0
				e.Reason = fmt.Sprintf("the prompt has at least %d tokens, more than the provider's rate limit of %d can ever take", estimate, limit)
				e.Advice = "shorten the prompt, or raise the limit of the account"
				return
			}
		}
	}
	switch {
	case daily != "":
		e.Reason = "status 429: the quota of a day is used up: " + daily
		e.Advice = "the quota is that of a day: wait, or raise the limit of the account"
	case named != "":
		e.Reason = "status 429: a quota is used up: " + named
	}
}

// shown names a quota, with its size where it is known.
func shown(v violation, key secret.Key) string {
	text := wire.Clean(v.ID, key)
	if limit, err := strconv.Atoi(v.Value); err == nil {
		text += fmt.Sprintf(", limit %d", limit)
	}
	return text
}
