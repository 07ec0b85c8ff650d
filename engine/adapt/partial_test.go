package adapt_test

import (
	"slices"
	"strings"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/train"
)

// TestOnlyTheNeededBackward counts the nodes of gradient graphs: of frozen weights no gradient is computed, nothing is carried back past the first
// weight that moves, and what is frozen stays a constant of the graph.
func TestOnlyTheNeededBackward(t *testing.T) {
	m, err := train.UNet(train.UNetShape{Input: 1, Channels: []int{4, 8, 12}, Groups: 2, Classes: 2}, 3)
	if err != nil {
		t.Fatal(err)
	}
	count := func(choice adapt.Trainable) (backward, weights, products int) {
		n := network(t, m, choice)
		g, err := n.GradientGraph(1)
		if err != nil {
			t.Fatal(err)
		}
		if err := onnx.Check(g.Graph); err != nil {
			t.Fatal(err)
		}
		for _, in := range g.Graph.Initializers {
			if slices.Contains(n.Params(), in.Name) {
				t.Errorf("%+v: %s moves, and is a constant", choice, in.Name)
			}
		}
		for _, in := range g.Graph.Inputs {
			if m.Graph.Initializer(in.Name) != nil && !slices.Contains(n.Params(), in.Name) {
				t.Errorf("%+v: %s is frozen, and is an input", choice, in.Name)
			}
		}
		needed := reachable(g.Graph)
		for _, node := range g.Graph.Nodes {
			if !strings.HasPrefix(node.Name, "scrawl/") {
				continue
			}
			if !needed[node] {
				t.Errorf("%+v: node %s (%s) serves no gradient", choice, node.Name, node.Op)
			}
			backward++
			if node.Op == "MatMul" {
				products++
			}
		}
		return backward, len(n.Params()), products
	}
	all, allWeights, allProducts := count(adapt.Trainable{})
	decoder, _, decoderProducts := count(adapt.Trainable{Include: []string{"up*", "head*"}})
	norms, normWeights, normProducts := count(adapt.Trainable{Include: []string{"*.scale", "*.shift"}})
	head, headWeights, headProducts := count(adapt.Trainable{Include: []string{"head.*"}})
	t.Logf("nodes beyond the forward graph: all %d, decoder %d, normalisation %d, head %d", all, decoder, norms, head)
	// The decoder has two of five blocks; the head is one product and one sum after the losses' few nodes.
	if head >= 60 || head >= decoder/3 || decoder >= all*6/10 || norms >= all {
		t.Errorf("nodes beyond the forward graph: all %d, decoder %d, normalisation %d, head %d", all, decoder, norms, head)
	}
	// A 3×3 convolution's weight gradient is one product; group normalisation has none.
	if allWeights != 32 || normWeights != 20 || headWeights != 2 || headProducts != 1 || decoderProducts >= allProducts || normProducts >= allProducts {
		t.Errorf("weights %d, %d, %d; products %d, %d, %d, %d", allWeights, normWeights, headWeights, allProducts, decoderProducts, normProducts, headProducts)
	}
}

// reachable are the nodes that the graph's outputs depend on.
func reachable(g *onnx.Graph) map[*onnx.Node]bool {
	makers := map[string]*onnx.Node{}
	for _, n := range g.Nodes {
		for _, o := range n.Outputs {
			makers[o] = n
		}
	}
	seen := map[*onnx.Node]bool{}
	var visit func(value string)
	visit = func(value string) {
		n := makers[value]
		if n == nil || seen[n] {
			return
		}
		seen[n] = true
		for _, in := range n.Inputs {
			visit(in)
		}
	}
	for _, o := range g.Outputs {
		visit(o.Name)
	}
	return seen
}
