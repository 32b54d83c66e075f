// Package web is the control room: chat, the queue and health as pages, and the
// same as JSON.
//
// It promises that nobody who is not let in sees anything but the login page and
// one word of health; that a page shows what the server knows, so that a reload, a
// second tab or a phone that slept finds all of it; that closing a page ends
// nothing; that what a model, a note or a provider says is text; and that a slow
// reader costs bounded memory. Handlers translate and decide nothing: chat, the
// queue and health are asked through what Options holds. Nothing is stored here.
package web

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"davidcockson.com/runner/internal/access"
	"davidcockson.com/runner/internal/chat"
	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/health"
	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/note"
	"davidcockson.com/runner/internal/web/render"
	"davidcockson.com/runner/internal/web/static"
)

// Jobs is what the queue panel needs of the process that holds the vault. Errors
// that the reader shall see are *control.Error; without such a process they are
// control.ErrNoWorker.
type Jobs interface {
	control.Office
	// Events tells what happens to a job, or to all where topic is "", after an id.
	Events(ctx context.Context, topic string, after uint64) iter.Seq2[live.Item, error]
	// Submit puts a note of these properties and this body into the queue, also
	// without a worker, and returns the job's id and the note's path. What a note's
	// reader would refuse is a *note.Error with the key.
	Submit(ctx context.Context, fields []note.KV, body string) (id, path string, err error)
	// Preview is the beginning of the text of a note in the vault, without its
	// properties, and whether that is all.
	Preview(ctx context.Context, path string, bytes int) (text string, whole bool, err error)
}

// Options is what an App is made of. All fields must be set unless they say
// otherwise.
type Options struct {
	Chat    *chat.Chat
	History *history.History
	// Hub holds the running answers of chat.
	Hub    *live.Hub
	Roster *chat.Roster
	Jobs   Jobs
	Health func(ctx context.Context) health.Report
	Gate   *access.Gate
	// Metrics serves the process's metrics.
	Metrics http.Handler
	// TraceLink makes a trace's address, "" where there is none.
	TraceLink func(id string) string
	// VaultName is the vault's name on the owner's devices.
	VaultName string
	// Location is the owner's zone.
	Location *time.Location
	Version  string
	Log      *slog.Logger
}

// App is the control room's handler and the work behind its pages. It is safe for
// concurrent use.
type App struct {
	o         Options
	pages     *pages
	render    *render.Renderer
	rendered  *rendered
	streams   *streams
	hosts     *part // the indicator of the model servers, on every page
	talks     *part // the list of conversations
	queue     *part
	health    *part
	queueSeen *queueWatch
}

// New makes an App. A template that cannot be read is an error.
func New(o Options) (*App, error) {
	pages, err := newPages(o)
	if err != nil {
		return nil, err
	}
	r := render.New()
	a := &App{o: o, pages: pages, render: r, rendered: newRendered(r), streams: newStreams()}
	a.hosts, a.talks, a.queue, a.health = newPart("hosts", a.showHosts), newPart("talks", a.showTalks), newPart("queue", a.showQueue), newPart("health", a.showHealth)
	a.queueSeen = newQueueWatch(o.Jobs)
	return a, nil
}

// Handler serves all routes.
func (a *App) Handler() http.Handler {
	mux := http.NewServeMux()
	page := func(pattern string, h handler) { mux.Handle(pattern, a.handle(h)) }

	page("GET /{$}", a.newChat)
	page("GET /chat", a.newChat)
	page("GET /chat/{conversation}", a.conversation)
	page("GET /chat/{conversation}/messages", a.messages)
	page("GET /chat/{conversation}/stream", a.chatStream)
	page("POST /chat/{conversation}/messages", a.send)
	page("POST /chat/{conversation}/turns/{turn}/again", a.again)
	page("POST /chat/{conversation}/stop", a.stop)
	page("POST /chat/{conversation}/settings", a.settings)
	page("POST /chat/{conversation}/delete", a.delete)
	page("POST /chat/{conversation}/undelete", a.undelete)
	page("GET /conversations", a.conversations)
	page("GET /models", a.models)
	page("GET /stream", a.plainStream)

	page("GET /queue", a.queuePage)
	page("GET /queue/stream", a.queueStream)
	page("GET /queue/active", a.queueActive)
	page("GET /queue/recent", a.queueRecent)
	page("GET /queue/jobs/{job}", a.job)
	page("POST /queue/jobs", a.submit)
	page("POST /queue/jobs/{job}/retry", a.retry)
	page("POST /queue/jobs/{job}/cancel", a.cancel)

	page("GET /health", a.healthPage)
	page("GET /health/stream", a.healthStream)
	page("GET /healthz", a.alive)

	mux.Handle("GET /metrics", a.o.Metrics)

	page("GET /login", a.login)
	page("POST /login", a.signIn)
	page("POST /logout", a.signOut)
	mux.Handle("GET /static/", static.Handler())
	page("/", func(http.ResponseWriter, *http.Request) error { return notFound("page") })

	return secured(a.o.Gate.Wrap(a.bounded(mux), openToAll))
}

// openToAll are the routes that need no session.
func openToAll(r *http.Request) bool { return r.URL.Path == "/healthz" || r.URL.Path == "/login" }

// The server's limits; event streams set a deadline for each write instead.
const (
	headerTime = 5 * time.Second
	readTime   = 30 * time.Second
	writeTime  = 30 * time.Second
	idleTime   = 2 * time.Minute
	maxHeader  = 64 << 10
	maxBody    = 1 << 20
	endTime    = 5 * time.Second // for requests under way when the server stops
)

// Serve serves the control room, once the chat is ready, until ctx ends; then it
// tells the event streams and lets other requests finish. It takes the listener over.
func (a *App) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: a.Handler(), ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(a.o.Log.Handler(), slog.LevelDebug)}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.watch(ctx) })
	group.Go(func() error {
		select {
		case <-a.o.Chat.Ready():
		case <-ctx.Done():
			return l.Close()
		}
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		a.streams.end()
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
		defer cancel()
		if server.Shutdown(short) != nil {
			server.Close()
		}
		return nil
	})
	return group.Wait()
}

// bounded limits what a request may send, and of which type, whether its route reads
// it or not.
func (a *App) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := overBounds(r); f != nil {
			a.fail(w, r, f)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// secured sets the headers that make a browser refuse what we never send: scripts
// and styles in a page, frames, anything from elsewhere.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		// no-referrer would make the Origin of our own forms null.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), interest-cohort=()")
		if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" { // by RFC 6797 it means nothing over http
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// alive says one word, to everybody.
func (a *App) alive(w http.ResponseWriter, r *http.Request) error {
	report := a.o.Health(r.Context())
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if report.Status == health.Broken {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, err := w.Write([]byte("failing\n"))
		return err
	}
	_, err := w.Write([]byte("ok\n"))
	return err
}

// isGone says that a vault's file is not there.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
