package checks

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davidcockson.com/runner/homelab/internal/peer"
)

// startSeen runs nginx before a backend, whose last request last returns.
func startSeen(t *testing.T) (p *proxy, last func(*testing.T) *http.Request) {
	t.Helper()
	seen := make(chan *http.Request, 100)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		seen <- r
		w.Header().Set("Referrer-Policy", "no-referrer")
	}))
	t.Cleanup(backend.Close)
	return start(t, backend.Listener.Addr().String()), func(t *testing.T) *http.Request {
		t.Helper()
		select {
		case r := <-seen:
			return r
		default:
			t.Fatal("the backend was not asked")
			return nil
		}
	}
}

// What nginx itself refuses before it serves anything.
func TestNginxTakesTheTemplates(t *testing.T) {
	program := peer.Need(t, "nginx")
	for _, row := range []struct{ name, old, new, want string }{
		{"as they lie", "", "", "test is successful"},
		{"a directive that is none", "proxy_buffering off;", "proxy_bufferings off;", "unknown directive"},
		{"a variable that a snippet wants is missing", "$connection_upgrade", "$connection_upgrades", "unknown \"connection_upgrade\" variable"},
		{"a block that is not closed", "location / {", "location / { {", "unexpected"},
		{"a certificate that is not there", "cert.pem", "certs.pem", "cannot load certificate"},
		{"a snippet that is not there", "server.conf", "servers.conf", "servers.conf\" failed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			certificate(t, dir)
			p := &proxy{http: freeAddress(t), https: freeAddress(t), door: freeAddress(t)}
			path := filepath.Join(dir, "nginx.conf")
			if err := os.WriteFile(path, []byte(p.render(t, dir, "1", knowsHTTP2(t, program))), 0o600); err != nil {
				t.Fatal(err)
			}
			if row.old != "" {
				rewrite(t, path, row.old, row.new)
			}
			if said, taken := takes(t, path); taken != (row.old == "") || !strings.Contains(said, row.want) {
				t.Errorf("taken %t, want %q: %s", taken, row.want, said)
			}
		})
	}
}

func TestNginxServesItsNames(t *testing.T) {
	p, _ := startSeen(t)
	t.Run("what is asked by plain HTTP is led to HTTPS", func(t *testing.T) {
		response := p.get(t, "http://git.home.example/a?b=c")
		if got := response.Header.Get("Location"); response.StatusCode != 308 || got != "https://git.home.example/a?b=c" {
			t.Errorf("%d to %s", response.StatusCode, got)
		}
	})
	t.Run("its health is answered by any name", func(t *testing.T) {
		for _, address := range []string{"http://127.0.0.1/healthz", "https://prod-services/healthz"} {
			if response := p.get(t, address); response.StatusCode != 200 {
				t.Errorf("%s: %d", address, response.StatusCode)
			}
		}
	})
	t.Run("other names are not served", func(t *testing.T) {
		if response := p.get(t, "https://git.evil.example/"); response.StatusCode != 421 {
			t.Errorf("by HTTPS: %d", response.StatusCode)
		}
		if response, err := p.client.Get("http://git.evil.example/"); err == nil {
			response.Body.Close()
			t.Errorf("by HTTP: %d", response.StatusCode)
		}
	})
}

func TestNginxHandsOnWhatItIsAsked(t *testing.T) {
	p, last := startSeen(t)
	t.Run("the path, the name and the client arrive as they are", func(t *testing.T) {
		p.get(t, "https://git.home.example/a%2Fb/c", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: http")
		r := last(t)
		if r.RequestURI != "/a%2Fb/c" || r.Host != "git.home.example" || r.Header.Get("X-Forwarded-Proto") != "https" || r.Header.Get("X-Forwarded-For") != "127.0.0.1" {
			t.Errorf("%s at %s with %v", r.RequestURI, r.Host, r.Header)
		}
	})
	t.Run("security headers are added where the service sends none", func(t *testing.T) {
		header := p.get(t, "https://git.home.example/").Header
		last(t)
		for name, want := range map[string]string{"X-Frame-Options": "SAMEORIGIN", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Strict-Transport-Security": "max-age=31536000"} {
			if got := header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %q, want %s", name, got, want)
			}
		}
	})
	t.Run("a dead upstream fails alone", func(t *testing.T) {
		if response := p.get(t, "https://kuma.home.example/"); response.StatusCode != 502 {
			t.Errorf("the dead one: %d", response.StatusCode)
		}
		if response := p.get(t, "https://portainer.home.example/"); response.StatusCode != 200 {
			t.Errorf("another: %d", response.StatusCode)
		}
		last(t)
	})
	t.Run("a big push passes, elsewhere it does not", func(t *testing.T) {
		for name, want := range map[string]int{"git": 200, "portainer": 413} {
			response, err := p.client.Post("https://"+name+".home.example/x", "application/octet-stream", strings.NewReader(strings.Repeat("a", 8<<20)))
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("%s: %d, want %d", name, response.StatusCode, want)
			}
		}
		last(t)
	})
}

