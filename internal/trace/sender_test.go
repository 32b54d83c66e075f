package trace

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// exporter sends nothing; its function says how a post ends.
type exporter func(ctx context.Context) error

func (e exporter) ExportSpans(ctx context.Context, _ []sdktrace.ReadOnlySpan) error { return e(ctx) }

func (exporter) Shutdown(context.Context) error { return nil }

func tracerBy(e exporter) (*Tracer, *strings.Builder) {
	log := &strings.Builder{} // written by the one goroutine that sends
	t := &Tracer{content: true, http: newTransport()}
	t.sendBy(e, Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	return t, log
}

func spansOf(t *Tracer, n int, text string) {
	for range n {
		_, s := t.Start(context.Background(), Root{Name: "job", Input: text})
		s.End("", nil)
	}
}

func TestAHangingServerTakesNoTimeFromJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracer, _ := tracerBy(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		began := time.Now()
		spansOf(tracer, 3000, "")
		synctest.Wait()
		spansOf(tracer, 3000, "")
		if took := time.Since(began); took != 0 {
			t.Errorf("6,000 spans took %s", took)
		}
		if s := tracer.Stats(); s.Queued != queueSpans || s.Dropped != 6000-queueSpans {
			t.Errorf("stats %+v", s)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := tracer.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v", err)
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("the shutdown took %s of 2 s", took)
		}
		if s := tracer.Stats(); s.Failed != queueSpans || s.Queued != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestAPostIsGivenUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracer, log := tracerBy(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		spansOf(tracer, 1, "")
		time.Sleep(batchDelay + sendLimit) // of the bubble's clock
		synctest.Wait()
		if s := tracer.Stats(); s.Failed != 1 || s.LastError != "Langfuse did not answer in time" {
			t.Errorf("stats %+v, log %s", s, log)
		}
		if err := tracer.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestTheQueueIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		posts := 0
		tracer, _ := tracerBy(func(context.Context) error { posts++; return nil })
		spansOf(tracer, 40, strings.Repeat("x", 3<<20))
		if s := tracer.Stats(); s.Queued != 21 || s.Dropped != 19 {
			t.Errorf("stats %+v", s)
		}
		if err := tracer.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if s := tracer.Stats(); s.Sent != 21 || posts != 7 {
			t.Errorf("stats %+v in %d posts", s, posts)
		}
	})
}

func TestTroubleIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := errors.New("too large")
		var slow sync.Mutex
		tracer, log := tracerBy(func(context.Context) error {
			slow.Lock()
			defer slow.Unlock()
			return err
		})
		lines := func() int { synctest.Wait(); return strings.Count(log.String(), "\n") }
		for second := range 130 {
			spansOf(tracer, 1, "")
			time.Sleep(batchDelay) // of the bubble's clock
			if second == 5 && lines() != 1 {
				t.Errorf("%d lines after 6 failures, want 1", lines())
			}
		}
		if lines() != 3 {
			t.Errorf("%d lines in 130 s, want 3", lines())
		}
		err = nil
		spansOf(tracer, 1, "")
		time.Sleep(batchDelay) // of the bubble's clock
		if lines() != 4 || !strings.Contains(log.String(), `level=INFO msg="traces are sent again" failed=130 dropped=0`) {
			t.Errorf("%d lines, want 4:\n%s", lines(), log)
		}
		time.Sleep(logEvery) // of the bubble's clock
		slow.Lock()
		spansOf(tracer, queueSpans+1, "")
		slow.Unlock()
		time.Sleep(batchDelay) // of the bubble's clock
		if lines() != 5 || !strings.Contains(log.String(), `too slowly" failed=130 dropped=1`) {
			t.Errorf("%d lines, want 5:\n%s", lines(), log)
		}
		if err := tracer.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestNoErrorReachesTheHandlerOfTheProcess(t *testing.T) {
	tracer, _ := tracerBy(func(context.Context) error { return errors.New("too large") })
	spans := tracetest.SpanStubs{{Name: "job"}}.Snapshots()
	if err := tracer.sender.ExportSpans(context.Background(), spans); err != nil {
		t.Errorf("the library is told of %v", err)
	}
	if err := tracer.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestASpanCaughtByTheShutdownIsCounted(t *testing.T) {
	tracer, _ := tracerBy(func(context.Context) error { return nil })
	tracer.queue.enter(1) // let in, and then the batches were told to stop
	if err := tracer.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if s := tracer.Stats(); s.Dropped != 1 || s.Queued != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestARefusedConnectionIsWorthAnotherTry(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	transport := newTransport()
	for _, closing := range []bool{false, true} {
		transport.closing.Store(closing)
		_, err := transport.client(time.Minute).Post(server.URL, "text/plain", http.NoBody)
		if e, ok := errors.AsType[*url.Error](err); !ok || e.Temporary() == closing {
			t.Errorf("while closing is %v: %v", closing, err)
		}
	}
}

func TestAProxysPasswordStaysOut(t *testing.T) {
	transport := newTransport()
	transport.base.Proxy = func(*http.Request) (*url.URL, error) {
		return nil, errors.New(`invalid proxy address "http://me:canary@proxy"`)
	}
	tracer := &Tracer{host: "http://langfuse", http: transport}
	if err := tracer.Check(context.Background()); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
}
