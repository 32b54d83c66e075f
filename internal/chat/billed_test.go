package chat

import (
	"cmp"
	"testing"
	"time"

	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/provider"
)

func TestWhatMayHaveBeenBilled(t *testing.T) {
	tests := []struct {
		name     string
		paid     bool
		provider string // "" is the one that is configured
		call     string // not made, not sent, sent or open
		want     bool
	}{
		{"a call that costs nothing", false, "", "open", false},
		{"none was made", true, "", "not made", false},
		{"it was not sent", true, "", "not sent", false},
		{"it was sent", true, "", "sent", true},
		{"it was open when the process ended", true, "", "open", true},
		{"its provider is not configured any more", false, "gone", "open", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				name := cmp.Or(tt.provider, "davas")
				if tt.call != "not made" {
					id, err := r.ledger.IntendChat(t.Context(), ledger.ChatRef{Conversation: "c1", Turn: 2, Version: 1}, ledger.Call{Provider: name, Model: "m", Try: 1, Started: time.Now()}, ledger.Allowance{})
					if err != nil {
						t.Fatal(err)
					}
					if tt.call == "open" {
						_, err = r.ledger.RecoverChat(t.Context(), time.Now())
					} else {
						err = r.ledger.ChatFailed(t.Context(), id, provider.Answer{}, &provider.Error{Kind: provider.Cut, Sent: tt.call == "sent"}, ledger.Price{}, time.Now())
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				m := history.Message{Conversation: "c1", Turn: 2, Version: 1, Provider: name}
				if got := r.Billed(t.Context(), m); got != tt.want {
					t.Errorf("billed: %t", got)
				}
				m.Turn = 1
				if tt.provider == "" && r.Billed(t.Context(), m) {
					t.Error("the call of another turn counts")
				}
			}, func(o *Options) { o.Hosts[0].Paid = tt.paid })
		})
	}
}
