package web

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestASilentStreamIsKeptAlive counts what a reader gets while nothing happens.
func TestASilentStreamIsKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(t, newFakeJobs(t))
		ctx, leave := context.WithTimeout(t.Context(), 4*heartbeat+time.Second)
		defer leave()
		r, err := http.NewRequestWithContext(ctx, "GET", "/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host, r.RemoteAddr = "localhost:8080", "127.0.0.1:1"
		r.Header.Set("Authorization", "Bearer "+p.token)
		out := &streamedBody{changed: make(chan struct{}, 1)}
		p.http.ServeHTTP(out, r)
		if n := out.count(": still here\n\n"); n != 4 {
			t.Errorf("%d signs of life in the time of four", n)
		}
	})
}
