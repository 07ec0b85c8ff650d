package onnx_test

import (
	"slices"
	"strings"
	"testing"

	"scrawl/engine/onnx"
	"scrawl/engine/onnx/refexec"
	"scrawl/engine/tensor"
)

// operatorsOf lists the operators of a graph, bodies left out.
func operatorsOf(g *onnx.Graph) []string {
	var ops []string
	for _, n := range g.Nodes {
		ops = append(ops, n.Op)
	}
	return ops
}

// chosen is a model of an If that asks whether axis 1 of its input, of the given shape, has three elements: x+x when it has, −x when not.
func chosen(shape onnx.Shape) *onnx.Model {
	g := &onnx.Graph{Name: "chosen", Inputs: []onnx.Value{floatInput("x", shape)}, Outputs: []onnx.Value{{Name: "z", DType: tensor.Float32}}}
	b := onnx.NewBuilder(g, "")
	three := b.Op("Equal", []string{b.Op("Gather", []string{b.Op("Shape", []string{"x"}), b.Int64(1)}), b.Int64(3)})
	branch := func(name, op string, inputs ...string) *onnx.Graph {
		return &onnx.Graph{Name: name, Outputs: []onnx.Value{{Name: name, DType: tensor.Float32}},
			Nodes: []*onnx.Node{{Name: "in " + name, Op: op, Inputs: inputs, Outputs: []string{name}, Attrs: map[string]onnx.Attr{}}}}
	}
	y := b.Op("If", []string{three}, onnx.WithGraph("then_branch", branch("doubled", "Add", "x", "x")), onnx.WithGraph("else_branch", branch("turned", "Neg", "x")))
	b.Alias(b.Op("Relu", []string{y}), "z")
	return &onnx.Model{IRVersion: 8, Opsets: map[string]int64{"": onnx.Opset}, Graph: g}
}

// TestBranchesOfConstantConditions takes the branch that a known size decides, and leaves the If where it is not known.
func TestBranchesOfConstantConditions(t *testing.T) {
	for _, c := range []struct {
		name  string
		shape onnx.Shape
		kept  string // the operator of the branch taken; "" when the If stays
		want  []float32
	}{
		{"three", onnx.Fixed(1, 3), "Add", []float32{2, 0, 6}},
		{"two", onnx.Fixed(1, 2), "Neg", []float32{0, 2}},
		{"free", onnx.Shape{{Size: 1}, {Symbol: "W"}}, "", []float32{2, 0, 6}},
	} {
		m, err := onnx.Normalize(chosen(c.shape))
		if err != nil {
			t.Fatal(err)
		}
		if err := onnx.Check(m.Graph); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		ops := operatorsOf(m.Graph)
		if slices.Contains(ops, "If") != (c.kept == "") || c.kept != "" && !slices.Contains(ops, c.kept) {
			t.Errorf("%s: operators %v", c.name, ops)
		}
		x := tensor.Must([]int{1, len(c.want)}, []float32{1, -2, 3}[:len(c.want)])
		out, err := refexec.Run(m.Graph, map[string]*tensor.Tensor{"x": x})
		if err != nil {
			t.Fatal(err)
		}
		compare(t, c.name, out["z"], tensor.Must(x.Shape(), c.want))
	}
}

// TestPadOfSomeAxes brings the axes that a Pad names into its amounts.
func TestPadOfSomeAxes(t *testing.T) {
	g := &onnx.Graph{Name: "pad", Inputs: []onnx.Value{floatInput("x", onnx.Shape{{Symbol: "N"}, {Size: 2}, {Symbol: "W"}})}, Outputs: []onnx.Value{{Name: "y", DType: tensor.Float32}}}
	b := onnx.NewBuilder(g, "")
	b.Alias(b.Op("Pad", []string{"x", b.Int64s(1, 0, 2, 3), b.Float(5), b.Int64s(-1, 1)}), "y")
	m, err := onnx.Normalize(&onnx.Model{IRVersion: 8, Opsets: map[string]int64{"": onnx.Opset}, Graph: g})
	if err != nil {
		t.Fatal(err)
	}
	n := m.Graph.Nodes[slices.IndexFunc(m.Graph.Nodes, func(n *onnx.Node) bool { return n.Op == "Pad" })]
	if got := m.Graph.Initializer(n.Input(1)).Int64s(); len(n.Inputs) != 3 || !slices.Equal(got, []int64{0, 0, 1, 0, 3, 2}) {
		t.Errorf("inputs %v, amounts %v", n.Inputs, got)
	}
}

// TestArity refuses nodes that leave out what their operator needs.
func TestArity(t *testing.T) {
	for _, c := range []struct {
		node *onnx.Node
		want string // of the error; "" for none
	}{
		{node("Relu", []string{"x"}, "y"), ""}, {node("Relu", nil, "y"), "0 inputs"}, {node("Relu", []string{""}, "y"), "leaves out input 0"},
		{node("Conv", []string{"x", "w"}, "y"), ""}, {node("Conv", []string{"x"}, "y"), "wants 2 to 3"}, {node("Conv", []string{"x", "", "b"}, "y"), "leaves out input 1"},
		{node("Clip", []string{"x", "", "hi"}, "y"), ""}, {node("Concat", []string{"x", "x", "x", "x"}, "y"), ""}, {node("Add", []string{"x", "x", "x"}, "y"), "3 inputs"},
		{node("Loop", []string{"", "", "x"}, "y"), ""}, {node("Unheard", nil, "y"), ""}, {&onnx.Node{Op: "Relu", Inputs: []string{"x"}}, "no outputs"},
	} {
		err := onnx.CheckArity(c.node)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %q: error %v, want %q", c.node.Op, c.node.Inputs, err, c.want)
		}
	}
}
