package lower

import (
	"fmt"
	"maps"
	"slices"

	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
)

// CUDA returns a model that computes what m does, in fewer and larger nodes, for a GPU: there a node costs ten microseconds before it
// computes anything, and a matrix product wants to be large. m is left as it is; inputs and outputs stay the same.
//
// What is rewritten is the gradient of a two-dimensional convolution's weight. With x padded and unfolded, u[n, (c,k), q] = P(x)[n, c, s·q + d·k],
// it is a single product,
//
//	dw[o, (c,k)] = Σ_n Σ_q dy[n,o,q] · u[n,(c,k),q],
//
// and unfolding is a single Gather, whose indices depend on sizes alone: they are computed once, outside of a Loop, where the sizes follow
// from those of the model's inputs. The unfolded image is as many times larger than the image as the kernel has taps, which is why this is not
// for volumes.
func CUDA(m *onnx.Model) (*onnx.Model, error) {
	bodies, err := onnx.InferBodies(m.Graph)
	if err != nil {
		return nil, fmt.Errorf("lower for CUDA: %w", err)
	}
	g := &onnx.Graph{Name: m.Graph.Name, Inputs: m.Graph.Inputs, Outputs: m.Graph.Outputs, Initializers: slices.Clone(m.Graph.Initializers)}
	u := &unfolder{root: onnx.NewBuilder(g, "cuda/"), inputs: m.Graph.Inputs, bodies: bodies, shared: map[string]string{}}
	nodes := u.nodes(m.Graph)
	g.Nodes = append(g.Nodes, nodes...) // after the indices, which were put there on the way
	dropUnused(g)
	return &onnx.Model{IRVersion: m.IRVersion, Producer: m.Producer, Opsets: m.Opsets, Metadata: m.Metadata, Graph: g}, nil
}

// unfolder rewrites a model's graphs.
type unfolder struct {
	root   *onnx.Builder // of the main graph
	inputs []onnx.Value
	bodies map[*onnx.Graph]map[string]onnx.Fact
	shared map[string]string // values at the root, by what they are
	graphs int
}

// nodes returns the nodes of a graph, rewritten.
func (u *unfolder) nodes(from *onnx.Graph) []*onnx.Node {
	gradients := map[string]*onnx.Node{}
	for _, n := range from.Summaries {
		if n.Op == autodiff.ConvWeightGradient {
			gradients[n.Outputs[0]] = n
		}
	}
	to := &onnx.Graph{}
	u.graphs++
	p := &unfolding{unfolder: u, b: u.root.Sub(to, fmt.Sprintf("cuda/%d/", u.graphs)), facts: u.bodies[from], indices: map[string]string{}}
	for _, n := range from.Nodes {
		switch {
		case len(n.Outputs) == 1 && gradients[n.Outputs[0]] != nil && p.weightGradient(gradients[n.Outputs[0]]):
		case n.Op == "Loop" && n.Domain == "" && u.bodies[n.Attrs["body"].Graph] != nil:
			to.Nodes = append(to.Nodes, u.loop(n))
		case n.Domain != "" || !p.mend(n):
			to.Nodes = append(to.Nodes, n)
		}
	}
	return to.Nodes
}

func (u *unfolder) loop(n *onnx.Node) *onnx.Node {
	from := n.Attrs["body"].Graph
	body := &onnx.Graph{Name: from.Name, Inputs: from.Inputs, Outputs: from.Outputs, Initializers: from.Initializers}
	body.Nodes = needed(u.nodes(from), body.Outputs)
	c := &onnx.Node{Name: n.Name, Op: n.Op, Inputs: n.Inputs, Outputs: n.Outputs, Attrs: maps.Clone(n.Attrs)}
	c.Attrs["body"] = onnx.Attr{Kind: onnx.AttrGraph, Graph: body}
	return c
}

