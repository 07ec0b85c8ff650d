package onnx

import (
	"fmt"
	"math"
	"slices"

	"scrawl/engine/tensor"
)

// Fact is what is known of a value before the graph runs.
type Fact struct {
	DType tensor.DType   // Undefined when unknown
	Shape Shape          // nil when even the rank is unknown; empty, not nil, for a scalar
	Value *tensor.Tensor // the value itself, for initializers and for small values that follow from them and from shapes
}

// Infer computes a Fact for every value of g, inputs and initializers included; not for those inside bodies of Loop and If.
//
// Sizes are numbers or symbols. The symbols of the inputs are kept; sizes computed from them get canonical names, such as
// "floor(H/2)" or "2*H", so that equal names mean equal sizes; sizes that depend on data get names of their own. Integer
// values of up to 64 elements are followed symbolically through the usual chains (Shape, Gather, Concat, Reshape and
// arithmetic), so that a Reshape to a computed shape has the right rank and sizes.
//
// The graph should be normalised; older forms are read where they are easily told apart. Values of operators that Infer does not know
// have no shape, which is not an error (Check reports them); shapes that contradict each other are. Names that no node of g makes, as in
// the body of a Loop, are taken to come from outside and unknown.
func Infer(g *Graph) (map[string]Fact, error) {
	inf := newInference()
	if err := inf.graph(g); err != nil {
		return nil, err
	}
	facts := make(map[string]Fact, len(inf.values))
	for name, v := range inf.values {
		facts[name] = v.fact()
	}
	return facts, nil
}

// InferBodies is [Infer] for g and for the bodies of Loop and If inside it, where names from the graphs around are known too.
func InferBodies(g *Graph) (map[*Graph]map[string]Fact, error) {
	inf := newInference()
	inf.bodies = map[*Graph]map[string]known{}
	if err := inf.graph(g); err != nil {
		return nil, err
	}
	inf.bodies[g] = inf.values
	all := make(map[*Graph]map[string]Fact, len(inf.bodies))
	for body, values := range inf.bodies {
		facts := make(map[string]Fact, len(values))
		for name, v := range values {
			facts[name] = v.fact()
		}
		all[body] = facts
	}
	return all, nil
}

// maxFolded bounds the number of elements of values that are followed.
const maxFolded = 64

// known is a Fact under construction, with its elements where they are followed.
type known struct {
	Fact
	elems []elem // row-major; nil when not followed
}

// elem is one element of a small value: unknown, an exact rational num/den with a symbolic numerator, or a real number
// with no short exact form.
type elem struct {
	kind elemKind
	num  poly
	den  int64
	real float64
}

type elemKind int8

const (
	unknownElem elemKind = iota
	exactElem
	realElem
)

func exact(p poly) elem { return elem{kind: exactElem, num: p, den: 1} }

func exactInt(n int64) elem { return exact(number(n)) }

// floatElem keeps numbers with few binary digits exact.
func floatElem(f float64) elem {
	const den = 1 << 12
	if s := f * den; s == math.Trunc(s) && math.Abs(f) < 1<<40 {
		n, d := int64(s), int64(den)
		g := gcd(n, d)
		return elem{kind: exactElem, num: number(n / g), den: d / g}
	}
	return elem{kind: realElem, real: f}
}

// integer is the element as a polynomial, when it is an integer for certain.
func (e elem) integer() (poly, bool) { return e.num, e.kind == exactElem && e.den == 1 }

// constant is the element as a number.
func (e elem) constant() (float64, bool) {
	if e.kind == realElem {
		return e.real, true
	}
	if e.kind != exactElem {
		return 0, false
	}
	n, ok := e.num.constant()
	return float64(n) / float64(e.den), ok
}

type inference struct {
	algebra *algebra
	values  map[string]known
	rules   map[string]rule
	taken   map[string]bool // symbols of the inputs, and invented ones
	depth   int
	bodies  map[*Graph]map[string]known // where not nil, the facts inside bodies are kept here
}

func newInference() *inference {
	return &inference{algebra: newAlgebra(), values: map[string]known{}, rules: rules(), taken: map[string]bool{}}
}

func (inf *inference) graph(g *Graph) error {
	for _, in := range g.Initializers {
		inf.values[in.Name] = constantFact(in.Tensor)
	}
	for _, v := range g.Inputs {
		for _, d := range v.Shape {
			inf.taken[d.Symbol] = true
		}
		if _, ok := inf.values[v.Name]; !ok {
			inf.values[v.Name] = known{Fact: Fact{DType: v.DType, Shape: v.Shape}}
		}
	}
	for _, n := range g.Nodes {
		if err := inf.node(n); err != nil {
			return fmt.Errorf("infer shapes: node %q (%s): %w", n.Name, n.Op, err)
		}
	}
	return nil
}

