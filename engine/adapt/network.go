// Package adapt is continual test-time adaptation from scribbles: it takes any ONNX segmentation network, and lets it learn
// from the corrections a user makes while using it.
//
// # The method
//
// Several sets of weights of one network exist side by side. The student is trained by gradient descent on what the user
// just said; averages follow it slowly (θ_T ← αθ_T + (1−α)θ_S, the thesis's equation 3.5) and give the answers; the source,
// the network as it came, is never changed. Two policies use them:
//
//   - [Thesis] is the published method. At every interaction the teacher labels augmented copies of the slice, the pixels
//     it is sure of become a consistency target, the scribbles a second one, and K steps are taken on both.
//   - [Hindsight] suits networks that see the scribbles themselves. Answers to strokes come from the source; when
//     a slice is finished, all the stages of its annotation are learned with the finished mask as target, and the set of
//     weights that did best on earlier slices makes the first mask of the next ones.
//
// # The graphs
//
// All computation is in three ONNX graphs, made from the network's own forward graph and run by ONNX Runtime: predict,
// pseudo (a micro-batch of augmented copies) and step (K steps of gradient descent in an ONNX Loop). Weights are graph
// inputs and outputs: one session serves all users. Height and width are symbolic: one session serves all sizes.
//
// A network whose encoder is a file of its own ([Join]) has a fourth, the encoder, which stays as it came. It is run once for each image,
// and what it answers is kept within a number of bytes: predict and step are then of the decoder alone. Nothing of this shows
// outside: an image stands for its embeddings wherever one is stored or learned from, and embeddings that are no longer in
// memory are made anew. Augmented copies have embeddings of their own, made inside the pseudo graph or before the step.
package adapt

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// Network is a segmentation network prepared for adaptation. It is immutable and may be shared.
type Network struct {
	forward *onnx.Graph // normalised, with the trainable weights still as initializers
	input   string
	output  string
	// Channels is the number of input channels, Classes the number of classes of its answers, at least 2.
	Channels, Classes int
	// Size has an entry for each spatial axis of the images, outermost first: two for slices [H,W], three for volumes
	// [D,H,W]. It is the only size the network takes, or 0 where it takes any.
	Size []int
	// Ending is Softmax or Sigmoid where the file ends with one, which is left out; "" where it ends with logits.
	Ending string
	// multiple, when above 1, is what the graphs may take all free sizes to be multiples of: see [Network.forMultiples].
	multiple int
	// oneByOne tells that the graph takes one image at a time: its batch axis has the size 1 written into it.
	oneByOne bool
	// single tells that the graph has one output channel, the logit of the foreground against background.
	single bool
	params []string
	source Weights
	// parts are the halves of a network that [Join] made; nil for others. given are the embeddings that come from outside where forward is
	// the decoder alone: see [Network.answering].
	parts *parts
	given []onnx.Value
}

// Weights is one set of a network's trainable tensors, in the order of [Network.Params]. Its tensors are never changed once
// made; learning makes new ones.
type Weights []*tensor.Tensor

// Bytes returns the size of the weights in memory.
func (w Weights) Bytes() int {
	n := 0
	for _, t := range w {
		n += t.Bytes()
	}
	return n
}

// Trainable chooses the weights that adaptation may move.
type Trainable struct {
	// Part is chosen first; "" means all.
	Part Part
	// Include and Exclude are patterns of initializer names as in path.Match. An empty Include means all weights of the part.
	Include, Exclude []string
}

