package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"davidcockson.com/runner/internal/secret"
)

const (
	sendLimit = 10 * time.Second // for one ping, connecting included
	mostReply = 1 << 20          // of an answer, in bytes; a message is a few KiB
	// mostPause bounds how long an answer can make us wait.
	mostPause = 24 * time.Hour
)

// Discord posts to one webhook. It is safe for concurrent use.
type Discord struct {
	webhook   secret.Key // the whole URL as it is asked
	agent     string
	transport *http.Transport

	mu   sync.Mutex
	free time.Time // when Discord takes more again
}

// GoneError says that the webhook does not exist (404) or that its token is wrong
// (401). Discord bans who goes on asking: only a new URL helps.
type GoneError struct{ Status int }

func (e *GoneError) Error() string {
	return fmt.Sprintf("Discord says that the webhook is gone (%d): make a new one and restart with it", e.Status)
}

// LimitedError says that Discord wants no more for a while, 0 where it did not
// say how long.
type LimitedError struct{ RetryAfter time.Duration }

func (e *LimitedError) Error() string {
	if e.RetryAfter == 0 {
		return "Discord's rate limit is reached (429)"
	}
	return fmt.Sprintf("Discord's rate limit is reached (429), for %s", e.RetryAfter)
}

// RefusedError says that Discord will never take this payload. Code is its own
// number for the reason, 0 where it gave none.
type RefusedError struct{ Status, Code int }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("Discord refused the ping (%d, code %d)", e.Status, e.Code)
}

// webhookPath is a webhook's path on Discord itself. Without a version it would
// mean version 6, which counts the pauses that it asks for in milliseconds.
var webhookPath = regexp.MustCompile(`^/api(?:/v\d+)?/webhooks/(\d+/[\w-]+)$`)

// NewDiscord takes the webhook's whole URL, of which the path is the secret, and
// the program's version. An error says what is wrong with the URL without a part
// of it.
func NewDiscord(webhook secret.Key, version string) (*Discord, error) {
	u, err := url.Parse(strings.TrimSpace(webhook.Reveal()))
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || strings.Trim(u.Path, "/") == "" {
		return nil, errors.New("the Discord webhook is not a URL such as https://discord.com/api/webhooks/…")
	}
	local := u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
	if u.Scheme != "https" && !(u.Scheme == "http" && local) {
		return nil, errors.New("the Discord webhook must begin with https://: its path is a secret")
	}
	if host := strings.ToLower(u.Hostname()); host == "discordapp.com" || host == "discord.com" || strings.HasSuffix(host, ".discord.com") {
		parts := webhookPath.FindStringSubmatch(u.Path)
		if parts == nil {
			return nil, errors.New("the Discord webhook's path is not that of a webhook: copy the URL again")
		}
		if host == "discordapp.com" { // the old name, which has no version 10
			u.Host = "discord.com"
		}
		u.Path = "/api/v10/webhooks/" + parts[1]
	}
	query := u.Query() // may name a thread
	query.Set("wait", "true")
	u.RawQuery = query.Encode()
	return &Discord{
		webhook: secret.New(u.String()),
		// The form that Discord asks for; others may be blocked.
		agent: "DiscordBot (https://davidcockson.com/runner, " + version + ")",
		transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: sendLimit}).DialContext,
			TLSHandshakeTimeout:    sendLimit,
			DisableKeepAlives:      true, // pings are rare: an old connection is a broken one
			MaxResponseHeaderBytes: 64 << 10,
		},
	}, nil
}

// ready is how long the last answers ask to wait before the next ping.
func (d *Discord) ready() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(0, time.Until(d.free))
}

// Send posts a payload once and returns Discord's id of the message, which proves
// that it is there. "" without an error is an answer that promises delivery
// without an id. It takes ten seconds at most and follows no redirect. Its errors
// are *GoneError, *LimitedError, *RefusedError, an error that wraps
// context.Canceled, or another, after which the same may be sent again.
func (d *Discord) Send(ctx context.Context, payload []byte) (messageID string, err error) {
	return d.ask(ctx, "send a ping", http.MethodPost, payload)
}

// Check asks whether the webhook is there, without sending anything. Its errors
// are those of Send.
func (d *Discord) Check(ctx context.Context) error {
	_, err := d.ask(ctx, "look at the webhook", http.MethodGet, nil)
	return err
}

