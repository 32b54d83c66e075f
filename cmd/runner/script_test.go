package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"davidcockson.com/runner/internal/control"
)

// TestMain makes this test binary the command runner of the stories, so that
// nothing has to be built.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"runner": main})
}

// TestScript plays the stories in testdata/script. Each begins in a folder of
// its own with what stands at its end. Beside the commands of testscript they
// use these:
//
//	await-worker            a worker lives and claims jobs; with ! until none does
//	await-list NAME STATE [WHY]
//	                        list shows the note NAME in STATE, and a reason like WHY;
//	                        for an active one that is "attempt 1, step 0", and
//	                        a step once its first call has begun
//	await GLOB [TEXT]       a file like GLOB is there, with TEXT in it; $found is its
//	                        path. With ! until there is no such file
//	exits CODE COMMAND...   the command ends with that exit code
//	json PATH VALUE         the last output is JSON with VALUE at PATH (.calls.0.state);
//	                        with ! it has nothing there
//	keep NAME PATH          $NAME is what the last output, JSON, has at PATH
//	replace FILE OLD NEW    the owner edits a file
//	grow FILE BYTES         lengthens a file
//	fifo FILE               makes a named pipe
//	get LOG PATH            the worker that logs to the file LOG is asked for PATH on its
//	                        ops_listen; the answer, a 200, is the last output
//	server STATUS           an OpenAI-compatible server that lists its model large, and answers
//	                        each prompt with that status; $server is its URL
//	hanging                 a server that takes requests and never answers; $server is its URL
//	room LOG STATUS METHOD PATH [BODY]
//	                        the control room that writes to the file LOG is asked, with
//	                        the token of its link or the one in the file token; BODY is
//	                        JSON. It answers with STATUS; the answer is the last output
//	await-room LOG PATH TEXT
//	                        a GET is answered with TEXT; the answer is the last output
//	terminate               SIGTERM to what runs in the background
//
// The condition [installed] says that this machine has a configuration in
// /etc/runner. WHY, TEXT and VALUE are regular expressions, VALUE one for the whole value.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "script"),
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			// Under the race detector each process would sleep a second at its end.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			env.Setenv("RUNNER_OPS_LISTEN", "127.0.0.1:0") // stories run side by side
			env.Setenv("RUNNER_LISTEN", "127.0.0.1:0")
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "installed" {
				return false, fmt.Errorf("there is no condition %q", name)
			}
			_, err := os.Stat("/etc/runner/runner.yaml")
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await-worker": awaitWorker,
			"await-list":   awaitList,
			"await":        awaitFile,
			"exits":        exits,
			"json":         jsonHas,
			"keep":         keep,
			"replace":      replace,
			"grow":         grow,
			"fifo":         fifo,
			"get":          get,
			"room":         askRoom,
			"await-room":   awaitRoom,
			"server":       server,
			"hanging":      hanging,
			"terminate":    terminate,
		},
	})
}

const (
	// patience is how long a story waits for what must come. It guards only
	// against hangs.
	patience = 60 * time.Second
	lookEach = 20 * time.Millisecond
)

// await calls done until it says so; otherwise the story fails with what done
// saw last.
func await(ts *testscript.TestScript, what string, done func() (saw string, ok bool)) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(lookEach)
	defer look.Stop()
	for {
		saw, ok := done()
		if ok {
			return
		}
		select {
		case <-look.C:
		case <-deadline.C:
			ts.Fatalf("waited %s for %s; last seen:\n%s", patience, what, saw)
		}
	}
}

func usageOf(ts *testscript.TestScript, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

// inside runs a command line in this process, with the story's runner.yaml.
func inside(ts *testscript.TestScript, args ...string) (string, int) {
	var out bytes.Buffer
	args = append(args, "--config", ts.MkAbs("runner.yaml"))
	code := run(context.Background(), args, environment{stdin: strings.NewReader(""), stdout: &out, stderr: &bytes.Buffer{}})
	return out.String(), code
}

func awaitWorker(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, len(args) == 0, "[!] await-worker")
	await(ts, "the worker", func() (string, bool) {
		out, code := inside(ts, "check", "--live")
		return fmt.Sprintf("%s(exit code %d)", out, code), (code == exitOK) != neg
	})
}

func awaitList(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, !neg && (len(args) == 2 || len(args) == 3), "await-list NAME STATE [WHY]")
	why := regexp.MustCompile(strings.Join(args[2:], ""))
	await(ts, strings.Join(args, " "), func() (string, bool) {
		out, code := inside(ts, "list", "--json")
		var jobs []control.Job
		if err := json.Unmarshal([]byte(out), &jobs); err != nil {
			return fmt.Sprintf("%s(exit code %d, %v)", out, code, err), false
		}
		for _, j := range jobs {
			if j.State == "active" {
				j.Reason = fmt.Sprintf("attempt %d, step %d", j.Attempt, j.Step)
			}
			if j.Name == args[0] && j.State == args[1] && why.MatchString(j.Reason) {
				return "", true
			}
		}
		return out, false
	})
}

