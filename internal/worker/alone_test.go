package worker

import (
	"context"
	"testing"
	"testing/synctest"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/provider"
)

func TestWithoutAWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.models["davas"].script = func(ctx context.Context, _ int, req provider.Request) (provider.Answer, error) {
			if req.Messages[len(req.Messages)-1].Content == "second" {
				<-ctx.Done()
				return provider.Answer{}, &provider.Error{Kind: provider.Cancelled, Provider: "davas", Reason: "stopped"}
			}
			return r.models["davas"].answer(req), nil
		}
		r.drop("a.md", "---\njob_type: chain\n---\n## One\nfirst\n## Two\nsecond\n")
		r.drop("b.md", "---\njob_type: text\nid: by-hand\ndraft: true\n---\nlater\n")
		s := r.start()
		defer s.stop()
		r.until("the second step runs", func() bool { return s.listed("a.md").Step == 2 })
		jobs, err := Listing(context.Background(), s.o.Ledger, s.o.Vault, control.Filter{})
		if err != nil || len(jobs) != 2 {
			t.Fatalf("%d jobs, %v", len(jobs), err)
		}
		const want = "was running when the worker ended; the next start finishes it or puts it back"
		if j := jobs[0]; j.State != "active" || j.Step != 2 || j.Reason != want {
			t.Errorf("listed as %+v", j)
		}
		if jobs[1].ID != "by-hand" {
			t.Errorf("the waiting note has the id %q", jobs[1].ID)
		}
		d, err := Detailed(context.Background(), s.o.Ledger, "a.md")
		if err != nil || d.Reason != want || d.Step != 2 || d.Calls[0].Run != d.Run {
			t.Errorf("told as %+v, %v", d, err)
		}
	})
}
