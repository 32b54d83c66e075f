package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
)

func TestAPlaceIsHeldUntilItsHolderReleasesItOrDies(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(t *testing.T, w *worker) // has taken the place, and lets it go
	}{
		{"released", func(t *testing.T, w *worker) {
			p, err := Dial(w.path).Acquire(t.Context(), "davas", provider.Interactive, "chat")
			if err != nil {
				t.Fatal(err)
			}
			if l := w.line(); len(l.Held) != 1 || l.Held[0].Who != "chat" || l.Held[0].Class != provider.Interactive {
				t.Errorf("held: %+v", l.Held)
			}
			p.Release()
			p.Release()
		}},
		{"its connection dies", func(t *testing.T, w *worker) {
			conn, err := net.Dial("unix", w.path)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(conn, "POST /place?provider=davas&class=batch&who=x HTTP/1.1\r\nHost: runner\r\nContent-Length: 0\r\n\r\n")
			var got []byte
			for !bytes.Contains(got, []byte("granted")) {
				b := make([]byte, 512)
				n, err := conn.Read(b)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, b[:n]...)
			}
			if len(w.line().Held) != 1 {
				t.Error("not held")
			}
			conn.Close()
		}},
		{"its waiting context ends, which changes nothing, and then it is released", func(t *testing.T, w *worker) {
			ctx, cancel := context.WithCancel(t.Context())
			p, err := Dial(w.path).Acquire(ctx, "davas", provider.Batch, "x")
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			if _, err := Dial(w.path).Status(t.Context()); err != nil { // long enough for a loss to show
				t.Error(err)
			}
			if len(w.line().Held) != 1 {
				t.Error("lost with the context of the waiting")
			}
			p.Release()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := start(t)
			tc.end(t, w)
			w.free(t)
		})
	}
}

func TestACallerThatGivesUpLeavesTheLine(t *testing.T) {
	w := start(t)
	place := w.free(t)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := Dial(w.path).Acquire(ctx, "davas", provider.Batch, "x")
		gone <- err
	}()
	w.waiting(t, 1)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	w.waiting(t, 0)
	place.Release()
	w.free(t)
}

func TestEventsResumeWithoutGapOrDouble(t *testing.T) {
	w := start(t)
	s, err := w.hub.Open("job", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := Dial(w.path)
	var want, got strings.Builder
	var last uint64
	for i := range 20 {
		word := fmt.Sprint(i, " ")
		s.Publish(provider.Event{Kind: provider.TextEvent, Text: word})
		want.WriteString(word)
		for it, err := range c.Events(t.Context(), "job", last) { // a new connection for each word
			if err != nil {
				t.Fatal(err)
			}
			if it.Reset {
				continue
			}
			got.WriteString(it.Event.Text)
			last = it.ID
			break
		}
	}
	s.Close("stop")
	end := ""
	for it, err := range c.Events(t.Context(), "job", last) {
		if err != nil {
			t.Error(err)
		}
		end = it.Event.Text
	}
	if got.String() != want.String() || end != "stop" {
		t.Errorf("got %q, want %q; end %q", got.String(), want.String(), end)
	}
}

func TestTheFeedTravelsUnderAnEmptyTopic(t *testing.T) {
	w := start(t)
	after := uint64(1) // of a process before: the first item is a reset, which shows that we are heard
	for it, err := range Dial(w.path).Events(t.Context(), "", after) {
		if err != nil {
			t.Fatal(err)
		}
		if it.Reset {
			w.hub.Announce("job", provider.Event{Kind: live.State, Text: "held"})
			continue
		}
		if it.Topic != "job" || it.Event.Text != "held" {
			t.Errorf("%+v", it)
		}
		break
	}
}

func TestAStopTellsWhoHoldsARequestOpen(t *testing.T) {
	w := start(t)
	if _, err := w.hub.Open("job", nil); err != nil {
		t.Fatal(err)
	}
	c := Dial(w.path)
	held, err := c.Acquire(t.Context(), "davas", provider.Batch, "holder")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	errs, reading := make(chan error, 2), make(chan struct{})
	go func() {
		for _, err := range c.Events(t.Context(), "job", 0) {
			if err != nil {
				errs <- err
				return
			}
			close(reading)
		}
		errs <- nil
	}()
	go func() {
		_, err := c.Acquire(t.Context(), "davas", provider.Batch, "waiter")
		errs <- err
	}()
	<-reading
	w.waiting(t, 1)
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	for range 2 {
		err := <-errs
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != Stopping {
			t.Errorf("err = %v, want code %s", err, Stopping)
		}
	}
	if l := w.line(); len(l.Held)+len(l.Waiting) != 0 {
		t.Errorf("left: %+v", l)
	}
	if log := w.log.String(); log != "" {
		t.Errorf("an orderly stop is logged as trouble: %s", log)
	}
}

func TestARequestWithABodyIsRefused(t *testing.T) {
	w := start(t)
	conn, err := net.Dial("unix", w.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /place?provider=davas&class=batch HTTP/1.1\r\nHost: runner\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc")
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") || !strings.Contains(string(answer), `"code":"invalid"`) {
		t.Errorf("%s, err %v", answer, err)
	}
}
