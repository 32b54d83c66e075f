package notify

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestDiscordIsDownWhileJobsEnd ends up to 500 jobs while Discord fails in every way, and
// restarts in between.
func TestDiscordIsDownWhileJobsEnd(t *testing.T) {
	for _, down := range []struct {
		name   string
		jobs   int
		answer func(net.Conn, int)
		refuse func(int) error
	}{
		{"refused", 50, nil, func(int) error { return &net.OpError{Op: "dial", Err: errors.New(canary)} }},
		{"hanging", 500, func(c net.Conn, _ int) { io.Copy(io.Discard, c) }, nil},
		{"slow", 50, func(c net.Conn, _ int) { time.Sleep(9 * time.Second); raw("502 Bad Gateway", canary)(c, 0) }, nil},
		{"500", 50, raw("500 Internal Server Error", canary), nil},
		{"429", 500, recorded(t, "quoted-429-user"), nil},
		{"killed", 50, func(net.Conn, int) {}, nil},
	} {
		bubble(t, down.name, func(t *testing.T) {
			r := newRig(t, down.answer)
			r.fake.refuse = down.refuse
			r.start()
			began := time.Now()
			var want []string
			for i := range down.jobs {
				name := fmt.Sprintf("job-%03d", i)
				want = append(want, name)
				r.finish(name)
				r.box.Wake()
				if i == down.jobs/2 {
					synctest.Wait() // a send is under way
				}
			}
			if took := time.Since(began); took != 0 {
				t.Errorf("the jobs were held up by %s", took)
			}
			r.after(20 * time.Second)
			r.end()
			r.start()
			r.after(10 * time.Hour)
			if s := r.box.Status(); s.Queued != int64(down.jobs) || s.Sent != 0 || s.LastError == "" {
				t.Errorf("while it is down: %+v", s)
			}
			tries := r.fake.dials
			if tries < 10 || tries > 1000 {
				t.Errorf("%d tries in ten hours", tries)
			}

			r.fake.mu.Lock()
			r.fake.refuse, r.fake.got = nil, nil
			r.fake.mu.Unlock()
			r.fake.set(func(c net.Conn, n int) { // five in two seconds, as Discord does
				raw(fmt.Sprintf("200 OK\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset-After: 2", 4-n%5), fmt.Sprintf(`{"id": "%d"}`, n))(c, n)
			})
			r.after(19 * time.Minute) // the longest pause
			r.end()                   // in mid-delivery or after it
			r.start()
			r.after(5 * time.Minute)
			if got := r.bodies(); !slices.Equal(got, want) {
				t.Errorf("Discord got %d pings, not each once in order: %q", len(got), got)
			}
			s := r.box.Status()
			s.LastSuccess = time.Time{}
			if s != (Status{Configured: true, Sent: int64(down.jobs)}) {
				t.Errorf("at the end: %+v", s)
			}
			r.end()
			r.noSecret()
		})
	}
}
