package web

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestAReaderIsShownNothingOlderThanItsPage has readers come between the makings of a
// part.
func TestAReaderIsShownNothingOlderThanItsPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := "one"
		p := newPart("state", func(context.Context) ([]byte, error) { return []byte(state), nil })
		ctx, stop := context.WithCancel(t.Context())
		go p.run(ctx, time.Hour, slog.New(slog.DiscardHandler))
		_, leave := p.join()
		defer leave()
		synctest.Wait()
		if html, _ := p.now(0); string(html) != "one" {
			t.Fatalf("it shows %q", html)
		}

		state = "two" // the second reader's page was made now, and nobody said so
		since, leave := p.join()
		defer leave()
		html, changed := p.now(since)
		if html != nil {
			t.Fatalf("a page that shows two is shown %q", html)
		}
		<-changed
		if html, _ := p.now(since); string(html) != "two" {
			t.Errorf("it shows %q, want two", html)
		}

		// The third comes when all is as it was: its page may be older than that.
		since, leave = p.join()
		defer leave()
		_, changed = p.now(since)
		<-changed
		if html, _ := p.now(since); string(html) != "two" {
			t.Errorf("it shows %q, want two again", html)
		}
		stop()
	})
}
