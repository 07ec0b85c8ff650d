package autodiff

import (
	"scrawl/engine/onnx"
)

// Operators that move elements without changing them. Each VJP moves the cotangents back, adding those that meet.

// Reshape, Flatten, Squeeze, Unsqueeze: dx is dy in the input's shape.
func vjpReshape(t *tape, c call) ([]string, error) { return one(t.reshapeLike(c.dy(), c.Inputs[0])) }

// Transpose: dx is dy under the inverse permutation.
func vjpTranspose(t *tape, c call) ([]string, error) {
	perm := c.Ints("perm")
	if perm == nil {
		return one(t.b.Op("Transpose", []string{c.dy()}))
	}
	inverse := make([]int64, len(perm))
	for i, p := range perm {
		inverse[p] = int64(i)
	}
	return one(t.transpose(c.dy(), inverse...))
}

// Concat: dy is split at the inputs' sizes.
func vjpConcat(t *tape, c call) ([]string, error) {
	if len(c.Inputs) == 1 {
		return one(c.dy())
	}
	a, err := t.axis(c, 0)
	if err != nil {
		return nil, err
	}
	sizes := make([]string, len(c.Inputs))
	fixed := make([]int64, 0, len(c.Inputs))
	for i, in := range c.Inputs {
		if s := t.shape(in); s != nil && s[a].Known() {
			fixed = append(fixed, s[a].Size)
		}
		sizes[i] = t.dim(in, int(a))
	}
	split := ""
	if len(fixed) == len(c.Inputs) {
		split = t.b.Int64s(fixed...)
	} else {
		split = t.concat(0, sizes...)
	}
	return t.b.Ops("Split", len(c.Inputs), []string{c.dy(), split}, onnx.WithInt("axis", a)), nil
}

// Split: the parts' cotangents are joined; a part without one counts as zeros.
func vjpSplit(t *tape, c call) ([]string, error) {
	a, err := t.axis(c, 0)
	if err != nil {
		return nil, err
	}
	parts := make([]string, len(c.dys))
	for i, dy := range c.dys {
		if parts[i] = dy; dy == "" {
			parts[i] = t.zerosLike(c.Outputs[i])
		}
	}
	return one(t.concat(a, parts...))
}

// Slice: dy is put back where it was taken from, with zeros around it and, for a step above 1, between its elements.
func vjpSlice(t *tape, c call) ([]string, error) {
	x := c.Inputs[0]
	r, err := t.rank(c.Node, x)
	if err != nil {
		return nil, err
	}
	starts, ok := t.constInts(c.Inputs[1])
	if !ok {
		return t.sliceAtRunTime(c, r)
	}
	axes, steps, err := t.sliceAxes(c, r, len(starts))
	if err != nil {
		return nil, err
	}
	dx := c.dy()
	for k, a := range axes {
		dx = t.unslice(dx, x, c.y(), a, starts[k], steps[k])
	}
	return one(dx)
}

// sliceAtRunTime is for starts that are computed by the graph: steps must be 1 and starts not negative.
func (t *tape) sliceAtRunTime(c call, rank int) ([]string, error) {
	x := c.Inputs[0]
	s := t.shape(c.Inputs[1])
	if len(s) != 1 || !s[0].Known() {
		return nil, unsupported(c.Node, "the number of its starts is not known")
	}
	axes, steps, err := t.sliceAxes(c, rank, int(s[0].Size))
	if err != nil {
		return nil, err
	}
	for _, st := range steps {
		if st != 1 {
			return nil, unsupported(c.Node, "its starts are computed at run time with a step of %d; only 1 is handled", st)
		}
	}
	dims := t.op("Gather", t.shapeOf(x), t.b.Int64s(axes...))
	negative := t.op("Less", c.Inputs[1], t.b.Int64s(0))
	begin := t.op("Where", negative, t.add(c.Inputs[1], dims), c.Inputs[1])
	begin = t.op("Max", t.op("Min", begin, dims), t.b.Int64s(0))
	taken := t.op("Gather", t.shapeOf(c.y()), t.b.Int64s(axes...))
	return one(t.pad(c.dy(), rank, begin, t.sub(t.sub(dims, begin), taken), axes...))
}

func (t *tape) sliceAxes(c call, rank, n int) (axes, steps []int64, err error) {
	if in := c.Input(3); in != "" {
		a, ok := t.constInts(in)
		if !ok {
			return nil, nil, unsupported(c.Node, "its axes are computed at run time")
		}
		axes = make([]int64, len(a))
		for i := range a {
			if axes[i] = a[i]; a[i] < 0 {
				axes[i] += int64(rank)
			}
		}
	} else {
		for i := range n {
			axes = append(axes, int64(i))
		}
	}
	steps = make([]int64, len(axes))
	for i := range steps {
		steps[i] = 1
	}
	if in := c.Input(4); in != "" {
		s, ok := t.constInts(in)
		if !ok {
			return nil, nil, unsupported(c.Node, "its steps are computed at run time")
		}
		copy(steps, s)
	}
	return axes, steps, nil
}

