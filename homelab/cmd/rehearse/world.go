package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"davidcockson.com/runner/homelab/internal/rehearsal"
)

// A world is the machine as the rehearsal sees it: this program is its first process.
type world struct {
	tree, folder string
	group        string // the cgroup of all containers
	rows         []rehearsal.Row
	environment  []string

	truly           map[string]bool // the images of registries that are there, by name
	provider, model string          // who answers the job and the chat that are looked at
	booting         chan error      // how the boot script ended that waits for the tailnet
	rightSecrets    []byte          // the vault's file, while it holds a wrong one
	shown           string          // of an answer, before runner was killed
}

// inWorld is what the second process does. What it returns is also written down for the
// first one.
func inWorld(ctx context.Context, what, folder string) error {
	tree, err := os.Getwd()
	if err != nil {
		return err
	}
	w := &world{tree: tree, folder: folder, group: filepath.Base(folder)}
	if text, err := os.ReadFile(filepath.Join(folder, "rows.json")); err == nil {
		if err := json.Unmarshal(text, &w.rows); err != nil {
			return fmt.Errorf("read the steps so far: %w", err)
		}
	}
	if err = w.enter(); err == nil {
		switch what {
		case "probe":
			err = w.step(ctx, "probe", "real", w.probe)
		case "play":
			err = w.play(ctx)
		default:
			err = fmt.Errorf("a world has no %q", what)
		}
	}
	if err != nil {
		return writeReason(w.folder, err)
	}
	return nil
}

func writeReason(folder string, err error) error {
	if writeErr := os.WriteFile(filepath.Join(folder, "reason"), []byte(err.Error()), 0o600); writeErr != nil {
		return fmt.Errorf("%w (and its reason could not be kept: %v)", err, writeErr)
	}
	return err
}

// step does one step, keeps its row, and returns its error.
func (w *world) step(ctx context.Context, name, real string, do func(context.Context) (string, error)) error {
	fmt.Printf("== %s\n", name)
	began := time.Now()
	evidence, err := do(ctx)
	row := rehearsal.Row{Step: name, Result: "pass", Evidence: evidence, Took: time.Since(began), Real: real}
	if err != nil {
		row.Result, row.Evidence = "FAIL", err.Error()
	}
	w.rows = append(w.rows, row)
	text, marshalErr := json.Marshal(w.rows)
	if marshalErr != nil {
		return marshalErr
	}
	if writeErr := os.WriteFile(filepath.Join(w.folder, "rows.json"), text, 0o600); writeErr != nil {
		return fmt.Errorf("keep the step: %w", writeErr)
	}
	fmt.Printf("   %s, %.1f s: %s\n", row.Result, row.Took.Seconds(), row.Evidence)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// enter makes the machine's root, as it is, the lower layer of one in memory, and steps
// into that one. Docker's data stay on disk, since an engine's layers cannot lie on another
// overlay.
func (w *world) enter() error {
	type mount struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}
	const root = "/mnt" // this process's own: mounts of other processes do not change
	layers := w.folder + "/layers"
	for _, m := range []mount{
		{"", "/", "", syscall.MS_REC | syscall.MS_PRIVATE, ""},
		{"tmpfs", layers, "tmpfs", 0, "mode=755"},
		{"overlay", root, "overlay", 0, "lowerdir=/,upperdir=" + layers + "/upper,workdir=" + layers + "/work"},
		{"proc", root + "/proc", "proc", 0, ""},
		{"sysfs", root + "/sys", "sysfs", 0, ""},
		{"/sys/fs/cgroup", root + "/sys/fs/cgroup", "", syscall.MS_BIND | syscall.MS_REC, ""},
		{"/dev", root + "/dev", "", syscall.MS_BIND | syscall.MS_REC, ""},
		{"tmpfs", root + "/run", "tmpfs", 0, "mode=755"},
		{w.folder, root + "/rehearsal/disk", "", syscall.MS_BIND, ""},
	} {
		if m.target == root {
			for _, name := range []string{"/upper", "/work"} {
				if err := os.MkdirAll(layers+name, 0o755); err != nil {
					return err
				}
			}
		} else if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	// Where the tree or Go's folders are not on the root's own disk they are not in the layer
	// below. What is written to the tree stays in memory there too; Go may fill its own.
	if err := showForeign(root, filepath.Clean(w.tree+"/.."), func(folder, at string) error {
		for _, name := range []string{"/tree", "/tree-work"} {
			if err := os.MkdirAll(layers+name, 0o755); err != nil {
				return err
			}
		}
		return syscall.Mount("overlay", at, "overlay", 0, "lowerdir="+folder+",upperdir="+layers+"/tree,workdir="+layers+"/tree-work")
	}); err != nil {
		return err
	}
	for _, folder := range []string{goPath(), goCache(), goRoot()} {
		if err := showForeign(root, filepath.Clean(folder), func(folder, at string) error {
			return syscall.Mount(folder, at, "", syscall.MS_BIND|syscall.MS_REC, "")
		}); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(root+"/oldroot", 0o700); err != nil {
		return err
	}
	if err := syscall.PivotRoot(root, root+"/oldroot"); err != nil {
		return fmt.Errorf("step into the world: %w", err)
	}
	if err := syscall.Unmount("/oldroot", syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the machine's own root: %w", err)
	}
	// Containers may mount the root, if mounts in it come through to them.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share the root's mounts: %w", err)
	}
	w.folder = "/rehearsal/disk"
	if err := os.Chdir(w.tree); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte("rehearsal")); err != nil {
		return err
	}
	return w.setUp()
}

