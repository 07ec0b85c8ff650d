package lower

import (
	"fmt"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// The gradient of a convolution's weight,
//
//	dw[o,c,k] = Σ_q dy[o,q] · P(x)[c, s·q + d·k]   (P pads, s is the stride, d the dilation),
//
// correlates every channel of x with every channel of dy. Read with dy as the filter, of the size of the whole image, it is a
// convolution whose images are the channels of x, with stride d and dilation s, and whose result is as large as the kernel. Read with x
// as the filter it is one over the channels of dy, whose result comes out rotated by 180° (for stride 1). The blocked kernels
// keep four blocks of filters times a kernel's width of sums in registers, so the operand with more channels makes the
// better filter; and they read the filter once for every image and row, so it is cut into bands of rows that stay in a core's cache.

// bandBytes is how large a band's filters may be, minBandRows how many rows it has at least.
const (
	bandBytes   = 256 << 10
	minBandRows = 8
	filterSet   = 4 // blocks of filters that are computed together
)

// weightPlan says how a weight's gradient is computed.
type weightPlan struct {
	ok            bool
	dy, x         string
	win           window
	sizes         []int64 // of the weight
	filter, image string
	images        int64 // channels of image
	filters       int64 // channels of filter
	rotated       bool  // x is the filter
	band          int64 // bytes
}

func (s *scope) planWeightGradient(n *onnx.Node) weightPlan {
	p := weightPlan{dy: n.Inputs[0], x: n.Inputs[1]}
	p.win, p.sizes, p.ok = s.readWindow(n, n.Inputs[2])
	if !p.ok || len(s.shape(p.dy)) != 4 || len(s.shape(p.x)) != 4 {
		return weightPlan{}
	}
	if p.win.taps() == 1 { // one matrix product
		return weightPlan{}
	}
	o, c := p.sizes[0], p.sizes[1]
	g := gradientCase{sizes: p.sizes, win: p.win}
	form, byX, byDY := g.choice(s.Target)
	if key, ok := s.formKey(p, &g); ok && (byX || byDY) {
		if s.met != nil {
			s.met.meet(key, g)
		}
		if f, ok := s.Forms[key]; ok && f.Band >= 1<<12 && (f.Filter == filterX && byX || f.Filter == filterDY && byDY) {
			form = f
		}
	}
	p.filter, p.filters, p.image, p.images, p.band = p.dy, o, p.x, c, form.Band
	if form.Filter == filterX {
		p.filter, p.filters, p.image, p.images, p.rotated = p.x, c, p.dy, o, true
	}
	p.ok = p.filters%s.Block == 0
	return p
}

// weightGradient computes dw, in the kernels' layout where the weight has one.
func (s *scope) weightGradient(dw string, p weightPlan) {
	filter := s.reshape(s.blocked(p.filter), 0, p.filters/s.Block, 0, -1) // [N, F/B, H, W·B]
	s.finish(dw, s.banded(p, s.plain(p.image), filter), p)
}

// margins are how far the image is padded so that every tap of the kernel meets every element of the filter and nothing is left over:
// rows before, and columns before and after.
func (s *scope) margins(p weightPlan) (top int64, left, right string) {
	pads := p.win.pads
	if p.rotated {
		pads = p.win.mirrored().pads
	}
	top, left, right = pads[0], s.b.Int64s(pads[1]), s.b.Int64s(pads[3])
	if stride := p.win.stride[1]; stride != 1 {
		width := s.op("Add", s.op("Mul", s.op("Sub", s.dim(p.dy, 3), s.b.Int64s(1)), s.b.Int64s(stride)), s.b.Int64s(p.win.extent(1)-pads[1]))
		right = s.op("Sub", width, s.dim(p.x, 3))
	}
	return top, left, right
}

// banded sums the correlation over bands of rows and over the images of a batch: [images, filters, h, w], blocked in the filters.
func (s *scope) banded(p weightPlan, image, filter string) string {
	rows, height := s.bandRows(p), s.dim(p.filter, 2)
	count := s.once(fmt.Sprint("bands ", rows, height), func() string {
		return s.op("Div", s.op("Sub", s.op("Add", height, rows), s.b.Int64s(1)), rows)
	})
	trips := count
	batch := s.shape(p.filter)[0]
	single := batch.Known() && batch.Size == 1
	if !single {
		trips = s.op("Mul", count, s.dim(p.filter, 0))
	}
	top, left, right := s.margins(p)
	imageHeight := s.dim(p.image, 2)
	out := []int64{p.images, p.filters, p.win.kernel[0], p.win.kernel[1]}

	body := &onnx.Graph{Name: "band"}
	b := s.b.Sub(body, s.b.Fresh("band")+"/")
	op := func(op string, inputs ...string) string { return b.Op(op, inputs) }
	it, goOn, sum := b.Fresh("band"), b.Fresh("go_on"), b.Fresh("sum")
	trip := op("Reshape", it, s.b.Int64s(1))
	first := op("Mul", trip, rows)
	if !single {
		n := op("Div", trip, count)
		first = op("Mul", op("Sub", trip, op("Mul", n, count)), rows)
		image = op("Gather", image, n)
		filter = op("Gather", filter, n)
	}
	last := op("Min", op("Add", first, rows), height)
	filters := op("Reshape", op("Slice", filter, first, last, s.b.Int64s(2)), s.b.Int64s(p.filters, 1, 0, -1))
	// Rows from·stride − top … that the band meets; padding by a negative number cuts.
	from, to := first, last
	if stride := p.win.stride[0]; stride != 1 {
		from, to = op("Mul", first, s.b.Int64s(stride)), op("Add", op("Mul", last, s.b.Int64s(stride)), s.b.Int64s(1-stride))
	}
	before := op("Sub", s.b.Int64s(top), from)
	after := op("Sub", op("Add", to, s.b.Int64s(p.win.extent(0)-1-top)), imageHeight)
	pads := b.Op("Concat", []string{before, left, after, right}, onnx.WithInt("axis", 0))
	images := op("Reshape", op("Pad", image, pads, s.b.Float(0), s.b.Int64s(2, 3)), s.b.Int64s(p.images, 1, 0, 0))
	y := b.Op("Conv", []string{images, filters, "", sum}, inBlockedDomain(), onnx.WithInts("strides", p.win.dilation...), onnx.WithInts("dilations", p.win.stride...))
	b.Alias(goOn, goOn+"_out")
	shape := onnx.Fixed(out...)
	body.Inputs = []onnx.Value{{Name: it, DType: tensor.Int64, Shape: onnx.Shape{}}, {Name: goOn, DType: tensor.Bool, Shape: onnx.Shape{}}, {Name: sum, DType: tensor.Float32, Shape: shape}}
	body.Outputs = []onnx.Value{{Name: goOn + "_out", DType: tensor.Bool, Shape: onnx.Shape{}}, {Name: y, DType: tensor.Float32, Shape: shape}}
	zeros := s.op("Expand", s.b.Float(0), s.b.Int64s(out...))
	return s.b.Op("Loop", []string{trips, "", zeros}, onnx.WithGraph("body", body))
}

// bandRows is the height of a band.
func (s *scope) bandRows(p weightPlan) string {
	perRow := 4 * s.Block * min(filterSet, p.filters/s.Block)
	height, width := s.dim(p.filter, 2), s.dim(p.filter, 3)
	return s.once(fmt.Sprint("rows ", p.band/perRow, height, width), func() string {
		rows := s.op("Div", s.b.Int64s(p.band/perRow), width)
		return s.op("Min", s.op("Max", rows, s.b.Int64s(minBandRows)), height)
	})
}

// finish brings [images, filters, h, w], blocked in the filters, into the layout of the weight.
func (s *scope) finish(dw, raw string, p weightPlan) {
	b, o, c, k := s.Block, p.sizes[0], p.sizes[1], p.win.taps()
	if !s.hasKernelForm(p.sizes) {
		if p.rotated { // [O, C/B, K, B]
			v := s.gather(s.reshape(raw, o, c/b, k, b), 2, reversed(k))
			s.emit(dw, "Reshape", []string{s.transpose(v, 0, 1, 3, 2), s.b.Int64s(p.sizes...)})
		} else { // [C, O/B, K, B]
			s.emit(dw, "Reshape", []string{s.transpose(s.reshape(raw, c, o/b, k, b), 1, 3, 0, 2), s.b.Int64s(p.sizes...)})
		}
		s.plainly[dw] = true
		return
	}
	var v string
	switch {
	case p.rotated:
		v = s.transpose(s.reshape(raw, o/b, b, c/b, k, b), 0, 2, 3, 1, 4) // [O/B, C/B, K, B(o), B(c)]
		v = s.gather(s.reshape(v, o/b*c/b, k, b*b), 1, reversed(k))
		v = s.tilesTransposed(v, o/b*c/b*k)
	case c%b == 0:
		v = s.transpose(s.reshape(raw, c/b, b, o/b, k, b), 2, 0, 3, 1, 4)
	default:
		v = s.transpose(s.reshape(raw, c, o/b, k*b), 1, 0, 2)
	}
	s.others[kernel][dw] = s.reshape(v, p.sizes...)
}
