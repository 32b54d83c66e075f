package history

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/sqlite"
)

// noon is the time of the tests. The history keeps milliseconds.
var noon = time.UnixMilli(1_790_000_000_000)

// at is some seconds after noon.
func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

func open(t testing.TB) *History {
	t.Helper()
	h, err := Open(t.Context(), filepath.Join(t.TempDir(), "history.db"))
	must(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ask(t testing.TB, h *History, conversation, text string, now time.Time) int {
	t.Helper()
	turn, err := h.Ask(t.Context(), conversation, settings, text, now)
	must(t, err)
	return turn
}

func start(t testing.TB, h *History, conversation string, turn int) Running {
	t.Helper()
	r, err := h.Start(t.Context(), Running{Conversation: conversation, Turn: turn, Provider: "davas", Model: "m", Created: at(1)})
	must(t, err)
	return r
}

func settle(t testing.TB, h *History, r Running, text string, now time.Time) Message {
	t.Helper()
	m, err := h.Settle(t.Context(), r.ID, Message{Text: text, State: Done, Ended: now})
	must(t, err)
	return m
}

func page(t testing.TB, h *History, id string) []Message {
	t.Helper()
	all, _, err := h.Page(t.Context(), id, 0, 1000)
	must(t, err)
	return all
}

// lines are messages as "turn.version role: text".
func lines(all []Message) []string {
	var out []string
	for _, m := range all {
		out = append(out, fmt.Sprintf("%d.%d %s: %s", m.Turn, m.Version, m.Role, m.Text))
	}
	return out
}

// dump is all that a table holds.
func dump(t testing.TB, h *History, table string) []string {
	t.Helper()
	rows, err := h.db.Read.Query("SELECT * FROM " + table + " ORDER BY 1")
	must(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	must(t, err)
	var all []string
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		must(t, rows.Scan(values...))
		line := table
		for i, v := range values {
			line += fmt.Sprintf(" %s=%v", columns[i], *v.(*any))
		}
		all = append(all, line)
	}
	must(t, rows.Err())
	return all
}

var warm = 0.7

var settings = Settings{Title: "A talk", System: "Be short.", Temperature: &warm, Provider: "davas", Model: "m"}

func TestATurnIsKeptAsItWasSaid(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	if turn := ask(t, h, "c1", "Why?", at(0)); turn != 1 {
		t.Fatalf("the first turn is %d", turn)
	}
	r, err := h.Start(ctx, Running{Conversation: "c1", Turn: 1, Provider: "davas", Model: "m", Created: at(1)})
	must(t, err)
	must(t, h.Describe(ctx, r.ID, 77, "trace-1"))
	must(t, h.Record(ctx, []Piece{{Running: r.ID, Text: "Beca"}, {Running: r.ID, Text: "use."}}))
	answer := provider.Answer{Text: "Because.", Thinking: "Hm.", Provider: "davas", Model: "m:8b", Finish: "stop",
		Usage: provider.Usage{Read: 9, Written: 3}, Took: time.Second, Started: at(1).UTC()}
	got, err := h.Settle(ctx, r.ID, Message{Text: "Because.", Thinking: "Hm.", State: Failed, Reason: "cut", Advice: "again", Answer: answer, Ended: at(2)})
	must(t, err)
	answer.Text, answer.Thinking = "", ""
	want := []Message{
		{ID: 2, Conversation: "c1", Turn: 1, Role: User, Text: "Why?", Created: at(0)},
		{ID: 3, Conversation: "c1", Turn: 1, Version: 1, Role: Assistant, Text: "Because.", Thinking: "Hm.", State: Failed, Reason: "cut", Advice: "again",
			Provider: "davas", Model: "m", Answer: answer, Trace: "trace-1", Created: at(1), Ended: at(2)},
	}
	if !reflect.DeepEqual(got, want[1]) {
		t.Errorf("Settle returned\n%+v, want\n%+v", got, want[1])
	}
	if got := page(t, h, "c1"); !reflect.DeepEqual(got, want) {
		t.Errorf("the page has\n%+v, want\n%+v", got, want)
	}
	c, err := h.Conversation(ctx, "c1")
	must(t, err)
	if want := (Conversation{ID: "c1", Settings: settings, Created: at(0), Updated: at(2), Turns: 1}); !reflect.DeepEqual(c, want) {
		t.Errorf("the conversation is\n%+v, want\n%+v", c, want)
	}
	if left := append(dump(t, h, "running"), dump(t, h, "pieces")...); len(left) > 0 {
		t.Errorf("of the running answer is left: %v", left)
	}
	if _, err := h.Settle(ctx, r.ID, Message{State: Done}); !errors.Is(err, ErrStale) {
		t.Errorf("settling it again: %v, want ErrStale", err)
	}
	if err := h.Describe(ctx, r.ID, 1, ""); !errors.Is(err, ErrStale) {
		t.Errorf("describing it when it has ended: %v, want ErrStale", err)
	}
	must(t, h.Record(ctx, []Piece{{Running: r.ID, Text: "late"}}))
	if got := page(t, h, "c1"); !reflect.DeepEqual(got, want) {
		t.Error("a late piece changed the answer")
	}
}

func TestTextIsKeptToTheByte(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"a NUL within", "a\x00b", "a\x00b"},
		{"NULs at both ends", "\x00a\x00", "\x00a\x00"},
		{"letters of four bytes", "𝄞😀", "𝄞😀"},
		{"line ends of every kind", "a\r\nb\rc\n", "a\r\nb\rc\n"},
		{"what SQL would mind", `'"; DROP TABLE messages; --`, `'"; DROP TABLE messages; --`},
		{"bytes that are no UTF-8", "a\xff\xfeb", "a\uFFFDb"},
		{"half a letter at the end", "a\xf0\x9f", "a\uFFFD"},
		{"a text of several pages", strings.Repeat("long ", 1e5), strings.Repeat("long ", 1e5)},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := open(t)
			s := Settings{Title: row.text, System: row.text}
			turn, err := h.Ask(t.Context(), "c", s, row.text, noon)
			must(t, err)
			r := start(t, h, "c", turn)
			m, err := h.Settle(t.Context(), r.ID, Message{Text: row.text, Thinking: row.text, State: Stopped, Reason: row.text, Advice: row.text, Ended: noon})
			must(t, err)
			all := page(t, h, "c")
			if all[0].Text != row.want || !reflect.DeepEqual(all[1], m) || m.Text != row.want || m.Thinking != row.want || m.Reason != row.want || m.Advice != row.want {
				t.Errorf("kept is %+v", all)
			}
			c, err := h.Conversation(t.Context(), "c")
			must(t, err)
			if c.Title != row.want || c.System != row.want {
				t.Errorf("the settings are %+v", c)
			}
			if _, err := h.Ask(t.Context(), "c", s, "more", noon); err != nil || len(dump(t, h, "messages WHERE turn = 0")) != 1 {
				t.Errorf("the same settings were noted again, %v", err)
			}
		})
	}
}

