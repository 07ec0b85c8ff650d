package interact

import (
	"slices"

	"scrawl/adapters/morph"
)

// The least object that contrast is centred on, in pixels of the grid, and the least half-width of the intensities shown, as a
// share of the volume's: less would show noise alone.
const (
	leastObject = 4
	leastSpread = 0.02
)

// focus stretches a region's intensities around the object's own, as a reader sets window and level: CT spans air to bone, and an
// organ differs from its neighbours by a hundredth of that. Level is the median of the object's pixels. The half-width is the
// percentile Focus of the differences to it, of all pixels inside the image; what differs more becomes black or white. Nothing is
// done before an object is known.
func (in Input) focus(region []float32, inside, object morph.Mask) {
	object = object.And(inside)
	if object.Count() < leastObject {
		return
	}
	level := percentile(chosen(region, object), 50)
	seen := chosen(region, inside)
	differences := make([]float32, len(seen))
	for i, v := range seen {
		differences[i] = max(v-level, level-v)
	}
	width := max(percentile(differences, in.Focus), leastSpread)
	low, high := max(slices.Min(seen), level-width), min(slices.Max(seen), level+width)
	if high-low < leastSpread {
		high = low + leastSpread
	}
	for i, v := range region {
		region[i] = min(max((v-low)/(high-low), 0), 1)
	}
}

// objectOf is what a prompt says of the object, on a window's grid: where the previous prediction is likelier than not and where
// positive strokes are, but no negative ones.
func objectOf(previous []float32, positive, negative morph.Mask) morph.Mask {
	m := positive.Clone()
	for i, p := range previous {
		m.Bits[i] = (m.Bits[i] || p > 0.5) && !negative.Bits[i]
	}
	return m
}

// chosen are the values under a mask.
func chosen(values []float32, m morph.Mask) []float32 {
	out := make([]float32, 0, len(values))
	for i, b := range m.Bits {
		if b {
			out = append(out, values[i])
		}
	}
	return out
}

// percentile p (0 to 100) of at least one value, which it puts in order.
func percentile(values []float32, p float64) float32 {
	slices.Sort(values)
	return values[int(p/100*float64(len(values)-1)+0.5)]
}
