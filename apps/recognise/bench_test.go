package recognise

import "testing"

// BenchmarkAnswer recognises on a slice of 256² from 24 lessons: filters, fit and answer.
func BenchmarkAnswer(b *testing.B) {
	c := Default()
	pixels, truth := field(1, 256, 256)
	p := NewPicture(pixels, 256, 256, 1)
	k := Knowledge{}
	for i := range c.Slices {
		k = k.With(c, NewLesson(c, p, around(truth, 256), uint64(i)))
	}
	b.Run("filters", func(b *testing.B) {
		for b.Loop() {
			NewPicture(pixels, 256, 256, 1)
		}
	})
	b.Run("fit", func(b *testing.B) {
		for b.Loop() {
			if _, ok := k.Fit(c); !ok {
				b.Fatal("nothing was fitted")
			}
		}
	})
	r, _ := k.Fit(c)
	b.Run("answer", func(b *testing.B) {
		for b.Loop() {
			r.Answer(p)
		}
	})
}
