package interact

import "scrawl/adapters/morph"

// objectOf is what a prompt says of the object, on a window's grid: where the previous prediction is likelier than not and where
// positive strokes are, but no negative ones.
func objectOf(previous []float32, positive, negative morph.Mask) morph.Mask {
	m := positive.Clone()
	for i, p := range previous {
		m.Bits[i] = (m.Bits[i] || p > 0.5) && !negative.Bits[i]
	}
	return m
}
