package ledger

import (
	"strings"
	"sync"
	"testing"
	"time"

	"davidcockson.com/runner/internal/job"
)

const (
	asked  = "name three rivers of southern England and say where each of them ends"
	edited = "name three rivers of southern England and say where each of them begins, in a table"
	other  = "how long is a piece of string"
)

// TestANoteIsToldFromAnEcho says for a note in the queue what is made of it, where
// one job is known already.
func TestANoteIsToldFromAnEcho(t *testing.T) {
	// known is the job that the ledger has: the note a.md, without an id.
	known := func(id string, s job.State) func(*testing.T, *Ledger) Row {
		return func(t *testing.T, l *Ledger) Row {
			c := candidate("a.md", asked)
			c.NoteID = id
			return inState(t, l, c, s)
		}
	}
	settled := func(s job.State, file string) func(*testing.T, *Ledger) Row {
		return func(t *testing.T, l *Ledger) Row {
			r := known("", s)(t, l)
			must(t, l.Settle(t.Context(), r.Ref(), file))
			return get(t, l, r.ID)
		}
	}
	intended := func(t *testing.T, l *Ledger) Row {
		r := known("", job.Active)(t, l)
		_, err := l.Intend(t.Context(), r.Ref(), Call{Step: 1, Try: 1, Provider: "p", Started: noon}, Allowance{})
		must(t, err)
		return r
	}
	gone := func(c *Candidate, _ Row) { c.Gone = func(string) bool { return true } }
	running := func(c *Candidate, _ Row) { c.Running = func(string) bool { return true } }
	carriesRun := func(c *Candidate, r Row) { c.Run = r.Run }
	hasID := func(id string) func(*Candidate, Row) { return func(c *Candidate, _ Row) { c.NoteID = id } }
	seen := func(d time.Duration) func(*Candidate, Row) {
		return func(c *Candidate, _ Row) { c.FirstSeen = noon.Add(d) }
	}
	for _, c := range []struct {
		name       string
		known      func(*testing.T, *Ledger) Row
		file, body string
		with       []func(*Candidate, Row)
		want       Verdict
		reason     string
	}{
		// (a) the very file of a row that waits, was claimed without an intent, or was put back
		{"the file of a waiting job runs", known("", job.Waiting), "a.md", asked, nil, RunSame, ""},
		{"the edited file of a waiting job runs", known("", job.Waiting), "a.md", other, nil, RunSame, ""},
		{"the edited file of a waiting job with an id runs", known("1", job.Waiting), "a.md", other, []func(*Candidate, Row){hasID("1")}, RunSame, ""},
		{"the renamed file of a waiting job runs, known by its content", known("", job.Waiting), "b.md", asked, []func(*Candidate, Row){gone}, RunSame, ""},
		{"the renamed and edited file of a waiting job runs, known by its id", known("1", job.Waiting), "b.md", other, []func(*Candidate, Row){hasID("1"), gone}, RunSame, ""},
		{"a copy of a waiting job whose file is there is a duplicate", known("", job.Waiting), "b.md", asked, nil, Duplicate, "which is waiting"},
		{"a twin in other letters beside a waiting job's file is a duplicate", known("", job.Waiting), "A.MD", asked, nil, Duplicate, "which is waiting"},
		{"a note whose claim was cut off runs", known("", job.Claiming), "a.md", asked, nil, RunSame, ""},
		{"a note whose attempt was cut off before it asked runs", known("", job.Active), "a.md", edited, nil, RunSame, ""},
		{"a note whose attempt was cut off while it asked does not run by itself", intended, "a.md", asked, nil, Duplicate, "which is active"},
		{"nor does an edit of it", intended, "a.md", edited, nil, Held, "which is active"},
		{"the file of a running job comes back", known("", job.Active), "a.md", asked, []func(*Candidate, Row){running}, Duplicate, "which is active"},
		{"the file of a running job comes back edited", known("", job.Active), "a.md", edited, []func(*Candidate, Row){running}, Held, "edit of job"},
		{"a copy of a job that is being claimed", known("", job.Claiming), "b.md", asked, nil, Duplicate, "which is claiming"},

		// (b) dragged back on purpose
		{"a failed note with its run is a retry", known("", job.Failed), "a.md", asked, []func(*Candidate, Row){carriesRun}, RunAgain, ""},
		{"a failed note with its run is a retry, edited too", known("", job.Failed), "a.md", other, []func(*Candidate, Row){carriesRun}, RunAgain, ""},
		{"a cancelled note with its run is a retry", known("", job.Cancelled), "a.md", asked, []func(*Candidate, Row){carriesRun}, RunAgain, ""},
		{"a failed note with its run is a retry under its name in the failed folder", settled(job.Failed, "a-x.md"), "A-X.md", other, []func(*Candidate, Row){carriesRun}, RunAgain, ""},
		{"a failed note with an older run is held", known("", job.Failed), "a.md", asked, []func(*Candidate, Row){func(c *Candidate, _ Row) { c.Run = "older" }}, Held, "which is failed"},
		{"a failed note without a run is held: it may be the echo", known("", job.Failed), "a.md", asked, nil, Held, "which is failed"},
		{"a completed note with its run is a duplicate", known("", job.Completed), "a.md", asked, []func(*Candidate, Row){carriesRun}, Duplicate, "runner-outputs/out.md"},

		// (c) the same content
		{"the content of a completed job is a duplicate and names the output", known("", job.Completed), "a.md", asked, nil, Duplicate, "whose answer is in runner-outputs/out.md"},
		{"a name in other letters is the same name", known("", job.Completed), "A.MD", asked, nil, Duplicate, "whose answer is in"},
		{"the content under another name, first seen just after the claim", known("", job.Completed), "b.md", asked, []func(*Candidate, Row){seen(time.Second)}, Duplicate, "whose answer is in"},
		{"the content under another name, seen before the claim: the old name lives on for a minute", known("", job.Completed), "b.md", asked, []func(*Candidate, Row){seen(-time.Minute)}, Duplicate, "whose answer is in"},
		{"the content under another name, first seen 12 hours after the claim", known("", job.Completed), "b.md", asked, []func(*Candidate, Row){seen(12 * time.Hour)}, Duplicate, "whose answer is in"},
		{"the content under another name, first seen later than that, is a new job", known("", job.Completed), "b.md", asked, []func(*Candidate, Row){seen(12*time.Hour + time.Millisecond)}, RunNew, ""},
		{"the content of a held job is a duplicate", known("", job.Held), "a.md", asked, nil, Duplicate, "which is held"},

		// (d) the same id, or an edit
		{"the id alone counts, under another name", known("1", job.Completed), "z.md", other, []func(*Candidate, Row){hasID("1")}, Held, "it has the id of job 1, which is completed"},
		{"another id under the same name and with the same content is a new job", known("1", job.Completed), "a.md", asked, []func(*Candidate, Row){hasID("2")}, RunNew, ""},
		{"an edit under the same name", known("", job.Completed), "a.md", edited, nil, Held, "it looks like an edit of job"},
		{"a longer version under the same name", known("", job.Completed), "a.md", asked + " and why", nil, Held, "edit of job"},
		{"an edit under another name is a new job", known("", job.Completed), "b.md", edited, nil, RunNew, ""},

		// (e) anything else
		{"a name used before with another prompt is a new job", known("", job.Completed), "a.md", other, nil, RunNew, ""},
		{"a name and a prompt that nobody knows", known("", job.Completed), "b.md", other, nil, RunNew, ""},
		{"an id that nobody knows", known("1", job.Failed), "a.md", asked, []func(*Candidate, Row){hasID("3")}, RunNew, ""},
		{"a duplicate that its owner wants", known("1", job.Completed), "a.md", asked, []func(*Candidate, Row){hasID("1"), func(c *Candidate, _ Row) { c.Force = true }}, RunNew, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := open(t)
			r := c.known(t, l)
			note := candidate(c.file, c.body)
			for _, change := range c.with {
				change(&note, r)
			}
			ahead, err := l.Decide(t.Context(), note)
			must(t, err)
			if get(t, l, r.ID) != r {
				t.Fatal("Decide changed the job")
			}
			d, err := l.Claim(t.Context(), note, noon.Add(24*time.Hour))
			must(t, err)
			if d.Verdict != c.want || ahead.Verdict != c.want {
				t.Fatalf("%s (ahead: %s), want %s: %s", d.Verdict, ahead.Verdict, c.want, d.Reason)
			}
			if d.Reason != ahead.Reason || (c.reason == "") != (d.Reason == "") || !strings.Contains(d.Reason, c.reason) {
				t.Errorf("reason %q (ahead: %q), want %q in it", d.Reason, ahead.Reason, c.reason)
			}
			checkClaim(t, l, d, r, note)
		})
	}
}

