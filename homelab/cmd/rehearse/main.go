// Rehearse deploys the homelab on this machine, breaks it, sees the verification name
// each fault, mends it, and leaves nothing behind.
//
//	go run ./cmd/rehearse
//
// All of it happens in a world of its own: a process with new mount, network and process
// namespaces, whose root is this machine's with everything written to memory. A Docker
// engine of Debian runs in there, with its own data, and the machine's own Docker,
// addresses, users and files are neither seen nor touched. When this program ends, by
// whatever signal, the kernel ends that world with all its processes, mounts and
// networks. What is left then is one folder on disk and the containers' cgroups; they
// are removed at the end, and after a kill by the next start, from a record in /run.
//
// It asks before it installs packages or starts Docker; CI=true is a yes. It refuses
// where a Tailscale interface is up. Where Docker or namespaces do not work its last line
// is NOT REHEARSED with the reason, and it ends with 0. It ends with 1 if a step failed.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"davidcockson.com/runner/homelab/internal/rehearsal"
)

// record is where a run notes what it makes on the machine. /run is empty after a reboot.
const record = "/run/homelab-rehearsal.json"

// errNotRehearsed wraps the reason why this machine cannot rehearse, which is no failure.
var errNotRehearsed = errors.New("NOT REHEARSED")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	var err error
	if len(os.Args) == 4 && os.Args[1] == "world" {
		if inWorld(ctx, os.Args[2], os.Args[3]) != nil {
			os.Exit(1) // the first process has the reason from a file, and says it
		}
	} else {
		err = rehearse(ctx)
	}
	stop()
	switch {
	case errors.Is(err, errNotRehearsed):
		fmt.Println(oneLine(err))
	case err != nil:
		fmt.Fprintln(os.Stderr, "rehearse:", err)
		os.Exit(1)
	}
}

// rehearse is the part that runs on the machine itself.
func rehearse(ctx context.Context) (err error) {
	if os.Getuid() != 0 {
		return fmt.Errorf("%w: it needs root, for Docker and for namespaces", errNotRehearsed)
	}
	if err := refuseTailscale(); err != nil {
		return err
	}
	tree, err := findTree()
	if err != nil {
		return err
	}
	if err := cleanLast(); err != nil {
		return err
	}
	if err := fits("/var/tmp", "/proc/meminfo"); err != nil {
		return err
	}
	if err := consent(); err != nil {
		return err
	}
	if err := install(ctx); err != nil {
		return err
	}
	// The record is there before the folder, so that no kill leaves one that nobody knows.
	folder := "/var/tmp/" + rehearsal.Prefix + "-" + strings.ToLower(rand.Text())
	started, err := rehearsal.StartOf(os.Getpid())
	if err != nil {
		return err
	}
	state := rehearsal.State{Folder: folder, Cgroups: filepath.Base(folder), PID: os.Getpid(), Started: started}
	if err := state.Save(record); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return errors.New("another rehearsal was started at the same time")
		}
		return err
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		return errors.Join(fmt.Errorf("make the folder of the run: %w", err), state.Remove(record))
	}
	run := &run{tree: tree, folder: folder, began: time.Now()}
	err = run.all(ctx)
	rows := run.rows()
	began := time.Now()
	cleaned := state.Remove(record)
	rows = append(rows, cleanRow(state, cleaned, time.Since(began)))
	fmt.Printf("\n%s\nin all %.0f s\n", rehearsal.Table(rows), time.Since(run.began).Seconds())
	if err == nil && rehearsal.Failed(rows) > 0 {
		err = fmt.Errorf("%d of %d steps failed", rehearsal.Failed(rows), len(rows))
	}
	return err
}

// refuseTailscale ends a run where the addresses that are rehearsed are real ones.
func refuseTailscale() error {
	tailnet := netip.MustParsePrefix("100.64.0.0/10")
	interfaces, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list the network interfaces: %w", err)
	}
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			return fmt.Errorf("list the addresses of %s: %w", i.Name, err)
		}
		var inTailnet bool
		for _, a := range addresses {
			prefix, err := netip.ParsePrefix(a.String())
			inTailnet = inTailnet || err == nil && tailnet.Contains(prefix.Addr())
		}
		if strings.HasPrefix(i.Name, "tailscale") || inTailnet {
			return fmt.Errorf("refused: %s is an interface of a real tailnet; rehearse on a machine that is in none", i.Name)
		}
	}
	return nil
}

// findTree is the folder homelab/ that the program is run in.
func findTree() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(folder, "rehearsal", "prod-services.yaml")); err != nil {
		return "", fmt.Errorf("run it in the folder homelab: %w", err)
	}
	return folder, nil
}

