package history

import (
	"fmt"
	"testing"
)

// BenchmarkRecord commits the pieces of one moment, each of another answer.
func BenchmarkRecord(b *testing.B) {
	for _, n := range []int{1, 25, 500} {
		b.Run(fmt.Sprint("pieces=", n), func(b *testing.B) {
			h := open(b)
			ask(b, h, "c", "q", noon)
			pieces := make([]Piece, n)
			for i := range pieces {
				pieces[i] = Piece{Running: start(b, h, "c", 1).ID, Text: " token"}
			}
			b.ReportAllocs()
			for b.Loop() {
				must(b, h.Record(b.Context(), pieces))
			}
		})
	}
}

// BenchmarkSettle ends an answer that has said much while another one runs, so
// that its pieces are deleted row by row.
func BenchmarkSettle(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint("rows=", n), func(b *testing.B) {
			h := open(b)
			ask(b, h, "c", "q", noon)
			last := start(b, h, "c", 1)
			for b.Loop() {
				b.StopTimer()
				for range n {
					must(b, h.Record(b.Context(), []Piece{{Running: last.ID, Text: " some tokens"}}))
				}
				next := start(b, h, "c", 1)
				b.StartTimer()
				settle(b, h, last, "a", noon)
				last = next
			}
		})
	}
}
