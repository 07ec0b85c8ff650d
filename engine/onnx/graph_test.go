package onnx_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"scrawl/engine/onnx"
	"scrawl/engine/onnx/refexec"
	"scrawl/engine/tensor"
)

func floatInput(name string, s onnx.Shape) onnx.Value {
	return onnx.Value{Name: name, DType: tensor.Float32, Shape: s}
}

func node(op string, inputs []string, output string, opts ...onnx.AttrOption) *onnx.Node {
	n := &onnx.Node{Name: "the " + op, Op: op, Inputs: inputs, Outputs: []string{output}, Attrs: map[string]onnx.Attr{}}
	for _, o := range opts {
		o(n)
	}
	return n
}

func TestCheck(t *testing.T) {
	relu := node("Relu", []string{"x"}, "y")
	for name, tc := range map[string]struct {
		nodes []*onnx.Node
		want  []string // nothing for a sound graph
	}{
		"sound":            {[]*onnx.Node{relu}, nil},
		"made twice":       {[]*onnx.Node{relu, relu}, []string{`"y" is made twice`}},
		"wrong order":      {[]*onnx.Node{node("Neg", []string{"a"}, "y"), node("Relu", []string{"x"}, "a")}, []string{`input "a" is not made before it`}},
		"no output":        {[]*onnx.Node{node("Relu", []string{"x"}, "z")}, []string{`output "y" is made by no node`}},
		"unknown operator": {[]*onnx.Node{node("Wobble", []string{"x"}, "y")}, []string{`node "the Wobble"`, "operator Wobble of domain ai.onnx", "opset 18"}},
		"foreign domain":   {[]*onnx.Node{node("Relu", []string{"x"}, "y", onnx.WithDomain("com.acme"))}, []string{"domain com.acme"}},
		"all at once":      {[]*onnx.Node{node("Wobble", []string{"b"}, "c")}, []string{"Wobble", `"b"`, `"y"`}},
		"body sees outside": {[]*onnx.Node{node("If", []string{"x"}, "y",
			onnx.WithGraph("then_branch", &onnx.Graph{Nodes: []*onnx.Node{node("Neg", []string{"x"}, "t")}, Outputs: []onnx.Value{{Name: "t"}}}),
			onnx.WithGraph("else_branch", &onnx.Graph{Nodes: []*onnx.Node{node("Neg", []string{"t"}, "e")}, Outputs: []onnx.Value{{Name: "e"}}}))}, []string{`input "t"`}},
	} {
		t.Run(name, func(t *testing.T) {
			g := &onnx.Graph{Name: "g", Inputs: []onnx.Value{floatInput("x", onnx.Fixed(1))}, Outputs: []onnx.Value{{Name: "y"}}, Nodes: tc.nodes}
			err := onnx.Check(g)
			if (err == nil) != (tc.want == nil) {
				t.Fatalf("error is %v", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %v does not say %q", err, want)
				}
			}
		})
	}
}

// TestInferSymbols follows an encoder-decoder with symbolic sizes and expects the names that skip connections rely on.
func TestInferSymbols(t *testing.T) {
	g := &onnx.Graph{Inputs: []onnx.Value{floatInput("x", onnx.Shape{{Symbol: "N"}, {Size: 2}, {Symbol: "H"}, {Symbol: "W"}})}}
	b := onnx.NewBuilder(g, "v")
	weight := func(o, c, k int) string { return b.Const(tensor.Zeros[float32](o, c, k, k)) }
	same := b.Op("Conv", []string{"x", weight(4, 2, 3)}, onnx.WithInts("pads", 1, 1, 1, 1))
	down := b.Op("MaxPool", []string{same}, onnx.WithInts("kernel_shape", 2, 2), onnx.WithInts("strides", 2, 2))
	strided := b.Op("Conv", []string{same, weight(8, 4, 3)}, onnx.WithInts("pads", 1, 1, 1, 1), onnx.WithInts("strides", 2, 2))
	up := b.Op("Resize", []string{down, "", b.Float32s(1, 1, 2, 2)}, onnx.WithString("mode", "nearest"))
	transposed := b.Op("ConvTranspose", []string{down, weight(4, 3, 2)}, onnx.WithInts("strides", 2, 2))
	joined := b.Op("Concat", []string{same, up, transposed}, onnx.WithInt("axis", 1))
	groups := b.Op("Reshape", []string{same, b.Int64s(0, 2, -1)})
	back := b.Op("Reshape", []string{groups, b.Op("Shape", []string{same})})
	tail := b.Op("Slice", []string{"x", b.Int64s(1), b.Int64s(1 << 62), b.Int64s(2)})
	tokens := b.Op("Transpose", []string{b.Op("Flatten", []string{same}, onnx.WithInt("axis", 2))}, onnx.WithInts("perm", 1, 0))
	nodes := b.Op("NonZero", []string{"x"})
	facts, err := onnx.Infer(g)
	if err != nil {
		t.Fatal(err)
	}
	for v, want := range map[string]string{
		same:       "N 4 H W",
		down:       "N 4 floor(H/2) floor(W/2)",
		strided:    "N 8 floor((H + 1)/2) floor((W + 1)/2)",
		up:         "N 4 2*floor(H/2) 2*floor(W/2)",
		transposed: "N 3 2*floor(H/2) 2*floor(W/2)",
		joined:     "N 11 H W",
		groups:     "N 2 2*H*W",
		back:       "N 4 H W",
		tail:       "N 2 H - 1 W",
		tokens:     "H*W 4*N",
		nodes:      "4 " + nodes + "_axis1",
	} {
		var got []string
		for _, d := range facts[v].Shape {
			got = append(got, d.String())
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s has shape %q, want %q", v, s, want)
		}
	}
}

