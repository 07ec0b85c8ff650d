package autodiff

import (
	"slices"

	"scrawl/engine/onnx"
)

// window holds the geometry of a convolution or pooling node over d spatial axes.
type window struct {
	kernel, stride, dilation []int64
	begin, end               []int64 // padding before and after
	group                    int64
}

// d is the number of spatial axes.
func (w window) d() int { return len(w.kernel) }

// extent is the number of input elements one dilated kernel covers along axis i.
func (w window) extent(i int) int64 { return (w.kernel[i]-1)*w.dilation[i] + 1 }

// axes are the spatial axes of an [N,C,…] value.
func (w window) axes() []int64 {
	a := make([]int64, w.d())
	for i := range a {
		a[i] = int64(i + 2)
	}
	return a
}

func repeat(v int64, n int) []int64 {
	s := make([]int64, n)
	for i := range s {
		s[i] = v
	}
	return s
}

func orElse(v, def []int64) []int64 {
	if v == nil {
		return def
	}
	return v
}

func (w window) plain() bool {
	for i := range w.kernel {
		if w.stride[i] != 1 || w.dilation[i] != 1 || w.begin[i] != 0 || w.end[i] != 0 {
			return false
		}
	}
	return true
}

// pointwise reports a 1×1 kernel with unit stride and no padding.
func (w window) pointwise() bool {
	for _, k := range w.kernel {
		if k != 1 {
			return false
		}
	}
	return w.plain()
}

// readWindow reads a node's window. kernel is taken from the attribute or, failing that, from the weight's shape.
func (t *tape) readWindow(c call, weight string) (window, error) {
	kernel := c.Ints("kernel_shape")
	if kernel == nil && weight != "" {
		s := t.shape(weight)
		if len(s) < 3 {
			return window{}, unsupported(c.Node, "the shape of its weight %q is not known", weight)
		}
		k, ok := known(s[2:])
		if !ok {
			return window{}, unsupported(c.Node, "the kernel's size is not known; its weight has shape %v", s)
		}
		kernel = k
	}
	if a := c.Str("auto_pad", "NOTSET"); a != "NOTSET" && a != "VALID" {
		return window{}, unsupported(c.Node, "auto_pad %q has not been resolved to numbers", a)
	}
	d := len(kernel)
	pads := orElse(c.Ints("pads"), repeat(0, 2*d))
	if len(pads) != 2*d {
		return window{}, unsupported(c.Node, "it has %d pads for a kernel of %d axes", len(pads), d)
	}
	win := window{
		kernel: kernel, stride: orElse(c.Ints("strides"), repeat(1, d)), dilation: orElse(c.Ints("dilations"), repeat(1, d)),
		begin: pads[:d], end: pads[d:], group: c.Int("group", 1),
	}
	return win, t.checkWindow(c, win, weight)
}

// maxTaps bounds the positions of a kernel, for each of which the gradient of a weight has a few nodes: 15×15×15 has fewer.
const maxTaps = 4096

// checkWindow reports a window that fits neither itself nor its weight.
func (t *tape) checkWindow(c call, win window, weight string) error {
	d := win.d()
	if len(win.stride) != d || len(win.dilation) != d || win.group < 1 {
		return unsupported(c.Node, "a kernel of %d axes has strides %v, dilations %v and %d groups", d, win.stride, win.dilation, win.group)
	}
	n := int64(1)
	for i, k := range win.kernel {
		if k < 1 || win.stride[i] < 1 || win.dilation[i] < 1 || k > maxTaps || n > maxTaps {
			return unsupported(c.Node, "a kernel of %v with strides %v and dilations %v has no gradient here; up to %d positions are handled", win.kernel, win.stride, win.dilation, maxTaps)
		}
		n *= k
	}
	if n > maxTaps {
		return unsupported(c.Node, "a kernel of %v has more than %d positions", win.kernel, maxTaps)
	}
	if s := t.shape(weight); weight != "" && s != nil {
		k, ok := known(s[min(2, len(s)):])
		if len(s) != d+2 || ok && !slices.Equal(k, win.kernel) {
			return unsupported(c.Node, "its weight of shape %v does not fit the kernel %v", s, win.kernel)
		}
	}
	if s := t.shape(c.Inputs[0]); s != nil && len(s) != d+2 {
		return unsupported(c.Node, "its input of shape %v does not fit a kernel of %d axes", s, d)
	}
	return nil
}