// NewNetwork prepares a model whose graph takes one float input [N,C,H,W] and whose first output is logits [N,K,H,W], or,
// for volumes, [N,C,D,H,W] and [N,K,D,H,W]. Sizes that the file fixes are kept only where the graph depends on them.
// Initializers that serve as weights of convolutions, matrix products and normalisations become trainable where the
// choice allows; all others, running statistics among them, stay constants. A Softmax over the classes or a Sigmoid at the end is left out:
// the logits in front of it are what the method works on.
func NewNetwork(m *onnx.Model, choice Trainable) (*Network, error) {
	written := constants(m.Graph)
	norm, err := onnx.Normalize(m)
	if err != nil {
		return nil, fmt.Errorf("normalise the model: %w", err)
	}
	g := norm.Graph
	if err := onnx.Check(g); err != nil {
		return nil, fmt.Errorf("check the model: %w", err)
	}
	if len(g.Inputs) != 1 || len(g.Outputs) < 1 {
		return nil, fmt.Errorf("the network has %d inputs and %d outputs; one image input and at least one output are wanted", len(g.Inputs), len(g.Outputs))
	}
	if err := choice.validate(); err != nil {
		return nil, err
	}
	g.Inputs = slices.Clone(g.Inputs) // its shape is about to be freed, and the caller's model is not ours
	n := &Network{forward: g, input: g.Inputs[0].Name, Ending: takeLogits(g)}
	n.output = g.Outputs[0].Name
	if err := n.readInterface(); err != nil {
		return nil, err
	}
	candidates, err := choice.Part.weights(n, weightInitializers(g, written))
	if err != nil {
		return nil, err
	}
	for _, in := range g.Initializers {
		if candidates[in.Name] && choice.allows(in.Name) {
			n.params = append(n.params, in.Name)
			n.source = append(n.source, in.Tensor)
		}
	}
	if len(n.params) == 0 {
		return nil, fmt.Errorf("the network has no trainable weights: %d candidates, none allowed by the name patterns", len(candidates))
	}
	return n, nil
}

// takeLogits makes the logits the first output of a graph that turns them into probabilities at its end, and returns the operator that did, or "".
func takeLogits(g *onnx.Graph) string {
	makers := map[string]*onnx.Node{}
	for _, n := range g.Nodes {
		for _, o := range n.Outputs {
			makers[o] = n
		}
	}
	last := makers[g.Outputs[0].Name]
	for last != nil && last.Op == "Identity" {
		last = makers[last.Input(0)]
	}
	if last == nil {
		return ""
	}
	axis := last.Int("axis", -1)
	overClasses := axis == 1 || axis == 1-int64(len(g.Inputs[0].Shape))
	if last.Op != "Sigmoid" && (last.Op != "Softmax" || !overClasses) {
		return ""
	}
	g.Outputs = slices.Clone(g.Outputs)
	g.Outputs[0].Name = last.Input(0)
	needed := map[string]bool{}
	for _, o := range g.Outputs {
		needed[o.Name] = true
	}
	var nodes []*onnx.Node
	for _, n := range slices.Backward(g.Nodes) {
		if slices.ContainsFunc(n.Outputs, func(o string) bool { return needed[o] }) {
			nodes = append(nodes, n)
			for v := range uses(n) {
				needed[v] = true
			}
		}
	}
	slices.Reverse(nodes)
	g.Nodes = nodes
	return last.Op
}

func (n *Network) readInterface() error {
	facts, err := n.shapes()
	if err != nil {
		return err
	}
	if d := facts[n.output].DType; d != tensor.Float32 && d != tensor.Undefined {
		return fmt.Errorf("output %q is of type %s; logits in float32 are wanted: leave out what picks classes at the end, such as ArgMax, when the network is exported", n.output, d)
	}
	in, out := facts[n.input].Shape, facts[n.output].Shape
	if len(in) != 4 && len(in) != 5 || !in[1].Known() {
		return fmt.Errorf("input %q has shape %v; [N,C,H,W] or [N,C,D,H,W] with a known number of channels is wanted", n.input, in)
	}
	if len(out) != len(in) || !out[1].Known() {
		return fmt.Errorf("output %q has shape %v for an input of rank %d; logits [N,K,%s] with a known number of classes are wanted", n.output, out, len(in), strings.Join(axisNames(len(in)-2), ","))
	}
	n.forward.Outputs = slices.Clone(n.forward.Outputs)
	n.forward.Outputs[0].Shape = out
	if n.parts, err = n.split(facts); err != nil {
		return err
	}
	n.Channels, n.Classes = int(in[1].Size), int(out[1].Size)
	if n.Classes == 1 {
		n.single, n.Classes = true, 2
	}
	if n.oneByOne = in[0].Known(); n.oneByOne && in[0].Size != 1 {
		return fmt.Errorf("the network takes batches of %d images only; export it with a free batch axis, or for one image", in[0].Size)
	}
	for _, d := range in[2:] {
		n.Size = append(n.Size, int(d.Size))
	}
	return nil
}