// setUp writes the few programs and the environment that all commands of the world share.
func (w *world) setUp() error {
	for _, folder := range []string{"/rehearsal/bin", "/rehearsal/home/tmp", "/usr/local/lib/docker/cli-plugins", "/run/netns"} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/rehearsal/daemon.json", []byte("{}"), 0o644); err != nil {
		return err
	}
	if err := os.Symlink("/usr/bin/docker", "/rehearsal/bin/docker"); err != nil {
		return err
	}
	var kept []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		foreign := strings.HasPrefix(name, "ANSIBLE_") || strings.HasPrefix(name, "DOCKER_") || strings.HasPrefix(name, "COMPOSE_")
		if !foreign && name != "HOME" && name != "PATH" && name != "TMPDIR" {
			kept = append(kept, entry)
		}
	}
	w.environment = append(kept, "HOME=/rehearsal/home", "PATH=/rehearsal/bin:"+os.Getenv("PATH"),
		"GOPATH="+goPath(), "GOCACHE="+goCache(), "GOFLAGS=-buildvcs=false", "DOCKER_BUILDKIT=0",
		"ANSIBLE_LOCALHOST_WARNING=false", "ANSIBLE_NOCOLOR=true", "ANSIBLE_BECOME_METHOD=su",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	return nil
}

// showForeign mounts a folder that is on another disk than the root.
func showForeign(root, folder string, mount func(folder, at string) error) error {
	var here, there syscall.Stat_t
	if err := syscall.Stat("/", &here); err != nil {
		return err
	}
	if err := syscall.Stat(folder, &there); err != nil || here.Dev == there.Dev {
		return nil // not there at all, or in the layer below already
	}
	if err := os.MkdirAll(root+folder, 0o755); err != nil {
		return err
	}
	if err := mount(folder, root+folder); err != nil {
		return fmt.Errorf("show %s to the world: %w", folder, err)
	}
	return nil
}

func goPath() string  { return goEnv("GOPATH") }
func goCache() string { return goEnv("GOCACHE") }
func goRoot() string  { return goEnv("GOROOT") }

// goEnv asks Go. Without an answer there is no folder, and the build says what is missing.
func goEnv(name string) string {
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// command is a program in the world.
func (w *world) command(ctx context.Context, name string, arguments ...string) *exec.Cmd {
	if program, err := exec.LookPath("/rehearsal/bin/" + name); err == nil {
		name = program
	}
	cmd := exec.CommandContext(ctx, name, arguments...)
	cmd.Env = w.environment
	return cmd
}

// do runs a program and returns what it wrote; its error has the last of it.
func (w *world) do(ctx context.Context, name string, arguments ...string) (string, error) {
	out, err := w.command(ctx, name, arguments...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(arguments, " "), err, tail(string(out), 3))
	}
	return strings.TrimSpace(string(out)), nil
}

// doAll runs programs one after the other until one fails; each is a line of words.
func (w *world) doAll(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		if _, err := w.do(ctx, words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}
