package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// patience is how long what comes over Syncthing is waited for.
const patience = 2 * time.Minute

// until looks every half second until look says that it is there.
func until(ctx context.Context, what string, look func() (bool, error)) error {
	began := time.Now()
	for {
		there, err := look()
		if there && err == nil {
			return nil
		}
		if time.Since(began) > patience {
			return errors.Join(fmt.Errorf("%s: not within %s", what, patience), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// drop puts a note into the queue, on prod-services' side.
func (w *world) drop(name, text string) error { return w.write(filepath.Join("_queue", name), text) }

// outputs are the output notes on prod-services' side that hold words.
func outputs(words string) (found []string, err error) {
	all, err := filepath.Glob(prodVault + "/runner-outputs/*.md")
	if err != nil {
		return nil, err
	}
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if strings.Contains(string(text), words) {
			found = append(found, path)
		}
	}
	return found, nil
}

// whole is in the properties of an output note whose answer came to its end.
var whole = regexp.MustCompile(`(?m)^finish: "?stop"?$`)

// aJob drops a note on prod-services' side, and waits there until Syncthing brings its output
// and the note itself as completed.
func (w *world) aJob(ctx context.Context) (string, error) {
	const name, words = "Rehearsal.md", "a question from the other side of the tailnet"
	began := time.Now()
	if err := w.drop(name, "---\njob_type: text\nprovider: "+w.provider+"\nmodel: "+w.model+"\n---\n"+words+"\n"); err != nil {
		return "", err
	}
	var found []string
	err := until(ctx, "the job's output and its note come back", func() (bool, error) {
		var err error
		if found, err = outputs("[[_completed/Rehearsal"); err != nil || len(found) == 0 {
			return false, err
		}
		text, err := os.ReadFile(found[0])
		if err != nil || !whole.Match(text) || w.provider == "echo" && !strings.Contains(string(text), words) {
			return false, errors.Join(err, errors.New("the output has not the answer"))
		}
		_, err = os.Stat(filepath.Join(prodVault, "_completed", name))
		return err == nil, err
	})
	if err != nil {
		list, listErr := w.inRunner(ctx, "list", "--json")
		return "", errors.Join(err, fmt.Errorf("runner list: %s", list), listErr)
	}
	return fmt.Sprintf("%s, answered by %s's %s, there after %.0f s", filepath.Base(found[0]), w.provider, w.model, time.Since(began).Seconds()), nil
}

// inRunner runs a command in runner's container.
func (w *world) inRunner(ctx context.Context, arguments ...string) (string, error) {
	words := append([]string{"compose", "--project-directory", folderOf("contabo"), "exec", "-T", "runner", "/runner"}, arguments[0],
		"--config", "/etc/runner/runner.yaml")
	return w.do(ctx, "docker", append(words, arguments[1:]...)...)
}

// A browser is a session at the control room, from the LAN, by name through nginx.
type browser struct {
	w   *world
	jar string
}

const room = "https://control.home.example.org"

func (b browser) curl(ctx context.Context, arguments ...string) *exec.Cmd {
	return b.w.command(ctx, "ip", append([]string{"netns", "exec", "lan", "curl", "--silent", "--show-error", "--fail-with-body",
		"--cacert", root + "/ca/ca.pem", "--resolve", "control.home.example.org:443:" + prodLAN, "--cookie", b.jar, "--cookie-jar", b.jar,
		"--header", "Accept: application/json"}, arguments...)...)
}

// signIn gives runner's password, which curl reads from its input.
func (w *world) signIn(ctx context.Context) (browser, error) {
	b := browser{w: w, jar: "/rehearsal/cookies"}
	password, err := w.secret(ctx, "RUNNER_PASSWORD")
	if err != nil {
		return b, err
	}
	cmd := b.curl(ctx, "--data-urlencode", "password@-", room+"/login")
	cmd.Stdin = strings.NewReader(password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return b, fmt.Errorf("sign in to the control room: %w: %s", err, tail(string(out), 1))
	}
	return b, nil
}

func (b browser) ask(ctx context.Context, conversation, provider, model, text string) error {
	body, err := json.Marshal(map[string]string{"provider": provider, "model": model, "text": text})
	if err != nil {
		return err
	}
	if out, err := b.curl(ctx, "--json", string(body), room+"/chat/"+conversation+"/messages").CombinedOutput(); err != nil {
		return fmt.Errorf("ask in a chat: %w: %s", err, tail(string(out), 1))
	}
	return nil
}

// read reads a conversation's stream until see returns true, and hands it each event's name
// and data.
func (b browser) read(ctx context.Context, conversation string, see func(event, data string) bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := b.curl(ctx, "--no-buffer", room+"/chat/"+conversation+"/stream")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines, event, seen := bufio.NewScanner(pipe), "", false
	for !seen && lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			event = name
		}
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			seen = see(event, data)
		}
	}
	cancel()
	waitErr := cmd.Wait() // it was ended by us, if seen
	if !seen {
		return fmt.Errorf("the stream ended before its end: %w", errors.Join(lines.Err(), waitErr))
	}
	return nil
}

