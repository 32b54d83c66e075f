package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"davidcockson.com/runner/homelab/internal/peer"
)

// asGitea makes of this program Gitea's command, over the users in the folder that it names.
const asGitea = "STANDIN_TEST_GITEA"

func TestMain(m *testing.M) {
	folder := os.Getenv(asGitea)
	if folder == "" {
		os.Exit(m.Run())
	}
	if err := giteaAdmin(os.Args[1:], folder, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Every service that an override names is one that the stand-in plays.
func TestServicesOfTheOverridesAreKnown(t *testing.T) {
	for _, name := range []string{"plex", "gitea", "portainer", "uptime-kuma", "searxng", "langfuse-web", "langfuse-worker", "clickhouse", "s3",
		"node-exporter", "cadvisor", "alertmanager", "blackbox", "grafana", "cloudflared", "ollama", "discord"} {
		if _, err := service(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := service("plexx"); err == nil {
		t.Error("an unknown service is played")
	}
}

func TestSearxngAnswersWithTheFaultThatItIsGiven(t *testing.T) {
	for name, row := range map[string]struct {
		fault, query string
		want         int
	}{
		"well":                         {"", "?format=json", http.StatusOK},
		"without JSON, asked for it":   {"forbidden", "?format=json", http.StatusForbidden},
		"without JSON, asked for HTML": {"forbidden", "?q=a", http.StatusOK},
		"limited":                      {"limited", "?format=json", http.StatusTooManyRequests},
	} {
		mux := http.NewServeMux()
		searxng(mux, row.fault)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", "/search"+row.query, nil))
		if w.Code != row.want {
			t.Errorf("%s: %d, want %d", name, w.Code, row.want)
		}
	}
}

// A slow one says nothing for as long as the client waits.
func TestSearxngIsSlow(t *testing.T) {
	mux := http.NewServeMux()
	searxng(mux, "slow")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/search", nil).WithContext(ctx))
	if w.Body.Len() > 0 {
		t.Errorf("it answered %q", w.Body)
	}
}

func TestLangfuseKeepsTracesOfTheProjectsKeysAlone(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	raw, err := hex.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"JSON":     `{"spans": [{"traceId": "` + id + `"}]}`,
		"protobuf": "\x12\x30\x0a\x10" + string(raw) + "\x12\x08",
	} {
		l := &langfuse{public: "pk", secret: "sk", traces: map[string]bool{}}
		ask := func(method, path, body, secret string) string {
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.SetBasicAuth("pk", secret)
			w := httptest.NewRecorder()
			if method == "POST" {
				l.take(w, r)
			} else {
				l.observations(w, r)
			}
			return w.Body.String()
		}
		ask("POST", "/", body, "wrong")
		if got := ask("GET", "/?traceId="+id, "", "sk"); strings.Contains(got, id) {
			t.Errorf("%s: a trace of wrong keys is kept", name)
		}
		ask("POST", "/", body, "sk")
		if got := ask("GET", "/?traceId="+id, "", "sk"); !strings.Contains(got, id) {
			t.Errorf("%s: the trace is not found: %s", name, got)
		}
	}
}

// The script of the role, against the stand-in: the user gets the wanted password, also one
// that a run before could not finish.
func TestGiteasFirstUser(t *testing.T) {
	peer.Need(t, "curl")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, bin, mux := t.TempDir(), t.TempDir(), http.NewServeMux()
	if err := os.Symlink(program, filepath.Join(bin, "gitea")); err != nil {
		t.Fatal(err)
	}
	mux.HandleFunc("PATCH /api/v1/admin/users/{name}", giteaEdit(dir))
	server := httptest.NewServer(mux)
	defer server.Close()
	text, err := os.ReadFile("../../../ansible/roles/prod-services/files/gitea-first-user")
	if err != nil {
		t.Fatal(err)
	}
	script := strings.ReplaceAll(string(text), "http://127.0.0.1:3000", server.URL)
	run := func(name, edit string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script, "gitea-first-user", name)
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), asGitea+"="+dir)
		cmd.Stdin = strings.NewReader(edit + "\n")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	users := func() string {
		var list bytes.Buffer
		if err := giteaAdmin([]string{"admin", "user", "list"}, dir, &list); err != nil {
			t.Fatal(err)
		}
		return list.String()
	}
	password := func(name string) string {
		text, err := os.ReadFile(giteaPassword(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const edit = `{"source_id": 0, "login_name": "x", "email": "you@example.org", "password": "a \"wanted\" one", "must_change_password": false}`
	if out, err := run("first", edit); err != nil || password("first") != `a "wanted" one` || !strings.Contains(users(), "\n1     first     you@example.org ") {
		t.Errorf("%v, %s: the password is %q, the users are %q", err, out, password("first"), users())
	}
	if out, err := run("second", `{"password": ""}`); err == nil || !strings.Contains(out, "a password is needed") || !strings.Contains(users(), "second     unfinished@example.invalid ") {
		t.Errorf("what is not taken: %v, %s; the users are %q", err, out, users())
	}
	if out, err := run("second", edit); err != nil || password("second") != `a "wanted" one` || strings.Contains(users(), "unfinished") {
		t.Errorf("again: %v, %s: the password is %q, the users are %q", err, out, password("second"), users())
	}
}
