package ansible

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// A world is everything that a verification asks, on addresses of the loopback range
// that are this test's own: one for each host, and one for the LAN.
type world struct {
	prod, dev, contabo, davas, lan, loopback string

	langfuse string // what runner says of it

	mu     sync.Mutex
	traces map[string]int // how often each was asked for
}

func newWorld(t *testing.T, l *lab, third int) *world {
	w := &world{traces: map[string]int{}, langfuse: "ok"}
	net24 := loopback(third)
	w.prod, w.dev, w.contabo = net24+"10", net24+"11", net24+"20"
	w.davas, w.lan, w.loopback = net24+"30", net24+"110", net24+"1"
	l.inventory(t, map[string]any{
		"prod.homelab_tailscale_ip": w.prod, "dev.homelab_tailscale_ip": w.dev, "vps.homelab_tailscale_ip": w.contabo,
		"prod.homelab_lan_ip": w.lan, "homelab_davas_ollama": "http://" + w.davas + ":11434",
	})
	l.settings["verify_loopback"], l.settings["verify_patience"] = w.loopback, 3
	l.settings["verify_sync_patience"] = 2
	l.program(t, "ss", "#!/bin/sh\necho 'LISTEN 0 4096 "+w.prod+":8080 0.0.0.0:*'\n")
	l.program(t, "df", `#!/bin/sh
echo 'Use%  Avail Mounted on'
for folder; do
	case $folder in
	-*) ;;
	/volumes/*) echo " $(cat "$LAB/$(basename "$folder").full" 2>/dev/null || echo '40%  9000') $folder" ;;
	*) echo ' 51% 47000 /' ;;
	esac
done
`)
	for stack, services := range map[string]string{"prod-services": "searxng\nplex\n", "dev-learning": "grafana\n", "contabo": "runner\n"} {
		l.write(t, "docker/"+stack+".services", services)
		l.write(t, "docker/"+stack+".json", `{"services": {}, "volumes": {"data": {"name": "`+stack+`_data"}}}`)
		var lines []string
		for _, service := range strings.Fields(services) {
			lines = append(lines, fmt.Sprintf(`{"Service":%q,"State":"running","Health":"healthy"}`, service))
		}
		l.write(t, "docker/"+stack+".ps", strings.Join(lines, "\n")+"\n")
	}
	l.write(t, "vps/vault/runner-outputs/.keep", "")
	l.write(t, "docker/sent", "4")
	l.write(t, "docker/submit", `#!/bin/sh
echo $(($(cat "$LAB/sent") + 1)) >"$LAB/sent"
case "$*" in
*"--model echo"*)
	printf -- '---\ntrace: "http://langfuse/trace/0123456789abcdef0123456789abcdef"\n---\n%s\n' "$(eval echo \${$#})" >"`+l.path("vps/vault")+`/runner-outputs/echo.md"
	echo '{"state": "completed", "output": "runner-outputs/echo.md"}' ;;
*) echo 'runner: job failed: cut' >&2; exit 7 ;;
esac
`)
	if err := os.Chmod(l.path("docker/submit"), 0o755); err != nil {
		t.Fatal(err)
	}
	return w
}

// serve starts every service of ports.yaml on its first address that is not loopback's.
func (w *world) serve(t *testing.T, l *lab) {
	t.Helper()
	text, err := os.ReadFile("../../ports.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var ports map[string][]struct {
		Service string
		Port    int
		On      []string
	}
	if err := yaml.Unmarshal(text, &ports); err != nil {
		t.Fatal(err)
	}
	address := map[string]string{"prod-services": w.prod, "dev-learning": w.dev, "contabo": w.contabo, "davas": w.davas}
	for host, services := range ports {
		for _, s := range services {
			ip := map[string]string{"tailscale": address[host], "all": address[host], "lan": w.lan, "loopback": w.loopback}[s.On[len(s.On)-1]]
			w.listen(t, fmt.Sprintf("%s:%d", ip, s.Port), w.handler(l, s.Service, s.Port))
		}
	}
}

