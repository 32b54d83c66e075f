//go:build linux

package bench

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/metrics"
	"davidcockson.com/runner/internal/notify"
	"davidcockson.com/runner/internal/secret"
	"davidcockson.com/runner/internal/trace"
	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/worker"
)

// outside compares a worker that traces, counts and pings with one that does not.
// The receivers run in this process, so what they cost is in the figures too.
func outside(b *testing.B, t *table) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"id":"1"}`)
	}))
	defer receiver.Close()
	var on, off usage
	var onTime, offTime []float64
	for round := range 6 {
		for _, with := range []bool{false, true} {
			runtime.GC()
			var took time.Duration
			u := spent(drained, func() time.Duration { took = outsideDrain(b, receiver.URL, with); return took })
			if round == 0 {
				continue // both have to warm up
			}
			if with {
				on, onTime = on.least(round-1, u), append(onTime, took.Seconds()/drained)
			} else {
				off, offTime = off.least(round-1, u), append(offTime, took.Seconds()/drained)
			}
		}
	}
	each := func(s float64) string { return ms(time.Duration(s * float64(time.Second))) }
	b.ReportMetric((on.cpu-off.cpu).Seconds()*1e6, "outside-cpu-µs/job")
	b.ReportMetric(on.allocs-off.allocs, "outside-allocs/job")
	t.add("time a job, with traces, metrics and pings (limit: without)", each(median(onTime)), each(median(offTime)), fmt.Sprintf("%.2f", median(offTime)/median(onTime)), "")
	t.add("processor time a job, likewise", ms(on.cpu), ms(off.cpu), ratio(off.cpu, on.cpu), "")
	t.add("allocations a job, likewise", fmt.Sprintf("%.0f, %.0f KiB", on.allocs, on.bytes/1024), fmt.Sprintf("%.0f, %.0f KiB", off.allocs, off.bytes/1024), "", "")
}

func outsideDrain(b *testing.B, receiver string, with bool) time.Duration {
	b.Helper()
	v, err := vault.Open(makeVault(b, drained))
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	l, err := ledger.Open(b.Context(), filepath.Join(b.TempDir(), "ledger.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if !with {
		return runWorker(b, v, l, drained, 4)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	tracer, err := trace.New(trace.Options{Host: receiver, PublicKey: "public", SecretKey: secret.New("secret"), Content: true, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	discord, err := notify.NewDiscord(secret.New(receiver+"/api/webhooks/1/token"), "bench")
	if err != nil {
		b.Fatal(err)
	}
	outbox := notify.NewOutbox(l, discord, log)
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		outbox.Run(ctx)
	}()
	took := runWorker(b, v, l, drained, 4, func(o *worker.Options) {
		o.Tracer, o.Outbox, o.Metrics = tracer, outbox, metrics.New("bench")
	})
	stop()
	<-done
	flush, cancel := context.WithTimeout(b.Context(), 10*time.Second)
	defer cancel()
	if err := tracer.Shutdown(flush); err != nil {
		b.Fatal(err)
	}
	return took
}
