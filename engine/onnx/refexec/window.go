package refexec

import "scrawl/engine/tensor"

// spatial is the geometry of a convolution or pooling, always with three spatial axes; the ones a node does not have are
// of size one.
type spatial struct {
	in, out, kernel, stride, dilation, before, after [3]int
}

// three puts n sizes at the end of three.
func three(v []int, fill int) [3]int {
	out := [3]int{fill, fill, fill}
	copy(out[3-len(v):], v)
	return out
}

// window reads strides, dilations, pads and auto_pad. rank is the number of spatial axes.
func (c *call) window(in, kernel []int) (g spatial, rank int) {
	rank = len(in)
	if rank < 1 || rank > 3 || len(kernel) != rank {
		c.fail("has %d spatial axes and a kernel of %d; want the same number, 1 to 3", rank, len(kernel))
	}
	g.in, g.kernel = three(in, 1), three(kernel, 1)
	g.stride, g.dilation = three(c.attrInts("strides", rank, 1), 1), three(c.attrInts("dilations", rank, 1), 1)
	pads := c.attrInts("pads", 2*rank, 0)
	g.before, g.after = three(pads[:rank], 0), three(pads[rank:], 0)
	switch mode := c.Str("auto_pad", "NOTSET"); mode {
	case "SAME_UPPER", "SAME_LOWER":
		for a := range 3 {
			out := (g.in[a] + g.stride[a] - 1) / g.stride[a]
			total := max(0, (out-1)*g.stride[a]+g.extent(a)-g.in[a])
			g.before[a], g.after[a] = total/2, total-total/2
			if mode == "SAME_LOWER" {
				g.before[a], g.after[a] = g.after[a], g.before[a]
			}
		}
	case "VALID":
		g.before, g.after = [3]int{}, [3]int{}
	}
	return g, rank
}

// extent is the reach of the dilated kernel along an axis.
func (g *spatial) extent(a int) int { return (g.kernel[a]-1)*g.dilation[a] + 1 }

// slide computes the output size of a window that slides over the padded input.
func (c *call) slide(g *spatial, ceil bool) {
	for a := range 3 {
		span := g.in[a] + g.before[a] + g.after[a] - g.extent(a)
		if span < 0 {
			c.fail("the kernel's extent %d exceeds the padded input's %d", g.extent(a), g.in[a]+g.before[a]+g.after[a])
		}
		g.out[a] = span/g.stride[a] + 1
		if ceil && span%g.stride[a] != 0 && g.out[a]*g.stride[a] < g.in[a]+g.before[a] { // the last window must begin inside
			g.out[a]++
		}
	}
}

// visit is the inner loop of Conv and ConvTranspose: for kernel place (kd, kh, kw) it calls f for each run of n elements of out, from o
// on, and the elements of in that they meet, from i on and step apart. o and i index one image.
func (g *spatial) visit(kd, kh, kw int, f func(o, i, n, step int)) {
	// out·stride = in + before − k·dilation
	lo, hi := g.reach(2, kw)
	if lo >= hi {
		return
	}
	for od := range g.out[0] {
		id := od*g.stride[0] - g.before[0] + kd*g.dilation[0]
		if id < 0 || id >= g.in[0] {
			continue
		}
		for oh := range g.out[1] {
			ih := oh*g.stride[1] - g.before[1] + kh*g.dilation[1]
			if ih < 0 || ih >= g.in[1] {
				continue
			}
			o := (od*g.out[1]+oh)*g.out[2] + lo
			i := (id*g.in[1]+ih)*g.in[2] + lo*g.stride[2] - g.before[2] + kw*g.dilation[2]
			f(o, i, hi-lo, g.stride[2])
		}
	}
}

// reach is the range of output indices along axis a that meet the input at kernel place k.
func (g *spatial) reach(a, k int) (lo, hi int) {
	offset := k*g.dilation[a] - g.before[a]
	lo, hi = 0, g.out[a]
	for lo < hi && lo*g.stride[a]+offset < 0 {
		lo++
	}
	for hi > lo && (hi-1)*g.stride[a]+offset >= g.in[a] {
		hi--
	}
	return lo, hi
}

func (g *spatial) outShape(rank int, lead ...int) []int { return append(lead, g.out[3-rank:]...) }