// unslice undoes y = x[start::step] along one axis: dx is dy, stretched by the step and padded with zeros to x's size.
func (t *tape) unslice(dy, x, y string, axis, start, step int64) string {
	rank := len(t.shape(x))
	dim, taken := t.dim(x, int(axis)), t.dim(y, int(axis))
	var first string // index in x of the first element of dy, once dy runs forwards
	switch {
	case step < 0:
		dy = t.flip(dy, axis)
		last := t.op("Min", t.b.Int64s(start), t.sub(dim, t.b.Int64s(1)))
		if start < 0 {
			last = t.op("Max", t.add(dim, t.b.Int64s(start)), t.b.Int64s(0))
		}
		step = -step
		first = t.sub(last, t.mul(t.sub(taken, t.b.Int64s(1)), t.b.Int64s(step)))
	case start < 0:
		first = t.op("Max", t.add(dim, t.b.Int64s(start)), t.b.Int64s(0))
	default:
		first = t.op("Min", t.b.Int64s(start), dim)
	}
	if step > 1 {
		dy = t.stretch(dy, rank, axis, step)
		taken = t.mul(taken, t.b.Int64s(step))
	}
	return t.pad(dy, rank, first, t.sub(t.sub(dim, first), taken), axis)
}

// stretch puts step−1 zeros after each element along an axis of v.
func (t *tape) stretch(v string, rank int, axis, step int64) string {
	v = t.op("Unsqueeze", v, t.b.Int64s(axis+1))
	v = t.padFixed(v, rank+1, []int64{0}, []int64{step - 1}, []int64{axis + 1})
	// Reshape copies the sizes before the axis (0) and infers the merged one (-1).
	rest := t.op("Slice", t.op("Shape", v), t.b.Int64s(axis+2), t.b.Int64s(1<<62), t.b.Int64s(0))
	return t.op("Reshape", v, t.concat(0, t.b.Int64s(append(repeat(0, int(axis)), -1)...), rest))
}

// Pad: constant padding is cut off; reflected and repeated edges are added back to where they came from.
func vjpPad(t *tape, c call) ([]string, error) {
	x := c.Inputs[0]
	r, err := t.rank(c.Node, x)
	if err != nil {
		return nil, err
	}
	axes := make([]int64, 0, r)
	if in := c.Input(3); in != "" {
		a, ok := t.constInts(in)
		if !ok {
			return nil, unsupported(c.Node, "its axes are computed at run time")
		}
		for _, v := range a {
			if v < 0 {
				v += int64(r)
			}
			axes = append(axes, v)
		}
	} else {
		for i := range r {
			axes = append(axes, int64(i))
		}
	}
	mode := c.Str("mode", "constant")
	if mode == "constant" {
		crop := t.op("Neg", c.Inputs[1])
		if len(axes) == r {
			return one(t.op("Pad", c.dy(), crop, t.f(0)))
		}
		halves := t.b.Ops("Split", 2, []string{crop}, onnx.WithInt("axis", 0), onnx.WithInt("num_outputs", 2))
		return one(t.pad(c.dy(), r, halves[0], halves[1], axes...))
	}
	pads, ok := t.constInts(c.Inputs[1])
	if !ok || mode == "wrap" {
		return nil, unsupported(c.Node, "mode %q with amounts computed at run time or wrapping round has no gradient here", mode)
	}
	dx := c.dy()
	for k, a := range axes {
		dx = t.unpad(dx, x, mode, a, pads[k], pads[len(axes)+k])
	}
	return one(dx)
}

// unpad undoes reflected or repeated padding along one axis: the middle of dy, plus its margins folded back.
func (t *tape) unpad(dy, x, mode string, axis, begin, end int64) string {
	rank := len(t.shape(x))
	if begin <= 0 && end <= 0 {
		return t.padFixed(dy, rank, []int64{-begin}, []int64{-end}, []int64{axis})
	}
	dim := t.dim(x, int(axis))
	one, zero := t.b.Int64s(1), t.b.Int64s(0)
	dx := t.padFixed(dy, rank, []int64{-begin}, []int64{-end}, []int64{axis})
	fold := func(lo, hi, at string, n int64) {
		margin := t.slice(dy, lo, hi, axis)
		if mode == "edge" {
			margin = t.sum(margin, true, axis)
			n = 1
		} else {
			margin = t.flip(margin, axis)
		}
		dx = t.add(dx, t.pad(margin, rank, at, t.sub(t.sub(dim, at), t.b.Int64s(n)), axis))
	}
	if begin > 0 {
		at := zero
		if mode == "reflect" {
			at = one
		}
		fold(zero, t.b.Int64s(begin), at, begin)
	}
	if end > 0 {
		at := t.sub(dim, one)
		if mode == "reflect" {
			at = t.sub(dim, t.b.Int64s(1+end))
		}
		lo := t.add(dim, t.b.Int64s(max(begin, 0)))
		if begin < 0 {
			lo = t.add(dim, t.b.Int64s(begin))
		}
		fold(lo, t.add(lo, t.b.Int64s(end)), at, end)
	}
	return dx
}

