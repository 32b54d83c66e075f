package main

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/coder/websocket"
)

// langfuse keeps the ids of the traces that were posted with the project's keys.
type langfuse struct {
	public, secret string

	mu     sync.Mutex
	traces map[string]bool
}

var traceID = regexp.MustCompile(`"traceId"\s*:\s*"([0-9a-f]{32})"`)

func (l *langfuse) signed(w http.ResponseWriter, r *http.Request) bool {
	public, secret, _ := r.BasicAuth()
	if public == l.public && secret == l.secret && public != "" {
		return true
	}
	answer(http.StatusUnauthorized, `{"message": "Invalid credentials"}`)(w, r)
	return false
}

// take notes the trace ids of a post, be it JSON or protobuf: there each span begins with
// field 1, 16 bytes long.
func (l *langfuse) take(w http.ResponseWriter, r *http.Request) {
	if !l.signed(w, r) {
		return
	}
	body, err := plain(r)
	if err != nil {
		answer(http.StatusBadRequest, `{"message": "unreadable"}`)(w, r)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, match := range traceID.FindAllSubmatch(body, -1) {
		l.traces[string(match[1])] = true
	}
	for rest := body; ; {
		at := bytes.Index(rest, []byte{0x0a, 0x10})
		if at < 0 || len(rest) < at+18 {
			break
		}
		l.traces[hex.EncodeToString(rest[at+2:at+18])] = true
		rest = rest[at+1:]
	}
	answer(http.StatusOK, `{}`)(w, r)
}

func (l *langfuse) observations(w http.ResponseWriter, r *http.Request) {
	if !l.signed(w, r) {
		return
	}
	id := r.FormValue("traceId")
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.traces[id] {
		answer(http.StatusOK, fmt.Sprintf(`{"data": [{"traceId": %q}]}`, id))(w, r)
		return
	}
	answer(http.StatusOK, `{"data": []}`)(w, r)
}

func (l *langfuse) projects(w http.ResponseWriter, r *http.Request) {
	if l.signed(w, r) {
		answer(http.StatusOK, `{"data": [{"id": "runner", "name": "runner"}]}`)(w, r)
	}
}

// giteaAdmin is `gitea admin user list`, `… create` and `… change-password`: in folder is a file
// of one line a user, and one with the password of each.
func giteaAdmin(arguments []string, folder string, out io.Writer) error {
	if len(arguments) < 3 || arguments[0] != "admin" || arguments[1] != "user" {
		return fmt.Errorf("the stand-in does not know %q", arguments)
	}
	list := filepath.Join(folder, "users")
	users, err := os.ReadFile(list)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	values := map[string]string{}
	for i := 3; i+1 < len(arguments); i++ {
		values[arguments[i]] = arguments[i+1]
	}
	name := values["--username"]
	switch arguments[2] {
	case "list":
		_, err = fmt.Fprintf(out, "ID    Username  Email\n%s", users)
		return err
	case "create":
		if name == "" || values["--random-password-length"] == "" || values["--email"] == "" {
			return errors.New("name, address and the length of a password are needed")
		}
		made := `a "password" with \ and ' of ` + rand.Text()
		if err := os.WriteFile(giteaPassword(folder, name), []byte(made), 0o600); err != nil {
			return err
		}
		line := fmt.Sprintf("%d     %s     %s true\n", bytes.Count(users, []byte("\n"))+1, name, values["--email"])
		if err := os.WriteFile(list, append(users, line...), 0o644); err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "generated random password is '%s'\nNew user '%s' has been successfully created!\n", made, name)
		return err
	case "change-password":
		return os.WriteFile(giteaPassword(folder, name), []byte(values["--password"]), 0o600)
	}
	return fmt.Errorf("the stand-in does not know %q", arguments)
}

func giteaPassword(folder, name string) string {
	return filepath.Join(folder, "password-"+filepath.Base(name))
}

// giteaEdit takes a user's new password from one who has the old one.
func giteaEdit(folder string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name, given, _ := r.BasicAuth()
		old, err := os.ReadFile(giteaPassword(folder, r.PathValue("name")))
		if err != nil || name != r.PathValue("name") || given != string(old) {
			answer(http.StatusUnauthorized, `{"message": "invalid username, password or token"}`)(w, r)
			return
		}
		var edit struct{ Email, Password string }
		if err := json.NewDecoder(r.Body).Decode(&edit); err != nil || edit.Password == "" {
			answer(http.StatusUnprocessableEntity, `{"message": "a password is needed"}`)(w, r)
			return
		}
		list := filepath.Join(folder, "users")
		users, err := os.ReadFile(list)
		users = regexp.MustCompile(`(?m)^(\d+ +`+regexp.QuoteMeta(name)+` +)\S+`).ReplaceAll(users, []byte("${1}"+edit.Email))
		if err = errors.Join(err, os.WriteFile(list, users, 0o644), os.WriteFile(giteaPassword(folder, name), []byte(edit.Password), 0o600)); err != nil {
			answer(http.StatusInternalServerError, fmt.Sprintf(`{"message": %q}`, err))(w, r)
			return
		}
		answer(http.StatusOK, `{}`)(w, r)
	}
}

