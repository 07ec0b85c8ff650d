package lower

import (
	"slices"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// Group normalisation is y = γ·x̂ + β, where x̂ is normalised over the pixels of a group of channels. With dz the cotangent of y,
// s1 = Σ dz and s2 = Σ dz·x̂ per channel (the gradients of β and γ), its gradient is, channel by channel, linear in dz and x̂:
//
//	dx = a·dz + k1·x̂ + k0,  a = γ/σ,  k0 = −1/(σn) Σ γ·s1,  k1 = −1/(σn) Σ γ·s2,
//
// with the sums over the group's channels and n elements in a group. Two depthwise 1×1 convolutions compute it, the second one adding
// the first: two passes over the image instead of eight.

// groupPlan is a group normalisation recognised from its gradient.
type groupPlan struct {
	ok                   bool
	dz, xhat, rstd, gain string // dz and xhat are images [N,C,H,W], rstd is [N,G,1], gain has C elements
	n, channels, groups  int64
}

// planGroupGradient recognises NormalizedGradient(Reshape(dz·γ), x̂, 1/σ) where x̂ [N,G,·] is reshaped to an image afterwards.
func (s *scope) planGroupGradient(node *onnx.Node) groupPlan {
	dxhat, xhat, rstd := node.Inputs[0], node.Inputs[1], node.Inputs[2]
	shape := s.shape(xhat)
	if len(shape) != 3 || !shape[0].Known() || !shape[1].Known() || !slices.Equal(node.Ints("axes"), []int64{2}) || s.facts[xhat].DType != tensor.Float32 {
		return groupPlan{}
	}
	reshape := s.makers[dxhat]
	if reshape == nil || reshape.Op != "Reshape" {
		return groupPlan{}
	}
	product := s.makers[reshape.Inputs[0]]
	if product == nil || product.Op != "Mul" {
		return groupPlan{}
	}
	p := groupPlan{n: shape[0].Size, groups: shape[1].Size, rstd: rstd}
	image := s.shape(product.Outputs[0])
	if len(image) != 4 || !image[1].Known() || image[0] != shape[0] || image[1].Size%p.groups != 0 {
		return groupPlan{}
	}
	p.channels = image[1].Size
	for i, v := range product.Inputs {
		if other := product.Inputs[1-i]; s.perChannel(v, p.channels) && slices.Equal(s.shape(other), image) {
			p.gain, p.dz = v, other
		}
	}
	for _, n := range s.from.Nodes {
		if n.Op == "Reshape" && n.Domain == "" && n.Inputs[0] == xhat && slices.Equal(s.shape(n.Outputs[0]), image) {
			p.xhat = n.Outputs[0]
		}
	}
	p.ok = p.gain != "" && p.xhat != ""
	return p
}

// perChannel reports a value [C,1,1] or [1,C,1,1], which multiplies the channels of an image.
func (s *scope) perChannel(v string, channels int64) bool {
	sizes, ok := s.fixed(v)
	if !ok || len(sizes) < 3 || len(sizes) > 4 || sizes[len(sizes)-3] != channels {
		return false
	}
	elements := int64(1)
	for _, n := range sizes {
		elements *= n
	}
	return elements == channels
}

// groupGradient computes the cotangent of the normalisation's input, of the shape [N,G,·] of x̂.
func (s *scope) groupGradient(dx string, p groupPlan) {
	dz, xhat, rstd := s.plain(p.dz), s.plain(p.xhat), s.plain(p.rstd)
	per := p.channels / p.groups
	gain := s.reshape(s.plain(p.gain), 1, p.groups, per)
	scale := s.op("Mul", rstd, s.once("norm "+s.count(p.dz)+" "+s.b.Int64s(per), func() string {
		return s.op("Div", s.b.Float(-1/float32(per)), s.count(p.dz))
	}))
	over := func(sums string) string { // −1/(σn) Σ γ·s over each group, for each of its channels
		v := s.op("Mul", s.reshape(sums, -1, p.groups, per), gain)
		v = s.b.Op("ReduceSum", []string{v, s.b.Int64s(2)}, onnx.WithInt("keepdims", 1))
		v = s.op("Mul", v, scale)
		return s.reshape(s.op("Expand", v, s.b.Int64s(1, 1, per)), -1)
	}
	k0, k1 := over(s.imageSums(dz, p)), over(s.imageSums(s.shared("Mul", []string{dz, xhat}), p))
	a := s.reshape(s.op("Mul", gain, rstd), -1, 1, 1, 1)
	nc := p.n * p.channels
	depthwise := []onnx.AttrOption{onnx.WithInts("kernel_shape", 1, 1), onnx.WithInt("group", nc)}
	flat := func(v string) string { return s.reshape(v, 1, nc, 0, 0) }
	rest := s.b.Op("Conv", []string{flat(xhat), s.reshape(k1, -1, 1, 1, 1), k0}, depthwise...)
	zeros := s.b.Const(tensor.Zeros[float32](int(nc)))
	v := s.b.Op("FusedConv", []string{flat(dz), a, zeros, rest}, append(depthwise, onnx.WithDomain(microsoftDomain))...)
	s.emit(dx, "Reshape", []string{v, s.b.Int64s(p.n, p.groups, -1)})
	s.plainly[dx] = true
}

// imageSums adds up each channel of each image: N·C sums. For a single image the gradient of a bias is the same sum.
func (s *scope) imageSums(v string, p groupPlan) string {
	if p.n == 1 {
		return s.shared("ReduceSum", []string{v, s.b.Int64s(0, 2, 3)}, onnx.WithInt("keepdims", 0))
	}
	return s.b.Op("ReduceSum", []string{v, s.b.Int64s(2, 3)}, onnx.WithInt("keepdims", 0))
}

// count is the number of pixels of an image, as a float vector of one element.
func (s *scope) count(image string) string {
	h, w := s.dim(image, 2), s.dim(image, 3)
	return s.once("count "+h+" "+w, func() string {
		return s.b.Op("Cast", []string{s.op("Mul", h, w)}, onnx.WithInt("to", int64(tensor.Float32)))
	})
}
