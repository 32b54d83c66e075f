package wire

import (
	"bytes"
	"errors"
	"io"
)

// The sizes beyond which an answer is refused, in bytes. An answer of 16 MiB is
// some four million tokens.
const (
	maxPiece = 8 << 20
	maxReply = 16 << 20
)

// The sizes as faults.
var (
	errLongPiece = errors.New("a piece of the stream is longer than 8 MiB")
	errLongReply = errors.New("a reply is longer than 16 MiB")
)

// body is a response's body as a client above may read it. A fault ends it like
// a plain end does, because clients log, or quote, what they are told; fault
// keeps what it was. Each piece of it gives the server a new deadline.
type body struct {
	io.ReadCloser
	watch   *Watch
	silence *Deadline // nil for a reply that is read whole, within one deadline
	size    int       // of the reply, or of the piece on its way
	tail    [3]byte   // the last bytes that were read
	fault   error
	ended   bool // in good order
}

func (b *body) Read(data []byte) (int, error) {
	if b.fault != nil || b.ended {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(data)
	if n > 0 && b.silence != nil {
		b.watch.Within(b.silence)
	}
	if limit := b.measure(data[:n]); limit != nil {
		b.fault = limit
		return 0, io.EOF
	}
	switch {
	case err == io.EOF:
		b.ended = true
	case err != nil:
		b.fault, err = err, io.EOF
	}
	return n, err
}

// measure counts the bytes of a reply, or of a stream those since the last empty
// line, just as clients collect them.
func (b *body) measure(data []byte) error {
	if b.silence == nil {
		if b.size += len(data); b.size > maxReply {
			return errLongReply
		}
		return nil
	}
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			b.size += len(data)
			b.keep(data)
			break
		}
		b.size += end + 1
		b.keep(data[:end])
		if b.size > maxPiece {
			return errLongPiece
		}
		if b.tail[2] == '\n' || b.tail == [3]byte{'\r', '\n', '\r'} {
			b.size = 0
		}
		b.keep(data[end : end+1])
		data = data[end+1:]
	}
	if b.size > maxPiece {
		return errLongPiece
	}
	return nil
}

// keep remembers the last three bytes.
func (b *body) keep(data []byte) {
	if len(data) > len(b.tail) {
		data = data[len(data)-len(b.tail):]
	}
	copy(b.tail[:], b.tail[len(data):])
	copy(b.tail[len(b.tail)-len(data):], data)
}

// Close closes the body below; that it was closed early is no fault.
func (b *body) Close() error {
	_ = b.ReadCloser.Close() // only read: nothing can be lost by closing, and clients log this error
	return nil
}