// Conv: y = x ⋆ w + b (https://onnx.ai/onnx/operators/onnx__Conv.html). With P the padding,
//
//	db = Σ dy,  dw[o,c,k] = Σ_{n,p} dy[n,o,p] · P(x)[n,c,s·p + d·k],  dx = the transposed convolution of dy with w.
func vjpConv(t *tape, c call) ([]string, error) {
	x, w, dy := c.Inputs[0], c.Inputs[1], c.dy()
	win, err := t.readWindow(c, w)
	if err != nil {
		return nil, err
	}
	dxs := make([]string, len(c.Inputs))
	if len(c.Inputs) > 2 && c.want[2] {
		dxs[2] = t.sum(dy, false, append([]int64{0}, win.axes()...)...)
	}
	s := t.shape(w)
	if s == nil || !s[0].Known() || !s[1].Known() {
		return nil, unsupported(c.Node, "the number of channels of its weight %q is not known", w)
	}
	out, in := s[0].Size, s[1].Size // in: per group
	if out == win.group && in == 1 && win.pointwise() {
		return t.channelScale(c, win, dxs), nil
	}
	if c.want[0] {
		dxs[0] = t.convInput(dy, x, w, win, out, in)
		t.b.Summarize(dxs[0], ConvInputGradient, []string{dy, w, x}, win.attributes()...)
	}
	if c.want[1] {
		dxs[1] = t.convWeight(dy, x, w, win, out, in, c.y())
		t.b.Summarize(dxs[1], ConvWeightGradient, []string{dy, x, w}, win.attributes()...)
	}
	return dxs, nil
}

// The operators of [onnx.SummaryDomain] that stand for the gradients of a Conv node, whose attributes they have. Their inputs are
// ConvInputGradient(dy, w, x) and ConvWeightGradient(dy, x, w), where the last one gives only its shape.
const (
	ConvInputGradient  = "ConvInputGradient"
	ConvWeightGradient = "ConvWeightGradient"
)

func (w window) attributes() []onnx.AttrOption {
	return []onnx.AttrOption{onnx.WithInts("kernel_shape", w.kernel...), onnx.WithInts("strides", w.stride...),
		onnx.WithInts("dilations", w.dilation...), onnx.WithInts("pads", slices.Concat(w.begin, w.end)...), onnx.WithInt("group", w.group)}
}

// channelScale is the VJP of a 1×1 depthwise convolution, which multiplies each channel by a number.
func (t *tape) channelScale(c call, win window, dxs []string) []string {
	x, w, dy := c.Inputs[0], c.Inputs[1], c.dy()
	if c.want[0] {
		dxs[0] = t.mul(dy, t.reshape(w, append([]int64{1, -1}, repeat(1, win.d())...)...))
	}
	if c.want[1] {
		dxs[1] = t.reshapeLike(t.sum(t.mul(dy, x), false, append([]int64{0}, win.axes()...)...), w)
	}
	return dxs
}

// convInput is the gradient of a convolution's input: for unit strides a convolution with the kernel turned round and its
// channel axes swapped (faster than ConvTranspose on CPU), otherwise a transposed convolution cut to the input's size.
func (t *tape) convInput(dy, x, w string, win window, out, in int64) string {
	unit := true
	for i := range win.kernel {
		if win.stride[i] != 1 || win.extent(i)-1 < win.begin[i] || win.extent(i)-1 < win.end[i] {
			unit = false
		}
	}
	if !unit {
		return t.transposedConv(dy, x, w, win)
	}
	pads := make([]int64, 2*win.d())
	for i := range win.kernel {
		pads[i] = win.extent(i) - 1 - win.begin[i]
		pads[win.d()+i] = win.extent(i) - 1 - win.end[i]
	}
	return t.b.Op("Conv", []string{dy, t.turned(w, win, out, in)}, onnx.WithInts("pads", pads...),
		onnx.WithInts("dilations", win.dilation...), onnx.WithInts("kernel_shape", win.kernel...), onnx.WithInt("group", win.group))
}

// turned rotates the kernels of w [O,C/g,k…] by 180° and swaps its channel axes within each group: [C,O/g,k…].
func (t *tape) turned(w string, win window, out, in int64) string {
	taps := int64(1)
	for _, k := range win.kernel {
		taps *= k
	}
	if win.group == 1 {
		v := t.transpose(t.reshape(w, out, in, taps), 1, 0, 2)
		return t.reshape(t.reversed(v, 2, taps), append([]int64{in, out}, win.kernel...)...)
	}
	g := win.group
	v := t.transpose(t.reshape(w, g, out/g, in, taps), 0, 2, 1, 3)
	return t.reshape(t.reversed(v, 3, taps), append([]int64{g * in, out / g}, win.kernel...)...)
}

// reversed reverses an axis of known length.
func (t *tape) reversed(v string, axis, n int64) string {
	if n == 1 {
		return v
	}
	order := make([]int64, n)
	for i := range order {
		order[i] = n - 1 - int64(i)
	}
	return t.b.Op("Gather", []string{v, t.b.Int64s(order...)}, onnx.WithInt("axis", axis))
}