func (w *world) listen(t *testing.T, address string, handler http.Handler) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	t.Cleanup(func() { server.Close(); serving.Wait() })
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(body, "{") {
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func (w *world) handler(l *lab, service string, port int) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", answer(200, "ok"))
	switch {
	case service == "searxng":
		mux.Handle("/config", answer(200, `{"engines": []}`))
		mux.Handle("/search", answer(200, `{"query": "homelab", "results": []}`))
	case service == "grafana":
		mux.Handle("/api/datasources/uid/prometheus/health", answer(200, `{"status": "OK", "message": "Successfully queried"}`))
	case service == "syncthing" && port == 8384:
		mux.Handle("/rest/system/connections", answer(200, `{"connections": {"ID": {"connected": true, "address": "`+w.prod+`:22000"}}}`))
		mux.Handle("/rest/db/status", answer(200, `{"state": "idle", "needTotalItems": 0, "pullErrors": 0}`))
	case service == "langfuse-web":
		mux.HandleFunc("POST /api/public/otel/v1/traces", w.takeTrace)
		mux.HandleFunc("GET /api/public/v2/observations", w.observations)
	case service == "runner" && port == 9464:
		// A look that is older than the verification, and then a newer one.
		asked := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
		mux.HandleFunc("/health", func(out http.ResponseWriter, r *http.Request) {
			answer(200, fmt.Sprintf(`{"status": "ok", "parts": [{"name": "worker", "state": "ok", "probed": %q},
				{"name": "langfuse", "state": %q, "text": "it says 401", "advice": "mend the key", "probed": %q},
				{"name": "discord", "state": "not configured"}, {"name": "provider davas", "state": "down", "probed": %q}]}`,
				asked.Format(time.RFC3339Nano), w.langfuse, asked.Format(time.RFC3339Nano), asked.Format(time.RFC3339Nano)))(out, r)
			asked = time.Now().UTC().Add(time.Hour)
		})
		mux.HandleFunc("/metrics", func(out http.ResponseWriter, r *http.Request) {
			sent, _ := os.ReadFile(l.path("docker/sent"))
			fmt.Fprintf(out, "runner_messages_total{channel=\"notify\",outcome=\"sent\"} %s\n", strings.TrimSpace(string(sent)))
		})
	case service == "runner":
		w.room(mux)
	}
	return mux
}

func (w *world) takeTrace(out http.ResponseWriter, r *http.Request) {
	var body struct {
		ResourceSpans []struct {
			ScopeSpans []struct{ Spans []struct{ TraceID string } }
		}
	}
	public, _, _ := r.BasicAuth()
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || !strings.HasPrefix(public, "pk-lf-") {
		answer(401, "{}")(out, r)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.traces[body.ResourceSpans[0].ScopeSpans[0].Spans[0].TraceID] = 0
	answer(200, "{}")(out, r)
}

// observations knows a trace from the second time on, as one that passes a queue. The
// job's own trace was sent by runner.
func (w *world) observations(out http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("traceId")
	w.mu.Lock()
	defer w.mu.Unlock()
	asked, known := w.traces[id]
	if known {
		w.traces[id]++
	}
	if known && asked > 0 || id == "0123456789abcdef0123456789abcdef" {
		answer(200, `{"data": [{"traceId": "`+id+`"}]}`)(out, r)
		return
	}
	answer(200, `{"data": []}`)(out, r)
}

// room is the part of the control room that a conversation needs.
func (w *world) room(mux *http.ServeMux) {
	mux.HandleFunc("POST /login", func(out http.ResponseWriter, r *http.Request) {
		http.SetCookie(out, &http.Cookie{Name: "runner_session", Value: "s"})
		answer(200, `{"signed_in": true}`)(out, r)
	})
	signed := func(h http.HandlerFunc) http.HandlerFunc {
		return func(out http.ResponseWriter, r *http.Request) {
			if _, err := r.Cookie("runner_session"); err != nil {
				answer(401, `{"error": "signed out"}`)(out, r)
				return
			}
			h(out, r)
		}
	}
	mux.HandleFunc("POST /chat/{id}/messages", signed(answer(202, `{"turn": 1}`)))
	mux.HandleFunc("POST /chat/{id}/delete", signed(answer(200, "{}")))
	mux.HandleFunc("GET /chat/{id}", signed(answer(200, `{"messages": [{"role": "user"}, {"role": "assistant", "state": "done"}]}`)))
	mux.HandleFunc("GET /chat/{id}/stream", signed(func(out http.ResponseWriter, r *http.Request) {
		io.WriteString(out, "event: text\ndata: {\"text\": \"the homelab's verification asks for an echo\"}\n\n")
		out.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
}

// silent takes connections and says nothing.
func silent(t *testing.T, address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
}

// deaf is an address at which connecting gets no answer at all, as behind a firewall that
// drops: its queue of connections is full, so that the kernel drops further ones.
func deaf(t *testing.T, ip [4]byte, port int) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: ip, Port: port}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		address := fmt.Sprintf("%d.%d.%d.%d:%d", ip[0], ip[1], ip[2], ip[3], port)
		if conn, err := net.DialTimeout("tcp", address, 300*time.Millisecond); err == nil {
			t.Cleanup(func() { conn.Close() })
		}
	}
}
