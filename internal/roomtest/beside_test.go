package roomtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
)

// submit puts a job into the queue that asks a provider for a script, and returns
// its id.
func (s *server) submit(provider, script string) string {
	s.t.Helper()
	var got struct{ ID string }
	answer := s.ask(http.StatusCreated, "POST", "/queue/jobs", fmt.Sprintf(`{"job_type": "text", "provider": %q, "title": %q, "body": "say %s"}`, provider, script, script))
	if err := json.Unmarshal([]byte(answer), &got); err != nil || got.ID == "" {
		s.t.Fatalf("a job has no id: %s", answer)
	}
	return got.ID
}

// state is that of a job, "" while nobody has seen its note.
func (s *server) state(job string) string {
	s.t.Helper()
	status, _, text := do(s.t, s.asks("GET", "/queue/jobs/"+job, ""))
	var got struct{ State string }
	if err := json.Unmarshal([]byte(text), &got); err != nil || status != http.StatusOK && status != http.StatusNotFound {
		s.t.Fatalf("job %s: %d: %s", job, status, text)
	}
	return got.State
}

// line is who has a place at the fake model server and who waits for one, as the
// worker counts it.
func (w *world) line() (held, waiting []provider.Holder) {
	status, err := control.Dial(filepath.Join(w.state, "runner.sock")).Status(w.t.Context())
	if err != nil {
		return nil, nil
	}
	for _, l := range status.Lines {
		if l.Name == "fake" {
			return l.Held, l.Waiting
		}
	}
	return nil, nil
}

// TestTheRoomBesideTheWorker runs both as processes of their own: the room is there
// first, the worker comes, goes and comes again.
func TestTheRoomBesideTheWorker(t *testing.T) {
	t.Parallel()
	m := newModels(t)
	w := newWorld(t, "grace: 1s\nproviders:\n"+m.provider("fake", 1)+"  - {name: echo, kind: echo}\n")
	room := w.start("web")
	end := func(script string) { m.script(script).give("done"); m.script(script).finish() }

	// Alone it says so, and chat works; a job waits.
	page := room.asks("GET", "/queue", "")
	page.Header.Set("Accept", "text/html")
	if status, _, html := do(t, page); status != http.StatusOK || !strings.Contains(html, "No worker runs") {
		t.Errorf("without a worker the queue's page answers %d and does not say so", status)
	}
	room.say("first", "first")
	waits := room.submit("echo", "waits")
	var listed struct {
		Worker  *control.Status
		Waiting []control.Job
	}
	if err := json.Unmarshal([]byte(room.ask(http.StatusOK, "GET", "/queue", "")), &listed); err != nil || listed.Worker != nil || len(listed.Waiting) != 1 || !strings.HasPrefix(listed.Waiting[0].Name, "waits-") {
		t.Errorf("without a worker the queue is %+v, %v", listed, err)
	}
	room.ask(http.StatusServiceUnavailable, "POST", "/queue/jobs/"+waits+"/cancel", "")
	room.until("the first is asked", func() bool { return m.asked("first") == 1 })

	// A worker that starts gets the place which that answer has: its job waits.
	worker := w.start("worker")
	worker.until("the answer's place is the worker's", func() bool {
		held, _ := w.line()
		return len(held) == 1 && held[0].Who == "chat/first"
	})
	second := room.submit("fake", "second")
	room.until("a job waits behind the answer, and it is said why", func() bool {
		if err := json.Unmarshal([]byte(room.ask(http.StatusOK, "GET", "/queue", "")), &listed); err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(listed.Waiting, func(j control.Job) bool { return j.ID == second && strings.Contains(j.Reason, "fake") })
	})
	if got := m.asksSeen(); !slices.Equal(got, []string{"first"}) {
		t.Errorf("asked was %v", got)
	}

	// Who sits and waits goes before the jobs that wait.
	room.say("urgent", "urgent")
	r := room.follows("urgent")
	r.begin(t)
	r.await(t, "the page says behind whom it waits", func() bool { return r.saw("phase") })
	worker.until("it stands first in the line", func() bool {
		_, waiting := w.line()
		return len(waiting) > 0 && waiting[0].Who == "chat/urgent"
	})
	end("first")
	room.until("the urgent one is asked", func() bool { return m.asked("urgent") == 1 })
	end("urgent")
	room.answered("first")
	room.answered("urgent")
	end("second")
	room.until("the jobs are done", func() bool { return room.state(waits) == "completed" && room.state(second) == "completed" })
	seen := m.asksSeen()
	if i, k := slices.Index(seen, "urgent"), slices.Index(seen, "second"); i > k {
		t.Errorf("asked was in the order %v", seen)
	}

	// Through the socket a job is cancelled and tried again.
	job := room.submit("fake", "job")
	room.until("the job runs", func() bool { return m.asked("job") == 1 && room.state(job) == "active" })
	if active := room.ask(http.StatusOK, "GET", "/queue/active", ""); !strings.Contains(active, job) {
		t.Errorf("the active jobs are %s", active)
	}
	room.ask(http.StatusOK, "POST", "/queue/jobs/"+job+"/cancel", "")
	room.until("the job is cancelled", func() bool { return room.state(job) == "cancelled" && m.script("job").cut() == 1 })
	end("job")
	room.ask(http.StatusOK, "POST", "/queue/jobs/"+job+"/retry", "")
	room.until("the job is done", func() bool { return room.state(job) == "completed" })
	room.ask(http.StatusNotFound, "POST", "/queue/jobs/nobody/retry", "")

	// A worker that ends takes no answer with it.
	room.say("last", "last")
	room.until("the last is asked", func() bool { return m.asked("last") == 1 })
	worker.kill()
	end("last")
	room.answered("last")
	if got := room.answer("last"); got.State != "done" {
		t.Errorf("without the worker the answer is %+v", got)
	}
	left := room.submit("fake", "left")
	end("left")
	worker = w.start("worker")
	room.until("the new worker does what was left", func() bool { return room.state(left) == "completed" })
	if notes, _ := filepath.Glob(filepath.Join(w.vault, queue.Completed, "*.md")); len(notes) != 4 {
		t.Errorf("%d jobs are completed", len(notes))
	}
	for _, script := range []string{"first", "urgent", "second", "last", "left"} {
		if got := m.asked(script); got != 1 {
			t.Errorf("%s was asked %d times", script, got)
		}
	}
	worker.Terminate()
	room.Terminate()
}

// TestOneRoomAStateFolder starts a second control room.
func TestOneRoomAStateFolder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "providers: [{name: echo, kind: echo}]\n")
	s := w.start("up")
	second := peertest.Start(t, w.command("web"))
	peertest.Until(t, "the second ends", second.Log.String, second.Ended)
	if code := second.Cmd.ProcessState.ExitCode(); code == 0 || !strings.Contains(second.Log.String(), "another control room runs with the state folder") {
		t.Errorf("the second ended with %d: %s", code, second.Log)
	}
	s.Terminate()
}