// Expand: dy is summed over the repeated axes.
func vjpExpand(t *tape, c call) ([]string, error) {
	dx, err := t.unbroadcast(c.Node, c.dy(), c.y(), c.Inputs[0])
	if err != nil {
		return nil, err
	}
	return one(dx)
}

// Tile: dy is cut into the copies, which are added.
func vjpTile(t *tape, c call) ([]string, error) {
	x := c.Inputs[0]
	r, err := t.rank(c.Node, x)
	if err != nil {
		return nil, err
	}
	var parts []string
	var axes []int64
	for i := range r {
		parts = append(parts, t.op("Gather", c.Inputs[1], t.b.Int64s(int64(i))), t.dim(x, i))
		axes = append(axes, int64(2*i))
	}
	return one(t.sum(t.op("Reshape", c.dy(), t.concat(0, parts...)), false, axes...))
}

// Gather: each row of dy is added to the row of the input it was taken from.
func vjpGather(t *tape, c call) ([]string, error) {
	x, indices := c.Inputs[0], c.Inputs[1]
	rx, err := t.rank(c.Node, x)
	if err != nil {
		return nil, err
	}
	ri, err := t.rank(c.Node, indices)
	if err != nil {
		return nil, err
	}
	a, err := t.axis(c, 0)
	if err != nil {
		return nil, err
	}
	// y has shape x[:a] + indices + x[a+1:]; bring the index axes, then the gathered axis, to the front.
	toFront := make([]int64, 0, rx-1+ri)
	for i := range ri {
		toFront = append(toFront, a+int64(i))
	}
	for i := range rx - 1 + ri {
		if int64(i) < a || int64(i) >= a+int64(ri) {
			toFront = append(toFront, int64(i))
		}
	}
	perm := []int64{a}
	for i := range rx {
		if int64(i) != a {
			perm = append(perm, int64(i))
		}
	}
	inverse := make([]int64, rx)
	for i, p := range perm {
		inverse[p] = int64(i)
	}
	updates := c.dy()
	if a != 0 {
		updates = t.transpose(updates, toFront...)
	}
	shape := t.op("Gather", t.shapeOf(x), t.b.Int64s(perm...))
	rest := t.op("Slice", shape, t.b.Int64s(1), t.b.Int64s(1<<62), t.b.Int64s(0))
	updates = t.op("Reshape", updates, t.concat(0, t.b.Int64s(-1), rest))
	rows := t.reshape(t.b.Op("Cast", []string{indices}, onnx.WithInt("to", 7)), -1, 1)
	// ScatterND takes no negative indices on every provider: count them from the front.
	rows = t.op("Where", t.op("Less", rows, t.b.Int64s(0)), t.add(rows, t.dim(x, int(a))), rows)
	dx := t.b.Op("ScatterND", []string{t.zeros(shape), rows, updates}, onnx.WithString("reduction", "add"))
	if a != 0 {
		dx = t.transpose(dx, inverse...)
	}
	return one(dx)
}

// GatherElements: each element of dy is added to the element it was taken from.
func vjpGatherElements(t *tape, c call) ([]string, error) {
	return one(t.b.Op("ScatterElements", []string{t.zerosLike(c.Inputs[0]), c.Inputs[1], c.dy()},
		onnx.WithInt("axis", c.Int("axis", 0)), onnx.WithString("reduction", "add")))
}

// DepthToSpace: the blocks go back to channels, in the order of its mode.
func vjpDepthToSpace(t *tape, c call) ([]string, error) {
	b := c.Int("blocksize", 1)
	back := t.b.Op("SpaceToDepth", []string{c.dy()}, onnx.WithInt("blocksize", b))
	if c.Str("mode", "DCR") == "DCR" {
		return one(back)
	}
	// SpaceToDepth orders channels block first; mode CRD has them channel first.
	x := c.Inputs[0]
	n, h, w := t.dim(x, 0), t.dim(x, 2), t.dim(x, 3)
	back = t.op("Reshape", back, t.concat(0, n, t.b.Int64s(b*b, -1), h, w))
	return one(t.reshapeLike(t.transpose(back, 0, 2, 1, 3, 4), x))
}

// SpaceToDepth: the inverse of DepthToSpace in its default mode.
func vjpSpaceToDepth(t *tape, c call) ([]string, error) {
	return one(t.b.Op("DepthToSpace", []string{c.dy()}, onnx.WithInt("blocksize", c.Int("blocksize", 1))))
}
