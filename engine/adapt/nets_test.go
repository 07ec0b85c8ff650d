package adapt_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/onnx/refexec"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

const side = 16 // of the test networks' images

// onRuntime compiles for the machine's ONNX Runtime, on the device that SCRAWL_DEVICE names: "cuda" takes the same tests to a GPU.
func onRuntime(tb testing.TB) adapt.Compiler {
	tb.Helper()
	return compiling(tb, ort.Options{Device: os.Getenv("SCRAWL_DEVICE"), Threads: 1, NoSpinning: true})
}

// lowered compiles for the machine's ONNX Runtime as the product does: rewritten for its CPU.
func lowered(tb testing.TB, o ort.Options) adapt.Compiler {
	tb.Helper()
	return closing(tb, lower.NewCompiler(orttest.Library(tb), o).Compile)
}

func compiling(tb testing.TB, o ort.Options) adapt.Compiler {
	tb.Helper()
	lib := orttest.Library(tb)
	return closing(tb, func(m *onnx.Model) (*ort.Session, error) { return lib.Compile(m, o) })
}

// closing closes the sessions at the test's end.
func closing(tb testing.TB, compile func(*onnx.Model) (*ort.Session, error)) adapt.Compiler {
	return func(model *onnx.Model) (adapt.Session, error) {
		s, err := compile(model)
		if err != nil {
			return nil, err
		}
		tb.Cleanup(func() { _ = s.Close() })
		return s, nil
	}
}

// interpreted runs graphs on the reference interpreter.
type interpreted struct{ g *onnx.Graph }

func onInterpreter(model *onnx.Model) (adapt.Session, error) {
	data, err := model.Marshal()
	if err != nil {
		return nil, err
	}
	m, err := onnx.Parse(data)
	if err != nil {
		return nil, err
	}
	return interpreted{m.Graph}, nil
}

func (s interpreted) Run(ctx context.Context, in, _ map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	values, err := refexec.Run(s.g, in)
	if err != nil {
		return nil, err
	}
	out := map[string]*tensor.Tensor{}
	for _, o := range s.g.Outputs {
		v := values[o.Name]
		d := tensor.Data[float64](v)
		f := make([]float32, len(d))
		for i, x := range d {
			f[i] = float32(x)
		}
		out[o.Name] = tensor.Must(v.Shape(), f)
	}
	return out, nil
}

// smallUNet is a network of two levels.
func smallUNet(tb testing.TB, input, classes int, choice adapt.Trainable) *adapt.Network {
	tb.Helper()
	m, err := train.UNet(train.UNetShape{Input: input, Channels: []int{4, 8}, Groups: 2, Classes: classes}, 3)
	if err != nil {
		tb.Fatal(err)
	}
	return network(tb, m, choice)
}

