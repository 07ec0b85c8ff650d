package lower_test

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"scrawl/engine/autodiff"
	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
)

// target is this machine's; without one there is nothing to test.
func target(tb testing.TB, lib *ort.Library) lower.Target {
	tb.Helper()
	got := lower.Probe(lib)
	if got.Block == 0 {
		if runtime.GOARCH == "amd64" {
			tb.Fatal("no block size agrees with the standard operators, though ONNX Runtime has blocked kernels for this CPU")
		}
		tb.Skip("SKIPPED, ONNX Runtime's blocked kernels cannot be used on this CPU")
	}
	return got
}

func run(tb rapid.TB, lib *ort.Library, m *onnx.Model, in map[string]*tensor.Tensor) map[string]*tensor.Tensor {
	tb.Helper()
	s, err := lib.Compile(m, ort.Options{Threads: 1, NoSpinning: true})
	if err != nil {
		tb.Fatal(err)
	}
	out, err := s.Run(context.Background(), in, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	return out
}

// same compares results norm by norm.
func same(tb rapid.TB, got, want map[string]*tensor.Tensor) {
	tb.Helper()
	for name, w := range want {
		g := got[name]
		if g == nil || !slices.Equal(g.Shape(), w.Shape()) {
			tb.Fatalf("%s: lowered %v, standard %v", name, g, w.Shape())
		}
		var diff, norm float64
		for i, x := range w.Float32s() {
			d := float64(g.Float32s()[i]) - float64(x)
			diff, norm = diff+d*d, norm+float64(x)*float64(x)
		}
		if !(math.Sqrt(diff) <= 2e-5*math.Sqrt(norm)+1e-6) {
			tb.Errorf("%s: lowered and standard differ by %.2g of %.2g", name, math.Sqrt(diff), math.Sqrt(norm))
		}
	}
}

// layer is a convolution of random geometry.
type layer struct {
	batch, out, in               int
	kernel, stride, dilation     [2]int
	pads                         [4]int
	group                        int // 0: one
	height, width                int
	bias, relu, residual, frozen bool
}

func drawLayer(t *rapid.T) layer {
	channels := rapid.SampledFrom([]int{1, 2, 3, 8, 16, 24, 32, 48, 64})
	l := layer{batch: rapid.IntRange(1, 3).Draw(t, "batch"), out: channels.Draw(t, "out"), in: channels.Draw(t, "in"),
		bias: rapid.Bool().Draw(t, "bias"), relu: rapid.Bool().Draw(t, "relu"), residual: rapid.Bool().Draw(t, "residual"), frozen: rapid.Bool().Draw(t, "frozen")}
	for i := range 2 {
		l.kernel[i] = rapid.IntRange(1, 4).Draw(t, "kernel")
		l.stride[i] = rapid.IntRange(1, 2).Draw(t, "stride")
		l.dilation[i] = rapid.IntRange(1, 2).Draw(t, "dilation")
		l.pads[i] = rapid.IntRange(0, 2).Draw(t, "pad before")
		l.pads[2+i] = rapid.IntRange(0, 2).Draw(t, "pad after")
	}
	l.height, l.width = rapid.IntRange(8, 21).Draw(t, "height"), rapid.IntRange(8, 21).Draw(t, "width")
	return l
}

func int64s(v ...int) []int64 {
	out := make([]int64, len(v))
	for i, x := range v {
		out[i] = int64(x)
	}
	return out
}

// model is convolution (+ bias) (+ 1×1 convolution of the same input, strided alike) (→ ReLU), its squared sum as the loss, and all gradients.
func (l layer) model(tb rapid.TB) (*onnx.Model, map[string]*tensor.Tensor) {
	tb.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(shape ...int) *tensor.Tensor {
		t := tensor.Zeros[float32](shape...)
		for i := range t.Float32s() {
			t.Float32s()[i] = float32(rng.NormFloat64()) / 4
		}
		return t
	}
	g := &onnx.Graph{Name: "layer", Inputs: []onnx.Value{{Name: "x", DType: tensor.Float32,
		Shape: onnx.Shape{{Symbol: "N"}, {Size: int64(l.in)}, {Symbol: "H"}, {Symbol: "W"}}}}}
	b := onnx.NewBuilder(g, "t/")
	in := map[string]*tensor.Tensor{"x": random(l.batch, l.in, l.height, l.width)}
	wrt := []string{"x"}
	weight := func(name string, shape ...int) string {
		t := random(shape...)
		if l.frozen {
			g.Initializers = append(g.Initializers, onnx.Initializer{Name: name, Tensor: t})
			return name
		}
		in[name] = t
		g.Inputs = append(g.Inputs, onnx.Value{Name: name, DType: tensor.Float32, Shape: onnx.Fixed(int64s(shape...)...)})
		wrt = append(wrt, name)
		return name
	}
	inputs := []string{"x", weight("w", l.out, l.in/max(l.group, 1), l.kernel[0], l.kernel[1])}
	if l.bias {
		inputs = append(inputs, weight("b", l.out))
	}
	y := b.Op("Conv", inputs, onnx.WithInts("kernel_shape", int64s(l.kernel[:]...)...), onnx.WithInts("strides", int64s(l.stride[:]...)...),
		onnx.WithInts("dilations", int64s(l.dilation[:]...)...), onnx.WithInts("pads", int64s(l.pads[:]...)...), onnx.WithInt("group", int64(max(l.group, 1))))
	if l.residual {
		y = b.Op("Add", []string{y, b.Op("Sigmoid", []string{y})})
	}
	if l.relu {
		y = b.Op("Relu", []string{y})
	}
	b.Alias(b.Op("ReduceSum", []string{b.Op("Mul", []string{y, y})}, onnx.WithInt("keepdims", 0)), "loss")
	grads, err := autodiff.Gradients(b, map[string]string{"loss": b.Float(1)}, wrt)
	if err != nil {
		tb.Fatal(err)
	}
	b.Alias(y, "y")
	g.Outputs = append(g.Outputs, onnx.Value{Name: "y", DType: tensor.Float32})
	for _, w := range wrt {
		b.Alias(grads[w], "d"+w)
		g.Outputs = append(g.Outputs, onnx.Value{Name: "d" + w, DType: tensor.Float32})
	}
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": onnx.Opset}, Graph: g}, in
}

// TestLowered compares a convolution and its gradients with the standard operators, for any geometry.
func TestLowered(t *testing.T) {
	lib := orttest.Library(t)
	to := target(t, lib)
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayer(t)
		for i, size := range []int{l.height, l.width} {
			if size+l.pads[i]+l.pads[i+2] < (l.kernel[i]-1)*l.dilation[i]+1 {
				t.Skip("the kernel is larger than the image")
			}
		}
		m, in := l.model(t)
		lowered, err := lower.CPU(m, to)
		if err != nil {
			t.Fatal(err)
		}
		same(t, run(t, lib, lowered, in), run(t, lib, m, in))
	})
}

