// Package lower rewrites finished ONNX graphs into forms that one execution provider computes faster. The graph that comes
// in, of standard operators only, runs everywhere; it stays the fall-back, and in tests the judge of what comes out.
//
// # The CPU
//
// ONNX Runtime's CPU provider has fast convolution kernels for images in a blocked layout, NCHWc: channels in blocks of
// B = 8 or 16, [N, C/B, H, W, B]. Its own optimiser uses them only where weights are constants, which those of a network that
// learns are not. [CPU] puts the same kernels (domain com.microsoft.nchwc) into the graph by hand:
//
//   - Activations stay blocked from convolution to convolution: element-wise operators, pooling, enlargement and concatenation work on
//     them as they are. Where an operator wants the plain layout, a reordering is inserted, once per value.
//
//   - Weights are carried through a training Loop in the kernels' own layout and converted only when they enter and leave it.
//
//   - The gradient of a convolution's input is a convolution with turned kernels.
//
//   - The gradient of a convolution's weight is a convolution too: each channel of one operand is an image, the other operand,
//     blocked, serves as the filter, as it lies in memory. It is taken in bands of rows that fit a core's cache.
//
//   - The gradient of a group normalisation is two depthwise convolutions.
//
// Which operand is the filter and how large the bands are is what was the fastest where it has been measured on this machine, in the
// background by [Compiler.Measure] or on request by [Tune], and follows a rule until then.
//
// Groups of gradient nodes are recognised by the summaries that package autodiff leaves in the graph.
//
// # CUDA
//
// Graphs for a GPU are rewritten by [CUDA], in standard operators: the weights of a Loop stay on the device for all its steps, and what is left
// to save is nodes, since most of them take less time to compute than to start. [Half] is an option for answers. On an H200 with ONNX Runtime
// 1.31 one interaction of the published method (a U-Net of 10 million parameters on a ResNet-34, 512², 16 augmented copies, 5 steps, the
// answer) takes 0.26 s in float32 and 0.19 s with TF32 (BenchmarkOnCUDA of package adapt).
//
// # Trust
//
// The blocked domain is internal to ONNX Runtime, and a wrong block size gives wrong numbers without an error. [Probe] therefore finds the
// block size by comparing with the plain operators on random data, and nothing is lowered where none agrees.
package lower

