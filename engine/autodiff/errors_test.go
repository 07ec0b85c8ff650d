package autodiff_test

import (
	"errors"
	"strings"
	"testing"

	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// chain is a graph x → … → y of nodes with one input and one output each.
func chain(ops ...string) *onnx.Graph {
	g := &onnx.Graph{Inputs: []onnx.Value{
		{Name: "x", DType: tensor.Float32, Shape: onnx.Fixed(2, 3)}, {Name: "dy", DType: tensor.Float32, Shape: onnx.Fixed(2, 3)},
	}}
	at := "x"
	for i, op := range ops {
		out := "v" + string(rune('0'+i))
		g.Nodes = append(g.Nodes, &onnx.Node{Name: "node_of_" + op, Op: op, Inputs: []string{at}, Outputs: []string{out}, Attrs: map[string]onnx.Attr{}})
		at = out
	}
	g.Outputs = []onnx.Value{{Name: at, DType: tensor.Float32, Shape: onnx.Fixed(2, 3)}}
	return g
}

// TestUnsupportedOperator says which node, operator and opset stand in the way.
func TestUnsupportedOperator(t *testing.T) {
	g := chain("Relu", "Asinh", "Tanh")
	_, err := autodiff.Gradients(onnx.NewBuilder(g, "g/"), map[string]string{"v2": "dy"}, []string{"x"})
	var unsupported *autodiff.UnsupportedError
	if !errors.As(err, &unsupported) {
		t.Fatalf("got %v, want an UnsupportedError", err)
	}
	if unsupported.Node != "node_of_Asinh" || unsupported.Op != "Asinh" || unsupported.Opset != onnx.Opset {
		t.Errorf("got %+v", unsupported)
	}
	for _, part := range []string{"node_of_Asinh", "Asinh", "opset 18", "freeze"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not mention %q", err, part)
		}
	}
}

// TestUnsupportedOperatorOffThePath: what lies before the wanted value is never differentiated.
func TestUnsupportedOperatorOffThePath(t *testing.T) {
	g := chain("Asinh", "Tanh")
	grads, err := autodiff.Gradients(onnx.NewBuilder(g, "g/"), map[string]string{"v1": "dy"}, []string{"v0"})
	if err != nil {
		t.Fatal(err)
	}
	if grads["v0"] == "" {
		t.Error("no gradient for v0")
	}
}

// TestForeignDomain: an operator of another domain is not taken for the standard one of the same name.
func TestForeignDomain(t *testing.T) {
	g := chain("Relu")
	g.Nodes[0].Domain = "com.example"
	if _, err := autodiff.Gradients(onnx.NewBuilder(g, "g/"), map[string]string{"v0": "dy"}, []string{"x"}); err == nil || !strings.Contains(err.Error(), "com.example") {
		t.Errorf("got %v, want an error naming com.example", err)
	}
}

// TestUnknownValues: seeds and wanted values must be in the graph.
func TestUnknownValues(t *testing.T) {
	for name, c := range map[string]struct{ seed, want string }{"seed": {"nothing", "x"}, "wanted": {"v0", "nothing"}} {
		g := chain("Relu")
		_, err := autodiff.Gradients(onnx.NewBuilder(g, "g/"), map[string]string{c.seed: "dy"}, []string{c.want})
		if err == nil || !strings.Contains(err.Error(), `"nothing"`) {
			t.Errorf("%s: got %v, want an error naming \"nothing\"", name, err)
		}
	}
}

// TestIndependentValue: what the loss does not depend on has a gradient of zeros in its own shape, at run time too.
func TestIndependentValue(t *testing.T) {
	for name, shape := range map[string]onnx.Shape{"fixed": onnx.Fixed(2, 2), "symbolic": {{Symbol: "N"}, {Size: 2}}} {
		t.Run(name, func(t *testing.T) {
			g := chain("Relu")
			g.Inputs = append(g.Inputs, onnx.Value{Name: "u", DType: tensor.Float32, Shape: shape})
			b := onnx.NewBuilder(g, "g/")
			grads, err := autodiff.Gradients(b, map[string]string{"v0": "dy"}, []string{"x", "u"})
			if err != nil {
				t.Fatal(err)
			}
			x := tensor.Zeros[float64](2, 3)
			values := run(t, g, map[string]*tensor.Tensor{"x": x, "dy": x, "u": tensor.Must([]int{2, 2}, []float64{1, 2, 3, 4})})
			compare(t, "gradient of u", values[grads["u"]], tensor.Zeros[float64](2, 2), 0, 1)
		})
	}
}

