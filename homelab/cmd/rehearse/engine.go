package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
)

// startEngine starts Debian's Docker in the world and waits until it answers. It ends with
// the world.
func (w *world) startEngine(ctx context.Context) error {
	if err := w.doAll(ctx, "ip link set lo up"); err != nil {
		return err
	}
	log, err := os.Create(w.folder + "/dockerd.log")
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := w.command(context.WithoutCancel(ctx), "/usr/sbin/dockerd", "--data-root", w.folder+"/docker", "--exec-root", "/run/docker",
		"--pidfile", "/run/docker.pid", "--host", "unix:///run/docker.sock", "--cgroup-parent", "/"+w.group,
		"--config-file", "/rehearsal/daemon.json", "--storage-driver", "overlay2")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start dockerd: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if _, err := w.do(ctx, "docker", "version", "--format", "{{.Server.Version}}"); err == nil {
			return nil
		}
		select {
		case err := <-ended:
			text, readErr := os.ReadFile(w.folder + "/dockerd.log")
			return errors.Join(fmt.Errorf("dockerd ended (%w): %s", err, tail(string(text), 2)), readErr)
		case <-ctx.Done():
			return fmt.Errorf("dockerd does not answer: %w", ctx.Err())
		case <-time.After(300 * time.Millisecond):
		}
	}
}

var library = regexp.MustCompile(`(/\S+) \(0x`)

// probe proves that an engine starts, that a container runs from an image made of this
// machine's own files, and that namespaces can be joined and reached.
func (w *world) probe(ctx context.Context) (string, error) {
	if err := w.startEngine(ctx); err != nil {
		return "", err
	}
	version, err := w.do(ctx, "docker", "version", "--format", "{{.Server.Version}}")
	if err != nil {
		return "", err
	}
	libraries, err := w.do(ctx, "ldd", "/usr/bin/dash")
	if err != nil {
		return "", err
	}
	files := []string{"-C", "/", "-chf", "/tmp/probe.tar", "usr/bin/dash"}
	for _, match := range library.FindAllStringSubmatch(libraries, -1) {
		files = append(files, strings.TrimPrefix(match[1], "/"))
	}
	if _, err := w.do(ctx, "tar", files...); err != nil {
		return "", err
	}
	if err := w.doAll(ctx, "docker import /tmp/probe.tar rehearsal/probe:1.0"); err != nil {
		return "", err
	}
	said, err := w.do(ctx, "docker", "run", "--rm", "rehearsal/probe:1.0", "/usr/bin/dash", "-c", "echo $((6 * 7))")
	if err != nil || said != "42" {
		return "", fmt.Errorf("a container said %q: %w", said, err)
	}
	if err := w.doAll(ctx, "ip netns add probe", "ip link add probe0 type veth peer name probe1 netns probe",
		"ip address add 100.64.0.10/24 dev probe0", "ip link set probe0 up", "ip -n probe address add 100.64.0.20/24 dev probe1",
		"ip -n probe link set probe1 up"); err != nil {
		return "", err
	}
	// Nobody listens there, and only a machine that is reached says so.
	said, err = w.do(ctx, "ip", "netns", "exec", "probe", "curl", "--silent", "--verbose", "--max-time", "5", "http://100.64.0.10:1/")
	if !strings.Contains(said, "refused") {
		return "", fmt.Errorf("100.64.0.10 was not reached from a namespace: %w", err)
	}
	return "docker " + version + " ran a container made of this machine's dash; 100.64.0.20 in a namespace reached 100.64.0.10", nil
}