// kuma takes the events of Uptime Kuma's Socket.IO interface that set it up, and keeps
// what they say: its user, its notifications, its tags and its monitors.
type kuma struct {
	mu                           sync.Mutex
	user, password               string
	monitors                     map[string]map[string]any
	notifications, tags          []map[string]any
	lastMonitor, lastNote, lastT int
}

// push takes the word of a monitor that waits for one, by its token.
func (k *kuma) push(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, monitor := range k.monitors {
		if monitor["type"] == "push" && monitor["pushToken"] == r.PathValue("token") {
			answer(http.StatusOK, `{"ok":true}`)(w, r)
			return
		}
	}
	answer(http.StatusNotFound, `{"ok": false, "msg": "Monitor not found or not active."}`)(w, r)
}

func newKuma() *kuma { return &kuma{monitors: map[string]map[string]any{}} }

func (k *kuma) socket(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // it was no websocket: Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	send := func(frame string) error { return conn.Write(r.Context(), websocket.MessageText, []byte(frame)) }
	if send(`0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`) != nil {
		return
	}
	for {
		_, frame, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		text := string(frame)
		if text == "40" {
			if send(`40{"sid":"s"}`) != nil || send(k.greeting()) != nil || send(`42["loginRequired"]`) != nil {
				return
			}
			continue
		}
		begin := strings.IndexByte(text, '[')
		if !strings.HasPrefix(text, "42") || begin < 3 {
			continue
		}
		var arguments []json.RawMessage
		if json.Unmarshal(frame[begin:], &arguments) != nil || len(arguments) == 0 {
			return
		}
		for _, frame := range k.event(text[2:begin], arguments) {
			if send(frame) != nil {
				return
			}
		}
	}
}

func (k *kuma) greeting() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.user == "" {
		return `42["setup"]`
	}
	return `42["info",{}]`
}

// event answers one event with the frames that it causes, its acknowledgement last.
func (k *kuma) event(id string, arguments []json.RawMessage) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var name string
	object := map[string]any{}
	json.Unmarshal(arguments[0], &name)
	if len(arguments) > 1 {
		json.Unmarshal(arguments[1], &object) // a name or a number is no object, and stays empty
	}
	word := func(i int) (text string) {
		if i < len(arguments) && json.Unmarshal(arguments[i], &text) != nil {
			text = string(arguments[i])
		}
		return text
	}
	frame := func(kind string, values ...any) string {
		text, err := json.Marshal(values)
		if err != nil {
			return kind + "[]"
		}
		return kind + string(text)
	}
	acknowledge := func(values map[string]any) string {
		values["ok"] = true
		return frame("43"+id, values)
	}
	refuse := func(why string) []string { return []string{frame("43"+id, map[string]any{"ok": false, "msg": why})} }
	switch name {
	case "needSetup":
		return []string{frame("43"+id, k.user == "")}
	case "setup":
		k.user, k.password = word(1), word(2)
		return []string{acknowledge(map[string]any{"msg": "successAdded"})}
	case "login":
		if object["username"] != k.user || object["password"] != k.password {
			return refuse("authIncorrectCreds")
		}
		return []string{frame("42", "monitorList", k.monitors), frame("42", "notificationList", orNone(k.notifications)),
			acknowledge(map[string]any{"token": "t"})}
	case "getMonitorList":
		return []string{frame("42", "monitorList", k.monitors), acknowledge(map[string]any{})}
	case "getTags":
		return []string{acknowledge(map[string]any{"tags": orNone(k.tags)})}
	case "addTag":
		k.lastT++
		tag := map[string]any{"id": k.lastT, "name": object["name"], "color": object["color"]}
		k.tags = append(k.tags, tag)
		return []string{acknowledge(map[string]any{"tag": tag})}
	case "addNotification":
		k.lastNote++
		text, err := json.Marshal(object)
		if err != nil {
			return refuse(err.Error())
		}
		k.notifications = append(k.notifications, map[string]any{"id": k.lastNote, "name": object["name"], "active": true, "config": string(text)})
		return []string{frame("42", "notificationList", k.notifications), acknowledge(map[string]any{"id": k.lastNote})}
	case "add":
		k.lastMonitor++
		object["id"], object["tags"] = k.lastMonitor, []any{}
		k.monitors[strconv.Itoa(k.lastMonitor)] = object
		return []string{acknowledge(map[string]any{"monitorID": k.lastMonitor})}
	case "addMonitorTag":
		monitor := k.monitors[word(2)]
		tags, _ := monitor["tags"].([]any)
		number, err := strconv.Atoi(word(1))
		if monitor == nil || err != nil {
			return refuse("no such monitor")
		}
		monitor["tags"] = append(tags, map[string]any{"tag_id": number, "monitor_id": monitor["id"], "value": "", "name": "kuma-sync"})
		return []string{acknowledge(map[string]any{})}
	}
	return refuse("the stand-in does not know " + name)
}

func orNone(list []map[string]any) []map[string]any {
	if list == nil {
		return []map[string]any{}
	}
	return list
}

// plain is a request's body without its compression.
func plain(r *http.Request) ([]byte, error) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		body = unzipped
	}
	return io.ReadAll(io.LimitReader(body, 64<<20))
}
