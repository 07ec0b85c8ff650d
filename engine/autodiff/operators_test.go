package autodiff_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// drawn is one random node: its attributes, its arguments in order ("x" is the first that is differentiated), what is differentiated, and
// constants.
type drawn struct {
	attrs map[string]onnx.Attr
	args  []string
	in    map[string]*tensor.Tensor
	inits map[string]*tensor.Tensor
}

func floatAttr(v float64) onnx.Attr { return onnx.Attr{Kind: onnx.AttrFloat, Float: float32(v)} }
func textAttr(v string) onnx.Attr   { return onnx.Attr{Kind: onnx.AttrString, String: v} }

// tenths draws a number of tenths, which float32 attributes hold well enough for both sides to agree.
func tenths(t *rapid.T, name string, lo, hi int) float64 {
	return float64(rapid.IntRange(lo, hi).Draw(t, name)) / 10
}

// scaled is a tensor spread over [-size, size], off the places where a derivative jumps.
func scaled(t *rapid.T, size float64, kinks []float64, shape ...int) *tensor.Tensor {
	x := spread(t, shape...)
	for i, v := range floats(x) {
		v *= size
		for _, k := range kinks {
			if math.Abs(v-k) < 0.01 {
				v = k + 0.02
			}
		}
		floats(x)[i] = v
	}
	return x
}

// above is a tensor of numbers of at least least.
func above(t *rapid.T, least float64, shape ...int) *tensor.Tensor {
	x := spread(t, shape...)
	for i, v := range floats(x) {
		floats(x)[i] = v + 1 + least
	}
	return x
}

func anyShape(t *rapid.T) []int {
	return several(t, "shape", rapid.IntRange(0, 4).Draw(t, "rank"), 1, 4)
}

func imageShape(t *rapid.T) []int {
	return several(t, "shape", rapid.IntRange(3, 5).Draw(t, "rank"), 1, 3)
}

func unary(x *tensor.Tensor, attrs map[string]onnx.Attr) drawn {
	if attrs == nil {
		attrs = map[string]onnx.Attr{}
	}
	return drawn{attrs: attrs, args: []string{"x"}, in: map[string]*tensor.Tensor{"x": x}}
}

// smooth is an operator of one input that has a derivative in all of [-size, size] but at the kinks.
func smooth(size float64, kinks ...float64) func(*rapid.T) drawn {
	return func(t *rapid.T) drawn { return unary(scaled(t, size, kinks, anyShape(t)...), nil) }
}

func positiveOnly(t *rapid.T) drawn { return unary(above(t, 0.2, anyShape(t)...), nil) }

func withAlpha(t *rapid.T) drawn {
	return unary(scaled(t, 2, []float64{0}, anyShape(t)...), map[string]onnx.Attr{"alpha": floatAttr(tenths(t, "alpha", 1, 20))})
}

func stepFunction(t *rapid.T) drawn {
	var halves []float64
	for k := -3.0; k <= 3; k += 0.5 {
		halves = append(halves, k)
	}
	return unary(scaled(t, 2.9, halves, anyShape(t)...), nil)
}

// along draws an axis attribute for a shape, counted from either end.
func along(t *rapid.T, shape []int) onnx.Attr {
	return intAttr(rapid.IntRange(-len(shape), len(shape)-1).Draw(t, "axis"))
}

func normalizedAlongAxis(t *rapid.T) drawn {
	s := imageShape(t)
	return unary(scaled(t, 2, nil, s...), map[string]onnx.Attr{"axis": along(t, s)})
}

// perChannel adds scale and shift of one number a channel.
func perChannel(t *rapid.T, shape []int) drawn {
	return drawn{attrs: map[string]onnx.Attr{"epsilon": floatAttr(tenths(t, "epsilon", 1, 5))}, args: []string{"x", "s", "b"},
		in: map[string]*tensor.Tensor{"x": scaled(t, 2, nil, shape...), "s": spread(t, shape[1]), "b": spread(t, shape[1])}}
}

