package openai

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/wire"
)

// limits is what the headers of an answer say of the account's rate limits, as
// Groq and OpenAI document them: x-ratelimit-remaining-requests and -tokens, and
// x-ratelimit-reset-requests and -tokens, lengths of time like "2m59.56s".
type limits struct {
	at               time.Time
	requests, tokens left
	told             bool // by a pace
}

// left is one of the limits.
type left struct {
	known     bool // both headers could be read
	remaining int
	reset     time.Duration
}

func readLimits(h http.Header) limits {
	return limits{at: time.Now(), requests: readLeft(h, "requests"), tokens: readLeft(h, "tokens")}
}

func readLeft(h http.Header, what string) left {
	remaining, err := strconv.ParseUint(strings.TrimSpace(h.Get("X-Ratelimit-Remaining-"+what)), 10, 31)
	reset, ok := wire.Delay(h.Get("X-Ratelimit-Reset-" + what))
	return left{known: err == nil && ok && reset > 0, remaining: int(remaining), reset: reset}
}

// pace tells, once, that a further request like this one, which needs the given
// number of tokens, would find no room. Of two limits the later one counts.
func (l *limits) pace(need int, paced func(provider.Pace)) {
	if l.told {
		return
	}
	var p provider.Pace
	if l.tokens.known && l.tokens.remaining < max(need, 1) {
		p = provider.Pace{Until: l.at.Add(l.tokens.reset), Reason: fmt.Sprintf("%d tokens are left of the rate limit, for %s", l.tokens.remaining, l.tokens.reset)}
	}
	if l.requests.known && l.requests.remaining == 0 && l.requests.reset > p.Until.Sub(l.at) {
		p = provider.Pace{Until: l.at.Add(l.requests.reset), Reason: fmt.Sprintf("no requests are left of the rate limit, for %s", l.requests.reset)}
	}
	if p.Until.IsZero() {
		return
	}
	l.told = true
	paced(p)
}

// slowed tells that the server refused for want of room: until when it said, or
// its headers say.
func (p *Provider) slowed(e *provider.Error, h http.Header, req provider.Request) {
	if e.Kind != provider.Busy {
		return
	}
	if e.RetryAfter > 0 {
		p.paced(provider.Pace{Until: time.Now().Add(e.RetryAfter), Reason: e.Reason})
		return
	}
	l := readLimits(h)
	l.pace(provider.Estimate(req.Messages)+req.MaxTokens, p.paced)
}
