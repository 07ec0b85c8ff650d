package onnx

import (
	"fmt"
	"math"
	"slices"

	"scrawl/engine/tensor"
)

// Rules of operators that rearrange their input.

func shapeRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	if x.Shape == nil {
		return as(tensor.Int64, Shape{c.fresh(0, 0)}), nil
	}
	n := int64(len(x.Shape))
	clamp := func(v int64) int64 {
		if v < 0 {
			v += n
		}
		return min(max(v, 0), n)
	}
	start, end := clamp(c.Int("start", 0)), clamp(c.Int("end", n))
	elems := []elem{}
	for i := start; i < end; i++ {
		elems = append(elems, exact(c.of(x.Shape[i])))
	}
	return []known{folded(tensor.Int64, Fixed(int64(len(elems))), elems)}, nil
}

func sizeRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	if x.Shape == nil {
		return as(tensor.Int64, Shape{}), nil
	}
	return []known{folded(tensor.Int64, Shape{}, []elem{exact(c.product(x.Shape))})}, nil
}

func constantRule(c *inferCall) ([]known, error) {
	t, err := constantValue(c.Node)
	if err != nil {
		return nil, err
	}
	return []known{constantFact(t)}, nil
}

func constantOfShapeRule(c *inferCall) ([]known, error) {
	fill := tensor.Vector[float32](0)
	if a, ok := c.Attrs["value"]; ok && a.Tensor != nil && a.Tensor.Len() == 1 {
		fill = a.Tensor
	}
	s := c.target(0)
	k := known{Fact: Fact{DType: fill.DType(), Shape: s}}
	if sizes, ok := smallSizes(s); ok {
		n := 1
		for _, d := range sizes {
			n *= d
		}
		k = folded(fill.DType(), s, slices.Repeat(constantFact(fill).elems, n))
	}
	return []known{k}, nil
}

// target reads the i-th input as a shape; unknown entries are fresh sizes. nil when not even their number is known.
func (c *inferCall) target(i int) Shape {
	k := c.arg(i)
	if k.elems == nil {
		if len(k.Shape) != 1 || !k.Shape[0].Known() || k.Shape[0].Size > maxFolded || k.Shape[0].Size < 0 {
			return nil
		}
		s := make(Shape, k.Shape[0].Size)
		for a := range s {
			s[a] = c.fresh(0, a)
		}
		return s
	}
	s := make(Shape, len(k.elems))
	for a, e := range k.elems {
		if p, ok := e.integer(); ok {
			s[a] = c.dim(p)
		} else {
			s[a] = c.fresh(0, a)
		}
	}
	return s
}

func reshapeRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	s := c.target(1)
	if c.Attrs["shape"].Kind == AttrInts { // opset 1 to 4
		s = Fixed(c.Ints("shape")...)
	}
	if s == nil {
		return as(x.DType, nil), nil
	}
	infer := -1
	for a, d := range s {
		switch {
		case d.Known() && d.Size == -1:
			if infer >= 0 {
				return nil, fmt.Errorf("the shape %v has -1 twice", s)
			}
			infer = a
		case d.Known() && d.Size == 0 && c.Int("allowzero", 0) == 0:
			if x.Shape == nil {
				s[a] = c.fresh(0, a)
				continue
			}
			if a >= len(x.Shape) {
				return nil, fmt.Errorf("the shape %v copies dimension %d of an input of shape %v", s, a, x.Shape)
			}
			s[a] = x.Shape[a]
		case d.Known() && d.Size < 0:
			return nil, fmt.Errorf("the shape %v has a negative dimension", s)
		}
	}
	if infer >= 0 {
		s[infer] = c.restOf(x.Shape, s, infer)
	}
	if x.Shape != nil {
		from, okFrom := c.product(x.Shape).constant()
		to, okTo := c.product(s).constant()
		if okFrom && okTo && from != to {
			return nil, fmt.Errorf("cannot reshape %v to %v", x.Shape, s)
		}
	}
	return []known{folded(x.DType, s, x.elems)}, nil
}

