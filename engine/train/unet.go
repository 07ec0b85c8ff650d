// Package train trains networks from scratch on the same differentiated ONNX graphs that adaptation uses: no Python and no
// training runtime. It knows batches of tensors, not images; where examples come from is the caller's business.
package train

import (
	"fmt"
	"math"
	"math/rand/v2"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// UNetShape describes a U-Net (Ronneberger et al. 2015): two 3×3 convolutions with group normalisation (Wu and He 2018) and
// ReLU at each level, halved by maximum pooling and doubled by repeating pixels.
type UNetShape struct {
	Input    int   // input channels
	Channels []int // of each level, from the finest
	Groups   int   // of the normalisation; divides every entry of Channels
	Classes  int
}

// Multiple is what height and width must be multiples of.
func (s UNetShape) Multiple() int { return 1 << (len(s.Channels) - 1) }

// Validate reports what is wrong with the shape.
func (s UNetShape) Validate() error {
	if s.Input < 1 || s.Classes < 1 || len(s.Channels) < 2 || s.Groups < 1 {
		return fmt.Errorf("a U-Net needs at least one input channel, one class and two levels")
	}
	for _, c := range s.Channels {
		if c < 1 || c%s.Groups != 0 {
			return fmt.Errorf("%d channels cannot be split into %d groups", c, s.Groups)
		}
	}
	return nil
}

type unet struct {
	b   *onnx.Builder
	rng *rand.Rand
}

// UNet returns an untrained network: input "image" [N,Input,H,W], output "logits" [N,Classes,H,W]. Weights are drawn
// from the seed as in He et al. 2015.
func UNet(s UNetShape, seed uint64) (*onnx.Model, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	dims := func(c int) onnx.Shape {
		return onnx.Shape{{Symbol: "N"}, {Size: int64(c)}, {Symbol: "H"}, {Symbol: "W"}}
	}
	g := &onnx.Graph{Name: "unet",
		Inputs:  []onnx.Value{{Name: "image", DType: tensor.Float32, Shape: dims(s.Input)}},
		Outputs: []onnx.Value{{Name: "logits", DType: tensor.Float32, Shape: dims(s.Classes)}}}
	u := &unet{b: onnx.NewBuilder(g, ""), rng: rand.New(rand.NewPCG(seed, 0))}
	x, in := "image", s.Input
	var skips []string
	for level, c := range s.Channels {
		if level > 0 {
			x = u.b.Op("MaxPool", []string{x}, onnx.WithInts("kernel_shape", 2, 2), onnx.WithInts("strides", 2, 2))
		}
		x = u.pair(x, fmt.Sprintf("down%d", level), in, c, s.Groups)
		skips, in = append(skips, x), c
	}
	for level := len(s.Channels) - 2; level >= 0; level-- {
		c := s.Channels[level]
		up := u.b.Op("Resize", []string{x, "", u.b.Float32s(1, 1, 2, 2)}, onnx.WithString("mode", "nearest"),
			onnx.WithString("coordinate_transformation_mode", "asymmetric"), onnx.WithString("nearest_mode", "floor"))
		x = u.b.Op("Concat", []string{skips[level], up}, onnx.WithInt("axis", 1))
		x = u.pair(x, fmt.Sprintf("up%d", level), in+c, c, s.Groups)
		in = c
	}
	head := u.weight("head.weight", math.Sqrt(1/float64(in)), s.Classes, in, 1, 1)
	bias := u.constant("head.bias", 0, s.Classes)
	u.b.Alias(u.b.Op("Conv", []string{x, head, bias}, onnx.WithInts("kernel_shape", 1, 1)), "logits")
	return &onnx.Model{IRVersion: 9, Producer: "scrawl", Opsets: map[string]int64{"": onnx.Opset}, Graph: g}, nil
}

func (u *unet) pair(x, name string, in, out, groups int) string {
	return u.convolution(u.convolution(x, name+".a", in, out, groups), name+".b", out, out, groups)
}

// convolution is 3×3 convolution → group normalisation → ReLU. The normalisation is written as LayerNormalization over the
// elements of a group, then a 1×1 depthwise convolution for γ and β, which runtimes fuse with the ReLU.
func (u *unet) convolution(x, name string, in, out, groups int) string {
	b := u.b
	w := u.weight(name+".weight", math.Sqrt(2/float64(9*in)), out, in, 3, 3)
	c := b.Op("Conv", []string{x, w}, onnx.WithInts("kernel_shape", 3, 3), onnx.WithInts("pads", 1, 1, 1, 1))
	grouped := b.Op("Reshape", []string{c, b.Int64s(0, int64(groups), -1)})
	size := b.Op("Gather", []string{b.Op("Shape", []string{grouped}), b.Int64s(2)})
	ones := b.Op("Expand", []string{b.Float32s(1), size})
	norm := b.Op("LayerNormalization", []string{grouped, ones}, onnx.WithInt("axis", -1), onnx.WithFloat("epsilon", 1e-5))
	norm = b.Op("Reshape", []string{norm, b.Op("Shape", []string{c})})
	gamma, beta := u.constant(name+".scale", 1, out, 1, 1, 1), u.constant(name+".shift", 0, out)
	y := b.Op("Conv", []string{norm, gamma, beta}, onnx.WithInts("kernel_shape", 1, 1), onnx.WithInt("group", int64(out)))
	return b.Op("Relu", []string{y})
}

// weight adds an initializer of normal deviates.
func (u *unet) weight(name string, sigma float64, shape ...int) string {
	t := tensor.Zeros[float32](shape...)
	for i := range t.Float32s() {
		t.Float32s()[i] = float32(sigma * u.rng.NormFloat64())
	}
	return u.add(name, t)
}

func (u *unet) constant(name string, v float32, shape ...int) string {
	t := tensor.Zeros[float32](shape...)
	for i := range t.Float32s() {
		t.Float32s()[i] = v
	}
	return u.add(name, t)
}

func (u *unet) add(name string, t *tensor.Tensor) string {
	u.b.Graph.Initializers = append(u.b.Graph.Initializers, onnx.Initializer{Name: name, Tensor: t})
	return name
}
