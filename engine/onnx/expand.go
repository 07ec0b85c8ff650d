package onnx

import (
	"errors"
	"fmt"
	"slices"
	"strings"

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
		case n.Op == "Einsum":
			changed = spellEllipsis(n, facts) || changed
		case n.Op == "ReduceMax" || n.Op == "ReduceMin":
			replaced = expandBoolean(&b, n, facts)
		case n.Op == "RMSNormalization":
			replaced, err = true, expandRMSNormalization(&b, n, facts)
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
// (https://onnx.ai/onnx/operators/onnx__Attention.html): softmax(scale·Q·Kᵀ + mask)·V. Caches of keys and values are for the generation of text.
func expandAttention(b *Builder, n *Node, facts map[string]known) error {
	for i := 4; i < len(n.Inputs); i++ {
		if n.Inputs[i] != "" {
			return errors.New("reads a cache of keys and values; segmentation networks have none, export the model without it")
		}
	}
	for i := 1; i < len(n.Outputs); i++ {
		if n.Outputs[i] != "" {
			return errors.New("has more outputs than the attended values; export the model without a cache")
		}
	}
	for name := range n.Attrs {
		switch name {
		case "q_num_heads", "kv_num_heads", "scale", "softcap", "is_causal", "softmax_precision", "qk_matmul_output_mode":
		default:
			return fmt.Errorf("has the attribute %q, which is not supported; export the model with opset 20", name)
		}
	}
	if len(n.Inputs) < 3 || len(n.Outputs) < 1 {
		return errors.New("wants queries, keys, values and one output")
	}
	q, k, v := n.Inputs[0], n.Inputs[1], n.Inputs[2]
	heads, shared := n.Int("q_num_heads", 0), n.Int("kv_num_heads", 0)
	if heads > 0 { // [B, L, heads·E] → [B, heads, L, E]
		split := func(x string, heads int64) string {
			return b.Op("Transpose", []string{b.Op("Reshape", []string{x, b.Int64s(0, 0, heads, -1)})}, WithInts("perm", 0, 2, 1, 3))
		}
		q, k, v = split(q, heads), split(k, shared), split(v, shared)
	} else if sq, sk := facts[q].Shape, facts[k].Shape; len(sq) == 4 && len(sk) == 4 {
		heads, shared = sq[1].Size, sk[1].Size
	}
	if heads != shared { // each head of keys serves a group of query heads
		if shared < 1 || heads%shared != 0 || heads > maxChannels {
			return fmt.Errorf("has %d heads of queries and %d of keys; a multiple is wanted", heads, shared)
		}
		owners := make([]int64, heads)
		for i := range owners {
			owners[i] = int64(i) / (heads / shared)
		}
		k = b.Op("Gather", []string{k, b.Int64s(owners...)}, WithInt("axis", 1))
		v = b.Op("Gather", []string{v, b.Int64s(owners...)}, WithInt("axis", 1))
	}
	scale := attentionScale(b, n, q)
	scores := b.Op("Mul", []string{b.Op("MatMul", []string{q, b.Op("Transpose", []string{k}, WithInts("perm", 0, 1, 3, 2))}), scale})
	if limit := n.Float("softcap", 0); limit != 0 {
		scores = b.Op("Mul", []string{b.Op("Tanh", []string{b.Op("Div", []string{scores, b.Float(limit)})}), b.Float(limit)})
	}
	p, err := attentionSoftmax(b, n, scores, facts)
	if err != nil {
		return err
	}
	y := b.Op("MatMul", []string{p, v})
	if n.Int("q_num_heads", 0) > 0 {
		y = b.Op("Reshape", []string{b.Op("Transpose", []string{y}, WithInts("perm", 0, 2, 1, 3)), b.Int64s(0, 0, -1)})
	}
	b.Alias(y, n.Outputs[0])
	return nil
}

// attentionSoftmax is the softmax of the scores, masked. A row of truth values that admits no key gives zeros.
func attentionSoftmax(b *Builder, n *Node, scores string, facts map[string]known) (string, error) {
	var admitted []string // truth values
	if mask := n.Input(3); mask != "" {
		switch d := facts[mask].DType; {
		case d.IsFloat():
			scores = b.Op("Add", []string{scores, mask})
		case d == tensor.Bool:
			admitted = append(admitted, mask)
		default:
			return "", fmt.Errorf("the mask %q is of type %v; truth values or floats are wanted", mask, d)
		}
	}
	if n.Int("is_causal", 0) != 0 {
		ones := b.Op("Expand", []string{b.Float(1), b.Op("Shape", []string{scores})})
		admitted = append(admitted, b.Op("Equal", []string{b.Op("Trilu", []string{ones}, WithInt("upper", 0)), b.Float(1)}))
	}
	for _, a := range admitted {
		scores = b.Op("Where", []string{a, scores, b.Float(-1e30)}) // not infinite: a row without any key would have no softmax
	}
	p := b.Op("Softmax", []string{scores}, WithInt("axis", -1))
	for _, a := range admitted {
		p = b.Op("Mul", []string{p, b.Op("Cast", []string{a}, WithInt("to", int64(tensor.Float32)))})
	}
	return p, nil
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

// normSpaceToDepth drops the attribute that opset 28 added when it says nothing.
func normSpaceToDepth(z *normalizer, n *Node) error {
	if mode := n.Str("mode", "DCR"); mode != "DCR" {
		return fmt.Errorf("mode %q does not exist in opset %d", mode, Opset)
	}
	delete(n.Attrs, "mode")
	z.emit(n)
	return nil
}

// expandRMSNormalization writes RMSNormalization, which opset 23 added, by its definition: x/√(mean(x²) + ε)·scale over the axes from axis on.
func expandRMSNormalization(b *Builder, n *Node, facts map[string]known) error {
	if len(n.Inputs) != 2 || len(n.Outputs) != 1 {
		return errors.New("wants two inputs and one output")
	}
	x := n.Inputs[0]
	c := &inferCall{Node: n}
	rank := len(facts[x].Shape)
	if facts[x].Shape == nil {
		return fmt.Errorf("the rank of %q is not known", x)
	}
	first, err := c.axis(n.Int("axis", -1), rank)
	if err != nil {
		return err
	}
	var axes []int64
	for ; first < rank; first++ {
		axes = append(axes, int64(first))
	}
	mean := b.Op("ReduceMean", []string{b.Op("Mul", []string{x, x}), b.Int64s(axes...)}, WithInt("keepdims", 1))
	rms := b.Op("Sqrt", []string{b.Op("Add", []string{mean, b.Float(n.Float("epsilon", 1e-5))})})
	b.Alias(b.Op("Mul", []string{b.Op("Div", []string{x, rms}), n.Inputs[1]}), n.Outputs[0])
	return nil
}

// expandBoolean writes a maximum or minimum of truth values, which opset 20 allowed, with numbers.
func expandBoolean(b *Builder, n *Node, facts map[string]known) bool {
	if facts[n.Input(0)].DType != tensor.Bool {
		return false
	}
	c := *n
	c.Inputs = slices.Clone(n.Inputs)
	c.Inputs[0] = b.Op("Cast", n.Inputs[:1], WithInt("to", int64(tensor.Float32)))
	c.Outputs = []string{b.Fresh(n.Op)}
	b.Graph.Nodes = append(b.Graph.Nodes, &c)
	b.Graph.Nodes = append(b.Graph.Nodes, &Node{Name: n.derived("_bool"), Op: "Greater", Inputs: []string{c.Outputs[0], b.Float(0.5)}, Outputs: n.Outputs, Attrs: map[string]Attr{}})
	return true
}

// spellEllipsis writes the axes that an Einsum's "..." stands for as letters, when ranks tell how many they are.
func spellEllipsis(n *Node, facts map[string]known) bool {
	equation := strings.ReplaceAll(n.Str("equation", ""), " ", "")
	left, right, explicit := strings.Cut(equation, "->")
	terms := strings.Split(left, ",")
	if !strings.Contains(equation, "...") || !explicit || len(terms) != len(n.Inputs) {
		return false
	}
	axes := 0
	for i, term := range terms {
		shape := facts[n.Inputs[i]].Shape
		if shape == nil {
			return false
		}
		if strings.Contains(term, "...") {
			axes = max(axes, len(shape)-len(term)+3)
		}
	}
	letters := ""
	for c := 'A'; c <= 'Z' && len(letters) < axes; c++ {
		if !strings.ContainsRune(equation, c) {
			letters += string(c)
		}
	}
	if len(letters) < axes {
		return false
	}
	for i, term := range terms {
		own := len(facts[n.Inputs[i]].Shape) - len(term) + 3
		if own < 0 {
			return false
		}
		if strings.Contains(term, "...") {
			terms[i] = strings.Replace(term, "...", letters[axes-own:], 1)
		}
	}
	right = strings.Replace(right, "...", letters, 1)
	n.Attrs["equation"] = Attr{Kind: AttrString, String: strings.Join(terms, ",") + "->" + right}
	return true
}
