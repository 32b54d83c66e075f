package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/sqlite"
	"davidcockson.com/runner/internal/sqlite/sqlitetest"
)

func ping(key string) Ping {
	return Ping{Job: "a", Kind: PingHeld, Key: key, Body: []byte(`{"a": 1}`)}
}

// pings are all pings with all that is kept of them.
func pings(t *testing.T, l *Ledger) []string {
	t.Helper()
	rows, err := l.db.Read.QueryContext(t.Context(), "SELECT job, kind, key, body, created, next_try, tries, state, ended, message_id, error FROM pings ORDER BY id")
	must(t, err)
	defer rows.Close()
	var all []string
	for rows.Next() {
		var job, kind, key, body, state, message, reason string
		var created, next, ended int64
		var tries int
		must(t, rows.Scan(&job, &kind, &key, &body, &created, &next, &tries, &state, &ended, &message, &reason))
		since := func(ms int64) string {
			if ms == 0 {
				return "-"
			}
			return moment(ms).Sub(noon).String()
		}
		all = append(all, strings.Join([]string{job, kind, key, body, since(created), since(next), fmt.Sprint(tries), state, since(ended), message, reason}, "|"))
	}
	must(t, rows.Err())
	return all
}

func TestAPingGoesItsWay(t *testing.T) {
	l := open(t)
	ctx := t.Context()
	if _, err := l.NextPing(ctx); !errors.Is(err, ErrNoPing) {
		t.Fatalf("an empty outbox: %v", err)
	}
	for i, key := range []string{"one", "two", "three"} {
		must(t, l.Enqueue(ctx, ping(key), noon.Add(time.Duration(i)*time.Second)))
	}
	want := ping("one")
	want.ID, want.Created, want.Next = 1, noon, noon
	next := func() Ping {
		t.Helper()
		p, err := l.NextPing(ctx)
		must(t, err)
		return p
	}
	if got := next(); !reflect.DeepEqual(got, want) {
		t.Errorf("the first is %+v, want %+v", got, want)
	}
	must(t, l.PingFailed(ctx, 1, noon.Add(time.Hour), "down"))
	want.Tries, want.Next = 1, noon.Add(time.Hour)
	if got := next(); !reflect.DeepEqual(got, want) {
		t.Errorf("after a failed try the first is %+v, want %+v: it keeps its place", got, want)
	}
	must(t, l.PingSent(ctx, 1, "77", noon.Add(time.Minute)))
	must(t, l.PingFailed(ctx, 2, noon, "bad"))
	must(t, l.PingDropped(ctx, 2, "refused", noon.Add(time.Minute)))
	if got := next(); got.Key != "three" {
		t.Errorf("the next is %+v", got)
	}
	wantRows := []string{
		`a|held|one||0s|1h0m0s|1|sent|1m0s|77|`,
		`a|held|two||1s|0s|1|dropped|1m0s||refused`,
		`a|held|three|{"a": 1}|2s|2s|0|queued|-||`,
	}
	if got := pings(t, l); !slices.Equal(got, wantRows) {
		t.Errorf("the ledger has\n%s", strings.Join(got, "\n"))
	}
	counts, err := l.PingCounts(ctx)
	must(t, err)
	if counts != (PingCounts{1, 1, 1}) {
		t.Errorf("counts %+v", counts)
	}
	if n, err := l.PingsQueued(ctx); n != 1 || err != nil {
		t.Errorf("%d queued, %v", n, err)
	}

	for _, key := range []string{"one", "two", "three"} { // sent, dropped, queued
		must(t, l.Enqueue(ctx, ping(key), noon.Add(time.Hour)))
	}
	if got := pings(t, l); !slices.Equal(got, wantRows) {
		t.Errorf("a known key changed something:\n%s", strings.Join(got, "\n"))
	}
	for name, err := range map[string]error{
		"sent again":        l.PingSent(ctx, 1, "78", noon),
		"a sent one fails":  l.PingFailed(ctx, 1, noon, "x"),
		"a dropped is sent": l.PingSent(ctx, 2, "78", noon),
		"dropped again":     l.PingDropped(ctx, 2, "x", noon),
		"one that is not":   l.PingSent(ctx, 99, "78", noon),
	} {
		if !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v, want ErrStale", name, err)
		}
	}
	for name, p := range map[string]Ping{
		"without a key":  {Kind: PingHeld, Body: []byte("{}")},
		"without a kind": {Key: "k", Body: []byte("{}")},
		"without a body": {Key: "k", Kind: PingHeld},
	} {
		if err := l.Enqueue(ctx, p, noon); err == nil {
			t.Errorf("a ping %s was queued", name)
		}
	}
}

