package measure

import (
	"math"
	"slices"

	"scrawl/adapters/morph"
)

// Surfaces holds the distances between the boundaries of two masks, from which all figures about surfaces are read.
//
// A mask's boundary is its voxels that have an unset neighbour across a face, the grid's outside counting as unset. In a grid
// of one slice the faces towards other slices do not count, so that the boundary is the slice's outline. Distances run between
// the centres of boundary voxels.
type Surfaces struct {
	// AtoB holds for every boundary voxel of A the distance in mm to the nearest one of B, in ascending order; BtoA the reverse.
	// Where the other mask is empty, distances are +Inf.
	AtoB, BtoA []float64
}

// Between measures two masks of size[0]·size[1]·size[2] voxels, i fastest; spacing is in mm.
func Between(a, b []bool, size [3]int, spacing [3]float64) Surfaces {
	box, ok := bounds(size, a, b)
	if !ok {
		return Surfaces{}
	}
	a, b = box.cut(a, size), box.cut(b, size)
	outlineA, outlineB := boundary(a, box.size(), size[2] == 1), boundary(b, box.size(), size[2] == 1)
	return Surfaces{
		AtoB: distancesAt(outlineA, morph.Distance3(outlineB, box.size(), spacing)),
		BtoA: distancesAt(outlineB, morph.Distance3(outlineA, box.size(), spacing)),
	}
}

// BetweenSlices measures two slices of the same grid; spacing is the distance between columns and between rows, in mm.
func BetweenSlices(a, b morph.Mask, spacing [2]float64) Surfaces {
	b = b.Crop(morph.Rect{X1: a.W, Y1: a.H})
	return Between(a.Bits, b.Bits, [3]int{a.W, a.H, 1}, [3]float64{spacing[0], spacing[1], 1})
}

// Hausdorff is the largest distance in mm. It is 0 when both masks are empty, and +Inf when one is.
func (s Surfaces) Hausdorff() float64 { return s.HausdorffAt(100) }

// Hausdorff95 is the 95 % Hausdorff distance in mm: the larger of the two directions' 95th percentiles. It is 0 when both
// masks are empty, and +Inf when one is.
func (s Surfaces) Hausdorff95() float64 { return s.HausdorffAt(95) }

// HausdorffAt is the larger of the two directions' percentiles p (0 to 100), interpolated linearly between ranks.
func (s Surfaces) HausdorffAt(p float64) float64 {
	return max(percentile(s.AtoB, p), percentile(s.BtoA, p))
}

// Mean is the average symmetric surface distance in mm: the mean over both boundaries together. It is 0 when both masks are
// empty, and +Inf when one is.
func (s Surfaces) Mean() float64 {
	n := len(s.AtoB) + len(s.BtoA)
	if n == 0 {
		return 0
	}
	sum := 0.0
	for _, d := range s.AtoB {
		sum += d
	}
	for _, d := range s.BtoA {
		sum += d
	}
	return sum / float64(n)
}

// Dice is the surface Dice: the share of both boundaries' voxels that lie within tolerance mm of the other one (Nikolov et al.
// 2018, with voxels counted instead of surface area). It is 1 when both masks are empty, and 0 when one is.
func (s Surfaces) Dice(tolerance float64) float64 {
	n := len(s.AtoB) + len(s.BtoA)
	if n == 0 {
		return 1
	}
	// Distances come from float32; a voxel exactly at the tolerance counts.
	limit := tolerance + 1e-6*math.Abs(tolerance)
	return float64(atMost(s.AtoB, limit)+atMost(s.BtoA, limit)) / float64(n)
}

func atMost(sorted []float64, limit float64) int {
	n, _ := slices.BinarySearchFunc(sorted, limit, func(d, limit float64) int {
		if d <= limit {
			return -1
		}
		return 1
	})
	return n
}

// percentile of values in ascending order, 0 when there are none.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := min(max(p, 0), 100) / 100 * float64(len(sorted)-1)
	lo := int(rank)
	hi := min(lo+1, len(sorted)-1)
	if sorted[lo] == sorted[hi] { // also spares Inf−Inf
		return sorted[lo]
	}
	return sorted[lo] + (rank-float64(lo))*(sorted[hi]-sorted[lo])
}

func distancesAt(outline []bool, distance []float32) []float64 {
	var out []float64
	for i, on := range outline {
		if on {
			out = append(out, float64(distance[i]))
		}
	}
	slices.Sort(out)
	return out
}

// boundary keeps the set voxels with an unset neighbour across a face.
func boundary(bits []bool, size [3]int, slice bool) []bool {
	w, h, n := size[0], size[1], size[0]*size[1]
	out := make([]bool, len(bits))
	for at, on := range bits {
		if !on {
			continue
		}
		x, y, z := at%w, at/w%h, at/n
		inner := x > 0 && bits[at-1] && x < w-1 && bits[at+1] && y > 0 && bits[at-w] && y < h-1 && bits[at+w]
		if inner && !slice {
			inner = z > 0 && bits[at-n] && z < size[2]-1 && bits[at+n]
		}
		out[at] = !inner
	}
	return out
}

// box is the part of a grid that holds both masks: distances need to be known nowhere else, and organs are small.
type box struct{ lo, hi [3]int }

func (b box) size() [3]int { return [3]int{b.hi[0] - b.lo[0], b.hi[1] - b.lo[1], b.hi[2] - b.lo[2]} }

func bounds(size [3]int, masks ...[]bool) (box, bool) {
	b := box{lo: size}
	for _, m := range masks {
		for at, on := range m {
			if !on {
				continue
			}
			for axis, i := range [3]int{at % size[0], at / size[0] % size[1], at / (size[0] * size[1])} {
				b.lo[axis], b.hi[axis] = min(b.lo[axis], i), max(b.hi[axis], i+1)
			}
		}
	}
	return b, b.hi[0] > 0
}

func (b box) cut(bits []bool, size [3]int) []bool {
	s := b.size()
	out := make([]bool, 0, s[0]*s[1]*s[2])
	for z := b.lo[2]; z < b.hi[2]; z++ {
		for y := b.lo[1]; y < b.hi[1]; y++ {
			row := (z*size[1] + y) * size[0]
			out = append(out, bits[row+b.lo[0]:row+b.hi[0]]...)
		}
	}
	return out
}
