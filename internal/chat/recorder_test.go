package chat

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
)

func piece(s string) provider.Event { return provider.Event{Kind: provider.TextEvent, Text: s} }

func TestNothingIsShownBeforeItIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := live.NewHub(16, time.Now)
		stream, err := hub.Open("chat/c1", nil)
		if err != nil {
			t.Fatal(err)
		}
		reader, err := hub.Subscribe("chat/c1", 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := reader.Take(); err != nil { // the reset of a new reader
			t.Fatal(err)
		}
		write := make(chan struct{})
		var recorded []history.Piece
		broken := error(nil)
		r := newRecorder(func(_ context.Context, p []history.Piece) error {
			<-write
			recorded = append(recorded, p...)
			return broken
		}, slog.New(slog.NewTextHandler(io.Discard, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.run(ctx) }()
		defer func() { cancel(); <-done }()

		r.add(event{stream: stream, running: 1, event: piece("one ")})
		synctest.Wait()
		if items, _, _ := reader.Take(); len(items) != 0 {
			t.Fatalf("shown before it is written: %+v", items)
		}
		for _, s := range []string{"two ", "three"} { // while the first is written
			r.add(event{stream: stream, running: 1, event: piece(s)})
		}
		r.add(event{stream: stream, running: 2, event: piece("other")})
		write <- struct{}{}
		synctest.Wait()
		if items, _, _ := reader.Take(); len(items) != 1 || items[0].Event.Text != "one " {
			t.Fatalf("shown %+v", items)
		}
		time.Sleep(apart)
		write <- struct{}{}
		r.flush()
		if len(recorded) != 3 || recorded[1] != (history.Piece{Running: 1, Text: "two three"}) || recorded[2].Running != 2 {
			t.Errorf("recorded %+v", recorded)
		}
		if items, _, _ := reader.Take(); len(items) != 2 || items[0].Event.Text != "two three" || items[1].Event.Text != "other" {
			t.Errorf("shown %+v", items)
		}
		broken = errors.New("disk full")
		r.add(event{stream: stream, running: 1, event: piece("!")})
		write <- struct{}{}
		r.flush()
		if items, _, _ := reader.Take(); len(items) != 1 {
			t.Errorf("what cannot be written is not shown: %+v", items)
		}
	})
}

// TestABurstCutsNobody brings more pieces at once than the hub keeps events.
func TestABurstCutsNobody(t *testing.T) {
	hub := live.NewHub(16, time.Now)
	r := newRecorder(func(context.Context, []history.Piece) error { return nil }, slog.New(slog.DiscardHandler))
	streams, readers := make([]*live.Stream, 2), make([]*live.Reader, 2)
	for i, topic := range []string{"a", "b"} {
		var err error
		if streams[i], err = hub.Open(topic, nil); err != nil {
			t.Fatal(err)
		}
		if readers[i], err = hub.Subscribe(topic, 0); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readers[i].Take(); err != nil { // the reset of a new reader
			t.Fatal(err)
		}
	}
	add := func(i int, e provider.Event) { r.add(event{stream: streams[i], running: int64(i), event: e}) }
	for range 100 {
		add(0, piece("x"))
		add(1, piece("y"))
	}
	add(0, provider.Event{Kind: provider.ThinkingEvent, Text: "!"})
	add(0, piece("x"))
	r.group(r.take(nil))
	for i, want := range []string{strings.Repeat("x", 100) + "!x", strings.Repeat("y", 100)} {
		items, _, err := readers[i].Take()
		if err != nil {
			t.Fatalf("a reader is cut: %v", err)
		}
		var text string
		for _, it := range items {
			text += it.Event.Text
		}
		if text != want {
			t.Errorf("reader %d got %q", i, text)
		}
	}
}
