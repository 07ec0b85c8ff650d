package onnx

import (
	"errors"
	"fmt"
)

// Check reports whether g is well formed: every value is made once and before it is used, outputs are made, nodes
// have outputs, and every operator is one whose meaning is known here. It looks into the bodies of Loop and If, which see
// the values of the graphs around them. All problems are reported, joined.
//
// An unknown operator is named with node, domain and opset. Operators of foreign domains, such as the runtime's own,
// are unknown: graphs that have been lowered for one provider do not pass.
func Check(g *Graph) error {
	c := &checker{known: rules()}
	c.graph(g, nil)
	return errors.Join(c.problems...)
}

type checker struct {
	known    map[string]rule
	problems []error
}

// maxProblems bounds how much is reported of a badly broken graph.
const maxProblems = 20

func (c *checker) report(format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, fmt.Errorf(format, args...))
	}
}

// visible is the set of names in one graph, and those of the graphs around it.
type visible struct {
	names map[string]bool
	outer *visible
}

func (v *visible) has(name string) bool {
	for s := v; s != nil; s = s.outer {
		if s.names[name] {
			return true
		}
	}
	return false
}

func (c *checker) graph(g *Graph, outer *visible) {
	v := &visible{names: map[string]bool{}, outer: outer}
	define := func(name, what string) {
		if v.names[name] {
			c.report("graph %q: value %q is made twice (%s); every value has one source", g.Name, name, what)
		}
		v.names[name] = true
	}
	for _, in := range g.Initializers {
		if in.Name == "" || in.Tensor == nil {
			c.report("graph %q: an initializer has no name or no tensor", g.Name)
		}
		define(in.Name, "as an initializer")
	}
	for _, in := range g.Inputs {
		define(in.Name, "as an input")
	}
	for _, n := range g.Nodes {
		c.node(n, v)
		for _, o := range n.Outputs {
			if o != "" {
				define(o, fmt.Sprintf("by node %q (%s)", n.Name, n.Op))
			}
		}
	}
	for _, o := range g.Outputs {
		if !v.has(o.Name) {
			c.report("graph %q: output %q is made by no node", g.Name, o.Name)
		}
	}
}

func (c *checker) node(n *Node, v *visible) {
	if _, ok := c.known[n.Op]; !ok || n.Domain != "" {
		domain := n.Domain
		if domain == "" {
			domain = "ai.onnx"
		}
		c.report("node %q: operator %s of domain %s is not known in opset %d; export the model with a decomposed form of it", n.Name, n.Op, domain, Opset)
	}
	if len(n.Outputs) == 0 {
		c.report("node %q (%s) has no outputs", n.Name, n.Op)
	}
	for _, in := range n.Inputs {
		if in != "" && !v.has(in) {
			c.report("node %q (%s): input %q is not made before it; nodes must be in topological order", n.Name, n.Op, in)
		}
	}
	for name, a := range n.Attrs {
		if a.Kind != AttrGraph {
			continue
		}
		if a.Graph == nil {
			c.report("node %q (%s): attribute %q holds no graph", n.Name, n.Op, name)
			continue
		}
		c.graph(a.Graph, v)
	}
}
