package adapt_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/tensor"
)

// zooNetwork is one exported network with PyTorch's gradients and steps. testdata/make_zoo.py writes them and explains the formula
// that stands for weights and the form of the figures.
type zooNetwork struct {
	Name         string
	File         string // of a network with weights of its own, in the shared data
	Exporter     string
	Opset        int
	Input        []int
	Classes      int
	Seed         int
	Halved       bool
	LearningRate float64 `json:"learning_rate"`
	GradientNorm float64 `json:"gradient_norm"`
	Weights      []zooWeight
	Frozen       []string
	Losses       [][2]float64
	Model        []byte
}

type zooWeight struct {
	Name, Tensor      string
	Shape, Dims       []int
	Permutation       []int
	Centre, Amplitude float64
	// Float32 is the relative error of PyTorch's own gradient in float32 where that is bad, as for the scale of a weight that a
	// normalisation takes away again.
	Float32 float64
	// Gradient of the first step, and how far ten steps move the student and the teacher; empty for a tensor that is not trained.
	Gradient, Moved, Followed described
}

// described is a tensor's norm and its products with vectors of random signs.
type described struct{ packed }

const signs = 8

func (d described) norm() float64 { return float64(d.packed[0]) }

// errorOf estimates ‖v − the recorded tensor‖: the mean square of the difference's products with random signs is its squared norm.
func (d described) errorOf(name string, v []float32) float64 {
	var products [signs]float64
	h := fnv1a64("signs/" + name)
	for i, x := range v {
		bits := splitmix64(h + uint64(i))
		for j := range products {
			if bits>>j&1 == 1 {
				products[j] += float64(x)
			} else {
				products[j] -= float64(x)
			}
		}
	}
	sum := 0.0
	for j, p := range products {
		sum += math.Pow(p-float64(d.packed[1+j]), 2)
	}
	return math.Sqrt(sum / signs)
}

func fnv1a64(s string) uint64 {
	h := uint64(0xCBF29CE484222325)
	for _, b := range []byte(s) {
		h = (h ^ uint64(b)) * 0x100000001B3
	}
	return h
}

