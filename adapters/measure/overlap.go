// Package measure says how well two segmentations agree: overlap (Dice) and the distances between their surfaces.
//
// Masks are voxels with i fastest; a slice is a volume of one slice. Values for empty masks are chosen so that figures can be
// averaged: two empty masks agree perfectly, an empty and a non-empty one do not agree at all.
package measure

// Dice is 2|A∩B| / (|A|+|B|), between 0 and 1. Two empty masks have 1. Voxels that only the longer mask has count as unset in
// the other.
func Dice(a, b []bool) float64 {
	if len(a) > len(b) {
		a, b = b, a
	}
	both, sum := 0, 0
	for i, v := range b {
		inA := i < len(a) && a[i]
		if inA && v {
			both++
		}
		sum += one(inA) + one(v)
	}
	return dice(both, sum)
}

// DiceOf is the Dice of one label in two label maps of the same grid.
func DiceOf(a, b []uint16, label uint16) float64 {
	return DiceOfEach(a, b, []uint16{label})[0]
}

// DiceOfEach is the Dice of each label in two label maps of the same grid, in the order of labels. A label that neither map has
// gets 1. It reads the maps once, however many labels there are.
func DiceOfEach(a, b []uint16, labels []uint16) []float64 {
	place := make(map[uint16]int, len(labels))
	for _, l := range labels {
		if _, seen := place[l]; !seen {
			place[l] = len(place)
		}
	}
	index := make([]int32, 1<<16)
	for i := range index {
		index[i] = -1
	}
	for l, at := range place {
		index[l] = int32(at)
	}
	both, sum := make([]int, len(place)), make([]int, len(place))
	for i := range min(len(a), len(b)) {
		la, lb := index[a[i]], index[b[i]]
		if la >= 0 {
			sum[la]++
			if la == lb {
				both[la]++
			}
		}
		if lb >= 0 {
			sum[lb]++
		}
	}
	out := make([]float64, len(labels))
	for i, l := range labels {
		out[i] = dice(both[place[l]], sum[place[l]])
	}
	return out
}

func dice(both, sum int) float64 {
	if sum == 0 {
		return 1
	}
	return 2 * float64(both) / float64(sum)
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}