// shapes infers the graph's shapes with as many sizes of its input free as the graph allows: exporters write the size of
// their example into the file, also where the network does not depend on it.
func (n *Network) shapes() (map[string]onnx.Fact, error) {
	declared := n.forward.Inputs[0].Shape
	if n.input == joinedInput { // whose axes are free where they can be
		return n.declaredShapes()
	}
	for _, free := range [][2]bool{{true, true}, {true, false}, {false, true}} {
		in := freed(declared, free[0], free[1])
		if slices.Equal(in, declared) {
			continue
		}
		n.forward.Inputs[0].Shape = in
		if facts, err := onnx.Infer(n.forward); err == nil && follows(in, declared, facts[n.output].Shape) {
			return facts, nil
		}
	}
	n.forward.Inputs[0].Shape = declared
	return n.declaredShapes()
}

func (n *Network) declaredShapes() (map[string]onnx.Fact, error) {
	facts, err := onnx.Infer(n.forward)
	if err != nil {
		return nil, fmt.Errorf("shapes of the network: %w", err)
	}
	return facts, nil
}

// freed gives the batch axis, the spatial axes or both symbols where they have numbers.
func freed(s onnx.Shape, batch, spatial bool) onnx.Shape {
	s = slices.Clone(s)
	for i, d := range s {
		if d.Known() && i != 1 && (i == 0 && batch || i > 1 && spatial) {
			s[i] = onnx.Dim{Symbol: fmt.Sprintf("scrawl_axis%d", i)}
		}
	}
	return s
}

// follows reports whether the output's sizes come from the input's where those have been freed.
func follows(in, declared, out onnx.Shape) bool {
	if len(in) != len(out) {
		return false
	}
	for i, d := range in {
		if d != declared[i] && (out[i].Known() || i == 0 && out[i] != d) {
			return false
		}
	}
	return true
}

// multiples are what sizes may be multiples of, in falling order.
var multiples = []int{32, 16, 8}

// forMultiples returns the network for images of the given sizes, innermost last. Where all sizes are multiples of 8, 16 or 32 its graphs
// may rely on that: halving and doubling them then are exact, and gradients need no code for remainders. Few sets of graphs thus serve
// all sizes, and one those of nearly every network in use.
func (n *Network) forMultiples(sizes []int) *Network {
	c := *n
	for _, m := range multiples {
		if !slices.ContainsFunc(sizes, func(s int) bool { return s%m != 0 }) {
			c.multiple = m
			break
		}
	}
	return &c
}

// axisNames are the symbols of the spatial axes in the graphs made here.
func axisNames(dims int) []string { return []string{"D", "H", "W"}[3-dims:] }

// weightPositions lists, for operators with weights, the inputs that are weights.
func weightPositions(n *onnx.Node) []int {
	switch n.Op {
	case "Conv", "ConvTranspose", "Gemm", "BatchNormalization", "InstanceNormalization", "LayerNormalization":
		return []int{1, 2}
	case "PRelu":
		return []int{1}
	case "MatMul", "Mul", "Add":
		return []int{0, 1}
	case "Where":
		return []int{1, 2}
	case "Einsum", "Concat":
		all := make([]int, len(n.Inputs))
		for i := range all {
			all[i] = i
		}
		return all
	}
	return nil
}

// rearranges reports whether an operator hands the elements of its first input on as they are: what it makes of a weight is still that weight.
func rearranges(op string) bool {
	switch op {
	case "Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Slice", "Split", "Gather", "GatherND", "GatherElements":
		return true
	}
	return false
}

