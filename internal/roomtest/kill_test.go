package roomtest

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"davidcockson.com/runner/internal/peertest"
	"davidcockson.com/runner/internal/sqlite"
)

// victims is how many answers run when the server is killed.
const victims = 3

// killed is one kill: what was asked, and what its readers had.
type killed struct {
	t    *testing.T
	w    *world
	m    *models
	s    *server // that was killed, or its successor
	n    int
	read [victims]*follower
}

func (k *killed) name(i int) string { return fmt.Sprintf("talk-%d-%d", k.n, i) }

// TestKilledInMidAnswer kills the server at random moments of answers that are being
// made, and compares what was shown with what is there after.
func TestKilledInMidAnswer(t *testing.T) {
	t.Parallel()
	m := newModels(t)
	w := newWorld(t, "grace: 0s\nproviders:\n"+m.provider("fake", victims))
	k := &killed{t: t, w: w, m: m, s: w.start("up")}
	interrupted := 0
	kills := peertest.Soak(t, 30, 500)
	for k.n = range kills {
		k.strike()
		for _, file := range []string{"ledger.db", "history.db"} {
			if err := sqlite.Check(t.Context(), filepath.Join(w.state, file)); err != nil {
				t.Fatalf("after kill %d %s is damaged: %v", k.n+1, file, err)
			}
		}
		k.s = w.start("up")
		for i := range victims {
			if k.verify(i) {
				interrupted++
			}
		}
		if t.Failed() {
			t.Fatalf("after %d kills", k.n+1)
		}
	}
	if interrupted < kills { // of three times as many
		t.Errorf("only %d answers were interrupted by %d kills: they are too quick", interrupted, kills)
	}
	k.s.Terminate()
}

// strike has answers made as fast as that goes, and kills the server when one of the
// model's pieces was sent, or one of the readers has so many.
func (k *killed) strike() {
	const pieces = 600
	at := 1 + rand.N(pieces*3/4)
	byReader := k.n%2 == 0
	kill := sync.OnceFunc(func() {
		if err := k.s.Cmd.Process.Kill(); err != nil {
			k.t.Error(err)
		}
	})
	var readers sync.WaitGroup
	for i := range victims {
		k.s.say(k.name(i), k.name(i))
		k.read[i] = k.s.follows(k.name(i))
		readers.Go(func() { _ = k.read[i].read(k.t.Context()) }) // until the server is gone
	}
	for i := range victims {
		answer := k.m.script(k.name(i))
		answer.eachSent(func(n int) {
			if !byReader && i == 0 && n == at {
				kill()
			}
		})
		answer.give(numbered(0, pieces)...)
	}
	if byReader {
		few := strings.Join(numbered(0, at), "")
		peertest.Until(k.t, "a reader has so much", nil, func() bool {
			return k.s.Ended() || len(k.read[0].has()) >= len(few)
		})
		kill()
	}
	peertest.Until(k.t, "it is killed", nil, k.s.Ended)
	readers.Wait()
}

// verify looks at what is left of one conversation, and says whether its answer was
// interrupted.
func (k *killed) verify(i int) bool {
	t, id, r := k.t, k.name(i), k.read[i]
	got := k.s.answer(id)
	shown, whole := r.has(), k.m.script(id).text()
	if !strings.HasPrefix(got.Text, shown) {
		t.Errorf("a reader of %s had %q, kept is %q", id, tail(shown, 60), tail(got.Text, 60))
	}
	if !strings.HasPrefix(whole, got.Text) || got.State != "interrupted" {
		t.Errorf("%s keeps an answer %s that ends with %q", id, got.State, tail(got.Text, 60))
	}
	if got.Reason == "" || got.Advice == "" {
		t.Errorf("%s does not say what happened: %+v", id, got)
	}
	calls := k.w.rows(t, "ledger.db", "SELECT state FROM chat_calls WHERE conversation = ?", id)
	asked := k.m.asked(id)
	if len(calls) > 1 || asked > len(calls) { // none, if the end came before the question
		t.Errorf("%s was asked %d times, the ledger knows %v", id, asked, calls)
	}
	// Who comes back is told how it ended and that nothing runs, and asks nobody.
	back := k.s.follows(id)
	back.lastID = r.lastID
	end := back.begin(t)
	back.await(t, "it is told that nothing runs", func() bool { return back.saw("idle") })
	end()
	want := got.Text
	if r.lastID == "" { // it has seen nothing of it
		want = ""
	}
	if back.has() != want || back.saw("end interrupted") != (r.lastID != "") {
		t.Errorf("who comes back to %s gets %q, %q, kept is %q", id, back.names(), tail(back.has(), 60), tail(got.Text, 60))
	}
	if again := k.m.asked(id); again != asked {
		t.Errorf("who came back to %s had the model asked again", id)
	}
	return got.Text != ""
}
