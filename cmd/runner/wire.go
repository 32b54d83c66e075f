package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"
	_ "time/tzdata" // zones, where the machine has none

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/health"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/metrics"
	"davidcockson.com/runner/internal/notify"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/provider/echo"
	"davidcockson.com/runner/internal/provider/gemini"
	"davidcockson.com/runner/internal/provider/ollama"
	"davidcockson.com/runner/internal/provider/openai"
	"davidcockson.com/runner/internal/trace"
	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/worker"
)

// version is set by the build.
var version = ""

func theVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

const (
	ledgerFile     = "ledger.db"
	socketFile     = "runner.sock"
	workerLockFile = "worker.lock"
	stateIDKey     = "state_id"
	pollEvery      = time.Second
	eventsKept     = 256
)

// node is the process that holds the vault, all its parts built.
type node struct {
	conf    *config.Config
	log     *slog.Logger
	vault   *vault.Vault
	ledger  *ledger.Ledger
	hub     *live.Hub
	arbiter *provider.Arbiter
	worker  *worker.Worker
	metrics *metrics.Metrics
	health  *health.Checker
	hosts   []ask.Host
	// room is nil where the control room is not in this process, worker where it is
	// alone.
	room *room
	// tracer, discord and outbox are nil where nothing is configured.
	tracer  *trace.Tracer
	discord *notify.Discord
	outbox  *notify.Outbox
	close   []func() error
}

// Close gives everything back, the last first.
func (n *node) Close() error {
	var all []error
	for i := len(n.close) - 1; i >= 0; i-- {
		all = append(all, n.close[i]())
	}
	return errors.Join(all...)
}

func logger(conf *config.Config, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: conf.LogLevel}
	if conf.Log == config.LogJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// build makes the worker and what it needs, out of the configuration.
func build(ctx context.Context, conf *config.Config, takeOver bool, stderr io.Writer) (n *node, err error) {
	n = &node{conf: conf, log: logger(conf, stderr)}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	lock, err := openState(conf.StateDir)
	if err != nil {
		return n, err
	}
	n.close = append(n.close, lock.Close)
	if n.vault, err = vault.Open(conf.Vault); err != nil {
		return n, fmt.Errorf("open the vault: %w; `runner init` makes it", err)
	}
	n.close = append(n.close, n.vault.Close)
	if n.ledger, err = ledger.Open(ctx, filepath.Join(conf.StateDir, ledgerFile)); err != nil {
		return n, err
	}
	n.close = append(n.close, n.ledger.Close)
	stateID, err := n.ledger.Meta(ctx, stateIDKey)
	if err != nil {
		return n, err
	}
	if stateID == "" {
		stateID = job.NewRun() + job.NewRun()
		if err := n.ledger.SetMeta(ctx, stateIDKey, stateID); err != nil {
			return n, err
		}
	}
	if err := n.ask(); err != nil {
		return n, err
	}
	if err := n.traces(); err != nil {
		return n, err
	}
	if err := n.pings(); err != nil {
		return n, err
	}
	events, stop, err := watch(n.vault, conf.Vault, n.log)
	if err != nil {
		n.log.Warn("no file events; the queue is polled only", "every", pollEvery, "error", err)
	} else {
		n.close = append(n.close, stop)
	}
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "unknown"
	}
	n.worker = worker.New(worker.Options{
		Vault: n.vault, Ledger: n.ledger, Hosts: n.hosts, Arbiter: n.arbiter, Hub: n.hub, Location: conf.Timezone,
		Guard: conf.Guard, Concurrency: conf.Concurrency, JobLimit: conf.Deadlines.Job, Grace: conf.Grace,
		Hostname: hostname, Version: theVersion(), StateID: stateID, TakeOver: takeOver,
		StateFree: func() (int64, error) { return free(conf.StateDir) },
		Watch:     events, Poll: pollEvery, Log: n.log,
		Caps:   caps(conf),
		Tracer: n.tracer, Metrics: n.metrics, Outbox: n.outbox, VaultName: conf.VaultName,
	})
	n.metrics.Watch(n.worker.Snapshot)
	n.health = health.New(theVersion(), n.probes()...)
	return n, nil
}

// openState makes or tightens the state folder and takes its lock: one worker
// for each.
func openState(dir string) (*os.File, error) {
	if err := privateState(dir); err != nil {
		return nil, err
	}
	return lockFile(dir, workerLockFile, "another worker runs with the state folder %s; stop it first, or use `runner list` to ask it")
}

// privateState makes or tightens the state folder.
func privateState(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("make the state folder private: %w", err)
	}
	return nil
}

// lockFile takes a lock of the state folder, one process of a kind for each; taken
// is the error where another has it, with the folder's place in it.
func lockFile(dir, name, taken string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock %s: %w", name, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf(taken, dir)
		}
		return nil, fmt.Errorf("lock the state folder %s: %w", dir, err)
	}
	return f, nil
}