// restOf is the size that the -1 at axis infer of a Reshape's target stands for.
func (c *inferCall) restOf(from, to Shape, infer int) Dim {
	if from == nil {
		return c.fresh(0, infer)
	}
	left := cloneShape(from)
	den := number(1)
	for a, d := range to {
		if a == infer {
			continue
		}
		if i := slices.Index(left, d); i >= 0 { // equal sizes cancel, whatever they are
			left = slices.Delete(left, i, i+1)
			continue
		}
		den = c.mul(den, c.of(d))
	}
	if !den.positive() {
		return c.fresh(0, infer)
	}
	return c.dim(c.quotient(c.product(left), den))
}

func flattenRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	if x.Shape == nil {
		return as(x.DType, Shape{c.fresh(0, 0), c.fresh(0, 1)}), nil
	}
	axis := c.Int("axis", 1)
	if axis < 0 {
		axis += int64(len(x.Shape))
	}
	if axis < 0 || int(axis) > len(x.Shape) {
		return nil, fmt.Errorf("axis %d is outside a value of rank %d", axis, len(x.Shape))
	}
	s := Shape{c.dim(c.product(x.Shape[:axis])), c.dim(c.product(x.Shape[axis:]))}
	return []known{folded(x.DType, s, x.elems)}, nil
}

func squeezeRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	axes, given, ok := c.axes("axes", 1)
	if x.Shape == nil || !ok {
		return as(x.DType, nil), nil
	}
	drop := make([]bool, len(x.Shape))
	for _, a := range axes {
		i, err := c.axis(a, len(x.Shape))
		if err != nil {
			return nil, err
		}
		if d := x.Shape[i]; d.Known() && d.Size != 1 {
			return nil, fmt.Errorf("axis %d of shape %v is not of size 1", a, x.Shape)
		}
		drop[i] = true
	}
	s := Shape{}
	for i, d := range x.Shape {
		if !given && !d.Known() {
			return as(x.DType, nil), nil // the rank depends on whether this is 1
		}
		if !drop[i] && (given || d.Size != 1) {
			s = append(s, d)
		}
	}
	return []known{folded(x.DType, s, x.elems)}, nil
}

func unsqueezeRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	axes, _, ok := c.axes("axes", 1)
	if x.Shape == nil || !ok {
		return as(x.DType, nil), nil
	}
	s := make(Shape, len(x.Shape)+len(axes))
	set := make([]bool, len(s))
	for _, a := range axes {
		i, err := c.axis(a, len(s))
		if err != nil {
			return nil, err
		}
		if set[i] {
			return nil, fmt.Errorf("axes %v repeat", axes)
		}
		set[i], s[i] = true, Dim{Size: 1}
	}
	next := 0
	for i := range s {
		if !set[i] {
			s[i] = x.Shape[next]
			next++
		}
	}
	return []known{folded(x.DType, s, x.elems)}, nil
}

func transposeRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	if x.Shape == nil {
		return as(x.DType, nil), nil
	}
	r := len(x.Shape)
	perm := c.Ints("perm")
	if perm == nil {
		for i := range r {
			perm = append(perm, int64(r-1-i))
		}
	}
	if len(perm) != r {
		return nil, fmt.Errorf("perm %v does not fit shape %v", perm, x.Shape)
	}
	s := make(Shape, r)
	for i, p := range perm {
		a, err := c.axis(p, r)
		if err != nil {
			return nil, err
		}
		s[i] = x.Shape[a]
	}
	k := known{Fact: Fact{DType: x.DType, Shape: s}}
	if sizes, ok := smallSizes(s); ok && x.elems != nil {
		own := elemStrides(x.Shape)
		stride := make([]int, r)
		for i, p := range perm {
			stride[i] = own[p]
		}
		k = folded(x.DType, s, pickElems(x.elems, sizes, stride, 0))
	}
	return []known{k}, nil
}

// elemStrides are the row-major strides of a small value.
func elemStrides(s Shape) []int {
	stride, n := make([]int, len(s)), 1
	for i := len(s) - 1; i >= 0; i-- {
		stride[i] = n
		n *= int(s[i].Size)
	}
	return stride
}

