package adapt

import (
	"fmt"
	"slices"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// Group names a part of a network's weights, for training that shall move that part alone.
type Group string

// GroupAll is every weight. GroupDecoder is what comes after the network first enlarges its features: the encoder, which is the
// larger part of most networks and what they know of images, stays. GroupNormalization is the scale and shift of normalisations, the
// smallest set that adapts well (Wang et al., "Tent", 2021).
const (
	GroupAll           Group = "all"
	GroupDecoder       Group = "decoder"
	GroupNormalization Group = "normalization"
)

// Group lists the trainable weights of a group, in the order of [Network.Params]. It is an error when the network has none.
func (n *Network) Group(g Group) ([]string, error) {
	var members map[string]bool
	switch g {
	case GroupAll:
		return n.Params(), nil
	case GroupDecoder:
		if n.parts != nil {
			return n.Params(), nil
		}
		members = n.decoder()
	case GroupNormalization:
		members = n.normalizations()
	default:
		return nil, fmt.Errorf("group %q of weights: %s, %s or %s is wanted", g, GroupAll, GroupDecoder, GroupNormalization)
	}
	names := slices.DeleteFunc(n.Params(), func(p string) bool { return !members[p] })
	if len(names) == 0 {
		return nil, fmt.Errorf("the network has no trainable weights in the group %q; name them by patterns", g)
	}
	return names, nil
}

// Match lists the trainable weights whose names fit one of the patterns of path.Match. It is an error when none does.
func (n *Network) Match(patterns ...string) ([]string, error) {
	choice := Trainable{Include: patterns}
	if err := choice.validate(); err != nil {
		return nil, err
	}
	names := slices.DeleteFunc(n.Params(), func(p string) bool { return !choice.allows(p) })
	if len(patterns) == 0 || len(names) == 0 {
		return nil, fmt.Errorf("no trainable weight is called %q; the first of %d is called %q", patterns, len(n.params), n.params[0])
	}
	return names, nil
}

// Restrict returns the same network with fewer trainable weights; the others stay what they are.
func (n *Network) Restrict(params []string) (*Network, error) {
	r := *n
	r.params, r.source = nil, nil
	for i, p := range n.params {
		if slices.Contains(params, p) {
			r.params, r.source = append(r.params, p), append(r.source, n.source[i])
		}
	}
	if len(r.params) == 0 || len(r.params) != len(params) {
		return nil, fmt.Errorf("%d of the %d weights named are trainable; all of at least one are wanted", len(r.params), len(params))
	}
	return &r, nil
}

// decoder finds the weights of nodes that come after an operator that enlarges, and of such operators.
func (n *Network) decoder() map[string]bool {
	after, members := map[string]bool{}, map[string]bool{}
	for _, node := range n.forward.Nodes { // in topological order
		late := slices.ContainsFunc(node.Inputs, func(v string) bool { return after[v] })
		switch node.Op {
		case "Resize", "ConvTranspose", "DepthToSpace":
			late = true
		}
		if !late {
			continue
		}
		for _, v := range node.Outputs {
			after[v] = true
		}
		for _, v := range node.Inputs {
			members[v] = true
		}
	}
	return members
}

// normalizations finds scales and shifts: those of the operators themselves, and those that exporters write after them as
// products and sums with one number a channel, or as a 1×1 convolution of each channel alone.
func (n *Network) normalizations() map[string]bool {
	normalized, members := map[string]bool{}, map[string]bool{}
	for _, node := range n.forward.Nodes {
		follows := slices.ContainsFunc(node.Inputs, func(v string) bool { return normalized[v] })
		switch node.Op {
		case "BatchNormalization", "InstanceNormalization", "LayerNormalization":
			members[node.Input(1)], members[node.Input(2)] = true, true
			normalized[node.Outputs[0]] = true
		case "Reshape", "Transpose":
			normalized[node.Outputs[0]] = normalized[node.Input(0)]
		case "Mul", "Add":
			for _, v := range node.Inputs {
				if follows && perChannel(n.forward.Initializer(v)) {
					members[v] = true
					normalized[node.Outputs[0]] = true
				}
			}
		case "Conv":
			if follows && channelwise(n.forward, node) {
				members[node.Input(1)], members[node.Input(2)] = true, true
			}
		}
	}
	delete(members, "")
	return members
}

// perChannel reports a tensor of one number a channel.
func perChannel(t *tensor.Tensor) bool {
	if t == nil {
		return false
	}
	return !slices.ContainsFunc(t.Shape(), func(d int) bool { return d != 1 && d != t.Len() })
}

// channelwise reports a 1×1 convolution of each channel alone.
func channelwise(g *onnx.Graph, conv *onnx.Node) bool {
	w := g.Initializer(conv.Input(1))
	return w != nil && w.Len() == w.Shape()[0] && conv.Int("group", 1) == int64(w.Len())
}