// rootSize is a size as an int64 scalar computed from the shapes of the main graph's inputs; ok is false where it does not follow from
// them by a whole factor.
func (u *unfolder) rootSize(d onnx.Dim) (size string, ok bool) {
	if d.Known() {
		return u.root.Int64(d.Size), true
	}
	for _, in := range u.inputs {
		for axis, have := range in.Shape {
			if have.Known() {
				continue
			}
			of := func() string {
				return u.root.Op("Gather", []string{u.root.Op("Shape", []string{in.Name}), u.root.Int64(int64(axis))})
			}
			if k, ok := onnx.Multiple(have, d); ok {
				return u.root.Op("Div", []string{of(), u.root.Int64(k)}), true
			}
			if k, ok := onnx.Multiple(d, have); ok {
				return u.root.Op("Mul", []string{of(), u.root.Int64(k)}), true
			}
		}
	}
	return "", false
}

// unfolding rewrites one graph.
type unfolding struct {
	*unfolder
	b       *onnx.Builder
	facts   map[string]onnx.Fact
	indices map[string]string // those that cannot be made at the root, by geometry and sizes
}

func (p *unfolding) op(op string, inputs ...string) string { return p.b.Op(op, inputs) }

func (p *unfolding) reshape(v string, sizes ...int64) string {
	return p.op("Reshape", v, p.b.Int64s(sizes...))
}

// weightGradient appends dw for a summary node; false where it has no such form.
func (p *unfolding) weightGradient(n *onnx.Node) bool {
	dy, x, w := n.Inputs[0], n.Inputs[1], p.facts[n.Inputs[2]].Shape
	kernel, pads, group := n.Ints("kernel_shape"), n.Ints("pads"), n.Int("group", 1)
	batch := p.facts[dy].Shape
	if len(kernel) != 2 || len(batch) != 4 || len(p.facts[x].Shape) != 4 || len(w) != 4 || !w[0].Known() || !w[1].Known() {
		return false
	}
	out, in, taps := w[0].Size, w[1].Size, kernel[0]*kernel[1]
	if slices.Max(pads) > 0 {
		x = p.op("Pad", x, p.b.Int64s(0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]))
	}
	u := p.b.Op("Gather", []string{p.reshape(x, 0, in*group, -1), p.index(n)}, onnx.WithInt("axis", 2))
	u = p.b.Op("Transpose", []string{p.reshape(u, 0, group, in*taps, -1)}, onnx.WithInts("perm", 0, 1, 3, 2))
	dw := p.op("MatMul", p.reshape(dy, 0, group, out/group, -1), u) // [N, g, O/g, C/g·k]
	if batch[0] != (onnx.Dim{Size: 1}) {
		dw = p.b.Op("ReduceSum", []string{dw, p.b.Int64s(0)}, onnx.WithInt("keepdims", 0))
	}
	name := n.Outputs[0]
	p.b.Graph.Nodes = append(p.b.Graph.Nodes, &onnx.Node{Name: name, Op: "Reshape", Inputs: []string{dw, p.b.Int64s(out, in, kernel[0], kernel[1])}, Outputs: []string{name}, Attrs: map[string]onnx.Attr{}})
	return true
}

// mend appends a form of a node that the provider computes rightly; false where n is one.
func (p *unfolding) mend(n *onnx.Node) bool {
	switch n.Op {
	case "LayerNormalization":
		return p.fullScale(n)
	case "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum":
		return p.reduceNothing(n)
	}
	return false
}

// fullScale gives a LayerNormalization its scale and bias in the shape of what is normalised.
func (p *unfolding) fullScale(n *onnx.Node) bool {
	x := p.facts[n.Inputs[0]].Shape
	axis := int(n.Int("axis", -1))
	if axis < 0 {
		axis += len(x)
	}
	if x == nil || axis < 0 || axis >= len(x) {
		return false
	}
	c := *n
	c.Inputs = slices.Clone(n.Inputs)
	for i, v := range c.Inputs[1:] {
		if v != "" && !slices.Equal(p.facts[v].Shape, x[axis:]) {
			shape := p.op("Slice", p.op("Shape", n.Inputs[0]), p.b.Int64s(int64(axis)), p.b.Int64s(int64(len(x))))
			c.Inputs[1+i] = p.op("Expand", v, shape)
		}
	}
	if slices.Equal(c.Inputs, n.Inputs) {
		return false
	}
	p.b.Graph.Nodes = append(p.b.Graph.Nodes, &c)
	return true
}

