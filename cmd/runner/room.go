package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"davidcockson.com/runner/internal/access"
	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/chat"
	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
	"davidcockson.com/runner/internal/vault"
	"davidcockson.com/runner/internal/web"
	"davidcockson.com/runner/internal/worker"
)

const (
	historyFile = "history.db"
	tokenFile   = "token"
	webLockFile = "web.lock"
	// deletedKept is how long a deleted conversation can be brought back.
	deletedKept = 30 * 24 * time.Hour
)

// room is the control room, all its parts built.
type room struct {
	n        *node
	history  *history.History
	chat     *chat.Chat
	gate     *access.Gate
	app      *web.App
	listener net.Listener
}

// addRoom builds the control room into a node. jobs is who answers for the queue,
// places who gives out places.
func (n *node) addRoom(ctx context.Context, jobs web.Jobs, places chat.Places) error {
	lock, err := lockFile(n.conf.StateDir, webLockFile, "another control room runs with the state folder %s; stop it first")
	if err != nil {
		return err
	}
	n.close = append(n.close, lock.Close)
	r := &room{n: n}
	if r.history, err = history.Open(ctx, filepath.Join(n.conf.StateDir, historyFile)); err != nil {
		return err
	}
	r.history.Log = n.log
	n.close = append(n.close, r.history.Close)
	if r.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", n.conf.Listen); err != nil {
		return fmt.Errorf("listen on `listen`: %w; choose another address, or stop who has it", err)
	}
	n.close = append(n.close, func() error {
		if err := r.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) { // the server has closed it
			return err
		}
		return nil
	})
	r.gate, err = access.New(ctx, access.Options{
		PublicURL: n.conf.PublicURL, Hosts: n.conf.Hosts, Listen: r.listener.Addr().String(), Team: n.conf.Access.Team, Aud: n.conf.Access.Aud,
		PasswordFile: n.conf.Auth.PasswordFile, TokenFile: n.conf.Auth.TokenFile, StateToken: filepath.Join(n.conf.StateDir, tokenFile),
		Sessions: sessions{r.history}, Log: n.log})
	if err != nil {
		return configError{err}
	}
	r.chat = chat.New(chat.Options{History: r.history, Ledger: n.ledger, Hub: n.hub, Hosts: n.hosts, Places: places,
		Asker:  &ask.Asker{Caps: caps(n.conf), Location: n.conf.Timezone, Tracer: n.tracer, Metrics: n.metrics, Log: n.log},
		Tracer: n.tracer, Limit: n.conf.Deadlines.Job, Grace: n.conf.Grace, Location: n.conf.Timezone, Log: n.log, Context: contexts(n.conf)})
	r.app, err = web.New(web.Options{Chat: r.chat, History: r.history, Hub: n.hub, Roster: chat.NewRoster(n.hosts, n.ledger, n.log), Jobs: jobs, Health: n.health.Report, Gate: r.gate, Metrics: n.metrics.Handler(),
		TraceLink: n.tracer.Link, VaultName: n.conf.VaultName, Location: n.conf.Timezone, Version: theVersion(), Log: n.log})
	if err != nil {
		return err
	}
	n.room = r
	return nil
}

// serve serves the control room until ctx ends.
func (r *room) serve(ctx context.Context, out io.Writer) error {
	address := r.listener.Addr().String()
	r.n.log.Info("the control room is served", "address", address)
	if link := r.gate.Link(); link != "" {
		fmt.Fprintf(out, "The control room: %s\n", link)
	} else if r.n.conf.PublicURL != "" {
		fmt.Fprintf(out, "The control room: %s\n", r.n.conf.PublicURL)
	} else {
		fmt.Fprintf(out, "The control room: http://%s/\n", address)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.app.Serve(ctx, r.listener) })
	group.Go(func() error { return r.history.Run(ctx) })
	group.Go(func() error { return r.tidy(ctx) })
	return group.Wait()
}