func network(tb testing.TB, m *onnx.Model, choice adapt.Trainable) *adapt.Network {
	tb.Helper()
	n, err := adapt.NewNetwork(m, choice)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func engine(tb testing.TB, n *adapt.Network, compile adapt.Compiler) *adapt.Engine {
	tb.Helper()
	e, err := adapt.NewEngine(n, []int{0}, compile)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func noise(seed uint64, shape ...int) *tensor.Tensor {
	rng := rand.New(rand.NewPCG(seed, 0))
	t := tensor.Zeros[float32](shape...)
	for i := range t.Float32s() {
		t.Float32s()[i] = rng.Float32()
	}
	return t
}

func filled(v float32, shape ...int) *tensor.Tensor {
	t := tensor.Zeros[float32](shape...)
	for i := range t.Float32s() {
		t.Float32s()[i] = v
	}
	return t
}

// scribbled is an interaction: a slice of noise with a bright disc, a stroke of class 1 in the disc and one of class 0 beside it.
func scribbled(channels, classes int) adapt.Slice {
	x := noise(11, 1, channels, side, side)
	s := adapt.Slice{X: x, Scribble: tensor.Zeros[float32](1, classes, side, side), Marked: tensor.Zeros[float32](1, 1, side, side)}
	n := side * side
	for i := range n {
		y, c := i/side, i%side
		if (y-8)*(y-8)+(c-8)*(c-8) < 20 {
			x.Float32s()[i] += 1
		}
		class := 0
		if y == 8 {
			class = 1
		}
		s.Scribble.Float32s()[class*n+i] = 1
		if (y == 8 || y == 2) && c > 5 && c < 12 {
			s.Marked.Float32s()[i] = 1
		}
	}
	return s
}

// quick is the thesis's method with few steps, and every pixel in the consistency loss.
func quick() adapt.Config {
	c := adapt.Thesis()
	c.Steps, c.FixedCopies, c.Alpha, c.Variance = 2, 6, 0.5, 1
	return c
}

// distance is the norm of a − b relative to that of b.
func distance(a, b []float32) float64 {
	var d, n float64
	for i, v := range b {
		d += math.Pow(float64(a[i])-float64(v), 2)
		n += float64(v) * float64(v)
	}
	if n == 0 {
		return math.Sqrt(d)
	}
	return math.Sqrt(d / n)
}

func norm(v []float32) float64 {
	n := 0.0
	for _, x := range v {
		n += float64(x) * float64(x)
	}
	return math.Sqrt(n)
}

func flat(w adapt.Weights) []float32 {
	var v []float32
	for _, t := range w {
		v = append(v, t.Float32s()...)
	}
	return v
}

// moves is a − b, weight by weight.
func moves(a, b adapt.Weights) []float32 {
	d := flat(a)
	for i, v := range flat(b) {
		d[i] -= v
	}
	return d
}

func same(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

func interact(t *testing.T, e *adapt.Engine, c adapt.Config, sets adapt.Sets, s adapt.Slice, draw uint64) (*tensor.Tensor, adapt.Sets, adapt.Report) {
	t.Helper()
	p, next, r, err := e.Interact(t.Context(), c, sets, s, draw)
	if err != nil {
		t.Fatal(err)
	}
	return p, next, r
}

// lesson stacks random batches.
func lesson(stacked, batch, channels, classes, averages int) adapt.Lesson {
	l := adapt.Lesson{
		X:      noise(1, stacked, batch, channels, side, side),
		Target: noise(2, stacked, batch, classes, side, side), Weight: filled(0.01, stacked, batch, 1, side, side),
		Scribble: noise(3, stacked, batch, classes, side, side), Marked: filled(0.01, stacked, batch, 1, side, side),
		Lambda: 2, LearningRate: 0.01, Steps: 3,
	}
	for k := range averages {
		l.Alphas = append(l.Alphas, 0.5+0.4*float64(k))
	}
	return l
}

func sourceSets(n *adapt.Network, o adapt.StepOptions) []adapt.Weights {
	var sets []adapt.Weights
	for range 1 + o.Averages {
		sets = append(sets, n.Source())
	}
	if o.Optimizer == adapt.AdamW {
		for range 2 {
			var zeros adapt.Weights
			for _, t := range n.Source() {
				zeros = append(zeros, tensor.ZerosLike(t))
			}
			sets = append(sets, zeros)
		}
	}
	return sets
}

func step(t *testing.T, e *adapt.Engine, o adapt.StepOptions, sets []adapt.Weights, l adapt.Lesson) ([]adapt.Weights, [][2]float32) {
	t.Helper()
	next, losses, err := e.Step(t.Context(), o, sets, l)
	if err != nil {
		t.Fatal(err)
	}
	return next, losses
}

func expectClose(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	if d := distance(got, want); !(d <= tolerance) {
		t.Errorf("%s: %.3g away, relative to the norm; at most %g is wanted", what, d, tolerance)
	}
}

func name(format string, args ...any) string { return fmt.Sprintf(format, args...) }
