package kuma

import (
	"context"
	"errors"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

const first = `
admin: {name: admin, password: "${PASSWORD}"}
discord: {name: Discord, webhook: "${WEBHOOK}"}
monitors:
  - {name: Gitea, type: http, url: "http://127.0.0.1:9/api/healthz"}
  - {name: SearXNG, type: keyword, url: "http://127.0.0.1:9/healthz", keyword: OK}
  - {name: Gitea database, type: port, hostname: 127.0.0.1, port: 9}
`

// One key of one monitor is another, one monitor is gone, and one is new.
const second = `
admin: {name: admin, password: "${PASSWORD}"}
discord: {name: Discord, webhook: "${WEBHOOK}"}
monitors:
  - {name: Gitea, type: http, url: "http://127.0.0.1:9/api/healthz"}
  - {name: SearXNG, type: keyword, url: "http://127.0.0.1:9/healthz", keyword: fine}
  - {name: Plex, type: http, url: "http://127.0.0.1:9/identity"}
`

func environment(name string) string {
	return map[string]string{
		"PASSWORD": "a-long-enough-password-1", "WEBHOOK": "http://127.0.0.1:9/webhook",
		"OTHER": "not-the-password-2",
	}[name]
}

func declaration(t *testing.T, text string) *Declaration {
	t.Helper()
	d, err := parse([]byte(text), environment)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// With -record the rows run in this order against the real server, which must be empty.
func TestSync(t *testing.T) {
	rows := []struct {
		name, transcript, declared string
		want                       []string
		fails                      error
	}{
		{"an empty server gets admin, notification and monitors", "empty.txt", first, []string{
			"made the admin admin", "set the notification Discord",
			"made the monitor Gitea", "made the monitor SearXNG", "made the monitor Gitea database"}, nil},
		{"a server that has them is left alone", "unchanged.txt", first, nil, nil},
		{"what differs is changed, what is new made, what we made and is not declared deleted, and what was made by hand left", "changed.txt", second, []string{
			"changed the monitor SearXNG: [keyword]", "made the monitor Plex", "deleted the monitor Gitea database"}, nil},
		{"another password is told as that", "password.txt", strings.ReplaceAll(second, "${PASSWORD}", "${OTHER}"), nil, ErrLogin},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			server := replay
			if *record != "" {
				if row.transcript == "changed.txt" {
					byHand(t)
				}
				server = func(t *testing.T, file string) *httptest.Server {
					return recorder(t, *record, file, transcriptTitle(row.name))
				}
			}
			changes, err := Sync(t.Context(), server(t, row.transcript).URL, declaration(t, row.declared))
			if !errors.Is(err, row.fails) {
				t.Fatalf("got error %v, want %v", err, row.fails)
			}
			if !reflect.DeepEqual(changes, row.want) {
				t.Errorf("changed %q, want %q", changes, row.want)
			}
		})
	}
}

// byHand makes a monitor on the real server as its owner would: without our tag.
func byHand(t *testing.T) {
	t.Helper()
	s, err := dial(t.Context(), *record)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	d := declaration(t, first)
	if _, err := (server{s}).needSetup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := (server{s}).login(t.Context(), d.Admin.Name, d.Admin.Password); err != nil {
		t.Fatal(err)
	}
	boiler := Monitor{Name: "Boiler", Type: "ping", Hostname: "127.0.0.1"}
	if _, err := (server{s}).add(t.Context(), boiler.wanted(0)); err != nil {
		t.Fatal(err)
	}
}

