package refexec

import (
	"slices"

	"scrawl/engine/tensor"
)

// array is a value under interpretation: floats in f, everything else in i (booleans as 0 and 1).
type array struct {
	shape []int
	dtype tensor.DType // Float64, Int64 or Bool
	f     []float64
	i     []int64
}

func newArray(d tensor.DType, shape ...int) *array {
	a := &array{shape: slices.Clone(shape), dtype: d}
	if d.IsFloat() {
		a.f = make([]float64, count(shape))
	} else {
		a.i = make([]int64, count(shape))
	}
	return a
}

func floats(shape ...int) *array { return newArray(tensor.Float64, shape...) }

func intVector(v ...int) *array {
	a := newArray(tensor.Int64, len(v))
	for k, x := range v {
		a.i[k] = int64(x)
	}
	return a
}

func count(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

func (a *array) len() int  { return count(a.shape) }
func (a *array) rank() int { return len(a.shape) }

// float is element k as a number.
func (a *array) float(k int) float64 {
	if a.f != nil {
		return a.f[k]
	}
	return float64(a.i[k])
}

// view is a with another shape of the same number of elements.
func (a *array) view(shape ...int) *array {
	return &array{shape: slices.Clone(shape), dtype: a.dtype, f: a.f, i: a.i}
}

// take builds an array from elements of a: from[k] is the place of element k, or -1 for fill (0 when nil).
func (a *array) take(shape, from []int, fill *array) *array {
	out := newArray(a.dtype, shape...)
	for k, p := range from {
		switch {
		case p >= 0 && a.f != nil:
			out.f[k] = a.f[p]
		case p >= 0:
			out.i[k] = a.i[p]
		case fill == nil:
		case a.f != nil:
			out.f[k] = fill.float(0)
		default:
			out.i[k] = fill.i[0]
		}
	}
	return out
}

// set copies element p of b to element k of a.
func (a *array) set(k int, b *array, p int) {
	if a.f != nil {
		a.f[k] = b.float(p)
	} else {
		a.i[k] = b.i[p]
	}
}

func (a *array) clone() *array {
	return &array{shape: slices.Clone(a.shape), dtype: a.dtype, f: slices.Clone(a.f), i: slices.Clone(a.i)}
}

func fromTensor(t *tensor.Tensor) *array {
	switch t.DType() {
	case tensor.Float64:
		return &array{shape: t.Shape(), dtype: tensor.Float64, f: nonNil(tensor.Data[float64](t))}
	case tensor.Float32:
		return &array{shape: t.Shape(), dtype: tensor.Float64, f: to[float64](t.Float32s())}
	case tensor.Int64:
		return &array{shape: t.Shape(), dtype: tensor.Int64, i: nonNil(t.Int64s())}
	case tensor.Int32:
		return &array{shape: t.Shape(), dtype: tensor.Int64, i: to[int64](tensor.Data[int32](t))}
	case tensor.Uint8:
		return &array{shape: t.Shape(), dtype: tensor.Int64, i: to[int64](tensor.Data[uint8](t))}
	case tensor.Int8:
		return &array{shape: t.Shape(), dtype: tensor.Int64, i: to[int64](tensor.Data[int8](t))}
	}
	a := newArray(tensor.Bool, t.Shape()...)
	for k, v := range tensor.Data[bool](t) {
		a.i[k] = truth(v)
	}
	return a
}

// nonNil keeps the rule that exactly one of array.f and array.i is not nil, for empty tensors too.
func nonNil[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}

func to[D float64 | int64, S float32 | int32 | uint8 | int8](v []S) []D {
	out := make([]D, len(v))
	for k, x := range v {
		out[k] = D(x)
	}
	return out
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (a *array) tensor() *tensor.Tensor {
	switch a.dtype {
	case tensor.Int64:
		return tensor.Must(a.shape, a.i)
	case tensor.Bool:
		v := make([]bool, len(a.i))
		for k, x := range a.i {
			v[k] = x != 0
		}
		return tensor.Must(a.shape, v)
	}
	return tensor.Must(a.shape, a.f)
}

// strides are the distances between neighbours along each axis of a row-major array.
func strides(shape []int) []int {
	s := make([]int, len(shape))
	n := 1
	for k := len(shape) - 1; k >= 0; k-- {
		s[k] = n
		n *= shape[k]
	}
	return s
}

// places lists, for every element of an array of the given shape in order, base + Σ index·stride.
func places(shape, stride []int, base int) []int {
	out := make([]int, count(shape))
	if len(out) == 0 {
		return out
	}
	index := make([]int, len(shape))
	p := base
	for k := range out {
		out[k] = p
		for a := len(shape) - 1; a >= 0; a-- {
			index[a]++
			p += stride[a]
			if index[a] < shape[a] {
				break
			}
			p -= stride[a] * shape[a]
			index[a] = 0
		}
	}
	return out
}

// broadcastShape applies ONNX's multidirectional broadcasting (https://onnx.ai/onnx/repo-docs/Broadcasting.html).
func (c *call) broadcastShape(shapes ...[]int) []int {
	rank := 0
	for _, s := range shapes {
		rank = max(rank, len(s))
	}
	out := slices.Repeat([]int{1}, rank)
	for _, s := range shapes {
		for k, d := range s {
			o := &out[rank-len(s)+k]
			switch {
			case d == *o || d == 1:
			case *o == 1:
				*o = d
			default:
				c.fail("shapes %v cannot be broadcast together", shapes)
			}
		}
	}
	return out
}

// broadcastPlaces says where each element of the broadcast shape comes from in an array of shape s.
func broadcastPlaces(s, shape []int) []int {
	own := strides(s)
	stride := make([]int, len(shape))
	for k, d := range s {
		if d != 1 {
			stride[len(shape)-len(s)+k] = own[k]
		}
	}
	return places(shape, stride, 0)
}

// expand broadcasts a to a shape.
func (a *array) expand(shape []int) *array {
	if slices.Equal(a.shape, shape) {
		return a
	}
	return a.take(shape, broadcastPlaces(a.shape, shape), nil)
}

// around splits a shape at an axis: the number of elements before it, its size, and the number after it.
func around(shape []int, axis int) (before, size, after int) {
	return count(shape[:axis]), shape[axis], count(shape[axis+1:])
}
