package chat

import (
	"context"
	"errors"
	"io"
	"log/slog"
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
		if items, _, _ := reader.Take(); len(items) != 3 || items[2].Event.Text != "other" {
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
