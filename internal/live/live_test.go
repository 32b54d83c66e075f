package live_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
)

const keep = 256

func text(s string) provider.Event { return provider.Event{Kind: provider.TextEvent, Text: s} }

func open(t *testing.T, h *live.Hub, topic string) *live.Stream {
	t.Helper()
	s, err := h.Open(topic, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func subscribe(t *testing.T, h *live.Hub, topic string, after uint64) *live.Reader {
	t.Helper()
	r, err := h.Subscribe(topic, after)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// view is what a reader has on its page, by the rules that Item states.
type view struct {
	text, thinking string
	end            string
	last           uint64
	resets         int
}

func (v *view) show(it live.Item) {
	if it.Reset {
		*v = view{last: v.last, resets: v.resets + 1}
	}
	if it.ID != 0 {
		v.last = it.ID
	}
	switch it.Event.Kind {
	case provider.TextEvent:
		v.text += it.Event.Text
	case provider.ThinkingEvent:
		v.thinking += it.Event.Text
	case provider.EndEvent:
		v.end = it.Event.Text
	}
}

// follow reads to the end of the stream or to the first error.
func (v *view) follow(ctx context.Context, r *live.Reader) error {
	for {
		items, err := r.Next(ctx)
		for _, it := range items {
			v.show(it)
		}
		if err != nil {
			return err
		}
	}
}

func TestAHundredReadersSeeTheWholeAnswerWheneverTheyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := live.NewHub(keep, time.Now)
		s := open(t, h, "job")
		var want strings.Builder
		views := make([]view, 100)
		errs := make([]error, len(views))
		for i := range 1000 {
			if i%10 == 0 { // the first joins before the first word, the last near the end
				r := subscribe(t, h, "job", 0)
				go func() { errs[i/10] = views[i/10].follow(t.Context(), r) }()
			}
			piece := fmt.Sprintf("%d ", i)
			want.WriteString(piece)
			s.Publish(text(piece))
			synctest.Wait()
		}
		s.Close("stop")
		synctest.Wait()
		for i, v := range views {
			if errs[i] != io.EOF || v.text != want.String() || v.end != "stop" {
				t.Fatalf("reader %d: err %v, end %q, %d of %d bytes", i, errs[i], v.end, len(v.text), want.Len())
			}
		}
	})
}

func TestReadersAndProducersAtOnce(t *testing.T) {
	h := live.NewHub(keep, time.Now)
	s := open(t, h, "job")
	done := make(chan error, 100)
	want := strings.Repeat("word ", 3000)
	for range cap(done) {
		go func() {
			var v view
			for {
				r, err := h.Subscribe("job", v.last)
				if err != nil {
					done <- err
					return
				}
				switch err := v.follow(t.Context(), r); {
				case errors.Is(err, live.ErrSlow): // resume
				case err == io.EOF && v.text == want:
					done <- nil
					return
				default:
					done <- fmt.Errorf("err %v, %d of %d bytes", err, len(v.text), len(want))
					return
				}
			}
		}()
	}
	for range 3000 {
		s.Publish(text("word "))
		h.Running()
	}
	s.Close("stop")
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestAReaderIsCutOnlyWhenFurtherBehindThanIsKept(t *testing.T) {
	for _, tc := range []struct {
		name   string
		behind int
		want   error
	}{
		{"as far behind as is kept reads on", keep, nil},
		{"one further is cut", keep + 1, live.ErrSlow},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := live.NewHub(keep, time.Now)
			s := open(t, h, "job")
			var v view
			s.Publish(text("seen "))
			r := subscribe(t, h, "job", 0)
			items, err := r.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, it := range items {
				v.show(it)
			}
			want := "seen "
			for i := range tc.behind {
				s.Publish(text(fmt.Sprint(i)))
				want += fmt.Sprint(i)
			}
			items, err = r.Next(t.Context())
			if !errors.Is(err, tc.want) {
				t.Fatalf("err = %v, want %v", err, tc.want)
			}
			if tc.want == nil {
				if len(items) != tc.behind {
					t.Errorf("%d items, want %d", len(items), tc.behind)
				}
				return
			}
			s.Close("stop")
			if err := v.follow(t.Context(), subscribe(t, h, "job", v.last)); err != io.EOF || v.text != want || v.resets != 2 {
				t.Errorf("resumed after the cut: err %v, %d resets, %d of %d bytes", err, v.resets, len(v.text), len(want))
			}
		})
	}
}

