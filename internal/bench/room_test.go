//go:build linux

package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/sqlite"
)

// BenchmarkRoom measures the control room beside a bare reverse proxy of the standard
// library before the same model server: what a page would need at least.
func BenchmarkRoom(b *testing.B) {
	var t table
	onDisk(b)
	w := newWorlds(b)
	b.Run("first", func(b *testing.B) { once(b, func() { firstToken(b, &t, w) }) })
	for _, p := range protocols() {
		b.Run("streams=50/"+p.kind, func(b *testing.B) { once(b, func() { streaming(b, &t, w, p, 50, 50) }) })
		b.Run("streams=1000/"+p.kind, func(b *testing.B) { once(b, func() { streaming(b, &t, w, p, 1000, 5) }) })
	}
	b.Run("open", func(b *testing.B) { once(b, func() { openLong(b, &t, w) }) })
	b.Run("panel", func(b *testing.B) { once(b, func() { panel(b, &t, w) }) })
	t.print(os.Stdout)
}

// room is the program at work with its control room.
type room struct {
	process
	url, token string
}

var roomSaid = regexp.MustCompile(`The control room: (http://[^/]+)/login\?token=(\S+)\n`)

// startRoom starts all there is, on a configuration.
func startRoom(b *testing.B, binary, world string) *room {
	b.Helper()
	r := &room{process: process{cmd: exec.Command(binary, "up", "--config", world), read: make(chan struct{})}}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	var log bytes.Buffer
	r.cmd.Stderr = &log
	if err := r.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	line := make([]byte, 4<<10)
	n, err := out.Read(line)
	said := roomSaid.FindSubmatch(line[:n])
	if err != nil || said == nil {
		b.Fatalf("no control room: %v: %s", err, line[:n])
	}
	r.url, r.token = string(said[1]), string(said[2])
	go func() {
		defer close(r.read)
		_, _ = io.Copy(io.Discard, out) // to its end
	}()
	return r
}

// roomWorld makes a configuration whose provider is a model server.
func roomWorld(b *testing.B, p protocol, models string, concurrency int) string {
	b.Helper()
	file := filepath.Join(b.TempDir(), "runner.yaml")
	text := fmt.Sprintf("vault: %s\nstate_dir: %s\nlisten: 127.0.0.1:0\nops_listen: 127.0.0.1:0\ngrace: 0s\nproviders:\n  - {name: fake, kind: %s, url: '%s', concurrency: %d, models: [{name: fake}]}\n",
		makeVault(b, 0), filepath.Join(b.TempDir(), "state"), p.kind, models, concurrency)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return file
}

// client keeps its connections.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2000, DisableCompression: true}}

// request asks the control room, as a program does.
func (r *room) request(ctx context.Context, method, path, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return client.Do(req)
}

// say asks in a conversation.
func (r *room) say(ctx context.Context, conversation, text string) error {
	resp, err := r.request(ctx, "POST", "/chat/"+conversation+"/messages", fmt.Sprintf(`{"text": %q}`, text))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("the message is answered with %s: %s", resp.Status, said)
	}
	return err
}

// proxy is a bare reverse proxy in a process of its own, as the room is.
func startProxy(b *testing.B, target string) (*process, string) {
	b.Helper()
	p := &process{cmd: exec.Command(os.Args[0]), read: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), proxyTarget+"="+target)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	line := make([]byte, 256)
	n, err := out.Read(line)
	if err != nil {
		b.Fatal(err)
	}
	return p, "http://" + strings.TrimSpace(string(line[:n]))
}

// firstToken compares how long the first piece of an answer is on its way.
func firstToken(b *testing.B, t *table, w *worlds) {
	const rounds, turns = 30, 10
	models, p := newModels(b, 0), protocols()[0]
	r := startRoom(b, w.binary(), roomWorld(b, p, models.URL, 4))
	defer r.stop(b)
	bareProcess, proxy := startProxy(b, models.URL)
	defer bareProcess.kill(b)
	commit := bareCommit(b)
	var ours, limit, syncs []time.Duration
	for round := range rounds + 1 {
		ctx, cancel := context.WithCancel(b.Context())
		id := fmt.Sprint("talk-", round)
		if err := r.say(ctx, id, "say 1 0"); err != nil {
			b.Fatal(err)
		}
		resp, err := r.request(ctx, "GET", "/chat/"+id+"/stream", "")
		if err != nil {
			b.Fatal(err)
		}
		events := newEvents(resp.Body)
		if err := events.until("event: end"); err != nil {
			b.Fatal(err)
		}
		for range turns {
			began := time.Now()
			if err := r.say(ctx, id, "say 1 0"); err != nil {
				b.Fatal(err)
			}
			if err := events.until("event: text"); err != nil {
				b.Fatal(err)
			}
			took := time.Since(began)
			if err := events.until("event: end"); err != nil {
				b.Fatal(err)
			}
			bare, err := askModel(ctx, proxy, p, "say 1 0")
			if err != nil {
				b.Fatal(err)
			}
			if round > 0 { // the first makes connections
				ours, limit, syncs = append(ours, took), append(limit, bare), append(syncs, commit())
			}
		}
		cancel()
		resp.Body.Close()
	}
	added := median(ours) - median(limit)
	b.ReportMetric(added.Seconds()*1000, "ms-added")
	t.add("first token, one stream", "p50 "+ms(median(ours))+", p99 "+ms(percentile(ours, 0.99)), "p50 "+ms(median(limit))+", p99 "+ms(percentile(limit, 0.99)), "+"+ms(added), "p50 + 1 ms")
	t.add("one commit that waits for the disk, as before each call", "", "p50 "+ms(median(syncs))+", p99 "+ms(percentile(syncs, 0.99)), "", "")
}

