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
// are smaller than what float16 can hold, so graphs that learn are returned as they are.
func Half(m *onnx.Model) (*onnx.Model, error) {
	if learns(m.Graph) {
		return m, nil
	}
	bodies, err := onnx.InferBodies(m.Graph)
	if err != nil {
		return nil, fmt.Errorf("half precision: %w", err)
	}
	g := &onnx.Graph{Name: m.Graph.Name, Inputs: m.Graph.Inputs, Outputs: m.Graph.Outputs, Initializers: m.Graph.Initializers}
	h := halver{bodies: bodies, from: m.Graph, root: onnx.NewBuilder(g, "half/"), narrow: map[string]string{}}
	h.graph(m.Graph, h.root)
	return &onnx.Model{IRVersion: m.IRVersion, Producer: m.Producer, Opsets: m.Opsets, Metadata: m.Metadata, Graph: g}, nil
}

// learns reports whether a Loop of the graph takes gradients.
func learns(g *onnx.Graph) bool {
	return slices.ContainsFunc(g.Nodes, func(n *onnx.Node) bool {
		body := n.Attrs["body"].Graph
		return body != nil && (len(body.Summaries) > 0 || learns(body))
	})
}

type halver struct {
	bodies map[*onnx.Graph]map[string]onnx.Fact
	from   *onnx.Graph // the main graph
	root   *onnx.Builder
	narrow map[string]string // inputs and constants of the main graph, narrowed once for all Loops
	graphs int
}

// given reports whether a value is an input or a constant of the main graph.
func (h *halver) given(v string) bool {
	return h.from.Initializer(v) != nil || slices.ContainsFunc(h.from.Inputs, func(in onnx.Value) bool { return in.Name == v })
}

// graph appends the nodes of a graph to b's.
func (h *halver) graph(from *onnx.Graph, b *onnx.Builder) {
	facts, g, narrow := h.bodies[from], b.Graph, map[string]string{}
	for _, n := range from.Nodes {
		if body := n.Attrs["body"].Graph; h.bodies[body] != nil {
			h.graphs++
			to := &onnx.Graph{Name: body.Name, Inputs: body.Inputs, Outputs: body.Outputs, Initializers: body.Initializers}
			h.graph(body, h.root.Sub(to, fmt.Sprintf("half/%d/", h.graphs)))
			n = &onnx.Node{Name: n.Name, Op: n.Op, Domain: n.Domain, Inputs: n.Inputs, Outputs: n.Outputs, Attrs: maps.Clone(n.Attrs)}
			n.Attrs["body"] = onnx.Attr{Kind: onnx.AttrGraph, Graph: to}
		}
		if !products[n.Op] || n.Domain != "" || facts[n.Inputs[0]].DType != tensor.Float32 {
			g.Nodes = append(g.Nodes, n)
			continue
		}
		c := &onnx.Node{Name: n.Name, Op: n.Op, Attrs: maps.Clone(n.Attrs), Outputs: []string{b.Fresh(n.Op)}}
		for _, v := range n.Inputs {
			at, made := b, narrow
			if h.given(v) {
				at, made = h.root, h.narrow
			}
			if v != "" && made[v] == "" {
				made[v] = at.Op("Cast", []string{v}, onnx.WithInt("to", int64(tensor.Float16)))
			}
			c.Inputs = append(c.Inputs, made[v])
		}
		wide := &onnx.Node{Name: b.Fresh("Cast"), Op: "Cast", Inputs: c.Outputs, Outputs: n.Outputs,
			Attrs: map[string]onnx.Attr{"to": {Kind: onnx.AttrInt, Int: int64(tensor.Float32)}}}
		g.Nodes = append(g.Nodes, c, wide)
	}
}
