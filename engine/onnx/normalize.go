package onnx

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"scrawl/engine/tensor"
)

// The opsets of the default domain whose differences to Opset Normalize knows.
const (
	minOpset = 7
	maxOpset = 26
)

// Normalize returns a model that computes the same as m with the operators of one opset, [Opset], in few forms; m is not changed,
// but shares its tensors with the result. What is done:
//
//   - what older opsets write as attributes (axes, pads, split, min, max, starts …) becomes inputs, Constant nodes become
//     initializers, and Upsample, Scatter and the older Resize become today's operators;
//   - Softmax and LogSoftmax before opset 13, which flatten their input, get the shape-preserving form;
//   - GroupNormalization, Gelu, Attention, RMSNormalization and Swish, which opset 18 lacks or defines otherwise, are written in terms
//     of simpler operators;
//   - CastLike becomes Cast, and of an If whose condition is a constant only the branch taken stays;
//   - auto_pad and ConvTranspose's output_shape become numbers;
//   - Identity, inference-time Dropout and Casts to a value's own type are removed, save where a graph output hangs on one,
//     and with them all nodes and initializers that no output depends on.
//
// Errors name node, operator and opset. Operators that Normalize does not know pass through: Check reports them.
func Normalize(m *Model) (*Model, error) {
	version := m.Opsets[""]
	if version < minOpset || version > maxOpset {
		return nil, fmt.Errorf("normalize: the model uses opset %d; opsets %d to %d are supported, convert it with onnx.version_converter", version, minOpset, maxOpset)
	}
	g := &Graph{Name: m.Graph.Name, Inputs: m.Graph.Inputs, Outputs: m.Graph.Outputs, Initializers: slices.Clone(m.Graph.Initializers)}
	z := &normalizer{opset: version, rewrites: rewrites(), alias: map[string]string{}, b: NewBuilder(g, freePrefix(m.Graph))}
	if err := z.nodes(m.Graph, g); err != nil {
		return nil, fmt.Errorf("normalize: %w", err)
	}
	bodies, err := z.facts(g)
	if err != nil {
		return nil, fmt.Errorf("normalize: %w", err)
	}
	if err := z.resolve(g, bodies); err != nil {
		return nil, fmt.Errorf("normalize: %w", err)
	}
	prune(g)
	out := &Model{IRVersion: defaultIRVersion, Producer: m.Producer, Metadata: m.Metadata, Graph: g, Opsets: map[string]int64{"": Opset}}
	for _, d := range domains(g) {
		if v, ok := m.Opsets[d]; ok && d != "" {
			out.Opsets[d] = v
		}
	}
	return out, nil
}

// maxExpansions bounds how often facts are inferred anew because nodes have been expanded: an If inside an If takes one more.
const maxExpansions = 16

// facts infers the facts of g and its bodies, expanding nodes until none is left that wants it.
func (z *normalizer) facts(g *Graph) (map[*Graph]map[string]known, error) {
	for round := 0; ; round++ {
		inf := newInference()
		inf.bodies = map[*Graph]map[string]known{}
		if err := inf.graph(g); err != nil {
			return nil, err
		}
		inf.bodies[g] = inf.values
		if round == maxExpansions {
			return inf.bodies, nil
		}
		changed := false
		for inner, facts := range inf.bodies {
			c, err := z.expand(inner, facts)
			if err != nil {
				return nil, err
			}
			changed = changed || c
		}
		if !changed {
			return inf.bodies, nil
		}
	}
}

// freePrefix returns a prefix that no value of g has.
func freePrefix(g *Graph) string {
	names := map[string]bool{}
	collectNames(g, names)
	for k := 1; ; k++ {
		p := fmt.Sprintf("normalized%d/", k)
		taken := false
		for n := range names {
			taken = taken || strings.HasPrefix(n, p)
		}
		if !taken {
			return p
		}
	}
}

func collectNames(g *Graph, names map[string]bool) {
	for _, in := range g.Inputs {
		names[in.Name] = true
	}
	for _, in := range g.Initializers {
		names[in.Name] = true
	}
	for _, n := range g.Nodes {
		for _, o := range n.Outputs {
			names[o] = true
		}
		for _, a := range n.Attrs {
			if a.Graph != nil {
				collectNames(a.Graph, names)
			}
		}
	}
}

