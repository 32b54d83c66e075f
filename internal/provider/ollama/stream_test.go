package ollama

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// body is what a recorded stream holds behind its head, still in its chunks:
// for the fuzzer as good as any other bytes.
func body(t testing.TB, file string) []byte {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(data, []byte("\r\n\r\n"))
	return rest
}

// lines are those of a recorded stream, without the chunks' framing.
func lines(t testing.TB, name string) []byte {
	var all []byte
	for line := range bytes.Lines(body(t, filepath.Join("testdata", name+".http"))) {
		if bytes.HasPrefix(line, []byte("{")) {
			all = append(all, line...)
		}
	}
	return all
}

func TestReadStreamDoesNotDependOnThePieces(t *testing.T) {
	whole := lines(t, "whole")
	for _, test := range []struct {
		name string
		in   io.Reader
	}{
		{"all at once", bytes.NewReader(whole)},
		{"byte by byte", iotest.OneByteReader(bytes.NewReader(whole))},
		{"with the end beside the last bytes", iotest.DataErrReader(bytes.NewReader(whole))},
		{"without the last newline", bytes.NewReader(bytes.TrimSpace(whole))},
		{"with empty lines between", bytes.NewReader(bytes.ReplaceAll(whole, []byte("\n"), []byte("\r\n\n")))},
		{"with more behind the end", io.MultiReader(bytes.NewReader(whole), strings.NewReader("what is this"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			var text strings.Builder
			if err := readStream(test.in, func(c chunk) { text.WriteString(c.Message.Content) }); err != nil {
				t.Fatal(err)
			}
			if text.String() != " "+sentence {
				t.Errorf("got %q", text.String())
			}
		})
	}
}

func TestReadStreamOfALineOfJustTheLimit(t *testing.T) {
	const frame = `{"message":{"content":""},"done":true}` + "\n"
	for _, test := range []struct {
		name string
		size int
		want error
	}{
		{"8 MiB with its newline are read", maxLine, nil},
		{"one byte more is refused", maxLine + 1, errLongLine},
	} {
		t.Run(test.name, func(t *testing.T) {
			line := strings.Replace(frame, `""`, `"`+strings.Repeat("a", test.size-len(frame))+`"`, 1)
			if err := readStream(strings.NewReader(line), func(chunk) {}); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestReadStreamReadsNoMoreOfALongLineThanItsLimit(t *testing.T) {
	endless := &counter{}
	if err := readStream(endless, func(chunk) {}); !errors.Is(err, errLongLine) {
		t.Errorf("got %v, want %v", err, errLongLine)
	}
	if endless.n > maxLine+1<<16 {
		t.Errorf("%d bytes were read", endless.n)
	}
}

// counter is a line without an end.
type counter struct{ n int }

func (c *counter) Read(data []byte) (int, error) {
	for i := range data {
		data[i] = 'a'
	}
	c.n += len(data)
	return len(data), nil
}

// FuzzReadStream: whatever comes, nothing panics; success needs a line that says
// done; and it makes no difference how the bytes are cut into pieces.
func FuzzReadStream(f *testing.F) {
	files, err := filepath.Glob("testdata/*.http")
	if err != nil || len(files) == 0 {
		f.Fatal("no recordings", err)
	}
	for _, file := range files {
		f.Add(body(f, file))
	}
	for _, name := range []string{"whole", "thinking", "length", "stuck", "error-inside"} {
		f.Add(lines(f, name))
	}
	f.Add([]byte("{\"done\":true}"))
	f.Add([]byte("null\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		read := func(r io.Reader) (text string, done int, err error) {
			var all strings.Builder
			err = readStream(r, func(c chunk) {
				if done > 0 {
					t.Error("a line was handed on after the one that says done")
				}
				all.WriteString(c.Message.Thinking + c.Message.Content)
				if c.Done {
					done++
				}
			})
			return all.String(), done, err
		}
		text, done, err := read(bytes.NewReader(data))
		if (err == nil) != (done == 1) {
			t.Errorf("error %v with %d lines that say done", err, done)
		}
		if err == nil && !bytes.Contains(bytes.ToLower(data), []byte("true")) {
			t.Error("success without a true")
		}
		text2, done2, err2 := read(iotest.OneByteReader(bytes.NewReader(data)))
		if text != text2 || done != done2 || (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
			t.Errorf("in one piece: %q, %v\nbyte by byte: %q, %v", text, err, text2, err2)
		}
	})
}
