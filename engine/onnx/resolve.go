package onnx

import (
	"fmt"
	"slices"
)

// resolve does what needs shapes and types: auto_pad and output_shape become pads, and Casts that change nothing go. bodies holds
// the facts of g's values and of those of the graphs inside it.
func (z *normalizer) resolve(g *Graph, bodies map[*Graph]map[string]known) error {
	facts := bodies[g]
	gone := map[string]string{}
	outputs := map[string]bool{}
	for _, o := range g.Outputs {
		outputs[o.Name] = true
	}
	g.Nodes = slices.DeleteFunc(g.Nodes, func(n *Node) bool {
		if n.Op != "Cast" || n.Domain != "" || len(n.Inputs) != 1 || len(n.Outputs) != 1 || outputs[n.Outputs[0]] {
			return false
		}
		x := facts[n.Inputs[0]].DType
		if x == 0 || int64(x) != n.Int("to", 0) {
			return false
		}
		gone[n.Outputs[0]] = n.Inputs[0]
		if earlier, ok := gone[n.Inputs[0]]; ok {
			gone[n.Outputs[0]] = earlier
		}
		return true
	})
	renameUses(g, gone)
	for _, n := range g.Nodes {
		if err := resolvePads(n, facts); err != nil {
			return fmt.Errorf("node %q (%s, opset %d): %w", n.Name, n.Op, z.opset, err)
		}
		for _, a := range n.Attrs {
			if a.Graph == nil {
				continue
			}
			if err := z.resolve(a.Graph, bodies); err != nil {
				return err
			}
		}
	}
	return nil
}

// renameUses replaces values that are gone, in bodies too.
func renameUses(g *Graph, gone map[string]string) {
	if len(gone) == 0 {
		return
	}
	for _, n := range g.Nodes {
		for i, in := range n.Inputs {
			if actual, ok := gone[in]; ok {
				n.Inputs[i] = actual
			}
		}
		for _, a := range n.Attrs {
			if a.Graph != nil {
				renameUses(a.Graph, gone)
			}
		}
	}
}

// resolvePads gives a convolution or pooling node explicit pads.
func resolvePads(n *Node, facts map[string]known) error {
	if n.Domain != "" {
		return nil
	}
	switch n.Op {
	case "Conv", "MaxPool", "AveragePool", "LpPool":
		return resolveAutoPad(n, facts)
	case "ConvTranspose":
		return resolveTransposed(n, facts)
	}
	return nil
}

// geometry reads a window for resolving; ok is false when the rank or the kernel is not known.
func geometry(n *Node, facts map[string]known) (x Shape, win []axisWindow, err error) {
	x = facts[n.Input(0)].Shape
	c := &inferCall{Node: n}
	kernel := n.Ints("kernel_shape")
	if kernel == nil {
		kernel = spatialKernel(facts[n.Input(1)].Shape)
	}
	if kernel == nil {
		return nil, nil, fmt.Errorf("the kernel's size is not known while auto_pad is %q; export the model with explicit pads", n.Str("auto_pad", ""))
	}
	if x != nil && len(x) != len(kernel)+2 {
		return nil, nil, fmt.Errorf("input of shape %v does not fit a kernel of %d axes", x, len(kernel))
	}
	win, err = c.windows(len(kernel), kernel)
	return x, win, err
}

func setPads(n *Node, before, after []int64) {
	delete(n.Attrs, "auto_pad")
	n.Attrs["pads"] = Attr{Kind: AttrInts, Ints: slices.Concat(before, after)}
}

// resolveAutoPad follows https://onnx.ai/onnx/operators/onnx__Conv.html: with SAME the output has ⌈input/stride⌉ elements,
// and an odd padding puts the larger half at the end (UPPER) or the beginning (LOWER). With stride 1 the padding
// does not depend on the input's size.
func resolveAutoPad(n *Node, facts map[string]known) error {
	mode := n.Str("auto_pad", "NOTSET")
	if mode == "NOTSET" || mode == "" {
		delete(n.Attrs, "auto_pad")
		return nil
	}
	x, win, err := geometry(n, facts)
	if err != nil {
		return err
	}
	before, after := make([]int64, len(win)), make([]int64, len(win))
	switch mode {
	case "VALID":
		setPads(n, before, after)
		return nil
	case "SAME_UPPER", "SAME_LOWER":
	default:
		return fmt.Errorf("auto_pad %q is not known", mode)
	}
	for i, w := range win {
		total := w.extent() - 1
		if w.stride > 1 {
			if x == nil || !x[i+2].Known() {
				return fmt.Errorf("auto_pad %s with stride %d pads by the input's size, which is not known in shape %v; export the model with explicit pads or a fixed size", mode, w.stride, x)
			}
			out := (x[i+2].Size + w.stride - 1) / w.stride
			total = max(0, (out-1)*w.stride+w.extent()-x[i+2].Size)
		}
		before[i], after[i] = halves(total, mode)
	}
	setPads(n, before, after)
	delete(n.Attrs, "ceil_mode") // the size is given by auto_pad
	return nil
}

