package refexec

import (
	"slices"

	"scrawl/engine/tensor"
)

func reshape(c *call) []*array {
	x := c.arg(0)
	shape, infer := slices.Clone(c.intsAt(1)), -1
	for k, d := range shape {
		switch {
		case d == -1 && infer < 0:
			infer = k
		case d == 0 && c.Int("allowzero", 0) == 0:
			if k >= x.rank() {
				c.fail("the shape %v copies dimension %d of an input of shape %v", shape, k, x.shape)
			}
			shape[k] = x.shape[k]
		case d < 0:
			c.fail("the shape %v has a negative dimension", shape)
		}
	}
	if infer >= 0 {
		shape[infer] = 1
		if rest := count(shape); rest > 0 {
			shape[infer] = x.len() / rest
		} else {
			shape[infer] = 0
		}
	}
	if count(shape) != x.len() {
		c.fail("cannot reshape %v to %v", x.shape, c.intsAt(1))
	}
	return []*array{x.view(shape...)}
}

func flatten(c *call) []*array {
	x, axis := c.arg(0), c.Int("axis", 1)
	if axis < 0 {
		axis += int64(c.arg(0).rank())
	}
	if axis < 0 || int(axis) > x.rank() {
		c.fail("axis %d is outside a tensor of rank %d", axis, x.rank())
	}
	return []*array{x.view(count(x.shape[:axis]), count(x.shape[axis:]))}
}

func squeeze(c *call) []*array {
	x := c.arg(0)
	drop := make([]bool, x.rank())
	if axes := c.intsAt(1); axes != nil {
		for _, a := range axes {
			drop[c.axis(int64(a), x.rank())] = true
		}
	} else {
		for k, d := range x.shape {
			drop[k] = d == 1
		}
	}
	shape := []int{}
	for k, d := range x.shape {
		if !drop[k] {
			shape = append(shape, d)
		} else if d != 1 {
			c.fail("axis %d of shape %v is not of size 1", k, x.shape)
		}
	}
	return []*array{x.view(shape...)}
}

func unsqueeze(c *call) []*array {
	x, axes := c.arg(0), c.intsAt(1)
	shape := make([]int, x.rank()+len(axes))
	for _, a := range axes {
		shape[c.axis(int64(a), len(shape))] = 1
	}
	next := 0
	for k := range shape {
		if shape[k] == 0 {
			if next >= x.rank() {
				c.fail("axes %v repeat", axes)
			}
			shape[k] = x.shape[next]
			next++
		}
	}
	return []*array{x.view(shape...)}
}

func transpose(c *call) []*array {
	x := c.arg(0)
	perm := make([]int, x.rank())
	for k := range perm {
		perm[k] = x.rank() - 1 - k
	}
	if v := c.Ints("perm"); v != nil {
		perm = toInts(v)
	}
	if len(perm) != x.rank() {
		c.fail("perm %v does not fit shape %v", perm, x.shape)
	}
	own, shape, stride := strides(x.shape), make([]int, x.rank()), make([]int, x.rank())
	for k, p := range perm {
		p = c.axis(int64(p), x.rank())
		shape[k], stride[k] = x.shape[p], own[p]
	}
	return []*array{x.take(shape, places(shape, stride, 0), nil)}
}

func concat(c *call) []*array {
	first := c.arg(0)
	axis := c.axis(c.Int("axis", 0), first.rank())
	shape := slices.Clone(first.shape)
	shape[axis] = 0
	for k := range c.in {
		s := c.arg(k).shape
		if len(s) != len(shape) || !slices.Equal(s[:axis], shape[:axis]) || !slices.Equal(s[axis+1:], shape[axis+1:]) {
			c.fail("shapes %v and %v differ outside axis %d", first.shape, s, axis)
		}
		shape[axis] += s[axis]
	}
	y := newArray(first.dtype, shape...)
	before, size, after := around(shape, axis)
	at := 0
	for k := range c.in {
		x := c.arg(k)
		n := x.shape[axis] * after
		for b := range before {
			for p := range n {
				y.set(b*size*after+at+p, x, b*n+p)
			}
		}
		at += n
	}
	return []*array{y}
}

