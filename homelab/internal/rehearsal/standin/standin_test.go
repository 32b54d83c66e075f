package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

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

func TestGiteaListsTheUsersThatItMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	var out bytes.Buffer
	create := strings.Fields("admin user create --admin --username owner --email you@example.org --password p --must-change-password=false")
	if err := giteaAdmin(create, path, &out); err != nil {
		t.Fatal(err)
	}
	if err := giteaAdmin(create[:3], path, &out); err == nil {
		t.Error("a user without a name is made")
	}
	if err := giteaAdmin([]string{"admin", "user", "list"}, path, &out); err != nil || !strings.Contains(out.String(), "\n1     owner     you@example.org\n") {
		t.Errorf("%v: %q", err, out.String())
	}
}