func (d *Discord) ask(ctx context.Context, what, method string, payload []byte) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, d.webhook.Reveal(), bytes.NewReader(payload))
	if err != nil {
		return "", errors.New(what + ": the webhook's URL cannot be asked") // err has the URL
	}
	if payload != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("User-Agent", d.agent)
	// Not by http.Client, whose errors carry the URL and which may follow a redirect.
	response, err := d.transport.RoundTrip(request)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, plain(ctx, err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, mostReply+1))
	d.heed(response.Header)
	if err != nil && response.StatusCode < 300 {
		return "", fmt.Errorf("%s: %w", what, plain(ctx, err))
	}
	id, err = verdict(response, body)
	if limited, ok := errors.AsType[*LimitedError](err); ok {
		d.hold(limited.RetryAfter)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	return id, nil
}

// heed notes from the headers when the webhook's bucket is empty.
func (d *Discord) heed(h http.Header) {
	if h.Get("X-RateLimit-Remaining") != "0" {
		return
	}
	d.hold(pause(h.Get("X-RateLimit-Reset-After")))
}

// hold lets ready ask for a time from now on, unless it asks for more already.
func (d *Discord) hold(pause time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if free := time.Now().Add(pause); free.After(d.free) {
		d.free = free
	}
}

// reply is what is read of an answer: of a message, or of an error.
type reply struct {
	ID         string  `json:"id"`
	Code       int     `json:"code"`
	RetryAfter float64 `json:"retry_after"`
}

// snowflake is the form of Discord's ids.
var snowflake = regexp.MustCompile(`^[0-9]{1,20}$`)

func verdict(response *http.Response, body []byte) (messageID string, err error) {
	var r reply
	malformed := json.Unmarshal(body, &r)
	status := response.StatusCode
	switch {
	case status == http.StatusNoContent: // of something between that drops wait=true
		return "", nil
	case status == http.StatusOK && len(body) > mostReply:
		return "", errors.New("the answer is longer than 1 MiB: it is not Discord's")
	case status == http.StatusOK && (malformed != nil || !snowflake.MatchString(r.ID)):
		return "", errors.New("the answer does not name the message: it is not Discord's")
	case status == http.StatusOK:
		return r.ID, nil
	case status == http.StatusNotFound, status == http.StatusUnauthorized:
		return "", &GoneError{status}
	case status == http.StatusTooManyRequests:
		after := seconds(r.RetryAfter)
		if after == 0 {
			after = pause(response.Header.Get("Retry-After"))
		}
		return "", &LimitedError{after}
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnsupportedMediaType:
		return "", &RefusedError{status, r.Code}
	case 300 <= status && status < 400:
		return "", fmt.Errorf("Discord answered with a redirect (%d), which is not followed", status)
	}
	return "", fmt.Errorf("Discord answered with %d", status)
}

// pause reads a header that gives seconds, with decimals or without.
func pause(header string) time.Duration {
	s, err := strconv.ParseFloat(header, 64)
	if err != nil {
		return 0
	}
	return seconds(s)
}

func seconds(s float64) time.Duration {
	if math.IsNaN(s) || s <= 0 {
		return 0
	}
	return min(mostPause, time.Duration(min(math.Ceil(s*1000), 1e12))*time.Millisecond)
}

// plain says what went wrong on the way without the words of the net packages,
// which may quote what the other side sent.
func plain(ctx context.Context, err error) error {
	dns, unknown := errors.AsType[*net.DNSError](err)
	dial, failed := errors.AsType[*net.OpError](err)
	number, system := errors.AsType[syscall.Errno](err)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s", sendLimit)
	case ctx.Err() != nil:
		return fmt.Errorf("stopped: %w", ctx.Err())
	case unknown && dns.IsNotFound:
		return errors.New("cannot connect: the server's name is not known")
	case unknown:
		return errors.New("cannot connect: the server's name cannot be looked up")
	case failed && dial.Op == "dial" && system:
		return fmt.Errorf("cannot connect: %s", number.Error())
	case failed && dial.Op == "dial":
		return errors.New("cannot connect")
	}
	return errors.New("the connection broke before an answer")
}
