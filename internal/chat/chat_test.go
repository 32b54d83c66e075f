package chat

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/provider"
)

func TestAnAnswerIsShownAndKept(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		turn := r.send("What is up?")
		if turn != (Turn{"c1", 1, 1, "davas", "m"}) {
			t.Errorf("%+v", turn)
		}
		text, _, end := r.shown()
		if text != "Hello, world" || end != "stop" {
			t.Errorf("shown %q, ended by %q", text, end)
		}
		r.await()
		m := r.newest()
		if m.Text != "Hello, world" || m.State != history.Done || m.Turn != 1 || m.Version != 1 || m.Model != "m" || m.Answer.Usage.Written != 3 {
			t.Errorf("kept %+v", m)
		}
		c, err := r.history.Conversation(t.Context(), "c1")
		if err != nil || c.Title != "What is up?" || c.Turns != 1 {
			t.Errorf("%+v, %v", c, err)
		}
		calls, err := r.ledger.ChatCalls(t.Context(), "c1")
		if err != nil || len(calls) != 1 || calls[0].State != ledger.Answered || calls[0].Written != 3 {
			t.Errorf("%+v, %v", calls, err)
		}
		if lines := r.arbiter.Lines(); len(lines[0].Held) != 0 {
			t.Errorf("a place is still held: %+v", lines)
		}
	})
}

func TestStopKeepsWhatHasCome(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.model.script = hangs("half of")
		r.send("long story")
		synctest.Wait()
		began := time.Now()
		if !r.Stop("c1") {
			t.Fatal("nothing was there to stop")
		}
		if text, _, end := r.shown(); text != "half of" || end != "stopped" {
			t.Errorf("shown %q, ended by %q", text, end)
		}
		r.await()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it ended %s after the stop", took)
		}
		if m := r.newest(); m.Text != "half of" || m.State != history.Stopped {
			t.Errorf("kept %+v", m)
		}
		calls, _ := r.ledger.ChatCalls(t.Context(), "c1")
		if len(calls) != 1 || calls[0].State != ledger.CallLost || !calls[0].Billed {
			t.Errorf("the stopped call may have been billed: %+v", calls)
		}
		if r.Stop("c1") {
			t.Error("a second stop says that something ran")
		}
	})
}

func TestWhoAskedMayGo(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ctx, leave := context.WithCancel(t.Context())
		r.model.script = func(ctx context.Context, n int, req provider.Request, sink provider.Sink) (provider.Answer, error) {
			leave() // the page is closed while the model works
			time.Sleep(time.Minute)
			if ctx.Err() != nil {
				return provider.Answer{}, &provider.Error{Kind: provider.Cancelled}
			}
			return says("still here")(ctx, n, req, sink)
		}
		if _, err := r.Send(ctx, "c1", Post{Text: "x"}); err != nil {
			t.Fatal(err)
		}
		r.await()
		if m := r.newest(); m.State != history.Done || m.Text != "still here" {
			t.Errorf("%+v", m)
		}
	})
}

func TestOneAnswerAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.model.script = hangs("…")
		r.send("first")
		if _, err := r.Send(t.Context(), "c1", Post{Text: "second"}); !errors.Is(err, ErrRunning) {
			t.Errorf("%v, want ErrRunning", err)
		}
		if _, err := r.Again(t.Context(), "c1", 1, Post{}); !errors.Is(err, ErrRunning) {
			t.Errorf("%v, want ErrRunning", err)
		}
		synctest.Wait()
		r.Stop("c1")
		r.await()
		if n := len(r.messages()); n != 2 {
			t.Errorf("%d messages, want the first and its answer", n)
		}
		_, err := r.Send(t.Context(), "c1", Post{Text: "more", System: "be brief"})
		if invalid, ok := errors.AsType[*Invalid](err); !ok || invalid.Field != "system" {
			t.Errorf("a system prompt in the middle: %v, want it refused", err)
		}
	})
}