func (g *spatial) kernelSize() int { return g.kernel[0] * g.kernel[1] * g.kernel[2] }

// kernelPlaces calls f for every place of the kernel with its flat index.
func (g *spatial) kernelPlaces(f func(p, kd, kh, kw int)) {
	p := 0
	for kd := range g.kernel[0] {
		for kh := range g.kernel[1] {
			for kw := range g.kernel[2] {
				f(p, kd, kh, kw)
				p++
			}
		}
	}
}

// conv computes Conv: x [N,C,…], w [M,C/group,…], bias [M] → [N,M,…].
func conv(c *call) []*array {
	x, w, group := c.arg(0), c.arg(1), int(c.Int("group", 1))
	if x.rank() < 3 || w.rank() != x.rank() || group < 1 || x.shape[1] != w.shape[1]*group || w.shape[0]%group != 0 {
		c.fail("input %v and weight %v do not fit in %d groups", x.shape, w.shape, group)
	}
	g, rank := c.window(x.shape[2:], w.shape[2:])
	c.slide(&g, false)
	n, m, perGroup := x.shape[0], w.shape[0], w.shape[1]
	y := floats(g.outShape(rank, n, m)...)
	inSize, outSize, ks := count(x.shape[2:]), count(y.shape[2:]), g.kernelSize()
	for b := range n {
		for o := range m {
			out := y.f[(b*m+o)*outSize:][:outSize]
			if bias := c.opt(2); bias != nil {
				for k := range out {
					out[k] = bias.f[o]
				}
			}
			for ci := range perGroup {
				in := x.f[(b*x.shape[1]+o/(m/group)*perGroup+ci)*inSize:][:inSize]
				weights := w.f[(o*perGroup+ci)*ks:][:ks]
				g.kernelPlaces(func(p, kd, kh, kw int) {
					k := weights[p]
					g.visit(kd, kh, kw, func(o, i, n, step int) {
						for range n {
							out[o] += k * in[i]
							o, i = o+1, i+step
						}
					})
				})
			}
		}
	}
	return []*array{y}
}

// convTranspose computes ConvTranspose, the transpose of the linear map Conv: x [N,C,…], w [C,M/group,…] → [N,M,…].
func convTranspose(c *call) []*array {
	x, w, group := c.arg(0), c.arg(1), int(c.Int("group", 1))
	if x.rank() < 3 || w.rank() != x.rank() || group < 1 || x.shape[1] != w.shape[0] || w.shape[0]%group != 0 {
		c.fail("input %v and weight %v do not fit in %d groups", x.shape, w.shape, group)
	}
	// The geometry of the Conv this is the transpose of: its output is our input.
	g, rank := c.window(x.shape[2:], w.shape[2:])
	c.transposedSize(&g, rank)
	g.in, g.out = g.out, g.in
	n, cIn, m := x.shape[0], x.shape[1], w.shape[1]*group
	y := floats(append([]int{n, m}, g.in[3-rank:]...)...)
	inSize, outSize, ks, perGroup := count(x.shape[2:]), count(y.shape[2:]), g.kernelSize(), w.shape[1]
	for b := range n {
		for o := range m {
			out := y.f[(b*m+o)*outSize:][:outSize]
			if bias := c.opt(2); bias != nil {
				for k := range out {
					out[k] = bias.f[o]
				}
			}
			for k := range cIn / group {
				ci := o/perGroup*(cIn/group) + k
				in := x.f[(b*cIn+ci)*inSize:][:inSize]
				weights := w.f[(ci*perGroup+o%perGroup)*ks:][:ks]
				g.kernelPlaces(func(p, kd, kh, kw int) {
					k := weights[p]
					g.visit(kd, kh, kw, func(i, o, n, step int) {
						for range n {
							out[o] += k * in[i]
							o, i = o+step, i+1
						}
					})
				})
			}
		}
	}
	return []*array{y}
}