// weightInitializers finds the float initializers that nodes use as weights, directly or rearranged: exporters leave the transposition of a linear
// layer's matrix in the graph, or the look-up of a table of position biases.
//
// Not counted are constants that the file writes as nodes, single numbers spread over a shape, and the scale and shift of a normalisation that are 1 and 0
// throughout and have no name of a parameter: exporters make them up for normalisations without an affine map of their own, as inside a GroupNorm.
func weightInitializers(g *onnx.Graph, written map[string]bool) map[string]bool {
	tensors := map[string]*tensor.Tensor{}
	origin := map[string]string{} // value → the initializer whose elements it holds
	for _, in := range g.Initializers {
		if in.Tensor.DType() == tensor.Float32 && !runningStatistic(in.Name) && !written[in.Name] && !strings.HasPrefix(in.Name, frozenPrefix) {
			tensors[in.Name], origin[in.Name] = in.Tensor, in.Name
		}
	}
	found := map[string]bool{}
	for _, n := range g.Nodes {
		if from := origin[n.Input(0)]; from != "" && rearranges(n.Op) {
			for _, o := range n.Outputs {
				origin[o] = from
			}
			continue
		}
		for _, i := range weightPositions(n) {
			from := origin[n.Input(i)]
			t := tensors[from]
			if t == nil || t.Len() < 2 && from != n.Input(i) && n.Op != "PRelu" {
				continue
			}
			if !exportersOwn(n, t) && !withoutAffine(g, n) {
				found[from] = true
			}
		}
	}
	return found
}

// runningStatistic tells by its name that a tensor is not learned by gradient descent.
func runningStatistic(name string) bool {
	return strings.Contains(name, "running_mean") || strings.Contains(name, "running_var") ||
		strings.Contains(name, "moving_mean") || strings.Contains(name, "moving_var")
}

// exportersOwn reports a factor, summand or part that is a constant of the operators and no weight: single numbers, γ and β of group normalisation being
// written as Mul and Add too; masks of attention, which are 0 or very negative; and parts and choices that are all equal, such as padding.
func exportersOwn(n *onnx.Node, t *tensor.Tensor) bool {
	switch n.Op {
	case "Mul":
		return t.Len() < 2
	case "Add":
		hidden := 0
		for _, v := range t.Float32s() {
			if v <= -100 {
				hidden++
			} else if v != 0 {
				return t.Len() < 2
			}
		}
		return t.Len() < 2 || hidden > 0
	case "Concat", "Where":
		return t.Len() < 2 || filledWith(t, t.Float32s()[0])
	}
	return false
}

// constants lists the values that a graph makes by nodes without inputs.
func constants(g *onnx.Graph) map[string]bool {
	names := map[string]bool{}
	for _, n := range g.Nodes {
		if n.Op == "Constant" {
			for _, o := range n.Outputs {
				names[o] = true
			}
		}
	}
	return names
}

// withoutAffine reports a normalisation whose scale and shift are the exporter's. Parameters have a module's name in front of their own.
func withoutAffine(g *onnx.Graph, n *onnx.Node) bool {
	if n.Op != "InstanceNormalization" && n.Op != "LayerNormalization" {
		return false
	}
	named := strings.Contains(n.Input(1), ".") || strings.Contains(n.Input(2), ".")
	return !named && filledWith(g.Initializer(n.Input(1)), 1) && filledWith(g.Initializer(n.Input(2)), 0)
}

// filledWith reports whether all elements of t are v; a tensor that is not there holds none.
func filledWith(t *tensor.Tensor, v float32) bool {
	return t == nil || !slices.ContainsFunc(t.Float32s(), func(x float32) bool { return x != v })
}

func (c Trainable) validate() error {
	for _, p := range slices.Concat(c.Include, c.Exclude) {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("name pattern %q of trainable weights: %w", p, err)
		}
	}
	return nil
}

func (c Trainable) allows(name string) bool {
	match := func(p string) bool { ok, err := path.Match(p, name); return err == nil && ok }
	if len(c.Include) > 0 && !slices.ContainsFunc(c.Include, match) {
		return false
	}
	return !slices.ContainsFunc(c.Exclude, match)
}