// transposedConv spreads dy with the kernel w over the padded input and cuts out the part that is x. With strides the
// padded input may have a margin that no output touched; it gets zeros.
func (t *tape) transposedConv(dy, x, w string, win window) string {
	full := t.b.Op("ConvTranspose", []string{dy, w}, onnx.WithInts("strides", win.stride...),
		onnx.WithInts("dilations", win.dilation...), onnx.WithInts("kernel_shape", win.kernel...), onnx.WithInt("group", win.group))
	var begins, ends []string
	for i := range win.kernel {
		// full covers −begin … −begin + s·(p−1) + extent of x; pad or cut its end to begin + size(x).
		p := t.op("Gather", t.op("Shape", dy), t.b.Int64s(int64(i+2)))
		have := t.add(t.mul(t.sub(p, t.b.Int64s(1)), t.b.Int64s(win.stride[i])), t.b.Int64s(win.extent(i)))
		begins = append(begins, t.b.Int64s(-win.begin[i]))
		ends = append(ends, t.sub(t.add(t.dim(x, i+2), t.b.Int64s(win.begin[i])), have))
	}
	return t.pad(full, win.d()+2, t.joined(begins), t.joined(ends), win.axes()...)
}

// joined concatenates int64 vectors.
func (t *tape) joined(vs []string) string {
	if len(vs) == 1 {
		return vs[0]
	}
	return t.concat(0, vs...)
}

// convWeight is the gradient of a convolution's weight.
func (t *tape) convWeight(dy, x, w string, win window, out, in int64, y string) string {
	if win.group == 1 && win.d() == 2 && fits3x3(win) {
		return t.convWeight3x3(dy, x, out, in)
	}
	padded := t.padFixed(x, win.d()+2, win.begin, win.end, win.axes())
	return t.tapProducts(padded, dy, y, w, win, out, in)
}

// tapProducts is the weight gradient [O,C/g,k…] of a convolution that takes padded [N,C,…] to cells of the grid of the
// forward value grid, whose cotangent is dy [N,O,…]: for each kernel position a product of dy with a strided view of padded.
func (t *tape) tapProducts(padded, dy, grid, w string, win window, out, in int64) string {
	g := win.group
	rows := func(v string, channels int64) string { // [N,C,…] → [N,g,C/g,positions]
		return t.op("Reshape", v, t.b.Int64s(0, g, channels/g, -1))
	}
	left := rows(dy, out)
	var products []string
	for _, tap := range taps(win.kernel) {
		xs := padded
		if !win.pointwise() {
			xs = t.tap(padded, grid, win, tap)
		}
		right := t.transpose(rows(xs, in*g), 0, 1, 3, 2)
		products = append(products, t.sum(t.op("MatMul", left, right), false, 0)) // [g,O/g,C/g]
	}
	if len(products) == 1 {
		return t.reshapeLike(products[0], w)
	}
	for i, v := range products {
		products[i] = t.reshape(v, out, in, 1)
	}
	return t.reshapeLike(t.concat(2, products...), w)
}

// taps lists the kernel positions in row-major order.
func taps(kernel []int64) [][]int64 {
	all := [][]int64{nil}
	for _, k := range kernel {
		var next [][]int64
		for _, p := range all {
			for i := range k {
				next = append(next, append(append([]int64{}, p...), i))
			}
		}
		all = next
	}
	return all
}

// tap takes, for every output position p, the padded input's element s·p + d·tap that kernel position multiplies.
func (t *tape) tap(padded, y string, win window, tap []int64) string {
	starts := make([]int64, win.d())
	ends := make([]string, win.d())
	for i := range starts {
		starts[i] = tap[i] * win.dilation[i]
		ends[i] = t.add(t.b.Int64s(starts[i]), t.mul(t.dim(y, i+2), t.b.Int64s(win.stride[i])))
	}
	return t.op("Slice", padded, t.b.Int64s(starts...), t.joined(ends), t.b.Int64s(win.axes()...), t.b.Int64s(win.stride...))
}

// fits3x3 reports the commonest convolution: 3×3, unit stride and dilation, padding 1.
func fits3x3(w window) bool {
	for i := range w.kernel {
		if w.kernel[i] != 3 || w.stride[i] != 1 || w.dilation[i] != 1 || w.begin[i] != 1 || w.end[i] != 1 {
			return false
		}
	}
	return true
}

// chunks is into how many parts convWeight3x3 splits the sum over pixels, so that several threads share one product.
const chunks = 8