// checkClaim checks what the ledger says after a decision about a job.
func checkClaim(t *testing.T, l *Ledger, d Decision, before Row, c Candidate) {
	t.Helper()
	after := get(t, l, before.ID)
	switch d.Verdict {
	case Held, Duplicate:
		if after != before || d.Row != before {
			t.Errorf("a note that is not claimed changed its job from\n%+v to\n%+v", before, after)
		}
		return
	case RunNew:
		if after != before || d.Row.ID == before.ID || d.Row.Attempt != 0 {
			t.Errorf("a new job touched the known one, or took its id: %+v", d.Row)
		}
	case RunSame:
		if d.Row.ID != before.ID || d.Row.Run != before.Run || d.Row.Attempt != before.Attempt {
			t.Errorf("the same job has another run or attempt: %+v, was %+v", d.Row, before)
		}
	case RunAgain:
		if d.Row.ID != before.ID || d.Row.Run == before.Run || d.Row.Attempt != 0 || d.Row.Settled || d.Row.Reason != "" || !d.Row.Ended.IsZero() {
			t.Errorf("a retry is no fresh run of its job: %+v, was %+v", d.Row, before)
		}
	}
	got := get(t, l, d.Row.ID)
	got.NextProvider = d.Row.NextProvider
	if got != d.Row || got.State != job.Claiming || got.File != c.Name || got.Hash != c.Hash {
		t.Errorf("the ledger has\n%+v, and Claim returned\n%+v", got, d.Row)
	}
	unsettled, err := l.Unsettled(t.Context())
	must(t, err)
	found := false
	for _, r := range unsettled {
		found = found || r.ID == d.Row.ID
	}
	if !found {
		t.Error("a start would not find the claimed job")
	}
}

