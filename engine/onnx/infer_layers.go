package onnx

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"scrawl/engine/tensor"
)

// Rules of convolutions, pooling, normalisation, reductions, products, resizing and control flow.

// axisWindow is the geometry of a convolution or pooling along one axis.
type axisWindow struct {
	kernel, stride, dilation, before, after int64
}

func (w axisWindow) extent() int64 { return (w.kernel-1)*w.dilation + 1 }

// maxWindow bounds every number in a window's geometry, which keeps all sums of them far from overflow.
const maxWindow = 1 << 20

// windows reads the geometry for d spatial axes; kernel may be nil when the attribute kernel_shape gives it.
func (c *inferCall) windows(d int, kernel []int64) ([]axisWindow, error) {
	if v := c.Ints("kernel_shape"); v != nil {
		kernel = v
	}
	list := func(name string, n int, def int64) ([]int64, error) {
		v := c.Ints(name)
		if v == nil {
			v = make([]int64, n)
			for i := range v {
				v[i] = def
			}
		}
		if len(v) != n {
			return nil, fmt.Errorf("attribute %q has %d elements, want %d", name, len(v), n)
		}
		return v, nil
	}
	if len(kernel) != d {
		return nil, fmt.Errorf("has a kernel of %d axes for %d spatial axes", len(kernel), d)
	}
	strides, err := list("strides", d, 1)
	if err != nil {
		return nil, err
	}
	dilations, err := list("dilations", d, 1)
	if err != nil {
		return nil, err
	}
	pads, err := list("pads", 2*d, 0)
	if err != nil {
		return nil, err
	}
	w := make([]axisWindow, d)
	for i := range w {
		w[i] = axisWindow{kernel[i], strides[i], dilations[i], pads[i], pads[i+d]}
		if k := w[i]; k.kernel < 1 || k.stride < 1 || k.dilation < 1 || max(k.kernel, k.stride, k.dilation, k.before, k.after) > maxWindow || min(k.before, k.after) < -maxWindow {
			return nil, fmt.Errorf("kernel %v, strides %v, dilations %v and pads %v are not a window", kernel, strides, dilations, pads)
		}
	}
	return w, nil
}

// slide is the size of the output along one axis of a window that slides over n elements.
func (c *inferCall) slide(n poly, w axisWindow, ceil bool) poly {
	switch c.Str("auto_pad", "NOTSET") {
	case "SAME_UPPER", "SAME_LOWER":
		return c.ceilDiv(n, w.stride)
	case "VALID":
		w.before, w.after = 0, 0
	}
	span := n.addInt(w.before + w.after - w.extent())
	if !ceil {
		return c.floorDiv(span, w.stride).addInt(1)
	}
	// The last window must begin inside the input or the padding before it.
	return c.extremum("min", c.ceilDiv(span, w.stride).addInt(1), c.ceilDiv(n.addInt(w.before), w.stride))
}

// spatialKernel is the kernel's size by the weight's shape, nil when unknown.
func spatialKernel(w Shape) []int64 {
	if len(w) < 3 {
		return nil
	}
	out := make([]int64, len(w)-2)
	for i, d := range w[2:] {
		if !d.Known() {
			return nil
		}
		out[i] = d.Size
	}
	return out
}

func convRule(c *inferCall) ([]known, error) {
	x, w := c.arg(0), c.arg(1)
	r := len(x.Shape)
	if x.Shape == nil {
		r = len(w.Shape)
	}
	if r == 0 {
		return as(x.DType, nil), nil
	}
	if r < 3 || w.Shape != nil && len(w.Shape) != r {
		return nil, fmt.Errorf("input of rank %d and weight of rank %d do not fit", r, len(w.Shape))
	}
	s := make(Shape, r)
	for a := range s {
		s[a] = c.fresh(0, a)
	}
	if w.Shape != nil {
		s[1] = w.Shape[0]
	}
	if x.Shape == nil {
		return as(x.DType, s), nil
	}
	s[0] = x.Shape[0]
	if w.Shape != nil {
		if in, per := x.Shape[1], w.Shape[1]; in.Known() && per.Known() && in.Size != per.Size*c.Int("group", 1) {
			return nil, fmt.Errorf("input of shape %v has %d channels; the weight of shape %v wants %d", x.Shape, in.Size, w.Shape, per.Size*c.Int("group", 1))
		}
	}
	kernel := spatialKernel(w.Shape)
	if kernel == nil && c.Ints("kernel_shape") == nil {
		return as(x.DType, s), nil
	}
	win, err := c.windows(r-2, kernel)
	if err != nil {
		return nil, err
	}
	return c.slideAll(x, s, win)
}