// cleanLast removes what an earlier run left. One that still runs is left alone.
func cleanLast() error {
	dropPolicy()
	if err := rehearsal.Litter(record); err != nil {
		return err
	}
	state, found, err := rehearsal.Load(record)
	if err != nil || !found {
		return err
	}
	if state.Alive() {
		return fmt.Errorf("a rehearsal runs already: process %d", state.PID)
	}
	fmt.Println("an earlier rehearsal was cut short; removing", state.Folder)
	// Its processes were told to end when it did, and may need a moment.
	for try := 0; ; try++ {
		if err = state.Remove(record); err == nil || try == 20 {
			return err
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// consent asks whether to go on; CI=true is a yes.
func consent() error {
	fmt.Println("A rehearsal starts a Docker engine and addresses of 100.64.0.0/24 in namespaces of its own.")
	if missing := missingPackages(); len(missing) > 0 {
		fmt.Println("It runs apt-get update, installs and leaves there:", strings.Join(missing, " "))
		fmt.Println("It starts none of their services; the next boot may.")
	}
	if os.Getenv("CI") == "true" {
		return nil
	}
	fmt.Print("Go on? [y/N] ")
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || !strings.EqualFold(strings.TrimSpace(line), "y") {
		return fmt.Errorf("%w: nobody said yes", errNotRehearsed)
	}
	return nil
}

// needed are Debian's packages by a program that each of them has.
var needed = map[string]string{
	"/usr/sbin/dockerd": "docker.io", "/usr/sbin/iptables": "iptables", "/usr/bin/ansible-playbook": "ansible",
	"/usr/bin/syncthing": "syncthing", "/usr/bin/openssl": "openssl", "/usr/bin/curl": "curl", "/usr/sbin/ip": "iproute2",
	"/usr/bin/dpkg-deb": "dpkg", "/usr/bin/git": "git", "/usr/bin/make": "make", "/usr/bin/restic": "restic",
}

func missingPackages() (missing []string) {
	for program, name := range needed {
		if _, err := os.Stat(program); err != nil {
			missing = append(missing, name)
		}
	}
	return missing
}

// policy is Debian's word on whether a package may start its services (invoke-rc.d(8)).
const policy, refusal = "/usr/sbin/policy-rc.d", "#!/bin/sh\n# homelab-rehearsal: nothing is started\nexit 101\n"

// install adds the packages that are missing, and starts nothing of them. A policy that the
// machine has already stays.
func install(ctx context.Context) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("%w: %s missing, and no apt-get", errNotRehearsed, strings.Join(missing, ", "))
	}
	if _, err := os.Stat(policy); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(policy, []byte(refusal), 0o755); err != nil {
			return err
		}
		defer dropPolicy()
	}
	for _, arguments := range [][]string{{"update", "-q"}, append([]string{"install", "-qq", "--yes", "--no-install-recommends"}, missing...)} {
		cmd := exec.CommandContext(ctx, "apt-get", arguments...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: apt-get %s: %v: %s", errNotRehearsed, arguments[0], err, tail(string(out), 2))
		}
	}
	return nil
}

// dropPolicy removes our own policy, also that of a run that was killed.
func dropPolicy() {
	if text, err := os.ReadFile(policy); err == nil && string(text) == refusal {
		if err := os.Remove(policy); err != nil {
			fmt.Println("left behind, so that packages start no service:", err)
		}
	}
}

func cleanRow(state rehearsal.State, err error, took time.Duration) rehearsal.Row {
	row := rehearsal.Row{Step: "clean up", Result: "pass", Took: took, Real: "real",
		Evidence: "the world ended; folder, cgroups and record are gone"}
	if err != nil {
		row.Result, row.Evidence = "FAIL", err.Error()
		return row
	}
	if _, err := os.Stat(state.Folder); err == nil {
		row.Result, row.Evidence = "FAIL", state.Folder+" is still there"
	}
	return row
}

// A run is one rehearsal, seen from the machine.
type run struct {
	tree, folder string
	began        time.Time
}

func (r *run) rows() (rows []rehearsal.Row) {
	text, err := os.ReadFile(filepath.Join(r.folder, "rows.json"))
	if err != nil {
		return nil // it ended before its first step
	}
	if err := json.Unmarshal(text, &rows); err != nil {
		return []rehearsal.Row{{Step: "read the steps", Result: "FAIL", Evidence: err.Error()}}
	}
	return rows
}

// all probes the machine, makes what the world needs, and plays.
func (r *run) all(ctx context.Context) error {
	probe, cancel := context.WithTimeout(ctx, 30*time.Second)
	err := r.world(probe, "probe")
	cancel()
	if ctx.Err() != nil {
		return fmt.Errorf("cut short: %w", ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotRehearsed, r.reason(err))
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if err := r.world(ctx, "play"); err != nil {
		return r.reason(err)
	}
	return nil
}

// reason is what the world said before it ended, if it said anything.
func (r *run) reason(err error) error {
	text, readErr := os.ReadFile(filepath.Join(r.folder, "reason"))
	if readErr != nil {
		return err
	}
	return errors.New(strings.TrimSpace(string(text)))
}

// world runs this program again in new namespaces, and ends with it. The kernel kills that
// process when this thread ends, and all that it started with it.
func (r *run) world(ctx context.Context, what string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "world", what, r.folder)
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.tree, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", what, errors.Join(err, ctx.Err()))
	}
	return nil
}

// oneLine is an error in one line, since the last line of a run is its word.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", " / ") }

// tail is the last lines of a text, in one line.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], " / ")
}
