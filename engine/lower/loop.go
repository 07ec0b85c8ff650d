package lower

import (
	"maps"
	"slices"

	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
)

// loop rewrites the body of a Loop. Weights that the body's convolutions read, and what is computed from them element by element,
// such as averages that follow them, are carried in the kernels' layout.
func (s *scope) loop(n *onnx.Node) bool {
	from := n.Attrs["body"].Graph
	if from == nil || s.bodies[from] == nil {
		return false
	}
	body := &onnx.Graph{Name: from.Name, Inputs: slices.Clone(from.Inputs), Initializers: from.Initializers}
	in := newScope(s.Target, from, s.b.Sub(body, s.b.Fresh("body")+"/"), s.bodies, s)
	carried := in.carriedKernels(len(n.Inputs) - 2)
	for i := range carried {
		name := from.Inputs[2+i].Name
		body.Inputs[2+i].Name = in.b.Fresh("kernel")
		delete(in.plainly, name)
		in.others[kernel][name] = body.Inputs[2+i].Name
	}
	in.nodes()
	for i, o := range from.Outputs {
		if sizes := carried[i-1]; sizes != nil {
			o.Name = in.kernel(o.Name, sizes)
		} else {
			in.plain(o.Name)
		}
		body.Outputs = append(body.Outputs, o)
	}
	body.Nodes = needed(body.Nodes, body.Outputs)

	c := &onnx.Node{Name: n.Name, Op: n.Op, Inputs: slices.Clone(n.Inputs), Outputs: slices.Clone(n.Outputs), Attrs: maps.Clone(n.Attrs)}
	c.Attrs["body"] = onnx.Attr{Kind: onnx.AttrGraph, Graph: body}
	for i, v := range n.Inputs {
		if sizes := carried[i-2]; sizes != nil {
			c.Inputs[i] = s.kernel(v, sizes)
		} else {
			s.plain(v)
		}
	}
	for i, v := range n.Outputs {
		if carried[i] != nil {
			c.Outputs[i] = s.b.Fresh("carried")
			s.others[kernel][v] = c.Outputs[i]
		} else {
			s.plainly[v] = true
		}
	}
	s.b.Graph.Nodes = append(s.b.Graph.Nodes, c)
	return true
}

// carriedKernels returns the sizes of those of the body's n carried values, by position, that are weights in the kernels' layout.
func (s *scope) carriedKernels(n int) map[int][]int64 {
	group := newGroups()
	weights := map[string]bool{}
	for _, node := range s.list {
		if w := s.weightOf(node); w != "" {
			weights[group.of(w)] = true
		}
		if inputs, ok := s.full(node); ok {
			for _, v := range inputs {
				group.join(v, node.Outputs[0])
			}
		}
	}
	kernels := map[string]bool{}
	for w := range weights {
		kernels[group.of(w)] = true
	}
	carried := map[int][]int64{}
	for i := range n {
		name := s.from.Inputs[2+i].Name
		if sizes, ok := s.fixed(name); ok && len(sizes) == 4 && s.hasKernelForm(sizes) && kernels[group.of(name)] {
			carried[i] = sizes
		}
	}
	return carried
}

// weightOf returns the weight that a node reads in the kernels' layout, "" when it reads none.
func (s *scope) weightOf(n *onnx.Node) string {
	switch {
	case n.Op == "Conv" && n.Domain == "":
		_, sizes, ok := s.readWindow(n, n.Inputs[1])
		if ok && s.hasKernelForm(sizes) && s.readsImage(n.Inputs[0], sizes[1]) {
			return n.Inputs[1]
		}
	case n.Op == autodiff.ConvInputGradient && n.Domain == onnx.SummaryDomain:
		if sizes, ok := s.fixed(n.Inputs[1]); ok && s.hasKernelForm(sizes) {
			return n.Inputs[1]
		}
	}
	return ""
}

// groups are disjoint sets of values.
type groups map[string]string

func newGroups() groups { return groups{} }

func (g groups) of(v string) string {
	for g[v] != "" && g[v] != v {
		v = g[v]
	}
	return v
}

func (g groups) join(a, b string) {
	if a, b = g.of(a), g.of(b); a != b {
		g[a] = b
	}
}