// constantFact describes a constant.
func constantFact(t *tensor.Tensor) known {
	k := known{Fact: Fact{DType: t.DType(), Shape: shapeOfTensor(t), Value: t}}
	if t.Len() > maxFolded {
		return k
	}
	k.elems = make([]elem, t.Len())
	for i := range k.elems {
		if v, isInt := intElement(t, i); isInt {
			k.elems[i] = exactInt(v)
		} else {
			k.elems[i] = floatElem(floatElement(t, i))
		}
	}
	return k
}

func shapeOfTensor(t *tensor.Tensor) Shape {
	s := make(Shape, t.Rank())
	for i, d := range t.Shape() {
		s[i] = Dim{Size: int64(d)}
	}
	return s
}

func intElement(t *tensor.Tensor, i int) (int64, bool) {
	switch t.DType() {
	case tensor.Int64:
		return t.Int64s()[i], true
	case tensor.Int32:
		return int64(tensor.Data[int32](t)[i]), true
	case tensor.Uint8:
		return int64(tensor.Data[uint8](t)[i]), true
	case tensor.Int8:
		return int64(tensor.Data[int8](t)[i]), true
	case tensor.Bool:
		if tensor.Data[bool](t)[i] {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

func floatElement(t *tensor.Tensor, i int) float64 {
	if d := t.Float32s(); d != nil {
		return float64(d[i])
	}
	return tensor.Data[float64](t)[i]
}

// fact gives a value whose elements are all constant its tensor.
func (k known) fact() Fact {
	f := k.Fact
	if f.Value != nil || k.elems == nil || f.DType == tensor.Undefined {
		return f
	}
	shape := make([]int, len(f.Shape))
	for i, d := range f.Shape {
		if !d.Known() {
			return f
		}
		shape[i] = int(d.Size)
	}
	numbers := make([]float64, len(k.elems))
	for i, e := range k.elems {
		v, ok := e.constant()
		if !ok {
			return f
		}
		numbers[i] = v
	}
	if n, err := tensor.Count(shape); err != nil || n != len(numbers) {
		return f
	}
	f.Value = tensorOf(f.DType, shape, k.elems, numbers)
	return f
}

func tensorOf(d tensor.DType, shape []int, elems []elem, numbers []float64) *tensor.Tensor {
	switch d {
	case tensor.Float32:
		return tensor.Must(shape, castAll(numbers, func(v float64) float32 { return float32(v) }))
	case tensor.Float64:
		return tensor.Must(shape, numbers)
	case tensor.Int64: // not by way of float64, which would round
		v := make([]int64, len(elems))
		for i, e := range elems {
			v[i] = e.num[""]
		}
		return tensor.Must(shape, v)
	case tensor.Int32:
		return tensor.Must(shape, castAll(numbers, func(v float64) int32 { return int32(v) }))
	case tensor.Uint8:
		return tensor.Must(shape, castAll(numbers, func(v float64) uint8 { return uint8(v) }))
	case tensor.Int8:
		return tensor.Must(shape, castAll(numbers, func(v float64) int8 { return int8(v) }))
	case tensor.Bool:
		return tensor.Must(shape, castAll(numbers, func(v float64) bool { return v != 0 }))
	}
	return nil
}

func castAll[T tensor.Element](v []float64, f func(float64) T) []T {
	out := make([]T, len(v))
	for i, x := range v {
		out[i] = f(x)
	}
	return out
}

// rule computes what is known of a node's outputs. It may return fewer than there are; the rest stay unknown.
type rule func(c *inferCall) ([]known, error)

// inferCall is a node with what is known of its inputs; those left out or from outside are zero.
type inferCall struct {
	*Node
	*algebra
	inf *inference
	in  []known
}

func (inf *inference) node(n *Node) error {
	c := &inferCall{Node: n, algebra: inf.algebra, inf: inf, in: make([]known, len(n.Inputs))}
	for i, name := range n.Inputs {
		c.in[i] = inf.values[name]
	}
	var out []known
	if r, ok := inf.rules[n.Op]; ok && n.Domain == "" {
		var err error
		if out, err = r(c); err != nil {
			return err
		}
	}
	for i, name := range n.Outputs {
		if name == "" {
			continue
		}
		k := known{}
		if i < len(out) {
			k = out[i]
		}
		inf.values[name] = k
	}
	return nil
}

// arg is what is known of the i-th input.
func (c *inferCall) arg(i int) known {
	if i < len(c.in) {
		return c.in[i]
	}
	return known{}
}

// has reports whether the i-th input is given.
func (c *inferCall) has(i int) bool { return c.Input(i) != "" }

// fresh is a size that only the data tell, for one axis of an output.
func (c *inferCall) fresh(output, axis int) Dim {
	name := c.Name
	if output < len(c.Outputs) {
		name = c.Outputs[output]
	}
	return Dim{Symbol: freshSymbol(name, axis, c.inf.taken)}
}

// axis resolves a possibly negative axis against a rank.
func (c *inferCall) axis(a int64, rank int) (int, error) {
	if a < -int64(rank) || a >= int64(rank) {
		return 0, fmt.Errorf("axis %d is outside a value of rank %d", a, rank)
	}
	if a < 0 {
		a += int64(rank)
	}
	return int(a), nil
}

// ints returns the elements of the i-th input when they are all known integers.
func (c *inferCall) ints(i int) ([]int64, bool) {
	e := c.arg(i).elems
	if e == nil {
		return nil, false
	}
	out := make([]int64, len(e))
	for k, v := range e {
		p, ok := v.integer()
		if !ok {
			return nil, false
		}
		if out[k], ok = p.constant(); !ok {
			return nil, false
		}
	}
	return out, true
}

// axes reads the attribute of that name or the i-th input; given tells whether there is either, ok whether it is known.
func (c *inferCall) axes(name string, i int) (v []int64, given, ok bool) {
	if a, is := c.Attrs[name]; is {
		return a.Ints, true, true
	}
	if !c.has(i) {
		return nil, false, true
	}
	v, ok = c.ints(i)
	return v, true, ok
}

// as is a value of the given type and shape.
func as(d tensor.DType, s Shape) []known { return []known{{Fact: Fact{DType: d, Shape: s}}} }

// broadcast combines two sizes of one axis by ONNX's multidirectional broadcasting.
func (c *inferCall) broadcast(a, b Dim) (Dim, error) {
	switch {
	case a == b:
		return a, nil
	case a.Known() && a.Size == 1:
		return b, nil
	case b.Known() && b.Size == 1:
		return a, nil
	case a.Known() && b.Known():
		return a, fmt.Errorf("sizes %d and %d cannot be broadcast together", a.Size, b.Size)
	case a.Known():
		return a, nil
	case b.Known():
		return b, nil
	}
	return c.dim(c.extremum("max", c.of(a), c.of(b))), nil // one of them is 1, or they are equal
}

func (c *inferCall) broadcastShapes(shapes ...Shape) (Shape, error) {
	rank := 0
	for _, s := range shapes {
		if s == nil {
			return nil, nil
		}
		rank = max(rank, len(s))
	}
	out := make(Shape, rank)
	for i := range out {
		out[i] = Dim{Size: 1}
	}
	for _, s := range shapes {
		for i, d := range s {
			o := &out[rank-len(s)+i]
			var err error
			if *o, err = c.broadcast(*o, d); err != nil {
				return nil, fmt.Errorf("shapes %v: %w", shapes, err)
			}
		}
	}
	return out, nil
}

// same picks the more telling of two names for sizes that must be equal when the graph runs.
func same(a, b Dim) Dim {
	switch {
	case a.Known():
		return a
	case b.Known(), len(b.Symbol) < len(a.Symbol):
		return b
	}
	return a
}

// product multiplies sizes.
func (c *inferCall) product(s Shape) poly {
	p := number(1)
	for _, d := range s {
		p = c.mul(p, c.of(d))
	}
	return p
}

// folded attaches elements to a value, when their number fits its shape.
func folded(d tensor.DType, s Shape, elems []elem) known {
	k := known{Fact: Fact{DType: d, Shape: s}}
	n := int64(1)
	for _, dim := range s {
		if !dim.Known() {
			return k
		}
		n *= dim.Size
	}
	if s != nil && elems != nil && n == int64(len(elems)) && n <= maxFolded {
		k.elems = elems
	}
	return k
}

func cloneShape(s Shape) Shape { return slices.Clone(s) }

// joined concatenates shapes; the result is never nil, which would mean an unknown rank.
func joined(shapes ...Shape) Shape { return append(Shape{}, slices.Concat(shapes...)...) }