func concatRule(c *inferCall) ([]known, error) {
	var s Shape
	d := tensor.Undefined
	unknown := false
	for i := range c.in {
		x := c.arg(i)
		if d == tensor.Undefined {
			d = x.DType
		}
		if x.Shape == nil {
			unknown = true
			continue
		}
		if s == nil {
			s = cloneShape(x.Shape)
		} else if len(s) != len(x.Shape) {
			return nil, fmt.Errorf("inputs have ranks %d and %d", len(s), len(x.Shape))
		}
	}
	if s == nil {
		return as(d, nil), nil
	}
	axis, err := c.axis(c.Int("axis", 0), len(s))
	if err != nil {
		return nil, err
	}
	total := poly{}
	for i := range c.in {
		x := c.arg(i)
		if x.Shape == nil {
			continue
		}
		for a, dim := range x.Shape {
			if a != axis && dim.Known() && s[a].Known() && dim.Size != s[a].Size {
				return nil, fmt.Errorf("shapes %v and %v differ outside axis %d", s, x.Shape, axis)
			}
			s[a] = same(s[a], dim)
		}
		total = total.add(c.of(x.Shape[axis]))
	}
	if s[axis] = c.dim(total); unknown {
		s[axis] = c.fresh(0, axis)
	}
	return []known{c.concatElems(d, s, axis)}, nil
}

func (c *inferCall) concatElems(d tensor.DType, s Shape, axis int) known {
	k := known{Fact: Fact{DType: d, Shape: s}}
	if _, ok := smallSizes(s); !ok {
		return k
	}
	before := 1
	for _, dim := range s[:axis] {
		before *= int(dim.Size)
	}
	elems := []elem{}
	for b := range before {
		for i := range c.in {
			x := c.arg(i)
			n, ok := c.product(x.Shape[axis:]).constant()
			if !ok {
				return k
			}
			if x.elems == nil {
				elems = append(elems, make([]elem, n)...)
			} else {
				elems = append(elems, x.elems[b*int(n):][:n]...)
			}
		}
	}
	return folded(d, s, elems)
}

func splitRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	n := len(c.Outputs)
	out := make([]known, n)
	for i := range out {
		out[i].DType = x.DType
	}
	if x.Shape == nil || n == 0 {
		return out, nil
	}
	axis, err := c.axis(c.Int("axis", 0), len(x.Shape))
	if err != nil {
		return nil, err
	}
	sizes, given, ok := c.axes("split", 1)
	if given && ok && len(sizes) != n {
		return nil, fmt.Errorf("has %d sizes for %d outputs", len(sizes), n)
	}
	total := c.of(x.Shape[axis])
	part := c.ceilDiv(total, int64(n))
	at := int64(0)
	for i := range out {
		s := cloneShape(x.Shape)
		switch {
		case given && !ok:
			s[axis] = c.fresh(i, axis)
		case given:
			s[axis] = Dim{Size: sizes[i]}
		case i < n-1:
			s[axis] = c.dim(part)
		default:
			s[axis] = c.dim(total.sub(part.scale(int64(n - 1))))
		}
		out[i].Shape = s
		if picked, isSmall := smallSizes(s); isSmall && x.elems != nil {
			stride := elemStrides(x.Shape)
			out[i] = folded(x.DType, s, pickElems(x.elems, picked, stride, int(at)*stride[axis]))
			at += s[axis].Size
		}
	}
	return out, nil
}

// sliceLimit is what exporters write for "to the end".
const sliceLimit = math.MaxInt32 - 1

func sliceRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	if x.Shape == nil {
		return as(x.DType, nil), nil
	}
	starts, ends := c.list("starts", 1), c.list("ends", 2)
	axes, _, ok := c.axes("axes", 3)
	if !ok || starts == nil || ends == nil || len(starts) != len(ends) {
		s := make(Shape, len(x.Shape))
		for a := range s {
			s[a] = c.fresh(0, a)
		}
		return as(x.DType, s), nil
	}
	steps, _, stepsKnown := c.axes("steps", 4)
	s := cloneShape(x.Shape)
	k := x
	for i := range starts {
		a, step := int64(i), int64(1)
		if axes != nil {
			if i >= len(axes) {
				return nil, fmt.Errorf("has %d starts and %d axes", len(starts), len(axes))
			}
			a = axes[i]
		}
		axis, err := c.axis(a, len(s))
		if err != nil {
			return nil, err
		}
		if steps != nil && i < len(steps) {
			step = steps[i]
		}
		if step == 0 {
			return nil, fmt.Errorf("a step is 0")
		}
		size, ok := poly(nil), false
		if stepsKnown {
			size, ok = c.sliceSize(c.of(x.Shape[axis]), starts[i], ends[i], step)
		}
		if s[axis] = c.fresh(0, axis); ok {
			s[axis] = c.dim(size)
		}
		k = sliceElems(k, axis, starts[i], ends[i], step)
	}
	return []known{folded(x.DType, s, k.elems)}, nil
}