func shuffled(t *rapid.T, n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return rapid.Permutation(order).Draw(t, "order")
}

func int64s(v ...int) *tensor.Tensor { return tensor.Vector(intsAttr(v).Ints...) }

// indices draws numbers of [-n, n) of the given shape.
func indices(t *rapid.T, n int, shape ...int) *tensor.Tensor {
	x := tensor.Zeros[int64](shape...)
	for i := range x.Int64s() {
		x.Int64s()[i] = int64(rapid.IntRange(-n, n-1).Draw(t, "index"))
	}
	return x
}

// distinctIndices are, along the last axis, different numbers below n; shape's last size is at most n.
func distinctIndices(t *rapid.T, n int, shape ...int) *tensor.Tensor {
	x := tensor.Zeros[int64](shape...)
	k := shape[len(shape)-1]
	for i := 0; i < x.Len(); i += k {
		for j, v := range shuffled(t, n)[:k] {
			x.Int64s()[i+j] = int64(v)
		}
	}
	return x
}

// products are Einsum equations with the letters of which each draws its sizes.
var products = []string{"ij,jk->ik", "bhqd,bhkd->bhqk", "bchw,bkc->bkhw", "nc,nc->n", "i,j->ij", "ijk->kji", "bij,bjk->bki", "abcd->acbd", "nhwc,cd->nhwd"}

