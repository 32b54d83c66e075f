package web

import (
	"bytes"
	"encoding/json"
	"iter"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"
)

const (
	// takeTime is how long a reader may take for one write, or up to a half less.
	takeTime = 10 * time.Second
	// keptBuffer is how many bytes a stream keeps for its next events.
	keptBuffer = 2 << 10
)

// sse is the writing end of an event stream.
type sse struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	buf []byte
	// page says that the reader is a page, which takes HTML too.
	page bool
	due  time.Time // the deadline of writes
}

func newSSE(w http.ResponseWriter, r *http.Request) (*sse, error) {
	s := &sse{w: w, rc: http.NewResponseController(w), page: wantsHTML(r)}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")                          // nginx holds nothing back
	if err := s.rc.SetReadDeadline(time.Time{}); err != nil { // the request's own would end the stream
		return nil, err
	}
	s.comment("ok")
	return s, s.flush()
}

func (s *sse) comment(text string) {
	s.buf = append(append(append(s.buf, ": "...), text...), "\n\n"...)
}

// event adds a named event with JSON. id is 0 where a reader cannot resume.
func (s *sse) event(id uint64, name string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types
	}
	s.begin(id, name)
	s.buf = append(append(s.buf, data...), "\n\n"...)
}

func (s *sse) begin(id uint64, name string) {
	if id != 0 {
		s.buf = append(strconv.AppendUint(append(s.buf, "id: "...), id, 10), '\n')
	}
	s.buf = append(append(append(s.buf, "event: "...), name...), "\ndata: "...)
}

// piece adds an event as event would with a spoken of this turn and of these texts
// as one. It is most of what is ever sent, and leaves no garbage.
func (s *sse) piece(id uint64, name string, turn int, texts iter.Seq[string]) {
	s.begin(id, name)
	s.buf = strconv.AppendInt(append(s.buf, `{"turn":`...), int64(turn), 10)
	s.buf = append(s.buf, `,"text":"`...)
	for text := range texts {
		s.buf = appendEscaped(s.buf, text)
	}
	s.buf = append(s.buf, "\"}\n\n"...)
}

// appendEscaped adds text as the inside of a JSON string (RFC 8259, 7). What is no
// UTF-8 becomes the replacement character.
func appendEscaped(buf []byte, text string) []byte {
	from := 0 // what is not added yet
	for i := 0; i < len(text); {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRuneInString(text[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		buf = append(buf, text[from:i]...)
		switch {
		case c >= utf8.RuneSelf:
			buf = append(buf, "\ufffd"...)
		case c == '"' || c == '\\':
			buf = append(buf, '\\', c)
		case c == '\n':
			buf = append(buf, `\n`...)
		default:
			const hex = "0123456789abcdef"
			buf = append(buf, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i += size
		from = i
	}
	return append(buf, text[from:]...)
}

// html adds an unnamed message, which a page swaps in.
func (s *sse) html(html []byte) {
	for line := range bytes.SplitSeq(html, []byte("\n")) {
		s.buf = append(s.buf, "data: "...)
		for _, b := range line {
			if b != '\r' { // it would end the line
				s.buf = append(s.buf, b)
			}
		}
		s.buf = append(s.buf, '\n')
	}
	s.buf = append(s.buf, '\n')
}

// flushAt sends what was added if it is so much, in bytes.
func (s *sse) flushAt(size int) error {
	if len(s.buf) < size {
		return nil
	}
	return s.flush()
}

// flush sends what was added. A reader that does not take it in time is cut.
func (s *sse) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	// A deadline is a timer of the runtime's, so it is not moved for each token.
	if due := time.Now().Add(takeTime); due.Sub(s.due) > takeTime/2 {
		if err := s.rc.SetWriteDeadline(due); err != nil {
			return err
		}
		s.due = due
	}
	_, err := s.w.Write(s.buf)
	if err == nil {
		err = s.rc.Flush()
	}
	s.buf = s.buf[:0]
	return err
}

// rest gives back what a large event took, before a silence.
func (s *sse) rest() {
	if cap(s.buf) > keptBuffer {
		s.buf = nil
	}
}
