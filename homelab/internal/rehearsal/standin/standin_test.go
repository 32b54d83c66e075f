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

// The script of the role, against the stand-in: the user gets the wanted password, and where
// that fails there is no user.
func TestGiteasFirstUser(t *testing.T) {
	peer.Need(t, "curl")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(program, filepath.Join(bin, "gitea")); err != nil {
		t.Fatal(err)
	}
	const edit = `{"source_id": 0, "login_name": "owner", "password": "a \"wanted\" one", "must_change_password": false}`
	for name, c := range map[string]struct {
		edit, want string // what the user's password is then
	}{
		"it gets the wanted password":                 {edit, `a "wanted" one`},
		"a password that is not taken leaves no user": {`{"password": ""}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir, mux := t.TempDir(), http.NewServeMux()
			mux.HandleFunc("PATCH /api/v1/admin/users/{name}", giteaEdit(dir))
			server := httptest.NewServer(mux)
			defer server.Close()
			text, err := os.ReadFile("../../../ansible/roles/prod-services/files/gitea-first-user")
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(string(text), "http://127.0.0.1:3000", server.URL),
				"gitea-first-user", "owner", "you@example.org")
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), asGitea+"="+dir)
			cmd.Stdin = strings.NewReader(c.edit + "\n")
			out, err := cmd.CombinedOutput()
			if (err == nil) != (c.want != "") {
				t.Fatalf("%v: %s", err, out)
			}
			var list bytes.Buffer
			if err := giteaAdmin([]string{"admin", "user", "list"}, dir, &list); err != nil {
				t.Fatal(err)
			}
			if there := strings.Contains(list.String(), "\n1     owner     you@example.org\n"); there != (c.want != "") {
				t.Errorf("the users are %q", list.String())
			}
			if got, _ := os.ReadFile(giteaPassword(dir, "owner")); string(got) != c.want {
				t.Errorf("the password is %q, want %q", got, c.want)
			}
		})
	}
}
