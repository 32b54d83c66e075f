package worker

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/notify"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/secret"
	"davidcockson.com/runner/internal/trace"
)

// nobody is an address where nothing listens.
func nobody(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// outsideAt sends traces and pings to a server.
func outsideAt(t *testing.T, url string) func(*Options) {
	return func(o *Options) {
		tracer, err := trace.New(trace.Options{Host: url, PublicKey: "pk", SecretKey: secret.New("sk"), Content: true, Log: o.Log})
		if err != nil {
			t.Fatal(err)
		}
		d, err := notify.NewDiscord(secret.New(url+"/api/webhooks/1/x"), "test")
		if err != nil {
			t.Fatal(err)
		}
		o.Tracer, o.Outbox = tracer, notify.NewOutbox(o.Ledger, d, o.Log)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); o.Outbox.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			<-ended
			over, end := context.WithCancel(context.Background())
			end()
			tracer.Shutdown(over)
		})
	}
}

const many = 500

func (r *rig) dropMany() {
	for i := range many {
		r.drop(fmt.Sprintf("%03d.md", i), textNote(fmt.Sprintf("prompt %d", i)))
	}
}

func (r *rig) completed() int {
	n := 0
	for file := range r.mem.Files() {
		if path.Dir(file) == queue.Completed {
			n++
		}
	}
	return n
}

// TestNobodyOutsideDelaysAJob does the same jobs with nothing configured, and with
// Discord and Langfuse configured and down: each claim, end and annotation falls
// on the same millisecond of the bubble's clock, which stands still while anybody works.
func TestNobodyOutsideDelaysAJob(t *testing.T) {
	moments := func(down string) (moments []string) { // down is a server that is, "" for none
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.models["davas"].script = func(_ context.Context, _ int, req provider.Request) (provider.Answer, error) {
				<-time.After(100 * time.Millisecond)
				return r.models["davas"].answer(req), nil
			}
			if down != "" {
				r.change = outsideAt(t, down)
			}
			r.dropMany()
			began := time.Now()
			s := r.start()
			r.until("all complete", func() bool { return r.completed() == many && s.settled() })
			rows, err := s.o.Ledger.Recent(t.Context(), many)
			if err != nil || len(rows) != many {
				t.Fatalf("%d rows, %v", len(rows), err)
			}
			for _, row := range rows {
				info, err := r.mem.Lstat(path.Join(queue.Completed, row.File))
				if err != nil {
					t.Fatal(err)
				}
				moments = append(moments, fmt.Sprintf("%s: claimed %s, started %s, ended %s, annotated %s",
					row.Name, row.Claimed.Sub(began), row.Started.Sub(began), row.Ended.Sub(began), time.Unix(0, info.Ctime).Sub(began).Truncate(time.Millisecond)))
			}
			if down != "" {
				if n, err := s.o.Ledger.PingsQueued(t.Context()); err != nil || n != many {
					t.Errorf("%d pings are kept, %v", n, err)
				}
			}
			s.stop()
		})
		slices.Sort(moments)
		return moments
	}
	alone, down := moments(""), moments(nobody(t))
	for i, want := range alone {
		if down[i] != want {
			t.Fatalf("%s with Discord and Langfuse down, and %s without", down[i], want)
		}
	}
}

// soon has a worker look again at once; for tests on the real clock.
func soon(o *Options) { o.Guard, o.Poll, o.Log = 0, 5*time.Millisecond, slog.New(slog.DiscardHandler) }

// really waits, on the real clock, for a condition.
func really(t *testing.T, what string, cond func() bool) {
	t.Helper()
	guard := time.NewTimer(time.Minute)
	defer guard.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !cond() {
		select {
		case <-look.C:
		case <-guard.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// TestAHangingOutsideDelaysNoJob has Discord and Langfuse take requests and never
// answer: all jobs are done while the first requests are still open.
func TestAHangingOutsideDelaysNoJob(t *testing.T) {
	var open, closed atomic.Int64
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		open.Add(1)
		select {
		case <-end:
		case <-r.Context().Done():
			closed.Add(1)
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(end) })
	r := newRig(t)
	r.change = func(o *Options) { outsideAt(t, server.URL)(o); soon(o) }
	r.drop("first.md", textNote("the first"))
	s := r.start()
	really(t, "both hang", func() bool { return open.Load() == 2 })
	r.dropMany()
	really(t, "all complete", func() bool { return r.completed() == many+1 })
	if n, err := s.o.Ledger.PingsQueued(t.Context()); err != nil || n != many+1 {
		t.Errorf("%d pings are kept, %v", n, err)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

// TestAJobIsTraced has a chain with a retry traced: the root, its steps and each
// try arrive, and the link is in the notes and in the ping.
func TestAJobIsTraced(t *testing.T) {
	var posts, pings atomic.Pointer[bytes.Buffer]
	posts.Store(new(bytes.Buffer))
	pings.Store(new(bytes.Buffer))
	add := func(to *atomic.Pointer[bytes.Buffer], data []byte) {
		for {
			old := to.Load()
			if to.CompareAndSwap(old, bytes.NewBuffer(append(slices.Clone(old.Bytes()), data...))) {
				return
			}
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/webhooks/") {
			data, _ := io.ReadAll(r.Body)
			add(&pings, data)
			io.WriteString(w, `{"id": "1"}`)
			return
		}
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		data, err := io.ReadAll(unzipped)
		if err != nil {
			t.Error(err)
		}
		add(&posts, data)
		io.WriteString(w, `{"id": "1"}`)
	}))
	t.Cleanup(server.Close)
	r := newRig(t)
	r.models["davas"].script = func(_ context.Context, n int, req provider.Request) (provider.Answer, error) {
		if prompt := req.Messages[len(req.Messages)-1].Content; n == 1 && strings.Contains(prompt, "first") {
			return provider.Answer{}, &provider.Error{Kind: provider.Busy, Provider: "davas", Reason: "has no room"}
		}
		return r.models["davas"].answer(req), nil
	}
	var tracer *trace.Tracer
	r.change = func(o *Options) { outsideAt(t, server.URL)(o); soon(o); tracer = o.Tracer }
	r.drop("a.md", "---\njob_type: chain\ntitle: My chain\n---\n## One\nfirst prompt\n## Two\nsecond prompt\n")
	s := r.start()
	really(t, "it completes", func() bool { return r.in(queue.Completed, "a.md") && s.settled() })
	really(t, "its spans arrive", func() bool { return tracer.Stats().Sent == 6 })
	for _, want := range []string{"My chain", "One", "Two", "first prompt", "second prompt", "has no room", "answer to"} {
		if !bytes.Contains(posts.Load().Bytes(), []byte(want)) {
			t.Errorf("no span has %q", want)
		}
	}
	link := server.URL + "/trace/"
	if text := r.text(queue.Outputs, r.output()); !strings.Contains(text, "trace: "+link) && !strings.Contains(text, "trace: \""+link) {
		t.Errorf("no link to the trace in the output, %s:\n%s", link, text)
	}
	really(t, "the ping arrives", func() bool { return pings.Load().Len() > 0 })
	if !bytes.Contains(pings.Load().Bytes(), []byte(link)) {
		t.Errorf("no link to the trace in the ping %s", pings.Load())
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

// output is the name of the one output.
func (r *rig) output() string {
	for file := range r.mem.Files() {
		if path.Dir(file) == queue.Outputs {
			return path.Base(file)
		}
	}
	return ""
}