// operators draws a random node of each operator that other properties do not look at.
func operators() map[string]func(*rapid.T) drawn {
	m := map[string]func(*rapid.T) drawn{
		"Relu": smooth(2, 0), "Sigmoid": smooth(3), "HardSwish": smooth(5, -3, 3), "Mish": smooth(3), "Softplus": smooth(3), "Tanh": smooth(2), "Erf": smooth(2),
		"Exp": smooth(2), "Neg": smooth(2), "Abs": smooth(2, 0), "Sin": smooth(4), "Cos": smooth(4), "Tan": smooth(1.2), "Atan": smooth(3), "Softsign": smooth(2, 0),
		"Identity": smooth(2), "Log": positiveOnly, "Sqrt": positiveOnly, "Reciprocal": positiveOnly,
		"LeakyRelu": withAlpha, "Elu": withAlpha, "Celu": withAlpha, "Floor": stepFunction, "Ceil": stepFunction, "Round": stepFunction, "Sign": stepFunction,
		"Softmax": normalizedAlongAxis, "LogSoftmax": normalizedAlongAxis,
	}
	m["Selu"] = func(t *rapid.T) drawn {
		return unary(scaled(t, 2, []float64{0}, anyShape(t)...), map[string]onnx.Attr{"alpha": floatAttr(tenths(t, "alpha", 5, 20)), "gamma": floatAttr(tenths(t, "gamma", 5, 20))})
	}
	m["ThresholdedRelu"] = func(t *rapid.T) drawn {
		a := tenths(t, "alpha", -10, 10)
		return unary(scaled(t, 2, []float64{a}, anyShape(t)...), map[string]onnx.Attr{"alpha": floatAttr(a)})
	}
	m["HardSigmoid"] = func(t *rapid.T) drawn {
		a, b := tenths(t, "alpha", 1, 10), tenths(t, "beta", 0, 10)
		return unary(scaled(t, 6, []float64{-b / a, (1 - b) / a}, anyShape(t)...), map[string]onnx.Attr{"alpha": floatAttr(a), "beta": floatAttr(b)})
	}
	m["Cast"] = func(t *rapid.T) drawn {
		return unary(scaled(t, 2, nil, anyShape(t)...), map[string]onnx.Attr{"to": intAttr(rapid.SampledFrom([]int{int(tensor.Float32), int(tensor.Float64)}).Draw(t, "to"))})
	}
	m["Clip"] = func(t *rapid.T) drawn {
		lo, hi := tenths(t, "lo", -15, 0), tenths(t, "hi", 1, 15)
		d := unary(scaled(t, 2, []float64{lo, hi}, anyShape(t)...), nil)
		d.inits = map[string]*tensor.Tensor{"lo": tensor.Scalar(float32(lo)), "hi": tensor.Scalar(float32(hi))}
		d.args = rapid.SampledFrom([][]string{{"x"}, {"x", "lo"}, {"x", "", "hi"}, {"x", "lo", "hi"}}).Draw(t, "bounds")
		return d
	}
	m["PRelu"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		slope := rapid.SampledFrom([][]int{{1}, append([]int{s[1]}, slices.Repeat([]int{1}, len(s)-2)...), s}).Draw(t, "slope")
		return drawn{args: []string{"x", "s"}, in: map[string]*tensor.Tensor{"x": scaled(t, 2, []float64{0}, s...), "s": spread(t, slope...)}}
	}
	m["Pow"] = func(t *rapid.T) drawn {
		a, b := broadcastable(t)
		return drawn{args: []string{"x", "b"}, in: map[string]*tensor.Tensor{"x": above(t, 0.3, a...), "b": spread(t, b...)}}
	}
	variadic := func(t *rapid.T) drawn {
		a, b := broadcastable(t)
		y := spread(t, b...)
		for i, v := range floats(y) {
			floats(y)[i] = v + 0.0037 // no two inputs are equal
		}
		return drawn{args: []string{"x", "b"}, in: map[string]*tensor.Tensor{"x": spread(t, a...), "b": y}}
	}
	m["Sum"], m["Mean"], m["Min"] = variadic, variadic, variadic
	m["Where"] = func(t *rapid.T) drawn {
		a, b := broadcastable(t)
		cond := tensor.Zeros[bool](a...)
		for i := range tensor.Data[bool](cond) {
			tensor.Data[bool](cond)[i] = rapid.Bool().Draw(t, "condition")
		}
		return drawn{args: []string{"c", "x", "b"}, in: map[string]*tensor.Tensor{"x": spread(t, a...), "b": spread(t, b...)}, inits: map[string]*tensor.Tensor{"c": cond}}
	}
	m["CumSum"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		d := unary(spread(t, s...), map[string]onnx.Attr{"exclusive": intAttr(rapid.IntRange(0, 1).Draw(t, "exclusive")), "reverse": intAttr(rapid.IntRange(0, 1).Draw(t, "reverse"))})
		d.args, d.inits = []string{"x", "axis"}, map[string]*tensor.Tensor{"axis": tensor.Scalar(int64(rapid.IntRange(-len(s), len(s)-1).Draw(t, "axis")))}
		return d
	}
	m["ReduceLogSum"] = func(t *rapid.T) drawn {
		axes := rapid.SliceOfNDistinct(rapid.IntRange(0, 3), 0, 4, rapid.ID).Draw(t, "axes")
		return drawn{attrs: map[string]onnx.Attr{"keepdims": intAttr(rapid.IntRange(0, 1).Draw(t, "keepdims")), "noop_with_empty_axes": intAttr(rapid.IntRange(0, 1).Draw(t, "noop"))},
			args: []string{"x", "axes"}, in: map[string]*tensor.Tensor{"x": above(t, 0.2, several(t, "size", 4, 1, 3)...)}, inits: map[string]*tensor.Tensor{"axes": int64s(axes...)}}
	}
	addShapes(m)
	addSelections(m)
	addLayers(m)
	return m
}

