package chat

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/provider"
)

func told(asked, answered string) turn {
	return turn{asked: asked, answer: history.Message{Text: answered}}
}

func TestCompose(t *testing.T) {
	long := strings.Repeat("word ", 100) // about 170 tokens by the guess
	tests := []struct {
		name   string
		system string
		turns  []turn
		size   int
		scale  float64
		first  int
		want   string
	}{
		{"one message", "", []turn{told("a", "")}, 0, 0, 1, "user:a"},
		{"the system prompt goes first", "be brief", []turn{told("a", "b"), told("c", "")}, 0, 0, 1, "system:be brief user:a assistant:b user:c"},
		{"a message without an answer stands before the next", "", []turn{told("a", ""), told("c", "")}, 0, 0, 1, "user:a\n\nc"},
		{"the answer that is asked anew is not given", "", []turn{told("a", "b"), told("c", "old")}, 0, 0, 1, "user:a assistant:b user:c"},
		{"what does not fit is left out, the oldest first", "", []turn{told("a", long), told("b", "x"), told("c", "")}, 256, 0, 2, "user:b assistant:x user:c"},
		{"the last message is always given", "", []turn{told("a", "b"), told(long, "")}, 64, 0, 2, "user:" + long},
		{"with an unknown context all is given", "", []turn{told("a", long), told("b", long), told("c", "")}, 0, 0, 1, "user:a assistant:" + long + " user:b assistant:" + long + " user:c"},
		{"a model that counts less is given more", "", []turn{told("a", long), told("b", "x"), told("c", "")}, 256, 1, 1, "user:a assistant:" + long + " user:b assistant:x user:c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for i := range tt.turns {
				tt.turns[i].number = i + 1
			}
			p := compose(tt.system, tt.turns, tt.size, tt.scale)
			var got []string
			for _, m := range p.messages {
				got = append(got, fmt.Sprintf("%s:%s", m.Role, m.Content))
			}
			if s := strings.Join(got, " "); s != tt.want || p.first != tt.first {
				t.Errorf("from turn %d: %q", p.first, s)
			}
		})
	}
}

func TestALongConversationIsReadFromItsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.model.script = says(strings.Repeat("word ", 200))
		for range 5 {
			r.send("go on")
			r.await()
		}
		c, err := r.history.Conversation(t.Context(), "c1")
		if err != nil {
			t.Fatal(err)
		}
		first, err := r.Reads(t.Context(), c, 1)
		if err != nil || first < 3 || first > 5 {
			t.Errorf("the model reads from turn %d on, %v", first, err)
		}
		asked := r.model.requests()
		if m := asked[4].Messages; len(m) >= len(asked[3].Messages)+2 || m[0].Role != provider.User {
			t.Errorf("the fifth prompt has %d messages, the fourth %d", len(m), len(asked[3].Messages))
		}
	}, func(o *Options) { o.Context = func(string, string) int { return 1024 } })
}

// TestAMessageThatCameBetweenIsRead begins an answer for who looked at a conversation before
// another's first message was written to it.
func TestAMessageThatCameBetweenIsRead(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		first := r.send("one")
		r.await()
		s := history.Settings{Title: "one", Provider: first.Provider, Model: first.Model}
		if turn, err := r.begin(t.Context(), question{conversation: "c1", settings: s, known: 0, text: "two"}); err != nil || turn.Turn != 2 {
			t.Fatalf("%+v, %v", turn, err)
		}
		r.await()
		want := []provider.Message{{Role: provider.User, Content: "one"}, {Role: provider.Assistant, Content: "Hello, world"}, {Role: provider.User, Content: "two"}}
		if got := r.model.requests()[1].Messages; !slices.Equal(got, want) {
			t.Errorf("the model was given %+v", got)
		}
	})
}

// TestNoMoreIsReadThanIsShown asks what is no longer read of a conversation all of
// which is: turns far before those that are shown are not looked at.
func TestNoMoreIsReadThanIsShown(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for range 2*turnsRecalled + 1 {
			if _, err := r.history.Ask(t.Context(), "c1", history.Settings{Title: "long"}, "go on", time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		c, err := r.history.Conversation(t.Context(), "c1")
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range []struct {
			name       string
			from, want int
		}{
			{"the last turns are shown: one look is enough", c.Turns - 10, turnsRecalled + 2},
			{"the first that is read is the first that is shown: it may be the oldest", turnsRecalled + 2, 2},
			{"all are shown", 1, 1},
		} {
			if first, err := r.Reads(t.Context(), c, row.from); err != nil || first != row.want {
				t.Errorf("%s: the model reads from turn %d on, %v", row.name, first, err)
			}
		}
	})
}

func TestTheNewestAnswerWithATextCounts(t *testing.T) {
	asked := history.Message{Role: history.User, Turn: 1, Text: "hello"}
	version := func(n int, text string, state history.State) history.Message {
		return history.Message{Role: history.Assistant, Turn: 1, Version: n, Text: text, State: state}
	}
	for _, tt := range []struct {
		name    string
		answers []history.Message
		want    string
	}{
		{"none", nil, ""},
		{"the newest of two", []history.Message{version(1, "one", history.Done), version(2, "two", history.Done)}, "two"},
		{"one that failed without a word is passed over", []history.Message{version(1, "one", history.Done), version(2, "", history.Failed)}, "one"},
		{"what had come until a stop counts", []history.Message{version(1, "one", history.Done), version(2, "half", history.Stopped)}, "half"},
		{"an answer to another message does not", []history.Message{{Role: history.Assistant, Turn: 2, Text: "odd"}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := turns(append([]history.Message{asked}, tt.answers...))
			if len(all) != 1 || all[0].answer.Text != tt.want {
				t.Errorf("%+v", all)
			}
		})
	}
}
