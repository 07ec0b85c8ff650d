package autodiff

import (
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// tape is the state of one reverse walk, and the vocabulary in which VJPs are written.
type tape struct {
	b          *onnx.Builder
	rules      map[string]vjp
	facts      map[string]onnx.Fact // of the forward values
	producers  map[string]*onnx.Node
	cotangents map[string][]string // contributions so far, by forward value
	dims       map[string]string   // run-time sizes already computed, by symbol
}

// call is one node to be differentiated: its output cotangents ("" where there is none) and which inputs want one.
type call struct {
	*onnx.Node
	dys  []string
	want []bool
}

// dy is the cotangent of the first output.
func (c call) dy() string { return c.dys[0] }

// y is the first output.
func (c call) y() string { return c.Outputs[0] }

// one is the answer of a VJP whose first input alone has a gradient.
func one(dx string) ([]string, error) { return []string{dx}, nil }

// cotangent adds up the contributions to a value's cotangent; "" when there are none.
func (t *tape) cotangent(v string) string {
	parts := t.cotangents[v]
	if len(parts) == 0 {
		return ""
	}
	sum := parts[0]
	for _, p := range parts[1:] {
		sum = t.op("Add", sum, p)
	}
	if len(parts) > 1 {
		t.cotangents[v] = []string{sum}
	}
	return sum
}

func (t *tape) op(op string, inputs ...string) string { return t.b.Op(op, inputs) }

func (t *tape) mul(a, b string) string { return t.op("Mul", a, b) }
func (t *tape) add(a, b string) string { return t.op("Add", a, b) }
func (t *tape) sub(a, b string) string { return t.op("Sub", a, b) }
func (t *tape) div(a, b string) string { return t.op("Div", a, b) }
func (t *tape) f(v float64) string     { return t.b.Float(float32(v)) }

// scale multiplies by a constant.
func (t *tape) scale(a string, k float64) string {
	if k == 1 {
		return a
	}
	return t.mul(a, t.f(k))
}

// positive is 1 where v > 0 and 0 elsewhere. A steep HardSigmoid is the fastest form on CPU.
func (t *tape) positive(v string) string {
	return t.b.Op("HardSigmoid", []string{v}, onnx.WithFloat("alpha", 1e30), onnx.WithFloat("beta", 0))
}

// mask turns a boolean value into 0 and 1.
func (t *tape) mask(v string) string {
	return t.b.Op("Cast", []string{v}, onnx.WithInt("to", int64(tensor.Float32)))
}

func (t *tape) shape(v string) onnx.Shape { return t.facts[v].Shape }

// rank returns the number of dimensions of a forward value, or an error naming the node that needs it.
func (t *tape) rank(n *onnx.Node, v string) (int, error) {
	s := t.shape(v)
	if s == nil {
		return 0, unsupported(n, "the rank of %q is not known", v)
	}
	return len(s), nil
}

// constInts returns the elements of a forward value that is a known integer constant.
func (t *tape) constInts(v string) ([]int64, bool) {
	c := t.facts[v].Value
	if c == nil {
		return nil, false
	}
	if d := c.Int64s(); d != nil {
		return d, true
	}
	if d := tensor.Data[int32](c); d != nil {
		w := make([]int64, len(d))
		for i, x := range d {
			w[i] = int64(x)
		}
		return w, true
	}
	return nil, false
}

// constFloats returns the elements of a forward value that is a known float constant.
func (t *tape) constFloats(v string) ([]float64, bool) {
	c := t.facts[v].Value
	if c == nil {
		return nil, false
	}
	if d := tensor.Data[float64](c); d != nil {
		return d, true
	}
	d := c.Float32s()
	if d == nil {
		return nil, false
	}
	w := make([]float64, len(d))
	for i, x := range d {
		w[i] = float64(x)
	}
	return w, true
}

// allEqual reports whether a value is known to hold x in every element: a constant, or one expanded at run time.
func (t *tape) allEqual(v string, x float64) bool {
	if d, ok := t.constFloats(v); ok {
		for _, e := range d {
			if e != x {
				return false
			}
		}
		return true
	}
	if p := t.producers[v]; p != nil && p.Op == "Expand" {
		return t.allEqual(p.Inputs[0], x)
	}
	return false
}

// shapeOf is the shape of a forward value as an int64 vector: a constant when it is known, else computed at run time.
func (t *tape) shapeOf(v string) string {
	if s := t.shape(v); s != nil {
		if sizes, ok := known(s); ok {
			return t.b.Int64s(sizes...)
		}
	}
	key := "shape " + v
	if name, ok := t.dims[key]; ok {
		return name
	}
	name := t.op("Shape", v)
	t.dims[key] = name
	return name
}

func known(s onnx.Shape) ([]int64, bool) {
	sizes := make([]int64, len(s))
	for i, d := range s {
		if !d.Known() {
			return nil, false
		}
		sizes[i] = d.Size
	}
	return sizes, true
}

// dim is the size of one axis of a forward value as an int64 vector of one element. Sizes with the same symbol are
// computed once.
func (t *tape) dim(v string, axis int) string {
	s := t.shape(v)
	if s != nil && s[axis].Known() {
		return t.b.Int64s(s[axis].Size)
	}
	key := ""
	if s != nil {
		key = "dim " + s[axis].Symbol
		if name, ok := t.dims[key]; ok {
			return name
		}
	}
	name := t.op("Gather", t.shapeOf(v), t.b.Int64s(int64(axis)))
	if key != "" {
		t.dims[key] = name
	}
	return name
}

func (t *tape) reshape(v string, sizes ...int64) string {
	return t.op("Reshape", v, t.b.Int64s(sizes...))
}

// reshapeLike gives v the shape of a forward value.
func (t *tape) reshapeLike(v, like string) string { return t.op("Reshape", v, t.shapeOf(like)) }

func (t *tape) transpose(v string, perm ...int64) string {
	return t.b.Op("Transpose", []string{v}, onnx.WithInts("perm", perm...))
}

func (t *tape) concat(axis int64, vs ...string) string {
	return t.b.Op("Concat", vs, onnx.WithInt("axis", axis))
}

// sum adds over the given axes.
func (t *tape) sum(v string, keep bool, axes ...int64) string {
	return t.reduce("ReduceSum", v, keep, axes...)
}

// mean averages over the given axes, which it keeps with size 1.
func (t *tape) mean(v string, axes ...int64) string {
	return t.reduce("ReduceMean", v, true, axes...)
}

func (t *tape) reduce(op, v string, keep bool, axes ...int64) string {
	k := int64(0)
	if keep {
		k = 1
	}
	return t.b.Op(op, []string{v, t.b.Int64s(axes...)}, onnx.WithInt("keepdims", k))
}

// zeros is a tensor of zeros of a run-time shape.
func (t *tape) zeros(shape string) string { return t.op("Expand", t.f(0), shape) }

// zerosLike is a tensor of zeros of a forward value's shape.
func (t *tape) zerosLike(v string) string { return t.zeros(t.shapeOf(v)) }

// pad pads (or, where negative, crops) v, of the given rank, with zeros along the given axes; begin and end are int64 vectors of
// that length. The node has amounts for all axes, not the input axes of opset 18: ONNX Runtime 1.32 and earlier move a Transpose through
// Pad as if it had none.
func (t *tape) pad(v string, rank int, begin, end string, axes ...int64) string {
	return t.op("Pad", v, t.concat(0, t.forAllAxes(begin, rank, axes), t.forAllAxes(end, rank, axes)), t.f(0))
}

// forAllAxes spreads an int64 vector with an element for each of some axes over all axes, with zeros for the others.
func (t *tape) forAllAxes(v string, rank int, axes []int64) string {
	last := len(axes) - 1
	for i, a := range axes {
		if a != axes[0]+int64(i) {
			return t.b.Op("ScatterElements", []string{t.b.Int64s(repeat(0, rank)...), t.b.Int64s(axes...), v}, onnx.WithInt("axis", 0))
		}
	}
	var parts []string
	if axes[0] > 0 {
		parts = append(parts, t.b.Int64s(repeat(0, int(axes[0]))...))
	}
	parts = append(parts, v)
	if rest := rank - 1 - int(axes[last]); rest > 0 {
		parts = append(parts, t.b.Int64s(repeat(0, rest)...))
	}
	return t.joined(parts)
}

// padFixed is pad with constant amounts; it emits nothing when they are all zero.
func (t *tape) padFixed(v string, rank int, begin, end, axes []int64) string {
	all := make([]int64, 2*rank)
	for i, a := range axes {
		all[a], all[rank+int(a)] = begin[i], end[i]
	}
	if allZero(all) {
		return v
	}
	return t.op("Pad", v, t.b.Int64s(all...), t.f(0))
}

func allZero(v []int64) bool {
	for _, x := range v {
		if x != 0 {
			return false
		}
	}
	return true
}

// slice takes v[starts:ends] along the axes, with step 1; starts and ends are int64 vectors.
func (t *tape) slice(v, starts, ends string, axes ...int64) string {
	return t.op("Slice", v, starts, ends, t.b.Int64s(axes...))
}

// flip reverses v along one axis.
func (t *tape) flip(v string, axis int64) string {
	const beforeStart = -1 << 62
	return t.op("Slice", v, t.b.Int64s(-1), t.b.Int64s(beforeStart), t.b.Int64s(axis), t.b.Int64s(-1))
}

// unbroadcast sums g, which has the shape of the forward value out, down to the shape of the forward value in, undoing
// ONNX's multidirectional broadcasting (https://github.com/onnx/onnx/blob/main/docs/Broadcasting.md).
func (t *tape) unbroadcast(n *onnx.Node, g, out, in string) (string, error) {
	so, si := t.shape(out), t.shape(in)
	if so == nil || si == nil {
		return "", unsupported(n, "the rank of %q or %q is not known", out, in)
	}
	lead := len(so) - len(si)
	var axes []int64
	for i := range lead {
		axes = append(axes, int64(i))
	}
	for i, d := range si {
		o := so[lead+i]
		switch {
		case d == o, o.Known() && o.Size == 1:
		case d.Known() && d.Size == 1:
			axes = append(axes, int64(lead+i))
		case d.Known() || o.Known():
			// A known size above 1 on either side: the other symbol must be that size, or 1 in the input.
			if d.Known() {
				continue
			}
			return t.unbroadcastAtRunTime(g, out, in, lead), nil
		default:
			return t.unbroadcastAtRunTime(g, out, in, lead), nil
		}
	}
	if len(axes) == 0 {
		return g, nil
	}
	if len(axes) == lead {
		return t.sum(g, false, axes...), nil
	}
	g = t.sum(g, true, axes...)
	if lead > 0 {
		g = t.reshapeLike(g, in)
	}
	return g, nil
}

// unbroadcastAtRunTime finds the axes to sum over by comparing the two shapes when the graph runs.
func (t *tape) unbroadcastAtRunTime(g, out, in string, lead int) string {
	shape := t.op("Shape", in)
	if lead > 0 {
		ones := make([]int64, lead)
		for i := range ones {
			ones[i] = 1
		}
		shape = t.concat(0, t.b.Int64s(ones...), shape)
	}
	differ := t.op("Not", t.op("Equal", shape, t.op("Shape", out)))
	axes := t.reshape(t.op("NonZero", differ), -1)
	g = t.b.Op("ReduceSum", []string{g, axes}, onnx.WithInt("keepdims", 1), onnx.WithInt("noop_with_empty_axes", 1))
	return t.op("Reshape", g, t.op("Shape", in))
}