// addShapes adds the operators that rearrange.
func addShapes(m map[string]func(*rapid.T) drawn) {
	m["Reshape"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		to := []int{s[0] * s[1], -1}
		if rapid.Bool().Draw(t, "copied") {
			to = []int{0, -1, 1}
		}
		return drawn{args: []string{"x", "to"}, in: map[string]*tensor.Tensor{"x": spread(t, s...)}, inits: map[string]*tensor.Tensor{"to": int64s(to...)}}
	}
	m["Flatten"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		return unary(spread(t, s...), map[string]onnx.Attr{"axis": intAttr(rapid.IntRange(-len(s), len(s)).Draw(t, "axis"))})
	}
	m["Squeeze"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		k := rapid.IntRange(0, len(s)-1).Draw(t, "axis")
		s[k] = 1
		return drawn{args: []string{"x", "axes"}, in: map[string]*tensor.Tensor{"x": spread(t, s...)}, inits: map[string]*tensor.Tensor{"axes": int64s(k - len(s)*rapid.IntRange(0, 1).Draw(t, "from the end"))}}
	}
	m["Unsqueeze"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		k := rapid.IntRange(-len(s)-1, len(s)).Draw(t, "axis")
		return drawn{args: []string{"x", "axes"}, in: map[string]*tensor.Tensor{"x": spread(t, s...)}, inits: map[string]*tensor.Tensor{"axes": int64s(k)}}
	}
	m["Transpose"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		return unary(spread(t, s...), map[string]onnx.Attr{"perm": intsAttr(shuffled(t, len(s)))})
	}
	m["Concat"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		axis := rapid.IntRange(0, len(s)-1).Draw(t, "axis")
		other := slices.Clone(s)
		other[axis] = rapid.IntRange(1, 3).Draw(t, "other size")
		args := rapid.SampledFrom([][]string{{"x", "b"}, {"b", "x"}, {"x", "b", "x"}}).Draw(t, "parts")
		return drawn{attrs: map[string]onnx.Attr{"axis": intAttr(axis - len(s)*rapid.IntRange(0, 1).Draw(t, "from the end"))}, args: args,
			in: map[string]*tensor.Tensor{"x": spread(t, s...), "b": spread(t, other...)}}
	}
	m["Split"] = func(t *rapid.T) drawn { // only the first part is used: the others count as zeros
		s := imageShape(t)
		axis := rapid.IntRange(0, len(s)-1).Draw(t, "axis")
		first := rapid.IntRange(1, 3).Draw(t, "first")
		s[axis] += first
		return drawn{attrs: map[string]onnx.Attr{"axis": intAttr(axis)}, args: []string{"x", "parts"}, in: map[string]*tensor.Tensor{"x": spread(t, s...)},
			inits: map[string]*tensor.Tensor{"parts": int64s(first, s[axis]-first)}}
	}
	m["Expand"] = func(t *rapid.T) drawn {
		a, b := broadcastable(t)
		return drawn{args: []string{"x", "to"}, in: map[string]*tensor.Tensor{"x": spread(t, a...)}, inits: map[string]*tensor.Tensor{"to": int64s(b...)}}
	}
	m["Tile"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		return drawn{args: []string{"x", "times"}, in: map[string]*tensor.Tensor{"x": spread(t, s...)}, inits: map[string]*tensor.Tensor{"times": int64s(several(t, "times", len(s), 1, 3)...)}}
	}
	m["DepthToSpace"] = func(t *rapid.T) drawn {
		b := rapid.IntRange(1, 3).Draw(t, "block")
		s := several(t, "shape", 4, 1, 3)
		s[1] *= b * b
		return unary(spread(t, s...), map[string]onnx.Attr{"blocksize": intAttr(b), "mode": textAttr(rapid.SampledFrom([]string{"DCR", "CRD"}).Draw(t, "mode"))})
	}
	m["SpaceToDepth"] = func(t *rapid.T) drawn {
		b := rapid.IntRange(1, 3).Draw(t, "block")
		s := several(t, "shape", 4, 1, 2)
		return unary(spread(t, s[0], s[1], s[2]*b, s[3]*b), map[string]onnx.Attr{"blocksize": intAttr(b)})
	}
}

