package onnx

import (
	"errors"
	"fmt"
	"math"
)

// Check reports whether g is well formed: every value is made once and before it is used, outputs are made, nodes
// have the inputs and outputs that their operators want, and every operator is one whose meaning is known here. It looks into the bodies of Loop and If, which see
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

// CheckArity reports a node with fewer inputs or outputs than its operator wants (https://onnx.ai/onnx/operators/), or with an empty name for
// one that cannot be left out. Operators that are not known here pass, as long as they have outputs.
func CheckArity(n *Node) error {
	if len(n.Outputs) == 0 {
		return fmt.Errorf("node %q (%s) has no outputs", n.Name, n.Op)
	}
	if n.Domain != "" {
		return nil
	}
	a := arityOf(n.Op)
	if len(n.Inputs) < a.least || len(n.Inputs) > a.most {
		return fmt.Errorf("node %q (%s) has %d inputs; the operator wants %d to %d", n.Name, n.Op, len(n.Inputs), a.least, a.most)
	}
	for i, in := range n.Inputs[:a.least] {
		if in == "" {
			return fmt.Errorf("node %q (%s) leaves out input %d, which the operator needs", n.Name, n.Op, i)
		}
	}
	return nil
}

// arity is how many inputs an operator takes.
type arity struct{ least, most int }

// arityOf gives the arity of an operator in opset 18.
func arityOf(op string) arity {
	const unbounded = math.MaxInt
	switch op {
	case "Constant":
		return arity{0, 0}
	case "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
		"Split", "Squeeze", "Trilu":
		return arity{1, 2}
	case "Clip", "Dropout":
		return arity{1, 3}
	case "Resize":
		return arity{1, 4}
	case "Concat", "Einsum", "Max", "Mean", "Min", "Sum":
		return arity{1, unbounded}
	case "Add", "And", "CastLike", "CumSum", "Div", "Equal", "Expand", "Gather", "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
		"MatMul", "Mod", "Mul", "Or", "PRelu", "Pow", "Reshape", "Sub", "Tile", "TopK", "Unsqueeze", "Upsample", "Xor":
		return arity{2, 2}
	case "Conv", "ConvTranspose", "Gemm", "LayerNormalization":
		return arity{2, 3}
	case "Pad":
		return arity{2, 4}
	case "GroupNormalization", "InstanceNormalization", "OneHot", "Range", "ScatterElements", "ScatterND", "Where":
		return arity{3, 3}
	case "Slice":
		return arity{3, 5}
	case "BatchNormalization":
		return arity{5, 5}
	case "Abs", "ArgMax", "ArgMin", "Atan", "AveragePool", "Cast", "Ceil", "Celu", "ConstantOfShape", "Cos", "DepthToSpace", "Elu", "Erf", "Exp", "Flatten",
		"Floor", "Gelu", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "If", "IsInf", "IsNaN", "LeakyRelu", "Log",
		"LogSoftmax", "LpNormalization", "LpPool", "MaxPool", "Mish", "Neg", "NonZero", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shape", "Sigmoid", "Sign",
		"Sin", "Size", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Sqrt", "Tan", "Tanh", "ThresholdedRelu", "Transpose":
		return arity{1, 1}
	}
	return arity{0, unbounded}
}

func (c *checker) node(n *Node, v *visible) {
	if _, ok := c.known[n.Op]; !ok || n.Domain != "" {
		domain := n.Domain
		if domain == "" {
			domain = "ai.onnx"
		}
		c.report("node %q: operator %s of domain %s is not known in opset %d; export the model with a decomposed form of it", n.Name, n.Op, domain, Opset)
	}
	if err := CheckArity(n); err != nil {
		c.report("%w", err)
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