func TestSettingsAreNotedWhenTheyChange(t *testing.T) {
	cold, same := 0.0, warm
	with := func(change func(*Settings)) Settings {
		s := settings
		change(&s)
		return s
	}
	for _, row := range []struct {
		name string
		next Settings
		rows int
		want Settings
	}{
		{"the same", settings, 1, settings},
		{"the same temperature in another place", with(func(s *Settings) { s.Temperature = &same }), 1, settings},
		{"no title keeps the title", with(func(s *Settings) { s.Title = "" }), 1, settings},
		{"another model", with(func(s *Settings) { s.Model = "n" }), 2, with(func(s *Settings) { s.Model = "n" })},
		{"another temperature", with(func(s *Settings) { s.Temperature = &cold }), 2, with(func(s *Settings) { s.Temperature = &cold })},
		{"the server's temperature", with(func(s *Settings) { s.Temperature = nil }), 2, with(func(s *Settings) { s.Temperature = nil })},
		{"no system prompt", with(func(s *Settings) { s.System = "" }), 2, with(func(s *Settings) { s.System = "" })},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := open(t)
			ask(t, h, "c", "one", at(0))
			_, err := h.Ask(t.Context(), "c", row.next, "two", at(1))
			must(t, err)
			c, err := h.Conversation(t.Context(), "c")
			must(t, err)
			if rows := len(dump(t, h, "messages WHERE turn = 0")); rows != row.rows || !reflect.DeepEqual(c.Settings, row.want) {
				t.Errorf("%d rows of settings, the newest %+v; want %d and %+v", rows, c.Settings, row.rows, row.want)
			}
		})
	}
	h := open(t)
	ask(t, h, "c", "one", at(0))
	for range 2 {
		must(t, h.Change(t.Context(), "c", Settings{Title: "New"}, at(9)))
	}
	c, err := h.Conversation(t.Context(), "c")
	must(t, err)
	if want := (Conversation{ID: "c", Settings: Settings{Title: "New"}, Created: at(0), Updated: at(0), Turns: 1}); !reflect.DeepEqual(c, want) {
		t.Errorf("after Change\n%+v, want\n%+v", c, want)
	}
	if rows := len(dump(t, h, "messages WHERE turn = 0")); rows != 2 {
		t.Errorf("%d rows of settings, want 2: the second change is none", rows)
	}
}

