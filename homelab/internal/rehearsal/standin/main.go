// Standin is what a rehearsal runs in the place of services whose images it cannot have.
//
//	standin NAME ADDRESS…
//
// It listens on the addresses and answers what the deployment, the health checks and the
// verification ask of the service NAME, and nothing else. A stand-in that keeps something
// keeps it in memory, but for gitea, whose users are a file. It ends with 1 if an address
// is not to be had, as the services do, and with 0 on SIGTERM.
//
//	standin pause                 does nothing: it holds a network namespace open
//	standin gitea-admin …         Gitea's own command, for its users
//	standin probe URL             ends with 0 if the page answers 200
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		slog.Error("standin", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	if len(arguments) == 0 {
		return errors.New("name a service")
	}
	name, rest := arguments[0], arguments[1:]
	switch name {
	case "pause":
		<-ctx.Done()
		return nil
	case "gitea-admin":
		return giteaAdmin(rest, giteaData, os.Stdout)
	case "probe":
		return probe(ctx, strings.Join(rest, ""))
	}
	handler, err := service(name)
	if err != nil {
		return err
	}
	return serve(ctx, handler, rest)
}

// serve answers on all addresses until ctx ends. A closed listener ends the whole.
func serve(ctx context.Context, handler http.Handler, addresses []string) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, len(addresses))
	for _, address := range addresses {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", address, err)
		}
		go func() { failed <- server.Serve(listener) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return server.Close()
	}
}

func probe(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

// giteaData is the folder that Gitea's image keeps its files in.
const giteaData = "/data"

// service is what a stand-in answers.
func service(name string) (http.Handler, error) {
	mux := http.NewServeMux()
	page := func(path, body string) { mux.HandleFunc(path, answer(http.StatusOK, body)) }
	switch name {
	case "plex":
		page("/identity", "<MediaContainer/>")
	case "gitea":
		page("/api/healthz", `{"status": "pass"}`)
		page("/metrics", "gitea_users 1\n")
		mux.HandleFunc("PATCH /api/v1/admin/users/{name}", giteaEdit(giteaData))
	case "portainer":
		page("/api/system/status", `{"Version": "stand-in"}`)
	case "uptime-kuma":
		k := newKuma()
		mux.HandleFunc("/socket.io/", k.socket)
		mux.HandleFunc("GET /api/push/{token}", k.push)
		page("/", "Uptime Kuma's stand-in")
	case "searxng":
		searxng(mux, os.Getenv("STANDIN_FAULT"))
	case "langfuse-web":
		l := &langfuse{public: os.Getenv("LANGFUSE_INIT_PROJECT_PUBLIC_KEY"), secret: os.Getenv("LANGFUSE_INIT_PROJECT_SECRET_KEY"), traces: map[string]bool{}}
		page("/api/public/health", `{"status": "OK"}`)
		mux.HandleFunc("POST /api/public/otel/v1/traces", l.take)
		mux.HandleFunc("GET /api/public/v2/observations", l.observations)
		mux.HandleFunc("GET /api/public/projects", l.projects)
	case "langfuse-worker":
		page("/api/health", `{"status": "OK"}`)
	case "clickhouse":
		page("/ping", "Ok.\n")
		page("/metrics", "ClickHouseMetrics_Query 1\n")
	case "s3":
		page("/minio/health/ready", "")
		page("/minio/v2/metrics/cluster", "minio_up 1\n")
	case "node-exporter":
		page("/", "Node Exporter's stand-in")
	case "cadvisor":
		page("/healthz", "ok")
	case "alertmanager":
		page("/-/ready", "OK")
		mux.HandleFunc("POST /api/v2/alerts", answer(http.StatusOK, ""))
	case "blackbox":
		page("/-/healthy", "Healthy")
	case "grafana":
		page("/api/health", `{"database": "ok"}`)
		mux.HandleFunc("/api/datasources/uid/prometheus/health", datasource)
	case "cloudflared":
		page("/ready", `{"status": 200}`)
	case "ollama":
		page("/api/version", `{"version": "0.0.0"}`)
		page("/api/tags", `{"models": []}`)
	case "discord":
		mux.HandleFunc("POST /", answer(http.StatusNoContent, ""))
		page("/", `{"name": "stand-in"}`)
	default:
		return nil, fmt.Errorf("there is no stand-in for %q", name)
	}
	return mux, nil
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if strings.HasPrefix(body, "{") {
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// datasource asks Prometheus, as Grafana does when it is asked whether it reaches it.
func datasource(w http.ResponseWriter, r *http.Request) {
	if _, _, signed := r.BasicAuth(); !signed {
		answer(http.StatusUnauthorized, `{"message": "Unauthorized"}`)(w, r)
		return
	}
	if err := probe(r.Context(), "http://prometheus:9090/-/ready"); err != nil {
		answer(http.StatusBadRequest, `{"status": "ERROR", "message": "Prometheus does not answer"}`)(w, r)
		return
	}
	answer(http.StatusOK, `{"status": "OK", "message": "Successfully queried the Prometheus API."}`)(w, r)
}

// searxng answers as SearXNG does, or with a fault: forbidden, as without json among its
// formats; limited, as its limiter does; slow, which takes a request and says nothing.
func searxng(mux *http.ServeMux, fault string) {
	mux.HandleFunc("/healthz", answer(http.StatusOK, "OK"))
	mux.HandleFunc("/config", answer(http.StatusOK, `{"engines": []}`))
	mux.HandleFunc("/metrics", answer(http.StatusOK, "searxng_engines 1\n"))
	mux.HandleFunc("/search", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case fault == "forbidden" && r.FormValue("format") == "json":
			answer(http.StatusForbidden, "Forbidden")(w, r)
		case fault == "limited":
			answer(http.StatusTooManyRequests, "Too Many Requests")(w, r)
		case fault == "slow":
			<-r.Context().Done()
		default:
			answer(http.StatusOK, `{"query": "homelab", "results": []}`)(w, r)
		}
	})
}
