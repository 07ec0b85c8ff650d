package synth

import "testing"

func BenchmarkNext(b *testing.B) {
	g := New(1, Options{})
	for b.Loop() {
		g.Next()
	}
}

func BenchmarkBatchOf8(b *testing.B) {
	g := New(1, Options{})
	k := uint64(0)
	for b.Loop() {
		newBatch(g, k, 8)
		k++
	}
}

// BenchmarkCorrect is a round in which every mask is that of a neighbouring slice.
func BenchmarkCorrect(b *testing.B) {
	g := New(1, Options{})
	batch := newBatch(g, 0, 8)
	for b.Loop() {
		for i := range batch.seats {
			batch.seats[i].correct()
		}
	}
}