// streaming compares the processor time of many streams at once.
func streaming(b *testing.B, t *table, w *worlds, p protocol, streams, perSecond int) {
	const rounds, length = 3, 6 * time.Second
	var ours, limit, ratios []float64
	var memory, bare []int64
	for round := range rounds {
		run := newRun(b, streams, perSecond, length)
		r := startRoom(b, w.binary(), roomWorld(b, p, run.models.URL, streams))
		base := r.memory(b, "VmRSS")
		mine, held := run.measure(&r.process, func(ctx context.Context, i int) (io.ReadCloser, error) {
			id := fmt.Sprintf("talk-%d-%d", round, i)
			if err := r.say(ctx, id, run.prompt()); err != nil {
				return nil, err
			}
			resp, err := r.request(ctx, "GET", "/chat/"+id+"/stream", "")
			if err != nil {
				return nil, err
			}
			return resp.Body, nil
		})
		memory = append(memory, (held-base)/int64(streams))
		r.stop(b)

		run = newRun(b, streams, perSecond, length)
		passing, proxy := startProxy(b, run.models.URL)
		base = passing.memory(b, "VmRSS")
		theirs, held := run.measure(passing, func(ctx context.Context, _ int) (io.ReadCloser, error) { return postModel(ctx, proxy, p, run.prompt()) })
		bare = append(bare, (held-base)/int64(streams))
		passing.kill(b)
		ours, limit, ratios = append(ours, mine), append(limit, theirs), append(ratios, mine/theirs)
	}
	name := fmt.Sprintf("%d streams of %d tokens/s, %s", streams, perSecond, p.kind)
	b.ReportMetric(median(ours), "ms-cpu/1000tokens")
	t.add("processor time for 1,000 tokens, "+name, fmt.Sprintf("%.1f ms", median(ours)), fmt.Sprintf("%.1f ms", median(limit)), fmt.Sprintf("%.2f times", median(ratios)), "≤ 1.5 times")
	if streams >= 1000 {
		t.add("memory a stream, "+name, fmt.Sprintf("%d KiB", least(memory)>>10), fmt.Sprintf("%d KiB", least(bare)>>10), "", "")
	}
}

func least(all []int64) int64 {
	min := all[0]
	for _, x := range all {
		if x < min {
			min = x
		}
	}
	return min
}

// openLong opens a conversation in a history of a million messages.
func openLong(b *testing.B, t *table, w *worlds) {
	const messages, looks = 1_000_000, 60
	world := roomWorld(b, protocols()[0], "http://127.0.0.1:1", 1)
	r := startRoom(b, w.binary(), world)
	empty := r.look(b, "/chat", looks)
	r.stop(b)
	fillHistory(b, filepath.Join(stateOf(b, world), "history.db"), messages)
	r = startRoom(b, w.binary(), world)
	defer r.stop(b)
	long, short := r.look(b, "/chat/long", looks), r.look(b, "/chat/talk-2000", looks)
	b.ReportMetric(median(long).Seconds()*1000, "ms/open")
	t.add("open a conversation of 100,000 messages, of a million in all", ms(median(long)), ms(median(empty))+" for an empty page", "", "≤ 20 ms")
	t.add("open a conversation of 100 messages, of a million in all", ms(median(short)), ms(median(empty))+" for an empty page", "", "≤ 20 ms")
}