func awaitFile(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, len(args) == 1 || len(args) == 2 && !neg, "[!] await GLOB [TEXT]")
	text := regexp.MustCompile("(?m)" + strings.Join(args[1:], ""))
	await(ts, strings.Join(args, " "), func() (string, bool) {
		files, err := filepath.Glob(ts.MkAbs(args[0]))
		ts.Check(err)
		if neg {
			return strings.Join(files, "\n"), len(files) == 0
		}
		saw := "no such file"
		for _, file := range files {
			if len(args) == 1 {
				ts.Setenv("found", file)
				return "", true
			}
			data, err := os.ReadFile(file)
			if err == nil && text.Match(data) {
				ts.Setenv("found", file)
				return "", true
			}
			saw = file + "\n" + string(data)
		}
		return saw, false
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, !neg && len(args) >= 2, "exits CODE COMMAND...")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := exitOK
	var exit *exec.ExitError
	switch err := ts.Exec(args[1], args[2:]...); {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("the exit code is %d, want %d", got, want)
	}
}

// at returns what the last output, which is JSON, has at a path.
func at(ts *testscript.TestScript, path string) (string, bool) {
	var v any
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		ts.Fatalf("the output is no JSON: %v", err)
	}
	for _, step := range strings.Split(strings.Trim(path, "."), ".") {
		switch node := v.(type) {
		case map[string]any:
			inner, ok := node[step]
			if !ok {
				return "", false
			}
			v = inner
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(node) {
				return "", false
			}
			v = node[i]
		default:
			return "", false
		}
	}
	return fmt.Sprint(v), true
}

func jsonHas(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, len(args) == 2 && !neg || len(args) == 1 && neg, "json PATH VALUE, or ! json PATH")
	got, ok := at(ts, args[0])
	if neg {
		if ok {
			ts.Fatalf("%s is there: %s", args[0], got)
		}
		return
	}
	if !ok {
		ts.Fatalf("there is no %s", args[0])
	}
	if !regexp.MustCompile("^(?:" + args[1] + ")$").MatchString(got) {
		ts.Fatalf("%s is %q, want %s", args[0], got, args[1])
	}
}

func keep(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, !neg && len(args) == 2, "keep NAME PATH")
	got, ok := at(ts, args[1])
	if !ok {
		ts.Fatalf("there is no %s", args[1])
	}
	ts.Setenv(args[0], got)
}

// replace edits a file as an editor does that saves by a rename.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, !neg && len(args) == 3, "replace FILE OLD NEW")
	old := ts.ReadFile(args[0])
	if !strings.Contains(old, args[1]) {
		ts.Fatalf("%s has no %q:\n%s", args[0], args[1], old)
	}
	file := ts.MkAbs(args[0])
	temp := filepath.Join(filepath.Dir(file), ".edited")
	ts.Check(os.WriteFile(temp, []byte(strings.Replace(old, args[1], args[2], 1)), 0o666))
	ts.Check(os.Rename(temp, file))
}

func grow(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, !neg && len(args) == 2, "grow FILE BYTES")
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	text := ts.ReadFile(args[0]) + strings.Repeat("word ", n/5+1)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o666))
}

func fifo(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, !neg && len(args) == 1, "fifo FILE")
	ts.Check(syscall.Mkfifo(ts.MkAbs(args[0]), 0o666))
}

var opsAddress = regexp.MustCompile(`metrics and health are served.* address=(\S+)`)

func get(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, !neg && len(args) == 2, "get LOG PATH")
	found := opsAddress.FindStringSubmatch(ts.ReadFile(args[0]))
	if found == nil {
		ts.Fatalf("%s has no address", args[0])
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+found[1]+args[1], nil)
	ts.Check(err)
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if resp.StatusCode != http.StatusOK {
		ts.Fatalf("%s answers %s:\n%s", args[1], resp.Status, body)
	}
	_, err = ts.Stdout().Write(body)
	ts.Check(err)
}

func server(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, !neg && len(args) == 1, "server STATUS")
	status, err := strconv.Atoi(args[0])
	ts.Check(err)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"large","object":"model"}]}`)
			return
		}
		w.WriteHeader(status)
	}))
	ts.Defer(s.Close)
	ts.Setenv("server", s.URL)
}

func hanging(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, !neg && len(args) == 0, "hanging")
	end := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that the end of the connection is seen
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}))
	ts.Defer(func() { close(end); s.Close() })
	ts.Setenv("server", s.URL)
}

func terminate(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, !neg && len(args) == 0, "terminate")
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	}
}
