package history

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestPagesOfALongConversation(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	for turn := 1; turn <= 5; turn++ {
		ask(t, h, "c", fmt.Sprint("q", turn), at(turn))
		ask(t, h, "other", "q", at(turn))
		for range turn % 3 { // no answer, one or two
			settle(t, h, start(t, h, "c", turn), fmt.Sprint("a", turn), at(turn))
		}
	}
	all := []string{"1.0 user: q1", "1.1 assistant: a1", "2.0 user: q2", "2.1 assistant: a2", "2.2 assistant: a2", "3.0 user: q3",
		"4.0 user: q4", "4.1 assistant: a4", "5.0 user: q5", "5.1 assistant: a5", "5.2 assistant: a5"}
	for _, row := range []struct {
		name          string
		before, turns int
		want          []string
		more          bool
	}{
		{"the newest two turns", 0, 2, all[6:], true},
		{"the two before them", 4, 2, all[2:6], true},
		{"what is left", 2, 2, all[:2], false},
		{"all of them exactly", 0, 5, all, false},
		{"more than there are", 0, 99, all, false},
		{"before a turn that is not there yet", 77, 1, all[8:], true},
		{"before the first", 1, 5, nil, false},
		{"no turns", 0, 0, nil, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, more, err := h.Page(ctx, "c", row.before, row.turns)
			must(t, err)
			if !slices.Equal(lines(got), row.want) || more != row.more {
				t.Errorf("%q, more: %v; want %q, %v", lines(got), more, row.want, row.more)
			}
		})
	}
	for turn, want := range map[int][]string{0: all, 1: all, 4: all[6:], 5: all[8:], 6: nil} {
		got, err := h.Since(ctx, "c", turn)
		must(t, err)
		if !slices.Equal(lines(got), want) {
			t.Errorf("since turn %d: %q, want %q", turn, lines(got), want)
		}
	}
}

func TestTheListComesInPages(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	want := []string{"d.with.dots", "a", "e", "b"} // e and b at one time: the greater id first
	for id, second := range map[string]int{"b": 1, "e": 1, "a": 3, "d.with.dots": 4, "gone": 5} {
		ask(t, h, id, "q", at(second))
	}
	must(t, h.Delete(ctx, "gone", at(6)))
	for limit := 1; limit <= 5; limit++ {
		var got []string
		var next Cursor
		for pages := 0; ; pages++ {
			all, after, err := h.Conversations(ctx, next, limit)
			must(t, err)
			for _, c := range all {
				got = append(got, c.ID)
			}
			if next = after; next == "" {
				break
			}
			if len(all) != limit || pages > 5 {
				t.Fatalf("limit %d: page %d has %d", limit, pages, len(all))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %v, want %v", limit, got, want)
		}
	}
	settle(t, h, start(t, h, "b", 1), "a", at(9))
	if got := ids(t, h); got[0] != "b" {
		t.Errorf("an answer does not bring its conversation to the front: %v", got)
	}
}

// TestTheListEqualsWhatIsKept does what owners do in any order, and makes the list
// anew after it.
func TestTheListEqualsWhatIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	ctx := t.Context()
	h, err := Open(ctx, path)
	must(t, err)
	random := rand.New(rand.NewPCG(1, 2))
	var running []Running
	for i := range 300 {
		id, now := string(rune('a'+random.IntN(6))), at(random.IntN(1000)) // of a clock that is set
		switch random.IntN(8) {
		case 0, 1, 2:
			h.Ask(ctx, id, Settings{Title: fmt.Sprint("t", i%7)}, "{ not JSON", now)
		case 3:
			if r, err := h.Start(ctx, Running{Conversation: id, Turn: 1, Created: now}); err == nil {
				running = append(running, r)
			}
		case 4:
			if len(running) > 0 {
				settle(t, h, running[0], "a", now)
				running = running[1:]
			}
		case 5:
			h.Change(ctx, id, Settings{Title: fmt.Sprint(i)}, now)
		case 6:
			h.Delete(ctx, id, now)
		case 7:
			h.Undelete(ctx, id, now)
		}
		if i%100 == 99 {
			_, err := h.Purge(ctx, at(200))
			must(t, err)
		}
	}
	want := dump(t, h, "conversations")
	if len(want) != 6 || len(dump(t, h, "messages")) < 100 {
		t.Fatalf("too little was done: %v", want)
	}
	same(t, h)
	_, err = h.db.Write.Exec("DELETE FROM conversations")
	must(t, err)
	must(t, h.Close())

	h, err = Open(ctx, path) // which sees that the list is missing
	must(t, err)
	defer h.Close()
	if got := dump(t, h, "conversations"); !reflect.DeepEqual(got, want) {
		t.Errorf("after a start the list is\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestNoQueryReadsAWholeTable asks SQLite how it finds the rows, so that a million
// messages do not slow what touches one conversation.
func TestNoQueryReadsAWholeTable(t *testing.T) {
	h := open(t)
	for name, query := range map[string]string{
		"Conversation": keptQuery, "Conversations": listQuery, "Page": turnQuery,
		"Start": versionQuery, "each message": foldOne, "Purge": deletedQuery, "Purge, of turns": purgeTurns, "Purge, of settings": purgeMeta,
		"the trigger of each message": "SELECT 1 FROM messages WHERE conversation = ? AND turn = ? AND version = ? AND turn > 0",
	} {
		t.Run(name, func(t *testing.T) {
			args := make([]any, strings.Count(query, "?"))
			rows, err := h.db.Write.Query("EXPLAIN QUERY PLAN "+query, args...)
			must(t, err)
			defer rows.Close()
			steps := 0
			for rows.Next() {
				var id, parent, unused int
				var detail string
				must(t, rows.Scan(&id, &parent, &unused, &detail))
				steps++
				if strings.HasPrefix(detail, "SCAN") && detail != "SCAN CONSTANT ROW" || strings.Contains(detail, "TEMP B-TREE") {
					t.Errorf("%s\n%s", detail, query)
				}
			}
			must(t, rows.Err())
			if steps == 0 {
				t.Error("no plan")
			}
		})
	}
}
