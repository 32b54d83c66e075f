package kuma

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
)

// A transcript is one session as it went over the wire: "> " before a frame of ours,
// "< " before one of the server's, "# " before what is said about it. Only pings and
// what the server pushes about heartbeats are left out, and secrets are replaced.

var record = flag.String("record", "", "the URL of a real and empty Uptime Kuma to record the transcripts from")

// replay serves a transcript. Each frame of ours must be the one that was recorded; then
// the server's frames up to our next one follow.
func replay(t *testing.T, file string) *httptest.Server {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, func(ctx context.Context, conn *websocket.Conn) {
		lines := bufio.NewScanner(bytes.NewReader(text))
		lines.Buffer(nil, maxFrame)
		for lines.Scan() {
			direction, frame, _ := strings.Cut(lines.Text(), " ")
			switch direction {
			case "<":
				if conn.Write(ctx, websocket.MessageText, []byte(frame)) != nil {
					return
				}
			case ">":
				_, got, err := conn.Read(ctx)
				if err != nil {
					t.Errorf("%s: the session ended before %.80s", file, frame)
					return
				}
				if !sameFrame(string(got), frame) {
					t.Errorf("%s: sent\n%s\nwant\n%s", file, got, frame)
					conn.CloseNow()
					return
				}
			}
		}
		if _, got, err := conn.Read(ctx); err == nil {
			t.Errorf("%s: sent more than was recorded: %s", file, got)
		}
	})
}

// serve is a websocket server for one kind of session; it waits for them at the end.
func serve(t *testing.T, session func(context.Context, *websocket.Conn)) *httptest.Server {
	t.Helper()
	var sessions sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/socket.io/" || r.URL.RawQuery != "EIO=4&transport=websocket" {
			http.NotFound(w, r)
			return
		}
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		sessions.Add(1)
		defer sessions.Done()
		defer conn.CloseNow()
		conn.SetReadLimit(maxFrame)
		session(r.Context(), conn)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); sessions.Wait(); server.Close() })
	return server
}

// sameFrame compares frames as JSON where they are, since an object's keys have no order.
func sameFrame(a, b string) bool {
	head := regexp.MustCompile(`^[0-9]+`)
	if head.FindString(a) != head.FindString(b) {
		return false
	}
	var left, right any
	restA, restB := head.ReplaceAllString(a, ""), head.ReplaceAllString(b, "")
	if json.Unmarshal([]byte(restA), &left) != nil || json.Unmarshal([]byte(restB), &right) != nil {
		return restA == restB
	}
	return reflect.DeepEqual(left, right)
}

// recorder stands between us and a real server and writes down what passes.
func recorder(t *testing.T, target, file, about string) *httptest.Server {
	t.Helper()
	var mu sync.Mutex
	var lines []string
	note := func(direction string, frame []byte) {
		text := scrub(string(frame))
		if noise.MatchString(text) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, direction+" "+text)
	}
	t.Cleanup(func() {
		text := "# " + about + "\n" + strings.Join(lines, "\n") + "\n"
		if err := os.WriteFile("testdata/"+file, []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, func(ctx context.Context, ours *websocket.Conn) {
		theirs, _, err := websocket.Dial(ctx, "ws://"+u.Host+"/socket.io/?EIO=4&transport=websocket", nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer theirs.CloseNow()
		theirs.SetReadLimit(maxFrame)
		var both sync.WaitGroup
		pass := func(from, to *websocket.Conn, direction string) {
			defer to.CloseNow()
			for {
				kind, frame, err := from.Read(ctx)
				if err != nil {
					return
				}
				note(direction, frame)
				if to.Write(ctx, kind, frame) != nil {
					return
				}
			}
		}
		both.Go(func() { pass(ours, theirs, ">") })
		both.Go(func() { pass(theirs, ours, "<") })
		both.Wait()
	})
}

var (
	noise = regexp.MustCompile(`^(2|3|42\["(heartbeat|heartbeatList|importantHeartbeatList|avgPing|uptime|certInfo|updateMonitorIntoList|` +
		`maintenanceList|proxyList|dockerHostList|apiKeyList|remoteBrowserList|statusPageList|monitorTypeList|deleteMonitorFromList|` +
		`domainInfo|initServerTimezone|info)".*)$`)
	tokens = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`)
	sids   = regexp.MustCompile(`"sid":"[^"]*"`)
)

func scrub(frame string) string {
	return sids.ReplaceAllString(tokens.ReplaceAllString(frame, "TOKEN"), `"sid":"SID"`)
}

// TestNoSecretSlippedIn looks at what is committed.
func TestNoSecretSlippedIn(t *testing.T) {
	files, err := os.ReadDir("testdata")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, f := range files {
		text, err := os.ReadFile("testdata/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if tokens.Match(text) || strings.Contains(string(text), "discord.com/") {
			t.Errorf("%s has a token or a webhook", f.Name())
		}
		if !regexp.MustCompile(`^# Uptime Kuma \d+\.\d+\.\d+, \d{4}-\d{2}-\d{2}: `).Match(text) {
			t.Errorf("%s does not begin with the version and date of its server", f.Name())
		}
	}
}

func transcriptTitle(what string) string {
	return fmt.Sprintf("Uptime Kuma %s, %s: %s", os.Getenv("KUMA_VERSION"), os.Getenv("KUMA_DATE"), what)
}
