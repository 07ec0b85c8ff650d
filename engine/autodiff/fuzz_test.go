package autodiff_test

import (
	"runtime/metrics"
	"testing"

	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// allocated is the number of bytes this process has ever asked for.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// allowance is what a small file may make the engine allocate on the way to a gradient graph.
const allowance = 512 << 20

// FuzzGradients takes hostile files through everything that is done with a model before it runs: nothing may panic, memory is bounded, and a
// gradient graph that is made is well formed.
func FuzzGradients(f *testing.F) {
	for _, group := range groups {
		for i, g := range loadGoldens(f, group) {
			if i%5 == 0 && len(g.Model) < 20_000 {
				f.Add(g.Model)
			}
		}
	}
	lim := onnx.DefaultLimits()
	lim.TensorBytes, lim.Nodes = 1<<20, 300
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		before := allocated()
		gradientsOf(t, data, lim)
		if used := allocated() - before; used > allowance {
			t.Errorf("%d bytes of file made the engine allocate %d MiB", len(data), used>>20)
		}
	})
}

func gradientsOf(t *testing.T, data []byte, lim onnx.Limits) {
	m, err := onnx.ParseWithin(data, lim)
	if err != nil {
		return
	}
	if m, err = onnx.Normalize(m); err != nil {
		return
	}
	g := m.Graph
	if err := onnx.Check(g); err != nil {
		return
	}
	facts, err := onnx.Infer(g)
	if err != nil {
		return
	}
	seeds := map[string]string{}
	for _, o := range g.Outputs {
		if facts[o.Name].DType == tensor.Float32 && facts[seedOf(o.Name)].Shape == nil {
			g.Inputs = append(g.Inputs, onnx.Value{Name: seedOf(o.Name), DType: tensor.Float32, Shape: facts[o.Name].Shape})
			seeds[o.Name] = seedOf(o.Name)
		}
	}
	var wrt []string
	for _, in := range g.Initializers {
		if in.Tensor.DType() == tensor.Float32 {
			wrt = append(wrt, in.Name)
		}
	}
	for _, in := range g.Inputs {
		if in.DType == tensor.Float32 && seeds[in.Name] == "" {
			wrt = append(wrt, in.Name)
		}
	}
	if len(seeds) == 0 || onnx.Check(g) != nil {
		return
	}
	if _, err := autodiff.Gradients(onnx.NewBuilder(g, "gradient/"), seeds, wrt); err != nil {
		return
	}
	if err := onnx.Check(g); err != nil {
		t.Errorf("the gradient graph: %v", err)
	}
}
