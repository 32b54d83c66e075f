package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
)

func TestANoteThatIsDeletedWhileItRuns(t *testing.T) {
	tests := []struct {
		name  string
		takes time.Duration
		state job.State
		want  string
	}{
		{"long before the answer", time.Hour, job.Failed, "note gone: it vanished from _active while it ran"},
		{"right before the answer", 2 * time.Second, job.Completed, "note gone: it vanished from _active while it ran; the answer is kept"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.models["davas"].script = func(ctx context.Context, _ int, req provider.Request) (provider.Answer, error) {
					select {
					case <-time.After(test.takes):
						return r.models["davas"].answer(req), nil
					case <-ctx.Done():
						return provider.Answer{Text: "half"}, &provider.Error{Kind: provider.Cancelled, Provider: "davas", Reason: "stopped", Sent: true}
					}
				}
				r.drop("a.md", textNote("hello"))
				s := r.start()
				r.until("it runs", func() bool { return r.models["davas"].asked("hello") == 1 })
				if err := r.mem.Remove(queue.Active + "/a.md"); err != nil {
					t.Fatal(err)
				}
				r.until("it ends", func() bool { return s.settled() })
				defer s.stop()
				if j := s.listed("a.md"); j.State != string(test.state) || j.Reason != test.want || j.Output == "" {
					t.Errorf("listed as %q, %q, output %q", j.State, j.Reason, j.Output)
				}
				if r.text(queue.Outputs, "") == "" {
					t.Error("the answer is not kept")
				}
				for _, folder := range queue.Folders() {
					if folder != queue.Outputs && r.in(folder, "a.md") {
						t.Errorf("the note is made anew in %s", folder)
					}
				}
			})
		})
	}
}
