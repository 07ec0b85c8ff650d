package lower

import (
	"maps"
	"slices"

	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// pointwise are the operators that treat every element alike, so that they work on any layout.
var pointwise = map[string]bool{
	"Identity": true, "Cast": true, "Relu": true, "LeakyRelu": true, "Elu": true, "Selu": true, "Celu": true, "Sigmoid": true, "HardSigmoid": true, "HardSwish": true,
	"Tanh": true, "Erf": true, "Exp": true, "Log": true, "Sqrt": true, "Neg": true, "Abs": true, "Sign": true, "Reciprocal": true, "Softplus": true, "Clip": true,
	"Not": true, "Add": true, "Sub": true, "Mul": true, "Div": true, "Pow": true, "Min": true, "Max": true, "Sum": true, "Where": true,
	"Equal": true, "Greater": true, "Less": true, "GreaterOrEqual": true, "LessOrEqual": true, "And": true, "Or": true,
}

// full lists the inputs of a pointwise node that have the shape of its output; ok is false when another one is more than a number.
func (s *scope) full(n *onnx.Node) (inputs []string, ok bool) {
	if !pointwise[n.Op] || n.Domain != "" || len(n.Outputs) != 1 {
		return nil, false
	}
	shape := s.shape(n.Outputs[0])
	if shape == nil {
		return nil, false
	}
	for _, v := range n.Inputs {
		switch {
		case v == "" || s.number(v):
		case slices.Equal(s.shape(v), shape) && s.shape(v) != nil:
			inputs = append(inputs, v)
		default:
			return nil, false
		}
	}
	return inputs, len(inputs) > 0
}

// number reports a value of one element and at most one axis.
func (s *scope) number(v string) bool {
	shape := s.shape(v)
	return shape != nil && (len(shape) == 0 || len(shape) == 1 && shape[0] == onnx.Dim{Size: 1})
}

// elementwise applies a pointwise operator in the layout that needs the fewest conversions.
func (s *scope) elementwise(n *onnx.Node) bool {
	inputs, ok := s.full(n)
	if !ok {
		return false
	}
	missing := [2]int{}
	notPlain := 0
	for _, v := range inputs {
		for f := range missing {
			if !s.has(form(f), v) {
				missing[f]++
			}
		}
		if !s.isPlain(v) {
			notPlain++
		}
	}
	if notPlain == 0 {
		return false
	}
	out := n.Outputs[0]
	switch sizes, known := s.fixed(out); {
	case missing[kernel] < len(inputs) && known && len(sizes) == 4 && s.hasKernelForm(sizes):
		s.applied(n, kernel, func(v string) string { return s.kernel(v, sizes) })
	case missing[blocked] < len(inputs) && (missing[blocked] < notPlain || missing[blocked] == notPlain && !s.wantedPlain(out)) && s.image(out) && s.images(inputs):
		s.applied(n, blocked, s.blocked)
	default:
		return false
	}
	return true
}

// wantedPlain reports whether any node that uses an image can only take it in the plain layout.
func (s *scope) wantedPlain(v string) bool {
	for _, n := range s.users[v] {
		if n == nil || n.Domain != "" && n.Domain != onnx.SummaryDomain || n.Op == autodiff.NormalizedGradient {
			return true
		}
		if pointwise[n.Op] {
			if _, ok := s.full(n); !ok {
				return true
			}
		}
		switch n.Op {
		case "Reshape", "Transpose", "LayerNormalization", "InstanceNormalization", "MatMul", "Softmax", "LogSoftmax":
			return true
		}
	}
	return false
}

func (s *scope) images(vs []string) bool {
	return !slices.ContainsFunc(vs, func(v string) bool { return !s.image(v) })
}

// applied emits a pointwise node on values in another layout.
func (s *scope) applied(n *onnx.Node, f form, in func(string) string) {
	shape := s.shape(n.Outputs[0])
	c := &onnx.Node{Op: n.Op, Attrs: maps.Clone(n.Attrs)}
	for _, v := range n.Inputs {
		if v != "" && slices.Equal(s.shape(v), shape) && !s.number(v) {
			v = in(v)
		} else {
			v = s.plain(v)
		}
		c.Inputs = append(c.Inputs, v)
	}
	c.Name = s.b.Fresh(n.Op)
	c.Outputs = []string{c.Name}
	s.b.Graph.Nodes = append(s.b.Graph.Nodes, c)
	s.others[f][n.Outputs[0]] = c.Name
}

// onlyBlocked reports an image that exists in the blocked layout alone, for operators that gain nothing from it but a saved reordering.
func (s *scope) onlyBlocked(v string) bool { return s.has(blocked, v) && !s.plainly[v] && s.image(v) }

// pool keeps pooling in the blocked layout.
func (s *scope) pool(n *onnx.Node) bool {
	if len(n.Outputs) != 1 || len(n.Ints("kernel_shape")) != 2 || !s.onlyBlocked(n.Inputs[0]) || n.Int("ceil_mode", 0) != 0 || n.Int("storage_order", 0) != 0 {
		return false
	}
	for _, d := range n.Ints("dilations") {
		if d != 1 {
			return false
		}
	}
	c := &onnx.Node{Op: n.Op, Domain: blockedDomain, Inputs: []string{s.blocked(n.Inputs[0])}, Attrs: map[string]onnx.Attr{}}
	for _, name := range []string{"kernel_shape", "strides", "pads", "count_include_pad"} {
		if a, ok := n.Attrs[name]; ok && (name != "count_include_pad" || n.Op == "AveragePool") {
			c.Attrs[name] = a
		}
	}
	s.appendBlocked(c, n.Outputs[0])
	return true
}

// appendBlocked appends a node that makes the blocked form of v.
func (s *scope) appendBlocked(c *onnx.Node, v string) {
	c.Name = s.b.Fresh(c.Op)
	c.Outputs = []string{c.Name}
	s.b.Graph.Nodes = append(s.b.Graph.Nodes, c)
	s.others[blocked][v] = c.Name
}

// resize keeps enlargement of the nearest kind by whole numbers in the blocked layout.
func (s *scope) resize(n *onnx.Node) bool {
	x, y := n.Inputs[0], n.Outputs[0]
	if !s.onlyBlocked(x) || n.Str("mode", "nearest") != "nearest" || n.Str("coordinate_transformation_mode", "half_pixel") != "asymmetric" ||
		n.Str("nearest_mode", "round_prefer_floor") != "floor" || !s.image(y) || n.Attrs["axes"].Ints != nil {
		return false
	}
	scales := make([]int64, 4)
	for i := range scales {
		k, ok := s.scale(n, i)
		if !ok || i < 2 && k != 1 {
			return false
		}
		scales[i] = k
	}
	s.appendBlocked(&onnx.Node{Op: "Upsample", Domain: blockedDomain, Inputs: []string{s.blocked(x)},
		Attrs: map[string]onnx.Attr{"scales": {Kind: onnx.AttrInts, Ints: scales}}}, y)
	return true
}

// scale is the factor of one axis.
func (s *scope) scale(n *onnx.Node, axis int) (int64, bool) {
	if in := n.Input(2); in != "" {
		t := s.constant(in)
		if t == nil || t.Len() != 4 {
			return 0, false
		}
		k := int64(t.Float32s()[axis])
		return k, float32(k) == t.Float32s()[axis] && k >= 1
	}
	return onnx.Multiple(s.shape(n.Outputs[0])[axis], s.shape(n.Inputs[0])[axis])
}

// concat joins blocked images along their channels.
func (s *scope) concat(n *onnx.Node) bool {
	if n.Int("axis", 0) != 1 || !s.image(n.Outputs[0]) || !s.images(n.Inputs) || !slices.ContainsFunc(n.Inputs, s.onlyBlocked) {
		return false
	}
	c := &onnx.Node{Op: "Concat", Attrs: n.Attrs}
	for _, v := range n.Inputs {
		c.Inputs = append(c.Inputs, s.blocked(v))
	}
	s.appendBlocked(c, n.Outputs[0])
	return true
}

// split parts a blocked image along its channels.
func (s *scope) split(n *onnx.Node) bool {
	if n.Int("axis", 0) != 1 || !s.onlyBlocked(n.Inputs[0]) || !s.images(n.Outputs) {
		return false
	}
	c := &onnx.Node{Op: "Split", Attrs: n.Attrs, Inputs: append([]string{s.blocked(n.Inputs[0])}, n.Inputs[1:]...)}
	for _, o := range n.Outputs {
		name := s.b.Fresh("Split")
		c.Outputs = append(c.Outputs, name)
		s.others[blocked][o] = name
	}
	for _, v := range n.Inputs[1:] {
		s.plain(v)
	}
	c.Name = c.Outputs[0]
	s.b.Graph.Nodes = append(s.b.Graph.Nodes, c)
	return true
}

// pad keeps padding of rows and columns with zeros in the blocked layout.
func (s *scope) pad(n *onnx.Node) bool {
	x, y := n.Inputs[0], n.Outputs[0]
	axes := s.constant(n.Input(3))
	if !s.onlyBlocked(x) || !s.image(y) || n.Str("mode", "constant") != "constant" || axes == nil || !slices.Equal(axes.Int64s(), []int64{2, 3}) {
		return false
	}
	v := s.reshape(s.blocked(x), 0, s.shape(x)[1].Size/s.Block, 0, 0, s.Block)
	v = s.op("Pad", v, s.plain(n.Inputs[1]), s.plain(n.Input(2)), n.Inputs[3])
	s.others[blocked][y] = s.reshape(v, 0, s.shape(x)[1].Size, 0, 0)
	return true
}

// softmax over the few classes of an image is taken apart: ONNX Runtime would transpose the image, and treat every pixel on its own.
func (s *scope) softmax(n *onnx.Node) bool {
	shape := s.shape(n.Inputs[0])
	if len(shape) < 4 || n.Int("axis", -1) != 1 || !shape[1].Known() || shape[1].Size > 64 {
		return false
	}
	x, y := s.plain(n.Inputs[0]), n.Outputs[0]
	over := func(op, v string) string { return s.b.Op(op, []string{v, s.b.Int64s(1)}, onnx.WithInt("keepdims", 1)) }
	z := s.op("Sub", x, over("ReduceMax", x))
	e := s.op("Exp", z)
	if n.Op == "Softmax" {
		s.emit(y, "Div", []string{e, over("ReduceSum", e)})
	} else {
		s.emit(y, "Sub", []string{z, s.op("Log", over("ReduceSum", e))})
	}
	s.plainly[y] = true
	return true
}

// channelSums adds up every channel of a blocked image.
func (s *scope) channelSums(n *onnx.Node) bool {
	x := n.Inputs[0]
	axes := s.constant(n.Input(1))
	if !s.onlyBlocked(x) || n.Int("keepdims", 1) != 0 || axes == nil || !slices.Equal(axes.Int64s(), []int64{0, 2, 3}) || s.facts[x].DType != tensor.Float32 {
		return false
	}
	c := s.shape(x)[1].Size
	var sums string
	if c == s.Block { // a single block is summed slowly by ReduceSum
		v := s.b.Op("GlobalAveragePool", []string{s.blocked(x)}, inBlockedDomain())
		v = s.op("Mul", v, s.count(x))
		sums = s.b.Op("ReduceSum", []string{v, s.b.Int64s(0, 2, 3)}, onnx.WithInt("keepdims", 0))
	} else if batch := s.shape(x)[0]; batch.Known() && batch.Size == 1 {
		sums = s.b.Op("ReduceSum", []string{s.reshape(s.blocked(x), c/s.Block, -1, s.Block), s.b.Int64s(1)}, onnx.WithInt("keepdims", 0))
	} else {
		sums = s.b.Op("ReduceSum", []string{s.reshape(s.blocked(x), 0, c/s.Block, -1, s.Block), s.b.Int64s(0, 2)}, onnx.WithInt("keepdims", 0))
	}
	s.emit(n.Outputs[0], "Reshape", []string{sums, s.b.Int64s(c)})
	s.plainly[n.Outputs[0]] = true
	return true
}