// TestSeedsAdd: cotangents of a value that is both seeded and used further on add up, and seeding is linear.
func TestSeedsAdd(t *testing.T) {
	g := chain("Tanh", "Exp")
	b := onnx.NewBuilder(g, "g/")
	grads, err := autodiff.Gradients(b, map[string]string{"v0": "dy", "v1": "dy"}, []string{"x", "v0"})
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]*tensor.Tensor{
		"x": tensor.Must([]int{2, 3}, []float64{-1, -0.5, 0, 0.5, 1, 2}), "dy": tensor.Must([]int{2, 3}, []float64{1, 2, 3, -1, -2, 1}),
	}
	values := run(t, g, in)
	y, z, dy := floats(values["v0"]), floats(values["v1"]), floats(in["dy"])
	dv, dx := make([]float64, 6), make([]float64, 6)
	for i := range dx {
		dv[i] = dy[i] + dy[i]*z[i]
		dx[i] = dv[i] * (1 - y[i]*y[i])
	}
	compare(t, "gradient of v0", values[grads["v0"]], tensor.Must([]int{2, 3}, dv), 1e-12, 1)
	compare(t, "gradient of x", values[grads["x"]], tensor.Must([]int{2, 3}, dx), 1e-12, 1)
}

// TestRefusedForms: forms of known operators that have no gradient here are refused with the reason, never answered wrongly.
func TestRefusedForms(t *testing.T) {
	ints := func(v ...int64) onnx.Attr { return onnx.Attr{Kind: onnx.AttrInts, Ints: v} }
	text := func(v string) onnx.Attr { return onnx.Attr{Kind: onnx.AttrString, String: v} }
	integer := func(v int64) onnx.Attr { return onnx.Attr{Kind: onnx.AttrInt, Int: v} }
	value := func(name string, d tensor.DType, sizes ...int64) onnx.Value {
		return onnx.Value{Name: name, DType: d, Shape: onnx.Fixed(sizes...)}
	}
	x := value("x", tensor.Float32, 1, 2, 6, 6)
	cases := []struct {
		name, op, reason string
		inputs           []onnx.Value
		inits            map[string]*tensor.Tensor
		args             []string
		attrs            map[string]onnx.Attr
	}{
		{name: "batch times vector", op: "MatMul", reason: "reshape the vector", args: []string{"x", "b"}, inputs: []onnx.Value{x, value("b", tensor.Float32, 6)}},
		{name: "summed away", op: "Einsum", reason: "sums it away", args: []string{"x", "b"}, inputs: []onnx.Value{x, value("b", tensor.Float32, 6)},
			attrs: map[string]onnx.Attr{"equation": text("nchw,w->nw")}},
		{name: "diagonal", op: "Einsum", reason: "repeats letter", args: []string{"x"}, inputs: []onnx.Value{x}, attrs: map[string]onnx.Attr{"equation": text("ncii->nci")}},
		{name: "ceil average", op: "AveragePool", reason: "ceil_mode", args: []string{"x"}, inputs: []onnx.Value{x},
			attrs: map[string]onnx.Attr{"kernel_shape": ints(2, 2), "strides": ints(2, 2), "ceil_mode": integer(1)}},
		{name: "wrapping pad", op: "Pad", reason: "wrap", args: []string{"x", "p"}, inputs: []onnx.Value{x},
			inits: map[string]*tensor.Tensor{"p": tensor.Vector[int64](0, 0, 1, 1, 0, 0, 1, 1)}, attrs: map[string]onnx.Attr{"mode": text("wrap")}},
		{name: "reflected pad at run time", op: "Pad", reason: "run time", args: []string{"x", "p"}, inputs: []onnx.Value{x, value("p", tensor.Int64, 8)},
			attrs: map[string]onnx.Attr{"mode": text("reflect")}},
		{name: "crop and resize", op: "Resize", reason: "tf_crop_and_resize", args: []string{"x", "roi", "scales"}, inputs: []onnx.Value{x},
			inits: map[string]*tensor.Tensor{"roi": tensor.Vector[float32](0, 0, 0, 0, 1, 1, 1, 1), "scales": tensor.Vector[float32](1, 1, 2, 2)},
			attrs: map[string]onnx.Attr{"mode": text("linear"), "coordinate_transformation_mode": text("tf_crop_and_resize")}},
		{name: "run-time slice with a step", op: "Slice", reason: "only 1 is handled", args: []string{"x", "s", "e", "a", "st"},
			inputs: []onnx.Value{x, value("s", tensor.Int64, 1), value("e", tensor.Int64, 1)},
			inits:  map[string]*tensor.Tensor{"a": tensor.Vector[int64](2), "st": tensor.Vector[int64](2)}},
		{name: "reduced axes at run time", op: "ReduceSum", reason: "run time", args: []string{"x", "a"}, inputs: []onnx.Value{x, value("a", tensor.Int64, 1)}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.attrs == nil {
				c.attrs = map[string]onnx.Attr{}
			}
			g := &onnx.Graph{Inputs: append(c.inputs, onnx.Value{Name: "dy", DType: tensor.Float32}), Outputs: []onnx.Value{{Name: "y", DType: tensor.Float32}},
				Nodes: []*onnx.Node{{Name: "the_node", Op: c.op, Inputs: c.args, Outputs: []string{"y"}, Attrs: c.attrs}}}
			for k, v := range c.inits {
				g.Initializers = append(g.Initializers, onnx.Initializer{Name: k, Tensor: v})
			}
			_, err := autodiff.Gradients(onnx.NewBuilder(g, "g/"), map[string]string{"y": "dy"}, []string{"x"})
			var unsupported *autodiff.UnsupportedError
			if !errors.As(err, &unsupported) {
				t.Fatalf("got %v, want an UnsupportedError", err)
			}
			if unsupported.Node != "the_node" || unsupported.Op != c.op || !strings.Contains(unsupported.Reason, c.reason) {
				t.Errorf("got %v, want a reason with %q", err, c.reason)
			}
		})
	}
}