// convWeight3x3 is convWeight for 3×3 kernels as a single matrix product of [3·O, n] and [n, 3·C].
//
// Write the padded planes as flat vectors: rows of W+1 elements whose last is 0, and a zero row after each image. Then a
// shift in the plane is an offset, and with L = W+1 the tap (i, j) is
//
//	dw[o,c,i,j] = Σ_r dy[r − (i−1)·L] · x[r + (j−1)],
//
// nine products of three shifted copies of dy and three of x. Copies of length n are laid end to end and share their zero
// margins, so that each operand is one Concat without any Slice. Where a copy's margin does hold elements of its
// neighbour, the other operand is 0, which needs n ≥ S + L + 1 for S elements.
func (t *tape) convWeight3x3(dy, x string, out, in int64) string {
	i64 := t.b.Int64s
	flat := func(v string, channels int64) string { // [N,C,H,W] → [C, S]
		v = t.padFixed(v, 4, []int64{0, 0}, []int64{1, 1}, []int64{2, 3})
		if n := t.shape(x)[0]; !n.Known() || n.Size != 1 {
			v = t.transpose(v, 1, 0, 2, 3)
		}
		return t.reshape(v, channels, -1)
	}
	d, xs := flat(dy, out), flat(x, in)
	row := t.add(t.dim(x, 3), i64(1))
	size := t.mul(t.mul(t.dim(x, 0), t.add(t.dim(x, 2), i64(1))), row)
	n := t.add(t.add(size, row), i64(chunks))
	n = t.mul(t.div(n, i64(chunks)), i64(chunks))
	zeros := func(channels int64, length string) string { return t.zeros(t.concat(0, i64(channels), length)) }

	gap := t.sub(t.sub(n, size), row)
	dGap := zeros(out, gap)
	left := t.concat(1, zeros(out, row), d, dGap, d, dGap, d, zeros(out, t.add(gap, t.mul(row, i64(2)))))
	rest := t.sub(t.sub(n, size), i64(1))
	xGap := zeros(in, rest)
	right := t.concat(1, zeros(in, i64(1)), xs, xGap, xs, xGap, xs, zeros(in, t.add(rest, i64(2))))

	// The copies of dy are those for i = 2, 1, 0; those of x for j = 0, 1, 2.
	left = t.transpose(t.reshapeChunks(left, 3*out, n), 1, 0, 2)
	right = t.transpose(t.reshapeChunks(right, 3*in, n), 1, 2, 0)
	dw := t.sum(t.op("MatMul", left, right), false, 0)
	dw = t.reversed(t.reshape(dw, out, 3, in, 3), 1, 3)
	return t.transpose(dw, 0, 2, 1, 3)
}

// reshapeChunks gives v, of channels rows of n elements, the shape [channels, chunks, n/chunks].
func (t *tape) reshapeChunks(v string, channels int64, n string) string {
	return t.op("Reshape", v, t.concat(0, t.b.Int64s(channels, chunks), t.div(n, t.b.Int64s(chunks))))
}

// ConvTranspose: y = Σ_k x ⊗ w, the adjoint of Conv (https://onnx.ai/onnx/operators/onnx__ConvTranspose.html), so dx is the
// convolution of dy with w, and dw that convolution's weight gradient with the roles of x and dy exchanged.
func vjpConvTranspose(t *tape, c call) ([]string, error) {
	x, w, dy := c.Inputs[0], c.Inputs[1], c.dy()
	win, err := t.readWindow(c, w)
	if err != nil {
		return nil, err
	}
	if c.Ints("output_shape") != nil {
		return nil, unsupported(c.Node, "output_shape is not handled; export it with pads and output_padding")
	}
	s := t.shape(w) // [C, O/g, k…]
	if s == nil || !s[0].Known() || !s[1].Known() {
		return nil, unsupported(c.Node, "the number of channels of its weight %q is not known", w)
	}
	dxs := make([]string, len(c.Inputs))
	if len(c.Inputs) > 2 && c.want[2] {
		dxs[2] = t.sum(dy, false, append([]int64{0}, win.axes()...)...)
	}
	// Pad dy as Conv would pad its input; output_padding shows up as elements at the end that no kernel reaches.
	padded := t.padFixed(dy, win.d()+2, win.begin, win.end, win.axes())
	if c.want[0] {
		full := t.b.Op("Conv", []string{padded, w}, onnx.WithInts("strides", win.stride...),
			onnx.WithInts("dilations", win.dilation...), onnx.WithInts("kernel_shape", win.kernel...), onnx.WithInt("group", win.group))
		dxs[0] = t.cropTo(full, x, win)
	}
	if c.want[1] {
		dxs[1] = t.tapProducts(padded, x, x, w, win, s[0].Size, s[1].Size)
	}
	return dxs, nil
}

// cropTo cuts the spatial axes of v to those of the forward value like; output_padding of a stride or more would make it longer.
func (t *tape) cropTo(v, like string, win window) string {
	ends := make([]string, win.d())
	for i := range ends {
		ends[i] = t.dim(like, i+2)
	}
	return t.slice(v, t.b.Int64s(repeat(0, win.d())...), t.joined(ends), win.axes()...)
}
