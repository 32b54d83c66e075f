package kuma

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// A socket is one connection that speaks Socket.IO 5 over Engine.IO 4 on a
// websocket: text frames alone, the default namespace alone.
// https://socket.io/docs/v4/engine-io-protocol and socket-io-protocol.
//
// It reads only while it waits for an acknowledgement, so it has no goroutine
// and is not safe for concurrent use. The server pings every 25 seconds and gives
// up after 20 more; no single event takes that long.
type socket struct {
	conn   *websocket.Conn
	nextID int
	// pushed has the newest arguments of each event that the server sent by itself.
	pushed map[string][]json.RawMessage
}

// maxFrame bounds one frame, in bytes: the list of all monitors is the largest, at
// about 3 KiB a monitor.
const maxFrame = 16 << 20

// patience is how long one event may take. A database under load takes seconds.
const patience = 20 * time.Second

// dial connects to the server at base, an http or https URL without a path.
func dial(ctx context.Context, base string) (*socket, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no http or https URL", base)
	}
	u.Scheme = strings.Replace(u.Scheme, "http", "ws", 1)
	u = u.JoinPath("socket.io/")
	u.RawQuery = "EIO=4&transport=websocket"
	conn, _, err := websocket.Dial(ctx, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", base, err)
	}
	conn.SetReadLimit(maxFrame)
	s := &socket{conn: conn, pushed: map[string][]json.RawMessage{}}
	if err := s.open(ctx); err != nil {
		conn.CloseNow()
		return nil, fmt.Errorf("begin a session at %s: %w", base, err)
	}
	return s, nil
}

// open takes the server's greeting and joins the default namespace.
func (s *socket) open(ctx context.Context) error {
	frame, err := s.read(ctx)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(frame, "0{") {
		return fmt.Errorf("the server greets with %.40q", frame)
	}
	if err := s.write(ctx, "40"); err != nil {
		return err
	}
	for {
		frame, err := s.read(ctx)
		if err != nil {
			return err
		}
		switch {
		case strings.HasPrefix(frame, "40"):
			return nil
		case strings.HasPrefix(frame, "44"):
			return fmt.Errorf("the server refuses: %s", frame[2:])
		}
	}
}

func (s *socket) close() { s.conn.Close(websocket.StatusNormalClosure, "") }

// await reads until the server has pushed one of the events.
func (s *socket) await(ctx context.Context, events ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		for _, event := range events {
			if _, ok := s.pushed[event]; ok {
				return nil
			}
		}
		frame, err := s.read(ctx)
		if err != nil {
			return fmt.Errorf("wait for %s: %w", strings.Join(events, " or "), err)
		}
		if _, _, err := s.take(frame); err != nil {
			return err
		}
	}
}

// emit sends an event and returns the first argument of its acknowledgement.
func (s *socket) emit(ctx context.Context, event string, args ...any) (json.RawMessage, error) {
	id := s.nextID
	s.nextID++
	payload, err := json.Marshal(append([]any{event}, args...))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", event, err)
	}
	if err := s.write(ctx, "42"+strconv.Itoa(id)+string(payload)); err != nil {
		return nil, fmt.Errorf("%s: %w", event, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		frame, err := s.read(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: wait for the answer: %w", event, err)
		}
		acked, args, err := s.take(frame)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", event, err)
		}
		if acked == id {
			if len(args) == 0 {
				return nil, fmt.Errorf("%s: an empty acknowledgement", event)
			}
			return args[0], nil
		}
	}
}

// take keeps what a frame pushes, and returns the id and arguments of an
// acknowledgement, or -1.
func (s *socket) take(frame string) (id int, args []json.RawMessage, err error) {
	kind, rest := frame, ""
	if len(frame) >= 2 {
		kind, rest = frame[:2], frame[2:]
	}
	switch kind {
	case "43":
		digits := strings.IndexByte(rest, '[')
		if digits < 1 {
			return -1, nil, fmt.Errorf("an acknowledgement without an id: %.40q", frame)
		}
		if id, err = strconv.Atoi(rest[:digits]); err != nil {
			return -1, nil, fmt.Errorf("an acknowledgement's id: %w", err)
		}
		if err := json.Unmarshal([]byte(rest[digits:]), &args); err != nil {
			return -1, nil, fmt.Errorf("an acknowledgement: %w", err)
		}
		return id, args, nil
	case "42":
		if err := json.Unmarshal([]byte(rest), &args); err != nil {
			return -1, nil, fmt.Errorf("an event: %w", err)
		}
		var name string
		if len(args) == 0 || json.Unmarshal(args[0], &name) != nil {
			return -1, nil, fmt.Errorf("an event without a name: %.40q", frame)
		}
		s.pushed[name] = args[1:]
		return -1, nil, nil
	case "41":
		return -1, nil, errors.New("the server ended the session")
	}
	return -1, nil, nil // nothing that we take part in
}

// read returns the next frame that is no ping; pings are answered.
func (s *socket) read(ctx context.Context) (string, error) {
	for {
		kind, data, err := s.conn.Read(ctx)
		if err != nil {
			return "", err
		}
		switch frame := string(data); {
		case kind != websocket.MessageText:
			return "", errors.New("a binary frame, which we never ask for")
		case frame == "2":
			if err := s.write(ctx, "3"); err != nil {
				return "", err
			}
		default:
			return frame, nil
		}
	}
}

func (s *socket) write(ctx context.Context, frame string) error {
	return s.conn.Write(ctx, websocket.MessageText, []byte(frame))
}
