package worker

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
)

func TestANoteComesBackAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.drop("a.md", "---\njob_type: text\nmood: gentle # kept\n---\nhello\n")
		s := r.start()
		r.until("completed", func() bool { return r.in(queue.Completed, "a.md") && s.settled() })
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		text := r.text(queue.Completed, "a.md")
		for _, want := range []string{"mood: gentle # kept\n", "status: completed\n", "attempts: 1\n", "output: \"[[runner-outputs/", "\n---\nhello\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("the note lacks %q:\n%s", want, text)
			}
		}
		if out := r.text(queue.Outputs, ""); !strings.HasSuffix(out, "---\n\nanswer to hello\n") {
			t.Errorf("output:\n%s", out)
		}
		if err := r.wholeCheck(map[string]string{"a.md": textNote("hello")}); err == nil {
			t.Error("the check does not see a foreign original")
		}
	})
}

func TestAFailedCallNamesReasonAdviceAndPartialText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.models["davas"].script = func(_ context.Context, _ int, req provider.Request) (provider.Answer, error) {
			return provider.Answer{Text: "half of", Provider: "davas", Model: "m"},
				&provider.Error{Kind: provider.Cut, Provider: "davas", Model: "m", Reason: "cut at 10 tokens", Advice: "set max_tokens higher", Sent: true}
		}
		r.drop("a.md", textNote("hello"))
		s := r.start()
		r.until("failed", func() bool { return r.in(queue.Failed, "a.md") && s.settled() })
		s.stop()
		text := r.text(queue.Failed, "a.md")
		for _, want := range []string{"status: failed\n", `error: "davas (m): cut at 10 tokens"`, "> [!failure] Failed: davas (m): cut at 10 tokens", "What to do: set max_tokens higher.", "What had come until then: [[runner-outputs/"} {
			if !strings.Contains(text, want) {
				t.Errorf("the note lacks %q:\n%s", want, text)
			}
		}
		if out := r.text(queue.Outputs, ""); !strings.Contains(out, "finish: partial\n") || !strings.Contains(out, "half of") {
			t.Errorf("partial output:\n%s", out)
		}
		if n := r.models["davas"].asked("hello"); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
	})
}

func TestAPanicIsAFailureOfItsJobAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.models["davas"].script = func(_ context.Context, _ int, req provider.Request) (provider.Answer, error) {
			if strings.Contains(req.Messages[0].Content, "bad") {
				panic("boom")
			}
			return r.models["davas"].answer(req), nil
		}
		r.drop("bad.md", textNote("bad"))
		r.drop("good.md", textNote("good"))
		s := r.start()
		r.until("both ended", func() bool { return r.in(queue.Failed, "bad.md") && r.in(queue.Completed, "good.md") && s.settled() })
		s.stop()
		if !strings.Contains(r.log.String(), "boom") || strings.Contains(r.text(queue.Failed, "bad.md"), "boom") {
			t.Error("the panic belongs in the log, not in the note")
		}
	})
}

func TestWhatIsAskedAgain(t *testing.T) {
	tests := []struct {
		name  string
		note  string
		kind  provider.Kind
		sent  bool
		after time.Duration
		want  int // calls
		done  bool
	}{
		{"a busy server is asked three times", "", provider.Busy, false, 0, 3, false},
		{"a gateway error is asked three times", "", provider.Gateway, true, 0, 3, false},
		{"a timeout may have been billed and is not repeated", "", provider.Timeout, true, 0, 1, false},
		{"a refused key is not repeated", "", provider.Auth, false, 0, 1, false},
		{"a server error is not repeated", "", provider.Failed, true, 0, 1, false},
		{"with retry: never a busy server is asked once", "retry: never\n", provider.Busy, false, 0, 1, false},
		{"a server that asks for an hour fails at once", "", provider.Busy, false, time.Hour, 1, false},
		{"an answer to the second try counts", "", provider.Busy, false, time.Second, 2, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.models["davas"].script = func(_ context.Context, n int, req provider.Request) (provider.Answer, error) {
					if tt.done && n == tt.want {
						return r.models["davas"].answer(req), nil
					}
					return provider.Answer{}, &provider.Error{Kind: tt.kind, Provider: "davas", Reason: "so it is", Sent: tt.sent, RetryAfter: tt.after}
				}
				r.drop("a.md", "---\njob_type: text\n"+tt.note+"---\nhello\n")
				s := r.start()
				end := queue.Failed
				if tt.done {
					end = queue.Completed
				}
				r.until("ended", func() bool { return r.in(end, "a.md") && s.settled() })
				s.stop()
				if n := r.models["davas"].asked("hello"); n != tt.want {
					t.Errorf("asked %d times, want %d", n, tt.want)
				}
			})
		})
	}
}

func TestAHostThatSleepsHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "contabo", "davas")
		r.models["davas"].down = &provider.Error{Kind: provider.Unreachable, Provider: "davas", Reason: "refused the connection"}
		r.drop("a-davas.md", "---\njob_type: text\nprovider: davas\n---\nfor davas\n")
		r.drop("b-contabo.md", "---\njob_type: text\nprovider: contabo\n---\nfor contabo\n")
		s := r.start()
		r.until("the other is done", func() bool { return r.in(queue.Completed, "b-contabo.md") })
		j := s.listed("a-davas.md")
		if j.State != "waiting" || !strings.Contains(j.Reason, "waits for davas, unreachable since") {
			t.Errorf("listed as %q: %q", j.State, j.Reason)
		}
		if !r.in(queue.Waiting, "a-davas.md") {
			t.Error("the note left the queue")
		}
		r.models["davas"].setDown(nil)
		r.until("awake", func() bool { return r.in(queue.Completed, "a-davas.md") && s.settled() })
		s.stop()
	})
}

func TestAHostIsAskedEachMinuteFor72Hours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.change = func(o *Options) { o.Poll = 10 * time.Second } // for 73 hours
		m := r.models["davas"]
		m.down = &provider.Error{Kind: provider.Unreachable, Provider: "davas", Reason: "refused the connection"}
		r.drop("a.md", textNote("hello"))
		s := r.start()
		<-time.After(10 * time.Hour)
		if m.pings < 590 || m.pings > 610 {
			t.Errorf("asked %d times in ten hours, want about 600", m.pings)
		}
		if s.listed("a.md").State != "waiting" {
			t.Fatal("it does not wait")
		}
		s.stop()
		s = r.start() // the first sight outlives a restart
		<-time.After(61 * time.Hour)
		if s.listed("a.md").State != "waiting" {
			t.Fatal("it does not wait after 71 hours")
		}
		<-time.After(2 * time.Hour)
		r.until("failed", func() bool { return r.in(queue.Failed, "a.md") && s.settled() })
		s.stop()
		if text := r.text(queue.Failed, "a.md"); !strings.Contains(text, "could not be reached for 72 hours") {
			t.Errorf("note:\n%s", text)
		}
	})
}

func TestAHostThatFallsAsleepInMidChainKeepsTheSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "contabo", "davas")
		down := &provider.Error{Kind: provider.Unreachable, Provider: "davas", Reason: "refused the connection"}
		r.models["contabo"].script = func(_ context.Context, _ int, req provider.Request) (provider.Answer, error) {
			r.models["davas"].setDown(down)
			return r.models["contabo"].answer(req), nil
		}
		r.drop("a.md", "---\njob_type: chain\nprovider: contabo\n---\n## One\nfirst\n## Two\nprovider:: davas\nsecond\n")
		s := r.start()
		r.until("it waits", func() bool { return strings.Contains(s.listed("a.md").Reason, "unreachable since") })
		if j := s.listed("a.md"); j.Attempt != 0 {
			t.Errorf("attempt %d was counted", j.Attempt)
		}
		r.models["davas"].setDown(nil)
		r.until("done", func() bool { return r.in(queue.Completed, "a.md") && s.settled() })
		s.stop()
		if n := r.models["contabo"].asked("first"); n != 1 {
			t.Errorf("the first step was asked %d times", n)
		}
		if out := r.text(queue.Outputs, ""); !strings.Contains(out, "answer to first") || !strings.Contains(out, "answer to second") || !strings.Contains(out, "stored by an earlier attempt") {
			t.Errorf("output:\n%s", out)
		}
	})
}

func TestTheJobsTimeDoesNotCountLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.change = func(o *Options) { o.JobLimit = time.Minute }
		h := r.models["davas"]
		h.loads = 10 * time.Minute
		h.script = func(ctx context.Context, _ int, req provider.Request) (provider.Answer, error) {
			<-ctx.Done()
			return provider.Answer{Text: "so far"}, &provider.Error{Kind: provider.Cancelled, Provider: "davas", Reason: "stopped", Sent: true}
		}
		r.drop("a.md", textNote("hello"))
		began := time.Now()
		s := r.start()
		r.until("failed", func() bool { return r.in(queue.Failed, "a.md") && s.settled() })
		took := time.Since(began)
		s.stop()
		if took < 11*time.Minute || took > 11*time.Minute+10*time.Second {
			t.Errorf("it took %s", took)
		}
		if text := r.text(queue.Failed, "a.md"); !strings.Contains(text, "longer than 1m0s") || !strings.Contains(text, "deadlines.job") {
			t.Errorf("note:\n%s", text)
		}
	})
}

func TestAStopPutsBackWithoutCountingOrFailsWhatMayNotBeAskedTwice(t *testing.T) {
	for _, tt := range []struct{ name, note, folder, says string }{
		{"a job goes back", "", queue.Waiting, ""},
		{"retry: never fails", "retry: never\n", queue.Failed, "may have been billed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				h := r.models["davas"]
				h.script = func(ctx context.Context, n int, req provider.Request) (provider.Answer, error) {
					if n > 1 {
						return h.answer(req), nil
					}
					<-ctx.Done()
					return provider.Answer{}, &provider.Error{Kind: provider.Cancelled, Provider: "davas", Reason: "stopped", Sent: true}
				}
				r.drop("a.md", "---\njob_type: text\n"+tt.note+"---\nhello\n")
				s := r.start()
				r.until("running", func() bool { return h.asked("hello") == 1 })
				began := time.Now()
				if err := s.stop(); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
					t.Errorf("the stop took %s, want the grace time", took)
				}
				if text := r.text(tt.folder, "a.md"); !strings.Contains(text, tt.says) {
					t.Errorf("note:\n%s", text)
				}
				if tt.folder != queue.Waiting {
					return
				}
				s = r.start()
				r.until("done", func() bool { return r.in(queue.Completed, "a.md") && s.settled() })
				s.stop()
				if text := r.text(queue.Completed, "a.md"); !strings.Contains(text, "attempts: 1\n") {
					t.Errorf("the stopped attempt was counted:\n%s", text)
				}
				if out := r.text(queue.Outputs, ""); !strings.Contains(out, "earlier_calls_maybe_billed: 1") {
					t.Errorf("the output hides the first call:\n%s", out)
				}
			})
		})
	}
}

func TestCancelStopsWhatRunsAndDiscardsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.models["davas"].script = func(ctx context.Context, _ int, req provider.Request) (provider.Answer, error) {
			<-ctx.Done()
			return provider.Answer{Text: "so far"}, &provider.Error{Kind: provider.Cancelled, Provider: "davas", Reason: "stopped", Sent: true}
		}
		r.drop("run.md", "---\njob_type: text\nid: one\n---\nhello\n")
		r.drop("wait.md", "---\njob_type: text\nid: two\nnot_before: 2100-01-01\n---\nlater\n")
		s := r.start()
		r.until("running", func() bool { return r.models["davas"].asked("hello") == 1 })
		for _, ref := range []string{"one", "wait"} {
			if _, err := s.Cancel(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
		}
		r.until("both ended", func() bool { return r.in(queue.Failed, "run.md") && r.in(queue.Failed, "wait.md") && s.settled() })
		if j := s.listed("wait.md"); j.State != "cancelled" {
			t.Errorf("listed as %q", j.State)
		}
		if _, err := s.Cancel(t.Context(), "one"); err == nil {
			t.Error("a second cancel was taken")
		}
		s.stop()
		if text := r.text(queue.Failed, "run.md"); !strings.Contains(text, "status: cancelled\n") || !strings.Contains(text, "What had come until then") {
			t.Errorf("note:\n%s", text)
		}
	})
}

