package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The addresses of the rehearsal, as those of inventory/example.yml.
const (
	prodIP, devIP, contaboIP, davasIP = "100.64.0.10", "100.64.0.11", "100.64.0.20", "100.64.0.30"
	prodLAN, lanIP                    = "192.168.1.10", "192.168.1.50"
	publicIP                          = "203.0.113.10" // of prod-services' home
)

const standin = "stand-in"

// play is the whole rehearsal in the world. A step that later ones need ends it; a fault
// that is not named does not.
func (w *world) play(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
	defer cancel()
	if err := w.step(ctx, "images", "nginx, PostgreSQL, Redis, Syncthing, Prometheus, searx real; the rest "+standin, w.images); err != nil {
		return err
	}
	if err := w.step(ctx, "namespaces", "real namespaces and addresses; Ollamas and Discord "+standin, w.network); err != nil {
		return err
	}
	if err := w.step(ctx, "secrets", "real", w.secrets); err != nil {
		return err
	}
	if err := w.step(ctx, "deploy", "real roles, compose, engine; systemd played by the rehearsal", w.deploy); err != nil {
		return err
	}
	if err := w.step(ctx, "all containers healthy", "real and "+standin+", as counted", w.healthy); err != nil {
		return err
	}
	for _, step := range []struct {
		name, real string
		do         func(context.Context) (string, error)
	}{
		{"second run changes nothing", "real", w.again},
		{"verify passes", "real runner, Syncthing, Prometheus, searx; Langfuse, Grafana, Discord " + standin, func(ctx context.Context) (string, error) { return w.verifyGreen(ctx) }},
		{"a note on prod-services comes back answered", "real Syncthing pair and runner; " + w.asked(), w.aJob},
		{"from the LAN", "real nginx", w.fromLAN},
		{"a chat streams through nginx", "real nginx and runner; " + w.asked(), w.aChat},
	} {
		if err := w.step(ctx, step.name, step.real, step.do); err != nil && ctx.Err() != nil {
			return err
		}
	}
	if err := w.faults(ctx); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{w.rescues, w.upgrades} {
		if err := part(ctx); err != nil && ctx.Err() != nil {
			return err
		}
	}
	if err := w.step(ctx, "verify passes at the end", "as before", func(ctx context.Context) (string, error) { return w.verifyGreen(ctx) }); err != nil && ctx.Err() != nil {
		return err
	}
	return nil
}

// imageTags are the images and what each starts; all are one root file system.
var imageTags = []struct{ tag, entry, command string }{
	{"rehearsal/standin:1.0.0", `["/rehearsal/standin"]`, `[]`},
	{"rehearsal/nginx:1.22.0", `["/rehearsal/nginx"]`, `["nginx", "-g", "daemon off;"]`},
	{"rehearsal/postgres:15.0", `["/rehearsal/postgres"]`, `[]`},
	{"rehearsal/redis:7.0.0", `[]`, `["redis-server"]`},
	{"rehearsal/syncthing:1.19.0", `["/rehearsal/syncthing"]`, `[]`},
	{"rehearsal/prometheus:2.42.0", `["/usr/bin/prometheus"]`, `[]`},
	{"rehearsal/searx:1.1.0", `["/rehearsal/searx"]`, `[]`},
}

func (w *world) images(ctx context.Context) (string, error) {
	if err := w.startEngine(ctx); err != nil {
		return "", err
	}
	plugin := filepath.Join(w.tree, "..", "bin", "tools", "docker-compose")
	if err := os.Symlink(plugin, "/usr/local/lib/docker/cli-plugins/docker-compose"); err != nil {
		return "", err
	}
	if _, err := w.do(ctx, "sh", "-c", "tar -C "+w.folder+"/root -c . | /usr/bin/docker import - rehearsal/debian:12.0"); err != nil {
		return "", err
	}
	for _, image := range imageTags {
		cmd := w.command(ctx, "docker", "build", "--quiet", "--tag", image.tag, "-")
		folder := ""
		if strings.Contains(image.tag, "redis") {
			folder = "WORKDIR /data\n"
		}
		cmd.Stdin = strings.NewReader("FROM rehearsal/debian:12.0\n" + folder + "ENTRYPOINT " + image.entry + "\nCMD " + image.command + "\n")
		if text, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w: %s", image.tag, err, tail(string(text), 2))
		}
	}
	if err := w.loadFetched(ctx); err != nil {
		return "", err
	}
	if len(w.truly) > 0 {
		return fmt.Sprintf("%d images of one root file system, %d of registries", len(imageTags), len(w.truly)), nil
	}
	return fmt.Sprintf("%d images of one root file system; no registry answers", len(imageTags)), nil
}