// Params returns the names of the trainable initializers, in the order of [Weights].
func (n *Network) Params() []string { return slices.Clone(n.params) }

// Source returns the weights the network came with.
func (n *Network) Source() Weights { return n.source }

// CheckWeights reports whether w fits the network: as many tensors, of the same shapes.
func (n *Network) CheckWeights(w Weights) error {
	if len(w) != len(n.params) {
		return fmt.Errorf("%d weights for a network that has %d", len(w), len(n.params))
	}
	for i, t := range w {
		if !slices.Equal(t.Shape(), n.source[i].Shape()) {
			return fmt.Errorf("weight %q has shape %v, the network's is %v", n.params[i], t.Shape(), n.source[i].Shape())
		}
	}
	return nil
}

// Model returns the forward model with the given weights in place of the source's: the network as a file.
func (n *Network) Model(w Weights) (*onnx.Model, error) {
	if err := n.CheckWeights(w); err != nil {
		return nil, err
	}
	g := *n.forward
	g.Initializers = slices.Clone(g.Initializers)
	for i := range g.Initializers {
		if k := slices.Index(n.params, g.Initializers[i].Name); k >= 0 {
			g.Initializers[i].Tensor = w[k]
		}
	}
	return model(&g), nil
}

func model(g *onnx.Graph) *onnx.Model {
	return &onnx.Model{IRVersion: 9, Producer: "scrawl", Opsets: map[string]int64{"": onnx.Opset}, Graph: g}
}

// rawInput is the name of the input of networks with a standardisation in front.
const rawInput = "scrawl_intensities"

// Standardised returns the model with (x − mean) / std in front of it, one pair of numbers for each channel of its one input
// [N,C,…]: networks are often trained on standardised intensities, while everything here goes by those from 0 to 1. A network that sees the
// image more than once, as those for colour pictures do, may be given it once: with once set the input has one channel, which is shown
// to the network in all of its own. A model that has this in front already, as trained versions of it do, is returned as it is.
func Standardised(m *onnx.Model, mean, std []float32, once bool) (*onnx.Model, error) {
	if len(m.Graph.Inputs) != 1 {
		return nil, fmt.Errorf("standardise the input of a network: it has %d, one is wanted", len(m.Graph.Inputs))
	}
	in := m.Graph.Inputs[0]
	if in.Name == rawInput {
		return m, nil
	}
	if len(in.Shape) < 3 || !in.Shape[1].Known() || int(in.Shape[1].Size) != len(mean) || len(std) != len(mean) {
		return nil, fmt.Errorf("standardise the input %q of shape %v by %d means and %d deviations: one pair a channel is wanted", in.Name, in.Shape, len(mean), len(std))
	}
	shape := []int{1, len(mean)}
	for range in.Shape[2:] {
		shape = append(shape, 1)
	}
	g := &onnx.Graph{Name: m.Graph.Name, Outputs: m.Graph.Outputs, Initializers: slices.Clone(m.Graph.Initializers), Summaries: m.Graph.Summaries}
	raw := in
	raw.Name = rawInput
	b := onnx.NewBuilder(g, "standard_")
	seen := raw.Name
	if once {
		raw.Shape = slices.Clone(in.Shape)
		raw.Shape[1] = onnx.Dim{Size: 1}
		repeated := make([]string, len(mean))
		for i := range repeated {
			repeated[i] = raw.Name
		}
		seen = b.Op("Concat", repeated, onnx.WithInt("axis", 1))
	}
	g.Inputs = []onnx.Value{raw}
	centred := b.Op("Sub", []string{seen, b.Const(tensor.Must(shape, mean))})
	scaled := b.Op("Div", []string{centred, b.Const(tensor.Must(shape, std))})
	b.Alias(scaled, in.Name)
	g.Nodes = append(g.Nodes, m.Graph.Nodes...)
	out := *m
	out.Graph = g
	return &out, nil
}

// Single reports whether the network has one output channel, the logit of the object against the background.
func (n *Network) Single() bool { return n.single }