import (
	"fmt"
	"maps"
	"slices"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// Target is what a CPU's kernels want.
type Target struct {
	// Block is the number of channels in a block; 0 when the blocked kernels cannot be used.
	Block int64
	// Forms are the measured ways to compute gradients of weights; what is not in it is computed as the package thinks best.
	Forms Forms

	met *cases // what is told of each geometry, where somebody measures
}

// Domains of ONNX Runtime's own operators.
const (
	blockedDomain   = "com.microsoft.nchwc"
	microsoftDomain = "com.microsoft"
)

// CPU returns a model that computes what m does, for ONNX Runtime's CPU provider with the given target. m is left as it is.
// Inputs and outputs stay the same; sums are taken in another order, so results agree to float32's accuracy, not bit for bit.
func CPU(m *onnx.Model, t Target) (*onnx.Model, error) {
	if t.Block < 4 || t.Block%4 != 0 {
		return nil, fmt.Errorf("lower for the CPU: block size %d is not a multiple of 4", t.Block)
	}
	bodies, err := onnx.InferBodies(m.Graph)
	if err != nil {
		return nil, fmt.Errorf("lower for the CPU: %w", err)
	}
	g := &onnx.Graph{Name: m.Graph.Name, Inputs: m.Graph.Inputs, Outputs: m.Graph.Outputs, Initializers: slices.Clone(m.Graph.Initializers)}
	s := newScope(t, m.Graph, onnx.NewBuilder(g, "lowered/"), bodies, nil)
	s.typical = typicalSizes(m.Graph)
	s.nodes()
	for _, o := range g.Outputs {
		s.plain(o.Name)
	}
	dropUnused(g)
	opsets := maps.Clone(m.Opsets)
	opsets[blockedDomain], opsets[microsoftDomain] = 1, 1
	return &onnx.Model{IRVersion: m.IRVersion, Producer: m.Producer, Opsets: opsets, Metadata: m.Metadata, Graph: g}, nil
}

// form is a layout of a value in memory.
type form int

const (
	blocked form = iota // an image [N,C,H,W] as [N, C/B, H, W, B]
	kernel              // a convolution's weight [O,C,h,w] as the blocked kernels read it: see kernels.go
)

// scope is the state of rewriting one graph: the main one, or the body of a Loop.
type scope struct {
	Target
	from   *onnx.Graph
	list   []*onnx.Node // from's nodes with summaries in place
	b      *onnx.Builder
	outer  *scope
	bodies map[*onnx.Graph]map[string]onnx.Fact
	facts  map[string]onnx.Fact

	// plainly holds the values that exist in the plain layout, under their own names; others the names in the other layouts.
	plainly map[string]bool
	others  [2]map[string]string
	makers  map[string]*onnx.Node   // by value, of the standard graph
	known   map[string]string       // results of nodes taken over as they are, by operator and inputs
	users   map[string][]*onnx.Node // by value, one entry for each use; nil for uses outside the list of nodes
	done    map[*onnx.Node]bool     // nodes computed as part of another one
	sizes   map[string]string       // run-time sizes already computed
	typical map[string]int64        // of the inputs' symbols
}

func newScope(t Target, from *onnx.Graph, b *onnx.Builder, bodies map[*onnx.Graph]map[string]onnx.Fact, outer *scope) *scope {
	s := &scope{Target: t, from: from, b: b, outer: outer, bodies: bodies, facts: bodies[from], plainly: map[string]bool{},
		others: [2]map[string]string{{}, {}}, users: map[string][]*onnx.Node{}, done: map[*onnx.Node]bool{}, sizes: map[string]string{}, makers: map[string]*onnx.Node{}, known: map[string]string{}}
	if outer != nil {
		s.typical = outer.typical
	}
	for _, in := range from.Initializers {
		s.plainly[in.Name] = true
	}
	for _, in := range from.Inputs {
		s.plainly[in.Name] = true
	}
	for _, n := range from.Nodes {
		for _, o := range n.Outputs {
			s.makers[o] = n
		}
	}
	s.list = needed(s.summarized(), from.Outputs)
	for _, n := range s.list {
		for _, v := range reads(n) {
			s.users[v] = append(s.users[v], n)
		}
	}
	for _, o := range from.Outputs {
		s.users[o.Name] = append(s.users[o.Name], nil)
	}
	return s
}

// summarized puts the summaries that can be lowered in the place of the nodes that make their values.
func (s *scope) summarized() []*onnx.Node {
	summaries := map[string]*onnx.Node{}
	for _, n := range s.from.Summaries {
		if s.canLower(n) {
			summaries[n.Outputs[0]] = n
		}
	}
	list := slices.Clone(s.from.Nodes)
	for i, n := range list {
		if len(n.Outputs) == 1 && summaries[n.Outputs[0]] != nil {
			list[i] = summaries[n.Outputs[0]]
		}
	}
	return list
}

// reads lists the values a node uses, those that bodies inside it take from outside included.
func reads(n *onnx.Node) []string {
	var names []string
	for _, in := range n.Inputs {
		if in != "" {
			names = append(names, in)
		}
	}
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

// needed leaves out nodes that nothing depends on.
func needed(nodes []*onnx.Node, outputs []onnx.Value) []*onnx.Node {
	want := map[string]bool{}
	for _, o := range outputs {
		want[o.Name] = true
	}
	var kept []*onnx.Node
	for i := len(nodes) - 1; i >= 0; i-- {
		n := nodes[i]
		if !slices.ContainsFunc(n.Outputs, func(o string) bool { return want[o] }) {
			continue
		}
		for _, v := range reads(n) {
			want[v] = true
		}
		kept = append(kept, n)
	}
	slices.Reverse(kept)
	return kept
}

// dropUnused leaves out nodes and initializers that nothing depends on.
func dropUnused(g *onnx.Graph) {
	g.Nodes = needed(g.Nodes, g.Outputs)
	used := map[string]bool{}
	for _, n := range g.Nodes {
		for _, v := range reads(n) {
			used[v] = true
		}
	}
	for _, o := range g.Outputs {
		used[o.Name] = true
	}
	g.Initializers = slices.DeleteFunc(g.Initializers, func(in onnx.Initializer) bool { return !used[in.Name] })
}

// nodes rewrites all nodes of the graph.
func (s *scope) nodes() {
	for _, n := range s.list {
		if !s.done[n] && !s.node(n) {
			s.keep(n)
		}
	}
}

// node rewrites one node, if it has a faster form.
func (s *scope) node(n *onnx.Node) bool {
	switch n.Domain {
	case onnx.SummaryDomain:
		s.gradient(n)
		return true
	case "", "ai.onnx":
	default:
		return false
	}
	switch n.Op {
	case "Conv":
		return s.conv(n)
	case "MaxPool", "AveragePool":
		return s.pool(n)
	case "Resize":
		return s.resize(n)
	case "Concat":
		return s.concat(n)
	case "Split":
		return s.split(n)
	case "Pad":
		return s.pad(n)
	case "ReduceSum":
		return s.channelSums(n)
	case "Softmax", "LogSoftmax":
		return s.softmax(n)
	case "Shape":
		return s.shapeNode(n)
	case "Loop":
		return s.loop(n)
	}
	return s.elementwise(n)
}

// keep takes a node over as it is.
func (s *scope) keep(n *onnx.Node) {
	for _, v := range reads(n) {
		s.plain(v)
	}
	s.b.Graph.Nodes = append(s.b.Graph.Nodes, n)
	for _, o := range n.Outputs {
		s.plainly[o] = true
	}
	if key := reusable(n); key != "" {
		s.known[key] = n.Outputs[0]
	}
}

// reusable names what a node computes, for those nodes whose results gradients want a second time.
func reusable(n *onnx.Node) string {
	if n.Domain != "" || n.Op != "Mul" && n.Op != "ReduceSum" || len(n.Outputs) != 1 {
		return ""
	}
	return fmt.Sprint(n.Op, n.Int("keepdims", 1), n.Inputs)
}

// shared appends a node on plain values, unless the graph has it already.
func (s *scope) shared(op string, inputs []string, opts ...onnx.AttrOption) string {
	n := &onnx.Node{Op: op, Inputs: inputs, Attrs: map[string]onnx.Attr{}}
	for _, o := range opts {
		o(n)
	}
	n.Outputs = []string{""}
	key := reusable(n)
	if s.known[key] == "" {
		s.known[key] = s.b.Op(op, inputs, opts...)
	}
	return s.known[key]
}

// emit appends a node whose single output has the given name.
func (s *scope) emit(name, op string, inputs []string, opts ...onnx.AttrOption) {
	n := &onnx.Node{Name: name, Op: op, Inputs: inputs, Outputs: []string{name}, Attrs: map[string]onnx.Attr{}}
	for _, o := range opts {
		o(n)
	}
	s.b.Graph.Nodes = append(s.b.Graph.Nodes, n)
}

func (s *scope) op(op string, inputs ...string) string { return s.b.Op(op, inputs) }

func (s *scope) reshape(v string, sizes ...int64) string {
	return s.op("Reshape", v, s.b.Int64s(sizes...))
}

func (s *scope) transpose(v string, perm ...int64) string {
	return s.b.Op("Transpose", []string{v}, onnx.WithInts("perm", perm...))
}

// gather picks entries of an axis by constant indices.
func (s *scope) gather(v string, axis int64, indices []int64) string {
	return s.b.Op("Gather", []string{v, s.b.Int64s(indices...)}, onnx.WithInt("axis", axis))
}

// inBlockedDomain names a blocked kernel.
func inBlockedDomain() onnx.AttrOption { return onnx.WithDomain(blockedDomain) }

// made reports whether a value exists already, in any layout.
func (s *scope) made(v string) bool {
	_, a := s.others[blocked][v]
	_, b := s.others[kernel][v]
	return a || b || s.plainly[v] || s.outer != nil && s.outer.made(v)
}

// has reports whether a value exists in a layout other than the plain one.
func (s *scope) has(f form, v string) bool { return s.others[f][v] != "" }

// isPlain reports whether a value exists in the plain layout.
func (s *scope) isPlain(v string) bool {
	return s.plainly[v] || !s.has(blocked, v) && !s.has(kernel, v)
}

// plain makes sure that a value exists in the plain layout, and returns its name.
func (s *scope) plain(v string) string {
	if s.plainly[v] || v == "" {
		return v
	}
	switch {
	case s.has(blocked, v):
		s.emit(v, "ReorderOutput", []string{s.others[blocked][v]}, inBlockedDomain(), onnx.WithInt("channels", s.shape(v)[1].Size))
	case s.has(kernel, v):
		s.fromKernel(v)
	case s.outer != nil:
		return s.outer.plain(v)
	default:
		return v
	}
	s.plainly[v] = true
	return v
}

// blocked returns a value's name in the blocked layout.
func (s *scope) blocked(v string) string {
	if !s.has(blocked, v) {
		s.others[blocked][v] = s.b.Op("ReorderInput", []string{s.plain(v)}, inBlockedDomain())
	}
	return s.others[blocked][v]
}

func (s *scope) shape(v string) onnx.Shape { return s.facts[v].Shape }

// fixed returns the sizes of a value when all are known.
func (s *scope) fixed(v string) ([]int64, bool) {
	shape := s.shape(v)
	if shape == nil {
		return nil, false
	}
	sizes := make([]int64, len(shape))
	for i, d := range shape {
		if !d.Known() {
			return nil, false
		}
		sizes[i] = d.Size
	}
	return sizes, true
}

// constant returns the content of an initializer of this graph or of one around it.
func (s *scope) constant(v string) *tensor.Tensor {
	for at := s; at != nil; at = at.outer {
		if t := at.from.Initializer(v); t != nil {
			return t
		}
	}
	return nil
}

// image reports whether a value is an image [N,C,H,W] whose channels fill whole blocks.
func (s *scope) image(v string) bool {
	f := s.facts[v]
	return (f.DType == tensor.Float32 || f.DType == tensor.Bool) && len(f.Shape) == 4 && f.Shape[1].Known() && f.Shape[1].Size > 0 && f.Shape[1].Size%s.Block == 0
}

// dim is the size of an axis of an image, as an int64 vector of one element.
func (s *scope) dim(v string, axis int) string {
	d := s.shape(v)[axis]
	if d.Known() {
		return s.b.Int64s(d.Size)
	}
	return s.once("dim "+d.Symbol, func() string {
		name := s.others[blocked][v] // has the shape of the plain value
		if name == "" {
			name = s.plain(v)
		}
		return s.op("Gather", s.op("Shape", name), s.b.Int64s(int64(axis)))
	})
}

// shapeNode asks for a shape in whatever layout the value exists: all have the plain value's.
func (s *scope) shapeNode(n *onnx.Node) bool {
	for f := range s.others {
		if name := s.others[f][n.Inputs[0]]; name != "" && !s.plainly[n.Inputs[0]] {
			c := *n
			c.Inputs = []string{name}
			s.b.Graph.Nodes = append(s.b.Graph.Nodes, &c)
			s.plainly[n.Outputs[0]] = true
			return true
		}
	}
	return false
}

// once computes a size that may be wanted many times.
func (s *scope) once(key string, compute func() string) string {
	if s.sizes[key] == "" {
		s.sizes[key] = compute()
	}
	return s.sizes[key]
}
