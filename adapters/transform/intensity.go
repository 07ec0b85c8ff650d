package transform

import (
	"math"
	"slices"
)

// Rescale clips values to lo … hi and brings them to 0 … 1. Not-a-number becomes 0. Where hi is not above lo there is no contrast
// to keep: all values become 0.
func Rescale(values []float32, lo, hi float32) []float32 {
	out := make([]float32, len(values))
	if !(hi > lo) {
		return out
	}
	lo64 := float64(lo)
	scale := 1 / (float64(hi) - lo64)
	for i, v := range values {
		// The comparison is false for not-a-number, which min and max would hand on.
		if v > lo {
			out[i] = float32(min((float64(v)-lo64)*scale, 1))
		}
	}
	return out
}

// sampleLimit bounds what Percentiles sorts: a million values tell a percentile well, and a large volume has a hundred million.
const sampleLimit = 1 << 20

// Percentiles reads percentiles (0 to 100) off the finite values, interpolated linearly between ranks. Of more than about a million
// values, evenly spaced ones are taken. Without any finite value the answers are 0.
func Percentiles(values []float32, percent ...float64) []float32 {
	step := max(1, (len(values)+sampleLimit-1)/sampleLimit)
	if step > 1 {
		step |= 1 // an odd step does not keep meeting the same columns of a grid whose width is even
	}
	sorted := make([]float32, 0, len(values)/step+1)
	for i := 0; i < len(values); i += step {
		if v := values[i]; !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0) {
			sorted = append(sorted, v)
		}
	}
	slices.Sort(sorted)
	out := make([]float32, len(percent))
	for i, p := range percent {
		if len(sorted) > 0 {
			rank := min(max(p, 0), 100) / 100 * float64(len(sorted)-1)
			lo := int(rank)
			a, b := float64(sorted[lo]), float64(sorted[min(lo+1, len(sorted)-1)])
			out[i] = float32(a + (rank-float64(lo))*(b-a))
		}
	}
	return out
}