func split(c *call) []*array {
	x := c.arg(0)
	axis := c.axis(c.Int("axis", 0), x.rank())
	n := len(c.Outputs)
	sizes := c.intsAt(1)
	if sizes == nil {
		part := (x.shape[axis] + n - 1) / n
		for k := range n {
			sizes = append(sizes, max(0, min(part, x.shape[axis]-k*part)))
		}
	}
	if len(sizes) != n {
		c.fail("%d sizes for %d outputs", len(sizes), n)
	}
	own, at := strides(x.shape), 0
	var out []*array
	for _, s := range sizes {
		shape := slices.Clone(x.shape)
		shape[axis] = s
		if s < 0 || at+s > x.shape[axis] {
			c.fail("sizes %v exceed axis %d of shape %v", sizes, axis, x.shape)
		}
		out = append(out, x.take(shape, places(shape, own, at*own[axis]), nil))
		at += s
	}
	return out
}

func slice(c *call) []*array {
	x := c.arg(0)
	starts, ends := c.intsAt(1), c.intsAt(2)
	axes, steps := c.intsAt(3), c.intsAt(4)
	shape, stride, base := slices.Clone(x.shape), strides(x.shape), 0
	if len(ends) != len(starts) || axes != nil && len(axes) != len(starts) || steps != nil && len(steps) != len(starts) {
		c.fail("starts, ends, axes and steps have %d, %d, %d and %d elements", len(starts), len(ends), len(axes), len(steps))
	}
	for k := range starts {
		a, step := k, 1
		if axes != nil {
			a = axes[k]
		}
		if steps != nil {
			step = steps[k]
		}
		a = c.axis(int64(a), x.rank())
		start, n := c.sliceRange(x.shape[a], starts[k], ends[k], step)
		base += start * stride[a]
		shape[a] = n
		stride[a] *= step
	}
	return []*array{x.take(shape, places(shape, stride, base), nil)}
}

// sliceRange applies the clamping rules of the Slice page to one axis of size n.
func (c *call) sliceRange(n, start, end, step int) (first, size int) {
	if step == 0 {
		c.fail("a step is 0")
	}
	if start < 0 {
		start += n
	}
	if end < 0 {
		end = max(end, -1<<62) + n
	}
	if step > 0 {
		start, end = min(max(start, 0), n), min(max(end, 0), n)
		return start, max(0, (end-start+step-1)/step)
	}
	start, end = min(max(start, 0), n-1), min(max(end, -1), n-1)
	return start, max(0, (start-end-step-1)/-step)
}

func pad(c *call) []*array {
	x, amounts := c.arg(0), c.intsAt(1)
	axes := c.intsAt(3)
	if axes == nil {
		for a := range x.rank() {
			axes = append(axes, a)
		}
	}
	if len(amounts) != 2*len(axes) {
		c.fail("%d pads for %d axes", len(amounts), len(axes))
	}
	mode := c.Str("mode", "constant")
	own, shape := strides(x.shape), slices.Clone(x.shape)
	from := make([][]int, x.rank()) // per axis: input place of every output place, -1 for the constant
	for a := range from {
		from[a] = c.padAxis(mode, x.shape[a], 0, 0)
	}
	for k, a := range axes {
		a = c.axis(int64(a), x.rank())
		from[a] = c.padAxis(mode, x.shape[a], amounts[k], amounts[k+len(axes)])
		shape[a] = len(from[a])
	}
	index := places(shape, strides(shape), 0) // 0, 1, 2, …: taken apart again below
	outStride := strides(shape)
	for k, p := range index {
		q := 0
		for a := range shape {
			f := from[a][p/outStride[a]%shape[a]]
			if f < 0 {
				q = -1
				break
			}
			q += f * own[a]
		}
		index[k] = q
	}
	return []*array{x.take(shape, index, c.opt(2))}
}

