package ollama

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The sizes beyond which an answer is refused, in bytes. Ollama's own client
// reads lines of up to 8 MB; an answer of 16 MiB is some four million tokens.
const (
	maxLine   = 8 << 20
	maxAnswer = 16 << 20
)

// The ways in which a stream ends badly, other than by an error of its reader.
var (
	errNoEnd     = errors.New("the stream ended without its end marker")
	errLongLine  = errors.New("a line of the stream is longer than 8 MiB")
	errTooMuch   = errors.New("the answer is longer than 16 MiB")
	errMalformed = errors.New("a line of the stream is not what the protocol says")
)

// chunk is one line of a streamed answer. The server leaves out every figure
// that is zero.
type chunk struct {
	Model   string `json:"model"`
	Message struct {
		Content  string `json:"content"`
		Thinking string `json:"thinking"`
	} `json:"message"`
	Done       bool    `json:"done"`
	DoneReason string  `json:"done_reason"`
	Error      *string `json:"error"`

	PromptEvalCount uint32 `json:"prompt_eval_count"`
	EvalCount       uint32 `json:"eval_count"`
	EvalDuration    uint64 `json:"eval_duration"` // nanoseconds
}

// lineError is what the server says when it fails after it has begun to answer.
type lineError string

func (e lineError) Error() string { return string(e) }

// readStream hands the lines of r to take, up to and with the one that says
// done, and returns nil after it. Every other end is an error: errNoEnd where
// the stream ended in good order, the reader's own where it broke off. The
// memory it needs is bounded by the longest line.
func readStream(r io.Reader, take func(chunk)) error {
	in := bufio.NewReader(r)
	var long []byte
	size := 0
	for {
		line, end := readLine(in, &long)
		if errors.Is(end, errLongLine) {
			return end
		}
		line = bytes.TrimSpace(line)
		if half := end != nil && !json.Valid(line) && bytes.HasPrefix(line, []byte("{")); len(line) > 0 && !half {
			c, err := decode(line)
			if err != nil {
				return err
			}
			size += len(c.Message.Content) + len(c.Message.Thinking)
			if size > maxAnswer {
				return errTooMuch
			}
			take(c)
			if c.Done {
				return nil
			}
		}
		if end == io.EOF {
			return errNoEnd
		}
		if end != nil {
			return fmt.Errorf("read the stream: %w", end)
		}
	}
}

// readLine returns the next line of in with its newline, or what is left of it
// and the error that ended it. The line is valid until the next call; one that
// does not fit into in's buffer is put together in long. Each byte is looked at
// once, however small the pieces are in which it comes.
func readLine(in *bufio.Reader, long *[]byte) ([]byte, error) {
	*long = (*long)[:0]
	for {
		part, err := in.ReadSlice('\n')
		if len(*long)+len(part) > maxLine {
			return nil, errLongLine
		}
		if err == nil && len(*long) == 0 {
			return part, nil
		}
		*long = append(*long, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return *long, err
		}
	}
}

// decode reads one line. Its error is errMalformed or a lineError.
func decode(line []byte) (chunk, error) {
	var c chunk
	if line[0] != '{' { // null would pass as an empty object
		return c, errMalformed
	}
	if err := json.Unmarshal(line, &c); err != nil {
		return c, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if c.Error != nil {
		return c, lineError(*c.Error)
	}
	return c, nil
}
