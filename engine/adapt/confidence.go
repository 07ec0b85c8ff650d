package adapt

import (
	"scrawl/engine/tensor"
)

// UncertainRatio says how unsure the network is of what may be the object (equation 3.1):
//
//	ratio = #(low ≤ p ≤ high) / #(p ≥ low),
//
// p being a pixel's largest probability of a class other than background. As printed in the thesis the ratio is 1 whenever
// both its counts are of one slice; divided by the pixels that could be in doubt it lies in [0,1] and does not vanish for
// small organs. It is 0 when there is nothing that could be the object. prob is [1,K,H,W]; pixels where valid [1,1,H,W] is
// 0 do not count; valid may be nil.
func UncertainRatio(prob, valid *tensor.Tensor, low, high float64) float64 {
	k := prob.Shape()[1]
	d := prob.Float32s()
	n := len(d) / k
	var uncertain, possible int
	for i := range n {
		if valid != nil && valid.Float32s()[i] == 0 {
			continue
		}
		p := float32(0)
		for c := 1; c < k; c++ {
			p = max(p, d[c*n+i])
		}
		if float64(p) < low {
			continue
		}
		possible++
		if float64(p) <= high {
			uncertain++
		}
	}
	if possible == 0 {
		return 0
	}
	return float64(uncertain) / float64(possible)
}

// CopiesFor is the number N of augmented copies for a ratio (equation 3.2), capped.
func (c Config) CopiesFor(ratio float64) int {
	n := c.FixedCopies
	if n == 0 {
		n = c.Copies[len(c.Copies)-1].Copies
		for _, r := range c.Copies {
			if ratio <= r.UpTo {
				n = r.Copies
				break
			}
		}
		if c.MaxCopies > 0 {
			n = min(n, c.MaxCopies)
		}
	}
	return n
}
