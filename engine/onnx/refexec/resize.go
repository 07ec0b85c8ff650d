package refexec

import (
	"math"
	"slices"
)

// tap is one input element's share in an output element.
type tap struct {
	at     int
	weight float64
}

// resize interpolates separably, axis by axis, by the formulas of the Resize page.
func resize(c *call) []*array {
	x := c.arg(0)
	axes := make([]int, x.rank())
	for k := range axes {
		axes[k] = k
	}
	if v := c.Ints("axes"); v != nil {
		axes = toInts(v)
	}
	if c.Int("antialias", 0) != 0 {
		c.fail("antialias is not supported")
	}
	if p := c.Str("keep_aspect_ratio_policy", "stretch"); p != "stretch" {
		c.fail("keep_aspect_ratio_policy %q is not supported", p)
	}
	scales, sizes := c.opt(2), c.intsAt(3)
	useScales := scales != nil && scales.len() > 0
	if useScales && scales.len() != len(axes) || !useScales && len(sizes) != len(axes) {
		c.fail("wants one scale or size for each of %d axes", len(axes))
	}
	for k, a := range axes {
		a = c.axis(int64(a), x.rank())
		n := x.shape[a]
		var scale float64
		var out int
		if useScales {
			scale = scales.f[k]
			out = int(math.Floor(float64(n) * scale))
		} else {
			out = sizes[k]
			scale = float64(out) / float64(n)
		}
		if out != n || scale != 1 {
			x = resizeAxis(x, a, c.taps(n, out, scale))
		}
	}
	return []*array{x}
}

func resizeAxis(x *array, axis int, taps [][]tap) *array {
	before, n, after := around(x.shape, axis)
	shape := slices.Clone(x.shape)
	shape[axis] = len(taps)
	y := newArray(x.dtype, shape...)
	for b := range before {
		for o, list := range taps {
			for a := range after {
				v := 0.0
				for _, t := range list {
					v += t.weight * x.float((b*n+t.at)*after+a)
				}
				if p := (b*len(taps)+o)*after + a; y.f != nil {
					y.f[p] = v
				} else {
					y.i[p] = int64(v)
				}
			}
		}
	}
	return y
}

// taps lists, for each of out output places along an axis of n elements, the input elements it is made of.
func (c *call) taps(n, out int, scale float64) [][]tap {
	list := make([][]tap, out)
	clamp := func(k int) int { return min(max(k, 0), n-1) }
	for o := range list {
		x := c.original(float64(o), n, out, scale)
		switch mode := c.Str("mode", "nearest"); mode {
		case "nearest":
			list[o] = []tap{{clamp(c.nearest(x)), 1}}
		case "linear":
			lo := math.Floor(x)
			list[o] = []tap{{clamp(int(lo)), 1 - (x - lo)}, {clamp(int(lo) + 1), x - lo}}
		case "cubic":
			list[o] = c.cubic(x, n)
		default:
			c.fail("mode %q is not supported", mode)
		}
	}
	return list
}

// original is the input coordinate of an output coordinate.
func (c *call) original(o float64, n, out int, scale float64) float64 {
	switch mode := c.Str("coordinate_transformation_mode", "half_pixel"); mode {
	case "half_pixel":
		return (o+0.5)/scale - 0.5
	case "pytorch_half_pixel":
		if out <= 1 {
			return 0
		}
		return (o+0.5)/scale - 0.5
	case "half_pixel_symmetric":
		adjustment := float64(out) / (scale * float64(n))
		return float64(n)/2*(1-adjustment) + (o+0.5)/scale - 0.5
	case "align_corners":
		if out <= 1 {
			return 0
		}
		return o * float64(n-1) / float64(out-1)
	case "asymmetric":
		return o / scale
	default:
		c.fail("coordinate_transformation_mode %q is not supported", mode)
		return 0
	}
}

func (c *call) nearest(x float64) int {
	switch mode := c.Str("nearest_mode", "round_prefer_floor"); mode {
	case "round_prefer_floor":
		return int(math.Ceil(x - 0.5))
	case "round_prefer_ceil":
		return int(math.Floor(x + 0.5))
	case "floor":
		return int(math.Floor(x))
	case "ceil":
		return int(math.Ceil(x))
	default:
		c.fail("nearest_mode %q is not known", mode)
		return 0
	}
}

// cubic weighs four neighbours by Keys' kernel with coefficient a.
func (c *call) cubic(x float64, n int) []tap {
	a := float64(c.Float("cubic_coeff_a", -0.75))
	lo := int(math.Floor(x))
	var list []tap
	total := 0.0
	for k := lo - 1; k <= lo+2; k++ {
		d := math.Abs(x - float64(k))
		w := ((a+2)*d-(a+3))*d*d + 1
		if d > 1 {
			w = ((a*d-5*a)*d+8*a)*d - 4*a
		}
		if c.Int("exclude_outside", 0) == 1 && (k < 0 || k >= n) {
			continue
		}
		total += w
		list = append(list, tap{min(max(k, 0), n-1), w})
	}
	if c.Int("exclude_outside", 0) == 1 {
		for k := range list {
			list[k].weight /= total
		}
	}
	return list
}
