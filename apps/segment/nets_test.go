package segment

import (
	"math/rand/v2"
	"slices"
	"testing"

	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
)

// builder makes small networks, of slices (axes 2) or volumes (axes 3) of any size.
type builder struct {
	*onnx.Builder
	g    *onnx.Graph
	axes int
	rng  *rand.Rand
}

func newBuilder(axes, classes int) *builder {
	dims := func(c int) onnx.Shape {
		s := onnx.Shape{{Symbol: "N"}, {Size: int64(c)}}
		for _, name := range []string{"D", "H", "W"}[3-axes:] {
			s = append(s, onnx.Dim{Symbol: name})
		}
		return s
	}
	g := &onnx.Graph{Name: "test", Inputs: []onnx.Value{{Name: "image", DType: tensor.Float32, Shape: dims(1)}},
		Outputs: []onnx.Value{{Name: "logits", DType: tensor.Float32, Shape: dims(classes)}}}
	return &builder{onnx.NewBuilder(g, ""), g, axes, rand.New(rand.NewPCG(4, 4))}
}

// conv adds a convolution that keeps the size; fill gives its weights, or they are drawn by chance where it is nil.
func (b *builder) conv(x, name string, in, out, kernel int, fill ...float32) string {
	shape := append([]int{out, in}, slices.Repeat([]int{kernel}, b.axes)...)
	w, bias := tensor.Zeros[float32](shape...), tensor.Zeros[float32](out)
	for i := range w.Float32s() {
		w.Float32s()[i] = float32(b.rng.NormFloat64()) * 0.4
	}
	if fill != nil {
		copy(w.Float32s(), fill[:w.Len()])
		copy(bias.Float32s(), fill[w.Len():])
	}
	b.g.Initializers = append(b.g.Initializers, onnx.Initializer{Name: name + ".weight", Tensor: w}, onnx.Initializer{Name: name + ".bias", Tensor: bias})
	return b.Op("Conv", []string{x, name + ".weight", name + ".bias"}, onnx.WithInts("kernel_shape", slices.Repeat([]int64{int64(kernel)}, b.axes)...),
		onnx.WithInts("pads", slices.Repeat([]int64{int64(kernel / 2)}, 2*b.axes)...))
}

func (b *builder) model(logits string) *onnx.Model {
	b.Alias(logits, "logits")
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": onnx.Opset}, Graph: b.g}
}

// stairs tells four classes apart by intensity alone: below 0.25 it answers 0, then 1, 2 and 3.
func stairs(axes int) *onnx.Model {
	b := newBuilder(axes, 4)
	// z_c = 40·(c·x − c²/8 − c/8): neighbouring classes c and c+1 are equal at x = (c+1)/4.
	var slope, offset []float32
	for c := range 4 {
		slope = append(slope, 40*float32(c))
		offset = append(offset, -40*float32(c*c+c)/8)
	}
	return b.model(b.conv("image", "head", 1, 4, 1, append(slope, offset...)...))
}

// looking is a network whose answers depend on a voxel's surroundings, and differ along each axis and direction.
func looking(axes, classes int) *onnx.Model {
	b := newBuilder(axes, classes)
	x := b.Op("Relu", []string{b.conv("image", "body", 1, 6, 3)})
	return b.model(b.conv(x, "head", 6, classes, 1))
}

func newModel(t testing.TB, m *onnx.Model, in Input, classes ...Class) *Model {
	t.Helper()
	lib := orttest.Library(t)
	net, err := adapt.NewNetwork(m, adapt.Trainable{})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := adapt.NewEngine(net, []int{0}, func(model *onnx.Model) (adapt.Session, error) {
		s, err := lib.Compile(model, ort.Options{Threads: 1, NoSpinning: true})
		if err == nil {
			t.Cleanup(func() { _ = s.Close() })
		}
		return s, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if in.Multiple == 0 {
		in.Multiple = 1
	}
	if in.Range == nil && in.Percentiles[1] == 0 {
		in.Range = &[2]float64{0, 1}
	}
	if classes == nil {
		classes = []Class{{"low", 1}, {"middle", 2}, {"high", 3}}
	}
	thesis := adapt.Thesis()
	thesis.Steps, thesis.LearningRate, thesis.Alpha, thesis.MaxCopies = 20, 0.05, 0.9, 4
	model := &Model{Engine: engine, Input: in, Classes: classes, Thesis: thesis, Thickness: scribble.DefaultThickness()}
	if err := model.Validate(); err != nil {
		t.Fatal(err)
	}
	return model
}

// noisy is a volume of intensities from 0 to 1.
func noisy(size [3]int, spacing [3]float64, seed uint64) Image {
	v := volume.NewVolume(volume.New(size, spacing))
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range v.Voxels {
		v.Voxels[i] = rng.Float32()
	}
	return Image{Volume: v, Low: 0, High: 1}
}

func segmented(t testing.TB, m *Model, img Image) []uint8 {
	t.Helper()
	labels, err := m.Segment(t.Context(), img, m.Engine.Network().Source(), Alone)
	if err != nil {
		t.Fatal(err)
	}
	return labels
}
