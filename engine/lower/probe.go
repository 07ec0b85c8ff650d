package lower

import (
	"context"
	"fmt"
	"math"
	"slices"

	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/tensor"
)

// blockSizes are those that ONNX Runtime's kernels use on some CPU or other: 16 with AVX-512, 8 with AVX, 4 on ARM.
var blockSizes = []int64{16, 8, 4}

// Probe finds out what the CPU's blocked kernels want: it differentiates a small network, lowers it for each block size and
// compares all results with those of the standard operators. The zero Target says that none agreed.
func Probe(lib *ort.Library) Target {
	m, err := probeModel()
	if err != nil {
		return Target{}
	}
	in := probeInputs(m)
	want, err := run(lib, m, in)
	if err != nil {
		return Target{}
	}
	for _, b := range blockSizes {
		t := Target{Block: b}
		l, err := CPU(m, t)
		if err != nil {
			continue
		}
		if got, err := run(lib, l, in); err == nil && agree(got, want) {
			return t
		}
	}
	return Target{}
}

func run(lib *ort.Library, m *onnx.Model, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	s, err := lib.Compile(m, ort.Options{Threads: 1, NoSpinning: true})
	if err != nil {
		return nil, err
	}
	out, err := s.Run(context.Background(), in, nil)
	if closeErr := s.Close(); err == nil {
		err = closeErr
	}
	return out, err
}

// agree compares results up to float32's accuracy.
func agree(got, want map[string]*tensor.Tensor) bool {
	for name, w := range want {
		g := got[name]
		if g == nil || !slices.Equal(g.Shape(), w.Shape()) {
			return false
		}
		var diff, norm float64
		for i, x := range w.Float32s() {
			d := float64(g.Float32s()[i] - x)
			diff, norm = diff+d*d, norm+float64(x)*float64(x)
		}
		if !(diff <= 1e-8*norm) || norm == 0 {
			return false
		}
	}
	return true
}

// probeModel is a network with every kind of node that is lowered, and the gradients of all its weights. Its channels fill blocks of
// every size.
func probeModel() (*onnx.Model, error) {
	const c = 32
	sizes := onnx.Shape{{Size: 2}, {Size: 3}, {Symbol: "4*H"}, {Symbol: "4*W"}}
	g := &onnx.Graph{Name: "probe", Inputs: []onnx.Value{{Name: "x", DType: tensor.Float32, Shape: sizes}}}
	b := onnx.NewBuilder(g, "p/")
	var weights []string
	conv := func(x string, out, in, stride int64) string {
		w := fmt.Sprintf("w%d", len(weights))
		weights = append(weights, w)
		g.Inputs = append(g.Inputs, onnx.Value{Name: w, DType: tensor.Float32, Shape: onnx.Fixed(out, in, 3, 3)})
		return b.Op("Conv", []string{x, w}, onnx.WithInts("kernel_shape", 3, 3), onnx.WithInts("pads", 1, 1, 1, 1), onnx.WithInts("strides", stride, stride))
	}
	two := []onnx.AttrOption{onnx.WithInts("kernel_shape", 2, 2), onnx.WithInts("strides", 2, 2)}
	full := b.Op("Relu", []string{conv("x", c, 3, 1)})
	half := b.Op("MaxPool", []string{full}, two...)
	half = b.Op("Relu", []string{b.Op("Add", []string{conv(half, c, c, 1), half})})
	strided := b.Op("Add", []string{conv(full, c, c, 2), b.Op("Tanh", []string{half})})
	up := b.Op("Resize", []string{strided, "", b.Float32s(1, 1, 2, 2)}, onnx.WithString("mode", "nearest"),
		onnx.WithString("coordinate_transformation_mode", "asymmetric"), onnx.WithString("nearest_mode", "floor"))
	joined := b.Op("Concat", []string{full, up}, onnx.WithInt("axis", 1))
	y := conv(conv(joined, 2*c, 2*c, 1), 2, 2*c, 1)
	b.Alias(b.Op("ReduceSum", []string{b.Op("Mul", []string{y, y})}, onnx.WithInt("keepdims", 0)), "loss")
	grads, err := autodiff.Gradients(b, map[string]string{"loss": b.Float(1)}, weights)
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	b.Alias(y, "y")
	g.Outputs = []onnx.Value{{Name: "y", DType: tensor.Float32, Shape: onnx.Shape{{Size: 2}, {Size: 2}, {Symbol: "4*H"}, {Symbol: "4*W"}}}}
	for _, w := range weights {
		b.Alias(grads[w], "d"+w)
		g.Outputs = append(g.Outputs, onnx.Value{Name: "d" + w, DType: tensor.Float32, Shape: g.Inputs[len(g.Outputs)].Shape})
	}
	return &onnx.Model{IRVersion: 9, Producer: "scrawl", Opsets: map[string]int64{"": onnx.Opset}, Graph: g}, nil
}

// probeInputs are numbers without a pattern that a wrong layout could reproduce.
func probeInputs(m *onnx.Model) map[string]*tensor.Tensor {
	in := map[string]*tensor.Tensor{}
	for _, v := range m.Graph.Inputs {
		shape := []int{2, 3, 8, 12}
		if v.Name != "x" {
			for i, d := range v.Shape {
				shape[i] = int(d.Size)
			}
		}
		t := tensor.Zeros[float32](shape...)
		for i := range t.Float32s() {
			t.Float32s()[i] = float32(math.Sin(float64(i)*float64(i)*0.7+float64(len(in)))) / 8
		}
		in[v.Name] = t
	}
	return in
}