func TestWhatWasRefusedIsNeverMatched(t *testing.T) {
	l := open(t)
	c := candidate("a.md", asked)
	r, err := l.Refuse(t.Context(), "a.md", c.Hash, job.Fail, End{Reason: "no frontmatter", Advice: "mend it"}, noon, noon)
	must(t, err)
	draft, err := l.Refuse(t.Context(), "a.md", c.Hash, job.Cancel, End{Reason: "discarded"}, noon, noon)
	must(t, err)
	if draft.State != job.Cancelled || get(t, l, draft.ID) != draft {
		t.Errorf("the discarded draft is %+v", draft)
	}
	if got := get(t, l, r.ID); got != r || !got.Unclaimed || got.State != job.Failed || got.Settled || got.Reason != "no frontmatter" || got.Advice != "mend it" || !got.Ended.Equal(noon) {
		t.Errorf("the refused note is\n%+v, returned was\n%+v", got, r)
	}
	c.Run = r.Run
	if d, err := l.Claim(t.Context(), c, noon); err != nil || d.Verdict != RunNew {
		t.Errorf("the mended note is %s, %v; want a new job", d.Verdict, err)
	}
}

// TestARunThatNobodyKnowsIsHeld is about a note from before the state folder was
// lost, or from another worker.
func TestARunThatNobodyKnowsIsHeld(t *testing.T) {
	l := open(t)
	first := inState(t, l, candidate("a.md", asked), job.Active)
	intend(t, l, first, 1, "h1")
	must(t, l.Fail(t.Context(), first.Ref(), job.Active, End{Reason: "x"}, noon))
	must(t, l.Retry(t.Context(), first.Ref(), job.Failed, "a.md"))
	second := get(t, l, first.ID)
	for _, c := range []struct {
		name, run string
		force     bool
		want      Verdict
	}{
		{"no run", "", false, RunNew},
		{"the run of a known job", second.Run, false, RunNew},
		{"an older run of a known job", first.Run, false, RunNew},
		{"a run that nobody knows", "zzzzzz", false, Held},
		{"a run that nobody knows, and its owner wants it", "zzzzzz", true, RunNew},
	} {
		t.Run(c.name, func(t *testing.T) {
			note := candidate(c.name+".md", c.name)
			note.Run, note.Force = c.run, c.force
			ahead, err := l.Decide(t.Context(), note)
			must(t, err)
			d, err := l.Claim(t.Context(), note, noon)
			must(t, err)
			if d.Verdict != c.want || ahead.Verdict != c.want || (d.Verdict == Held) != strings.Contains(d.Reason, "the ledger does not know it") {
				t.Errorf("%s (ahead: %s): %q, want %s", d.Verdict, ahead.Verdict, d.Reason, c.want)
			}
		})
	}
}

