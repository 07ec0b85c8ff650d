package adapt_test

import (
	"runtime/metrics"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/train"
)

// FuzzNetwork takes hostile files for networks to be adapted: reading them and building their graphs must not panic, nor take memory out of
// proportion; graphs that are built are well formed.
func FuzzNetwork(f *testing.F) {
	u, err := train.UNet(train.UNetShape{Input: 1, Channels: []int{2, 2}, Groups: 1, Classes: 2}, 3)
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range []*onnx.Model{u, meshNet(1, 2, -1, -1, -1, -1), insistent(meshNet(1, 2, 1, 3, 3, 3)), exported("batch"), exported("group"), exported("layer"), pointwise(1)} {
		data, err := m.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	lim := onnx.DefaultLimits()
	lim.TensorBytes, lim.Nodes = 1<<20, 300
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		before := allocated()
		m, err := onnx.ParseWithin(data, lim)
		if err != nil {
			return
		}
		n, err := adapt.NewNetwork(m, adapt.Trainable{})
		if err != nil {
			return
		}
		graphs := []*onnx.Model{n.PredictGraph(false)}
		for _, build := range []func() (*onnx.Model, error){
			func() (*onnx.Model, error) { return n.PseudoGraph([]int{0}) },
			func() (*onnx.Model, error) { return n.StepGraph(adapt.StepOptions{Batch: 2, Averages: 1}) },
		} {
			if g, err := build(); err == nil {
				graphs = append(graphs, g)
			}
		}
		for _, g := range graphs {
			if err := onnx.Check(g.Graph); err != nil {
				t.Errorf("graph %s: %v", g.Graph.Name, err)
			}
		}
		if used := allocated() - before; used > 512<<20 {
			t.Errorf("%d bytes of file made the engine allocate %d MiB", len(data), used>>20)
		}
	})
}

// allocated is the number of bytes this process has ever asked for.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