func TestNginxLeadsToTheControlRoom(t *testing.T) {
	p, last := startSeen(t)
	t.Run("the control room sees no header of Cloudflare's", func(t *testing.T) {
		p.get(t, "https://control.home.example/chat", "Cf-Access-Jwt-Assertion: a", "Cf-Connecting-Ip: 1.2.3.4", "Cf-Ray: b", "CF-Whatever: c",
			"Cookie: session=d", "Last-Event-ID: 7", "HX-Request: true", "Authorization: Bearer e", "Origin: https://control.home.example", "Sec-Fetch-Site: same-origin")
		r := last(t)
		for name := range r.Header {
			if strings.HasPrefix(name, "Cf-") {
				t.Errorf("it sees %s", name)
			}
		}
		for name, want := range map[string]string{"Cookie": "session=d", "Last-Event-Id": "7", "Hx-Request": "true", "Authorization": "Bearer e", "Origin": "https://control.home.example", "Sec-Fetch-Site": "same-origin", "X-Forwarded-Proto": "https"} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if r.Host != "control.home.example" {
			t.Errorf("it sees the name %s", r.Host)
		}
	})
	t.Run("a form arrives at the control room whole", func(t *testing.T) {
		response, err := p.client.PostForm("https://control.home.example/queue", url.Values{"prompt": {"a"}})
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if r := last(t); r.ContentLength != int64(len("prompt=a")) || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			t.Errorf("%d bytes of %s", r.ContentLength, r.Header.Get("Content-Type"))
		}
	})
}

func TestNginxHasADoorForMetrics(t *testing.T) {
	p, last := startSeen(t)
	t.Run("metrics have a door of their own", func(t *testing.T) {
		if response := p.get(t, "https://git.home.example/metrics"); response.StatusCode != 404 {
			t.Errorf("at the pages' door: %d", response.StatusCode)
		}
		nowhere, err := http.Get("http://" + p.door + "/api/v1/users")
		if err != nil {
			t.Fatal(err)
		}
		nowhere.Body.Close()
		if nowhere.StatusCode != 404 {
			t.Errorf("another path: %d", nowhere.StatusCode)
		}
		response, err := http.Get("http://" + p.door + "/nginx/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || !strings.Contains(string(text), "\nnginx_connections_active ") || response.Header.Get("Content-Type") != "text/plain; version=0.0.4" {
			t.Errorf("nginx's own: %v %s: %s", err, response.Header.Get("Content-Type"), text)
		}
		request, err := http.NewRequest(http.MethodGet, "http://"+p.door+"/gitea/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer a")
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if r := last(t); r.RequestURI != "/metrics" || r.Header.Get("Authorization") != "Bearer a" {
			t.Errorf("Gitea was asked for %s with %v", r.RequestURI, r.Header)
		}
	})
}

// What the control room sends arrives while it goes on: the backend ends its answer only
// when the first piece was read at the other end.
func TestNginxHoldsNoStreamBack(t *testing.T) {
	arrived := make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: first\n\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-arrived:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(backend.Close)
	p := start(t, backend.Listener.Addr().String())
	for _, name := range []string{"control", "langfuse"} {
		response := p.get(t, "https://"+name+".home.example/stream", "Accept-Encoding: gzip")
		line, err := bufio.NewReader(response.Body).ReadString('\n')
		if err != nil || line != "data: first\n" {
			t.Errorf("%s: %q, %v", name, line, err)
		}
		if name == "langfuse" {
			close(arrived)
		}
	}
}

// A websocket's first answer is 101, from behind.
func TestNginxLetsWebsocketsThrough(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.EqualFold(r.Header.Get("Connection"), "upgrade") || r.Header.Get("Upgrade") != "websocket" {
			http.Error(w, "no upgrade", http.StatusBadRequest)
			return
		}
		w.Header().Set("Connection", "upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.WriteHeader(http.StatusSwitchingProtocols)
	}))
	t.Cleanup(backend.Close)
	p := start(t, backend.Listener.Addr().String())
	for _, name := range []string{"portainer", "grafana", "git"} {
		response := p.get(t, "https://"+name+".home.example/ws", "Connection: Upgrade", "Upgrade: websocket")
		if response.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("%s: %d", name, response.StatusCode)
		}
	}
}