// TestCapturedByBody: a body that takes a wanted value from outside its If is on the path, though no input of the If shows it.
func TestCapturedByBody(t *testing.T) {
	body := func(op, out string) onnx.Attr {
		return onnx.Attr{Kind: onnx.AttrGraph, Graph: &onnx.Graph{
			Nodes:   []*onnx.Node{{Name: "in_" + op, Op: op, Inputs: []string{"x"}, Outputs: []string{out}, Attrs: map[string]onnx.Attr{}}},
			Outputs: []onnx.Value{{Name: out, DType: tensor.Float32, Shape: onnx.Fixed(2, 3)}},
		}}
	}
	g := chain()
	g.Inputs = append(g.Inputs, onnx.Value{Name: "choice", DType: tensor.Bool, Shape: onnx.Fixed()})
	g.Nodes = []*onnx.Node{{Name: "the_if", Op: "If", Inputs: []string{"choice"}, Outputs: []string{"y"},
		Attrs: map[string]onnx.Attr{"then_branch": body("Relu", "a"), "else_branch": body("Neg", "b")}}}
	g.Outputs = []onnx.Value{{Name: "y", DType: tensor.Float32, Shape: onnx.Fixed(2, 3)}}
	_, err := autodiff.Gradients(onnx.NewBuilder(g, "g/"), map[string]string{"y": "dy"}, []string{"x"})
	var unsupported *autodiff.UnsupportedError
	if !errors.As(err, &unsupported) || unsupported.Node != "the_if" {
		t.Errorf("got %v, want an UnsupportedError for the_if", err)
	}
}