// free is the space left on a folder's disk, in bytes.
func free(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// roster is the configured hosts as rules and prices know them, without the providers
// that ask them: it needs no secret.
func roster(conf *config.Config) []ask.Host {
	var hosts []ask.Host
	for _, p := range conf.Providers {
		h := ask.Host{Name: p.Name, Kind: string(p.Kind), Probed: p.Kind != config.Echo, Patient: p.Offline == config.Wait, Paid: paid(p.Kind), Prices: make(map[string]ledger.Price)}
		for _, m := range p.Models {
			h.Models = append(h.Models, m.Name)
			if m.USDIn != nil && m.USDOut != nil {
				h.Prices[m.Name] = ledger.Price{In: *m.USDIn, Out: *m.USDOut}
			}
		}
		if p.Kind == config.Echo && len(h.Models) == 0 {
			h.Models = []string{echo.Echo, echo.Slow, echo.Cut, echo.Busy, echo.Silent}
		}
		hosts = append(hosts, h)
	}
	return hosts
}

// providers builds each configured provider. A new kind is one case here. slow
// tells that a provider asked for a pause; nil ignores it.
func providers(conf *config.Config, slow func(name string, p provider.Pace)) ([]ask.Host, map[string]int, error) {
	deadlines := provider.DefaultDeadlines()
	deadlines.Connect, deadlines.Load = conf.Deadlines.Connect, conf.Deadlines.Load
	deadlines.FirstByte, deadlines.Silence = conf.Deadlines.FirstByte, conf.Deadlines.Silence
	limits := make(map[string]int)
	hosts := roster(conf)
	for i, p := range conf.Providers {
		h := &hosts[i]
		contexts := make(map[string]int)
		for _, m := range p.Models {
			if m.NumCtx > 0 {
				contexts[m.Name] = m.NumCtx
			}
		}
		paced := func(pace provider.Pace) {
			if slow != nil {
				slow(p.Name, pace)
			}
		}
		var err error
		switch p.Kind {
		case config.Echo:
			h.Provider = echo.New(p.Name, deadlines)
		case config.Ollama:
			h.Provider, err = ollama.New(ollama.Config{Name: p.Name, URL: p.URL, Key: p.Key, Deadlines: deadlines, Contexts: contexts, Version: theVersion()})
		case config.OpenAI:
			h.Provider, err = openai.New(openai.Config{Name: p.Name, BaseURL: p.URL, Key: p.Key, Deadlines: deadlines, Version: theVersion(), Paced: paced})
		case config.Gemini:
			h.Provider, err = gemini.New(gemini.Config{Name: p.Name, BaseURL: p.URL, Key: p.Key, Deadlines: deadlines, Version: theVersion(), Paced: paced})
		}
		if err != nil {
			return nil, nil, fmt.Errorf("provider %s: %w", p.Name, err)
		}
		limits[p.Name] = p.Concurrency
	}
	return hosts, limits, nil
}

// ask builds what asks: the providers and the places at them, the hub in which
// running answers are shown, and what counts them.
func (n *node) ask() error {
	hosts, limits, err := providers(n.conf, func(name string, p provider.Pace) {
		n.log.Warn("a provider asks for a pause", "provider", name, "until", p.Until, "reason", p.Reason)
		n.arbiter.Slow(name, p.Until, p.Reason)
	})
	if err != nil {
		return configError{err}
	}
	n.hosts, n.arbiter = hosts, provider.NewArbiter(limits, time.Now)
	n.metrics, n.hub = metrics.New(theVersion()), live.NewHub(eventsKept, time.Now)
	return nil
}

// traces builds what traces the calls.
func (n *node) traces() error {
	c := n.conf.Langfuse
	if c.Host == "" {
		return nil
	}
	var err error
	n.tracer, err = trace.New(trace.Options{Host: c.Host, PublicKey: c.PublicKey, SecretKey: c.SecretKey, Content: c.Content == config.ContentFull,
		Version: theVersion(), Release: theVersion(), Environment: "production", Log: n.log})
	if err != nil {
		return configError{err}
	}
	n.close = append(n.close, func() error { n.flush(); return nil })
	return nil
}

// flush sends the last traces, within its own limit. A second one does nothing.
func (n *node) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	if err := n.tracer.Shutdown(ctx); err != nil {
		n.log.Warn("not all traces were sent before the end", "error", err)
	}
}

// pings builds what tells the owner how jobs end.
func (n *node) pings() error {
	if n.conf.Discord.Webhook.IsZero() {
		return nil
	}
	var err error
	if n.discord, err = notify.NewDiscord(n.conf.Discord.Webhook, theVersion()); err != nil {
		return configError{err}
	}
	n.outbox = notify.NewOutbox(n.ledger, n.discord, n.log)
	return nil
}

// flushTime is how long a stop waits for the last traces to be sent.
const flushTime = 3 * time.Second
