package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"davidcockson.com/runner/internal/live"
	"davidcockson.com/runner/internal/provider"
)

// The server's limits. A command is a matter of milliseconds; what is held open is
// bounded below all connections, so that commands still get through.
const (
	maxConns     = 1200
	maxHeld      = 1100
	maxHeader    = 64 << 10         // bytes
	headerTime   = 5 * time.Second  // to send a request
	answerTime   = 30 * time.Second // to answer and to take an answer
	heartbeat    = 15 * time.Second // longest silence of an event stream
	writeTime    = 10 * time.Second // to take one write of an event stream
	shutdownTime = 5 * time.Second  // for requests that are being answered at the end
)

// frame is one line of a held-open answer. An empty one is a heartbeat.
type frame struct {
	Item    *live.Item `json:"item,omitempty"`
	Granted bool       `json:"granted,omitempty"`
	End     bool       `json:"end,omitempty"`
	Error   *Error     `json:"error,omitempty"`
}

// Serve answers on the socket until ctx ends, then tells those who hold a request
// open, lets the others finish and removes the socket. It returns nil after such
// an end, and ErrInUse when another process answers there. The caller holds the
// vault's lock, and the socket's folder has mode 0700.
func Serve(ctx context.Context, socketPath string, office Office, hub *live.Hub, arbiter *provider.Arbiter, log *slog.Logger) error {
	ln, err := listen(ctx, socketPath)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", socketPath, err)
	}
	return serve(ctx, ln, socketPath, office, hub, arbiter, log)
}

// serve is Serve with the socket already bound.
func serve(ctx context.Context, ln net.Listener, socketPath string, office Office, hub *live.Hub, arbiter *provider.Arbiter, log *slog.Logger) error {
	srv := newServer(ctx, office, hub, arbiter, log, maxHeld)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(limit(ln, maxConns)) }()
	select {
	case err := <-served:
		return errors.Join(fmt.Errorf("serve %s: %w", socketPath, err), os.Remove(socketPath))
	case <-ctx.Done():
	}
	// While we still answer, no other server takes the name for its own, which we
	// would then remove.
	removed := os.Remove(socketPath)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		log.Warn("control requests cut at the end", "reason", err)
		if err := srv.Close(); err != nil {
			log.Warn("close control socket", "reason", err)
		}
	}
	<-served
	if removed != nil {
		return fmt.Errorf("remove the control socket: %w", removed)
	}
	return nil
}

