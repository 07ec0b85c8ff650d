package autodiff_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"scrawl/engine/onnx"
	"scrawl/engine/onnx/refexec"
	"scrawl/engine/tensor"
)

// TestOneGraphServesEverySize builds the gradient graph of an exported network once and evaluates it at each batch and image size that
// PyTorch's gradients were recorded for.
func TestOneGraphServesEverySize(t *testing.T) {
	built := map[string]*onnx.Model{}
	for _, g := range loadGoldens(t, "export") {
		t.Run(g.Name, func(t *testing.T) {
			m, params := g.graph(t)
			if first, ok := built[g.Shared]; ok {
				m = first
			} else {
				differentiate(t, m, sortedKeys(g.DY), sortedKeys(g.Grads))
				built[g.Shared] = m
			}
			values := run(t, m.Graph, wide(withSeeds(g.inputs(params), g.cotangents())))
			for _, w := range sortedKeys(g.Grads) {
				compare(t, "gradient of "+w, values[gradOf(w)], g.Grads[w].Tensor, exactTolerance, g.floor())
			}
		})
	}
}

// TestSizesOtherThanTheGoldens evaluates gradient graphs with symbolic sizes at sizes that leave other remainders in strides and
// windows than the goldens' do, against numeric differences.
func TestSizesOtherThanTheGoldens(t *testing.T) {
	for _, group := range []string{"convolution", "normalization", "pooling", "resize", "shape", "reduction", "chain"} {
		for _, g := range loadGoldens(t, group) {
			if len(g.Dynamic) == 0 {
				continue
			}
			t.Run(g.Name, func(t *testing.T) { checkOtherSizes(t, g) })
		}
	}
}

func checkOtherSizes(t *testing.T, g *golden) {
	forward, params := g.graph(t)
	g.symbolize(forward.Graph)
	m, _ := g.graph(t)
	g.symbolize(m.Graph)
	outputs, wrt := sortedKeys(g.DY), sortedKeys(g.Grads)
	differentiate(t, m, outputs, wrt)
	rng := rand.New(rand.NewPCG(3, 4))
	served := 0
	for _, grow := range []int{1, 2, 4} {
		in := wide(g.inputs(params))
		for name, axes := range g.Dynamic {
			in[name] = grown(rng, in[name], axes, grow)
		}
		ys, err := refexec.Run(forward.Graph, in)
		if err != nil {
			continue // constants of the case fit its own size, or multiples of it, only
		}
		dy := map[string]*tensor.Tensor{}
		for _, o := range outputs {
			dy[o] = tensor.Must(ys[o].Shape(), unitVector(rng, ys[o].Len()))
		}
		values := run(t, m.Graph, withSeeds(in, dy))
		for _, w := range wrt {
			if got := values[gradOf(w)]; !slices.Equal(got.Shape(), in[w].Shape()) {
				t.Errorf("grown by %d: gradient of %s has shape %v, want %v", grow, w, got.Shape(), in[w].Shape())
			}
		}
		if !checkNumerically(t, forward.Graph, in, dy, values, wrt) {
			t.Errorf("above: with axes %v grown by %d", g.Dynamic, grow)
		}
		served++
	}
	if served == 0 {
		t.Skip("the case's constants fit its own size only")
	}
}

// grown is a random tensor like x with the given axes longer, no two of its elements closer than a central difference could confuse
// and none near zero; all positive where x is.
func grown(rng *rand.Rand, x *tensor.Tensor, axes []int, by int) *tensor.Tensor {
	shape := slices.Clone(x.Shape())
	for _, a := range axes {
		shape[a] += by
	}
	n, _ := tensor.Count(shape)
	v := make([]float64, n)
	for i, p := range rng.Perm(n) {
		v[i] = (float64(p) + 0.37) * 3 / float64(n)
		if slices.Min(floats(x)) < 0 && p%2 == 0 {
			v[i] = -v[i]
		}
		if math.Abs(v[i]) < 1e-3 {
			v[i] = 1e-3
		}
	}
	return tensor.Must(shape, v)
}
