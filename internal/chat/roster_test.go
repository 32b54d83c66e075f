package chat

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/provider"
)

// looked is a provider whose look ends as it says.
type looked struct {
	provider.Provider
	err error
}

func (l *looked) Models(context.Context) ([]provider.Model, error) {
	return []provider.Model{{Name: "m"}}, l.err
}

func TestAnOfferSaysHowItsProviderIs(t *testing.T) {
	tests := []struct {
		name string
		err  error
		word string
	}{
		{"it answers", nil, "online"},
		{"nobody answers", &provider.Error{Kind: provider.Unreachable, Reason: "refused the connection"}, "unreachable"},
		{"it takes too long", &provider.Error{Kind: provider.Timeout}, "unreachable"},
		{"it takes another key", &provider.Error{Kind: provider.Auth, Reason: "401"}, "wrong key"},
		{"it answers with an error", &provider.Error{Kind: provider.Failed, Reason: "500"}, "failing"},
		{"it refuses the request", &provider.Error{Kind: provider.Refused, Reason: "400"}, "failing"},
		{"an error that explains nothing", errors.New("oops"), "unreachable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := openLedger(t)
			r := NewRoster([]ask.Host{{Name: "davas", Provider: &looked{err: tt.err}}}, l, slog.New(slog.DiscardHandler))
			if o := r.Offers(t.Context())[0]; o.Word != tt.word || o.Up != (tt.err == nil) {
				t.Errorf("%+v, want %q", o, tt.word)
			}
		})
	}
	t.Run("nobody has looked", func(t *testing.T) {
		r := NewRoster([]ask.Host{{Name: "davas", Provider: &looked{}}}, openLedger(t), slog.New(slog.DiscardHandler))
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		r.looking = make(chan struct{}) // and a look is under way
		if o := r.Offers(gone)[0]; o.Word != "not asked yet" {
			t.Errorf("%+v", o)
		}
	})
}

func openLedger(t *testing.T) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestSinceWhenAHostIsAwayIsOneTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		first := time.Now()
		if _, err := l.Away(t.Context(), "davas", first); err != nil { // as the worker does
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		host := &looked{err: &provider.Error{Kind: provider.Unreachable}}
		roster := func() *Roster {
			return NewRoster([]ask.Host{{Name: "davas", Provider: host}}, l, slog.New(slog.DiscardHandler))
		}
		r := roster()
		if o := r.Offers(t.Context())[0]; !o.Since.Equal(first) {
			t.Errorf("a first look says since %s, the worker %s", o.Since, first)
		}
		host.err = nil
		time.Sleep(freshTime)
		if o := r.Offers(t.Context())[0]; !o.Since.Equal(time.Now()) {
			t.Errorf("it is up since %s", o.Since)
		}
		host.err = &provider.Error{Kind: provider.Unreachable}
		time.Sleep(freshTime)
		second := time.Now()
		r.Offers(t.Context())
		time.Sleep(time.Hour)
		if o := roster().Offers(t.Context())[0]; !o.Since.Equal(second) {
			t.Errorf("after a start it is away since %s, want %s", o.Since, second)
		}
	})
}
