package history

import (
	"encoding/binary"
	"errors"
	"iter"
)

// pack makes one row's data of pieces: of each twice the running answer's id, plus
// one for thinking, then the length of the text, both as uvarints, then the text.
func pack(pieces []Piece) []byte {
	size := 0
	for _, p := range pieces {
		size += 2*binary.MaxVarintLen64 + len(p.Text)
	}
	data := make([]byte, 0, size)
	for _, p := range pieces {
		head := uint64(p.Running) << 1
		if p.Thinking {
			head |= 1
		}
		data = binary.AppendUvarint(data, head)
		data = binary.AppendUvarint(data, uint64(len(p.Text)))
		data = append(data, p.Text...)
	}
	return data
}

var errPieces = errors.New("the pieces are damaged")

// unpack yields what pack was given, and an error as the last where it was not.
func unpack(data []byte) iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		for len(data) > 0 {
			head, n := binary.Uvarint(data)
			length, k := binary.Uvarint(data[max(n, 0):])
			if n <= 0 || k <= 0 || length > uint64(len(data)-n-k) {
				yield(Piece{}, errPieces)
				return
			}
			data = data[n+k:]
			if !yield(Piece{Running: int64(head >> 1), Thinking: head&1 == 1, Text: string(data[:length])}, nil) {
				return
			}
			data = data[length:]
		}
	}
}