// reduceNothing computes a reduction over no axis element by element.
func (p *unfolding) reduceNothing(n *onnx.Node) bool {
	if n.Int("noop_with_empty_axes", 0) == 0 || len(n.Inputs) > 1 && n.Inputs[1] != "" {
		return false
	}
	c := &onnx.Node{Name: n.Name, Inputs: n.Inputs[:1], Outputs: n.Outputs, Attrs: map[string]onnx.Attr{}}
	switch n.Op {
	case "ReduceSumSquare":
		c.Op, c.Inputs = "Mul", []string{n.Inputs[0], n.Inputs[0]}
	case "ReduceLogSum":
		c.Op = "Log"
	default:
		c.Op = "Abs"
	}
	p.b.Graph.Nodes = append(p.b.Graph.Nodes, c)
	return true
}

// index holds, for each tap and each element of dy, the place in a flattened padded plane of x that they multiply: int64 [k·q].
func (p *unfolding) index(n *onnx.Node) string {
	dy, x := p.facts[n.Inputs[0]].Shape, p.facts[n.Inputs[1]].Shape
	key := fmt.Sprint(n.Ints("kernel_shape"), n.Ints("strides"), n.Ints("dilations"), n.Ints("pads"), dy[2:], x[3])
	for _, made := range []map[string]string{p.shared, p.indices} {
		if made[key] != "" {
			return made[key]
		}
	}
	at, made, sizes := p.root, p.shared, make([]string, 3)
	for i, d := range []onnx.Dim{dy[2], dy[3], x[3]} {
		var rooted bool
		if sizes[i], rooted = p.rootSize(d); !rooted {
			at, made = p.b, p.indices
		}
	}
	if at == p.b {
		size := func(v string, axis int64) string { return p.op("Gather", p.op("Shape", v), p.b.Int64(axis)) }
		sizes = []string{size(n.Inputs[0], 2), size(n.Inputs[0], 3), size(n.Inputs[1], 3)}
	}
	made[key] = gradientPlaces(at, n, sizes[0], sizes[1], sizes[2])
	return made[key]
}

// gradientPlaces appends what computes [unfolding.index] from the size of dy and the width of x.
func gradientPlaces(b *onnx.Builder, n *onnx.Node, height, width, rowOfX string) string {
	kernel, stride, dilation, pads := n.Ints("kernel_shape"), n.Ints("strides"), n.Ints("dilations"), n.Ints("pads")
	op := func(op string, inputs ...string) string { return b.Op(op, inputs) }
	along := func(axis int, size string) string { // [k,1,q,1] or [1,k,1,q]
		q := op("Mul", op("Range", b.Int64(0), size, b.Int64(1)), b.Int64(stride[axis]))
		taps := make([]int64, kernel[axis])
		for i := range taps {
			taps[i] = int64(i) * dilation[axis]
		}
		shapes := [][2][]int64{{{-1, 1, 1, 1}, {1, 1, -1, 1}}, {{1, -1, 1, 1}, {1, 1, 1, -1}}}[axis]
		return op("Add", op("Reshape", b.Int64s(taps...), b.Int64s(shapes[0]...)), op("Reshape", q, b.Int64s(shapes[1]...)))
	}
	row := op("Add", rowOfX, b.Int64(pads[1]+pads[3]))
	return op("Reshape", op("Add", op("Mul", along(0, height), row), along(1, width)), b.Int64s(-1))
}
