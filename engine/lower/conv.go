package lower

import (
	"slices"

	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// readsImage reports whether the blocked kernels take x, of c channels, as a convolution's input: blocked, or plain when it has
// fewer channels than a block.
func (s *scope) readsImage(x string, c int64) bool {
	return len(s.shape(x)) == 4 && (c%s.Block == 0 || c < s.Block)
}

// input returns x in the layout that a convolution over c channels reads.
func (s *scope) input(x string, c int64) string {
	if c < s.Block {
		return s.plain(x)
	}
	return s.blocked(x)
}

// conv rewrites a convolution, and what follows it directly: an addition and a ReLU are part of the same kernel.
func (s *scope) conv(n *onnx.Node) bool {
	x, w := n.Inputs[0], n.Inputs[1]
	win, sizes, ok := s.readWindow(n, w)
	if !ok || !s.readsImage(x, sizes[1]) {
		return false
	}
	if s.hasKernelForm(sizes) {
		inputs := []string{s.input(x, sizes[1]), s.kernel(w, sizes), s.plain(n.Input(2))}
		s.convolve(n.Outputs[0], inputs, win)
		return true
	}
	if win.taps() == 1 { // a plain matrix product is as good
		return false
	}
	// A head with a few classes: missing output channels are computed as zeros and left out again.
	padded := slices.Clone(sizes)
	padded[0] = (sizes[0] + s.Block - 1) / s.Block * s.Block
	if !s.hasKernelForm(padded) || padded[0] > sizes[0]+s.Block/2 && sizes[0] > s.Block {
		return false
	}
	inputs := []string{s.input(x, sizes[1]), s.paddedKernel(w, padded), s.paddedVector(n.Input(2), padded[0]-sizes[0])}
	y := s.b.Op("Conv", trimmed(inputs), win.options()...)
	s.emit(n.Outputs[0], "ReorderOutput", []string{y}, inBlockedDomain(), onnx.WithInt("channels", sizes[0]))
	s.plainly[n.Outputs[0]] = true
	return true
}

// trimmed leaves out absent inputs at the end.
func trimmed(inputs []string) []string {
	for len(inputs) > 0 && inputs[len(inputs)-1] == "" {
		inputs = inputs[:len(inputs)-1]
	}
	return inputs
}

// paddedKernel lays out a weight with output channels of zeros added.
func (s *scope) paddedKernel(w string, sizes []int64) string {
	return s.once("padded "+w, func() string {
		if t := s.constant(w); t != nil {
			wide := tensor.Zeros[float32](int(sizes[0]), int(sizes[1]), int(sizes[2]), int(sizes[3]))
			copy(wide.Float32s(), t.Float32s())
			return s.b.Const(s.layOut(wide, sizes))
		}
		have := s.shape(w)[0].Size
		v := s.op("Pad", s.plain(w), s.b.Int64s(0, sizes[0]-have), s.b.Float(0), s.b.Int64s(0))
		return s.toKernel(v, sizes)
	})
}

func (s *scope) paddedVector(v string, more int64) string {
	if v == "" {
		return ""
	}
	return s.once("padded "+v, func() string { return s.op("Pad", s.plain(v), s.b.Int64s(0, more), s.b.Float(0)) })
}

// convolve emits a blocked convolution of [image, kernel, bias] whose result, blocked, is y or what is fused behind it.
func (s *scope) convolve(y string, inputs []string, win window) {
	options := win.options()
	if add, other := s.onlyAdd(y); add != nil {
		s.done[add] = true
		y = add.Outputs[0]
		for len(inputs) < 3 {
			inputs = append(inputs, "")
		}
		inputs = append(inputs, s.blocked(other))
	}
	if relu := s.onlyUser(y, "Relu"); relu != nil {
		s.done[relu] = true
		y = relu.Outputs[0]
		options = append(options, onnx.WithString("activation", "Relu"))
	}
	s.others[blocked][y] = s.b.Op("Conv", trimmed(inputs), options...)
}

// onlyUser returns the node of that operator when it alone uses v.
func (s *scope) onlyUser(v, op string) *onnx.Node {
	if u := s.users[v]; len(u) == 1 && u[0] != nil && u[0].Op == op && u[0].Domain == "" {
		return u[0]
	}
	return nil
}

// onlyAdd returns the addition that alone uses y, if its other summand is an image of the same shape that exists already.
func (s *scope) onlyAdd(y string) (add *onnx.Node, other string) {
	add = s.onlyUser(y, "Add")
	if add == nil {
		return nil, ""
	}
	other = add.Inputs[0]
	if other == y {
		other = add.Inputs[1]
	}
	if !s.made(other) || !s.image(other) || !slices.Equal(s.shape(other), s.shape(y)) {
		return nil, ""
	}
	return add, other
}

// canLower reports whether a summary has a faster form.
func (s *scope) canLower(n *onnx.Node) bool {
	switch n.Op {
	case autodiff.ConvInputGradient:
		win, sizes, ok := s.readWindow(n, n.Inputs[1])
		return ok && slices.Equal(win.stride, []int64{1, 1}) && sizes[1]%s.Block == 0 && s.readsImage(n.Inputs[0], sizes[0]) && win.mirrors()
	case autodiff.ConvWeightGradient:
		return s.planWeightGradient(n).ok
	case autodiff.NormalizedGradient:
		return s.planGroupGradient(n).ok
	}
	return false
}

// mirrors reports that the padding does not exceed what the kernel reaches, so that the gradient of the input is a convolution.
func (w window) mirrors() bool {
	for i, p := range w.pads {
		if p < 0 || p > w.extent(i%2)-1 {
			return false
		}
	}
	return true
}

// mirrored is the geometry of the convolution that is the gradient of the input.
func (w window) mirrored() window {
	m := w
	m.pads = make([]int64, 4)
	for i, p := range w.pads {
		m.pads[i] = w.extent(i%2) - 1 - p
	}
	return m
}

// channels is a value that consists of some channels of another one.
type channels struct {
	name     string
	from, to int64
}

// parts are the results of the Split that alone uses v, which then need not be made, or v itself.
func (s *scope) parts(v string, n int64) []channels {
	split := s.onlyUser(v, "Split")
	if split == nil || split.Int("axis", 0) != 1 || !s.images(split.Outputs) {
		return []channels{{v, 0, n}}
	}
	s.done[split] = true
	var parts []channels
	at := int64(0)
	for _, o := range split.Outputs {
		size := s.shape(o)[1].Size
		parts = append(parts, channels{o, at, at + size})
		at += size
	}
	return parts
}

// gradient rewrites a summary for which canLower holds.
func (s *scope) gradient(n *onnx.Node) {
	switch n.Op {
	case autodiff.ConvInputGradient:
		dy, w := n.Inputs[0], n.Inputs[1]
		win, sizes, _ := s.readWindow(n, w)
		for _, part := range s.parts(n.Outputs[0], sizes[1]) {
			s.convolve(part.name, []string{s.input(dy, sizes[0]), s.turned(w, sizes, part.from, part.to)}, win.mirrored())
		}
	case autodiff.ConvWeightGradient:
		s.weightGradient(n.Outputs[0], s.planWeightGradient(n))
	case autodiff.NormalizedGradient:
		s.groupGradient(n.Outputs[0], s.planGroupGradient(n))
	}
}