// network makes the hosts: prod-services and dev-learning are this namespace, contabo is
// the network of a container that does nothing, lan is a machine of the LAN.
func (w *world) network(ctx context.Context) (string, error) {
	// A second address stays where the first of its network goes.
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/all/promote_secondaries", []byte("1"), 0o644); err != nil {
		return "", err
	}
	if err := w.doAll(ctx,
		"ip link add tailnet type bridge", "ip link set tailnet up",
		"ip address add "+prodIP+"/24 dev tailnet", "ip address add "+devIP+"/24 dev tailnet", "ip address add "+davasIP+"/24 dev tailnet",
		"ip address add "+publicIP+"/32 dev tailnet",
		"ip link add home type bridge", "ip link set home up", "ip address add "+prodLAN+"/24 dev home",
		"docker run --detach --name contabo --network none --restart unless-stopped rehearsal/standin:1.0.0 pause"); err != nil {
		return "", err
	}
	pid, err := w.do(ctx, "docker", "inspect", "--format", "{{.State.Pid}}", "contabo")
	if err != nil {
		return "", err
	}
	if err := w.doAll(ctx, "touch /run/netns/contabo", "mount --bind /proc/"+pid+"/ns/net /run/netns/contabo", "ip netns add lan"); err != nil {
		return "", err
	}
	for _, host := range []struct{ name, bridge, address, route string }{
		// As in a real tailnet, contabo has no way to the addresses of the LAN.
		{"contabo", "tailnet", contaboIP, publicIP + " via " + prodIP}, {"lan", "home", lanIP, "default via " + prodLAN},
	} {
		in := "ip -n " + host.name + " "
		if err := w.doAll(ctx, "ip link add to-"+host.name+" type veth peer name eth0 netns "+host.name,
			"ip link set to-"+host.name+" master "+host.bridge+" up",
			in+"link set lo up", in+"link set eth0 up", in+"address add "+host.address+"/24 dev eth0",
			in+"route add "+host.route); err != nil {
			return "", err
		}
	}
	if err := w.doAll(ctx,
		"docker run --detach --name davas-ollama --network host rehearsal/standin:1.0.0 ollama "+davasIP+":11434",
		"docker run --detach --name discord --network container:contabo rehearsal/standin:1.0.0 discord 127.0.0.1:9111"); err != nil {
		return "", err
	}
	if err := w.startOllama(ctx); err != nil {
		return "", err
	}
	seen, err := w.do(ctx, "ip", "netns", "exec", "contabo", "curl", "-fsS", "http://"+davasIP+":11434/api/version")
	return "contabo " + contaboIP + " reaches davas " + davasIP + ": " + seen + "; " + w.asked(), err
}

// asked says who answers the job and the chat of the play.
func (w *world) asked() string {
	if w.provider == "echo" {
		return "runner's own echo answers"
	}
	return "a real Ollama answers with " + w.model
}

// startOllama runs the real one on contabo where REHEARSE_OLLAMA names its program; the
// models are those of OLLAMA_MODELS. Elsewhere a stand-in plays it, and echo answers.
func (w *world) startOllama(ctx context.Context) error {
	program := os.Getenv("REHEARSE_OLLAMA")
	if program == "" {
		w.provider, w.model = "echo", "echo"
		return w.doAll(ctx, "docker run --detach --name contabo-ollama --network container:contabo rehearsal/standin:1.0.0 ollama 127.0.0.1:11434")
	}
	// It outlives this step, and ends with the world.
	cmd := w.command(context.WithoutCancel(ctx), "nsenter", "--net=/run/netns/contabo", program, "serve")
	cmd.Env = append(cmd.Env, "OLLAMA_HOST=127.0.0.1:11434", "OLLAMA_NO_CLOUD=1")
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start Ollama: %w", err)
	}
	go cmd.Wait() // how it ends is seen by who asks it
	var tags struct{ Models []struct{ Name string } }
	err := until(ctx, "Ollama answers", func() (bool, error) {
		out, err := w.do(ctx, "ip", "netns", "exec", "contabo", "curl", "-fsS", "http://127.0.0.1:11434/api/tags")
		if err != nil {
			return false, nil // not up yet
		}
		return true, json.Unmarshal([]byte(out), &tags)
	})
	if err != nil {
		return err
	}
	if len(tags.Models) == 0 {
		return errors.New("the Ollama of REHEARSE_OLLAMA has no model: set OLLAMA_MODELS")
	}
	w.provider, w.model = "contabo", os.Getenv("REHEARSE_MODEL")
	if w.model == "" {
		w.model = tags.Models[0].Name
	}
	return nil
}

// fromLAN looks from a machine of the LAN: pages by name through nginx, and no SearXNG.
func (w *world) fromLAN(ctx context.Context) (string, error) {
	seen, err := w.do(ctx, "ip", "netns", "exec", "lan", "curl", "-fsS", "--cacert", root+"/ca/ca.pem", "--output", "/dev/null",
		"--write-out", "%{http_code}", "--resolve", "control.home.example.org:443:"+prodLAN, "https://control.home.example.org/healthz")
	if err != nil {
		return "", err
	}
	if _, err := w.do(ctx, "ip", "netns", "exec", "lan", "curl", "-sS", "--max-time", "5", "http://"+prodLAN+":8080/healthz"); err == nil {
		return "", errors.New("SearXNG answers on the LAN address")
	}
	return "the control room by name, TLS and nginx: " + seen + "; SearXNG closed", nil
}