// TestUnfolded does the same for the form that GPUs get, which is made of standard operators and can be judged anywhere: of one
// convolution, grouped ones among them, with sizes that follow from the input's and such that do not.
func TestUnfolded(t *testing.T) {
	lib := orttest.Library(t)
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayer(t)
		l.group = rapid.SampledFrom([]int{1, 1, 2, 4}).Draw(t, "groups")
		l.out, l.in = l.out*l.group, l.in*l.group
		for i, size := range []int{l.height, l.width} {
			if size+l.pads[i]+l.pads[i+2] < (l.kernel[i]-1)*l.dilation[i]+1 {
				t.Skip("the kernel is larger than the image")
			}
		}
		m, in := l.model(t)
		unfolded, err := lower.CUDA(m)
		if err != nil {
			t.Fatal(err)
		}
		same(t, run(t, lib, unfolded, in), run(t, lib, m, in))
	})
}

// TestModelIsLeftAlone holds that lowering changes nothing of what it is given, and gives the same answer twice.
func TestModelIsLeftAlone(t *testing.T) {
	m, _ := layer{batch: 1, out: 32, in: 16, kernel: [2]int{3, 3}, stride: [2]int{1, 1}, dilation: [2]int{1, 1}, pads: [4]int{1, 1, 1, 1}, relu: true, height: 8, width: 8}.model(t)
	before, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var lowered [2][]byte
	for i := range lowered {
		l, err := lower.CPU(m, lower.Target{Block: 16})
		if err != nil {
			t.Fatal(err)
		}
		if lowered[i], err = l.Marshal(); err != nil {
			t.Fatal(err)
		}
	}
	after, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(before, after) {
		t.Error("lowering has changed the model it was given")
	}
	if !slices.Equal(lowered[0], lowered[1]) {
		t.Error("lowering one model twice gives two models")
	}
	if blocked := count(m.Graph, ""); blocked == 0 || count(m.Graph, "com.microsoft.nchwc") > 0 {
		t.Error("the test's model is not a standard one")
	}
}

