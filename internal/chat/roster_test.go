package chat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/provider"
)

// looked is a provider whose look ends as it says.
type looked struct {
	provider.Provider
	err    error
	models []provider.Model // nil is one, m
}

func (l *looked) Models(context.Context) ([]provider.Model, error) {
	if l.err != nil {
		return nil, l.err
	}
	if l.models == nil {
		return []provider.Model{{Name: "m"}}, nil
	}
	return l.models, nil
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

func TestWhichModelsAreOffered(t *testing.T) {
	tests := []struct {
		name       string
		configured []string
		before     []provider.Model // in an earlier look, nil for none
		listed     []provider.Model // nil: it is away
		want       string
	}{
		{"all that it lists, by name", nil, nil, []provider.Model{{Name: "z"}, {Name: "a", Size: 1, Loaded: true}}, "a/1/loaded z"},
		{"those of the configuration alone, in its order", []string{"z", "a"}, nil, []provider.Model{{Name: "b"}, {Name: "a"}, {Name: "z", Size: 2}}, "z/2 a"},
		{"named as the configuration names them", []string{"A"}, nil, []provider.Model{{Name: "a:latest", Size: 3}}, "A/3"},
		{"one that it lacks is said to be missing", []string{"gone", "a"}, nil, []provider.Model{{Name: "a"}}, "gone/missing a"},
		{"while it is away those of the configuration", []string{"z", "a"}, nil, nil, "z a"},
		{"while it is away those that it listed last", nil, []provider.Model{{Name: "z"}, {Name: "a", Loaded: true}}, nil, "a z"},
		{"none, where it never answered", nil, nil, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLedger(t)
				host := &looked{models: tt.before}
				r := NewRoster([]ask.Host{{Name: "davas", Provider: host, Models: tt.configured}}, l, slog.New(slog.DiscardHandler))
				if tt.before != nil {
					r.Offers(t.Context())
					time.Sleep(freshTime)
				}
				if host.models = tt.listed; tt.listed == nil {
					host.err = &provider.Error{Kind: provider.Unreachable}
				}
				var got []string
				for _, m := range r.Offers(t.Context())[0].Models {
					word := m.Name
					if m.Size > 0 {
						word += fmt.Sprintf("/%d", m.Size)
					}
					if m.Loaded {
						word += "/loaded"
					}
					if m.Missing {
						word += "/missing"
					}
					got = append(got, word)
				}
				if strings.Join(got, " ") != tt.want {
					t.Errorf("it offers %q, want %q", strings.Join(got, " "), tt.want)
				}
			})
		})
	}
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

func TestWhoIsAskedWhereNothingIsSaid(t *testing.T) {
	listed := []provider.Model{{Name: "z"}, {Name: "b"}}
	tests := []struct {
		name       string
		configured []string
		away       bool
		post       Post
		want       string // the model, or how it is refused
	}{
		{"the configuration's first model", []string{"tiny", "b"}, false, Post{}, "tiny"},
		{"the configuration's first model, also while it is away", []string{"tiny", "b"}, true, Post{}, "tiny"},
		{"without a list the first by name", nil, false, Post{}, "b"},
		{"a name is spelled as the configuration does", []string{"tiny", "B:latest"}, false, Post{Model: "b"}, "B:latest"},
		{"a model outside the list is refused", []string{"tiny"}, false, Post{Model: "b"}, `"b" is not among the models of davas: tiny`},
		{"without a list any name is asked for", nil, false, Post{Model: "q"}, "q"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			host := &looked{models: listed}
			if tt.away {
				host.err = &provider.Error{Kind: provider.Unreachable}
			}
			c := New(Options{Hosts: []ask.Host{{Name: "davas", Provider: host, Models: tt.configured}}, History: &history.History{}})
			_, got, err := c.choose(t.Context(), tt.post.Provider, tt.post.Model, history.Settings{})
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("it asks %q, want %q", got, tt.want)
			}
		})
	}
}
