package health

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// after answers err once a time has passed.
func after(d time.Duration, text string, err error) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		select {
		case <-time.After(d):
			return text, err
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func fine(context.Context) (string, error) { return "looks well", nil }

func get(t *testing.T, h http.Handler) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
	return w
}

func TestWhatToDoIsSaidOfEachBadState(t *testing.T) {
	tests := []struct {
		name   string
		check  func(context.Context) (string, error)
		advice string // "" for none, "any" for some
	}{
		{"it is well", fine, ""},
		{"it is not configured", nil, ""},
		{"it is slow", after(slow+time.Millisecond, "", nil), "any"},
		{"it does not answer", after(time.Hour, "", nil), "start it"},
		{"it heeds no deadline", func(context.Context) (string, error) { <-time.After(10 * time.Second); return "", nil }, "start it"},
		{"it fails with a plain error", after(0, "", errors.New("no answer")), "start it"},
		{"a problem has no advice", after(0, "", &Problem{State: Failing, Reason: "500"}), "start it"},
		{"a problem has its own", after(0, "", &Problem{State: WrongKey, Reason: "401", Advice: "look at the key"}), "look at the key"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New("1", Probe{Name: "part", Advice: "start it", Check: test.check})
				got := c.Report(t.Context()).Parts[0].Advice
				if got != test.advice && (test.advice != "any" || got == "" || got == "start it") {
					t.Errorf("the advice is %q, want %q", got, test.advice)
				}
				time.Sleep(time.Minute) // whatever hangs comes to its end
			})
		})
	}
}

func TestSinceWhenAPartIsDownMayBeKnownFromElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		since := time.Now().Add(-time.Hour)
		c := New("1", Probe{Name: "part", Check: after(0, "", &Problem{State: Down, Since: since})})
		if got := c.Report(t.Context()).Parts[0].Since; !got.Equal(since) {
			t.Errorf("since %s, want %s", got, since)
		}
	})
}

func TestHowAPartAndTheWholeAre(t *testing.T) {
	wrongKey := &Problem{State: WrongKey, Reason: "401", Advice: "look at the key"}
	tests := []struct {
		name  string
		check func(context.Context) (string, error)
		state State
		text  string
		// as a part that jobs can do without, and as a core part
		beside, core Status
	}{
		{"it answers", fine, OK, "looks well", Healthy, Healthy},
		{"it is not configured", nil, NotConfigured, "", Healthy, Healthy},
		{"it answers late", after(slow+time.Millisecond, "looks well", nil), Slow, "looks well", Degraded, Degraded},
		{"it answers just in time", after(slow, "looks well", nil), OK, "looks well", Healthy, Healthy},
		{"it does not answer", after(time.Hour, "", nil), Down, "no answer within 5s", Degraded, Broken},
		{"it does not answer and heeds no deadline", func(context.Context) (string, error) {
			<-time.After(10 * time.Second)
			return "", nil
		}, Down, "no answer within 5s", Degraded, Broken},
		{"it fails with a plain error", after(0, "ignored", errors.New("connection refused")), Down, "connection refused", Degraded, Broken},
		{"it takes another key", after(0, "", wrongKey), WrongKey, "401", Degraded, Broken},
		{"it takes another key, late", after(3*time.Second, "", wrongKey), WrongKey, "401", Degraded, Broken},
		{"a problem is wrapped", after(0, "", fmt.Errorf("ask: %w", wrongKey)), WrongKey, "401", Degraded, Broken},
		{"a model is missing", after(0, "", &Problem{State: ModelMissing, Reason: "no llama"}), ModelMissing, "no llama", Degraded, Broken},
		{"it does not do its work", after(0, "", &Problem{State: Failing, Reason: "500"}), Failing, "500", Degraded, Broken},
	}
	for _, test := range tests {
		for _, core := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, core %v", test.name, core), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := New("1", Probe{Name: "well", Core: true, Check: fine}, Probe{Name: "part", Core: core, Check: test.check})
					r := c.Report(t.Context())
					part := r.Parts[1]
					if part.Name != "part" || part.Core != core || part.State != test.state || part.Text != test.text {
						t.Errorf("the part is %+v", part)
					}
					want, status := test.beside, http.StatusOK
					if core {
						want = test.core
					}
					if want == Broken {
						status = http.StatusServiceUnavailable
					}
					if r.Status != want {
						t.Errorf("the whole is %q, want %q", r.Status, want)
					}
					if w := get(t, c.Handler()); w.Code != status || w.Header().Get("Content-Type") != "application/json" {
						t.Errorf("/health answers %d %s", w.Code, w.Header())
					}
					<-time.After(probeTime) // for what hangs to return
					if w := get(t, c.Live()); w.Code != status || w.Body.String() != string(want)+"\n" {
						t.Errorf("/healthz answers %d %q", w.Code, w.Body)
					}
				})
			})
		}
	}
}

func TestOneBrokenCoreOutweighsTheRest(t *testing.T) {
	broken, beside := Probe{Name: "a", Core: true, Check: after(0, "", errors.New("no"))}, Probe{Name: "b", Check: after(0, "", errors.New("no"))}
	for _, probes := range [][]Probe{{broken, beside}, {beside, broken}} {
		if r := New("", probes...).Report(t.Context()); r.Status != Broken {
			t.Errorf("%q", r.Status)
		}
	}
}

func TestPartsAreProbedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var probes []Probe
		for range 20 {
			probes = append(probes, Probe{Name: "hangs", Check: after(time.Hour, "", nil)})
		}
		New("", probes...).Report(t.Context())
		if took := time.Since(began); took != probeTime {
			t.Errorf("took %s", took)
		}
	})
}

func TestARoundIsBelievedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := New("", Probe{Name: "a", Check: func(context.Context) (string, error) { n++; return "", nil }})
		for range 15 {
			c.Report(t.Context())
			<-time.After(time.Second)
		}
		if n != 1 {
			t.Errorf("probed %d times within %s", n, fresh)
		}
		c.Report(t.Context())
		if n != 2 {
			t.Errorf("probed %d times after it", n)
		}
	})
}

func TestOneRoundAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := New("", Probe{Name: "a", Check: func(ctx context.Context) (string, error) {
			n++
			return after(time.Second, "", nil)(ctx)
		}})
		began := time.Now()
		reports := make(chan Report)
		for range 50 {
			go func() { reports <- c.Report(t.Context()) }()
		}
		for range 50 {
			if r := <-reports; r.Parts[0].State != OK {
				t.Errorf("told %q before it was known", r.Parts[0].State)
			}
		}
		if n != 1 || time.Since(began) != time.Second {
			t.Errorf("probed %d times in %s", n, time.Since(began))
		}
	})
}

func TestSinceIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var err error
		c := New("", Probe{Name: "a", Check: func(context.Context) (string, error) { return "", err }}, Probe{Name: "unset"})
		begin := time.Now().UTC()
		since := func() Part { return c.Report(t.Context()).Parts[0] }
		if p := since(); !p.Since.Equal(begin) {
			t.Errorf("ok since %s", p.Since)
		}
		<-time.After(time.Minute)
		if p := since(); !p.Since.Equal(begin) || !p.Probed.Equal(begin.Add(time.Minute)) {
			t.Errorf("still ok: %+v", p)
		}
		err = errors.New("refused")
		<-time.After(time.Minute)
		if p := since(); p.State != Down || !p.Since.Equal(begin.Add(2*time.Minute)) {
			t.Errorf("down: %+v", p)
		}
		<-time.After(time.Minute)
		if p := since(); !p.Since.Equal(begin.Add(2 * time.Minute)) {
			t.Errorf("still down: %+v", p)
		}
		err = nil
		<-time.After(time.Minute)
		r := c.Report(t.Context())
		if p := r.Parts[0]; p.State != OK || !p.Since.Equal(begin.Add(4*time.Minute)) {
			t.Errorf("ok again: %+v", p)
		}
		if p := r.Parts[1]; !p.Since.IsZero() || !p.Probed.IsZero() {
			t.Errorf("what is not configured has a time: %+v", p)
		}
	})
}

func TestACallerThatGoesAwaySpoilsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New("", Probe{Name: "a", Core: true, Check: after(time.Second, "", nil)})
		for _, first := range []bool{true, false} {
			gone, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			began := time.Now()
			r := c.Report(gone)
			cancel()
			if took := time.Since(began); took != 500*time.Millisecond {
				t.Errorf("first %v: the caller was kept for %s", first, took)
			}
			want := OK
			if first {
				want = NotConfigured // nothing is known yet
			}
			if r.Parts[0].State != want {
				t.Errorf("first %v: told %q", first, r.Parts[0].State)
			}
			if r := c.Report(t.Context()); r.Status != Healthy || r.Parts[0].State != OK {
				t.Errorf("first %v: the next is told %+v", first, r)
			}
			<-time.After(fresh)
		}
	})
}

func TestACheckThatHangsIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		free := make(chan struct{})
		c := New("", Probe{Name: "a", Core: true, Check: func(context.Context) (string, error) { n.Add(1); <-free; return "", nil }})
		var since time.Time
		for range 5 {
			r := c.Report(t.Context())
			if r.Status != Broken {
				t.Errorf("told %q", r.Status)
			}
			if !since.IsZero() && !since.Equal(r.Parts[0].Since) {
				t.Error("its since moves")
			}
			since = r.Parts[0].Since
			<-time.After(fresh)
		}
		if n.Load() != 1 {
			t.Errorf("%d checks hang", n.Load())
		}
		close(free)
		synctest.Wait()
		if r := c.Report(t.Context()); r.Status != Healthy || n.Load() != 2 {
			t.Errorf("once it is free: %+v, %d checks", r, n.Load())
		}
	})
}

func TestAReportIsTheCallersOwn(t *testing.T) {
	c := New("", Probe{Name: "a", Check: fine})
	c.Report(t.Context()).Parts[0].State = Down
	if s := c.Report(t.Context()).Parts[0].State; s != OK {
		t.Errorf("%q", s)
	}
}

func TestReportInJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New("1.2.3",
			Probe{Name: "worker", Core: true, Check: fine},
			Probe{Name: "provider groq", Check: after(1234*time.Millisecond, "", &Problem{State: WrongKey, Reason: "it answers 401", Advice: "look at the key"})},
			Probe{Name: "discord"})
		got := get(t, c.Handler()).Body.String()
		path := filepath.Join("testdata", "report.json")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("the report differs from %s; -update rewrites it. Got:\n%s", path, got)
		}
	})
}
