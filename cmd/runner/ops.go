package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/health"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/notify"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/trace"
)

// serveOps serves metrics and health on ops_listen until ctx ends. They show no
// text of a note or an answer.
func (n *node) serveOps(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", n.metrics.Handler())
	mux.Handle("GET /health", n.health.Handler())
	mux.Handle("GET /healthz", n.health.Live())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelWarn)}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", n.conf.OpsListen)
	if err != nil {
		return fmt.Errorf("listen on ops_listen: %w; choose another address, or stop who has it", err)
	}
	n.log.Info("metrics and health are served", "address", listener.Addr().String())
	stop := context.AfterFunc(ctx, func() {
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(short) != nil {
			server.Close()
		}
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics and health: %w", err)
	}
	return nil
}

// probes lists what health looks at. None of them spends a token.
func (n *node) probes() []health.Probe {
	var office control.Office = control.Dial(filepath.Join(n.conf.StateDir, socketFile))
	if n.worker != nil {
		office = n.worker
	}
	all := []health.Probe{
		{Name: "worker", Core: true, Advice: "start it with `runner worker` or `runner up`; if it runs, its log says why it does not answer", Check: func(ctx context.Context) (string, error) {
			s, err := office.Status(ctx)
			switch {
			case err != nil:
				return "", err
			case !s.Claiming:
				return "", &health.Problem{State: health.Failing, Reason: "claims nothing: " + s.Reason, Advice: "mend what it says: it goes on by itself"}
			case time.Since(s.LastPoll) > pollOverdue:
				return "", &health.Problem{State: health.Failing, Reason: "has not looked at the queue for " + time.Since(s.LastPoll).Round(time.Second).String(),
					Advice: "look at the worker's log and at the vault's disk, then start it anew"}
			}
			return "looks at the queue", nil
		}},
		{Name: "vault", Core: true, Advice: "mend it: `runner check` says the same at once", Check: func(context.Context) (string, error) {
			for _, f := range checkVault(n.conf) {
				if !f.OK {
					return "", &health.Problem{State: health.Failing, Reason: f.What + ": " + f.Text}
				}
			}
			return "", nil
		}},
		{Name: "ledger", Core: true, Advice: "look at the state folder's disk, then start runner anew", Check: func(ctx context.Context) (string, error) {
			_, err := n.ledger.Meta(ctx, stateIDKey)
			return "", err
		}},
		{Name: "disk", Core: true, Advice: "make room on the disk of the state folder", Check: func(context.Context) (string, error) {
			if f := checkSpace("state folder's disk", n.conf.StateDir); !f.OK {
				return "", &health.Problem{State: health.Failing, Reason: f.Text}
			}
			return "", nil
		}},
	}
	for _, h := range n.hosts {
		all = append(all, health.Probe{Name: "provider " + h.Name, Advice: provider.Unreachable.Advice(), Check: func(ctx context.Context) (string, error) { return n.probeProvider(ctx, h) }})
	}
	return append(all, n.services()...)
}

// probeProvider asks for the list of models, which is free everywhere. What it finds
// counts for the worker too.
func (n *node) probeProvider(ctx context.Context, h ask.Host) (string, error) {
	models, err := h.Provider.Models(ctx)
	if n.worker != nil {
		n.worker.Heard(ctx, h.Name, err)
	}
	var e *provider.Error
	if err != nil {
		since, failed := n.ledger.Away(context.WithoutCancel(ctx), h.Name, time.Now())
		if failed != nil {
			n.log.Error("remember since when a provider is away", "provider", h.Name, "error", failed)
		}
		if !errors.As(err, &e) {
			e = &provider.Error{Kind: provider.Unreachable, Reason: err.Error()}
		}
		problem := &health.Problem{State: health.State(e.Kind.Word()), Reason: e.Reason, Advice: e.Advise()}
		if problem.State == provider.WordUnreachable {
			problem.State, problem.Since = health.Down, since
		}
		return "", problem
	}
	if err := n.ledger.Back(ctx, h.Name); err != nil {
		n.log.Error("remember that a provider is back", "provider", h.Name, "error", err)
	}
	ok, text := compareModels(h.Models, models)
	if !ok {
		return "", &health.Problem{State: health.ModelMissing, Reason: text, Advice: "install the model there, or take it out of the config"}
	}
	var loaded []string
	for _, m := range models {
		if m.Loaded {
			loaded = append(loaded, m.Name)
		}
	}
	if len(loaded) > 0 && len(loaded) < len(models) {
		text += ", loaded: " + strings.Join(loaded, ", ")
	}
	return text, nil
}

