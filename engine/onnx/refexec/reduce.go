package refexec

import (
	"cmp"
	"math"
	"slices"

	"scrawl/engine/tensor"
)

// reduceAxes reads the axes of a Reduce operator: an input since opset 18, an attribute before. With noop_with_empty_axes and no axes
// nothing is reduced, but what is done to each element is: ReduceSumSquare then squares, in ONNX Runtime too.
func (c *call) reduceAxes(rank int) []bool {
	var axes []int
	if v := c.Ints("axes"); v != nil {
		axes = toInts(v)
	} else {
		axes = c.intsAt(1)
	}
	reduced := make([]bool, rank)
	if len(axes) == 0 && c.Int("noop_with_empty_axes", 0) == 1 {
		return reduced
	}
	for _, a := range axes {
		reduced[c.axis(int64(a), rank)] = true
	}
	if len(axes) == 0 {
		for k := range reduced {
			reduced[k] = true
		}
	}
	return reduced
}

// reduce makes a kernel that turns the elements of each reduced block into one number.
func reduce(f func(v []float64) float64) kernel {
	return func(c *call) []*array {
		x := c.arg(0)
		reduced := c.reduceAxes(x.rank())
		var kept, keptStride, inner, innerStride, shape []int
		own := strides(x.shape)
		for a, d := range x.shape {
			switch {
			case !reduced[a]:
				kept, keptStride, shape = append(kept, d), append(keptStride, own[a]), append(shape, d)
			default:
				inner, innerStride = append(inner, d), append(innerStride, own[a])
				if c.Int("keepdims", 1) == 1 {
					shape = append(shape, 1)
				}
			}
		}
		y := newArray(x.dtype, shape...)
		within := places(inner, innerStride, 0)
		v := make([]float64, len(within))
		for o, base := range places(kept, keptStride, 0) {
			for k, p := range within {
				v[k] = x.float(base + p)
			}
			if r := f(v); y.f != nil {
				y.f[o] = r
			} else {
				y.i[o] = int64(r)
			}
		}
		return []*array{y}
	}
}

func sum(f func(x float64) float64) func(v []float64) float64 {
	return func(v []float64) float64 {
		s := 0.0
		for _, x := range v {
			s += f(x)
		}
		return s
	}
}

func square(x float64) float64 { return x * x }

func same(x float64) float64 { return x }

func extreme(start float64, f func(a, b float64) float64) func(v []float64) float64 {
	return func(v []float64) float64 {
		r := start
		for _, x := range v {
			r = f(r, x)
		}
		return r
	}
}

func product(v []float64) float64 {
	p := 1.0
	for _, x := range v {
		p *= x
	}
	return p
}

func logSumExp(v []float64) float64 {
	top := extreme(math.Inf(-1), math.Max)(v)
	if math.IsInf(top, 0) {
		return top
	}
	return top + math.Log(sum(func(x float64) float64 { return math.Exp(x - top) })(v))
}

// argExtreme finds the place of the largest (sign 1) or smallest (sign −1) element along an axis.
func argExtreme(sign float64) kernel {
	return func(c *call) []*array {
		x := c.arg(0)
		axis := c.axis(c.Int("axis", 0), x.rank())
		shape := slices.Clone(x.shape)
		if shape[axis] = 1; c.Int("keepdims", 1) == 0 {
			shape = slices.Delete(shape, axis, axis+1)
		}
		y := newArray(tensor.Int64, shape...)
		last := c.Int("select_last_index", 0) == 1
		o := 0
		c.lanes(x, axis, func(lane []int) {
			best := 0
			for k, p := range lane {
				d := sign * (x.float(p) - x.float(lane[best]))
				if d > 0 || d == 0 && last {
					best = k
				}
			}
			y.i[o] = int64(best)
			o++
		})
		return []*array{y}
	}
}

func cumSum(c *call) []*array {
	x := c.arg(0)
	y := newArray(x.dtype, x.shape...)
	exclusive := c.Int("exclusive", 0) == 1
	c.lanes(x, c.axis(int64(c.scalarAt(1, 0)), x.rank()), func(lane []int) {
		if c.Int("reverse", 0) == 1 {
			slices.Reverse(lane)
		}
		acc := 0.0
		for _, p := range lane {
			v := acc
			acc += x.float(p)
			if !exclusive {
				v = acc
			}
			if y.f != nil {
				y.f[p] = v
			} else {
				y.i[p] = int64(v)
			}
		}
		if c.Int("reverse", 0) == 1 { // lanes reuses the slice's contents
			slices.Reverse(lane)
		}
	})
	return []*array{y}
}

func topK(c *call) []*array {
	x, n := c.arg(0), c.intsAt(1)
	axis := c.axis(c.Int("axis", -1), x.rank())
	if len(n) != 1 || n[0] < 0 || n[0] > x.shape[axis] {
		c.fail("K is %v; want one number from 0 to %d", n, x.shape[axis])
	}
	shape := slices.Clone(x.shape)
	shape[axis] = n[0]
	y, index := newArray(x.dtype, shape...), newArray(tensor.Int64, shape...)
	_, _, after := around(shape, axis)
	o := 0
	c.lanes(x, axis, func(lane []int) {
		order := make([]int, len(lane))
		for k := range order {
			order[k] = k
		}
		slices.SortStableFunc(order, func(a, b int) int {
			if c.Int("largest", 1) == 1 {
				a, b = b, a
				if d := cmp.Compare(x.float(lane[a]), x.float(lane[b])); d != 0 {
					return d
				}
				return cmp.Compare(b, a) // of equals the first comes first
			}
			return cmp.Compare(x.float(lane[a]), x.float(lane[b]))
		})
		for k, from := range order[:n[0]] {
			p := (o/after*n[0]+k)*after + o%after
			y.set(p, x, lane[from])
			index.i[p] = int64(from)
		}
		o++
	})
	return []*array{y, index}
}
