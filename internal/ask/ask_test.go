package ask

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/provider"
)

// fakeHost answers each call by the next of its errors, then well, and writes down
// what it is asked, as the book does.
type fakeHost struct {
	log  *[]string
	errs []error
}

func (h *fakeHost) Ask(context.Context, provider.Request, provider.Sink) (provider.Answer, error) {
	*h.log = append(*h.log, "call")
	if len(h.errs) > 0 {
		err := h.errs[0]
		h.errs = h.errs[1:]
		return provider.Answer{}, err
	}
	return provider.Answer{Text: "well", Model: "m"}, nil
}

func (h *fakeHost) Models(context.Context) ([]provider.Model, error) { return nil, nil }
func (h *fakeHost) Ping(context.Context) error                       { return nil }

type fakeBook struct {
	log    *[]string
	forbid error
}

func (b fakeBook) Intend(_ context.Context, c ledger.Call, _ ledger.Allowance) (int64, error) {
	if b.forbid != nil {
		return 0, b.forbid
	}
	*b.log = append(*b.log, fmt.Sprint("intent ", c.Try))
	return int64(c.Try), nil
}

func (b fakeBook) Answered(ctx context.Context, _ int64, _ provider.Answer, _ ledger.Price) error {
	*b.log = append(*b.log, "answered")
	return ctx.Err()
}

func (b fakeBook) Failed(ctx context.Context, _ int64, _ provider.Answer, e *provider.Error, _ ledger.Price) error {
	*b.log = append(*b.log, "failed "+string(e.Kind))
	return ctx.Err()
}

// ask makes one call and returns what happened, in order.
func ask(ctx context.Context, errs []error, change func(*Call)) ([]string, error) {
	log := []string{}
	c := Call{Host: Host{Name: "h", Provider: &fakeHost{&log, errs}}, Request: provider.Request{Model: "m"}, Step: 1, Book: fakeBook{log: &log}, For: slog.String("job", "j"),
		Place: func(ctx context.Context) (func(), error) {
			log = append(log, "place")
			return func() {}, ctx.Err()
		}}
	if change != nil {
		change(&c)
	}
	a := &Asker{Location: time.UTC, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	_, err := a.Ask(ctx, c, func(provider.Event) {})
	return log, err
}

func TestWhatIsAskedAgain(t *testing.T) {
	busy := &provider.Error{Kind: provider.Busy, Sent: true}
	away := &provider.Error{Kind: provider.Unreachable}
	tests := []struct {
		name   string
		errs   []error
		change func(*Call)
		calls  int
		ok     bool
	}{
		{"what is answered is asked once", nil, nil, 1, true},
		{"a busy host is asked again", []error{busy}, nil, 2, true},
		{"three times at most", []error{busy, busy, busy, busy}, nil, 3, false},
		{"what may have been billed for good is not", []error{&provider.Error{Kind: provider.Failed, Sent: true}}, nil, 1, false},
		{"nor is what cannot succeed", []error{&provider.Error{Kind: provider.Auth}}, nil, 1, false},
		{"a refused connection sent nothing", []error{away}, nil, 2, true},
		{"a caller that waits by itself is told at once", []error{away}, func(c *Call) { c.Patient = true }, 1, false},
		{"once is once", []error{busy}, func(c *Call) { c.Once = true }, 1, false},
		{"but what was never sent may be sent", []error{away}, func(c *Call) { c.Once = true }, 2, true},
		{"a wait that is too long is none", []error{&provider.Error{Kind: provider.Busy, RetryAfter: time.Hour}}, nil, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, err := ask(t.Context(), tt.errs, tt.change)
				calls := 0
				for i, what := range log {
					if what != "call" {
						continue
					}
					calls++
					if i == 0 || !strings.HasPrefix(log[i-1], "intent") {
						t.Errorf("asked without an intent: %q", log)
					}
				}
				if calls != tt.calls || (err == nil) != tt.ok {
					t.Errorf("%d calls, %v: %q", calls, err, log)
				}
			})
		})
	}
}

func TestACapForbidsTheCall(t *testing.T) {
	capped := &ledger.CapError{Scope: ledger.DayCap, Reason: "enough"}
	log, err := ask(t.Context(), nil, func(c *Call) { c.Book = fakeBook{forbid: capped} })
	if !errors.Is(err, capped) || !slices.Equal(log, []string{"place"}) {
		t.Errorf("%v: %q", err, log)
	}
}

func TestWhoIsStoppedWhileInLineIsNotAsked(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	log, err := ask(ctx, nil, nil)
	if provider.KindOf(err) != provider.Cancelled || !slices.Equal(log, []string{"place"}) {
		t.Errorf("%v: %q", err, log)
	}
}

func TestTheEndIsWrittenDownForWhoIsStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	log, err := ask(ctx, nil, func(c *Call) {
		place := c.Place
		c.Place = func(ctx context.Context) (func(), error) {
			release, err := place(ctx)
			return func() { cancel(); release() }, err // stopped as the answer comes
		}
	})
	if err != nil || !slices.Contains(log, "answered") {
		t.Errorf("%v: %q", err, log)
	}
}

func TestMidnightIsTheOwners(t *testing.T) {
	zone := time.FixedZone("", 5*3600)
	if got, want := Midnight(time.Date(2026, 11, 24, 20, 0, 0, 0, time.UTC), zone), time.Date(2026, 11, 25, 0, 0, 0, 0, zone); !got.Equal(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestLikely(t *testing.T) {
	read, written := Likely(provider.Request{Messages: []provider.Message{{Content: strings.Repeat("abcd", 100)}}})
	if read != 100 || written != unboundedAnswer {
		t.Errorf("%d read, %d written", read, written)
	}
	if _, written := Likely(provider.Request{MaxTokens: 7}); written != 7 {
		t.Errorf("%d written of 7 at most", written)
	}
}