// The real server is not made to do these; its answers' form is the recorded one.
func TestWhatASessionRefuses(t *testing.T) {
	greeting := []string{`0{"sid":"SID"}`}
	joined := []string{`40{"sid":"SID"}`, `42["loginRequired"]`}
	rows := []struct {
		name    string
		answers [][]string // what follows each frame of ours
		want    string
	}{
		{"a server that is no Engine.IO", [][]string{{"hello"}}, "greets with"},
		{"a namespace that is refused", [][]string{greeting, {`44{"message":"no"}`}}, "the server refuses"},
		{"an acknowledgement that is no JSON", [][]string{greeting, joined, {`430[`}}, "an acknowledgement"},
		{"an event without a name", [][]string{greeting, joined, {`42[7]`}}, "without a name"},
		{"a session that ends", [][]string{greeting, joined, {`41`}}, "ended the session"},
		{"a second factor", [][]string{greeting, joined, {`430[false]`}, {`431[{"tokenRequired":true}]`}}, "second factor"},
		{"too many logins", [][]string{greeting, joined, {`430[false]`}, {`431[{"ok":false,"msg":"Too frequently, try again later."}]`}}, "Too frequently"},
		{"a name that two monitors have", [][]string{greeting, joined, {`430[false]`}, {`431[{"ok":true}]`},
			{`42["monitorList",{"1":{"id":1,"name":"Gitea"},"2":{"id":2,"name":"Gitea"}}]`, `432[{"ok":true}]`}}, "two monitors called Gitea"},
		{"a password that is too weak", [][]string{greeting, joined, {`430[true]`}, {`431[{"ok":false,"msg":"passwordTooWeak"}]`}}, "passwordTooWeak"},
		{"a list that does not come", [][]string{greeting, joined, {`430[false]`}, {`431[{"ok":true}]`}, {`432[{"ok":true}]`}}, "did not come"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			server := serve(t, func(ctx context.Context, conn *websocket.Conn) { script(ctx, conn, row.answers) })
			changes, err := Sync(t.Context(), server.URL, declaration(t, first))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want an error with %q", err, row.want)
			}
			if len(changes) > 0 {
				t.Errorf("changed %q", changes)
			}
			if err != nil && strings.Contains(err.Error(), environment("PASSWORD")) {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}

// script answers the greeting at once and then each frame in its turn.
func script(ctx context.Context, conn *websocket.Conn, answers [][]string) {
	for i, frames := range answers {
		if i > 0 {
			if _, _, err := conn.Read(ctx); err != nil {
				return
			}
		}
		for _, frame := range frames {
			if conn.Write(ctx, websocket.MessageText, []byte(frame)) != nil {
				return
			}
		}
	}
	_, _, _ = conn.Read(ctx) // until the client goes
}

func TestAMonitorThatCannotBeTaggedIsTakenBack(t *testing.T) {
	answers := map[string]string{
		"needSetup": `[false]`, "login": `[{"ok":true}]`, "getMonitorList": `[{"ok":true}]`,
		"getTags": `[{"ok":true,"tags":[{"id":1,"name":"kuma-sync"}]}]`, "addNotification": `[{"ok":true,"id":1}]`,
		"add": `[{"ok":true,"monitorID":5}]`, "addMonitorTag": `[{"ok":false,"msg":"no such tag"}]`, "deleteMonitor": `[{"ok":true}]`,
	}
	var sent []string
	session := serve(t, func(ctx context.Context, conn *websocket.Conn) {
		send := func(frame string) { _ = conn.Write(ctx, websocket.MessageText, []byte(frame)) }
		send(`0{"sid":"SID"}`)
		_, _, _ = conn.Read(ctx)
		for _, frame := range []string{`40{"sid":"SID"}`, `42["loginRequired"]`, `42["notificationList",[]]`} {
			send(frame)
		}
		for {
			_, frame, err := conn.Read(ctx)
			if err != nil {
				return
			}
			id, rest, _ := strings.Cut(strings.TrimPrefix(string(frame), "42"), `["`)
			event, _, _ := strings.Cut(rest, `"`)
			sent = append(sent, rest)
			if event == "getMonitorList" {
				send(`42["monitorList",{}]`)
			}
			send("43" + id + answers[event])
		}
	})
	changes, err := Sync(t.Context(), session.URL, declaration(t, first))
	if err == nil || !strings.Contains(err.Error(), "make the monitor Gitea: addMonitorTag: the server says") {
		t.Errorf("got %v", err)
	}
	if !reflect.DeepEqual(changes, []string{"set the notification Discord"}) {
		t.Errorf("changed %q", changes)
	}
	if last := sent[len(sent)-1]; last != `deleteMonitor",5,false]` {
		t.Errorf("its last word was %s", last)
	}
}

func TestAPingIsAnsweredWhileAnAcknowledgementIsAwaited(t *testing.T) {
	var ponged string
	session := serve(t, func(ctx context.Context, conn *websocket.Conn) {
		send := func(frame string) { _ = conn.Write(ctx, websocket.MessageText, []byte(frame)) }
		send(`0{"sid":"SID"}`)
		_, _, _ = conn.Read(ctx)
		send(`40{"sid":"SID"}`)
		_, _, _ = conn.Read(ctx)
		send("2")
		_, pong, _ := conn.Read(ctx)
		ponged = string(pong)
		send(`430[true]`)
		_, _, _ = conn.Read(ctx)
	})
	s, err := dial(t.Context(), session.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if answer, err := s.emit(t.Context(), "needSetup"); err != nil || string(answer) != "true" {
		t.Errorf("got %s, %v", answer, err)
	}
	if ponged != "3" {
		t.Errorf("the ping was answered with %q", ponged)
	}
}

func TestWhatIsDeletedIsOurs(t *testing.T) {
	ours := monitor{"name": "Old", "id": 3.0, "tags": []any{map[string]any{"name": Tag}}}
	theirs := monitor{"name": "Boiler", "id": 4.0, "tags": []any{map[string]any{"name": "home"}}}
	if !ours.tagged(Tag) || theirs.tagged(Tag) || (monitor{"name": "Bare"}).tagged(Tag) {
		t.Error("the tag is not told apart")
	}
}

// What the frame of a push monitor carries, as the server's "add" takes it and its list
// gives it back: the token, and no retry. No exchange with one was recorded.
func TestAPushMonitor(t *testing.T) {
	d, err := parse([]byte(`{admin: {name: a, password: b}, monitors: [{name: Backup, type: push, interval: 108000, pushToken: "${TOKEN}"}]}`),
		func(name string) string { return "value-of-" + name })
	if err != nil {
		t.Fatal(err)
	}
	wanted := d.Monitors[0].wanted(2)
	for key, want := range map[string]any{"type": "push", "pushToken": "value-of-TOKEN", "interval": 108000.0, "retryInterval": 108000.0, "maxretries": 0.0} {
		if wanted[key] != want {
			t.Errorf("%s is %v, want %v", key, wanted[key], want)
		}
	}
	if usual := (Monitor{Name: "Gitea", Type: "http"}).wanted(2); usual["maxretries"] != 3.0 || usual["pushToken"] != nil {
		t.Errorf("another monitor has retries %v and token %v", usual["maxretries"], usual["pushToken"])
	}
	old := d.Monitors[0].wanted(2)
	old["pushToken"] = "another"
	if got := differing(old, wanted); !reflect.DeepEqual(got, []string{"pushToken"}) {
		t.Errorf("another token differs in %q", got)
	}
}

func TestDiffering(t *testing.T) {
	wanted := Monitor{Name: "Gitea", Type: "http", URL: "http://gitea:3000/"}.wanted(2)
	same := func() monitor {
		have := Monitor{Name: "Gitea", Type: "http", URL: "http://gitea:3000/"}.wanted(2)
		have["weight"], have["description"] = 2000.0, "by hand"
		return have
	}
	rows := []struct {
		name   string
		change func(monitor)
		want   []string
	}{
		{"keys that are not declared do not count", func(monitor) {}, nil},
		{"a further notification does not count", func(m monitor) { m.object("notificationIDList")["7"] = true }, nil},
		{"ours that was switched off counts", func(m monitor) { delete(m.object("notificationIDList"), "2") }, []string{"notificationIDList"}},
		{"a monitor that was paused stays so", func(m monitor) { m["active"] = false }, nil},
		{"another URL and interval count", func(m monitor) { m["url"], m["interval"] = "http://x/", 20.0 }, []string{"interval", "url"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			have := same()
			row.change(have)
			if got := differing(have, wanted); !reflect.DeepEqual(got, row.want) {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}
