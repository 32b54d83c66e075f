package wire

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// open is a body as a Transport hands it on; stream says which limits it has.
func open(t *testing.T, r io.Reader, stream bool) *body {
	d := &Deadline{Length: time.Hour, What: "%s"}
	w := NewWatch(t.Context(), d)
	t.Cleanup(w.Stop)
	b := &body{ReadCloser: io.NopCloser(r), watch: w}
	if stream {
		b.silence = d
	}
	return b
}

func TestABodyIsMeasuredAsClientsCollectIt(t *testing.T) {
	long := strings.Repeat("a", maxPiece-8)
	for _, test := range []struct {
		name   string
		text   string
		stream bool
		want   error
	}{
		{"a piece of just the limit", "data: " + long + "\n\n", true, nil},
		{"a piece of one byte more", "data: " + long + "a\n\n", true, errLongPiece},
		{"a line without an end", strings.Repeat("a", maxPiece+1), true, errLongPiece},
		{"many lines without an empty one between", strings.Repeat("data: x\n", maxPiece/8+1), true, errLongPiece},
		{"many pieces, which are long together", strings.Repeat("data: "+long[:1<<20]+"\n\n", 20), true, nil},
		{"many pieces with the line ends of Windows", strings.Repeat("data: "+long[:1<<20]+"\r\n\r\n", 20), true, nil},
		{"line ends of both kinds, which no client takes for an empty line", strings.Repeat("data: "+long[:1<<20]+"\n\r\n", 20), true, errLongPiece},
		{"a reply of just the limit", strings.Repeat("a", maxReply), false, nil},
		{"a reply of one byte more", strings.Repeat("a", maxReply+1), false, errLongReply},
	} {
		for _, cut := range []struct {
			name string
			as   func(io.Reader) io.Reader
		}{
			{"in large reads", func(r io.Reader) io.Reader { return r }},
			{"in small ones", func(r io.Reader) io.Reader { return iotest.HalfReader(r) }},
		} {
			t.Run(test.name+", "+cut.name, func(t *testing.T) {
				b := open(t, cut.as(strings.NewReader(test.text)), test.stream)
				if _, err := io.Copy(io.Discard, b); err != nil {
					t.Errorf("the client above is told %v", err)
				}
				if !errors.Is(b.fault, test.want) || b.ended != (test.want == nil) {
					t.Errorf("fault %v, ended %v; want %v", b.fault, b.ended, test.want)
				}
			})
		}
	}
}

func TestPiecesEndWhereTheyEndHoweverTheyAreRead(t *testing.T) {
	text := "data: 1\n\ndata: 22\r\n\r\n: x\n\ndata: 333"
	b := open(t, iotest.OneByteReader(strings.NewReader(text)), true)
	if _, err := io.Copy(io.Discard, b); err != nil {
		t.Fatal(err)
	}
	if b.size > len("data: 333")+1 {
		t.Errorf("%d bytes are counted since the last empty line", b.size)
	}
}

func TestAFaultEndsABodyLikeAPlainEnd(t *testing.T) {
	cause := errors.New("cut")
	b := open(t, io.MultiReader(strings.NewReader("data: 1\n\n"), iotest.ErrReader(cause)), true)
	data, err := io.ReadAll(b)
	if err != nil || string(data) != "data: 1\n\n" || !errors.Is(b.fault, cause) || b.ended {
		t.Errorf("got %q, %v; fault %v, ended %v", data, err, b.fault, b.ended)
	}
}
