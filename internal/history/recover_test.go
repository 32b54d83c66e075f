package history

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestWhatWasShownOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	ctx := t.Context()
	h, err := Open(ctx, path)
	must(t, err)
	for _, c := range []string{"a", "b", "c", "d"} {
		ask(t, h, c, "q", at(0))
	}
	ended := start(t, h, "a", 1)
	must(t, h.Record(ctx, []Piece{{Running: ended.ID, Text: "of an answer that ended"}}))
	talking := start(t, h, "b", 1)
	silent := start(t, h, "c", 1)
	must(t, h.Describe(ctx, talking.ID, 5, "trace"))
	must(t, h.Record(ctx, []Piece{
		{Running: talking.ID, Thinking: true, Text: "Hm"},
		{Running: ended.ID, Text: " too"},
		{Running: talking.ID, Text: "One \xe2\x82"}, // the rest of the letter comes later
	}))
	settle(t, h, ended, "whole", at(2))
	late := start(t, h, "d", 1)
	must(t, h.Record(ctx, []Piece{{Running: late.ID, Text: "L"}, {Running: talking.ID, Text: "\xac and \x00 and \xff"}}))
	must(t, h.Record(ctx, nil))
	must(t, h.Close())

	h, err = Open(ctx, path)
	must(t, err)
	defer h.Close()
	got, err := h.Recover(ctx, at(60))
	must(t, err)
	message := func(id int64, r Running, text, thinking, advice, trace string) Message {
		return Message{ID: id, Conversation: r.Conversation, Turn: 1, Version: 1, Role: Assistant, Text: text, Thinking: thinking, State: Interrupted,
			Reason: "runner ended before the answer did", Advice: advice, Provider: "davas", Model: "m", Trace: trace, Created: at(1), Ended: at(60)}
	}
	want := []Message{
		message(10, talking, "One € and \x00 and \uFFFD", "Hm", "ask for the answer anew", "trace"),
		message(11, silent, "", "", "ask for the answer anew", ""),
		message(12, late, "L", "", "ask for the answer anew", ""),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("recovered\n%+v, want\n%+v", got, want)
	}
	for _, m := range want {
		if all := page(t, h, m.Conversation); len(all) != 2 || !reflect.DeepEqual(all[1], m) {
			t.Errorf("conversation %s has %+v", m.Conversation, all)
		}
	}
	if got := lines(page(t, h, "a")); !reflect.DeepEqual(got, []string{"1.0 user: q", "1.1 assistant: whole"}) {
		t.Errorf("the answer that had ended is %q", got)
	}
	if again, err := h.Recover(ctx, at(61)); err != nil || len(again) > 0 {
		t.Errorf("a second time: %v, %v; want nothing", again, err)
	}
	if left := append(dump(t, h, "running"), dump(t, h, "pieces")...); len(left) > 0 {
		t.Errorf("left is %v", left)
	}
	if r := start(t, h, "b", 1); r.Version != 2 || r.ID <= late.ID {
		t.Errorf("the next answer is %+v, want version 2 and an id above %d", r, late.ID)
	}
}

// TestAnswersThatOverlapKeepTheirPieces ends answers in every order while others
// run, and looks whether each that is left still has all of its text.
func TestAnswersThatOverlapKeepTheirPieces(t *testing.T) {
	ctx := t.Context()
	for _, row := range []struct {
		name  string
		steps string // a capital begins an answer, a small letter is a piece of it, -x ends it
		want  map[string]string
		rows  int // of the log that are left, the last one before the oldest answer's first among them
	}{
		{"one after the other", "Aaa-aBb", map[string]string{"b": "b"}, 1},
		{"the older ends first", "AaBbab-ab", map[string]string{"b": "bbb"}, 5},
		{"the younger ends first", "AaBbab-ba", map[string]string{"a": "aaa"}, 5},
		{"a chain that always runs", "AaBb-aCc-bDd-c", map[string]string{"d": "d"}, 2},
		{"the log is empty when the second begins", "ABab-a-bCc", map[string]string{"c": "c"}, 1},
		{"one that says nothing holds nothing back", "AaaBaa-a", map[string]string{"b": ""}, 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := open(t)
			running := make(map[string]Running)
			for i := 0; i < len(row.steps); i++ {
				switch c := row.steps[i : i+1]; {
				case c == "-":
					i++
					settle(t, h, running[row.steps[i:i+1]], "whole", at(i))
				case c == strings.ToUpper(c):
					id := strings.ToLower(c)
					ask(t, h, id, "q", at(i))
					running[id] = start(t, h, id, 1)
				default:
					must(t, h.Record(ctx, []Piece{{Running: running[c].ID, Text: c}}))
				}
			}
			if rows := len(dump(t, h, "pieces")); rows != row.rows {
				t.Errorf("%d rows of pieces, want %d", rows, row.rows)
			}
			all, err := h.Recover(ctx, noon)
			must(t, err)
			got := make(map[string]string)
			for _, m := range all {
				got[m.Conversation] = m.Text
			}
			if !reflect.DeepEqual(got, row.want) {
				t.Errorf("recovered %q, want %q", got, row.want)
			}
		})
	}
}

func TestDamagedPiecesAreToldAndNotGuessed(t *testing.T) {
	good := pack([]Piece{{Running: 300, Thinking: true, Text: "some thought"}, {Running: 1, Text: ""}})
	for n := range good {
		whole := 0
		var failed error
		for p, err := range unpack(good[:n]) {
			if failed = err; err == nil {
				whole++
				if p.Running != 300 || !p.Thinking || p.Text != "some thought" {
					t.Errorf("%d bytes: a piece %+v", n, p)
				}
			}
		}
		if end := len(good) - 2; (failed == nil) != (n == 0 || n == end) || n < end && whole != 0 {
			t.Errorf("%d of %d bytes: %d pieces, %v", n, len(good), whole, failed)
		}
	}
	h := open(t)
	must(t, h.Record(t.Context(), []Piece{{Running: 1, Text: "x"}}))
	_, err := h.db.Write.Exec("UPDATE pieces SET data = x'02FF'")
	must(t, err)
	if _, err := h.Recover(t.Context(), noon); err == nil {
		t.Error("damaged pieces were taken")
	}
}