// tidy removes what is no longer needed, once a day.
func (r *room) tidy(ctx context.Context) error {
	day := time.NewTicker(24 * time.Hour)
	defer day.Stop()
	for {
		now := time.Now()
		if _, err := r.history.Purge(ctx, now.Add(-deletedKept)); err != nil && ctx.Err() == nil {
			r.n.log.Error("remove deleted conversations", "error", err)
		}
		if err := r.history.PurgeSessions(ctx, now); err != nil && ctx.Err() == nil {
			r.n.log.Error("remove old sessions", "error", err)
		}
		select {
		case <-day.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func caps(conf *config.Config) ledger.Caps {
	return ledger.Caps{JobTokens: conf.Caps.JobTokens, DayTokens: conf.Caps.DayTokens, JobUSD: conf.Caps.JobUSD, DayUSD: conf.Caps.DayUSD}
}

// contexts tells the size of a model's context as configured.
func contexts(conf *config.Config) func(providerName, model string) int {
	return func(providerName, model string) int {
		p, _ := conf.Provider(providerName)
		for _, m := range p.Models {
			if strings.EqualFold(strings.TrimSuffix(m.Name, ":latest"), strings.TrimSuffix(model, ":latest")) {
				return m.NumCtx
			}
		}
		return 0
	}
}

// sessions keeps access's sessions in the history's file.
type sessions struct{ history *history.History }

func (s sessions) SaveSession(ctx context.Context, v access.Session) error {
	return s.history.SaveSession(ctx, history.Session(v))
}

func (s sessions) Session(ctx context.Context, hash string) (access.Session, bool, error) {
	v, err := s.history.Session(ctx, hash)
	if errors.Is(err, history.ErrNoSession) {
		return access.Session{}, false, nil
	}
	return access.Session(v), err == nil, err
}

func (s sessions) TouchSession(ctx context.Context, hash string, seen, expires time.Time) error {
	return ignoreGone(s.history.TouchSession(ctx, hash, seen, expires))
}

func (s sessions) DeleteSession(ctx context.Context, hash string) error {
	return ignoreGone(s.history.DeleteSession(ctx, hash))
}

func ignoreGone(err error) error {
	if errors.Is(err, history.ErrNoSession) {
		return nil
	}
	return err
}

// desk is what the queue panel asks, whoever holds the vault.
type desk struct {
	control.Office
	vault *vault.Vault
	rules job.Rules
}

// Submit puts a note into the queue.
func (d desk) Submit(_ context.Context, fields []note.KV, body string) (id, path string, err error) {
	return queue.Submit(d.vault, d.rules, fields, body, time.Now())
}

// previewMost bounds what is read of an output for a preview, in bytes.
const previewMost = 4 << 20

// Preview is the beginning of a note's text.
func (d desk) Preview(_ context.Context, path string, bytes int) (string, bool, error) {
	data, _, err := d.vault.Read(path, previewMost)
	if err != nil {
		return "", false, err
	}
	text, _ := belowProperties(string(data))
	if len(text) <= bytes {
		return text, true, nil
	}
	return strings.ToValidUTF8(text[:bytes], ""), false, nil
}

// hereDesk is the desk of the process that holds the vault itself.
type hereDesk struct {
	desk
	hub *live.Hub
}

// Events follows a job's stream, or all of them.
func (d hereDesk) Events(ctx context.Context, topic string, after uint64) iter.Seq2[live.Item, error] {
	return func(yield func(live.Item, error) bool) {
		reader := d.hub.SubscribeAll(after)
		if topic != "" {
			var err error
			if reader, err = d.hub.Subscribe(topic, after); err != nil {
				yield(live.Item{}, err)
				return
			}
		}
		for {
			items, err := reader.Next(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(live.Item{}, err)
				return
			}
			for _, it := range items {
				if !yield(it, nil) {
					return
				}
			}
		}
	}
}

// farDesk is the desk of a process beside the worker's. Without a worker it tells
// what the ledger and the folders know.
type farDesk struct {
	desk
	client *control.Client
	ledger *ledger.Ledger
}

// List lists jobs.
func (d farDesk) List(ctx context.Context, f control.Filter) ([]control.Job, error) {
	jobs, err := d.client.List(ctx, f)
	if errors.Is(err, control.ErrNoWorker) {
		return worker.Listing(ctx, d.ledger, d.vault, f)
	}
	return jobs, err
}

// Show tells all of one job.
func (d farDesk) Show(ctx context.Context, ref string) (control.Detail, error) {
	detail, err := d.client.Show(ctx, ref)
	if errors.Is(err, control.ErrNoWorker) {
		return worker.Detailed(ctx, d.ledger, ref)
	}
	return detail, err
}

// Events follows what the worker does.
func (d farDesk) Events(ctx context.Context, topic string, after uint64) iter.Seq2[live.Item, error] {
	return d.client.Events(ctx, topic, after)
}

// herePlaces gives out places of the arbiter in this process.
type herePlaces struct{ arbiter *provider.Arbiter }

// Acquire waits for a place.
func (p herePlaces) Acquire(ctx context.Context, name string, class provider.Class, who string) (func(), error) {
	place, err := p.arbiter.Acquire(ctx, name, class, who)
	if err != nil {
		return nil, err
	}
	return place.Release, nil
}

// Lines tells who has a place and who waits.
func (p herePlaces) Lines(context.Context) []provider.Line { return p.arbiter.Lines() }