// padAxis lists where the elements along one axis of size n come from after padding; negative amounts crop.
func (c *call) padAxis(mode string, n, before, after int) []int {
	if n+before+after < 0 {
		c.fail("pads %d and %d crop more than the %d elements there are", before, after, n)
	}
	out := make([]int, n+before+after)
	for k := range out {
		p := k - before
		switch {
		case p >= 0 && p < n:
		case n == 0 && mode != "constant":
			c.fail("an empty axis cannot be padded in mode %q", mode)
		case mode == "edge":
			p = min(max(p, 0), n-1)
		case mode == "reflect":
			for (p < 0 || p >= n) && n > 1 {
				if p < 0 {
					p = -p
				} else {
					p = 2*(n-1) - p
				}
			}
			p = min(max(p, 0), n-1)
		case mode == "wrap":
			p = (p%n + n) % n
		case mode == "constant":
			p = -1
		default:
			c.fail("pad mode %q is not known", mode)
		}
		out[k] = p
	}
	return out
}

func expand(c *call) []*array {
	x := c.arg(0)
	return []*array{x.expand(c.broadcastShape(x.shape, c.intsAt(1)))}
}

func tile(c *call) []*array {
	x, times := c.arg(0), c.intsAt(1)
	if len(times) != x.rank() {
		c.fail("%d repeats for shape %v", len(times), x.shape)
	}
	shape := make([]int, x.rank())
	for k, d := range x.shape {
		if times[k] < 0 {
			c.fail("repeats %v are negative", times)
		}
		shape[k] = d * times[k]
	}
	own, outStride := strides(x.shape), strides(shape)
	index := make([]int, count(shape))
	for k := range index {
		for a := range shape {
			index[k] += k / outStride[a] % shape[a] % x.shape[a] * own[a]
		}
	}
	return []*array{x.take(shape, index, nil)}
}

// wrapIndex resolves an index that may count from the end.
func (c *call) wrapIndex(v int64, n int) int {
	if v < 0 {
		v += int64(n)
	}
	if v < 0 || v >= int64(n) {
		c.fail("index %d is outside an axis of size %d", v, n)
	}
	return int(v)
}

func gather(c *call) []*array {
	x, index := c.arg(0), c.arg(1)
	axis := c.axis(c.Int("axis", 0), x.rank())
	before, size, after := around(x.shape, axis)
	shape := slices.Concat(x.shape[:axis], index.shape, x.shape[axis+1:])
	from := make([]int, 0, count(shape))
	for b := range before {
		for _, v := range index.i {
			p := (b*size + c.wrapIndex(v, size)) * after
			for a := range after {
				from = append(from, p+a)
			}
		}
	}
	return []*array{x.take(shape, from, nil)}
}

// elementPlaces is where GatherElements reads and ScatterElements writes: each index replaces its own coordinate on the axis.
func (c *call) elementPlaces(x, index *array) []int {
	axis := c.axis(c.Int("axis", 0), x.rank())
	if index.rank() != x.rank() {
		c.fail("indices of shape %v for data of shape %v", index.shape, x.shape)
	}
	stride := strides(x.shape)
	step := stride[axis]
	stride[axis] = 0
	for k, d := range index.shape {
		if k != axis && d > x.shape[k] {
			c.fail("indices of shape %v exceed data of shape %v", index.shape, x.shape)
		}
	}
	at := places(index.shape, stride, 0)
	for k, v := range index.i {
		at[k] += c.wrapIndex(v, x.shape[axis]) * step
	}
	return at
}

func gatherElements(c *call) []*array {
	x, index := c.arg(0), c.arg(1)
	return []*array{x.take(index.shape, c.elementPlaces(x, index), nil)}
}

func scatterElements(c *call) []*array {
	x, index, updates := c.arg(0), c.arg(1), c.arg(2)
	y := x.clone()
	for k, p := range c.elementPlaces(x, index) {
		c.scatter(y, p, updates, k)
	}
	return []*array{y}
}

// scatter writes one update by the node's reduction.
func (c *call) scatter(y *array, p int, updates *array, k int) {
	v := updates.float(k)
	switch r := c.Str("reduction", "none"); r {
	case "none":
		y.set(p, updates, k)
		return
	case "add":
		v += y.float(p)
	case "mul":
		v *= y.float(p)
	case "max":
		v = max(v, y.float(p))
	case "min":
		v = min(v, y.float(p))
	default:
		c.fail("reduction %q is not known", r)
	}
	if y.f != nil {
		y.f[p] = v
	} else {
		y.i[p] = int64(v)
	}
}