// TestHalf holds that every product is computed in half precision, that answers change by no more than that explains, and that graphs
// which learn are left alone. (The CPU provider may take the casts out again.)
func TestHalf(t *testing.T) {
	lib := orttest.Library(t)
	m, in := layer{batch: 2, out: 32, in: 16, kernel: [2]int{3, 3}, stride: [2]int{1, 1}, dilation: [2]int{1, 1}, pads: [4]int{1, 1, 1, 1}, bias: true, relu: true, height: 8, width: 9}.model(t)
	half, err := lower.Half(m)
	if err != nil {
		t.Fatal(err)
	}
	want, got := run(t, lib, m, in)["y"].Float32s(), run(t, lib, half, in)["y"].Float32s()
	var diff, norm float64
	for i, x := range want {
		diff, norm = diff+math.Pow(float64(got[i]-x), 2), norm+float64(x)*float64(x)
	}
	if share := math.Sqrt(diff / norm); share > 2e-3 {
		t.Errorf("half precision changes the answer by a share of %.2g", share)
	}
	facts, err := onnx.Infer(half.Graph)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range half.Graph.Nodes {
		if n.Op == "Conv" && (facts[n.Inputs[0]].DType != tensor.Float16 || facts[n.Inputs[1]].DType != tensor.Float16) {
			t.Errorf("%s multiplies %s by %s", n.Name, facts[n.Inputs[0]].DType, facts[n.Inputs[1]].DType)
		}
	}
	g := *m.Graph
	g.Nodes = append(slices.Clone(g.Nodes), &onnx.Node{Name: "loop", Op: "Loop", Attrs: map[string]onnx.Attr{"body": {Kind: onnx.AttrGraph, Graph: m.Graph}}})
	if same, err := lower.Half(&onnx.Model{Graph: &g}); err != nil || same.Graph != &g {
		t.Errorf("a graph that learns has been changed (%v)", err)
	}
}

func TestBlockSizeIsChecked(t *testing.T) {
	m, _ := layer{batch: 1, out: 16, in: 16, kernel: [2]int{1, 1}, stride: [2]int{1, 1}, dilation: [2]int{1, 1}, height: 8, width: 8}.model(t)
	for _, b := range []int64{0, -8, 6, 2} {
		if _, err := lower.CPU(m, lower.Target{Block: b}); err == nil {
			t.Errorf("block size %d is accepted", b)
		}
	}
}

// TestGradientsAreLowered holds what makes it fast: in a chain of convolutions nothing but blocked ones is left.
func TestGradientsAreLowered(t *testing.T) {
	m, _ := layer{batch: 1, out: 32, in: 16, kernel: [2]int{3, 3}, stride: [2]int{1, 1}, dilation: [2]int{1, 1}, pads: [4]int{1, 1, 1, 1}, relu: true, height: 8, width: 8}.model(t)
	l, err := lower.CPU(m, lower.Target{Block: 16})
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []string{"Conv", "MatMul", "Gemm", "ConvTranspose"} {
		if n := countOp(l.Graph, op, ""); n > 0 {
			t.Errorf("%d nodes %s are left", n, op)
		}
	}
	if n := countOp(l.Graph, "Conv", "com.microsoft.nchwc"); n != 3 {
		t.Errorf("%d blocked convolutions; one forward and one for each gradient are wanted", n)
	}
}

func count(g *onnx.Graph, domain string) int {
	n := 0
	for _, node := range g.Nodes {
		if node.Domain == domain {
			n++
		}
		for _, a := range node.Attrs {
			if a.Graph != nil {
				n += count(a.Graph, domain)
			}
		}
	}
	return n
}

func countOp(g *onnx.Graph, op, domain string) int {
	n := 0
	for _, node := range g.Nodes {
		if node.Domain == domain && node.Op == op {
			n++
		}
		for _, a := range node.Attrs {
			if a.Graph != nil {
				n += countOp(a.Graph, op, domain)
			}
		}
	}
	return n
}