// slideAll fills in the spatial axes of s.
func (c *inferCall) slideAll(x known, s Shape, win []axisWindow) ([]known, error) {
	for i, w := range win {
		s[i+2] = c.dim(c.slide(c.of(x.Shape[i+2]), w, c.Int("ceil_mode", 0) == 1))
		if d := s[i+2]; d.Known() && d.Size < 1 {
			return nil, fmt.Errorf("the kernel's extent %d exceeds the padded input of shape %v", w.extent(), x.Shape)
		}
	}
	return as(x.DType, s), nil
}

func convTransposeRule(c *inferCall) ([]known, error) {
	x, w := c.arg(0), c.arg(1)
	if x.Shape == nil {
		return as(x.DType, nil), nil
	}
	r := len(x.Shape)
	if r < 3 || w.Shape != nil && len(w.Shape) != r {
		return nil, fmt.Errorf("input of shape %v and weight of shape %v do not fit", x.Shape, w.Shape)
	}
	s := make(Shape, r)
	for a := range s {
		s[a] = c.fresh(0, a)
	}
	s[0] = x.Shape[0]
	if w.Shape == nil {
		return as(x.DType, s), nil
	}
	s[1] = c.dim(c.of(w.Shape[1]).scale(c.Int("group", 1)))
	kernel := spatialKernel(w.Shape)
	if kernel == nil && c.Ints("kernel_shape") == nil {
		return as(x.DType, s), nil
	}
	win, err := c.windows(r-2, kernel)
	if err != nil {
		return nil, err
	}
	want, extra := c.Ints("output_shape"), c.Ints("output_padding")
	for i, k := range win {
		n := c.of(x.Shape[i+2])
		auto := c.Str("auto_pad", "NOTSET")
		switch {
		case len(want) >= r-2:
			s[i+2] = Dim{Size: want[len(want)-(r-2)+i]}
		case auto == "SAME_UPPER" || auto == "SAME_LOWER":
			s[i+2] = c.dim(n.scale(k.stride))
		default:
			if auto == "VALID" {
				k.before, k.after = 0, 0
			}
			add := k.extent() - k.stride - k.before - k.after
			if i < len(extra) {
				add += extra[i]
			}
			s[i+2] = c.dim(n.scale(k.stride).addInt(add))
		}
	}
	return as(x.DType, s), nil
}

func poolRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	if x.Shape == nil {
		n := len(c.Ints("kernel_shape"))
		if n == 0 {
			return as(x.DType, nil), nil
		}
		s := make(Shape, n+2)
		for a := range s {
			s[a] = c.fresh(0, a)
		}
		return c.withIndices(as(x.DType, s)), nil
	}
	if len(x.Shape) < 3 {
		return nil, fmt.Errorf("needs an input [N,C,…], got shape %v", x.Shape)
	}
	win, err := c.windows(len(x.Shape)-2, nil)
	if err != nil {
		return nil, err
	}
	out, err := c.slideAll(x, cloneShape(x.Shape), win)
	return c.withIndices(out), err
}

// withIndices adds MaxPool's second output.
func (c *inferCall) withIndices(out []known) []known {
	if c.Op == "MaxPool" && len(out) == 1 {
		out = append(out, as(tensor.Int64, out[0].Shape)...)
	}
	return out
}

func globalPoolRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	s := cloneShape(x.Shape)
	for a := 2; a < len(s); a++ {
		s[a] = Dim{Size: 1}
	}
	return as(x.DType, s), nil
}

func layerNormRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	if x.Shape == nil {
		return as(x.DType, nil), nil
	}
	axis, err := c.axis(c.Int("axis", -1), len(x.Shape))
	if err != nil {
		return nil, err
	}
	stat := cloneShape(x.Shape)
	for a := axis; a < len(stat); a++ {
		stat[a] = Dim{Size: 1}
	}
	out := as(x.DType, x.Shape)
	out = append(out, as(tensor.Float32, stat)...)
	return append(out, as(tensor.Float32, stat)...), nil
}

func reduceRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	if x.Shape == nil {
		return as(x.DType, nil), nil
	}
	axes, _, ok := c.axes("axes", 1)
	keep := c.Int("keepdims", 1) == 1
	if !ok {
		return as(x.DType, c.unknownAxes(x.Shape, keep)), nil
	}
	if len(axes) == 0 {
		if c.Int("noop_with_empty_axes", 0) == 1 {
			return as(x.DType, x.Shape), nil
		}
		for a := range x.Shape {
			axes = append(axes, int64(a))
		}
	}
	return c.reduced(x, x.DType, axes, keep)
}

// unknownAxes is the shape after a reduction over axes that are not known: of the same rank when sizes of 1 are kept.
func (c *inferCall) unknownAxes(s Shape, keep bool) Shape {
	if !keep {
		return nil
	}
	out := make(Shape, len(s))
	for a := range out {
		out[a] = c.fresh(0, a)
	}
	return out
}

func (c *inferCall) reduced(x known, d tensor.DType, axes []int64, keep bool) ([]known, error) {
	gone := make([]bool, len(x.Shape))
	for _, a := range axes {
		i, err := c.axis(a, len(x.Shape))
		if err != nil {
			return nil, err
		}
		gone[i] = true
	}
	s := Shape{}
	for i, dim := range x.Shape {
		switch {
		case !gone[i]:
			s = append(s, dim)
		case keep:
			s = append(s, Dim{Size: 1})
		}
	}
	out := as(d, s)
	if c.Op == "ReduceProd" && len(x.elems) > 0 && len(x.Shape) == 1 && gone[0] { // the number of elements of a shape
		p := exactInt(1)
		for _, e := range x.elems {
			if e.kind != exactElem {
				return out, nil
			}
			p = mulElems(c, p, e, d)
		}
		out[0] = folded(d, s, []elem{p})
	}
	return out, nil
}

func argRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	if x.Shape == nil {
		return as(tensor.Int64, nil), nil
	}
	return c.reduced(x, tensor.Int64, []int64{c.Int("axis", 0)}, c.Int("keepdims", 1) == 1)
}

func topKRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	s := cloneShape(x.Shape)
	if s != nil {
		axis, err := c.axis(c.Int("axis", -1), len(s))
		if err != nil {
			return nil, err
		}
		s[axis] = c.fresh(0, axis)
		if k := c.arg(1); len(k.elems) == 1 {
			if p, ok := k.elems[0].integer(); ok {
				s[axis] = c.dim(p)
			}
		}
	}
	return append(as(x.DType, s), as(tensor.Int64, s)...), nil
}

func matMulRule(c *inferCall) ([]known, error) {
	a, b := c.arg(0), c.arg(1)
	d := a.DType
	if a.Shape == nil || b.Shape == nil {
		return as(d, nil), nil
	}
	if len(a.Shape) == 0 || len(b.Shape) == 0 {
		return nil, fmt.Errorf("shapes %v and %v cannot be multiplied", a.Shape, b.Shape)
	}
	sa, sb := cloneShape(a.Shape), cloneShape(b.Shape)
	row, col := len(sa) == 1, len(sb) == 1
	if row {
		sa = append(Shape{{Size: 1}}, sa...)
	}
	if col {
		sb = append(sb, Dim{Size: 1})
	}
	ra, rb := len(sa), len(sb)
	if k, l := sa[ra-1], sb[rb-2]; k.Known() && l.Known() && k != l {
		return nil, fmt.Errorf("shapes %v and %v cannot be multiplied", a.Shape, b.Shape)
	}
	s, err := c.broadcastShapes(sa[:ra-2], sb[:rb-2])
	if err != nil {
		return nil, err
	}
	if !row {
		s = append(s, sa[ra-2])
	}
	if !col {
		s = append(s, sb[rb-1])
	}
	return as(d, s), nil
}