// panel opens the queue's page where nothing was done and where many notes were.
func panel(b *testing.B, t *table, w *worlds) {
	const looks = 60
	empty := startRoom(b, w.binary(), w.empty())
	defer empty.stop(b)
	full := startRoom(b, w.binary(), w.full())
	defer full.stop(b)
	none, all := empty.look(b, "/queue", looks), full.look(b, "/queue", looks)
	b.ReportMetric(median(all).Seconds()*1000, "ms/panel")
	t.add("open the queue's panel, 100,000 done", ms(median(all)), ms(median(none))+" with nothing done", "", "≤ 50 ms")
}

// look is how long a page takes, again and again.
func (r *room) look(b *testing.B, path string, times int) []time.Duration {
	b.Helper()
	var took []time.Duration
	for range times {
		began := time.Now()
		req, err := http.NewRequestWithContext(b.Context(), "GET", r.url+path, nil)
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+r.token)
		req.Header.Set("Accept", "text/html")
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			b.Fatalf("%s answers %s, %v", path, resp.Status, err)
		}
		took = append(took, time.Since(began))
	}
	return took
}

// stateOf is the state folder of a world.
func stateOf(b *testing.B, world string) string {
	b.Helper()
	text, err := os.ReadFile(world)
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "state_dir: ")
	state, _, _ := strings.Cut(after, "\n")
	return state
}

// fillHistory makes a conversation of a tenth of all messages, and many of a hundred.
func fillHistory(b *testing.B, path string, messages int) {
	b.Helper()
	db, err := sqlite.OpenLazy(b.Context(), path, history.Migrations())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	text := strings.Repeat("Some words of a message, *marked* here and there. ", 8)
	made := fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %d),
		place AS (SELECT i, iif(i < %[1]d / 10, 'long', 'talk-' || (i / 100)) AS conversation, iif(i < %[1]d / 10, i, i %% 100) / 2 + 1 AS turn FROM n) `, messages)
	for _, statement := range []string{
		made + `INSERT INTO messages (conversation, turn, version, role, created, text) SELECT DISTINCT conversation, 0, 0, 'meta', 1700000000000, '{"title": "A conversation", "provider": "fake", "model": "fake"}' FROM place`,
		made + `INSERT INTO messages (conversation, turn, version, role, state, created, ended, provider, model, answer, text)
			SELECT conversation, turn, i % 2, iif(i % 2, 'assistant', 'user'), iif(i % 2, 'done', ''), 1700000000000 + i, 1700000000000 + i, 'fake', 'fake', iif(i % 2, '{}', ''), '` + text + `' FROM place`,
	} {
		if _, err := db.Write.ExecContext(b.Context(), statement); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Checkpoint(b.Context(), sqlite.Truncate); err != nil {
		b.Fatal(err)
	}
	syscall.Sync()
}

// run is a number of streams of a pace, for a while.
type run struct {
	b         *testing.B
	streams   int
	perSecond int
	length    time.Duration
	models    *models
}

func newRun(b *testing.B, streams, perSecond int, length time.Duration) *run {
	return &run{b, streams, perSecond, length, newModels(b, streams)}
}

// prompt asks the model server for more tokens than the run takes.
func (r *run) prompt() string {
	return fmt.Sprintf("say %d %d", 100*r.perSecond, time.Second/time.Duration(r.perSecond))
}

// measure opens all streams and counts for the run's length: the milliseconds of a
// process's time for a thousand tokens, and what it holds in the end.
func (r *run) measure(p *process, open func(ctx context.Context, i int) (io.ReadCloser, error)) (msPer1000 float64, held int64) {
	b := r.b
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var readers, opened sync.WaitGroup
	atOnce := make(chan struct{}, 32)
	for i := range r.streams {
		opened.Add(1)
		readers.Go(func() {
			atOnce <- struct{}{}
			body, err := open(ctx, i)
			<-atOnce
			opened.Done()
			if err != nil {
				b.Error(err)
				r.models.begun <- struct{}{} // nobody waits for it
				return
			}
			defer body.Close()
			_, _ = io.Copy(io.Discard, body) // until the run ends
		})
	}
	opened.Wait()
	for range r.streams { // to begin is not what is measured
		select {
		case <-r.models.begun:
		case <-b.Context().Done():
			return 0, 0
		}
	}
	began, tokens := p.cpu(b), r.models.sent.Load()
	select {
	case <-time.After(r.length):
	case <-b.Context().Done():
	}
	took, said := p.cpu(b)-began, r.models.sent.Load()-tokens
	held = p.memory(b, "VmRSS")
	cancel()
	readers.Wait()
	if least := int64(r.streams*r.perSecond) * int64(r.length/time.Second) * 8 / 10; said < least {
		b.Logf("the model server itself was slow: %d tokens, where %d were meant", said, least*10/8)
	}
	return took.Seconds() * 1000 / (float64(said) / 1000), held
}
