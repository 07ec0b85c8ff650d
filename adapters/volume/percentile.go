package volume

import (
	"math"
	"sort"
)

// Percentiles gives the values below which ps per cent (0 to 100, clamped) of the voxels lie, interpolated linearly between
// neighbouring order statistics as numpy.percentile does. Voxels that are not finite are left out; when none is left the answers
// are not-a-number.
//
// They are exact, not sampled, and take two passes without a copy of the voxels, as a radix selection: the first counts the upper
// halves of the order-preserving bit patterns of the values, the second the lower halves in the few buckets asked for.
func (v *Volume) Percentiles(ps ...float64) []float64 {
	upper := make([]int, 1<<16)
	total := 0
	for _, x := range v.Voxels {
		if key, ok := sortKey(x); ok {
			upper[key>>16]++
			total++
		}
	}
	out := make([]float64, len(ps))
	if total == 0 {
		for i := range out {
			out[i] = math.NaN()
		}
		return out
	}
	var ranks []int
	at := make([]float64, len(ps))
	for i, p := range ps {
		at[i] = math.Min(math.Max(p, 0), 100) / 100 * float64(total-1)
		if math.IsNaN(p) {
			at[i] = 0
		}
		ranks = append(ranks, int(at[i]), min(int(at[i])+1, total-1))
	}
	values := v.orderStatistics(upper, ranks)
	for i, p := range ps {
		lo, hi := values[2*i], values[2*i+1]
		out[i] = lo + (hi-lo)*(at[i]-math.Floor(at[i]))
		if math.IsNaN(p) {
			out[i] = p
		}
	}
	return out
}

// orderStatistics finds the finite values of the given ranks (0 is the smallest), given the counts of the keys' upper halves.
func (v *Volume) orderStatistics(upper, ranks []int) []float64 {
	before := make([]int, len(upper)+1)
	for b, n := range upper {
		before[b+1] = before[b] + n
	}
	bucketOf := func(rank int) int { return sort.Search(len(upper), func(b int) bool { return before[b+1] > rank }) }
	lower := make([][]int, len(upper)) // nil for the buckets that nobody asked for
	for _, rank := range ranks {
		if b := bucketOf(rank); lower[b] == nil {
			lower[b] = make([]int, 1<<16)
		}
	}
	for _, x := range v.Voxels {
		if key, ok := sortKey(x); ok {
			if counts := lower[key>>16]; counts != nil {
				counts[key&0xffff]++
			}
		}
	}
	out := make([]float64, len(ranks))
	for i, rank := range ranks {
		b := bucketOf(rank)
		left := rank - before[b]
		for low, n := range lower[b] {
			if left < n {
				out[i] = float64(fromSortKey(uint32(b)<<16 | uint32(low)))
				break
			}
			left -= n
		}
	}
	return out
}

// sortKey maps finite floats to integers of the same order.
func sortKey(x float32) (key uint32, finite bool) {
	bits := math.Float32bits(x)
	if bits&0x7f800000 == 0x7f800000 {
		return 0, false
	}
	if bits>>31 == 1 {
		return ^bits, true
	}
	return bits | 1<<31, true
}

func fromSortKey(key uint32) float32 {
	if key>>31 == 1 {
		return math.Float32frombits(key &^ (1 << 31))
	}
	return math.Float32frombits(^key)
}
