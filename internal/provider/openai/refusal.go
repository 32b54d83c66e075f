package openai

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/wire"
)

// said is an error as the server words it.
type said struct {
	text string // clean, "" where the body is not the protocol's
	raw  string // as it came, for looking into
	code string
}

// said reads the body of an error: an object "error" with message and code, or
// an "error" that is a text.
func (p *Provider) said(data []byte) said {
	var body struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(data, &body) != nil {
		return said{}
	}
	var e struct {
		Message string          `json:"message"`
		Type    string          `json:"type"`
		Code    json.RawMessage `json:"code"`
	}
	if json.Unmarshal(body.Error, &e.Message) != nil && json.Unmarshal(body.Error, &e) != nil {
		return said{}
	}
	s := said{text: wire.Clean(e.Message, p.key), raw: e.Message}
	if json.Unmarshal(e.Code, &s.code) != nil { // a number says no more than the status
		s.code = ""
	}
	return s
}

// refusal turns a response whose status is not 200 into an error.
func (p *Provider) refusal(r *wire.Refusal) *provider.Error {
	s := p.said(r.Body)
	e := r.Error(s.text)
	if e.Kind == provider.Gateway || r.Status < 400 || r.Status >= 500 && e.Kind != provider.Busy {
		return e
	}
	limit, requested, ok := tooLarge(s.raw)
	lower := strings.ToLower(s.raw)
	switch {
	case ok && (r.Status == http.StatusRequestEntityTooLarge || r.Status == http.StatusTooManyRequests):
		e.Kind, e.RetryAfter = provider.Refused, 0
		e.Reason = fmt.Sprintf("the request counts %d tokens, more than the provider's rate limit of %d can ever take", requested, limit)
		e.Advice = "shorten the prompt or lower max_tokens, which counts too, or raise the limit of the account"
	case s.code == "insufficient_quota":
		e.Kind, e.RetryAfter = provider.Refused, 0
		e.Reason = fmt.Sprintf("status %d: the account's quota is used up", r.Status)
		e.Advice = "look at the plan and the billing of the account"
	case r.Status == http.StatusTooManyRequests:
		p.limited(e, s)
	case s.code == "invalid_api_key", r.Status == http.StatusBadRequest && strings.Contains(lower, "incorrect api key"):
		e.Kind, e.Advice = provider.Auth, wire.AdviceKey
	case s.code == "context_length_exceeded":
		e.Kind, e.Advice = provider.TooLong, "shorten the prompt, or choose a model with a larger context"
	case s.code == "model_not_found", s.code == "model_decommissioned",
		r.Status == http.StatusNotFound && s.text != "" && strings.Contains(lower, "model"):
		e.Kind, e.Advice = provider.NoModel, wire.AdviceModel
	case r.Status == http.StatusNotFound, r.Status == http.StatusMethodNotAllowed:
		e.Advice = wire.AdviceURL
	}
	return e
}

// limited says which limit a 429 is about, and for how long, where only its text
// says it.
func (p *Provider) limited(e *provider.Error, s said) {
	if e.RetryAfter == 0 {
		e.RetryAfter = tryAgain(s.raw)
	}
	limit, used, requested, ok := figures(s.raw)
	if !ok {
		return
	}
	per := ""
	for _, window := range []string{"per minute", "per day", "per hour"} {
		if strings.Contains(s.raw, window) {
			per = " " + window
		}
	}
	e.Reason = fmt.Sprintf("status 429: rate limit of %d%s reached: %d used, %d requested", limit, per, used, requested)
	if per == " per day" {
		e.Advice = "the limit is that of a day: wait, or raise the limit of the account"
	}
}

// Groq's words, seen in reports of its users: "Limit 12000, Requested 14137" of
// a request that is too large, "Limit 6000, Used 5034, Requested 1443" of one
// that comes too early, and "Please try again in 4.77s", "in 9m38.016s".
var (
	limitWords = regexp.MustCompile(`Limit:? ([0-9]{1,12}), (?:Used:? ([0-9]{1,12}), )?Requested:? ([0-9]{1,12})`)
	againWords = regexp.MustCompile(`(?i)try again in ((?:[0-9]{1,9}(?:\.[0-9]{1,12})?(?:h|ms|m|s))+)`)
)

// figures finds the numbers of a rate limit in an error's text.
func figures(text string) (limit, used, requested int, ok bool) {
	found := limitWords.FindStringSubmatch(text)
	if found == nil {
		return 0, 0, 0, false
	}
	limit, _ = strconv.Atoi(found[1]) // of 12 digits at most
	used, _ = strconv.Atoi(found[2])  // "" is none
	requested, _ = strconv.Atoi(found[3])
	return limit, used, requested, true
}

// tooLarge says whether a text is about a request that its limit can never take.
func tooLarge(text string) (limit, requested int, ok bool) {
	limit, _, requested, ok = figures(text)
	return limit, requested, ok && requested > limit
}

// tryAgain finds how long an error's text asks us to wait, 0 where it does not.
func tryAgain(text string) time.Duration {
	found := againWords.FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	d, _ := wire.Delay(found[1]) // 0 where it cannot be read
	return d
}