func TestInferRefusesContradictions(t *testing.T) {
	for name, tc := range map[string]struct {
		node *onnx.Node
		want string
	}{
		"channels":     {node("Conv", []string{"x", "w"}, "y"), "has 3 channels"},
		"broadcast":    {node("Add", []string{"x", "v"}, "y"), "cannot be broadcast"},
		"matrices":     {node("MatMul", []string{"x", "v"}, "y"), "cannot be multiplied"},
		"axis":         {node("Softmax2", nil, "y"), ""},
		"concat":       {node("Concat", []string{"x", "w"}, "y", onnx.WithInt("axis", 0)), "differ outside axis 0"},
		"bad axis":     {node("Concat", []string{"x", "x"}, "y", onnx.WithInt("axis", 9)), "axis 9 is outside"},
		"reshape":      {node("Reshape", []string{"x", "s"}, "y"), "cannot reshape"},
		"kernel":       {node("MaxPool", []string{"x"}, "y", onnx.WithInts("kernel_shape", 9, 9)), "exceeds the padded input"},
		"window":       {node("MaxPool", []string{"x"}, "y", onnx.WithInts("kernel_shape", 2, 2), onnx.WithInts("strides", 0, 1)), "are not a window"},
		"unknown rank": {node("Relu", []string{"outside"}, "y"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := &onnx.Graph{Inputs: []onnx.Value{floatInput("x", onnx.Fixed(1, 3, 4, 4))}, Nodes: []*onnx.Node{tc.node}, Initializers: []onnx.Initializer{
				{Name: "w", Tensor: tensor.Zeros[float32](2, 5, 3, 3)}, {Name: "v", Tensor: tensor.Zeros[float32](7)}, {Name: "s", Tensor: tensor.Vector[int64](5, -1, 2)}}}
			facts, err := onnx.Infer(g)
			if tc.want == "" {
				if err != nil || facts["y"].Shape != nil {
					t.Errorf("shape %v, error %v; want neither", facts["y"].Shape, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.node.Name) {
				t.Errorf("error is %v; want node and %q", err, tc.want)
			}
		})
	}
}

func TestNormalizeRefuses(t *testing.T) {
	symbolic := onnx.Shape{{Size: 1}, {Size: 1}, {Symbol: "H"}, {Symbol: "W"}}
	for name, tc := range map[string]struct {
		opset int64
		node  *onnx.Node
		want  string
	}{
		"old opset":            {6, node("Relu", []string{"x"}, "y"), "opsets 7 to 26"},
		"new opset":            {27, node("Relu", []string{"x"}, "y"), "opset 27"},
		"training norm":        {15, node("BatchNormalization", []string{"x", "c", "c", "c", "c"}, "y", onnx.WithInt("training_mode", 1)), "training mode"},
		"training dropout":     {13, node("Dropout", []string{"x", "", "yes"}, "y"), "training mode"},
		"SAME by size":         {17, node("Conv", []string{"x", "w"}, "y", onnx.WithString("auto_pad", "SAME_UPPER"), onnx.WithInts("strides", 2, 2)), "pads by the input's size"},
		"output_shape":         {17, node("ConvTranspose", []string{"x", "w"}, "y", onnx.WithInts("output_shape", 9, 9)), "output_shape [9 9]"},
		"resize of opset 11":   {11, node("Resize", []string{"x", "", "four"}, "y", onnx.WithString("coordinate_transformation_mode", "tf_half_pixel_for_nn")), "tf_half_pixel_for_nn"},
		"wrap":                 {19, node("Pad", []string{"x", "four"}, "y", onnx.WithString("mode", "wrap")), "wrap"},
		"string constant":      {13, node("Constant", nil, "y", onnx.WithString("value_string", "s")), "value_string"},
		"dilated average":      {19, node("AveragePool", []string{"x"}, "y", onnx.WithInts("kernel_shape", 2, 2), onnx.WithInts("dilations", 2, 2)), "dilations"},
		"unsupported auto_pad": {17, node("Conv", []string{"x", "w"}, "y", onnx.WithString("auto_pad", "SOME")), "SOME"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &onnx.Model{Opsets: map[string]int64{"": tc.opset}, Graph: &onnx.Graph{
				Inputs: []onnx.Value{floatInput("x", symbolic)}, Outputs: []onnx.Value{{Name: "y"}}, Nodes: []*onnx.Node{tc.node},
				Initializers: []onnx.Initializer{
					{Name: "w", Tensor: tensor.Zeros[float32](1, 1, 3, 3)}, {Name: "c", Tensor: tensor.Zeros[float32](1)},
					{Name: "four", Tensor: tensor.Vector[float32](1, 1, 2, 2)}, {Name: "yes", Tensor: tensor.Scalar(true)}}}}
			_, err := onnx.Normalize(m)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error is %v; want %q", err, tc.want)
			}
			if !strings.Contains(name, "opset") && !strings.Contains(err.Error(), tc.node.Name) {
				t.Errorf("error %v does not name the node", err)
			}
		})
	}
}

