package lower

import (
	"fmt"
	"maps"
	"slices"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// products are the operators that take nearly all the time, and that GPUs compute several times faster in half precision.
var products = map[string]bool{"Conv": true, "ConvTranspose": true, "MatMul": true, "Gemm": true}

// Half returns a model that computes its convolutions and matrix products in half precision (float16, 11 significant bits), and all
// else as before: inputs, outputs and weights stay float32. It is for graphs that only answer. Gradients of losses that are means over pixels
// are smaller than what float16 can hold, so graphs with a Loop are returned as they are.
func Half(m *onnx.Model) (*onnx.Model, error) {
	if slices.ContainsFunc(m.Graph.Nodes, func(n *onnx.Node) bool { return n.Op == "Loop" }) {
		return m, nil
	}
	facts, err := onnx.Infer(m.Graph)
	if err != nil {
		return nil, fmt.Errorf("half precision: %w", err)
	}
	g := &onnx.Graph{Name: m.Graph.Name, Inputs: m.Graph.Inputs, Outputs: m.Graph.Outputs, Initializers: m.Graph.Initializers}
	b := onnx.NewBuilder(g, "half/")
	narrow := map[string]string{}
	for _, n := range m.Graph.Nodes {
		if !products[n.Op] || n.Domain != "" || facts[n.Inputs[0]].DType != tensor.Float32 {
			g.Nodes = append(g.Nodes, n)
			continue
		}
		c := &onnx.Node{Name: n.Name, Op: n.Op, Attrs: maps.Clone(n.Attrs), Outputs: []string{b.Fresh(n.Op)}}
		for _, v := range n.Inputs {
			if v != "" && narrow[v] == "" {
				narrow[v] = b.Op("Cast", []string{v}, onnx.WithInt("to", int64(tensor.Float16)))
			}
			c.Inputs = append(c.Inputs, narrow[v])
		}
		wide := &onnx.Node{Name: b.Fresh("Cast"), Op: "Cast", Inputs: c.Outputs, Outputs: n.Outputs,
			Attrs: map[string]onnx.Attr{"to": {Kind: onnx.AttrInt, Int: int64(tensor.Float32)}}}
		g.Nodes = append(g.Nodes, c, wide)
	}
	return &onnx.Model{IRVersion: m.IRVersion, Producer: m.Producer, Opsets: m.Opsets, Metadata: m.Metadata, Graph: g}, nil
}