type message struct{ Role, Text, State string }

func (b browser) messages(ctx context.Context, conversation string) ([]message, error) {
	out, err := b.curl(ctx, room+"/chat/"+conversation).Output()
	if err != nil {
		return nil, fmt.Errorf("read the conversation: %w", err)
	}
	var page struct{ Messages []message }
	err = json.Unmarshal(out, &page)
	return page.Messages, err
}

// aChat holds a conversation through nginx, and sees its words arrive one after another.
func (w *world) aChat(ctx context.Context) (string, error) {
	b, err := w.signIn(ctx)
	if err != nil {
		return "", err
	}
	model := w.model
	if w.provider == "echo" {
		model = "slow"
	}
	began := time.Now()
	if err := b.ask(ctx, "rehearsal", w.provider, model, strings.Repeat("one word after another ", 10)); err != nil {
		return "", err
	}
	var first, last time.Duration
	pieces := 0
	if err := b.read(ctx, "rehearsal", func(event, _ string) bool {
		switch event {
		case "text":
			if pieces++; first == 0 {
				first = time.Since(began)
			}
		case "end":
			last = time.Since(began)
		}
		return event == "end"
	}); err != nil {
		return "", err
	}
	all, err := b.messages(ctx, "rehearsal")
	if err != nil {
		return "", err
	}
	if len(all) != 2 || all[1].State != "done" || pieces < 2 {
		return "", fmt.Errorf("%d pieces came, and the history has %+v", pieces, all)
	}
	// The slow echo takes some seconds, so words that were held back on the way came at once.
	if w.provider == "echo" && last-first < time.Second {
		return "", fmt.Errorf("the words were held back: the first came after %s, the last after %s", first, last)
	}
	return fmt.Sprintf("%s's %s: %d pieces, the first after %.1f s, the last after %.1f s", w.provider, model, pieces, first.Seconds(), last.Seconds()), nil
}

const (
	killedJob  = "a job that is cut short by a kill"
	killedChat = "killed-in-mid-stream"
)

// killRunner kills it while it answers a job and a chat.
func (w *world) killRunner(ctx context.Context) (string, error) {
	b, err := w.signIn(ctx)
	if err != nil {
		return "", err
	}
	long := strings.Repeat("and on ", 200)
	if err := w.drop("Killed.md", "---\njob_type: text\nprovider: echo\nmodel: slow\n---\n"+killedJob+" "+long+"\n"); err != nil {
		return "", err
	}
	if err := until(ctx, "the job is active", func() (bool, error) {
		out, err := w.inRunner(ctx, "list", "--json", "--state", "active")
		return strings.Contains(out, "Killed.md"), err
	}); err != nil {
		return "", err
	}
	if err := b.ask(ctx, killedChat, "echo", "slow", long); err != nil {
		return "", err
	}
	w.shown = ""
	if err := b.read(ctx, killedChat, func(event, data string) bool {
		var piece struct{ Text string }
		if event == "text" && json.Unmarshal([]byte(data), &piece) == nil {
			w.shown += piece.Text
		}
		return len(w.shown) > 200
	}); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d letters of an answer were shown", len(w.shown)), w.doAll(ctx, "docker kill runner-runner-1")
}

// runnerBack starts it, and sees that the job was asked again, that it has one output, which
// says so, and that what was shown of the chat is there.
func (w *world) runnerBack(ctx context.Context) (string, error) {
	if _, err := w.boot("contabo", contaboIP)(ctx); err != nil {
		return "", err
	}
	b, err := w.signIn(ctx)
	if err != nil {
		return "", err
	}
	all, err := b.messages(ctx, killedChat)
	if err != nil {
		return "", err
	}
	if len(all) != 2 || all[1].State != "interrupted" || !strings.HasPrefix(all[1].Text, w.shown) {
		return "", fmt.Errorf("%q was shown, and the history has %+v", w.shown, all)
	}
	var found []string
	if err := until(ctx, "the job's output comes back", func() (bool, error) {
		found, err = outputs(killedJob)
		return len(found) > 0, err
	}); err != nil {
		return "", err
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		return "", err
	}
	if len(found) != 1 || !strings.Contains(string(text), "attempt: 2") {
		return "", fmt.Errorf("%d outputs; the first: %s", len(found), tail(string(text), 12))
	}
	return "the chat is interrupted with all that was shown; the job was asked again, in its second attempt, and has one output", nil
}
