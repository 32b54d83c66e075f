package ledger

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"davidcockson.com/runner/internal/job"
)

// noon is the time of the tests. The ledger keeps milliseconds.
var noon = time.UnixMilli(1_790_000_000_000)

func open(t *testing.T) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// candidate is a note in the queue that nobody else has to do with.
func candidate(name, body string) Candidate {
	return Candidate{
		Name: name, Hash: "hash of " + body, Body: body, FirstSeen: noon,
		Spec:    job.Spec{Type: job.Text, Provider: "p", Model: "m", Title: "t", Priority: 2, RetryNever: true, Steps: []job.Step{{}}},
		Gone:    func(string) bool { return false },
		Running: func(string) bool { return false },
	}
}

func claim(t *testing.T, l *Ledger, c Candidate) Row {
	t.Helper()
	d, err := l.Claim(t.Context(), c, noon)
	if err != nil {
		t.Fatal(err)
	}
	if d.Verdict != RunNew && d.Verdict != RunSame && d.Verdict != RunAgain {
		t.Fatalf("%s was not claimed: %+v", c.Name, d)
	}
	return d.Row
}

func get(t *testing.T, l *Ledger, id string) Row {
	t.Helper()
	r, err := l.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// begun is the row of a claimed job whose attempt has begun.
func begun(t *testing.T, l *Ledger, r Row) Row {
	t.Helper()
	_, err := l.Begin(t.Context(), r.Ref(), r.File, "runner-outputs/out.md", noon)
	must(t, err)
	return get(t, l, r.ID)
}

// inState brings a new job into a state the way that the worker does.
func inState(t *testing.T, l *Ledger, c Candidate, s job.State) Row {
	t.Helper()
	r := claim(t, l, c)
	ctx := t.Context()
	switch s {
	case job.Claiming:
		return r
	case job.Waiting:
		must(t, l.PutBack(ctx, r.Ref(), job.Claiming, r.File, "", "", false))
	case job.Held:
		must(t, l.Hold(ctx, r.Ref(), job.Claiming, r.File, "restored"))
	default:
		r = begun(t, l, r)
		switch s {
		case job.Completed:
			must(t, l.Complete(ctx, r.Ref(), job.Active, "runner-outputs/out.md", "", noon, nil))
		case job.Failed:
			must(t, l.Fail(ctx, r.Ref(), job.Active, End{Reason: "broken"}, noon))
		case job.Cancelled:
			must(t, l.Cancel(ctx, r.Ref(), job.Active, End{Reason: "enough"}, noon))
		}
	}
	r = get(t, l, r.ID)
	if r.State != s {
		t.Fatalf("the job is %s, want %s", r.State, s)
	}
	return r
}

func TestAJobGoesItsWayAndEachStepIsKept(t *testing.T) {
	l := open(t)
	ctx := t.Context()
	c := candidate("Job.md", "why")
	c.NoteID = "my-id"
	want := Row{
		ID: "my-id", NoteID: "my-id", Name: "Job.md", File: "Job.md", Hash: c.Hash, State: job.Claiming, Type: job.Text, Provider: "p", Model: "m",
		Title: "t", Priority: 2, RetryNever: true, Steps: 1, FirstSeen: noon, Claimed: noon,
	}
	check := func(after string) {
		t.Helper()
		got := get(t, l, "my-id")
		if want.Run == "" {
			want.Run = got.Run
		}
		if got != want {
			t.Errorf("after %s\n%+v, want\n%+v", after, got, want)
		}
	}
	r := claim(t, l, c)
	check("the claim")
	if r != want {
		t.Errorf("Claim returned\n%+v, want\n%+v", r, want)
	}

	ref, err := l.Begin(ctx, r.Ref(), "Job-x.md", "out.md", noon.Add(time.Second))
	must(t, err)
	want.State, want.Attempt, want.File, want.Output, want.Started = job.Active, 1, "Job-x.md", "out.md", noon.Add(time.Second)
	check("Begin")
	if ref != want.Ref() {
		t.Errorf("Begin returned %+v, want %+v", ref, want.Ref())
	}

	must(t, l.PutBack(ctx, ref, job.Active, "Job.md", "davas is away", "davas", true))
	want.State, want.Attempt, want.File, want.Reason, want.NextProvider = job.Waiting, 0, "Job.md", "davas is away", "davas"
	check("an uncounted PutBack")

	must(t, l.Rename(ctx, want.Ref(), "Job2.md"))
	want.File = "Job2.md"
	check("Rename")

	c.Name = "Job2.md"
	claim(t, l, c)
	want.State, want.Reason, want.Output = job.Claiming, "", ""
	check("the second claim")

	ref, err = l.Begin(ctx, want.Ref(), "Job2.md", "out2.md", noon.Add(time.Minute))
	must(t, err)
	want.State, want.Attempt, want.Output, want.Started, want.NextProvider = job.Active, 1, "out2.md", noon.Add(time.Minute), ""
	check("the second Begin")

	must(t, l.PutBack(ctx, ref, job.Active, "Job2.md", "interrupted", "", false))
	want.State, want.Reason = job.Waiting, "interrupted"
	check("a counted PutBack")

	claim(t, l, c)
	ref, err = l.Begin(ctx, want.Ref(), "Job2.md", "out3.md", noon)
	must(t, err)
	must(t, l.Fail(ctx, ref, job.Active, End{Reason: "r", Advice: "a", Partial: "part.md", Unaccounted: "u"}, noon.Add(time.Hour)))
	want.State, want.Attempt, want.Output, want.Started = job.Failed, 2, "", noon
	want.Reason, want.Advice, want.Partial, want.Unaccounted, want.Ended = "r", "a", "part.md", "u", noon.Add(time.Hour)
	check("Fail")

	must(t, l.Settle(ctx, ref, "Job2-f.md"))
	want.File, want.Settled = "Job2-f.md", true
	check("Settle")

	must(t, l.Retry(ctx, ref, job.Failed, "Job2.md"))
	old := want.Run
	want.State, want.Run, want.Attempt, want.File, want.Settled = job.Waiting, "", 0, "Job2.md", false
	want.Reason, want.Advice, want.Unaccounted, want.Ended = "", "", "", time.Time{}
	check("Retry")
	if want.Run == old {
		t.Error("a retry kept the run's id")
	}

	claim(t, l, c)
	ref, err = l.Begin(ctx, want.Ref(), "Job2.md", "out4.md", noon)
	must(t, err)
	must(t, l.Complete(ctx, ref, job.Active, "out4-x.md", "found", noon.Add(2*time.Hour), nil))
	want.State, want.Attempt, want.Partial, want.Output, want.Reason, want.Ended = job.Completed, 1, "", "out4-x.md", "found", noon.Add(2*time.Hour)
	check("Complete")

	must(t, l.SettleGone(ctx, ref, "gone"))
	want.Settled, want.Reason = true, "gone"
	check("SettleGone")
}

// TestALateWriteChangesNothing tries every write with a run, an attempt or a
// state that the job has no longer.
func TestALateWriteChangesNothing(t *testing.T) {
	writes := []struct {
		name  string
		in    job.State // in which it is allowed
		other job.State // in which the job is when it comes too late
		do    func(*Ledger, context.Context, Ref) error
	}{
		{"Begin", job.Claiming, job.Active, func(l *Ledger, ctx context.Context, r Ref) error {
			_, err := l.Begin(ctx, r, "f", "o", noon)
			return err
		}},
		{"PutBack", job.Active, job.Waiting, func(l *Ledger, ctx context.Context, r Ref) error {
			return l.PutBack(ctx, r, job.Active, "f", "r", "p", true)
		}},
		{"Complete", job.Active, job.Cancelled, func(l *Ledger, ctx context.Context, r Ref) error {
			return l.Complete(ctx, r, job.Active, "o", "", noon, nil)
		}},
		{"Fail", job.Active, job.Cancelled, func(l *Ledger, ctx context.Context, r Ref) error {
			return l.Fail(ctx, r, job.Active, End{Reason: "r"}, noon)
		}},
		{"Cancel", job.Active, job.Completed, func(l *Ledger, ctx context.Context, r Ref) error {
			return l.Cancel(ctx, r, job.Active, End{Reason: "r"}, noon)
		}},
		{"Hold", job.Active, job.Failed, func(l *Ledger, ctx context.Context, r Ref) error {
			return l.Hold(ctx, r, job.Active, "f", "r")
		}},
		{"Retry", job.Failed, job.Waiting, func(l *Ledger, ctx context.Context, r Ref) error {
			return l.Retry(ctx, r, job.Failed, "f")
		}},
		{"Settle", job.Failed, job.Waiting, func(l *Ledger, ctx context.Context, r Ref) error { return l.Settle(ctx, r, "f") }},
		{"SettleGone", job.Failed, job.Waiting, func(l *Ledger, ctx context.Context, r Ref) error { return l.SettleGone(ctx, r, "gone") }},
		{"Rename", job.Waiting, job.Claiming, func(l *Ledger, ctx context.Context, r Ref) error { return l.Rename(ctx, r, "f") }},
		{"Intend", job.Active, job.Cancelled, func(l *Ledger, ctx context.Context, r Ref) error {
			_, err := l.Intend(ctx, r, Call{Step: 1, Try: 1, Provider: "p"}, Allowance{})
			return err
		}},
	}
	for _, w := range writes {
		t.Run(w.name, func(t *testing.T) {
			for i, late := range []struct {
				name string
				in   job.State
				ref  func(Ref) Ref
				err  error
			}{
				{"another run", w.in, func(r Ref) Ref { r.Run = "other"; return r }, ErrStale},
				{"an older attempt", w.in, func(r Ref) Ref { r.Attempt--; return r }, ErrStale},
				{"a later attempt", w.in, func(r Ref) Ref { r.Attempt++; return r }, ErrStale},
				{"another job", w.in, func(r Ref) Ref { r.ID = "other"; return r }, ErrStale},
				{"another state", w.other, func(r Ref) Ref { return r }, ErrStale},
				{"as it is", w.in, func(r Ref) Ref { return r }, nil},
			} {
				l := open(t)
				r := inState(t, l, candidate(fmt.Sprintf("%d.md", i), "why"), late.in)
				err := w.do(l, t.Context(), late.ref(r.Ref()))
				if !errors.Is(err, late.err) {
					t.Errorf("%s: %v, want %v", late.name, err, late.err)
				}
				calls, err := l.Calls(t.Context(), r.ID)
				must(t, err)
				same := get(t, l, r.ID) == r && len(calls) == 0
				if same != (late.err != nil) {
					t.Errorf("%s: the job was\n%+v and is\n%+v", late.name, r, get(t, l, r.ID))
				}
			}
		})
	}
}

func TestAWriteThatTheTableDoesNotKnowIsRefused(t *testing.T) {
	l := open(t)
	r := inState(t, l, candidate("a.md", "why"), job.Completed)
	if err := l.Fail(t.Context(), r.Ref(), job.Completed, End{Reason: "late"}, noon); err == nil || errors.Is(err, ErrStale) {
		t.Errorf("failing a completed job: %v", err)
	}
	if err := l.Retry(t.Context(), r.Ref(), job.Completed, "a.md"); err == nil {
		t.Error("a completed job was retried")
	}
	if got := get(t, l, r.ID); got != r {
		t.Errorf("the job is %+v, was %+v", got, r)
	}
}

func TestMetaAndFirstSightsAreKept(t *testing.T) {
	l := open(t)
	ctx := t.Context()
	for _, value := range []string{"", "a", "b", ""} {
		must(t, l.SetMeta(ctx, "k", value))
		if got, err := l.Meta(ctx, "k"); err != nil || got != value {
			t.Errorf("meta is %q, %v; want %q", got, err, value)
		}
	}
	for _, at := range []time.Time{noon, noon.Add(time.Hour)} {
		must(t, l.Sight(ctx, nil, map[string]time.Time{"a.md": at}))
	}
	if all, err := l.Sightings(ctx); err != nil || len(all) != 1 || !all["a.md"].Equal(noon) {
		t.Errorf("first sights %v, %v", all, err)
	}
	must(t, l.Sight(ctx, []string{"a.md", "unknown.md"}, nil))
	if all, err := l.Sightings(ctx); err != nil || len(all) != 0 {
		t.Errorf("first sights %v, %v; want none", all, err)
	}
	must(t, l.Sight(ctx, []string{"a.md"}, map[string]time.Time{"a.md": noon.Add(time.Hour)}))
	if all, err := l.Sightings(ctx); err != nil || !all["a.md"].Equal(noon.Add(time.Hour)) {
		t.Errorf("a forgotten note was first seen %v, %v", all, err)
	}
}

func TestABackupDuringWritesOpens(t *testing.T) {
	l := open(t)
	ctx, stop := context.WithCancel(t.Context())
	claimed := make(chan string, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil && i < cap(claimed); i++ {
			d, err := l.Claim(t.Context(), candidate(fmt.Sprintf("%d.md", i), fmt.Sprintf("word%d another%d", i, i)), noon)
			if err != nil {
				t.Error(err)
				return
			}
			claimed <- d.Row.ID
		}
	}()
	var before []string
	for range 20 {
		before = append(before, <-claimed)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	must(t, l.Backup(t.Context(), path))
	stop()
	<-done
	c, err := Open(t.Context(), path)
	must(t, err)
	defer c.Close()
	for _, id := range before {
		if r := get(t, c, id); r.State != job.Claiming {
			t.Errorf("job %s is %s in the copy", id, r.State)
		}
	}
	must(t, c.PutBack(t.Context(), get(t, c, before[0]).Ref(), job.Claiming, "0.md", "", "", false))
}
