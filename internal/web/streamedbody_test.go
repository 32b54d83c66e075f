package web

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// streamedBody is an answer that is read while it is written.
type streamedBody struct {
	changed chan struct{}

	mu   sync.Mutex
	text strings.Builder
	head http.Header
}

func (b *streamedBody) Header() http.Header {
	if b.head == nil {
		b.head = http.Header{}
	}
	return b.head
}

func (b *streamedBody) WriteHeader(int) {}

func (b *streamedBody) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	signal(b.changed)
	return b.text.Write(p)
}

func (b *streamedBody) Flush()                           {}
func (b *streamedBody) SetReadDeadline(time.Time) error  { return nil }
func (b *streamedBody) SetWriteDeadline(time.Time) error { return nil }

func (b *streamedBody) count(words string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.text.String(), words)
}

// await waits until words were written: less long than parts are made anew by
// themselves.
func (b *streamedBody) await(t *testing.T, words ...string) {
	t.Helper()
	deadline := time.After(3 * time.Second)
	for _, w := range words {
		for b.count(w) == 0 {
			select {
			case <-b.changed:
			case <-deadline:
				b.mu.Lock()
				defer b.mu.Unlock()
				t.Fatalf("%q never came: %s", w, b.text.String())
			}
		}
	}
}
