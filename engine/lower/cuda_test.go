package lower_test

import (
	"slices"
	"testing"

	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
)

// TestAvoidedOnCUDA holds that the forms which CUDA computes wrongly are gone, and that what stands in their place computes the same.
func TestAvoidedOnCUDA(t *testing.T) {
	lib := orttest.Library(t)
	x := tensor.Must([]int{2, 3, 2}, tensor.Vector[float32](3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8).Float32s())
	for _, op := range []string{"LayerNormalization", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"} {
		t.Run(op, func(t *testing.T) {
			g := &onnx.Graph{Name: op, Inputs: []onnx.Value{{Name: "x", DType: tensor.Float32, Shape: onnx.Shape{{Symbol: "N"}, {Size: 3}, {Symbol: "M"}}}},
				Outputs: []onnx.Value{{Name: "y", DType: tensor.Float32}}}
			b := onnx.NewBuilder(g, "t/")
			in := map[string]*tensor.Tensor{"x": x}
			if op == "LayerNormalization" {
				for name, v := range map[string]*tensor.Tensor{"scale": tensor.Must([]int{3, 1}, tensor.Vector[float32](1, -2, 3).Float32s()), "bias": tensor.Vector[float32](0.5)} {
					g.Initializers = append(g.Initializers, onnx.Initializer{Name: name, Tensor: v})
				}
				b.Alias(b.Op(op, []string{"x", "scale", "bias"}, onnx.WithInt("axis", -2)), "y")
			} else {
				b.Alias(b.Op(op, []string{"x"}, onnx.WithInt("noop_with_empty_axes", 1)), "y")
			}
			m := &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": onnx.Opset}, Graph: g}
			mended, err := lower.CUDA(m)
			if err != nil {
				t.Fatal(err)
			}
			same(t, run(t, lib, mended, in), run(t, lib, m, in))
			if op != "LayerNormalization" && slices.ContainsFunc(mended.Graph.Nodes, func(n *onnx.Node) bool { return n.Op == op }) {
				t.Errorf("%s over no axis is still there", op)
			}
			if full, err := lower.CUDA(mended); err != nil || len(full.Graph.Nodes) != len(mended.Graph.Nodes) {
				t.Errorf("what is mended is mended again (%v)", err)
			}
		})
	}
}