func TestEveryAnswerIsAFurtherVersion(t *testing.T) {
	h := open(t)
	for turn := range 2 {
		ask(t, h, "c", fmt.Sprint("q", turn+1), at(turn))
	}
	first := start(t, h, "c", 1)
	second := start(t, h, "c", 1) // while the first runs
	other := start(t, h, "c", 2)
	settle(t, h, second, "a2", at(5))
	settle(t, h, first, "a1", at(6))
	settle(t, h, other, "b1", at(7))
	settle(t, h, start(t, h, "c", 1), "a3", at(8))
	want := []string{"1.0 user: q1", "1.1 assistant: a1", "1.2 assistant: a2", "1.3 assistant: a3", "2.0 user: q2", "2.1 assistant: b1"}
	if got := lines(page(t, h, "c")); !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWhatIsNotThereIsRefused(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	for _, id := range []string{"c", "gone"} {
		ask(t, h, id, "q", at(0))
	}
	must(t, h.Delete(ctx, "gone", at(1)))
	long := strings.Repeat("x", MostText+1)
	r := start(t, h, "c", 1)
	for _, row := range []struct {
		name string
		do   func() error
		want error
	}{
		{"a page of an unknown conversation", func() error { _, _, err := h.Page(ctx, "none", 0, 9); return err }, ErrUnknown},
		{"a page of a deleted one", func() error { _, _, err := h.Page(ctx, "gone", 0, 9); return err }, ErrDeleted},
		{"what is new in a deleted one", func() error { _, err := h.Since(ctx, "gone", 1); return err }, ErrDeleted},
		{"a deleted one itself", func() error { _, err := h.Conversation(ctx, "gone"); return err }, ErrDeleted},
		{"settings of an unknown one", func() error { return h.Change(ctx, "none", settings, noon) }, ErrUnknown},
		{"settings of a deleted one", func() error { return h.Change(ctx, "gone", Settings{}, noon) }, ErrDeleted},
		{"an answer in an unknown one", func() error { _, err := h.Start(ctx, Running{Conversation: "none", Turn: 1}); return err }, ErrUnknown},
		{"an answer to a turn that was not asked", func() error { _, err := h.Start(ctx, Running{Conversation: "c", Turn: 2}); return err }, ErrUnknown},
		{"an answer to the settings", func() error { _, err := h.Start(ctx, Running{Conversation: "c"}); return err }, ErrUnknown},
		{"an answer in a deleted one", func() error { _, err := h.Start(ctx, Running{Conversation: "gone", Turn: 1}); return err }, ErrDeleted},
		{"a message to a deleted one", func() error { _, err := h.Ask(ctx, "gone", settings, "q", noon); return err }, ErrDeleted},
		{"deleting what is deleted", func() error { return h.Delete(ctx, "gone", noon) }, ErrUnknown},
		{"bringing back what is there", func() error { return h.Undelete(ctx, "c", noon) }, ErrUnknown},
		{"a message that is too long", func() error { _, err := h.Ask(ctx, "c", settings, long, noon); return err }, ErrTooLong},
		{"an answer that is too long", func() error { _, err := h.Settle(ctx, r.ID, Message{State: Done, Text: long}); return err }, ErrTooLong},
		{"the end of an answer that never began", func() error { _, err := h.Settle(ctx, 99, Message{State: Done}); return err }, ErrStale},
		{"a cursor without a dot", func() error { _, _, err := h.Conversations(ctx, "12", 9); return err }, ErrCursor},
		{"a cursor without a number", func() error { _, _, err := h.Conversations(ctx, "x.c", 9); return err }, ErrCursor},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := fmt.Sprint(dump(t, h, "messages"), dump(t, h, "running"))
			if err := row.do(); !errors.Is(err, row.want) {
				t.Errorf("%v, want %v", err, row.want)
			}
			if after := fmt.Sprint(dump(t, h, "messages"), dump(t, h, "running")); after != before {
				t.Errorf("it changed\n%s to\n%s", before, after)
			}
		})
	}
}

func TestWhatCanBeBroughtBack(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	for _, id := range []string{"there", "back", "gone", "purged"} {
		ask(t, h, id, "q", at(0))
	}
	must(t, h.Delete(ctx, "purged", at(1)))
	if _, err := h.Purge(ctx, at(2)); err != nil {
		t.Fatal(err)
	}
	must(t, h.Delete(ctx, "gone", at(3)))
	must(t, h.Delete(ctx, "back", at(3)))
	must(t, h.Undelete(ctx, "back", at(4)))
	for id, want := range map[string]bool{"there": false, "back": false, "gone": true, "purged": false, "none": false} {
		if got, err := h.CanUndelete(ctx, id); got != want || err != nil {
			t.Errorf("%s: %t, %v, want %t", id, got, err, want)
		}
	}
}

func TestANewerDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	newer, err := sqlite.Open(t.Context(), path, append(Migrations(), "CREATE TABLE later (n INTEGER) STRICT"))
	must(t, err)
	newer.Close()
	for name, open := range map[string]func(context.Context, string) (*History, error){"Open": Open, "OpenReadOnly": OpenReadOnly} {
		if _, err := open(t.Context(), path); !errors.Is(err, sqlite.ErrTooNew) {
			t.Errorf("%s: %v, want ErrTooNew", name, err)
		}
	}
}

func TestAReaderSeesWhatTheWriterHasCommitted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	h, err := Open(t.Context(), path)
	must(t, err)
	defer h.Close()
	reader, err := OpenReadOnly(t.Context(), path)
	must(t, err)
	defer reader.Close()
	ask(t, h, "c", "q", noon)
	if got := lines(page(t, reader, "c")); !reflect.DeepEqual(got, []string{"1.0 user: q"}) {
		t.Errorf("the reader sees %q", got)
	}
	if _, err := reader.Ask(t.Context(), "c", settings, "q", noon); err == nil {
		t.Error("the reader wrote")
	}
}