// ndPlaces resolves the tuples in the last axis of indices to flat places, after the given batch axes; block is the number
// of elements at each.
func (c *call) ndPlaces(x, index *array, batch int) (at []int, block int, tail []int) {
	if index.rank() < batch+1 || x.rank() < batch {
		c.fail("indices of shape %v for data of shape %v with %d batch axes", index.shape, x.shape, batch)
	}
	n := index.shape[index.rank()-1]
	if batch+n > x.rank() {
		c.fail("index tuples of %d elements for data of shape %v", n, x.shape)
	}
	stride := strides(x.shape)
	tail = x.shape[batch+n:]
	block = count(tail)
	tuples := count(index.shape[:index.rank()-1])
	perBatch := count(index.shape[batch : index.rank()-1])
	for t := range tuples {
		p := 0
		if batch > 0 {
			p = t / perBatch * stride[batch-1]
		}
		for k := range n {
			p += c.wrapIndex(index.i[t*n+k], x.shape[batch+k]) * stride[batch+k]
		}
		at = append(at, p)
	}
	return at, block, tail
}

func gatherND(c *call) []*array {
	x, index := c.arg(0), c.arg(1)
	at, block, tail := c.ndPlaces(x, index, int(c.Int("batch_dims", 0)))
	var from []int
	for _, p := range at {
		for k := range block {
			from = append(from, p+k)
		}
	}
	return []*array{x.take(slices.Concat(index.shape[:index.rank()-1], tail), from, nil)}
}

func scatterND(c *call) []*array {
	x, index, updates := c.arg(0), c.arg(1), c.arg(2)
	at, block, _ := c.ndPlaces(x, index, 0)
	if updates.len() != len(at)*block {
		c.fail("updates of shape %v for indices of shape %v", updates.shape, index.shape)
	}
	y := x.clone()
	for t, p := range at {
		for k := range block {
			c.scatter(y, p+k, updates, t*block+k)
		}
	}
	return []*array{y}
}

// depthToSpace moves blocks of channels into b×b blocks of pixels: [N,C·b²,H,W] → [N,C,H·b,W·b].
func depthToSpace(c *call) []*array {
	x, b := c.arg(0), int(c.Int("blocksize", 0))
	if x.rank() != 4 || b < 1 || x.shape[1]%(b*b) != 0 {
		c.fail("shape %v and blocksize %d do not fit", x.shape, b)
	}
	n, ch, h, w := x.shape[0], x.shape[1]/(b*b), x.shape[2], x.shape[3]
	shape := []int{n, ch, h * b, w * b}
	var from []int
	for q := range count(shape) {
		ox, oy, oc, on := q%(w*b), q/(w*b)%(h*b), q/(w*b*h*b)%ch, q/(ch*h*b*w*b)
		block := oy%b*b + ox%b
		k := block*ch + oc // DCR: depth, column, row
		if c.Str("mode", "DCR") == "CRD" {
			k = oc*b*b + block
		}
		from = append(from, ((on*x.shape[1]+k)*h+oy/b)*w+ox/b)
	}
	return []*array{x.take(shape, from, nil)}
}

// spaceToDepth moves b×b blocks of pixels into channels: [N,C,H,W] → [N,C·b²,H/b,W/b].
func spaceToDepth(c *call) []*array {
	x, b := c.arg(0), int(c.Int("blocksize", 0))
	if x.rank() != 4 || b < 1 || x.shape[2]%b != 0 || x.shape[3]%b != 0 {
		c.fail("shape %v and blocksize %d do not fit", x.shape, b)
	}
	n, ch, h, w := x.shape[0], x.shape[1], x.shape[2]/b, x.shape[3]/b
	shape := []int{n, ch * b * b, h, w}
	var from []int
	for q := range count(shape) {
		ox, oy, oc, on := q%w, q/w%h, q/(w*h)%(ch*b*b), q/(w*h*ch*b*b)
		block, k := oc/ch, oc%ch
		from = append(from, ((on*ch+k)*h*b+oy*b+block/b)*w*b+ox*b+block%b)
	}
	return []*array{x.take(shape, from, nil)}
}