// transposedSize sets g.out (and, for output_shape and auto_pad, the pads) by the formulas of the ConvTranspose page.
func (c *call) transposedSize(g *spatial, rank int) {
	extra := three(c.attrInts("output_padding", rank, 0), 0)
	want := c.Ints("output_shape")
	auto := c.Str("auto_pad", "NOTSET")
	for a := range 3 {
		full := (g.in[a]-1)*g.stride[a] + extra[a] + g.extent(a)
		if want == nil && auto != "SAME_UPPER" && auto != "SAME_LOWER" {
			g.out[a] = full - g.before[a] - g.after[a]
			continue
		}
		g.out[a] = g.in[a] * g.stride[a]
		if k := a - (3 - rank); want != nil && k >= 0 {
			g.out[a] = int(want[len(want)-rank+k])
		}
		total := max(0, full-g.out[a])
		g.before[a] = total - total/2
		if auto == "SAME_UPPER" {
			g.before[a] = total / 2
		}
		g.after[a] = total - g.before[a]
	}
	for a := range 3 {
		if g.out[a] < 0 {
			c.fail("the output would have a negative size along spatial axis %d", a)
		}
	}
}

// pool walks the windows of a pooling node: f gets the flat index of the output element and the input's flat indices
// within the window, and the window's size including the padding it covers.
func (c *call) pool(f func(y *array, x *array, o int, in []int, padded int)) *array {
	x := c.arg(0)
	if x.rank() < 3 {
		c.fail("needs an input [N,C,…], got shape %v", x.shape)
	}
	g, rank := c.window(x.shape[2:], toInts(c.Ints("kernel_shape")))
	if mode := c.Str("auto_pad", "NOTSET"); mode != "NOTSET" && mode != "" {
		c.slide(&g, false)
	} else {
		c.slide(&g, c.Int("ceil_mode", 0) == 1)
	}
	y := newArray(x.dtype, g.outShape(rank, x.shape[0], x.shape[1])...)
	inSize, outSize := count(x.shape[2:]), count(y.shape[2:])
	for image := range x.shape[0] * x.shape[1] {
		for o := range outSize {
			od, oh, ow := o/(g.out[1]*g.out[2]), o/g.out[2]%g.out[1], o%g.out[2]
			var in []int
			padded := 0
			g.kernelPlaces(func(_, kd, kh, kw int) {
				at := [3]int{od*g.stride[0] + kd*g.dilation[0], oh*g.stride[1] + kh*g.dilation[1], ow*g.stride[2] + kw*g.dilation[2]}
				inside := true
				for a := range 3 {
					if at[a] >= g.in[a]+g.before[a]+g.after[a] {
						return // beyond the padding: ceil_mode's last window
					}
					at[a] -= g.before[a]
					inside = inside && at[a] >= 0 && at[a] < g.in[a]
				}
				padded++
				if inside {
					in = append(in, image*inSize+(at[0]*g.in[1]+at[1])*g.in[2]+at[2])
				}
			})
			f(y, x, image*outSize+o, in, padded)
		}
	}
	return y
}

func maxPool(c *call) []*array {
	var index *array
	places := []int64{}
	y := c.pool(func(y, x *array, o int, in []int, _ int) {
		best := -1
		for _, i := range in {
			if best < 0 || x.float(i) > x.float(best) {
				best = i
			}
		}
		if best < 0 {
			c.fail("a window lies wholly in the padding")
		}
		y.set(o, x, best)
		places = append(places, int64(best))
	})
	if c.Int("storage_order", 0) == 0 {
		index = &array{shape: y.shape, dtype: tensor.Int64, i: places}
	}
	return []*array{y, index}
}

func averagePool(c *call) []*array {
	includePad := c.Int("count_include_pad", 0) == 1
	return []*array{c.pool(func(y, x *array, o int, in []int, padded int) {
		sum := 0.0
		for _, i := range in {
			sum += x.f[i]
		}
		n := len(in)
		if includePad {
			n = padded
		}
		y.f[o] = sum / float64(n)
	})}
}

// globalPool reduces all spatial axes to size one.
func globalPool(start float64, f func(acc, x float64) float64, end func(acc float64, n int) float64) kernel {
	return func(c *call) []*array {
		x := c.arg(0)
		if x.rank() < 3 {
			c.fail("needs an input [N,C,…], got shape %v", x.shape)
		}
		shape := []int{x.shape[0], x.shape[1]}
		for range x.rank() - 2 {
			shape = append(shape, 1)
		}
		y, size := floats(shape...), count(x.shape[2:])
		for k := range y.f {
			acc := start
			for _, v := range x.f[k*size:][:size] {
				acc = f(acc, v)
			}
			y.f[k] = end(acc, size)
		}
		return []*array{y}
	}
}