// list reads integers from an attribute or an input; nil when their number is unknown.
func (c *inferCall) list(name string, i int) []elem {
	if a, ok := c.Attrs[name]; ok {
		out := make([]elem, len(a.Ints))
		for k, v := range a.Ints {
			out[k] = exactInt(v)
		}
		return out
	}
	k := c.arg(i)
	if k.elems == nil && len(k.Shape) == 1 && k.Shape[0].Known() && k.Shape[0].Size >= 0 && k.Shape[0].Size <= maxFolded {
		return make([]elem, k.Shape[0].Size)
	}
	return k.elems
}

// sliceSize is the number of elements that start:end:step takes from n. Known starts are taken to lie inside.
func (c *inferCall) sliceSize(n poly, start, end elem, step int64) (poly, bool) {
	from, okFrom := c.bound(n, start, step, 0)
	to, okTo := c.bound(n, end, step, 1)
	if !okFrom || !okTo {
		return nil, false
	}
	if step < 0 {
		from, to, step = to, from, -step
	}
	if step > math.MaxInt32 {
		return nil, false
	}
	span := to.sub(from)
	if v, ok := span.constant(); ok && v < 0 {
		return number(0), true
	}
	return c.ceilDiv(span, step), true
}

// bound clamps one end of a slice to [0, n], or to [−1, n−1] for negative steps; isEnd is 1 for the end.
func (c *inferCall) bound(n poly, e elem, step, isEnd int64) (poly, bool) {
	p, ok := e.integer()
	if !ok {
		return nil, false
	}
	low, high := number(0), n
	if step < 0 {
		low, high = number(-1*isEnd), n.addInt(-1)
	}
	v, isConst := p.constant()
	size, fixed := n.constant()
	switch {
	case isConst && v >= sliceLimit && (!fixed || size <= v):
		return high, true
	case isConst && v <= -sliceLimit:
		return low, true
	case isConst && v < 0:
		p = n.addInt(v)
	case !isConst && p.scale(-1).positive():
		p = n.add(p)
	}
	if lo, ok := low.sub(p).constant(); ok && lo > 0 {
		return low, true
	}
	if over, ok := p.sub(high).constant(); ok {
		if over > 0 {
			return high, true
		}
		return p, true
	}
	// An axis of unknown size is taken to reach the end that a slice begins at, and what is counted from its own end.
	if isConst && (v <= 0 || (step > 0) == (isEnd == 0)) {
		return p, true
	}
	return c.extremum("min", p, high), true
}

// sliceElems slices a small value along one axis.
func sliceElems(k known, axis int, start, end elem, step int64) known {
	sizes, small := smallSizes(k.Shape)
	if !small || k.elems == nil {
		return known{}
	}
	from, okFrom := start.constant()
	to, okTo := end.constant()
	if !okFrom || !okTo {
		return known{}
	}
	n := float64(sizes[axis])
	if from < 0 {
		from += n
	}
	if to < 0 {
		to += n
	}
	if step > 0 {
		from, to = min(max(from, 0), n), min(max(to, 0), n)
	} else {
		from, to = min(max(from, 0), n-1), min(max(to, -1), n-1)
	}
	stride := elemStrides(k.Shape)
	sizes = slices.Clone(sizes)
	sizes[axis] = max(0, int(math.Ceil((to-from)/float64(step))))
	base := int(from) * stride[axis]
	stride[axis] *= int(step)
	s := cloneShape(k.Shape)
	s[axis] = Dim{Size: int64(sizes[axis])}
	return folded(k.DType, s, pickElems(k.elems, sizes, stride, base))
}

func padRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	if x.Shape == nil {
		return as(x.DType, nil), nil
	}
	axes, _, ok := c.axes("axes", 3)
	if axes == nil {
		for a := range x.Shape {
			axes = append(axes, int64(a))
		}
	}
	amounts := c.list("pads", 1)
	if !ok || amounts == nil || len(amounts) != 2*len(axes) {
		if ok && amounts != nil {
			return nil, fmt.Errorf("has %d pads for %d axes", len(amounts), len(axes))
		}
		amounts = make([]elem, 2*len(axes))
	}
	s := cloneShape(x.Shape)
	for i, a := range axes {
		axis, err := c.axis(a, len(s))
		if err != nil {
			return nil, err
		}
		before, okB := amounts[i].integer()
		after, okA := amounts[i+len(axes)].integer()
		if s[axis] = c.fresh(0, axis); okA && okB {
			s[axis] = c.dim(c.of(x.Shape[axis]).add(before).add(after))
		}
	}
	if !ok {
		for a := range s {
			s[a] = c.fresh(0, a)
		}
	}
	return as(x.DType, s), nil
}

func expandRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	s, err := c.broadcastShapes(x.Shape, c.target(1))
	if err != nil {
		return nil, err
	}
	return []known{folded(x.DType, s, broadcastElems(x, s))}, nil
}

func tileRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	if x.Shape == nil {
		return as(x.DType, nil), nil
	}
	times := c.list("repeats", 1)
	if times != nil && len(times) != len(x.Shape) {
		return nil, fmt.Errorf("has %d repeats for shape %v", len(times), x.Shape)
	}
	s := make(Shape, len(x.Shape))
	for a, d := range x.Shape {
		s[a] = c.fresh(0, a)
		if times == nil {
			continue
		}
		if p, ok := times[a].integer(); ok {
			s[a] = c.dim(c.mul(c.of(d), p))
		}
	}
	return as(x.DType, s), nil
}

func gatherRule(c *inferCall) ([]known, error) {
	x, index := c.arg(0), c.arg(1)
	if x.Shape == nil || index.Shape == nil {
		return as(x.DType, nil), nil
	}
	axis, err := c.axis(c.Int("axis", 0), len(x.Shape))
	if err != nil {
		return nil, err
	}
	s := joined(x.Shape[:axis], index.Shape, x.Shape[axis+1:])
	k := known{Fact: Fact{DType: x.DType, Shape: s}}
	at, ok := c.ints(1)
	if !ok || x.elems == nil || len(x.Shape) != 1 {
		return []known{k}, nil
	}
	elems := make([]elem, len(at))
	for i, v := range at {
		if v < 0 {
			v += int64(len(x.elems))
		}
		if v < 0 || v >= int64(len(x.elems)) {
			return nil, fmt.Errorf("index %d is outside an axis of size %d", at[i], len(x.elems))
		}
		elems[i] = x.elems[v]
	}
	return []known{folded(x.DType, s, elems)}, nil
}

// likeInput gives the output the data's type and the shape of input i.
func likeInput(i int) rule {
	return func(c *inferCall) ([]known, error) { return as(c.arg(0).DType, c.arg(i).Shape), nil }
}

func gatherNDRule(c *inferCall) ([]known, error) {
	x, index := c.arg(0), c.arg(1)
	batch := int(c.Int("batch_dims", 0))
	r := len(index.Shape)
	if x.Shape == nil || r == 0 || !index.Shape[r-1].Known() {
		return as(x.DType, nil), nil
	}
	n := int(index.Shape[r-1].Size)
	if batch < 0 || batch >= r || batch+n > len(x.Shape) {
		return nil, fmt.Errorf("indices of shape %v do not fit data of shape %v", index.Shape, x.Shape)
	}
	return as(x.DType, joined(index.Shape[:r-1], x.Shape[batch+n:])), nil
}

func depthToSpaceRule(c *inferCall) ([]known, error) {
	return c.blocks(func(ch, side poly, b int64) (poly, poly) { return c.floorDiv(ch, b*b), side.scale(b) })
}

func spaceToDepthRule(c *inferCall) ([]known, error) {
	return c.blocks(func(ch, side poly, b int64) (poly, poly) { return ch.scale(b * b), c.floorDiv(side, b) })
}

