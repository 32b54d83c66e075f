package roomtest

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/queue"
)

// TestStoppedInMidAnswer stops the server while one answer ends within the grace
// time, another does not, and a job runs.
func TestStoppedInMidAnswer(t *testing.T) {
	t.Parallel()
	m := newModels(t)
	w := newWorld(t, "grace: 3s\nproviders:\n"+m.provider("fake", 4))
	s := w.start("up")
	quick, endless, job := m.script("quick"), m.script("endless"), m.script("job")
	job.give("begun ")
	w.drop("job.md", "---\njob_type: text\n---\nsay job\n")
	s.until("the job runs", func() bool { return m.asked("job") == 1 })
	readers := make(map[string]*follower)
	for id, answer := range map[string]*script{"quick": quick, "endless": endless} {
		answer.give("begun ")
		s.say(id, id)
		r := s.follows(id)
		r.begin(t)
		r.await(t, "it has begun", func() bool { return r.has() == "begun " })
		readers[id] = r
	}
	if err := s.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.until("the stop has begun", func() bool { return strings.Contains(s.Log.String(), "running answers have their grace time") })
	if status, _, text := do(t, s.asks("POST", "/chat/late/messages", `{"text": "say late"}`)); status != http.StatusServiceUnavailable {
		t.Errorf("a message during the stop is answered by %d: %s", status, text)
	}
	quick.give("and ended")
	quick.finish()
	readers["quick"].await(t, "its end is told", func() bool { return readers["quick"].saw("end stop") })
	for id, r := range readers {
		r.await(t, "the stop is told to who reads "+id, func() bool { return r.saw("stopping") })
	}
	if !readers["endless"].saw("end interrupted") {
		t.Errorf("who read the endless one saw %v", readers["endless"].events)
	}
	peertest.Until(t, "it ends", nil, s.Ended)
	if code := s.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	note, err := os.ReadFile(filepath.Join(w.vault, queue.Waiting, "job.md"))
	if err != nil || !strings.Contains(string(note), "say job") {
		t.Errorf("the job is not back in the queue: %v", err)
	}
	if m.asked("late") != 0 {
		t.Error("the late message was asked")
	}
	peertest.Until(t, "the model is no longer asked", nil, func() bool { return endless.cut() == 1 && job.cut() == 1 })

	job.give("and ended")
	job.finish()
	s = w.start("up")
	if got := s.answer("quick"); got.State != "done" || got.Text != "begun and ended" {
		t.Errorf("of the quick one is kept %+v", got)
	}
	if got := s.answer("endless"); got.State != "interrupted" || got.Text != "begun " {
		t.Errorf("of the endless one is kept %+v", got)
	}
	s.until("the job is done after all", func() bool { return w.has(queue.Completed, "job.md") })
	for name, want := range map[string]int{"quick": 1, "endless": 1, "job": 2} {
		if got := m.asked(name); got != want {
			t.Errorf("%s was asked %d times, want %d", name, got, want)
		}
	}
	s.Terminate()
}