func gemmRule(c *inferCall) ([]known, error) {
	a, b := c.arg(0), c.arg(1)
	s := Shape{c.fresh(0, 0), c.fresh(0, 1)}
	side := func(k known, name string, plain int) (inner, outer Dim, err error) {
		if len(k.Shape) != 2 {
			return inner, outer, fmt.Errorf("needs matrices, got shape %v", k.Shape)
		}
		i := plain
		if c.Int(name, 0) != 0 {
			i = 1 - i
		}
		return k.Shape[i], k.Shape[1-i], nil
	}
	var k, l Dim
	var err error
	if a.Shape != nil {
		if k, s[0], err = side(a, "transA", 1); err != nil {
			return nil, err
		}
	}
	if b.Shape != nil {
		if l, s[1], err = side(b, "transB", 0); err != nil {
			return nil, err
		}
	}
	if a.Shape != nil && b.Shape != nil && k.Known() && l.Known() && k != l {
		return nil, fmt.Errorf("shapes %v and %v cannot be multiplied", a.Shape, b.Shape)
	}
	return as(a.DType, s), nil
}

func einsumRule(c *inferCall) ([]known, error) {
	equation := strings.ReplaceAll(c.Str("equation", ""), " ", "")
	left, right, explicit := strings.Cut(equation, "->")
	terms := strings.Split(left, ",")
	d := c.arg(0).DType
	if strings.Contains(equation, "...") || len(terms) != len(c.in) {
		return as(d, nil), nil
	}
	sizes, uses := map[rune]Dim{}, map[rune]int{}
	for i, term := range terms {
		s := c.arg(i).Shape
		if s == nil {
			return as(d, nil), nil
		}
		if len(term) != len(s) {
			return nil, fmt.Errorf("term %q does not fit shape %v", term, s)
		}
		for k, label := range term {
			if old, ok := sizes[label]; ok {
				sizes[label] = same(old, s[k])
			} else {
				sizes[label] = s[k]
			}
			uses[label]++
		}
	}
	if !explicit {
		for l := rune('A'); l <= 'z'; l++ {
			if uses[l] == 1 {
				right += string(l)
			}
		}
	}
	s := Shape{}
	for _, label := range right {
		dim, ok := sizes[label]
		if !ok {
			return nil, fmt.Errorf("output label %q is in no input", label)
		}
		s = append(s, dim)
	}
	return as(d, s), nil
}

func resizeRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	if x.Shape == nil {
		return as(x.DType, nil), nil
	}
	scales, sizes := c.arg(2), c.arg(3)
	if len(c.Inputs) == 2 { // Resize-10 and Upsample-9
		scales = c.arg(1)
	}
	axes := c.Ints("axes")
	if axes == nil {
		for a := range x.Shape {
			axes = append(axes, int64(a))
		}
	}
	s := cloneShape(x.Shape)
	for i, a := range axes {
		axis, err := c.axis(a, len(s))
		if err != nil {
			return nil, err
		}
		s[axis] = c.fresh(0, axis)
		switch {
		case i < len(sizes.elems):
			if p, ok := sizes.elems[i].integer(); ok && c.Str("keep_aspect_ratio_policy", "stretch") == "stretch" {
				s[axis] = c.dim(p)
			}
		case i < len(scales.elems):
			if e, ok := c.scaled(c.of(x.Shape[axis]), scales.elems[i]); ok {
				s[axis] = c.dim(e)
			}
		}
	}
	return as(x.DType, s), nil
}

// scaled is floor(n · scale).
func (c *inferCall) scaled(n poly, scale elem) (poly, bool) {
	size, fixed := n.constant()
	factor, isNumber := scale.constant()
	switch {
	case scale.kind == unknownElem:
		return nil, false
	case fixed && isNumber:
		return number(int64(math.Floor(float64(size) * factor))), true
	case scale.kind == exactElem:
		return c.floorDiv(c.mul(n, scale.num), scale.den), true
	}
	return atom("floor(" + strconv.FormatFloat(factor, 'g', -1, 64) + "*" + c.grouped(n) + ")"), true
}

func dropoutRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	return append([]known{x}, as(tensor.Bool, x.Shape)...), nil
}

func identityRule(c *inferCall) ([]known, error) { return []known{c.arg(0)}, nil }

// maxInferDepth bounds the nesting of bodies.
const maxInferDepth = 16