func TestWhatEndedUnclaimedIsKnown(t *testing.T) {
	for name, end := range map[string]func(*Ledger, *testing.T, Candidate) (Row, error){
		"discarded": func(l *Ledger, t *testing.T, c Candidate) (Row, error) {
			return l.Discard(t.Context(), c, "discarded", noon)
		},
		"expired": func(l *Ledger, t *testing.T, c Candidate) (Row, error) {
			return l.Expire(t.Context(), c, End{Reason: "the host was away"}, noon)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t)
			first := inState(t, l, func() Candidate { c := candidate("a.md", asked); c.NoteID = "1"; return c }(), job.Completed)
			c := candidate("b.md", edited)
			c.NoteID = "1"
			r, err := end(l, t, c)
			must(t, err)
			if got := get(t, l, r.ID); got != r || !r.State.Final() || r.Unclaimed || r.Settled || r.ID == first.ID || !r.Started.IsZero() {
				t.Errorf("the row is\n%+v, returned was\n%+v", got, r)
			}
			if d, err := l.Decide(t.Context(), c); err != nil || d.Verdict != Held || d.Row.ID != r.ID {
				t.Errorf("its echo is %+v, %v; want it held for the newest job", d, err)
			}
			c.Run = r.Run
			if d := claim(t, l, c); d.ID != r.ID {
				t.Errorf("dragged back it is job %s, want %s", d.ID, r.ID)
			}
		})
	}
}

func TestOfTwoClaimsOfOneIDOneWins(t *testing.T) {
	l := open(t)
	const claims = 8
	var verdicts [claims]Verdict
	var wait sync.WaitGroup
	for i := range claims {
		wait.Go(func() {
			c := candidate(string(rune('a'+i))+".md", asked)
			c.NoteID = "1"
			d, err := l.Claim(t.Context(), c, noon)
			if err != nil {
				t.Error(err)
			}
			verdicts[i] = d.Verdict
		})
	}
	wait.Wait()
	count := make(map[Verdict]int)
	for _, v := range verdicts {
		count[v]++
	}
	if count[RunNew] != 1 || count[Duplicate] != claims-1 {
		t.Errorf("verdicts %v, want one new job and %d duplicates", count, claims-1)
	}
}

func TestAForcedNoteGetsAnIDOfItsOwn(t *testing.T) {
	l := open(t)
	c := candidate("a.md", asked)
	c.NoteID = "1"
	first := inState(t, l, c, job.Completed)
	c.Force = true
	second := claim(t, l, c)
	third := claim(t, l, c)
	if second.ID != "1-"+second.Run || third.ID != "1-"+third.Run || second.NoteID != "1" {
		t.Errorf("ids %q and %q after %q", second.ID, third.ID, first.ID)
	}
	if got := get(t, l, "1"); got != first {
		t.Errorf("the first job changed: %+v", got)
	}
}