// TestNormalizeCleansUp keeps what the outputs need, under the names they had, and leaves its argument alone.
func TestNormalizeCleansUp(t *testing.T) {
	m := &onnx.Model{Opsets: map[string]int64{"": 17, "ai.onnx.ml": 2}, Graph: &onnx.Graph{
		Inputs: []onnx.Value{floatInput("x", onnx.Fixed(2, 2))}, Outputs: []onnx.Value{{Name: "y"}, {Name: "z"}},
		Initializers: []onnx.Initializer{{Name: "used", Tensor: tensor.Scalar[float32](1)}, {Name: "unused", Tensor: tensor.Scalar[float32](1)}},
		Nodes: []*onnx.Node{
			node("Identity", []string{"x"}, "a"), node("Dropout", []string{"a"}, "b"), node("Add", []string{"b", "used"}, "c"),
			node("Exp", []string{"c"}, "dead"), node("Identity", []string{"c"}, "y"), node("Relu", []string{"y"}, "d"), node("Identity", []string{"d"}, "z"),
		}}}
	before := operators(m.Graph)
	n, err := onnx.Normalize(m)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := operators(n.Graph), []string{"Add", "Identity", "Relu", "Identity"}; !slices.Equal(got, want) {
		t.Errorf("nodes are %v, want %v", got, want)
	}
	if len(n.Graph.Initializers) != 1 || !maps.Equal(n.Opsets, map[string]int64{"": onnx.Opset}) {
		t.Errorf("initializers %v, opsets %v", n.Graph.Initializers, n.Opsets)
	}
	if !slices.Equal(before, operators(m.Graph)) || m.Graph.Nodes[2].Inputs[0] != "b" {
		t.Error("Normalize changed its argument")
	}
	out, err := refexec.Run(n.Graph, map[string]*tensor.Tensor{"x": tensor.Must([]int{2, 2}, []float32{-3, 0, 1, 2})})
	if err != nil {
		t.Fatal(err)
	}
	if want := []float64{0, 1, 2, 3}; !slices.Equal(tensor.Data[float64](out["z"]), want) {
		t.Errorf("z is %v, want %v", tensor.Data[float64](out["z"]), want)
	}
}

func TestMarshalRefuses(t *testing.T) {
	for name, m := range map[string]*onnx.Model{
		"no graph":      {},
		"no tensor":     {Graph: &onnx.Graph{Initializers: []onnx.Initializer{{Name: "w"}}}},
		"no attr graph": {Graph: &onnx.Graph{Nodes: []*onnx.Node{{Op: "If", Attrs: map[string]onnx.Attr{"then_branch": {Kind: onnx.AttrGraph}}}}}},
		"no attr kind":  {Graph: &onnx.Graph{Nodes: []*onnx.Node{{Op: "If", Attrs: map[string]onnx.Attr{"a": {}}}}}},
	} {
		if _, err := m.Marshal(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