// Cut a reader after every single item, in and after a retelling: it must end
// with the same page as one that was never cut.
func TestResumeAtEveryItemHasNoGapAndNoDouble(t *testing.T) {
	h := live.NewHub(8, time.Now)
	s := open(t, h, "job")
	s.Publish(provider.Event{Kind: provider.StepEvent, Step: 1, Text: "first"})
	s.Publish(provider.Event{Kind: provider.ThinkingEvent, Text: "hm"})
	for i := range 40 {
		s.Publish(text(fmt.Sprint(i, " ")))
	}
	s.Close("stop")
	var whole view
	if err := whole.follow(t.Context(), subscribe(t, h, "job", 0)); err != io.EOF {
		t.Fatal(err)
	}
	all, err := subscribe(t, h, "job", 0).Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(all) + 1 {
		var v view
		for _, it := range all[:n] {
			v.show(it)
		}
		if err := v.follow(t.Context(), subscribe(t, h, "job", v.last)); err != io.EOF {
			t.Fatal(err)
		}
		v.resets = whole.resets
		if v != whole {
			t.Errorf("cut after %d items: %+v\nwant %+v", n, v, whole)
		}
	}
}

func TestAnIDOfAnotherStreamGetsTheWholeAnew(t *testing.T) {
	h := live.NewHub(keep, time.Now)
	s := open(t, h, "job")
	s.Publish(text("attempt 1"))
	s.Close("cut")
	old := h.Running() // none runs
	var v view
	if err := v.follow(t.Context(), subscribe(t, h, "job", 0)); err != io.EOF || len(old) != 0 {
		t.Fatal(err, old)
	}
	s = open(t, h, "job")
	s.Publish(text("attempt 2"))
	s.Close("stop")
	for _, tc := range []struct {
		name  string
		after uint64
	}{
		{"of the former stream of the topic", v.last},
		{"of a process before", 5},
		{"from the future", v.last + 1e6},
	} {
		got := view{text: "stale"}
		if err := got.follow(t.Context(), subscribe(t, h, "job", tc.after)); err != io.EOF || got.text != "attempt 2" {
			t.Errorf("%s: err %v, text %q", tc.name, err, got.text)
		}
	}
}

func TestAFoldedStreamIsRetoldByStep(t *testing.T) {
	h := live.NewHub(1, time.Now)
	s := open(t, h, "job")
	usage := &provider.Usage{Read: 7}
	for _, e := range []provider.Event{
		{Kind: provider.PhaseEvent, Phase: provider.Reading},
		{Kind: provider.StepEvent, Step: 1, Text: "plan"},
		{Kind: provider.ThinkingEvent, Text: "a"}, text("b"), {Kind: provider.ThinkingEvent, Text: "c"}, text("d"),
		{Kind: provider.UsageEvent, Usage: usage},
		{Kind: provider.EndEvent, Text: "stop"},
		{Kind: provider.StepEvent, Step: 2, Text: "write"},
		{Kind: provider.PhaseEvent, Phase: provider.Answering},
		{Kind: provider.TextEvent, Step: 2, Text: "e"},
		{Kind: provider.TextEvent, Step: 3, Text: "f"},
		text("last"),
	} {
		s.Publish(e)
	}
	items, err := subscribe(t, h, "job", 0).Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []provider.Event
	for i, it := range items {
		if (it.ID != 0) != (i >= len(items)-2) {
			t.Errorf("item %d has id %d: only the end of the retelling can be resumed from", i, it.ID)
		}
		got = append(got, it.Event)
	}
	want := []provider.Event{
		{}, // the reset
		{Kind: provider.StepEvent, Step: 1, Text: "plan"},
		{Kind: provider.ThinkingEvent, Step: 1, Text: "ac"},
		{Kind: provider.TextEvent, Step: 1, Text: "bd"},
		{Kind: provider.UsageEvent, Usage: usage},
		{Kind: provider.StepEvent, Step: 2, Text: "write"},
		{Kind: provider.TextEvent, Step: 2, Text: "e"},
		{Kind: provider.TextEvent, Step: 3, Text: "f"},
		{Kind: provider.PhaseEvent, Phase: provider.Answering},
		text("last"),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestOneStreamOfATopicRunsAtATime(t *testing.T) {
	h := live.NewHub(keep, time.Now)
	s := open(t, h, "job")
	if _, err := h.Open("job", nil); !errors.Is(err, live.ErrRunning) {
		t.Errorf("second Open: err = %v", err)
	}
	s.Close("stop")
	s.Close("again")
	s.Publish(text("late"))
	var v view
	if err := v.follow(t.Context(), subscribe(t, h, "job", 0)); err != io.EOF || v.end != "stop" || v.text != "" {
		t.Errorf("after Close: err %v, %+v", err, v)
	}
	open(t, h, "job")
}

func TestStopReachesTheProducerOfARunningStreamOnly(t *testing.T) {
	h := live.NewHub(keep, time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := h.Open("job", cancel)
	if err != nil {
		t.Fatal(err)
	}
	if h.Stop("other") || ctx.Err() != nil {
		t.Error("stopped another topic")
	}
	if !h.Stop("job") || ctx.Err() == nil {
		t.Error("the producer was not told")
	}
	s.Close("cancelled")
	if h.Stop("job") {
		t.Error("stopped a stream that had ended")
	}
}

func TestNextEndsWithItsContextAndCanBeCalledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := live.NewHub(keep, time.Now)
		s := open(t, h, "job")
		s.Publish(text("a"))
		r := subscribe(t, h, "job", 0)
		if _, err := r.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		if _, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		s.Publish(text("b"))
		if items, err := r.Next(t.Context()); err != nil || len(items) != 1 || items[0].Event.Text != "b" {
			t.Errorf("%v, err %v", items, err)
		}
	})
}

