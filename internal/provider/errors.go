package provider

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Kind is the way in which a call failed.
type Kind string

// The kinds of failure. Those marked "again" may be asked again by the caller's
// own count; no other may.
const (
	Unreachable Kind = "unreachable" // no connection came about, nothing was sent; again
	Busy        Kind = "busy"        // 429 or 503: the server has no room now; again
	Gateway     Kind = "gateway"     // 502 or 504: something between us and the model; again
	Auth        Kind = "auth"        // 401 or 403: the key or the host name is not accepted
	NoModel     Kind = "no model"    // the server does not have the model
	Refused     Kind = "refused"     // another 4xx: the request can never succeed as it is
	TooLong     Kind = "too long"    // the prompt does not fit the model's context
	Failed      Kind = "failed"      // another 5xx, or an error inside the stream
	Timeout     Kind = "timeout"     // one of our deadlines, named in Reason
	Cut         Kind = "cut"         // the answer ran into a length limit
	Empty       Kind = "empty"       // the model ended without a word
	Unfinished  Kind = "unfinished"  // the stream ended without its end marker
	Unread      Kind = "unread"      // the model did not read the whole prompt
	Blocked     Kind = "blocked"     // the provider withheld the answer
	Malformed   Kind = "malformed"   // what came back breaks the protocol
	Cancelled   Kind = "cancelled"   // our own context ended
)

// Error is the one error type that providers return.
type Error struct {
	Kind     Kind
	Provider string
	Model    string
	// Reason is what happened, for the owner to read: it holds no secret, no URL
	// and no path of the server.
	Reason string
	// Advice is what the owner can do, "" where the kind says it all; see Advise.
	Advice string
	// Sent says that the server may have begun to work, and to bill.
	Sent bool
	// RetryAfter is how long the server asked us to wait, 0 if it did not.
	RetryAfter time.Duration
	// Cause is for the log alone. It may be nil.
	Cause error
}

// Error names provider, model and reason, as one line. Where no provider is to blame
// it is the reason alone.
func (e *Error) Error() string {
	if e.Provider == "" {
		return e.Reason
	}
	if e.Model == "" {
		return fmt.Sprintf("%s: %s", e.Provider, e.Reason)
	}
	return fmt.Sprintf("%s (%s): %s", e.Provider, e.Model, e.Reason)
}

// Advise is what the owner can do: Advice, or where there is none what helps against
// the kind.
func (e *Error) Advise() string { return cmp.Or(e.Advice, e.Kind.Advice()) }

// Advice is what the owner can do about a kind of failure of which no more is known.
func (k Kind) Advice() string {
	switch k {
	case Unreachable:
		return "check that the host is awake, and the provider's url"
	case Busy:
		return "retry later: the server has no room now"
	case Gateway:
		return "look at what stands in front of the model's server, then retry"
	case Auth:
		return "check the provider's key, and what it may do"
	case NoModel:
		return "name a model that the provider has, or install this one there"
	case Refused:
		return "change what the server refuses (the prompt, the model or a setting), then retry"
	case TooLong:
		return "shorten the prompt, or choose a model with a larger context"
	case Failed:
		return "look at the server's own log or status page, then retry"
	case Timeout:
		return "raise that deadline if the host needs longer, then retry"
	case Cut:
		return "raise max_tokens, or ask for less in one answer"
	case Empty:
		return "word the prompt differently, raise max_tokens, or choose another model"
	case Unfinished:
		return "retry; if it happens again, look at the server and at what stands in front of it"
	case Unread:
		return "shorten the prompt, or choose a model with a larger context"
	case Blocked:
		return "word the prompt differently, or ask another provider by name"
	case Malformed:
		return "check that the provider's url and kind are those of this server, then retry"
	case Cancelled:
		return "retry if it is still wanted"
	}
	return "look at the log for more, then retry"
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Again says whether the same request may be sent once more.
func (e *Error) Again() bool {
	switch e.Kind {
	case Unreachable, Busy, Gateway:
		return true
	}
	return false
}

// The words for how a provider is that did not answer a look which spends nothing.
const (
	WordUnreachable = "unreachable"
	WordWrongKey    = "wrong key" // it answers and does not accept our key
	WordFailing     = "failing"   // it answers with another error
)

// Word is how a provider is whose look failed in this way, as health says it too.
func (k Kind) Word() string {
	switch k {
	case Unreachable, Timeout, Cancelled:
		return WordUnreachable
	case Auth:
		return WordWrongKey
	}
	return WordFailing
}

// KindOf returns the kind of the first *Error in err's tree, "" where there is
// none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}
