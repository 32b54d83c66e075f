package web

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
)

func said(kind provider.EventKind, text string) provider.Event {
	return provider.Event{Kind: kind, Text: text}
}

func activeJob(id string) control.Job {
	return control.Job{ID: id, Name: id + ".md", State: "active", Folder: "_active", Started: noon, Steps: 2}
}

// watched runs a watch in a bubble, with what it calls when something has changed.
func watched(t *testing.T, body func(t *testing.T, jobs *fakeJobs, w *queueWatch, changes *atomic.Int64)) {
	synctest.Test(t, func(t *testing.T) {
		jobs := newFakeJobs(t)
		w := newQueueWatch(jobs)
		ctx, cancel := context.WithCancel(t.Context())
		var changes atomic.Int64
		done := make(chan struct{})
		go func() { w.run(ctx, func() { changes.Add(1) }); close(done) }()
		body(t, jobs, w, &changes)
		cancel()
		<-done
	})
}

func TestARunningJobIsFollowed(t *testing.T) {
	watched(t, func(t *testing.T, jobs *fakeJobs, w *queueWatch, _ *atomic.Int64) {
		active := []control.Job{activeJob("a")}
		s := stream(t, jobs.hub, "a", provider.Event{Kind: provider.StepEvent, Step: 1, Text: "One"}, said(provider.TextEvent, "Early "))
		if got := w.look(t.Context(), active)["a"]; got.Step != 1 || got.Title != "One" || got.Text != "Early " {
			t.Errorf("who comes late sees %+v", got)
		}
		s.Publish(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Loading})
		synctest.Wait()
		if got := w.look(t.Context(), active)["a"].Doing(); got != "loading the model" {
			t.Errorf("the phase is %q", got)
		}
		s.Publish(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Waiting, Text: "second in line"})
		synctest.Wait()
		if got := w.look(t.Context(), active)["a"].Doing(); got != "second in line" {
			t.Errorf("the phase is %q", got)
		}
		s.Publish(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Answering})
		s.Publish(said(provider.ThinkingEvent, "Hm."))
		synctest.Wait()
		if got := w.look(t.Context(), active)["a"].Doing(); got != "thinking" {
			t.Errorf("the phase is %q", got)
		}
		s.Publish(provider.Event{Kind: provider.StepEvent, Step: 2, Text: "Two"})
		for range 1000 {
			s.Publish(said(provider.TextEvent, "ä€😀"))
		}
		synctest.Wait()
		got := w.look(t.Context(), active)["a"]
		if got.Step != 2 || len(got.Text) > liveText || len(got.Text) < liveText-utf8.UTFMax || !utf8.ValidString(got.Text) || !strings.HasSuffix(got.Text, "😀") {
			t.Errorf("after much text it is %+v", got)
		}
		if got := w.look(t.Context(), nil); len(got) != 0 {
			t.Errorf("a job that has ended is told: %v", got)
		}
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.live) != 0 {
			t.Errorf("%d jobs are still followed", len(w.live))
		}
	})
}

func TestAFirstLookWaitsAMoment(t *testing.T) {
	watched(t, func(t *testing.T, jobs *fakeJobs, w *queueWatch, _ *atomic.Int64) {
		began := time.Now()
		stream(t, jobs.hub, "b") // says nothing yet
		w.look(t.Context(), []control.Job{activeJob("b")})
		if took := time.Since(began); took != firstWait {
			t.Errorf("for a job of which nothing is heard it waits %s", took)
		}
		began = time.Now()
		w.look(t.Context(), []control.Job{activeJob("b")})
		if took := time.Since(began); took != 0 {
			t.Errorf("at a second look it waits %s", took)
		}
	})
	watched(t, func(t *testing.T, jobs *fakeJobs, w *queueWatch, _ *atomic.Int64) {
		jobs.away = true
		began := time.Now()
		w.look(t.Context(), []control.Job{activeJob("c")})
		if took := time.Since(began); took >= 100*time.Millisecond {
			t.Errorf("while no worker runs it waits %s", took)
		}
	})
}

func TestARetellingReplacesWhatIsKnown(t *testing.T) {
	var l jobLive
	for _, it := range []live.Item{{Event: provider.Event{Kind: provider.StepEvent, Step: 1, Text: "One"}}, {Event: said(provider.TextEvent, "a")},
		{Reset: true}, {Event: said(provider.TextEvent, "ab")}} {
		l.add(it)
	}
	if want := (jobLive{Text: "ab"}); l != want {
		t.Errorf("got %+v, want %+v", l, want)
	}
}

func TestAFurtherAttemptIsFollowedAgain(t *testing.T) {
	watched(t, func(t *testing.T, jobs *fakeJobs, w *queueWatch, _ *atomic.Int64) {
		active := []control.Job{activeJob("a")}
		stream(t, jobs.hub, "a", said(provider.TextEvent, "first")).Close("stop")
		w.look(t.Context(), active)
		synctest.Wait()
		s := stream(t, jobs.hub, "a", provider.Event{Kind: provider.PhaseEvent, Phase: provider.Reading}, said(provider.TextEvent, "second"))
		synctest.Wait()
		w.look(t.Context(), active)
		synctest.Wait()
		if got := w.look(t.Context(), active)["a"].Text; got != "second" {
			t.Errorf("the text is %q", got)
		}
		s.Close("stop")
	})
}

