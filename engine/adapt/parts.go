package adapt

import (
	"fmt"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// Part is a choice of weights by what they do in the network.
type Part string

// The parts. A decoder is what follows the coarsest features; normalisation means the scales and shifts of normalisations.
const (
	PartAll           Part = "all"
	PartDecoder       Part = "decoder"
	PartNormalisation Part = "normalisation"
)

// weights are the initializers of the part, out of the candidates. A part that the network does not have is an error that says what to
// choose instead.
func (p Part) weights(n *Network, candidates map[string]bool) (map[string]bool, error) {
	var chosen map[string]bool
	var err error
	switch p {
	case "", PartAll:
		return candidates, nil
	case PartNormalisation:
		chosen = normalisationWeights(n.forward)
	case PartDecoder:
		if n.parts != nil {
			return candidates, nil
		}
		chosen, err = n.decoderWeights()
	default:
		return nil, fmt.Errorf("part %q of the weights: %s, %s or %s is wanted", p, PartAll, PartDecoder, PartNormalisation)
	}
	if err != nil {
		return nil, err
	}
	for name := range chosen {
		if !candidates[name] {
			delete(chosen, name)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("the network has no trainable weights that belong to its %s; choose %s, or weights by patterns of their names", p, PartAll)
	}
	return chosen, nil
}

// normalisationWeights finds scales and shifts: inputs of the normalising operators, and the factors and summands that follow a
// normalisation which exporters wrote out, such as GroupNorm over reshaped groups or LayerNorm by means.
func normalisationWeights(g *onnx.Graph) map[string]bool {
	isWeight := map[string]bool{}
	for _, in := range g.Initializers {
		isWeight[in.Name] = in.Tensor.DType() == tensor.Float32
	}
	found, normalised, rooted := map[string]bool{}, map[string]bool{}, map[string]bool{}
	origin := map[string]string{}
	weightAt := func(value string) string {
		if from, ok := origin[value]; ok {
			return from
		}
		if isWeight[value] {
			return value
		}
		return ""
	}
	for _, n := range g.Nodes {
		out := n.Outputs[0]
		if from := weightAt(n.Input(0)); from != "" && rearranges(n.Op) {
			origin[out] = from
			continue
		}
		switch n.Op {
		case "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization":
			for _, i := range []int{1, 2} {
				if w := weightAt(n.Input(i)); w != "" && !withoutAffine(g, n) {
					found[w] = true
				}
			}
			normalised[out] = true
		case "Conv":
			// One factor and summand a channel may be written as a convolution of single pixels.
			if w := n.Input(1); normalised[n.Input(0)] && isWeight[w] && eachChannelAlone(g.Initializer(w)) {
				found[w] = true
				if isWeight[n.Input(2)] {
					found[n.Input(2)] = true
				}
			}
		case "Sqrt":
			rooted[out] = true
		case "Reciprocal":
			rooted[out] = rooted[n.Input(0)]
		case "Div":
			normalised[out] = rooted[n.Input(1)]
		case "Mul", "Add":
			for i, j := range []int{1, 0} {
				if w := weightAt(n.Input(j)); w != "" && normalised[n.Input(i)] {
					found[w] = true
					normalised[out] = n.Op == "Mul" // the shift ends it
				}
			}
			if n.Op == "Mul" && (rooted[n.Input(0)] || rooted[n.Input(1)]) {
				normalised[out] = true // divided by the deviation as a product with its reciprocal
			}
		default:
			normalised[out] = normalised[n.Input(0)] && rearranges(n.Op)
		}
	}
	return found
}

// eachChannelAlone reports a kernel [C,1,1,…] of single pixels.
func eachChannelAlone(kernel *tensor.Tensor) bool {
	s := kernel.Shape()
	return len(s) > 2 && kernel.Len() == s[0]
}

// exampleSize is the size that a network's free spatial axes are given to see which features are coarse.
var exampleSize = map[int]int64{2: 256, 3: 64}

// decoderWeights finds the weights of all nodes that depend on the coarsest features: the last values of the fewest pixels, of those
// that have any extent at all.
func (n *Network) decoderWeights() (map[string]bool, error) {
	g := *n.forward
	g.Inputs = []onnx.Value{g.Inputs[0]}
	dims := len(n.Size)
	shape := append(onnx.Shape{}, g.Inputs[0].Shape...)
	shape[0] = onnx.Dim{Size: 1}
	for i, s := range n.Size {
		shape[2+i] = onnx.Dim{Size: int64(s)}
		if s == 0 {
			shape[2+i] = onnx.Dim{Size: exampleSize[dims]}
		}
	}
	g.Inputs[0].Shape = shape
	facts, err := onnx.Infer(&g)
	if err != nil {
		return nil, fmt.Errorf("find the decoder: %w", err)
	}
	coarsest, least := -1, int64(0)
	for i, node := range g.Nodes {
		if area, ok := coarseness(facts[node.Outputs[0]].Shape, dims); ok && (coarsest < 0 || area <= least) {
			coarsest, least = i, area
		}
	}
	if full, _ := coarseness(shape, dims); coarsest < 0 || least == full {
		return nil, fmt.Errorf("the network has no decoder: its features are never coarser than the image; choose %s, or weights by patterns of their names", PartAll)
	}
	return dependents(&g, coarsest), nil
}

// coarseness is the number of pixels of a map of features [N,C,…]; not ok for anything else, and for features of the whole image.
func coarseness(s onnx.Shape, dims int) (int64, bool) {
	if len(s) != 2+dims {
		return 0, false
	}
	area := int64(1)
	for _, d := range s[2:] {
		if !d.Known() || d.Size < 2 {
			return 0, false
		}
		area *= d.Size
	}
	return area, true
}

// dependents are the initializers that nodes use which depend on a node's outputs.
func dependents(g *onnx.Graph, node int) map[string]bool {
	isInitializer := map[string]bool{}
	for _, in := range g.Initializers {
		isInitializer[in.Name] = true
	}
	depends, from, found := map[string]bool{}, map[string]string{}, map[string]bool{}
	for _, o := range g.Nodes[node].Outputs {
		depends[o] = true
	}
	for _, n := range g.Nodes[node+1:] {
		if in := n.Input(0); rearranges(n.Op) && (isInitializer[in] || from[in] != "") {
			for _, o := range n.Outputs {
				if from[o] = in; from[in] != "" {
					from[o] = from[in]
				}
			}
			continue
		}
		used := false
		for _, in := range n.Inputs {
			used = used || depends[in]
		}
		if !used {
			continue
		}
		for _, o := range n.Outputs {
			depends[o] = true
		}
		for _, in := range n.Inputs {
			switch {
			case isInitializer[in]:
				found[in] = true
			case from[in] != "":
				found[from[in]] = true
			}
		}
	}
	return found
}