func TestAnEchoOfTheSyncIsHeldAndRetryRunsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.drop("a.md", textNote("tell me of the sea and of the ships on it"))
		s := r.start()
		r.until("done", func() bool { return r.in(queue.Completed, "a.md") && s.settled() })
		r.drop("a.md", textNote("tell me of the sea and of the ships on it"))
		r.until("a duplicate", func() bool { return s.listed("a.md").State == "duplicate" })
		r.drop("a.md", textNote("tell me of the sea and of the ships on it, please"))
		r.until("held", func() bool { return s.listed("a.md").State == "held" })
		if n := len(r.models["davas"].calls); n != 1 {
			t.Fatalf("%d prompts were asked", n)
		}
		if _, err := s.Retry(t.Context(), "a.md"); err != nil {
			t.Fatal(err)
		}
		r.until("run", func() bool {
			return r.models["davas"].asked("tell me of the sea and of the ships on it, please") == 1 && s.settled()
		})
		s.stop()
	})
}

func TestAFailedNoteDraggedBackRunsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		h := r.models["davas"]
		h.script = func(_ context.Context, n int, req provider.Request) (provider.Answer, error) {
			if n == 1 {
				return provider.Answer{}, &provider.Error{Kind: provider.Failed, Provider: "davas", Reason: "no luck", Sent: true}
			}
			return h.answer(req), nil
		}
		r.drop("a.md", textNote("hello"))
		s := r.start()
		r.until("failed", func() bool { return r.in(queue.Failed, "a.md") && s.settled() })
		text := r.text(queue.Failed, "a.md")
		r.mem.Unlink(queue.Failed + "/a.md")
		r.drop("a.md", text)
		r.until("done", func() bool { return r.in(queue.Completed, "a.md") && s.settled() })
		s.stop()
		text = r.text(queue.Completed, "a.md")
		if strings.Contains(text, "failure") || strings.Contains(text, "error:") {
			t.Errorf("the old failure stays in the note:\n%s", text)
		}
		if out := r.text(queue.Outputs, ""); !strings.Contains(out, "earlier_calls_maybe_billed: 1") {
			t.Errorf("the output hides the failed call:\n%s", out)
		}
	})
}

func TestAFullDiskIsAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mem.SetFree(10 << 20)
		r.drop("a.md", textNote("hello"))
		s := r.start()
		r.until("paused", func() bool { return strings.Contains(s.listed("a.md").Reason, "MiB left") })
		r.mem.SetFree(1 << 40)
		r.until("done", func() bool { return r.in(queue.Completed, "a.md") && s.settled() })
		s.stop()
	})
}

func TestTheVaultOfAnotherWorkerIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.start()
		<-s.Ready()
		s.stop()
		r.change = func(o *Options) { o.StateID, o.Hostname = "other", "there" }
		s = r.start()
		r.until("it ends", func() bool { return len(s.err) > 0 })
		if err := <-s.err; err == nil || !strings.Contains(err.Error(), "here") || !strings.Contains(err.Error(), "--take-over") {
			t.Errorf("a foreign state folder: %v", err)
		}
		s.err <- nil
		s.stop()
		r.change = nil
		mine := r.start()
		<-mine.Ready()
		r.change = func(o *Options) { o.StateID, o.Hostname, o.TakeOver = "other", "there", true }
		r.path += "2"
		other := r.start()
		<-other.Ready()
		r.until("the first one stops claiming", func() bool {
			st, err := mine.Status(t.Context())
			return err == nil && strings.Contains(st.Reason, "taken over by the worker on there")
		})
		other.stop()
		mine.stop()
	})
}

func TestATakenNameAtTheEndIsNamedRightEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.change = told
		r.mem.Put(queue.Completed+"/a.md", "somebody else's\n")
		r.drop("a.md", textNote("hello"))
		s := r.start()
		r.until("completed", func() bool { return r.in(queue.Completed, "a-") && s.settled() })
		file := r.file(queue.Completed, "a-")
		if pings := s.takePings(); len(pings) != 1 || !strings.Contains(string(pings[0].Body), strings.TrimSuffix(file, ".md")) {
			t.Errorf("the ping does not name %s: %+v", file, pings)
		}
		s.stop()
		if out := r.text(queue.Outputs, ""); !strings.Contains(out, "job: \"[["+strings.TrimSuffix(file, ".md")+"]]\"\n") {
			t.Errorf("the output does not link %s:\n%s", file, out)
		}
		if r.mem.Files()[queue.Completed+"/a.md"] != "somebody else's\n" {
			t.Error("the other note was touched")
		}
	})
}