func TestChangesAreToldAtMostTwiceASecond(t *testing.T) {
	watched(t, func(t *testing.T, jobs *fakeJobs, w *queueWatch, changes *atomic.Int64) {
		s := stream(t, jobs.hub, "a")
		w.look(t.Context(), []control.Job{activeJob("a")})
		synctest.Wait()
		began := time.Now()
		for time.Since(began) < 10*time.Second {
			s.Publish(said(provider.TextEvent, "word "))
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		if n := changes.Load(); n < 15 || n > 21 {
			t.Errorf("in 10 s it was told %d times", n)
		}
		before := changes.Load()
		time.Sleep(5 * time.Second)
		if n := changes.Load() - before; n > 1 {
			t.Errorf("while nothing happened it was told %d times", n)
		}
		jobs.hub.Announce("b", said(live.State, "waiting"))
		time.Sleep(pace)
		synctest.Wait()
		if n := changes.Load(); n != before+1 && n != before+2 {
			t.Errorf("a job's new state was told %d times", n-before)
		}
	})
}

func TestChatsAreNoNewsOfTheQueue(t *testing.T) {
	watched(t, func(t *testing.T, jobs *fakeJobs, w *queueWatch, changes *atomic.Int64) {
		w.look(t.Context(), nil)
		synctest.Wait()
		jobs.hub.Announce("chat/one", said(live.State, "running"))
		time.Sleep(2 * pace)
		synctest.Wait()
		if n := changes.Load(); n != 0 {
			t.Errorf("a chat was told %d times", n)
		}
	})
}

func TestNothingIsFollowedWhileNobodyLooks(t *testing.T) {
	watched(t, func(t *testing.T, jobs *fakeJobs, w *queueWatch, changes *atomic.Int64) {
		s := stream(t, jobs.hub, "a", said(provider.TextEvent, "x"))
		publish := func() { s.Publish(said(provider.TextEvent, "x")); time.Sleep(2 * pace); synctest.Wait() }
		publish()
		if n := changes.Load(); n != 0 {
			t.Errorf("before anybody looked it was told %d times", n)
		}
		w.look(t.Context(), []control.Job{activeJob("a")})
		synctest.Wait()
		publish()
		if changes.Load() == 0 {
			t.Error("while somebody looked nothing was told")
		}
		time.Sleep(2 * watchTime)
		before := changes.Load()
		publish()
		w.mu.Lock()
		followed := len(w.live)
		w.mu.Unlock()
		if n := changes.Load() - before; n != 0 || followed != 0 {
			t.Errorf("long after the last look it was told %d times, and %d jobs are followed", n, followed)
		}
		w.look(t.Context(), []control.Job{activeJob("a")})
		synctest.Wait()
		if got := w.look(t.Context(), []control.Job{activeJob("a")})["a"].Text; got != "xxxx" {
			t.Errorf("who looks again sees %q", got)
		}
	})
}

func TestAWorkerThatIsAwayIsAskedLessAndLessOften(t *testing.T) {
	watched(t, func(t *testing.T, jobs *fakeJobs, w *queueWatch, changes *atomic.Int64) {
		jobs.away = true
		for range 60 {
			w.look(t.Context(), nil)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := changes.Load(); n < 5 || n > 15 {
			t.Errorf("in a minute it was told %d times that there is none", n)
		}
	})
}

func TestOnlySoManyJobsAreFollowed(t *testing.T) {
	watched(t, func(t *testing.T, jobs *fakeJobs, w *queueWatch, _ *atomic.Int64) {
		var active []control.Job
		for i := range 100 {
			active = append(active, activeJob(fmt.Sprint(i)))
			stream(t, jobs.hub, fmt.Sprint(i))
		}
		w.look(t.Context(), active)
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.live) != mostFollowed {
			t.Errorf("%d jobs are followed", len(w.live))
		}
	})
}

func TestTheQueuesPageFollowsByItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jobs := newFakeJobs(t, activeJob("a"))
		p := newPanel(t, jobs)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.app.watch(ctx) }()
		s := stream(t, jobs.hub, "a", said(provider.TextEvent, "first words"))

		out := &streamedBody{changed: make(chan struct{}, 1)}
		gone, leave := context.WithCancel(t.Context())
		left := make(chan struct{})
		go func() {
			r, _ := http.NewRequestWithContext(gone, "GET", "/queue/stream?state=completed", nil)
			r.Host, r.RemoteAddr = "localhost:8080", "127.0.0.1:1"
			r.Header.Set("Authorization", "Bearer "+p.token)
			r.Header.Set("Accept", "text/html, text/event-stream")
			p.http.ServeHTTP(out, r)
			close(left)
		}()
		out.await(t, `id="active"`, "first words", `id="recent"`, "No job that ended is completed")
		s.Publish(said(provider.TextEvent, " and more"))
		out.await(t, "first words and more")
		done2 := activeJob("a")
		done2.State, done2.Finished = "completed", noon.Add(time.Second)
		jobs.set(done2)
		jobs.hub.Announce("a", said(live.State, "completed"))
		out.await(t, "Nothing runs now.", `<span class="state completed">`)
		if n := out.count(`id="hosts"`); n != 1 {
			t.Errorf("the hosts were sent %d times", n)
		}
		leave()
		<-left
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