// newServer returns the server without its socket. Requests that are held open end
// with ctx.
func newServer(ctx context.Context, office Office, hub *live.Hub, arbiter *provider.Arbiter, log *slog.Logger, held int) *http.Server {
	s := &server{office, hub, arbiter, log, make(chan struct{}, held), ctx.Done()}
	return &http.Server{
		Handler:           s.routes(ctx),
		ReadHeaderTimeout: headerTime,
		WriteTimeout:      answerTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// server is the state behind the handlers.
type server struct {
	office  Office
	hub     *live.Hub
	arbiter *provider.Arbiter
	log     *slog.Logger
	held    chan struct{} // one element for each held-open request
	// stopping is closed before any held-open request is ended for it.
	stopping <-chan struct{}
}

// routes returns the handler of all that can be asked.
func (s *server) routes(ctx context.Context) http.Handler {
	office := s.office
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", answer(s, func(r *http.Request) (any, error) { return office.Status(r.Context()) }))
	mux.HandleFunc("GET /jobs", s.list)
	mux.HandleFunc("GET /job", answer(s, func(r *http.Request) (any, error) { return office.Show(r.Context(), r.FormValue("ref")) }))
	mux.HandleFunc("POST /job/cancel", answer(s, func(r *http.Request) (any, error) { return office.Cancel(r.Context(), r.FormValue("ref")) }))
	mux.HandleFunc("POST /job/retry", answer(s, func(r *http.Request) (any, error) { return office.Retry(r.Context(), r.FormValue("ref")) }))
	mux.HandleFunc("GET /events", s.hold(ctx, s.events))
	mux.HandleFunc("POST /place", s.hold(ctx, s.place))
	mux.HandleFunc("/", answer(s, func(r *http.Request) (any, error) {
		return nil, errorf(NotFound, "The worker does not know %s %s: is it of another version?", r.Method, r.URL.Path)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 { // everything is in the query; a body would hide that its sender has gone
			s.fail(w, r, errorf(Invalid, "The worker takes no request body."))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// answer makes a handler of a function whose result is sent as JSON.
func answer(s *server, do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := do(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		data, err := json.Marshal(v)
		if err != nil {
			s.fail(w, r, fmt.Errorf("encode: %w", err))
			return
		}
		s.write(w, r, http.StatusOK, data)
	}
}

// fail sends err as an *Error. One that is not meant for the caller goes to the
// log instead.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		if r.Context().Err() != nil {
			return // the caller has gone
		}
		s.log.Error("control request failed", "request", r.Method+" "+r.URL.Path, "reason", err)
		e = errorf(Internal, "The worker could not do this; its log says why.")
	}
	data, err := json.Marshal(e)
	if err != nil { // two strings
		panic(err)
	}
	s.write(w, r, e.status(), data)
}

func (s *server) write(w http.ResponseWriter, r *http.Request, status int, data []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(data); err != nil {
		s.log.Debug("control answer not taken", "request", r.Method+" "+r.URL.Path, "reason", err)
	}
}

// list answers with an array, job by job: all that a vault ever had, as one piece of
// JSON, would be a hundred megabytes.
func (s *server) list(w http.ResponseWriter, r *http.Request) {
	f := Filter{States: r.URL.Query()["state"]}
	if text := r.FormValue("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			s.fail(w, r, errorf(Invalid, "The limit %q is not a number of jobs.", text))
			return
		}
		f.Limit = n
	}
	jobs, err := s.office.List(r.Context(), f)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriter(w)
	before := byte('[')
	for _, j := range jobs {
		data, err := json.Marshal(j)
		if err != nil { // texts, numbers and times
			panic(err)
		}
		out.WriteByte(before)
		out.Write(data)
		before = ','
	}
	if len(jobs) == 0 {
		out.WriteByte(before)
	}
	out.WriteByte(']')
	if err := out.Flush(); err != nil {
		s.log.Debug("control answer not taken", "request", r.Method+" "+r.URL.Path, "reason", err)
	}
}

// hold makes a handler of a function that keeps its request open. Its context
// ends with the request, and with the server's, which is then the cause errStopping.
func (s *server) hold(ctx context.Context, do func(context.Context, *stream, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.held <- struct{}{}:
			defer func() { <-s.held }()
		default:
			s.fail(w, r, errorf(Busy, "The worker already holds %d requests open.", cap(s.held)))
			return
		}
		held, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		defer context.AfterFunc(ctx, func() { cancel(errStopping) })()
		out := &stream{w: w, control: http.NewResponseController(w)}
		err := do(held, out, r)
		if errors.Is(context.Cause(held), errStopping) {
			err = errStopping
		}
		switch {
		case !out.begun && err != nil:
			if err := out.control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
				s.log.Warn("control deadline", "reason", err)
			}
			s.fail(w, r, err)
		case err != nil:
			e, ok := errors.AsType[*Error](err)
			if !ok {
				return // the caller has gone, or does not read
			}
			err = out.send(frame{Error: e})
		default:
			err = out.send(frame{End: true})
		}
		if err != nil {
			s.log.Debug("end of a control stream not taken", "reason", err)
		}
	}
}

var errStopping = &Error{Code: Stopping, Text: "The worker stops."}

// stream writes a held-open answer, a frame a line.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (o *stream) send(frames ...frame) error {
	if !o.begun {
		o.begun = true
		o.w.Header().Set("Content-Type", "application/x-ndjson")
	}
	if err := o.control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	enc := json.NewEncoder(o.w)
	for _, f := range frames {
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
	return o.control.Flush()
}

// events sends the items of a topic, or of the feed where none is named.
func (s *server) events(ctx context.Context, out *stream, r *http.Request) error {
	after, err := strconv.ParseUint(r.FormValue("after"), 10, 64)
	if err != nil {
		return errorf(Invalid, "The id %q is not a number.", r.FormValue("after"))
	}
	var reader *live.Reader
	if topic := r.FormValue("topic"); topic == "" {
		reader = s.hub.SubscribeAll(after)
	} else if reader, err = s.hub.Subscribe(topic, after); err != nil {
		return errorf(NotFound, "Nothing runs under %q.", topic)
	}
	if err := out.send(frame{}); err != nil { // so that the caller knows that it is heard
		return err
	}
	for {
		next, cancel := context.WithTimeout(ctx, heartbeat)
		items, err := reader.Next(next)
		cancel()
		frames := make([]frame, len(items), len(items)+1)
		for i := range items {
			frames[i].Item = &items[i]
		}
		switch {
		case errors.Is(err, live.ErrSlow):
			return errorf(Slow, "The reader was too slow; it can resume.")
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			frames = append(frames, frame{})
		case err != nil:
			return err
		}
		if err := out.send(frames...); err != nil {
			return err
		}
	}
}

// place waits for a place at a provider and keeps it until the request ends.
func (s *server) place(ctx context.Context, out *stream, r *http.Request) error {
	name, class := r.FormValue("provider"), provider.Class(r.FormValue("class"))
	if class != provider.Interactive && class != provider.Batch {
		return errorf(Invalid, "The class %q is neither %s nor %s.", class, provider.Interactive, provider.Batch)
	}
	p, err := s.arbiter.Acquire(ctx, name, class, r.FormValue("who"))
	if errors.Is(err, provider.ErrUnknownProvider) {
		return errorf(NotFound, "The configuration of the worker has no provider %q.", name)
	}
	if err != nil {
		return err
	}
	defer p.Release()
	select {
	case <-s.stopping: // then another that was told first has left us its place
		return errStopping
	default:
	}
	if err := out.send(frame{Granted: true}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}
