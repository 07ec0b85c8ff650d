package autodiff_test

import (
	"cmp"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
	"scrawl/engine/onnx/refexec"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
)

// Tolerances, as the ratio ‖got − want‖ / ‖want‖. The exact ones are bounded by constants such as 2/√π, which are float32 in the graph.
const (
	exactTolerance   = 1e-6
	numericTolerance = 2e-6
	float32Tolerance = 1e-4
	step             = 1e-5 // of a central difference
)

// unsmooth names goldens evaluated on a kink, where a difference quotient says nothing and PyTorch's choice is the reference.
var unsmooth = map[string]bool{"max with ties": true, "reducemax opset 13 ties": true}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// reporter is what tests and properties have in common.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func gradOf(v string) string { return "gradient:" + v }
func seedOf(v string) string { return "cotangent:" + v }

// differentiate appends to the model's graph its gradient: inputs for the outputs' cotangents, and an output for each gradient.
func differentiate(tb reporter, m *onnx.Model, outputs, wrt []string) {
	tb.Helper()
	facts, err := onnx.Infer(m.Graph)
	if err != nil {
		tb.Fatalf("infer: %v", err)
	}
	b := onnx.NewBuilder(m.Graph, "grad/")
	seeds := map[string]string{}
	for _, o := range outputs {
		seeds[o] = seedOf(o)
		m.Graph.Inputs = append(m.Graph.Inputs, onnx.Value{Name: seedOf(o), DType: tensor.Float32, Shape: facts[o].Shape})
	}
	grads, err := autodiff.Gradients(b, seeds, wrt)
	if err != nil {
		tb.Fatalf("gradients: %v", err)
	}
	for _, w := range wrt {
		b.Alias(grads[w], gradOf(w))
		m.Graph.Outputs = append(m.Graph.Outputs, onnx.Value{Name: gradOf(w), DType: tensor.Float32, Shape: facts[w].Shape})
	}
	if err := onnx.Check(m.Graph); err != nil {
		tb.Fatalf("the gradient graph is not valid: %v", err)
	}
}

// wide returns the tensors with float32 elements widened, so that the reference interpreter gets float64 from the start.
func wide(in map[string]*tensor.Tensor) map[string]*tensor.Tensor {
	out := make(map[string]*tensor.Tensor, len(in))
	for k, v := range in {
		if v.DType() == tensor.Float32 {
			v = tensor.Must(v.Shape(), floats(v))
		}
		out[k] = v
	}
	return out
}

func floats(t *tensor.Tensor) []float64 {
	if d := tensor.Data[float64](t); d != nil {
		return d
	}
	src := t.Float32s()
	d := make([]float64, len(src))
	for i, v := range src {
		d[i] = float64(v)
	}
	return d
}

// withSeeds adds the cotangents under the names that differentiate gave their inputs.
func withSeeds(in, dy map[string]*tensor.Tensor) map[string]*tensor.Tensor {
	all := maps.Clone(in)
	for k, v := range dy {
		all[seedOf(k)] = v
	}
	return all
}

// distance is ‖got − want‖ / max(‖want‖, floor): relative, and absolute where the true gradient is zero.
func distance(got, want []float64, floor float64) float64 {
	var diff float64
	for i := range want {
		d := got[i] - want[i]
		diff += d * d
	}
	if math.IsNaN(diff) {
		return math.Inf(1)
	}
	return math.Sqrt(diff) / max(norm(want), floor)
}

func norm(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x * x
	}
	return math.Sqrt(sum)
}

// floor is what counts as nothing beside a golden's gradients. The gradient of a bias before a normalisation, for one, is exactly 0, and
// rounding is to be measured by what cancelled.
func (g *golden) floor() float64 {
	largest := 0.1
	for _, v := range g.Grads {
		largest = max(largest, norm(floats(v.Tensor)))
	}
	return largest / 100
}

// compare reports whether a tensor has the wanted shape and, within tol, elements.
func compare(tb reporter, what string, got, want *tensor.Tensor, tol, floor float64) bool {
	tb.Helper()
	if got == nil {
		tb.Errorf("%s: missing", what)
		return false
	}
	if !slices.Equal(got.Shape(), want.Shape()) {
		tb.Errorf("%s: shape %v, want %v", what, got.Shape(), want.Shape())
		return false
	}
	if d := distance(floats(got), floats(want), floor); d > tol {
		tb.Errorf("%s: relative distance %.3g, want at most %g\n got %.5v\nwant %.5v", what, d, tol, head(floats(got)), head(floats(want)))
		return false
	}
	return true
}

