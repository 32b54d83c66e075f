package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"time"

	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
)

const (
	callTime   = 10 * time.Second // for a whole call that is not held open
	maxAnswer  = 64 << 20         // bytes of an answer, and of one line of events
	silenceMax = 3 * heartbeat    // after it an event stream is taken for dead
)

// Client is the caller's end of the socket and an Office. It is safe for
// concurrent use, keeps nothing open between calls and needs no closing.
type Client struct {
	http *http.Client
}

// Dial returns a Client for the socket. It does not connect: each call does.
func Dial(socketPath string) *Client {
	return newClient(func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx, socketPath)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("%w (nothing answers on %s)", ErrNoWorker, socketPath)
		}
		return conn, err
	})
}

func newClient(dial func(context.Context) (net.Conn, error)) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		// A kept connection could be of a worker that has been started anew since,
		// and a cancel or retry that failed on it could not be repeated.
		DisableKeepAlives: true,
	}}}
}

// List returns the jobs that f chooses.
func (c *Client) List(ctx context.Context, f Filter) ([]Job, error) {
	q := url.Values{"state": f.States}
	if f.Limit != 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	return call[[]Job](ctx, c, http.MethodGet, "/jobs", q)
}

// Show returns all that is known of a job.
func (c *Client) Show(ctx context.Context, ref string) (Detail, error) {
	return call[Detail](ctx, c, http.MethodGet, "/job", url.Values{"ref": {ref}})
}

// Cancel ends a job, or discards one that is held.
func (c *Client) Cancel(ctx context.Context, ref string) (Job, error) {
	return call[Job](ctx, c, http.MethodPost, "/job/cancel", url.Values{"ref": {ref}})
}

// Retry runs a job that has ended, or one that is held.
func (c *Client) Retry(ctx context.Context, ref string) (Job, error) {
	return call[Job](ctx, c, http.MethodPost, "/job/retry", url.Values{"ref": {ref}})
}

// Status returns the worker's heartbeat.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/status", nil)
}

// call makes one call that is not held open and decodes its answer.
func call[T any](ctx context.Context, c *Client, method, path string, q url.Values) (T, error) {
	var v T
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	body, err := c.do(ctx, method, path, q)
	if err != nil {
		return v, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	if err != nil {
		return v, fmt.Errorf("read the worker's answer: %w", err)
	}
	if len(data) > maxAnswer {
		return v, fmt.Errorf("the worker's answer is over %d bytes", maxAnswer)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, fmt.Errorf("decode the worker's answer: %w", err)
	}
	return v, nil
}

// do sends a request and returns the body of a good answer; of any other the
// error that it carries.
func (c *Client) do(ctx context.Context, method, path string, q url.Values) (io.ReadCloser, error) {
	u := url.URL{Scheme: "http", Host: "runner", Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask the worker: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the made-up URL tells nobody anything
		}
		if errors.Is(err, ErrNoWorker) {
			return nil, err
		}
		return nil, fmt.Errorf("ask the worker: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var e Error
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&e); err != nil || e.Code == "" {
		return nil, fmt.Errorf("the worker answered %s without a reason", resp.Status)
	}
	return nil, &e
}

// Events returns what happens to a topic, or in the feed where topic is "", after
// the item with the id after: see live.Hub. It ends without an error when the
// stream has ended, and with one otherwise: live.ErrSlow and an *Error of code
// Stopping can be resumed from the last id, NotFound is a topic that does not run.
func (c *Client) Events(ctx context.Context, topic string, after uint64) iter.Seq2[live.Item, error] {
	return func(yield func(live.Item, error) bool) {
		read, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		silent := time.AfterFunc(silenceMax, func() { cancel(errors.New("the worker has fallen silent")) })
		defer silent.Stop()
		err := c.events(read, topic, after, func(f frame) bool {
			silent.Reset(silenceMax)
			return f.Item == nil || yield(*f.Item, nil)
		})
		if err == nil {
			return
		}
		if read.Err() != nil && ctx.Err() == nil {
			err = context.Cause(read)
		}
		yield(live.Item{}, fmt.Errorf("follow events: %w", err))
	}
}

// events calls got with each frame until it returns false or the stream ends.
func (c *Client) events(ctx context.Context, topic string, after uint64, got func(frame) bool) error {
	body, err := c.do(ctx, http.MethodGet, "/events", url.Values{"topic": {topic}, "after": {strconv.FormatUint(after, 10)}})
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		var f frame
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return fmt.Errorf("decode an event: %w", err)
		}
		switch {
		case f.Error != nil && f.Error.Code == Slow:
			return live.ErrSlow
		case f.Error != nil:
			return f.Error
		case f.End || !got(f):
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// Place is a place at a provider that the worker keeps for this process.
type Place struct {
	release func()
	lost    chan struct{}
}

// Lost is closed when the worker no longer keeps the place: it was given back, or
// the worker is gone.
func (p *Place) Lost() <-chan struct{} { return p.lost }

// Release gives the place back; the worker notices it a moment later. Further
// calls do nothing.
func (p *Place) Release() { p.release() }

// Acquire waits for a place at a provider, as provider.Arbiter does: ctx ends the
// waiting, not the holding. A place is lost with the worker; a call that runs goes on.
func (c *Client) Acquire(ctx context.Context, providerName string, class provider.Class, who string) (*Place, error) {
	held, release := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, release)
	body, err := c.do(held, http.MethodPost, "/place", url.Values{"provider": {providerName}, "class": {string(class)}, "who": {who}})
	if err == nil {
		var f frame
		if err = json.NewDecoder(body).Decode(&f); err == nil && !f.Granted {
			err = errors.New("the worker broke off")
		}
		release = sync.OnceFunc(func(cancel func()) func() {
			return func() { cancel(); body.Close() }
		}(release))
	}
	if !stop() && err == nil { // ctx ended as the place came
		err = ctx.Err()
	}
	if err != nil {
		release()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("wait for a place at %s: %w", providerName, err)
	}
	p := &Place{release: release, lost: make(chan struct{})}
	go func() {
		defer close(p.lost)
		_, _ = io.Copy(io.Discard, body) // nothing is said after the grant; its end is what counts
	}()
	return p, nil
}