func (c *inferCall) blocks(f func(ch, side poly, b int64) (poly, poly)) ([]known, error) {
	x, b := c.arg(0), c.Int("blocksize", 0)
	if x.Shape == nil {
		return as(x.DType, nil), nil
	}
	if len(x.Shape) != 4 || b < 1 || b > 1<<15 {
		return nil, fmt.Errorf("shape %v and blocksize %d do not fit", x.Shape, b)
	}
	ch, h := f(c.of(x.Shape[1]), c.of(x.Shape[2]), b)
	_, w := f(c.of(x.Shape[1]), c.of(x.Shape[3]), b)
	return as(x.DType, Shape{x.Shape[0], c.dim(ch), c.dim(h), c.dim(w)}), nil
}

func rangeRule(c *inferCall) ([]known, error) {
	d := c.arg(0).DType
	var e [3]elem
	for i := range e {
		if k := c.arg(i); len(k.elems) == 1 {
			e[i] = k.elems[0]
		}
	}
	if n, ok := constantRange(e); ok {
		return as(d, Fixed(n)), nil
	}
	start, okS := e[0].integer()
	limit, okL := e[1].integer()
	delta, okD := e[2].integer()
	step, okC := delta.constant()
	if !okS || !okL || !okD || !okC || step == 0 || step > math.MaxInt32 || step < -math.MaxInt32 {
		return as(d, Shape{c.fresh(0, 0)}), nil
	}
	span := limit.sub(start)
	if step < 0 {
		span, step = span.scale(-1), -step
	}
	n := c.ceilDiv(span, step)
	if v, ok := n.constant(); ok {
		n = number(max(v, 0))
		if v <= maxFolded && v >= 0 {
			elems := make([]elem, v)
			for i := range elems {
				elems[i] = exact(start.plus(delta, int64(i)))
			}
			return []known{folded(d, Fixed(v), elems)}, nil
		}
	}
	return as(d, Shape{c.dim(n)}), nil
}

// constantRange is the number of elements of a Range over constants that are not all integers.
func constantRange(e [3]elem) (int64, bool) {
	start, okS := e[0].constant()
	limit, okL := e[1].constant()
	delta, okD := e[2].constant()
	n := math.Ceil((limit - start) / delta)
	whole := start == math.Trunc(start) && limit == math.Trunc(limit) && delta == math.Trunc(delta)
	return int64(max(n, 0)), okS && okL && okD && delta != 0 && !whole && n < math.MaxInt32
}

func oneHotRule(c *inferCall) ([]known, error) {
	index, d := c.arg(0), c.arg(2).DType
	if index.Shape == nil {
		return as(d, nil), nil
	}
	axis, err := c.axis(c.Int("axis", -1), len(index.Shape)+1)
	if err != nil {
		return nil, err
	}
	depth := c.fresh(0, axis)
	if k := c.arg(1); len(k.elems) == 1 {
		if p, ok := k.elems[0].integer(); ok {
			depth = c.dim(p)
		}
	}
	shape := slices.Insert(cloneShape(index.Shape), axis, depth)
	return []known{folded(d, shape, oneHotElems(index, c.arg(2).elems, shape, axis))}, nil
}

// oneHotElems follows elements: TorchScript's exporter writes the repeats of repeat_interleave with them.
func oneHotElems(index known, values []elem, shape Shape, axis int) []elem {
	sizes, ok := smallSizes(shape)
	if !ok || len(values) != 2 || index.elems == nil {
		return nil
	}
	inner, depth := 1, sizes[axis]
	for _, n := range sizes[axis+1:] {
		inner *= n
	}
	out := make([]elem, len(index.elems)*depth)
	for i, e := range index.elems {
		at, ok := e.constant()
		if !ok {
			return nil
		}
		if at < 0 {
			at += float64(depth)
		}
		for k := range depth {
			v := values[0]
			if float64(k) == at {
				v = values[1]
			}
			out[(i/inner*depth+k)*inner+i%inner] = v
		}
	}
	return out
}

func nonZeroRule(c *inferCall) ([]known, error) {
	x := c.arg(0)
	if x.Shape == nil {
		return as(tensor.Int64, Shape{c.fresh(0, 0), c.fresh(0, 1)}), nil
	}
	return as(tensor.Int64, Shape{{Size: int64(len(x.Shape))}, c.fresh(0, 1)}), nil
}
