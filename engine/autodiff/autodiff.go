// Package autodiff differentiates ONNX graphs: from a forward graph it makes nodes, of standard ONNX operators only, that
// compute gradients by reverse-mode differentiation. The result runs wherever the forward graph runs; no training runtime
// is involved.
//
// # Terms
//
// The cotangent of a value v is ∂L/∂v, a value of v's own shape, where L is the scalar being differentiated. A
// vector-Jacobian product (VJP) takes the cotangents of a node's outputs to the cotangents of its inputs. One table,
// in table.go, maps each operator to its VJP; a gradient of a graph is the walk over its nodes in reverse order that
// applies them and adds up the cotangents of values used more than once.
//
// Only nodes on a path from a wanted value to a seeded value are visited, so frozen weights cost nothing, and an operator
// that cannot be differentiated is an error only when such a path runs through it.
//
// The page operators.md lists every operator with what holds its gradient to the truth.
//
// Shapes may be symbolic: where a VJP needs a size that is not known while the graph is built, it emits the few integer
// nodes that compute it at run time. One gradient graph therefore serves every image size.
package autodiff

//go:generate go test -run ^TestOperatorTable$ . -update

import (
	"fmt"
	"slices"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// Gradients appends to b.Graph, a forward graph that [onnx.Normalize] has brought to [onnx.Opset], the nodes that compute the
// gradient of L with respect to each value in wrt. seeds gives, for one or more values of the graph, the name of the
// value that holds its cotangent ∂L/∂value; those must already exist (as nodes or graph inputs).
//
// The answer maps each name in wrt to the value that holds its gradient, of the same shape. A wanted value that
// L does not depend on has a gradient of zeros. An operator without a VJP on the way is an error that names the node, the
// operator and the opset.
func Gradients(b *onnx.Builder, seeds map[string]string, wrt []string) (map[string]string, error) {
	facts, err := onnx.Infer(b.Graph)
	if err != nil {
		return nil, fmt.Errorf("shapes of the forward graph: %w", err)
	}
	t := &tape{b: b, rules: table(), facts: facts, cotangents: map[string][]string{}, dims: map[string]string{}, producers: map[string]*onnx.Node{}}
	forward := slices.Clone(b.Graph.Nodes)
	for _, n := range forward {
		for _, o := range n.Outputs {
			t.producers[o] = n
		}
	}
	for v, seed := range seeds {
		if _, ok := facts[v]; !ok {
			return nil, fmt.Errorf("seeded value %q is not in the graph", v)
		}
		t.cotangents[v] = append(t.cotangents[v], seed)
	}
	useful := dependents(forward, facts, wrt)
	for i := len(forward) - 1; i >= 0; i-- {
		if err := t.visit(forward[i], useful); err != nil {
			return nil, err
		}
	}
	grads := make(map[string]string, len(wrt))
	for _, w := range wrt {
		if _, ok := facts[w]; !ok {
			return nil, fmt.Errorf("wanted value %q is not in the graph", w)
		}
		if g := t.cotangent(w); g != "" {
			grads[w] = g
		} else {
			grads[w] = t.zerosLike(w)
		}
	}
	return grads, nil
}

// dependents returns the values that depend differentiably on any of the given ones, these included. Integers and booleans
// made from them, such as their shapes, do not: what is computed from those alone is a constant here.
func dependents(nodes []*onnx.Node, facts map[string]onnx.Fact, values []string) map[string]bool {
	set := make(map[string]bool, len(values))
	for _, v := range values {
		set[v] = true
	}
	for _, n := range nodes {
		if !slices.ContainsFunc(reads(n), func(v string) bool { return v != "" && set[v] }) {
			continue
		}
		for _, o := range n.Outputs {
			if d := facts[o].DType; d == tensor.Undefined || d.IsFloat() {
				set[o] = true
			}
		}
	}
	return set
}

// reads lists the values a node uses: its inputs, and those that the bodies of a Loop or If take from outside. Names of
// values inside a body are listed too; they differ from all names outside.
func reads(n *onnx.Node) []string {
	names := slices.Clone(n.Inputs)
	for _, a := range n.Attrs {
		if a.Graph == nil {
			continue
		}
		for _, inner := range a.Graph.Nodes {
			names = append(names, reads(inner)...)
		}
		for _, o := range a.Graph.Outputs {
			names = append(names, o.Name)
		}
	}
	return names
}

// visit applies the VJP of one node, when its outputs have cotangents and any of its inputs wants one.
func (t *tape) visit(n *onnx.Node, useful map[string]bool) error {
	if !slices.ContainsFunc(reads(n), func(v string) bool { return v != "" && useful[v] }) {
		return nil
	}
	want := make([]bool, len(n.Inputs))
	for i, in := range n.Inputs {
		want[i] = in != "" && useful[in]
	}
	dys := make([]string, len(n.Outputs))
	seeded := false
	for i, o := range n.Outputs {
		dys[i] = t.cotangent(o)
		seeded = seeded || dys[i] != ""
	}
	if !seeded {
		return nil
	}
	rule, ok := t.rules[n.Op]
	if !ok || n.Domain != "" && n.Domain != "ai.onnx" {
		return unsupported(n, "the operator has no vector-Jacobian product here; freeze the weights before this node, or %s", wayOut(n))
	}
	if err := onnx.CheckArity(n); err != nil {
		return err
	}
	dxs, err := rule(t, call{Node: n, dys: dys, want: want})
	if err != nil {
		return err
	}
	for i, dx := range dxs {
		if dx != "" && want[i] {
			t.cotangents[n.Inputs[i]] = append(t.cotangents[n.Inputs[i]], dx)
		}
	}
	return nil
}

// wayOut is the nearest way to a model without the node.
func wayOut(n *onnx.Node) string {
	switch {
	case n.Domain == "com.microsoft", n.Domain == "com.ms.internal.nhwc":
		return "take the model from before ONNX Runtime optimised it"
	case n.Domain != "" && n.Domain != "ai.onnx":
		return "export the model without the custom operators of domain " + n.Domain
	}
	switch n.Op {
	case "If":
		return "export the model with fixed sizes, which decide its condition"
	case "Loop", "Scan", "SequenceMap":
		return "export the model by tracing, which unrolls it"
	case "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger":
		return "take the model from before it was quantised"
	case "ReduceProd":
		return "write it as the exponential of a sum of logarithms"
	}
	return "export the model with a decomposed form of it"
}

// UnsupportedError says that a node stands between the loss and a wanted value and cannot be differentiated.
type UnsupportedError struct {
	Node, Op, Domain string
	Opset            int64
	Reason           string
}

func (e *UnsupportedError) Error() string {
	op := e.Op
	if e.Domain != "" {
		op = e.Domain + "." + op
	}
	return fmt.Sprintf("cannot differentiate node %q (operator %s, opset %d): %s", e.Node, op, e.Opset, e.Reason)
}

func unsupported(n *onnx.Node, format string, args ...any) error {
	return &UnsupportedError{Node: n.Name, Op: n.Op, Domain: n.Domain, Opset: onnx.Opset, Reason: fmt.Sprintf(format, args...)}
}