func shapeOf(c *call) []*array {
	s := c.arg(0).shape
	clamp := func(v int64) int {
		if v < 0 {
			v += int64(len(s))
		}
		return int(min(max(v, 0), int64(len(s))))
	}
	start, end := clamp(c.Int("start", 0)), clamp(c.Int("end", int64(len(s))))
	return []*array{intVector(s[start:max(start, end)]...)}
}

func sizeOf(c *call) []*array { return []*array{intVector(c.arg(0).len()).view()} }

func constant(c *call) []*array {
	for name, a := range c.Attrs {
		switch name {
		case "value":
			return []*array{fromTensor(a.Tensor)}
		case "value_int":
			return []*array{intVector(int(a.Int)).view()}
		case "value_ints":
			return []*array{intVector(toInts(a.Ints)...)}
		case "value_float":
			return []*array{fromTensor(tensor.Scalar(a.Float))}
		case "value_floats":
			return []*array{fromTensor(tensor.Vector(a.Floats...))}
		}
	}
	c.fail("has no numeric value")
	return nil
}

func constantOfShape(c *call) []*array {
	fill := floats(1)
	if a, ok := c.Attrs["value"]; ok && a.Tensor != nil {
		fill = fromTensor(a.Tensor)
	}
	return []*array{fill.view(1).expand(c.broadcastShape([]int{1}, c.intsAt(0))).view(c.intsAt(0)...)}
}

func rangeOf(c *call) []*array {
	start, limit, step := c.arg(0), c.arg(1), c.arg(2)
	if step.float(0) == 0 {
		c.fail("delta is 0")
	}
	n := 0
	for (limit.float(0)-start.float(0)-float64(n)*step.float(0))*step.float(0) > 0 {
		n++
	}
	y := newArray(start.dtype, n)
	for k := range n {
		if y.f != nil {
			y.f[k] = start.f[0] + float64(k)*step.f[0]
		} else {
			y.i[k] = start.i[0] + int64(k)*step.i[0]
		}
	}
	return []*array{y}
}

func oneHot(c *call) []*array {
	index, values := c.arg(0), c.arg(2)
	depth := int(c.scalarAt(1, 0))
	axis := c.axis(c.Int("axis", -1), index.rank()+1)
	shape := slices.Insert(slices.Clone(index.shape), axis, depth)
	y := newArray(values.dtype, shape...)
	before, _, after := around(shape, axis)
	for b := range before {
		for a := range after {
			v := int(index.float(b*after + a))
			if v < 0 {
				v += depth
			}
			for k := range depth {
				y.set((b*depth+k)*after+a, values, int(truth(k == v)))
			}
		}
	}
	return []*array{y}
}

func trilu(c *call) []*array {
	x, k := c.arg(0), int(c.scalarAt(1, 0))
	if x.rank() < 2 {
		c.fail("needs a matrix, got shape %v", x.shape)
	}
	h, w := x.shape[x.rank()-2], x.shape[x.rank()-1]
	from := make([]int, x.len())
	for p := range from {
		row, col := p/w%h, p%w
		if from[p] = p; c.Int("upper", 1) == 1 && col < row+k || c.Int("upper", 1) == 0 && col > row+k {
			from[p] = -1
		}
	}
	return []*array{x.take(x.shape, from, nil)}
}

func nonZero(c *call) []*array {
	x := c.arg(0)
	var found []int
	for k := range x.len() {
		if x.float(k) != 0 {
			found = append(found, k)
		}
	}
	stride := strides(x.shape)
	y := newArray(tensor.Int64, x.rank(), len(found))
	for k, p := range found {
		for a := range x.rank() {
			y.i[a*len(found)+k] = int64(p / stride[a] % x.shape[a])
		}
	}
	return []*array{y}
}
