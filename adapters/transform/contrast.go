package transform

import (
	"slices"

	"scrawl/adapters/morph"
)

// The least object that contrast is centred on, in pixels of the grid, and the least half-width of the intensities shown, as a
// share of the whole range, 0…1: less would show noise alone.
const (
	leastObject = 4
	leastSpread = 0.02
)

// Focus stretches a picture's intensities, 0…1, around an object's own, as a reader sets window and level: CT spans air to bone, and an
// organ differs from its neighbours by a hundredth of that. Level is the median of the object's pixels. The half-width is the percentile
// percent of the differences to it, of all pixels inside the image; what differs more becomes black or white. Nothing is done while
// the object is hardly known.
func Focus(picture []float32, inside, object morph.Mask, percent float64) {
	object = object.And(inside)
	if object.Count() < leastObject {
		return
	}
	level := Rank(Under(picture, object), 50)
	seen := Under(picture, inside)
	least, most := slices.Min(seen), slices.Max(seen)
	for i, v := range seen {
		seen[i] = max(v-level, level-v)
	}
	width := max(Rank(seen, percent), leastSpread)
	low, high := max(least, level-width), min(most, level+width)
	if high-low < leastSpread {
		high = low + leastSpread
	}
	for i, v := range picture {
		picture[i] = min(max((v-low)/(high-low), 0), 1)
	}
}

// Under are the values under a mask.
func Under(values []float32, m morph.Mask) []float32 {
	out := make([]float32, 0, len(values))
	for i, b := range m.Bits {
		if b {
			out = append(out, values[i])
		}
	}
	return out
}

// Rank is percentile p (0 to 100) of at least one value, one of them: the nearest in rank. It reorders them as far as finding it takes
// (Hoare's selection), which is many times faster than sorting.
func Rank(values []float32, p float64) float32 {
	k := int(p/100*float64(len(values)-1) + 0.5)
	for lo, hi := 0, len(values)-1; lo < hi; {
		pivot := values[lo+(hi-lo)/2]
		i, j := lo, hi
		for i <= j {
			for values[i] < pivot {
				i++
			}
			for values[j] > pivot {
				j--
			}
			if i <= j {
				values[i], values[j] = values[j], values[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return values[k]
		}
	}
	return values[k]
}