func TestAnAnswerAgainIsAFurtherVersion(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.model.script = func(ctx context.Context, n int, req provider.Request, sink provider.Sink) (provider.Answer, error) {
			return says(fmt.Sprintf("answer %d", n))(ctx, n, req, sink)
		}
		r.send("one")
		r.await()
		r.send("two")
		r.await()
		if _, err := r.Again(t.Context(), "c1", 1, Post{}); !errors.Is(err, ErrNoTurn) {
			t.Errorf("an earlier turn: %v, want ErrNoTurn", err)
		}
		turn, err := r.Again(t.Context(), "c1", 2, Post{Model: "other"})
		if err != nil || turn.Version != 2 || turn.Model != "other" {
			t.Fatalf("%+v, %v", turn, err)
		}
		r.await()
		var kept []string
		for _, m := range r.messages() {
			kept = append(kept, fmt.Sprintf("%s %d.%d %s", m.Role, m.Turn, m.Version, m.Text))
		}
		if want := []string{"user 1.0 one", "assistant 1.1 answer 1", "user 2.0 two", "assistant 2.1 answer 2", "assistant 2.2 answer 3"}; !slices.Equal(kept, want) {
			t.Errorf("kept %q", kept)
		}
		asked := r.model.requests()
		if !slices.Equal(asked[1].Messages, asked[2].Messages) {
			t.Errorf("asked again with %+v, first with %+v", asked[2].Messages, asked[1].Messages)
		}
		r.send("three")
		r.await()
		if m := r.model.requests()[3].Messages; m[3].Content != "answer 3" {
			t.Errorf("the newest version does not count: %+v", m)
		}
	})
}

func TestFailuresAreKept(t *testing.T) {
	tests := []struct {
		name   string
		script func(context.Context, int, provider.Request, provider.Sink) (provider.Answer, error)
		reason string
		end    string
	}{
		{"the provider says no", fails(provider.Error{Kind: provider.Auth, Reason: "the key is not accepted", Advice: "look at it"}), "the key is not accepted", "auth"},
		{"an error that explains nothing", func(context.Context, int, provider.Request, provider.Sink) (provider.Answer, error) {
			return provider.Answer{}, errors.New("odd")
		}, "does not explain", "failed"},
		{"a panic", func(context.Context, int, provider.Request, provider.Sink) (provider.Answer, error) { panic("oops") }, "the program failed", "failed"},
		{"an answer that is cut keeps its text", func(_ context.Context, _ int, _ provider.Request, sink provider.Sink) (provider.Answer, error) {
			sink(provider.Event{Kind: provider.TextEvent, Text: "partial"})
			return provider.Answer{Text: "partial"}, &provider.Error{Kind: provider.Cut, Provider: "davas", Reason: "ran into the limit", Sent: true}
		}, "ran into the limit", "cut"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.model.script = tt.script
				r.send("hello")
				text, _, end := r.shown()
				r.await()
				m := r.newest()
				if m.State != history.Failed || !strings.Contains(m.Reason, tt.reason) || end != tt.end || m.Text != text {
					t.Errorf("kept %+v, shown %q, ended by %q", m, text, end)
				}
				r.model.script = says("well")
				r.send("once more")
				r.await()
				if m := r.newest(); m.State != history.Done {
					t.Errorf("the next answer: %+v", m)
				}
			})
		})
	}
}

func TestAHostThatIsAwayIsWaitedFor(t *testing.T) {
	away := provider.Error{Kind: provider.Unreachable, Reason: "unreachable: connection refused"}
	t.Run("and answers when it is back", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			r.model.script = func(ctx context.Context, n int, req provider.Request, sink provider.Sink) (provider.Answer, error) {
				if n < 4 {
					return fails(away)(ctx, n, req, sink)
				}
				return says("awake")(ctx, n, req, sink)
			}
			r.send("wake up")
			_, phases, end := r.shown()
			r.await()
			if !slices.ContainsFunc(phases, func(p string) bool {
				return strings.HasPrefix(p, "connecting davas cannot be reached since 00:00 UTC (connection refused)")
			}) || end != "stop" {
				t.Errorf("phases %q, end %q", phases, end)
			}
			if since, _ := r.ledger.Away(t.Context(), "davas", time.Now().Add(time.Hour)); !since.After(time.Now()) {
				t.Errorf("it has answered, and is away since %s", since)
			}
			if lines := r.arbiter.Lines(); len(lines[0].Held) != 0 {
				t.Errorf("%+v", lines)
			}
		})
	})
	t.Run("and is told to be away since somebody first saw it", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			if _, err := r.ledger.Away(t.Context(), "davas", time.Now().Add(-26*time.Hour)); err != nil {
				t.Fatal(err)
			}
			r.model.script = fails(away)
			r.send("wake up")
			synctest.Wait()
			r.Stop("c1")
			_, phases, _ := r.shown()
			r.await()
			if want := "connecting davas cannot be reached since 1999-12-30 22:00 UTC (connection refused)"; !slices.Contains(phases, want) {
				t.Errorf("phases %q, want %q", phases, want)
			}
		})
	})
	t.Run("for ten minutes", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			r.model.script = fails(away)
			began := time.Now()
			r.send("wake up")
			r.await()
			if m := r.newest(); m.State != history.Failed || time.Since(began) < patience || time.Since(began) > patience+time.Minute {
				t.Errorf("after %s: %+v", time.Since(began), m)
			}
		})
	})
	t.Run("unless it is stopped", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			r.model.script = fails(away)
			r.send("wake up")
			synctest.Wait()
			r.Stop("c1")
			r.await()
			if m := r.newest(); m.State != history.Stopped {
				t.Errorf("%+v", m)
			}
		})
	})
}

