package web

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
)

// FuzzPieceIsWhatJSONSays compares the event that is written by hand with what the
// library reads in it.
func FuzzPieceIsWhatJSONSays(f *testing.F) {
	for _, seed := range []string{"", "plain", "\"quoted\" \\ back", "line\nline\r\n\ttab", "\x00\x1f\x7f", "grüße 🐤 \u2028\u2029", "broken \xff\xfe\xe2\x82 end", "\xe2\x82", "<script>&"} {
		f.Add(seed, "more")
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		var s sse
		s.piece(42, "text", 7, slices.Values([]string{one, two}))
		lines := strings.Split(string(s.buf), "\n")
		if len(lines) != 5 || lines[0] != "id: 42" || lines[1] != "event: text" || lines[3] != "" || lines[4] != "" {
			t.Fatalf("the event is %q", s.buf)
		}
		var got spoken
		if err := json.Unmarshal([]byte(strings.TrimPrefix(lines[2], "data: ")), &got); err != nil {
			t.Fatalf("%v: %s", err, lines[2])
		}
		if want := (spoken{Turn: 7, Text: valid(one) + valid(two)}); got != want {
			t.Errorf("it says %+v, want %+v", got, want)
		}
	})
}

// valid is text as the library writes it: each byte that is no UTF-8 is one
// replacement character.
func valid(text string) string {
	var b strings.Builder
	for _, r := range text {
		b.WriteRune(r)
	}
	return b.String()
}

// TestALongAnswerIsRetoldInPortions gives a reader an answer that is longer than is
// sent at once.
func TestALongAnswerIsRetoldInPortions(t *testing.T) {
	long := strings.Repeat("ü", 3*portion/2) // each two bytes, so that a portion may end within one
	for _, row := range []struct {
		name  string
		items []live.Item
		// portions is how many events of text there are, and withID how many have one.
		portions, withID int
	}{
		{"what was folded is sent in portions, of which the last has the id", []live.Item{{Reset: true}, text(9, "x"+long)}, 4, 1},
		{"what follows it keeps its own ids", []live.Item{{Reset: true}, text(9, long), text(10, "a")}, 4, 2},
		{"what is kept event by event is not divided", []live.Item{text(9, long)}, 1, 1},
		{"nor is it after a retelling", []live.Item{{Reset: true, ID: 3}, text(9, long)}, 1, 1},
		{"small pieces go together", []live.Item{text(9, "a"), text(10, "b"), text(11, "c")}, 1, 1},
		{"many of them in portions", []live.Item{text(9, long), text(10, long), text(11, "c")}, 3, 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			body := &streamedBody{changed: make(chan struct{}, 1)}
			out := &sse{w: body, rc: http.NewResponseController(body)}
			reader := &talk{out: out, turn: 1}
			if err := reader.items(t.Context(), row.items); err != nil {
				t.Fatal(err)
			}
			if err := out.flush(); err != nil {
				t.Fatal(err)
			}
			var want, got strings.Builder
			for _, it := range row.items {
				want.WriteString(it.Event.Text)
			}
			portions, withID := 0, 0
			for event := range strings.SplitSeq(body.text.String(), "\n\n") {
				if !strings.Contains(event, "event: text") {
					continue
				}
				portions++
				if strings.HasPrefix(event, "id: ") {
					withID++
				}
				_, data, _ := strings.Cut(event, "data: ")
				var said spoken
				if err := json.Unmarshal([]byte(data), &said); err != nil {
					t.Fatal(err)
				}
				if !utf8.ValidString(said.Text) || strings.ContainsRune(said.Text, utf8.RuneError) {
					t.Error("a letter is divided")
				}
				got.WriteString(said.Text)
			}
			if got.String() != want.String() {
				t.Errorf("the reader has %d bytes, want %d", got.Len(), want.Len())
			}
			if portions != row.portions || withID != row.withID {
				t.Errorf("%d events, %d of them with an id; want %d and %d", portions, withID, row.portions, row.withID)
			}
		})
	}
}

func text(id uint64, s string) live.Item {
	return live.Item{ID: id, Event: provider.Event{Kind: provider.TextEvent, Text: s}}
}