// TestAPingComesWithItsEnd ends jobs in every way that there is; the ping has the
// key of the run.
func TestAPingComesWithItsEnd(t *testing.T) {
	tell := func(kind PingKind) *Ping { return &Ping{Kind: kind, Body: []byte("{}")} }
	c := candidate("a.md", asked)
	c.NoteID = "id"
	for _, way := range []struct {
		name string
		kind PingKind
		in   job.State
		do   func(context.Context, *Ledger, Row, *Ping) error
	}{
		{"completed", PingCompleted, job.Active, func(ctx context.Context, l *Ledger, r Row, p *Ping) error {
			return l.Complete(ctx, r.Ref(), job.Active, "o", "", noon, p)
		}},
		{"failed", PingFailed, job.Active, func(ctx context.Context, l *Ledger, r Row, p *Ping) error {
			return l.Fail(ctx, r.Ref(), job.Active, End{Reason: "r", Ping: p}, noon)
		}},
		{"cancelled", PingCancelled, job.Active, func(ctx context.Context, l *Ledger, r Row, p *Ping) error {
			return l.Cancel(ctx, r.Ref(), job.Active, End{Ping: p}, noon)
		}},
		{"waited too long", PingFailed, "", func(ctx context.Context, l *Ledger, _ Row, p *Ping) error {
			_, err := l.Expire(ctx, c, End{Ping: p}, noon)
			return err
		}},
		{"refused", PingFailed, "", func(ctx context.Context, l *Ledger, _ Row, p *Ping) error {
			_, err := l.Refuse(ctx, "a.md", "sum", job.Fail, End{Ping: p}, noon, noon)
			return err
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			start := func(t *testing.T) (*Ledger, *sqlitetest.Faults, Row) {
				f := new(sqlitetest.Faults)
				l := New(sqlitetest.Open(t, filepath.Join(t.TempDir(), "ledger.db"), Migrations(), f))
				if way.in == "" {
					return l, f, Row{}
				}
				return l, f, inState(t, l, c, way.in)
			}
			ended := func(l *Ledger) (rows []Row) {
				rows, err := l.Recent(t.Context(), 10)
				must(t, err)
				return rows
			}
			l, _, r := start(t)
			must(t, way.do(t.Context(), l, r, tell(way.kind)))
			rows := ended(l)
			if len(rows) != 1 {
				t.Fatalf("%d jobs ended", len(rows))
			}
			want := rows[0].ID + "|" + string(way.kind) + "|" + rows[0].ID + "/" + rows[0].Run + "/" + string(way.kind) + "|{}|0s|0s|0|queued|-||"
			if got := pings(t, l); !slices.Equal(got, []string{want}) {
				t.Errorf("pings %q, want %q", got, want)
			}
			if r.ID != "" { // late: the job has moved on
				if err := way.do(t.Context(), l, r, &Ping{Kind: way.kind, Key: "late", Body: []byte("{}")}); !errors.Is(err, ErrStale) {
					t.Errorf("the same again: %v, want ErrStale", err)
				}
				if n := len(pings(t, l)); n != 1 {
					t.Errorf("a refused end left its ping: %d", n)
				}
			}

			for _, half := range []sqlitetest.Half{sqlitetest.Undone, sqlitetest.Done} {
				l, f, r := start(t)
				f.Inject(sqlitetest.Fault{At: f.Writes() + 1, Half: half, Err: errDisk})
				if err := way.do(t.Context(), l, r, tell(way.kind)); !errors.Is(err, errDisk) {
					t.Errorf("half %d: %v, want the disk's error", half, err)
				}
				want := 0
				if half == sqlitetest.Done {
					want = 1
				}
				if jobs, told := len(ended(l)), len(pings(t, l)); jobs != want || told != want {
					t.Errorf("half %d: %d ends and %d pings, want %d of each", half, jobs, told, want)
				}
			}

			l, _, r = start(t)
			if err := way.do(t.Context(), l, r, &Ping{Kind: way.kind}); err == nil {
				t.Error("an end with a broken ping was written")
			}
			if jobs := len(ended(l)); jobs != 0 {
				t.Error("the end was written without its ping")
			}

			l, _, r = start(t)
			must(t, way.do(t.Context(), l, r, nil))
			if jobs, told := len(ended(l)), len(pings(t, l)); jobs != 1 || told != 0 {
				t.Errorf("without a ping: %d ends, %d pings", jobs, told)
			}
		})
	}
}