// body infers a Loop's or If's graph, whose inputs have the given facts, in a scope of its own.
func (c *inferCall) body(g *Graph, args []known) ([]known, error) {
	inf := &inference{algebra: c.algebra, values: map[string]known{}, rules: c.inf.rules, taken: c.inf.taken, depth: c.inf.depth + 1, bodies: c.inf.bodies}
	if inf.depth > maxInferDepth {
		return nil, fmt.Errorf("graphs are nested more than %d deep", maxInferDepth)
	}
	for name, k := range c.inf.values {
		inf.values[name] = k
	}
	for i, v := range g.Inputs {
		k := known{Fact: Fact{DType: v.DType, Shape: v.Shape}}
		if i < len(args) && args[i].Shape != nil {
			k = args[i]
		}
		inf.values[v.Name] = k
	}
	inner := *g
	inner.Inputs = nil
	if err := inf.graph(&inner); err != nil {
		return nil, err
	}
	if inf.bodies != nil {
		inf.bodies[g] = inf.values
	}
	out := make([]known, len(g.Outputs))
	for i, v := range g.Outputs {
		out[i] = inf.values[v.Name]
		if out[i].DType == tensor.Undefined {
			out[i].DType = v.DType
		}
	}
	return out, nil
}

// merge keeps what two facts of one value agree on.
func (c *inferCall) merge(a, b known, output int) known {
	k := known{Fact: Fact{DType: a.DType}}
	if a.Shape == nil || b.Shape == nil || len(a.Shape) != len(b.Shape) {
		return k
	}
	k.Shape = make(Shape, len(a.Shape))
	for i, d := range a.Shape {
		if k.Shape[i] = d; d != b.Shape[i] {
			k.Shape[i] = c.fresh(output, i)
		}
	}
	return k
}

func ifRule(c *inferCall) ([]known, error) {
	thenGraph, elseGraph := c.Attrs["then_branch"].Graph, c.Attrs["else_branch"].Graph
	if thenGraph == nil || elseGraph == nil {
		return nil, fmt.Errorf("wants the graphs then_branch and else_branch")
	}
	if e := c.arg(0).elems; len(e) == 1 {
		if v, ok := e[0].constant(); ok {
			if v != 0 {
				return c.body(thenGraph, nil)
			}
			return c.body(elseGraph, nil)
		}
	}
	a, err := c.body(thenGraph, nil)
	if err != nil {
		return nil, err
	}
	b, err := c.body(elseGraph, nil)
	if err != nil {
		return nil, err
	}
	for i := range a {
		if i < len(b) {
			a[i] = c.merge(a[i], b[i], i)
		}
	}
	return a, nil
}

func loopRule(c *inferCall) ([]known, error) {
	g := c.Attrs["body"].Graph
	if g == nil {
		return nil, fmt.Errorf("wants the graph body")
	}
	n := max(0, len(c.in)-2)
	if len(g.Inputs) != n+2 || len(g.Outputs) < n+1 {
		return nil, fmt.Errorf("the body has %d inputs and %d outputs; %d carried values want %d and at least %d", len(g.Inputs), len(g.Outputs), n, n+2, n+1)
	}
	carried := make([]known, n)
	for i := range carried {
		carried[i] = known{Fact: Fact{DType: c.in[i+2].DType, Shape: c.in[i+2].Shape}}
	}
	head := []known{as(tensor.Int64, Shape{})[0], as(tensor.Bool, Shape{})[0]}
	var out []known
	for range 3 { // until the carried shapes no longer change from one iteration to the next
		var err error
		if out, err = c.body(g, append(append([]known{}, head...), carried...)); err != nil {
			return nil, err
		}
		stable := true
		for i := range carried {
			m := c.merge(carried[i], out[i+1], i)
			stable = stable && equalShapes(m.Shape, carried[i].Shape)
			carried[i] = m
		}
		if stable {
			break
		}
	}
	for k, v := range out[n+1:] {
		s := Shape(nil)
		if v.Shape != nil {
			s = append(Shape{c.fresh(n+k, 0)}, v.Shape...)
		}
		carried = append(carried, known{Fact: Fact{DType: v.DType, Shape: s}})
	}
	return carried, nil
}

func equalShapes(a, b Shape) bool {
	if len(a) != len(b) || (a == nil) != (b == nil) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