// addSelections adds the operators that pick elements or put some into place.
func addSelections(m map[string]func(*rapid.T) drawn) {
	m["Gather"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		axis := rapid.IntRange(0, len(s)-1).Draw(t, "axis")
		of := several(t, "indices", rapid.IntRange(0, 2).Draw(t, "rank of indices"), 1, 3)
		return drawn{attrs: map[string]onnx.Attr{"axis": intAttr(axis - len(s)*rapid.IntRange(0, 1).Draw(t, "from the end"))}, args: []string{"x", "i"},
			in: map[string]*tensor.Tensor{"x": spread(t, s...)}, inits: map[string]*tensor.Tensor{"i": indices(t, s[axis], of...)}}
	}
	m["GatherElements"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		axis := rapid.IntRange(0, len(s)-1).Draw(t, "axis")
		of := slices.Clone(s)
		of[axis] = rapid.IntRange(1, 4).Draw(t, "taken")
		return drawn{attrs: map[string]onnx.Attr{"axis": intAttr(axis)}, args: []string{"x", "i"},
			in: map[string]*tensor.Tensor{"x": spread(t, s...)}, inits: map[string]*tensor.Tensor{"i": indices(t, s[axis], of...)}}
	}
	m["GatherND"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		depth := rapid.IntRange(1, len(s)).Draw(t, "depth")
		n := rapid.IntRange(1, 4).Draw(t, "taken")
		i := tensor.Zeros[int64](n, depth)
		for k := range i.Int64s() {
			i.Int64s()[k] = int64(rapid.IntRange(0, s[k%depth]-1).Draw(t, "index"))
		}
		return drawn{args: []string{"x", "i"}, in: map[string]*tensor.Tensor{"x": spread(t, s...)}, inits: map[string]*tensor.Tensor{"i": i}}
	}
	m["ScatterND"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		n := rapid.IntRange(1, s[0]).Draw(t, "put")
		i := tensor.Zeros[int64](n, 1)
		copy(i.Int64s(), distinctIndices(t, s[0], n).Int64s())
		return drawn{attrs: map[string]onnx.Attr{"reduction": textAttr(rapid.SampledFrom([]string{"none", "add"}).Draw(t, "reduction"))}, args: []string{"x", "i", "u"},
			in: map[string]*tensor.Tensor{"x": spread(t, s...), "u": spread(t, append([]int{n}, s[1:]...)...)}, inits: map[string]*tensor.Tensor{"i": i}}
	}
	m["ScatterElements"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		last := len(s) - 1
		of := slices.Clone(s)
		of[last] = rapid.IntRange(1, s[last]).Draw(t, "put")
		return drawn{attrs: map[string]onnx.Attr{"axis": intAttr(last), "reduction": textAttr(rapid.SampledFrom([]string{"none", "add"}).Draw(t, "reduction"))}, args: []string{"x", "i", "u"},
			in: map[string]*tensor.Tensor{"x": spread(t, s...), "u": spread(t, of...)}, inits: map[string]*tensor.Tensor{"i": distinctIndices(t, s[last], of...)}}
	}
	m["TopK"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		axis := rapid.IntRange(0, len(s)-1).Draw(t, "axis")
		return drawn{attrs: map[string]onnx.Attr{"axis": intAttr(axis), "largest": intAttr(rapid.IntRange(0, 1).Draw(t, "largest"))}, args: []string{"x", "k"},
			in: map[string]*tensor.Tensor{"x": spread(t, s...)}, inits: map[string]*tensor.Tensor{"k": int64s(rapid.IntRange(1, s[axis]).Draw(t, "k"))}}
	}
	m["Trilu"] = func(t *rapid.T) drawn {
		return drawn{attrs: map[string]onnx.Attr{"upper": intAttr(rapid.IntRange(0, 1).Draw(t, "upper"))}, args: []string{"x", "k"},
			in: map[string]*tensor.Tensor{"x": spread(t, imageShape(t)...)}, inits: map[string]*tensor.Tensor{"k": tensor.Scalar(int64(rapid.IntRange(-3, 3).Draw(t, "k")))}}
	}
}

