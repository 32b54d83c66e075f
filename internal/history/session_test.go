package history

import (
	"errors"
	"reflect"
	"testing"
)

func TestSessions(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	save := func(hash, kind string, expires int) Session {
		s := Session{Hash: hash, Kind: kind, Created: at(0), Seen: at(1), Expires: at(expires)}
		must(t, h.SaveSession(ctx, s))
		return s
	}
	// left looks which of the sessions are there.
	left := func(after string, want ...string) {
		t.Helper()
		var got []string
		for _, hash := range []string{"a", "b", "c", "d"} {
			if _, err := h.Session(ctx, hash); err == nil {
				got = append(got, hash)
			} else if !errors.Is(err, ErrNoSession) {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("after %s: %v, want %v", after, got, want)
		}
	}
	left("nothing")
	s := save("a", "password", 100)
	save("b", "password", 10)
	save("c", "link", 100)
	save("d", "token", 100)
	if got, err := h.Session(ctx, "a"); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("%+v, %v; want %+v", got, err, s)
	}
	must(t, h.TouchSession(ctx, "a", at(5), at(200)))
	s.Seen, s.Expires = at(5), at(200)
	if got, err := h.Session(ctx, "a"); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("touched: %+v, %v; want %+v", got, err, s)
	}
	must(t, h.PurgeSessions(ctx, at(10)))
	left("the tenth second", "a", "c", "d")
	must(t, h.DeleteSession(ctx, "d"))
	must(t, h.DeleteSession(ctx, "d"))
	left("a sign-out", "a", "c")
	if err := h.TouchSession(ctx, "d", at(5), at(200)); !errors.Is(err, ErrNoSession) {
		t.Errorf("touching a deleted one: %v, want ErrNoSession", err)
	}
	left("a touch of a deleted one", "a", "c")
	must(t, h.DeleteSessions(ctx, "password"))
	left("another password", "c")
	must(t, h.DeleteSessions(ctx, ""))
	left("all were ended")
}