// halves splits a padding between the two ends.
func halves(total int64, mode string) (before, after int64) {
	if mode == "SAME_LOWER" {
		return total - total/2, total / 2
	}
	return total / 2, total - total/2
}

// resolveTransposed follows https://onnx.ai/onnx/operators/onnx__ConvTranspose.html.
func resolveTransposed(n *Node, facts map[string]known) error {
	mode, want := n.Str("auto_pad", "NOTSET"), n.Ints("output_shape")
	if (mode == "NOTSET" || mode == "") && want == nil {
		delete(n.Attrs, "auto_pad")
		return nil
	}
	x, win, err := geometry(n, facts)
	if err != nil {
		return err
	}
	before, after := make([]int64, len(win)), make([]int64, len(win))
	extra := slices.Clone(n.Ints("output_padding"))
	if extra == nil {
		extra = make([]int64, len(win))
	}
	if len(extra) != len(win) || want != nil && len(want) < len(win) {
		return fmt.Errorf("output_padding %v and output_shape %v do not fit %d spatial axes", extra, want, len(win))
	}
	for i, w := range win {
		var total int64
		switch {
		case want != nil:
			if x == nil || !x[i+2].Known() {
				return fmt.Errorf("output_shape %v pads by the input's size, which is not known in shape %v; export the model with pads and output_padding", want, x)
			}
			total = (x[i+2].Size-1)*w.stride + extra[i] + w.extent() - want[len(want)-len(win)+i]
		case mode == "VALID":
		default: // SAME: the output has input·stride elements
			total = extra[i] + w.extent() - w.stride
		}
		if total < 0 { // more elements are wanted than the kernel reaches
			extra[i] -= total
			total = 0
		}
		if before[i], after[i] = halves(total, "SAME_LOWER"); mode == "SAME_UPPER" { // LOWER's split is ConvTranspose's own
			before[i], after[i] = halves(total, mode)
		}
	}
	setPads(n, before, after)
	delete(n.Attrs, "output_shape")
	n.Attrs["output_padding"] = Attr{Kind: AttrInts, Ints: extra}
	return nil
}

// prune removes nodes and initializers that no output needs.
func prune(g *Graph) {
	needed := map[string]bool{}
	for _, o := range g.Outputs {
		needed[o.Name] = true
	}
	keep := make([]bool, len(g.Nodes))
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		n := g.Nodes[i]
		if !slices.ContainsFunc(n.Outputs, func(o string) bool { return o != "" && needed[o] }) {
			continue
		}
		keep[i] = true
		for _, in := range n.Inputs {
			needed[in] = true
		}
		for _, a := range n.Attrs {
			if a.Graph != nil {
				prune(a.Graph)
				captured(a.Graph, needed)
			}
		}
	}
	kept := g.Nodes[:0:0]
	for i, n := range g.Nodes {
		if keep[i] {
			kept = append(kept, n)
		}
	}
	g.Nodes = kept
	var initializers []Initializer
	for _, in := range g.Initializers {
		if needed[in.Name] {
			initializers = append(initializers, in)
		}
	}
	g.Initializers = initializers
}

// captured adds the names that a body uses; those of its own values do no harm, names being unique.
func captured(g *Graph, needed map[string]bool) {
	for _, n := range g.Nodes {
		for _, in := range n.Inputs {
			needed[in] = true
		}
		for _, a := range n.Attrs {
			if a.Graph != nil {
				captured(a.Graph, needed)
			}
		}
	}
	for _, o := range g.Outputs {
		needed[o.Name] = true
	}
}