func TestTheLastEndedStreamsCanBeReadAndOlderOnesAreForgotten(t *testing.T) {
	h := live.NewHub(keep, time.Now)
	for i := range 65 {
		open(t, h, fmt.Sprint(i)).Close("stop")
	}
	if _, err := h.Subscribe("0", 0); !errors.Is(err, live.ErrNoStream) {
		t.Errorf("the oldest: err = %v", err)
	}
	subscribe(t, h, "1", 0)
	running := open(t, h, "1")
	for i := range 65 {
		open(t, h, fmt.Sprint("more", i)).Close("stop")
	}
	subscribe(t, h, "1", 0) // opened again, so that its former end says nothing
	running.Close("stop")
}

func TestTheFeedTellsOfAllStreamsButNotTheirText(t *testing.T) {
	h := live.NewHub(4, time.Now)
	open(t, h, "before").Close("stop")
	r := h.SubscribeAll(0)
	s := open(t, h, "job")
	h.Announce("note", provider.Event{Kind: live.State, Text: "held"})
	s.Publish(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Loading})
	s.Publish(text("word"))
	s.Close("stop")
	items, err := r.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, it := range items {
		got = append(got, fmt.Sprint(it.Topic, ":", it.Event.Kind, it.Event.Phase, it.Event.Text))
	}
	if want := []string{"note:stateheld", "job:phaseloading", "job:endstop"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	seen := items[0].ID
	if items, err = h.SubscribeAll(seen).Next(t.Context()); err != nil || len(items) != 2 {
		t.Errorf("resumed: %v, err %v", items, err)
	}
	for range 4 {
		h.Announce("note", provider.Event{Kind: live.State, Text: "waiting"})
	}
	if _, err := r.Next(t.Context()); err != nil {
		t.Errorf("a reader 4 behind: %v", err)
	}
	items, err = h.SubscribeAll(seen).Next(t.Context())
	if err != nil || len(items) != 1 || !items[0].Reset || items[0].ID == 0 {
		t.Errorf("after a gap: %v, err %v; want one reset with an id", items, err)
	}
	if items, err = h.SubscribeAll(5).Next(t.Context()); err != nil || !items[0].Reset {
		t.Errorf("an id of a process before: %v, err %v", items, err)
	}
}

func TestRunningTellsWhatEachStreamIsBusyWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := live.NewHub(keep, time.Now)
		start := time.Now()
		s := open(t, h, "b")
		time.Sleep(time.Second)
		open(t, h, "a")
		s.Publish(provider.Event{Kind: provider.StepEvent, Step: 2, Text: "write"})
		s.Publish(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Answering})
		time.Sleep(time.Second)
		s.Publish(provider.Event{Kind: provider.PhaseEvent, Phase: provider.Answering})
		s.Publish(text("héllo"))
		got := h.Running()
		if len(got) != 2 || got[1].Topic != "a" || got[0].LastID == 0 {
			t.Fatalf("%+v", got)
		}
		got[0].LastID = 0
		want := live.Status{Topic: "b", Since: start, Phase: provider.Answering, PhaseSince: start.Add(time.Second), Step: 2, Title: "write", Bytes: 6}
		if got[0] != want {
			t.Errorf("got  %+v\nwant %+v", got[0], want)
		}
	})
}