func splitmix64(z uint64) uint64 {
	z += 0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// uniform is the script's function of that name: numbers in [0,1).
func uniform(name string, n int) []float64 {
	h := fnv1a64(name)
	v := make([]float64, n)
	for i := range v {
		v[i] = float64(splitmix64(h+uint64(i))>>11) * 0x1p-53
	}
	return v
}

// tensor makes the initializer by the formula.
func (w zooWeight) tensor() *tensor.Tensor {
	n := w.elements()
	u := uniform(w.Tensor, n)
	strides := make([]int, len(w.Shape))
	for i, step := len(w.Shape)-1, 1; i >= 0; i-- {
		strides[i] = step
		step *= w.Shape[i]
	}
	out, at := make([]float32, n), make([]int, len(w.Shape))
	for i := range out {
		from := 0
		for k, axis := range w.Permutation {
			from += at[k] * strides[axis]
		}
		out[i] = float32(w.Centre + w.Amplitude*(2*u[from]-1))
		for k := len(at) - 1; k >= 0; k-- {
			if at[k]++; at[k] < w.Shape[w.Permutation[k]] {
				break
			}
			at[k] = 0
		}
	}
	return tensor.Must(w.Dims, out)
}

func (w zooWeight) elements() int {
	n := 1
	for _, d := range w.Shape {
		n *= d
	}
	return n
}

func readZoo(t *testing.T, path string) zooNetwork {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var z zooNetwork
	if err := json.NewDecoder(r).Decode(&z); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return z
}

// network loads the model as a user's file is loaded, after its weights have been put back.
func (z zooNetwork) network(t *testing.T) *adapt.Network {
	t.Helper()
	model := z.Model
	if z.File != "" {
		shared := os.Getenv("SCRAWL_SHARED")
		if shared == "" {
			t.Skip("SCRAWL_SHARED is not set")
		}
		var err error
		if model, err = os.ReadFile(filepath.Join(shared, "data/weights_brainchop/onnx", z.File)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := onnx.Parse(model)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range z.Weights {
		if z.File == "" {
			m.Graph.Initializers = append(m.Graph.Initializers, onnx.Initializer{Name: w.Name, Tensor: w.tensor()})
		}
	}
	// What PyTorch computes on the way from its own weights, such as a table of position biases looked up once and for all, has no
	// recorded gradient.
	n := network(t, m, adapt.Trainable{Exclude: slices.Concat(z.untrained(), z.Frozen)})
	for _, w := range z.Weights {
		if len(w.Gradient.packed) > 0 && !slices.Contains(n.Params(), w.Name) {
			t.Errorf("%s is not taken for a weight", w.Name)
		}
	}
	for _, p := range n.Params() {
		if !slices.ContainsFunc(z.Weights, func(w zooWeight) bool { return w.Name == p }) {
			t.Fatalf("%s is taken for a weight", p)
		}
	}
	if n.Classes != z.Classes {
		t.Errorf("%d classes, want %d", n.Classes, z.Classes)
	}
	return n
}

// untrained are tensors without a recorded gradient: running statistics, and weights that serve twice.
func (z zooNetwork) untrained() []string {
	var names []string
	for _, w := range z.Weights {
		if len(w.Gradient.packed) == 0 {
			names = append(names, w.Name)
		}
	}
	return names
}

// lesson is the script's function of that name.
func (z zooNetwork) lesson() adapt.Lesson {
	size := z.Input[2:]
	n := 1
	for _, d := range size {
		n *= d
	}
	planes := func(channels int) *tensor.Tensor {
		return tensor.Zeros[float32](append([]int{1, 1, channels}, size...)...)
	}
	l := adapt.Lesson{X: planes(z.Input[1]), Target: planes(z.Classes), Weight: planes(1), Scribble: planes(z.Classes), Marked: planes(1),
		Lambda: 2, LearningRate: z.LearningRate, Alphas: []float64{0.99}, Steps: len(z.Losses)}
	from := func(what string, channels int) []float64 { return uniform(fmt.Sprint(z.Seed, "/", what), channels*n) }
	scale := 2.0
	if z.Halved {
		scale = 1
	}
	for i, u := range from("x", z.Input[1]) {
		l.X.Float32s()[i] = float32(scale * u)
	}
	target, label, marked := from("target", z.Classes), from("label", 1), from("marked", 1)
	count := 0
	for i := range n {
		sum := 0.0
		for k := range z.Classes {
			target[k*n+i] += 0.1
			sum += target[k*n+i]
		}
		for k := range z.Classes {
			l.Target.Float32s()[k*n+i] = float32(target[k*n+i] / sum)
		}
		l.Weight.Float32s()[i] = float32(1 / float64(n))
		l.Scribble.Float32s()[int(label[i]*float64(z.Classes))*n+i] = 1
		if marked[i] > 0.9 {
			count++
		}
	}
	for i := range n {
		if marked[i] > 0.9 {
			l.Marked.Float32s()[i] = float32(1 / float64(count))
		}
	}
	return l
}

// representatives are the networks that every run tests: each family, both exporters, and among them every operator that any of the
// networks has. SCRAWL_ZOO=all tests all of them; SCRAWL_ZOO=lowered does, and takes the steps once more as the product runs them, rewritten for
// this machine's CPU.
var representatives = []string{
	"hrnet_fuse_dynamo18", "meshnet_3d_dynamo18_unfolded", "vit_conv_dynamo23_unfolded", "vit_conv_torchscript14_unfolded", "brainchop_model5_gw_ae", "monai_UNet_2d_torchscript20_unfolded_static",
	"monai_DynUNet_2d_dynamo18_static", "monai_SwinUNETR_dynamo20_unfolded_static", "monai_UNETR_torchscript17_static", "monai_SegResNet_2d_dynamo20_unfolded",
	"monai_BasicUNet_2d_dynamo18", "smp_Unet_mobilenet_v2_torchscript13_unfolded", "smp_Unet_efficientnet-b0_torchscript17",
	"smp_Segformer_mit_b0_dynamo18", "smp_Unet_hrnet_torchscript16",
}

// TestRepresentatives holds that list to its promise.
func TestRepresentatives(t *testing.T) {
	files, err := filepath.Glob("testdata/zoo/*.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	of, covered, names := map[string]string{}, map[string]bool{}, map[string]bool{}
	for _, path := range files {
		z := readZoo(t, path)
		names[z.Name] = true
		if z.File != "" {
			continue
		}
		m, err := onnx.Parse(z.Model)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range m.Graph.Nodes {
			of[n.Op] = z.Name
			covered[n.Op] = covered[n.Op] || slices.Contains(representatives, z.Name)
		}
	}
	for op, name := range of {
		if !covered[op] {
			t.Errorf("no representative has the operator %s of %s", op, name)
		}
	}
	for _, r := range representatives {
		if !names[r] {
			t.Errorf("%s is not in testdata/zoo", r)
		}
	}
}

func TestZoo(t *testing.T) {
	files, err := filepath.Glob("testdata/zoo/*.json.gz")
	if err != nil || len(files) == 0 {
		t.Fatalf("no networks: %v", err)
	}
	all := os.Getenv("SCRAWL_ZOO")
	if testing.Short() && all == "" {
		t.Skip("-short leaves out exported networks")
	}
	compile := onRuntime(t)
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".json.gz")
		t.Run(name, func(t *testing.T) {
			if all == "" && !slices.ContainsFunc(representatives, func(r string) bool { return name == r }) {
				t.Skip("one of the networks that only SCRAWL_ZOO=all tests")
			}
			z := readZoo(t, path)
			n := z.network(t)
			if worst, where := z.gradientError(t, n, compile); !(worst <= gradientTolerance) {
				t.Errorf("the gradient of %s is %.3g away from PyTorch's, relative to its norm; at most %g is wanted", where, worst, gradientTolerance)
			}
			z.checkSteps(t, n, compile)
			if all == "lowered" {
				z.checkLowered(t, n)
			}
		})
	}
}

// gradientTolerance bounds ‖got − want‖ / ‖want‖ for the gradient of each weight.
const gradientTolerance = 1e-4

// gradients are those of z's lesson.
func (z zooNetwork) gradients(t *testing.T, n *adapt.Network, compile adapt.Compiler) map[string]*tensor.Tensor {
	t.Helper()
	m, err := n.GradientGraph(1)
	if err != nil {
		t.Fatal(err)
	}
	s, err := compile(m)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Run(t.Context(), n.GradientInputs(z.lesson()), nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// gradientError compares the gradient of every weight with PyTorch's, norm by norm, and returns the worst.
func (z zooNetwork) gradientError(t *testing.T, n *adapt.Network, compile adapt.Compiler) (worst float64, where string) {
	t.Helper()
	out := z.gradients(t, n, compile)
	for _, w := range z.Weights {
		if len(w.Gradient.packed) == 0 {
			continue
		}
		g := out[adapt.GradientOf(w.Name)]
		if g == nil {
			t.Fatalf("no gradient of %s", w.Name)
		}
		e := w.Gradient.errorOf(w.Name, g.Float32s())
		size, matters := z.yardstick(t, w.Name, e, w.Gradient.norm(), w.elements(), z.GradientNorm)
		if r := e / size; matters && !(w.Float32 > 0 && r <= 3*w.Float32) && !(r <= worst) {
			worst, where = r, w.Name
		}
	}
	t.Logf("%s: worst relative error of a gradient %.2g (%s)", z.Name, worst, where)
	return worst, where
}

// yardstick is what the error of a weight's gradient of this norm is measured by. Where the gradient is exactly 0 but for rounding, as that of a bias before
// a normalisation, it is the gradient of all weights, and no relative error matters.
func (z zooNetwork) yardstick(t *testing.T, name string, e, size float64, elements int, all float64) (yardstick float64, matters bool) {
	t.Helper()
	if size < 1e-9*all {
		if e > 1e-5*all {
			t.Errorf("gradient of %s has the norm %.3g, want 0; that of all weights is %.3g", name, e, all)
		}
		return all, false
	}
	if elements == 1 {
		// A single number, such as PReLU's slope, may be all but cancelled: what it is measured by is at least a thousandth of the whole.
		size = max(size, 1e-3*all)
	}
	return size, true
}

// checkLowered looks at the network as the product runs it, rewritten for this machine's CPU: steps, and gradients. An input for which a
// rectifier's argument is nearer to 0 than float32 can tell has two gradients that differ by a hundredth of a percent and more, and which one a sum in
// another order gives is chance (monai_BasicUNet_2d's input has 2e-8 beside values of 5). So where the recorded input fails, one of the next
// three must do, held to the reference interpreter's gradients in float64.
func (z zooNetwork) checkLowered(t *testing.T, n *adapt.Network) {
	t.Helper()
	compile := lowered(t, ort.Options{Threads: 1, NoSpinning: true})
	z.checkSteps(t, n, compile)
	worst, where := z.gradientError(t, n, compile)
	for range 3 {
		if worst <= gradientTolerance {
			return
		}
		t.Logf("lowered, the gradient of %s is %.3g away from PyTorch's: looking at another input", where, worst)
		z.Seed++
		worst, where = z.errorBesideFloat64(t, n, compile)
	}
	if !(worst <= gradientTolerance) {
		t.Errorf("lowered, the gradient of %s is %.3g away from the one in float64, with three inputs too; at most %g is wanted", where, worst, gradientTolerance)
	}
}

// errorBesideFloat64 is gradientError with the reference interpreter in PyTorch's place.
func (z zooNetwork) errorBesideFloat64(t *testing.T, n *adapt.Network, compile adapt.Compiler) (worst float64, where string) {
	t.Helper()
	got, exact := z.gradients(t, n, compile), z.gradients(t, n, onInterpreter)
	var all float64
	for _, g := range exact {
		all = math.Hypot(all, norm(g.Float32s()))
	}
	for _, p := range n.Params() {
		want := exact[adapt.GradientOf(p)].Float32s()
		e := norm(minus(got[adapt.GradientOf(p)], exact[adapt.GradientOf(p)]))
		size, matters := z.yardstick(t, p, e, norm(want), len(want), all)
		if r := e / size; matters && !(r <= worst) {
			worst, where = r, p
		}
	}
	t.Logf("%s: input %d, worst relative error of a gradient beside float64 %.2g (%s)", z.Name, z.Seed, worst, where)
	return worst, where
}

// checkSteps takes ten steps of the method and compares losses, student and teacher.
func (z zooNetwork) checkSteps(t *testing.T, n *adapt.Network, compile adapt.Compiler) {
	t.Helper()
	e := engine(t, n, compile)
	o := adapt.StepOptions{Batch: 1, Averages: 1, AveragePerStep: true}
	next, losses := step(t, e, o, sourceSets(n, o), z.lesson())
	worstLoss := 0.0
	for k, want := range z.Losses {
		for term := range want {
			worstLoss = max(worstLoss, math.Abs(float64(losses[k][term])-want[term])/want[term])
		}
	}
	total := func(k int) float32 { return losses[k][0] + 2*losses[k][1] }
	if last := len(losses) - 1; !(total(last) < total(0)) {
		t.Errorf("the loss has not fallen: %v", losses)
	}
	if !(worstLoss <= 1e-4) {
		t.Errorf("a loss is %.3g away from PyTorch's, relatively; at most 1e-4 is wanted", worstLoss)
	}
	worst, where := 0.0, ""
	var errors, moves [2]float64
	for i, p := range n.Params() {
		w := z.Weights[slices.IndexFunc(z.Weights, func(w zooWeight) bool { return w.Name == p })]
		if w.Gradient.norm() < 1e-9*z.GradientNorm {
			continue
		}
		source := n.Source()[i].Float32s()
		for k, want := range []described{w.Moved, w.Followed} {
			moved := slices.Clone(next[k][i].Float32s())
			for j := range moved {
				moved[j] -= source[j]
			}
			// Each step rounds weights, which hardly differ from the source, to float32: the student's once, the teacher's three times.
			e, rounding := want.errorOf(p, moved), float64([]int{1, 3}[k]*len(z.Losses))*6e-8*norm(source)
			errors[k], moves[k] = errors[k]+e*e, moves[k]+want.norm()*want.norm()
			if r := (e - rounding) / want.norm(); !(r <= worst) {
				worst, where = r, p
			}
		}
	}
	t.Logf("%s: ten steps, worst relative error of a loss %.2g, of a weight's move beyond rounding %.2g (%s), of the student's whole move %.2g, the teacher's %.2g", z.Name,
		worstLoss, worst, where, math.Sqrt(errors[0]/moves[0]), math.Sqrt(errors[1]/moves[1]))
	if !(worst <= 1e-2) {
		t.Errorf("%s has moved %.3g away from where PyTorch's has, relative to its move; at most 1e-2 is wanted", where, worst)
	}
}
