package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"davidcockson.com/runner/homelab/internal/rehearsal"
)

// prepare makes what the world, which has no way out, cannot get by itself: the compose
// plugin and the stand-in, built from source, and a root file system of Debian's packages.
func (r *run) prepare(ctx context.Context) error {
	began := time.Now()
	evidence, err := r.make(ctx)
	row := rehearsal.Row{Step: "fetch and build", Result: "pass", Evidence: evidence, Took: time.Since(began), Real: "real"}
	if err != nil {
		row.Result, row.Evidence = "FAIL", err.Error()
		if errors.Is(err, errNotRehearsed) {
			row.Result = "not tried"
		}
	}
	text, marshalErr := json.Marshal(append(r.rows(), row))
	if marshalErr != nil {
		return marshalErr
	}
	if writeErr := os.WriteFile(filepath.Join(r.folder, "rows.json"), text, 0o600); writeErr != nil {
		return writeErr
	}
	return err
}

func (r *run) make(ctx context.Context) (string, error) {
	plugin := filepath.Join(r.tree, "..", "bin", "tools", "docker-compose")
	if _, err := os.Stat(plugin); err != nil {
		fmt.Println("== build compose (a minute or two, once)")
		if err := goBuild(ctx, filepath.Join(r.tree, "rehearsal", "compose"), plugin, "github.com/docker/compose/v5/cmd",
			"-ldflags", "-s -w -X github.com/docker/compose/v5/internal.Version=v5.5.1"); err != nil {
			return "", err
		}
	}
	fmt.Println("== ask the registries for the true images")
	count, err := fetch(ctx, r.tree, r.folder)
	if err != nil {
		return "", err
	}
	fmt.Printf("   %d are there\n", count)
	fmt.Println("== build the stand-in, and a root file system of Debian's packages")
	if err := goBuild(ctx, r.tree, filepath.Join(r.folder, "standin"), "./internal/rehearsal/standin"); err != nil {
		return "", err
	}
	// The world has no network: what its deployment builds must be in Go's cache.
	for folder, packages := range map[string]string{r.tree: "./cmd/kuma-sync", filepath.Join(r.tree, ".."): "./cmd/runner"} {
		if _, err := out(ctx, folder, "go", "list", "-deps", packages); err != nil {
			return "", err
		}
	}
	count, err = r.rootfs(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("compose v5.5.1 and the stand-in from source; %d packages of Debian 12 unpacked", count), nil
}

// packages are what the images have beside what these depend on.
var packages = []string{"nginx-light", "postgresql-15", "redis-server", "syncthing", "prometheus", "python3-searx", "curl", "wget", "gettext-base",
	"util-linux", "dash", "coreutils", "grep", "sed", "ca-certificates"}

// rootfs unpacks the packages, and all that they depend on, into one folder, as on a
// machine where nothing is installed. No script of a package is run.
func (r *run) rootfs(ctx context.Context) (int, error) {
	archives, root := filepath.Join(r.folder, "archives"), filepath.Join(r.folder, "root")
	status := filepath.Join(r.folder, "status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(filepath.Join(archives, "partial"), 0o755); err != nil {
		return 0, err
	}
	arguments := append([]string{"-qq", "--yes", "--no-install-recommends", "--download-only", "-o", "Dir::State::status=" + status,
		"-o", "Dir::Cache::archives=" + archives, "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "install"}, packages...)
	if _, err := out(ctx, "/", "apt-get", arguments...); err != nil {
		if _, updateErr := out(ctx, "/", "apt-get", "update", "-q"); updateErr != nil {
			return 0, fmt.Errorf("%w: no packages: %w", errNotRehearsed, updateErr)
		}
		if _, err := out(ctx, "/", "apt-get", arguments...); err != nil {
			return 0, fmt.Errorf("%w: no packages: %w", errNotRehearsed, err)
		}
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.MkdirAll(filepath.Join(root, "usr", name), 0o755); err != nil {
			return 0, err
		}
		if err := os.Symlink("usr/"+name, filepath.Join(root, name)); err != nil {
			return 0, err
		}
	}
	all, err := filepath.Glob(archives + "/*.deb")
	if err != nil {
		return 0, err
	}
	for _, archive := range all {
		unpack := `dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2" --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale`
		if _, err := out(ctx, "/", "sh", "-c", unpack, "sh", archive, root); err != nil {
			return 0, err
		}
	}
	if err := os.RemoveAll(archives); err != nil {
		return 0, err
	}
	return len(all), r.furnish(ctx, root)
}

// furnish adds what packages make in their scripts, and our own programs.
func (r *run) furnish(ctx context.Context, root string) error {
	image := filepath.Join(r.tree, "rehearsal", "image")
	for from, to := range map[string]string{"passwd": "etc/passwd", "group": "etc/group", "nginx.conf": "etc/nginx/nginx.conf", "searx.yml": "etc/searx/settings.yml"} {
		if err := copyFile(filepath.Join(image, from), filepath.Join(root, to), 0o644); err != nil {
			return err
		}
	}
	if err := copyFile(filepath.Join(r.folder, "standin"), filepath.Join(root, "rehearsal", "standin"), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"nginx", "postgres", "searx", "syncthing"} {
		if err := copyFile(filepath.Join(image, "bin", name), filepath.Join(root, "rehearsal", name), 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"clickhouse-client", "gitea"} {
		if err := copyFile(filepath.Join(image, "bin", name), filepath.Join(root, "usr/bin", name), 0o755); err != nil {
			return err
		}
	}
	lines := `cd "$1"
rm -f etc/nginx/conf.d/* etc/nginx/sites-enabled/* etc/nginx/modules-enabled/*
mkdir -p data root tmp proc sys dev run var/run var/syncthing prometheus etc/nginx/templates etc/nginx/snippets etc/nginx/tls
chmod 1777 tmp
mkdir -p var/lib/clickhouse
chown 1000:1000 data
chown 101:101 var/lib/clickhouse
for name in pg_isready pg_dump pg_restore psql; do ln -sf "../lib/postgresql/15/bin/$name" "usr/bin/$name"; done
ldconfig -r .`
	_, err := out(ctx, root, "sh", "-euc", lines, "sh", root)
	return err
}

func copyFile(from, to string, mode fs.FileMode) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.WriteFile(to, text, mode)
}

// dies has the kernel end a program when this one does, by whatever signal: outside of the
// world nothing else would, and the next run removes the folder that it writes to. The signal
// comes with the end of the thread that started it, and Go keeps those while the program runs.
func dies() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

func goBuild(ctx context.Context, folder, target, name string, flags ...string) error {
	arguments := append(append([]string{"build", "-trimpath", "-buildvcs=false"}, flags...), "-o", target, name)
	cmd := exec.CommandContext(ctx, "go", arguments...)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	cmd.SysProcAttr = dies()
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", name, err, tail(string(text), 3))
	}
	return nil
}

// out runs a program of the machine and returns what it wrote.
func out(ctx context.Context, folder, name string, arguments ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, arguments...)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "GOWORK=off")
	cmd.SysProcAttr = dies()
	text, err := cmd.CombinedOutput()
	if err != nil {
		return string(text), fmt.Errorf("%s: %w: %s", name, err, tail(string(text), 3))
	}
	return strings.TrimSpace(string(text)), nil
}
