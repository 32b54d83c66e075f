package history

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// TestMessagesOnlyGrow tries to change them as any program with the file could.
func TestMessagesOnlyGrow(t *testing.T) {
	for _, row := range []struct{ name, statement string }{
		{"a text is changed", "UPDATE messages SET text = 'else' WHERE id = 2"},
		{"a row changes its id", "UPDATE messages SET id = 99 WHERE id = 2"},
		{"a row is updated to what it is", "UPDATE messages SET text = text"},
		{"a row is deleted", "DELETE FROM messages WHERE id = 2"},
		{"all are deleted", "DELETE FROM messages"},
		{"a row is replaced by its id", "INSERT OR REPLACE INTO messages (id, conversation, turn, version, role, created, text) VALUES (2, 'z', 9, 0, 'user', 1, 'else')"},
		{"a row is replaced by its turn", "INSERT OR REPLACE INTO messages (conversation, turn, version, role, created, text) VALUES ('c', 1, 0, 'user', 1, 'else')"},
		{"a row is replaced by an upsert", "INSERT INTO messages (conversation, turn, version, role, created, text) VALUES ('c', 1, 0, 'user', 1, 'else') ON CONFLICT DO UPDATE SET text = 'else'"},
		{"another conversation is being purged", "INSERT INTO purging VALUES ('d'); DELETE FROM messages WHERE conversation = 'c'"},
		{"a second message of the owner's in a turn", "INSERT INTO messages (conversation, turn, version, role, created, text) VALUES ('c', 1, 0, 'user', 1, 'else')"},
		{"an answer without a state", "INSERT INTO messages (conversation, turn, version, role, created, text) VALUES ('c', 1, 2, 'assistant', 1, 'else')"},
		{"an answer of no version", "INSERT INTO messages (conversation, turn, version, role, state, created, text) VALUES ('c', 1, 0, 'assistant', 'done', 1, 'else')"},
		{"settings within a turn", "INSERT INTO messages (conversation, turn, version, role, created, text) VALUES ('c', 2, 0, 'meta', 1, '{}')"},
		{"a role of another name", "INSERT INTO messages (conversation, turn, version, role, created, text) VALUES ('c', 2, 0, 'system', 1, 'else')"},
		{"a state of another name", "INSERT INTO messages (conversation, turn, version, role, state, created, text) VALUES ('c', 1, 2, 'assistant', 'so so', 1, 'else')"},
		{"a conversation without an id", "INSERT INTO messages (conversation, turn, version, role, created, text) VALUES ('', 1, 0, 'user', 1, 'else')"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := open(t)
			ask(t, h, "c", "q", at(0))
			settle(t, h, start(t, h, "c", 1), "a", at(1))
			before := dump(t, h, "messages")
			if _, err := h.db.Write.Exec(row.statement); err == nil {
				t.Error("it was done")
			}
			if after := dump(t, h, "messages"); !reflect.DeepEqual(after, before) {
				t.Errorf("it changed\n%s to\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
		})
	}
}

func TestADeletedConversationIsHiddenUntilItIsPurged(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	for i, id := range []string{"stays", "old", "new", "busy"} {
		ask(t, h, id, "secret words in "+id, at(i))
		settle(t, h, start(t, h, id, 1), "answer", at(10+i))
	}
	busy := start(t, h, "busy", 1)
	must(t, h.Delete(ctx, "old", at(20)))
	must(t, h.Delete(ctx, "new", at(30)))
	must(t, h.Delete(ctx, "busy", at(20)))
	if got := ids(t, h); !reflect.DeepEqual(got, []string{"stays"}) {
		t.Errorf("listed are %v", got)
	}

	must(t, h.Undelete(ctx, "old", at(21)))
	if c, err := h.Conversation(ctx, "old"); err != nil || !reflect.DeepEqual(c.Settings, settings) || len(page(t, h, "old")) != 2 || !c.Updated.Equal(at(11)) {
		t.Errorf("brought back is %+v, %v", c, err)
	}
	must(t, h.Delete(ctx, "old", at(22)))

	purged, err := h.Purge(ctx, at(30)) // "new" was deleted then, not before
	must(t, err)
	if purged != 1 {
		t.Errorf("%d were purged, want old alone", purged)
	}
	left := fmt.Sprint(dump(t, h, "messages"))
	for _, id := range []string{"stays", "new", "busy"} {
		if !strings.Contains(left, "secret words in "+id) {
			t.Errorf("%s was purged too", id)
		}
	}
	if strings.Contains(left, "secret words in old") {
		t.Error("old was not purged")
	}
	if marks := dump(t, h, "messages WHERE conversation = 'old'"); len(marks) != 1 || strings.Contains(marks[0], settings.Title) {
		t.Errorf("of old is left %v, want the bare mark", marks)
	}
	if n, err := h.Purge(ctx, at(30)); err != nil || n != 0 {
		t.Errorf("purging again: %d, %v; want nothing", n, err)
	}
	if err := h.Undelete(ctx, "old", at(31)); !errors.Is(err, ErrUnknown) {
		t.Errorf("bringing back what is purged: %v, want ErrUnknown", err)
	}
	if _, err := h.Ask(ctx, "old", settings, "again", at(31)); !errors.Is(err, ErrDeleted) {
		t.Errorf("asking under a purged id: %v, want ErrDeleted", err)
	}

	settle(t, h, busy, "late answer", at(32)) // which does not bring it back
	if got := ids(t, h); !reflect.DeepEqual(got, []string{"stays"}) {
		t.Errorf("listed are %v", got)
	}
	if n, err := h.Purge(ctx, at(99)); err != nil || n != 2 {
		t.Errorf("purging the rest: %d, %v; want 2", n, err)
	}
	if rows := dump(t, h, "purging"); len(rows) > 0 {
		t.Errorf("the flag stays: %v", rows)
	}
	if _, err := h.db.Write.Exec("DELETE FROM messages WHERE conversation = 'old'"); err == nil {
		t.Error("the mark of a purged conversation can be deleted")
	}
	same(t, h)
}

// ids are the listed conversations.
func ids(t testing.TB, h *History) []string {
	t.Helper()
	all, _, err := h.Conversations(t.Context(), "", 1000)
	must(t, err)
	var out []string
	for _, c := range all {
		out = append(out, c.ID)
	}
	return out
}

// same compares the list that is kept with the one that is made anew.
func same(t testing.TB, h *History) {
	t.Helper()
	before := dump(t, h, "conversations")
	must(t, h.Rebuild(t.Context()))
	if after := dump(t, h, "conversations"); !reflect.DeepEqual(after, before) {
		t.Errorf("kept was\n%s\nand made anew is\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}