// TestThePingsComeToAnOldLedger migrates a ledger that was made before there were
// pings and has a job in each state.
func TestThePingsComeToAnOldLedger(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	db, err := sqlite.Open(ctx, path, Migrations()[:1])
	must(t, err)
	var want []Row
	// Written as the program of then wrote it: today's may know more columns.
	for i, s := range []job.State{job.Claiming, job.Waiting, job.Held, job.Active, job.Completed, job.Failed, job.Cancelled} {
		r := Row{ID: "id-" + string(s), Name: string(s) + ".md", File: string(s) + ".md", Hash: "hash " + string(s), State: s, Reason: "r", Type: job.Text,
			Provider: "p", Model: "m", Title: "t", Priority: 2, Run: fmt.Sprintf("run%d", i), Attempt: 1, Steps: 1, Output: "o", FirstSeen: noon, Claimed: noon}
		_, err := db.Write.ExecContext(ctx, `INSERT INTO jobs (id, note_id, name, name_key, file, file_key, hash, state, reason, job_type, provider, model, title,
			priority, retry_never, run, attempt, steps, output, first_seen, claimed) VALUES (?, '', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?)`,
			r.ID, r.Name, fold(r.Name), r.File, fold(r.File), r.Hash, r.State, r.Reason, r.Type, r.Provider, r.Model, r.Title,
			r.Priority, r.Run, r.Attempt, r.Steps, r.Output, millis(noon), millis(noon))
		must(t, err)
		want = append(want, r)
	}
	_, err = db.Write.ExecContext(ctx, `INSERT INTO calls (job, run, attempt, step, try, provider, model, hash, state, estimate, started)
		VALUES ('id-active', 'run3', 1, 1, 1, 'p', 'm', 'h', 'intent', 7, ?)`, millis(noon))
	must(t, err)
	must(t, db.Close())

	l, err := Open(ctx, path)
	must(t, err)
	got, err := l.rows(ctx, "ORDER BY rowid")
	must(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the jobs are\n%+v, want\n%+v", got, want)
	}
	for _, r := range want {
		if r.State != job.Active {
			continue
		}
		if calls, err := l.Calls(ctx, r.ID); len(calls) != 1 || err != nil {
			t.Errorf("the calls are %v, %v", calls, err)
		}
		must(t, l.Complete(ctx, r.Ref(), job.Active, "o", "", noon, &Ping{Kind: PingCompleted, Body: []byte("{}")}))
	}
	if p, err := l.NextPing(ctx); err != nil || p.Kind != PingCompleted {
		t.Errorf("the next ping is %+v, %v", p, err)
	}
	must(t, l.Close())

	copies, err := filepath.Glob(path + ".before-2-*")
	must(t, err)
	if len(copies) != 1 {
		t.Fatalf("the copies from before are %v", copies)
	}
	if _, err := os.Stat(copies[0]); err != nil {
		t.Error(err)
	}
	if _, err := sqlite.Open(ctx, path, Migrations()[:1]); !errors.Is(err, sqlite.ErrTooNew) {
		t.Errorf("the program from before opens the new ledger: %v", err)
	}
}

// TestTheNextPingIsFoundByAnIndex keeps the cost of a look apart from how many
// pings were ever sent.
func TestTheNextPingIsFoundByAnIndex(t *testing.T) {
	l := open(t)
	for _, query := range []string{
		"SELECT id FROM pings WHERE state = 'queued' ORDER BY id LIMIT 1",
		"SELECT count(*) FROM pings WHERE state = 'queued'",
	} {
		rows, err := l.db.Read.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query)
		must(t, err)
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			must(t, rows.Scan(&id, &parent, &unused, &detail))
			plan = append(plan, detail)
		}
		rows.Close()
		if len(plan) != 1 || !strings.HasPrefix(plan[0], "SEARCH pings USING") {
			t.Errorf("%s: %q", query, plan)
		}
	}
}
