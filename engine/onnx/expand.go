package onnx

import (
	"errors"
	"fmt"
	"slices"

	"scrawl/engine/tensor"
)

// expand replaces nodes whose simpler form depends on types and constants of their inputs: CastLike, Pad, Attention, and If where its
// condition is a constant, of which only the branch taken stays. It reports whether anything changed; facts are then out of date.
func (z *normalizer) expand(g *Graph, facts map[string]known) (bool, error) {
	names := map[string]bool{}
	collectNames(g, names)
	old, changed := g.Nodes, false
	b := *z.b
	b.Graph = &Graph{}
	gone := map[string]string{}
	outputs := map[string]bool{}
	for _, o := range g.Outputs {
		outputs[o.Name] = true
	}
	for _, n := range old {
		replaced := false
		var err error
		switch {
		case n.Domain != "":
		case n.Op == "Pad":
			padAllAxes(&b, n, facts)
		case n.Op == "CastLike":
			changed = castOf(n, facts) || changed
		case n.Op == "Attention":
			replaced, err = true, expandAttention(&b, n, facts)
		case n.Op == "If":
			replaced = takenBranch(&b, n, facts, names, outputs, gone, g)
		}
		if err != nil {
			return false, fmt.Errorf("node %q (%s, opset %d): %w", n.Name, n.Op, z.opset, err)
		}
		if !replaced {
			b.Graph.Nodes = append(b.Graph.Nodes, n)
		}
		changed = changed || replaced
	}
	z.b.next = b.next
	g.Nodes = b.Graph.Nodes
	renameUses(g, gone)
	return changed, nil
}

// castOf turns CastLike into a Cast when the type it aims at is known.
func castOf(n *Node, facts map[string]known) bool {
	to := facts[n.Input(1)].DType
	if to == 0 || len(n.Inputs) != 2 {
		return false
	}
	n.Op, n.Inputs = "Cast", n.Inputs[:1]
	n.Attrs = map[string]Attr{"to": {Kind: AttrInt, Int: int64(to)}}
	return true
}

// padAllAxes gives Pad amounts for all axes instead of the input that names some: ONNX Runtime 1.32 and earlier move a Transpose through Pad
// as if it had no such input.
func padAllAxes(b *Builder, n *Node, facts map[string]known) {
	c := &inferCall{Node: n, in: []known{facts[n.Input(0)], facts[n.Input(1)], {}, facts[n.Input(3)]}}
	axes, given, ok := c.axes("", 3)
	amounts, constant := c.ints(1)
	rank := len(c.in[0].Shape)
	if !given || !ok || !constant || c.in[0].Shape == nil || len(amounts) != 2*len(axes) {
		return
	}
	all := make([]int64, 2*rank)
	for i, a := range axes {
		if a < 0 {
			a += int64(rank)
		}
		if a < 0 || a >= int64(rank) {
			return
		}
		all[a], all[int64(rank)+a] = amounts[i], amounts[len(axes)+i]
	}
	n.Inputs = slices.Clone(n.Inputs[:3])
	n.Inputs[1] = b.Int64s(all...)
}

// takenBranch puts the nodes of the branch that an If with a constant condition takes in its place.
func takenBranch(b *Builder, n *Node, facts map[string]known, names, outputs map[string]bool, gone map[string]string, g *Graph) bool {
	condition := facts[n.Input(0)].elems
	if len(condition) != 1 {
		return false
	}
	v, ok := condition[0].constant()
	if !ok {
		return false
	}
	branch, other := n.Attrs["then_branch"].Graph, n.Attrs["else_branch"].Graph
	if v == 0 {
		branch, other = other, branch
	}
	if branch == nil || other == nil || len(branch.Outputs) != len(n.Outputs) || clashes(branch, other, names, n) {
		return false
	}
	g.Initializers = append(g.Initializers, branch.Initializers...)
	b.Graph.Nodes = append(b.Graph.Nodes, branch.Nodes...)
	for i, o := range n.Outputs {
		value := branch.Outputs[i].Name
		if earlier, ok := gone[value]; ok {
			value = earlier
		}
		if outputs[o] {
			b.Alias(value, o)
		} else if o != "" {
			gone[o] = value
		}
	}
	return true
}

// clashes reports a value of the branch whose name some other value of the model has too, so that it cannot leave its scope.
func clashes(branch, other *Graph, names map[string]bool, n *Node) bool {
	inner, rest := map[string]bool{}, map[string]bool{}
	collectNames(branch, inner)
	collectNames(other, rest)
	count := 0
	for name := range inner {
		if rest[name] || slices.Contains(n.Outputs, name) {
			return true
		}
		if names[name] {
			count++
		}
	}
	return count != len(inner)
}