// addLayers adds products, normalisations and global pools.
func addLayers(m map[string]func(*rapid.T) drawn) {
	m["Gemm"] = func(t *rapid.T) drawn {
		s := several(t, "sizes", 3, 1, 4)
		a, b := []int{s[0], s[1]}, []int{s[1], s[2]}
		ta, tb := rapid.IntRange(0, 1).Draw(t, "transA"), rapid.IntRange(0, 1).Draw(t, "transB")
		if ta == 1 {
			slices.Reverse(a)
		}
		if tb == 1 {
			slices.Reverse(b)
		}
		c := rapid.SampledFrom([][]int{{}, {1}, {s[2]}, {s[0], 1}, {1, s[2]}, {s[0], s[2]}}).Draw(t, "bias")
		return drawn{attrs: map[string]onnx.Attr{"transA": intAttr(ta), "transB": intAttr(tb), "alpha": floatAttr(tenths(t, "alpha", 1, 20)), "beta": floatAttr(tenths(t, "beta", 1, 20))},
			args: []string{"x", "b", "c"}, in: map[string]*tensor.Tensor{"x": spread(t, a...), "b": spread(t, b...), "c": spread(t, c...)}}
	}
	m["Einsum"] = func(t *rapid.T) drawn {
		eq := rapid.SampledFrom(products).Draw(t, "equation")
		sizes := map[rune]int{}
		d := drawn{attrs: map[string]onnx.Attr{"equation": textAttr(eq)}, in: map[string]*tensor.Tensor{}}
		var shape []int
		for _, r := range eq {
			if r == ',' || r == '-' {
				name := []string{"x", "b"}[len(d.args)]
				d.args, d.in[name] = append(d.args, name), spread(t, shape...)
				if shape = nil; r == '-' {
					return d
				}
				continue
			}
			if sizes[r] == 0 {
				sizes[r] = rapid.IntRange(1, 3).Draw(t, "size of "+string(r))
			}
			shape = append(shape, sizes[r])
		}
		return d
	}
	m["BatchNormalization"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		d := perChannel(t, s)
		mean, variance := tensor.Zeros[float32](s[1]), tensor.Zeros[float32](s[1])
		for i := range s[1] {
			mean.Float32s()[i], variance.Float32s()[i] = 0.1*float32(i), 0.5+0.25*float32(i)
		}
		d.args, d.inits = append(d.args, "mean", "var"), map[string]*tensor.Tensor{"mean": mean, "var": variance}
		return d
	}
	m["InstanceNormalization"] = func(t *rapid.T) drawn { return perChannel(t, imageShape(t)) }
	m["LayerNormalization"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		d := perChannel(t, s)
		axis := rapid.IntRange(1, len(s)-1).Draw(t, "axis")
		d.attrs["axis"] = intAttr(axis - len(s)*rapid.IntRange(0, 1).Draw(t, "from the end"))
		d.in["s"], d.in["b"] = spread(t, s[axis:]...), spread(t, s[axis:]...)
		return d
	}
	m["LpNormalization"] = func(t *rapid.T) drawn {
		s := imageShape(t)
		return unary(scaled(t, 2, []float64{0}, s...), map[string]onnx.Attr{"axis": along(t, s), "p": intAttr(rapid.IntRange(1, 2).Draw(t, "p"))})
	}
	global := func(t *rapid.T) drawn { return unary(spread(t, imageShape(t)...), nil) }
	m["GlobalAveragePool"], m["GlobalMaxPool"] = global, global
}

// Operators with properties of their own in property_test.go.
var elsewhere = []string{
	"Conv", "ConvTranspose", "MaxPool", "AveragePool", "Slice", "Pad", "Resize", "Add", "Sub", "Mul", "Div", "Max", "MatMul",
	"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp",
}

// TestAnyOperator holds the gradient of a random node of each operator against numeric differences.
func TestAnyOperator(t *testing.T) {
	table := operators()
	for _, op := range autodiff.Operators() {
		draw := table[op]
		if draw == nil {
			if !slices.Contains(elsewhere, op) {
				t.Errorf("no property looks at the gradient of %s", op)
			}
			continue
		}
		t.Run(op, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				d := draw(t)
				if d.attrs == nil {
					d.attrs = map[string]onnx.Attr{}
				}
				checkRandom(t, drawSymbolic(t), op, d.attrs, d.args, d.in, d.inits)
			})
		})
	}
}