func TestTheLineIsShown(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		place, err := r.arbiter.Acquire(t.Context(), "davas", provider.Batch, "20261124-job")
		if err != nil {
			t.Fatal(err)
		}
		r.send("hello")
		time.Sleep(time.Minute)
		if n := len(r.model.requests()); n != 0 {
			t.Fatalf("asked %d times without a place", n)
		}
		place.Release()
		_, phases, _ := r.shown()
		if !slices.Contains(phases, "waiting in line at davas behind the job 20261124-job") {
			t.Errorf("phases %q", phases)
		}
	})
}

func TestALimitEndsAnAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.model.script = hangs("slow")
		r.send("hello")
		r.await()
		if m := r.newest(); m.State != history.Failed || !strings.Contains(m.Reason, "longer than 15m0s") || m.Text != "slow" {
			t.Errorf("%+v", m)
		}
	})
}

func TestTheDaysCapHoldsForChat(t *testing.T) {
	none := 0
	inBubble(t, func(t *testing.T, r *rig) {
		r.send("hello")
		r.await()
		m := r.newest()
		if m.State != history.Failed || !strings.Contains(m.Reason, "caps.day_tokens") || len(r.model.requests()) != 0 {
			t.Errorf("%+v after %d calls", m, len(r.model.requests()))
		}
	}, func(o *Options) { o.Hosts[0].Paid = true; o.Asker.Caps = ledger.Caps{DayTokens: &none} })
}

func TestTheEndOfTheProcess(t *testing.T) {
	t.Run("an answer gets its grace time", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			r.model.script = func(ctx context.Context, n int, req provider.Request, sink provider.Sink) (provider.Answer, error) {
				time.Sleep(10 * time.Second)
				return says("in time")(ctx, n, req, sink)
			}
			r.send("hello")
			synctest.Wait()
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			if m := r.newest(); m.State != history.Done {
				t.Errorf("%+v", m)
			}
			if _, err := r.Send(t.Context(), "c2", Post{Text: "late"}); !errors.Is(err, ErrStopping) {
				t.Errorf("%v, want ErrStopping", err)
			}
		})
	})
	t.Run("and no more", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			r.model.script = hangs("half")
			r.send("hello")
			synctest.Wait()
			began := time.Now()
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			if m := r.newest(); m.State != history.Interrupted || m.Text != "half" || time.Since(began) != 20*time.Second {
				t.Errorf("after %s: %+v", time.Since(began), m)
			}
		})
	})
}

func TestAProcessThatDiedLeavesWhatWasShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "history.db")
		h, err := history.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if _, err := h.Ask(t.Context(), "c1", history.Settings{Title: "t", Provider: "davas", Model: "m"}, "hello", time.Now()); err != nil {
			t.Fatal(err)
		}
		running, err := h.Start(t.Context(), history.Running{Conversation: "c1", Turn: 1, Provider: "davas", Model: "m", Created: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Record(t.Context(), []history.Piece{{Running: running.ID, Text: "half"}}); err != nil {
			t.Fatal(err)
		}
		left, err := h.Recover(t.Context(), time.Now())
		if err != nil || len(left) != 1 || left[0].State != history.Interrupted || left[0].Text != "half" {
			t.Errorf("%+v, %v", left, err)
		}
	})
}

func TestWhatIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for _, tt := range []struct {
			name, id string
			post     Post
			field    string
		}{
			{"an empty message", "c1", Post{Text: " \n"}, "text"},
			{"a message that is too long", "c1", Post{Text: strings.Repeat("x", MaxText+1)}, "text"},
			{"bytes that are no text", "c1", Post{Text: "\xff"}, "text"},
			{"an id with other letters", "C1", Post{Text: "x"}, "id"},
			{"an id that is too long", strings.Repeat("a", 65), Post{Text: "x"}, "id"},
			{"a path as an id", "../x", Post{Text: "x"}, "id"},
			{"a provider that is not configured", "c1", Post{Text: "x", Provider: "groq"}, "provider"},
			{"a temperature that no server takes", "c1", Post{Text: "x", Temperature: new(2.5)}, "temperature"},
			{"a system prompt that is too long", "c1", Post{Text: "x", System: strings.Repeat("x", MaxText+1)}, "system"},
			{"a paid provider's model that is not configured", "c1", Post{Text: "x", Model: "dear"}, "model"},
		} {
			_, err := r.Send(t.Context(), tt.id, tt.post)
			if invalid, ok := errors.AsType[*Invalid](err); !ok || invalid.Field != tt.field {
				t.Errorf("%s: %v, want one about %s", tt.name, err, tt.field)
			}
		}
		if all, _, err := r.history.Conversations(t.Context(), "", 10); err != nil || len(all) != 0 {
			t.Errorf("what was refused is kept: %+v, %v", all, err)
		}
	}, func(o *Options) { o.Hosts[0].Paid, o.Hosts[0].Models = true, []string{"m"} })
}

func TestACallOfAProcessThatDiedIsEnded(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		calls, err := r.ledger.ChatCalls(t.Context(), "c1")
		if err != nil || len(calls) != 1 || calls[0].State != ledger.CallLost || !calls[0].Billed || calls[0].SpentTokens != 70 || calls[0].Ended.IsZero() {
			t.Errorf("%+v, %v", calls, err)
		}
	}, func(o *Options) {
		if _, err := o.Ledger.IntendChat(context.Background(), ledger.ChatRef{Conversation: "c1", Turn: 1, Version: 1}, ledger.Call{Try: 1, Provider: "davas", Paid: true, SpentTokens: 70, Started: time.Now()}, ledger.Allowance{}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTitle(t *testing.T) {
	for text, want := range map[string]string{
		"  What is\n the time? ":    "What is the time?",
		strings.Repeat("word ", 30): strings.TrimSpace(strings.Repeat("word ", 12)) + "…",
		strings.Repeat("ä", 100):    strings.Repeat("ä", 59) + "…",
	} {
		if got := Title(text); got != want {
			t.Errorf("Title(%q) = %q, want %q", text, got, want)
		}
	}
}

// TestAnAnswerWithoutEndEnds has a model say more than the history takes, at once and piece
// by piece: the conversation goes on, with the answer's beginning.
func TestAnAnswerWithoutEndEnds(t *testing.T) {
	most := strings.Repeat("ä", history.MostText/2+1)
	for name, script := range map[string]func(context.Context, int, provider.Request, provider.Sink) (provider.Answer, error){
		"at once": func(context.Context, int, provider.Request, provider.Sink) (provider.Answer, error) {
			return provider.Answer{Text: most, Provider: "davas", Model: "m", Finish: "stop", Usage: provider.Usage{Estimate: 2, Read: 5, Written: 9}}, nil
		},
		"piece by piece": func(ctx context.Context, _ int, _ provider.Request, sink provider.Sink) (provider.Answer, error) {
			var said strings.Builder
			for piece := most[:1<<20]; ctx.Err() == nil; {
				sink(provider.Event{Kind: provider.TextEvent, Text: piece})
				said.WriteString(piece)
			}
			return provider.Answer{Text: said.String(), Provider: "davas", Model: "m"}, &provider.Error{Kind: provider.Cancelled, Provider: "davas", Reason: "cancelled", Sent: true}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.model.script = script
				r.send("never end")
				r.await()
				m := r.newest()
				if m.State != history.Failed || !strings.Contains(m.Reason, "longer than 32 MiB; its beginning is kept") || m.Advice == "" {
					t.Errorf("it is %s: %s (%s)", m.State, m.Reason, m.Advice)
				}
				if len(m.Text) < 30<<20 || !strings.HasPrefix(most, strings.TrimRight(m.Text, "\uFFFD")) {
					t.Errorf("%d bytes are kept", len(m.Text))
				}
			})
		})
	}
}