// services are the parts that jobs can do without.
func (n *node) services() []health.Probe {
	discord, langfuse := health.Probe{Name: "discord", Advice: "nothing if it passes: pings are sent again; else look at the network and the webhook"},
		health.Probe{Name: "langfuse", Advice: "start it, or correct langfuse.host in the config; jobs go on without"}
	if n.outbox != nil {
		discord.Check = func(context.Context) (string, error) {
			s := n.outbox.Status()
			switch {
			case s.Gone:
				return "", &health.Problem{State: health.WrongKey, Reason: "the webhook does not exist any more; nothing is sent", Advice: "make a new webhook, put it into the config and start again"}
			case s.LastError != "":
				return "", &health.Problem{State: health.Failing, Reason: fmt.Sprintf("the last ping was not taken (%s); %d wait", s.LastError, s.Queued)}
			}
			return fmt.Sprintf("pings: %d sent, %d wait", s.Sent, s.Queued), nil
		}
	}
	if n.outbox == nil && n.discord == nil && !n.conf.Discord.Webhook.IsZero() {
		hook, err := notify.NewDiscord(n.conf.Discord.Webhook, theVersion())
		discord.Check = func(ctx context.Context) (string, error) {
			if err != nil {
				return "", &health.Problem{State: health.Failing, Reason: err.Error(), Advice: "correct discord.webhook in the config"}
			}
			return n.pingsElsewhere(ctx, hook)
		}
	}
	if n.tracer != nil {
		langfuse.Check = func(ctx context.Context) (string, error) {
			err := n.tracer.Check(ctx)
			s := n.tracer.Stats()
			if errors.Is(err, trace.ErrKeys) {
				return "", &health.Problem{State: health.WrongKey, Reason: err.Error(), Advice: "look at langfuse.public_key and the secret key in the config"}
			}
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%d spans sent, %d failed, %d dropped, %d wait", s.Sent, s.Failed, s.Dropped, s.Queued), nil
		}
	}
	return []health.Probe{discord, langfuse,
		webProbe("qdrant", n.conf.Services.Qdrant, "/healthz"), webProbe("searxng", n.conf.Services.SearXNG, "/healthz")}
}

// pingsElsewhere tells how the pings are that the worker's process sends: what the
// ledger knows of them, and whether the webhook is there.
func (n *node) pingsElsewhere(ctx context.Context, hook *notify.Discord) (string, error) {
	counts, err := n.ledger.PingCounts(ctx)
	if err != nil {
		return "", err
	}
	next, err := n.ledger.NextPing(ctx)
	if err != nil && !errors.Is(err, ledger.ErrNoPing) {
		return "", err
	}
	if next.Tries > 0 {
		return "", &health.Problem{State: health.Failing, Reason: fmt.Sprintf("the oldest ping was not taken in %d tries; %d wait", next.Tries, counts.Queued)}
	}
	if err := hook.Check(ctx); err != nil {
		if _, gone := errors.AsType[*notify.GoneError](err); gone {
			return "", &health.Problem{State: health.WrongKey, Reason: "the webhook does not exist any more; nothing is sent", Advice: "make a new webhook, put it into the config and start again"}
		}
		return "", err
	}
	return fmt.Sprintf("pings: %d sent, %d wait, by the worker's process", counts.Sent, counts.Queued), nil
}

// webhook asks whether Discord's webhook is there.
func (n *node) webhook(ctx context.Context) (string, error) { return "is there", n.discord.Check(ctx) }

// webProbe wants a 2xx from a path of a service.
func webProbe(name, base, path string) health.Probe {
	p := health.Probe{Name: name, Advice: "start it, or correct services." + name + " in the config; jobs that do not need it go on"}
	if base == "" {
		return p
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true}}
	p.Check = func(ctx context.Context) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			return "", errors.New("its URL cannot be asked")
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", errors.New("no answer") // the error itself would show the URL
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)); err != nil {
			return "", errors.New("its answer broke off")
		}
		switch {
		case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
			return "", &health.Problem{State: health.WrongKey, Reason: "it answers " + resp.Status, Advice: "let " + path + " be asked without a key: none is sent"}
		case resp.StatusCode >= 300:
			return "", &health.Problem{State: health.Failing, Reason: "it answers " + resp.Status}
		}
		return "", nil
	}
	return p
}

// paid says that calls to providers of a kind count for the caps.
func paid(k config.Kind) bool { return k == config.OpenAI || k == config.Gemini }