// domains lists the operator domains that g's nodes use.
func domains(g *Graph) []string {
	var list []string
	for _, n := range g.Nodes {
		list = append(list, n.Domain)
		for _, a := range n.Attrs {
			if a.Graph != nil {
				list = append(list, domains(a.Graph)...)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// normalizer rewrites one graph; the bodies inside it get one of their own.
type normalizer struct {
	opset    int64
	rewrites map[string]rewrite
	b        *Builder          // appends to the new graph
	alias    map[string]string // values that are gone → what stands for them
	outputs  map[string]bool   // of the graph: names that must stay
	bodies   int
}

// rewrite appends to z.b what replaces n, a copy that it may change.
type rewrite func(z *normalizer, n *Node) error

// nodes fills the new graph g with old's nodes, rewritten.
func (z *normalizer) nodes(old, g *Graph) error {
	z.outputs = map[string]bool{}
	for _, o := range old.Outputs {
		z.outputs[o.Name] = true
	}
	for _, n := range old.Nodes {
		c := &Node{Name: n.Name, Op: n.Op, Domain: n.Domain, Inputs: z.renamed(n.Inputs), Outputs: slices.Clone(n.Outputs), Attrs: maps.Clone(n.Attrs)}
		if c.Attrs == nil {
			c.Attrs = map[string]Attr{}
		}
		if err := z.node(c); err != nil {
			return fmt.Errorf("node %q (%s, opset %d): %w", n.Name, n.Op, z.opset, err)
		}
	}
	for _, o := range g.Outputs { // an output that is a value from outside which has another name now
		if actual, ok := z.alias[o.Name]; ok {
			z.b.Alias(actual, o.Name)
		}
	}
	return nil
}

func (z *normalizer) renamed(names []string) []string {
	out := slices.Clone(names)
	for i, n := range out {
		if actual, ok := z.alias[n]; ok {
			out[i] = actual
		}
	}
	return out
}

func (z *normalizer) node(n *Node) error {
	for _, name := range slices.Sorted(maps.Keys(n.Attrs)) {
		a := n.Attrs[name]
		if a.Graph == nil {
			continue
		}
		body, err := z.body(a.Graph)
		if err != nil {
			return fmt.Errorf("graph %q: %w", name, err)
		}
		a.Graph = body
		n.Attrs[name] = a
	}
	if r, ok := z.rewrites[n.Op]; ok && n.Domain == "" {
		return r(z, n)
	}
	z.emit(n)
	return nil
}

func (z *normalizer) body(old *Graph) (*Graph, error) {
	z.bodies++
	g := &Graph{Name: old.Name, Inputs: old.Inputs, Outputs: old.Outputs, Initializers: slices.Clone(old.Initializers)}
	inner := &normalizer{opset: z.opset, rewrites: z.rewrites, alias: maps.Clone(z.alias), b: z.b.Sub(g, fmt.Sprintf("%sbody%d/", z.b.prefix, z.bodies))}
	return g, inner.nodes(old, g)
}

func (z *normalizer) emit(n *Node) { z.b.Graph.Nodes = append(z.b.Graph.Nodes, n) }

// replace removes the node that makes out, which value stands for from now on.
func (z *normalizer) replace(out, value string) {
	if z.outputs[out] {
		z.b.Alias(value, out)
		return
	}
	z.alias[out] = value
}

// derived names a node made beside n; nodes without names, which need not differ, beget such.
func (n *Node) derived(suffix string) string {
	if n.Name == "" {
		return ""
	}
	return n.Name + suffix
}

// setInput sets the i-th input, with omitted ones before it.
func (n *Node) setInput(i int, name string) {
	for len(n.Inputs) <= i {
		n.Inputs = append(n.Inputs, "")
	}
	n.Inputs[i] = name
}

// moveInts turns an integer-list attribute into the i-th input.
func (z *normalizer) moveInts(n *Node, attr string, i int) {
	a, ok := n.Attrs[attr]
	if !ok || a.Kind != AttrInts {
		return
	}
	n.setInput(i, z.b.Int64s(a.Ints...))
	delete(n.Attrs, attr)
}

// rewrites lists the operators that have more than one form.
func rewrites() map[string]rewrite {
	table := map[string]rewrite{
		"Constant": normConstant, "Identity": normIdentity, "Dropout": normDropout, "Cast": normCast,
		"Squeeze": moveAxes, "Unsqueeze": moveAxes, "Clip": normClip, "Pad": normPad, "Slice": normSlice, "Split": normSplit,
		"TopK": normTopK, "Scatter": normScatter, "Upsample": normUpsample, "Resize": normResize,
		"Softmax": normSoftmax, "LogSoftmax": normSoftmax, "Hardmax": normSoftmax,
		"BatchNormalization": normBatchNormalization, "GroupNormalization": normGroupNormalization, "Gelu": normGelu,
		"AveragePool": normAveragePool, "Swish": normSwish, "SpaceToDepth": normSpaceToDepth,
	}
	for _, op := range []string{
		"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp",
	} {
		table[op] = moveAxes
	}
	return table
}

func normConstant(z *normalizer, n *Node) error {
	t, err := constantValue(n)
	if err != nil {
		return err
	}
	if len(n.Outputs) != 1 {
		return fmt.Errorf("has %d outputs, want 1", len(n.Outputs))
	}
	if z.outputs[n.Outputs[0]] {
		z.b.Alias(z.b.Const(t), n.Outputs[0])
		return nil
	}
	z.b.Graph.Initializers = append(z.b.Graph.Initializers, Initializer{Name: n.Outputs[0], Tensor: t})
	return nil
}

func normIdentity(z *normalizer, n *Node) error {
	if len(n.Inputs) != 1 || len(n.Outputs) != 1 {
		return errors.New("wants one input and one output")
	}
	z.replace(n.Outputs[0], n.Inputs[0])
	return nil
}

func normDropout(z *normalizer, n *Node) error {
	if mode := n.Input(2); mode != "" {
		t := z.constant(mode)
		if t == nil || t.DType() != tensor.Bool || t.Len() != 1 || tensor.Data[bool](t)[0] {
			return errors.New("may run in training mode; export the model in evaluation mode")
		}
	}
	if len(n.Inputs) < 1 || len(n.Outputs) < 1 {
		return errors.New("wants an input and an output")
	}
	if len(n.Outputs) > 1 && n.Outputs[1] != "" {
		shape := z.b.Op("Shape", n.Inputs[:1])
		kept := z.b.Const(tensor.Scalar(z.opset >= 12)) // what ONNX Runtime answers outside training: the mask was empty before
		z.emit(&Node{Name: n.derived("_mask"), Op: "Expand", Inputs: []string{kept, shape}, Outputs: n.Outputs[1:2], Attrs: map[string]Attr{}})
	}
	z.replace(n.Outputs[0], n.Inputs[0])
	return nil
}

// constant returns an initializer of the new graph or of the outermost one, or nil.
func (z *normalizer) constant(name string) *tensor.Tensor {
	if t := z.b.Graph.Initializer(name); t != nil {
		return t
	}
	return z.b.root.Graph.Initializer(name)
}

// normCast drops an attribute of opset 19 that concerns 8-bit floats only.
func normCast(z *normalizer, n *Node) error {
	delete(n.Attrs, "saturate")
	z.emit(n)
	return nil
}

func moveAxes(z *normalizer, n *Node) error {
	z.moveInts(n, "axes", 1)
	z.emit(n)
	return nil
}

// normClip moves the bounds of opset 6 into inputs.
func normClip(z *normalizer, n *Node) error {
	for i, attr := range []string{"min", "max"} {
		if a, ok := n.Attrs[attr]; ok && a.Kind == AttrFloat {
			n.setInput(i+1, z.b.Float(a.Float))
			delete(n.Attrs, attr)
		}
	}
	z.emit(n)
	return nil
}

func normPad(z *normalizer, n *Node) error {
	if n.Str("mode", "constant") == "wrap" {
		return fmt.Errorf("mode \"wrap\" does not exist in opset %d", Opset)
	}
	z.moveInts(n, "pads", 1)
	if a, ok := n.Attrs["value"]; ok && a.Kind == AttrFloat {
		n.setInput(2, z.b.Float(a.Float))
		delete(n.Attrs, "value")
	}
	z.emit(n)
	return nil
}

func normSlice(z *normalizer, n *Node) error {
	for i, attr := range []string{"starts", "ends", "axes"} {
		z.moveInts(n, attr, i+1)
	}
	z.emit(n)
	return nil
}

func normSplit(z *normalizer, n *Node) error {
	z.moveInts(n, "split", 1)
	if n.Input(1) == "" {
		n.Attrs["num_outputs"] = Attr{Kind: AttrInt, Int: int64(len(n.Outputs))}
	}
	z.emit(n)
	return nil
}

func normTopK(z *normalizer, n *Node) error {
	if a, ok := n.Attrs["k"]; ok {
		n.setInput(1, z.b.Int64s(a.Int))
		delete(n.Attrs, "k")
	}
	z.emit(n)
	return nil
}

func normScatter(z *normalizer, n *Node) error {
	n.Op = "ScatterElements"
	z.emit(n)
	return nil
}

// normUpsample writes Upsample as the Resize that https://onnx.ai/onnx/operators/onnx__Upsample.html was replaced by.
func normUpsample(z *normalizer, n *Node) error {
	if a, ok := n.Attrs["scales"]; ok {
		n.setInput(1, z.b.Float32s(a.Floats...))
		delete(n.Attrs, "scales")
	}
	n.Op = "Resize"
	return resizeFromScales(z, n)
}

// resizeFromScales gives Resize-10 and Upsample, whose inputs are X and scales, the form of later opsets with the coordinates they used.
func resizeFromScales(z *normalizer, n *Node) error {
	if len(n.Inputs) != 2 {
		return fmt.Errorf("has %d inputs, want X and scales", len(n.Inputs))
	}
	n.Inputs = []string{n.Inputs[0], "", n.Inputs[1]}
	switch mode := n.Str("mode", "nearest"); mode {
	case "nearest", "linear":
	case "bilinear", "trilinear":
		n.Attrs["mode"] = Attr{Kind: AttrString, String: "linear"}
	default:
		return fmt.Errorf("mode %q is not known", mode)
	}
	n.Attrs["coordinate_transformation_mode"] = Attr{Kind: AttrString, String: "asymmetric"}
	n.Attrs["nearest_mode"] = Attr{Kind: AttrString, String: "floor"}
	z.emit(n)
	return nil
}

func normResize(z *normalizer, n *Node) error {
	if z.opset < 11 {
		return resizeFromScales(z, n)
	}
	for i := 1; i <= 2; i++ { // empty tensors stood for "not given" before inputs could be omitted
		if t := z.constant(n.Input(i)); t != nil && t.Len() == 0 {
			n.Inputs[i] = ""
		}
	}
	switch mode := n.Str("coordinate_transformation_mode", "half_pixel"); mode {
	case "tf_half_pixel_for_nn", "half_pixel_symmetric":
		return fmt.Errorf("coordinate_transformation_mode %q does not exist in opset %d; export with half_pixel or align_corners", mode, Opset)
	case "tf_crop_and_resize":
	default:
		if len(n.Inputs) > 1 {
			n.Inputs[1] = "" // only that mode reads the region of interest
		}
	}
	z.emit(n)
	return nil
}

// normSoftmax keeps the meaning of opset 1 to 12: the input is flattened to a matrix at axis, and rows are normalised.
func normSoftmax(z *normalizer, n *Node) error {
	if z.opset >= 13 {
		z.emit(n)
		return nil
	}
	axis := n.Int("axis", 1)
	n.Attrs["axis"] = Attr{Kind: AttrInt, Int: -1}
	if axis == -1 {
		z.emit(n)
		return nil
	}
	if len(n.Inputs) != 1 || len(n.Outputs) != 1 {
		return errors.New("wants one input and one output")
	}
	shape := z.b.Op("Shape", n.Inputs)
	rows := z.b.Op("Flatten", n.Inputs, WithInt("axis", axis))
	y := n.Outputs[0]
	n.Inputs, n.Outputs = []string{rows}, []string{z.b.Fresh("softmax")}
	z.emit(n)
	z.emit(&Node{Name: n.derived("_shape"), Op: "Reshape", Inputs: []string{n.Outputs[0], shape}, Outputs: []string{y}, Attrs: map[string]Attr{}})
	return nil
}

func normBatchNormalization(z *normalizer, n *Node) error {
	used := slices.ContainsFunc(n.Outputs[min(1, len(n.Outputs)):], func(o string) bool { return o != "" })
	if n.Int("training_mode", 0) != 0 || used {
		return errors.New("is in training mode; export the model in evaluation mode (model.eval())")
	}
	delete(n.Attrs, "training_mode")
	delete(n.Attrs, "spatial")
	n.Outputs = n.Outputs[:1]
	z.emit(n)
	return nil
}

// normAveragePool drops what opset 19 added when it says nothing.
func normAveragePool(z *normalizer, n *Node) error {
	for _, d := range n.Ints("dilations") {
		if d != 1 {
			return fmt.Errorf("dilations %v do not exist in opset %d", n.Ints("dilations"), Opset)
		}
	}
	delete(n.Attrs, "dilations")
	z.emit(n)
	return nil
}

// maxChannels bounds the numbers of groups and heads that are written out, far above those of any network.
const maxChannels = 1 << 16

// normGroupNormalization writes x̂·scale + bias with the normalisation as InstanceNormalization over groups
// (https://onnx.ai/onnx/operators/onnx__GroupNormalization.html). scale and bias are per group in opset 18 and per channel since 21; their
// Reshape to [groups, channels per group or 1, 1 …] serves both.
func normGroupNormalization(z *normalizer, n *Node) error {
	groups := n.Int("num_groups", 0)
	if groups < 1 || groups > maxChannels || len(n.Inputs) != 3 || len(n.Outputs) != 1 {
		return fmt.Errorf("wants num_groups of 1 to %d, three inputs and one output", maxChannels)
	}
	x, b := n.Inputs[0], z.b
	ones, zeros := make([]float32, groups), make([]float32, groups)
	for i := range ones {
		ones[i] = 1
	}
	shape := b.Op("Shape", []string{x})
	// [N, C, …] as [N, groups, everything of the group]
	flat := b.Op("Reshape", []string{x, b.Int64s(0, groups, -1)})
	flat = b.Op("InstanceNormalization", []string{flat, b.Float32s(ones...), b.Float32s(zeros...)}, WithFloat("epsilon", n.Float("epsilon", 1e-5)))
	if z.opset < 21 { // per group: scale where the groups are still an axis
		scale := b.Op("Reshape", []string{n.Inputs[1], b.Int64s(1, groups, 1)})
		bias := b.Op("Reshape", []string{n.Inputs[2], b.Int64s(1, groups, 1)})
		flat = b.Op("Add", []string{b.Op("Mul", []string{flat, scale}), bias})
		z.emit(&Node{Name: n.Name, Op: "Reshape", Inputs: []string{flat, shape}, Outputs: n.Outputs, Attrs: map[string]Attr{}})
		return nil
	}
	normed := b.Op("Reshape", []string{flat, shape})
	perChannel := z.perChannelShape(x)
	scale := b.Op("Reshape", []string{n.Inputs[1], perChannel})
	bias := b.Op("Reshape", []string{n.Inputs[2], perChannel})
	z.emit(&Node{Name: n.Name, Op: "Add", Inputs: []string{b.Op("Mul", []string{normed, scale}), bias}, Outputs: n.Outputs, Attrs: map[string]Attr{}})
	return nil
}

// perChannelShape is [C, 1, …, 1] with as many ones as x [N, C, …] has spatial axes.
func (z *normalizer) perChannelShape(x string) string {
	b := z.b
	spatial := b.Op("Sub", []string{b.Op("Shape", []string{b.Op("Shape", []string{x})}), b.Int64s(2)})
	ones := b.Op("Expand", []string{b.Int64s(1), spatial})
	return b.Op("Concat", []string{b.Int64s(-1), ones}, WithInt("axis", 0))
}

// normGelu writes Gelu by its definition (https://onnx.ai/onnx/operators/onnx__Gelu.html).
func normGelu(z *normalizer, n *Node) error {
	if len(n.Inputs) != 1 || len(n.Outputs) != 1 {
		return errors.New("wants one input and one output")
	}
	const sqrt2, sqrt2OverPi = 1.4142135623730951, 0.7978845608028654
	x, b := n.Inputs[0], z.b
	var phi string
	switch mode := n.Str("approximate", "none"); mode {
	case "none":
		phi = b.Op("Erf", []string{b.Op("Div", []string{x, b.Float(sqrt2)})})
	case "tanh":
		cube := b.Op("Mul", []string{b.Op("Mul", []string{x, x}), x})
		inner := b.Op("Add", []string{x, b.Op("Mul", []string{cube, b.Float(0.044715)})})
		phi = b.Op("Tanh", []string{b.Op("Mul", []string{inner, b.Float(sqrt2OverPi)})})
	default:
		return fmt.Errorf("approximate %q is not known", mode)
	}
	half := b.Op("Mul", []string{x, b.Float(0.5)})
	z.emit(&Node{Name: n.Name, Op: "Mul", Inputs: []string{half, b.Op("Add", []string{phi, b.Float(1)})}, Outputs: n.Outputs, Attrs: map[string]Attr{}})
	return nil
}