func head(v []float64) []float64 { return v[:min(len(v), 12)] }

func run(tb reporter, g *onnx.Graph, in map[string]*tensor.Tensor) map[string]*tensor.Tensor {
	tb.Helper()
	out, err := refexec.Run(g, in)
	if err != nil {
		tb.Fatalf("reference interpreter: %v", err)
	}
	return out
}

// TestGradients checks each golden's gradient against PyTorch's and, independently of it, against numeric differences, both in
// float64; once with the sizes the golden has and once, where it allows it, with symbols for them.
func TestGradients(t *testing.T) {
	var results matrix
	for _, group := range groups {
		t.Run(group, func(t *testing.T) {
			for _, g := range loadGoldens(t, group) {
				t.Run(g.Name, func(t *testing.T) { checkGolden(t, g, false, &results) })
				if len(g.Dynamic) > 0 {
					t.Run(g.Name+"/symbolic", func(t *testing.T) { checkGolden(t, g, true, &results) })
				}
			}
		})
	}
	t.Log(&results)
}

func checkGolden(t *testing.T, g *golden, symbolic bool, results *matrix) {
	passed := map[oracle]bool{}
	defer func() {
		for _, o := range []oracle{byPyTorch, byNumbers} {
			if ok, checked := passed[o]; checked || !ok && t.Failed() {
				results.note(g.Op, o, ok)
			}
		}
	}()
	forward, params := g.graph(t)
	m, _ := g.graph(t)
	if symbolic {
		g.symbolize(m.Graph)
	}
	outputs, wrt := sortedKeys(g.DY), sortedKeys(g.Grads)
	differentiate(t, m, outputs, wrt)
	in := wide(g.inputs(params))
	values := run(t, m.Graph, wide(withSeeds(in, g.cotangents())))
	forwardOK, gradsOK := true, true
	for _, o := range outputs {
		forwardOK = compare(t, "forward "+o, values[o], g.Outputs[o].Tensor, exactTolerance, g.floor()) && forwardOK
	}
	for _, w := range wrt {
		gradsOK = compare(t, "gradient of "+w+" against PyTorch", values[gradOf(w)], g.Grads[w].Tensor, exactTolerance, g.floor()) && gradsOK
	}
	passed[byPyTorch] = forwardOK && gradsOK
	if !unsmooth[g.Name] {
		passed[byNumbers] = checkNumerically(t, forward.Graph, in, wide(g.cotangents()), values, wrt)
	}
}

// checkNumerically compares the directional derivatives of L = Σ dy·y with the gradients found: along one random direction of each
// input (of all together, when there are many), and along a few single elements.
func checkNumerically(t reporter, forward *onnx.Graph, in, dy, grads map[string]*tensor.Tensor, wrt []string) bool {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	loss := func(at map[string]*tensor.Tensor) float64 {
		ys := run(t, forward, at)
		sum := 0.0
		for k, d := range dy {
			y := floats(ys[k])
			for i, v := range floats(d) {
				sum += v * y[i]
			}
		}
		return sum
	}
	along := func(dir map[string][]float64) (numeric, analytic, size float64) {
		moved := func(h float64) map[string]*tensor.Tensor {
			at := maps.Clone(in)
			for k, d := range dir {
				v := slices.Clone(floats(in[k]))
				for i := range v {
					v[i] += h * d[i]
				}
				at[k] = tensor.Must(in[k].Shape(), v)
			}
			return at
		}
		numeric = (loss(moved(step)) - loss(moved(-step))) / (2 * step)
		for k, d := range dir {
			for i, v := range floats(grads[gradOf(k)]) {
				analytic += v * d[i]
				size += v * v
			}
		}
		return numeric, analytic, math.Sqrt(size)
	}
	ok := true
	check := func(what string, dir map[string][]float64) {
		numeric, analytic, size := along(dir)
		if math.Abs(numeric-analytic) > numericTolerance*max(size, 1) || math.IsNaN(numeric-analytic) {
			t.Errorf("derivative along %s: numerically %.8g, by the graph %.8g", what, numeric, analytic)
			ok = false
		}
	}
	for _, w := range wrt {
		if g := grads[gradOf(w)]; g == nil || !slices.Equal(g.Shape(), in[w].Shape()) {
			return false
		}
	}
	all := map[string][]float64{}
	for _, w := range wrt {
		n := in[w].Len()
		if n == 0 {
			continue
		}
		all[w] = unitVector(rng, n)
		if len(wrt) > 8 {
			continue
		}
		check("a random direction of "+w, map[string][]float64{w: all[w]})
		for range min(2, n) {
			e := make([]float64, n)
			e[rng.IntN(n)] = 1
			check("one element of "+w, map[string][]float64{w: e})
		}
	}
	if len(wrt) > 8 {
		check("a random direction of everything", all)
	}
	return ok
}