// expandAttention writes scaled dot-product attention, as transformers have it, by its definition
// (https://onnx.ai/onnx/operators/onnx__Attention.html): softmax(scale·Q·Kᵀ + mask)·V. Caches of keys and values, and groups of
// query heads that share one, are for the generation of text.
func expandAttention(b *Builder, n *Node, facts map[string]known) error {
	for i := 3; i < len(n.Inputs); i++ {
		if i > 3 && n.Inputs[i] != "" {
			return errors.New("reads a cache of keys and values; segmentation networks have none, export the model without it")
		}
	}
	for i := 1; i < len(n.Outputs); i++ {
		if n.Outputs[i] != "" {
			return errors.New("has more outputs than the attended values; export the model without a cache")
		}
	}
	if len(n.Inputs) < 3 || len(n.Outputs) < 1 {
		return errors.New("wants queries, keys, values and one output")
	}
	q, k, v := n.Inputs[0], n.Inputs[1], n.Inputs[2]
	heads := n.Int("q_num_heads", 0)
	if kv := n.Int("kv_num_heads", heads); kv != heads {
		return fmt.Errorf("has %d heads of queries and %d of keys; as many of both are supported", heads, kv)
	}
	if heads > 0 { // [B, L, heads·E] → [B, heads, L, E]
		split := func(x string) string {
			return b.Op("Transpose", []string{b.Op("Reshape", []string{x, b.Int64s(0, 0, heads, -1)})}, WithInts("perm", 0, 2, 1, 3))
		}
		q, k, v = split(q), split(k), split(v)
	}
	scale := attentionScale(b, n, q)
	scores := b.Op("Mul", []string{b.Op("MatMul", []string{q, b.Op("Transpose", []string{k}, WithInts("perm", 0, 1, 3, 2))}), scale})
	if limit := n.Float("softcap", 0); limit != 0 {
		scores = b.Op("Mul", []string{b.Op("Tanh", []string{b.Op("Div", []string{scores, b.Float(limit)})}), b.Float(limit)})
	}
	const masked = -1e30 // not infinite: a row without any key would have no softmax
	if mask := n.Input(3); mask != "" {
		switch d := facts[mask].DType; {
		case d.IsFloat():
			scores = b.Op("Add", []string{scores, mask})
		case d == 0:
			return fmt.Errorf("the type of the mask %q is not known", mask)
		default:
			scores = b.Op("Where", []string{mask, scores, b.Float(masked)})
		}
	}
	if n.Int("is_causal", 0) != 0 {
		ones := b.Op("Expand", []string{b.Float(1), b.Op("Shape", []string{scores})})
		earlier := b.Op("Equal", []string{b.Op("Trilu", []string{ones}, WithInt("upper", 0)), b.Float(1)})
		scores = b.Op("Where", []string{earlier, scores, b.Float(masked)})
	}
	y := b.Op("MatMul", []string{b.Op("Softmax", []string{scores}, WithInt("axis", -1)), v})
	if heads > 0 {
		y = b.Op("Reshape", []string{b.Op("Transpose", []string{y}, WithInts("perm", 0, 2, 1, 3)), b.Int64s(0, 0, -1)})
	}
	b.Alias(y, n.Outputs[0])
	return nil
}

// attentionScale is the factor of the scores, 1/√E where the node names none.
func attentionScale(b *Builder, n *Node, q string) string {
	if a, ok := n.Attrs["scale"]; ok && a.Kind == AttrFloat {
		return b.Float(a.Float)
	}
	size := b.Op("Gather", []string{b.Op("Shape", []string{q}), b.Int64(3)})
	return b.Op("Reciprocal", []string{b.Op("Sqrt", []string{b.Op("Cast", []string{size}, WithInt("to", int64(tensor.Float32)))})})
}

// normSwish writes Swish, which opset 24 added, as x·sigmoid(α·x).
func normSwish(z *normalizer, n *Node) error {
	if len(n.Inputs) != 1 || len(n.Outputs) != 1 {
		return errors.New("wants one input and one output")
	}
	x := n.Inputs[0]
	scaled := x
	if alpha := n.Float("alpha", 1); alpha != 1 {
		scaled = z.b.Op("Mul", []string{x, z.b.Float(alpha)})
	}
	z.emit(&Node{Name: n.Name, Op: "Mul", Inputs: []string{x, z.b.Op("Sigmoid", []string{scaled})}, Outputs: n.Outputs, Attrs: map[string]Attr{}})
	return nil
}

// normRMSNormalization writes RMSNormalization, which opset 23 added, by its definition: x/√(mean(x²) + ε)·scale over the axes from axis on.
func normRMSNormalization(z *normalizer, n *Node) error {
	if len(n.Inputs) != 2 || len(n.Outputs) != 1 {
		return errors.New("wants two inputs and one output")
	}
	axis := n.Int("axis", -1)
	if axis >= 0 {
		return fmt.Errorf("axis %d is counted from the front; count it from the back", axis)
	}
	var axes []int64
	for ; axis < 0; axis++ {
		axes = append(axes, axis)
	}
	b, x := z.b, n.Inputs[0]
	mean := b.Op("ReduceMean", []string{b.Op("Mul", []string{x, x}), b.Int64s(axes...)}, WithInt("keepdims", 1))
	rms := b.Op("Sqrt", []string{b.Op("Add", []string{mean, b.Float(n.Float("epsilon", 1e-5))})})
	z.emit(&Node{Name: n.Name, Op: "Mul", Inputs: []string{b.Op("Div", []string{x, rms}), n.Inputs[1]}, Outputs: n.Outputs, Attrs: map[string]Attr{}})
	return nil
}