func unitVector(rng *rand.Rand, n int) []float64 {
	v := make([]float64, n)
	size := 0.0
	for i := range v {
		v[i] = rng.NormFloat64()
		size += v[i] * v[i]
	}
	for i := range v {
		v[i] /= math.Sqrt(size)
	}
	return v
}

// TestGradientsOnRuntime evaluates the same gradient graphs where they are used, in ONNX Runtime and float32.
func TestGradientsOnRuntime(t *testing.T) {
	lib := orttest.Library(t)
	var results matrix
	for _, group := range groups {
		t.Run(group, func(t *testing.T) {
			for _, g := range loadGoldens(t, group) {
				for _, symbolic := range []bool{false, true} {
					name := g.Name
					if symbolic {
						if len(g.Dynamic) == 0 {
							continue
						}
						name += "/symbolic"
					}
					t.Run(name, func(t *testing.T) {
						defer func() { results.note(g.Op, byRuntime, !t.Failed()) }()
						checkOnRuntime(t, lib, g, symbolic)
					})
				}
			}
		})
	}
	t.Log(&results)
}

// gradientModel is the golden's model with its gradient, and all that it takes.
func (g *golden) gradientModel(t *testing.T, symbolic bool) (*onnx.Model, map[string]*tensor.Tensor) {
	t.Helper()
	m, params := g.graph(t)
	if symbolic {
		g.symbolize(m.Graph)
	}
	differentiate(t, m, sortedKeys(g.DY), sortedKeys(g.Grads))
	return m, onlyInputs(m.Graph, withSeeds(g.inputs(params), g.cotangents()))
}

func checkOnRuntime(t *testing.T, lib *ort.Library, g *golden, symbolic bool) {
	m, in := g.gradientModel(t, symbolic)
	data, err := m.Marshal()
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	s, err := lib.NewSession(data, ort.Options{Threads: 1})
	if err != nil {
		t.Fatalf("session: %v", err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	values, err := s.Run(t.Context(), in, nil)
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	g.compareFloat32(t, values)
}

// compareFloat32 holds forward values and gradients against those recorded.
func (g *golden) compareFloat32(t *testing.T, values map[string]*tensor.Tensor) {
	t.Helper()
	for _, o := range sortedKeys(g.DY) {
		compare(t, "forward "+o, values[o], g.Outputs[o].Tensor, float32Tolerance, g.floor())
	}
	for _, w := range sortedKeys(g.Grads) {
		compare(t, "gradient of "+w, values[gradOf(w)], g.Grads[w].Tensor, float32Tolerance, g.floor())
	}
}

// onlyInputs drops the tensors that the graph has no input for.
func onlyInputs(g *onnx.Graph, in map[string]*tensor.Tensor) map[string]*tensor.Tensor {
	out := map[string]*tensor.Tensor{}
	for _, v := range g.Inputs {
		if t, ok := in[v.Name]; ok {
			out[v.Name] = t
		}
	}
	return out
}

// TestEveryOperatorHasGoldens holds the table of gradients against the goldens: an operator without a case of its own is a gap.
func TestEveryOperatorHasGoldens(t *testing.T) {
	covered := map[string]bool{}
	for _, group := range groups {
		for _, g := range loadGoldens(t, group) {
			covered[g.Op] = true
		}
	}
	for _, op := range autodiff.Operators() {
		if !covered[op] {
			t.Errorf("operator %s can be differentiated but testdata/make_goldens.py has no case for it", op)
		}
	}
}
