package refexec_test

import (
	"slices"
	"strings"
	"testing"

	"scrawl/engine/onnx"
	"scrawl/engine/onnx/refexec"
	"scrawl/engine/tensor"
)

// TestLoop runs a Loop whose body doubles its carried value, uses a value from outside and stops by its condition.
func TestLoop(t *testing.T) {
	g := &onnx.Graph{Name: "outer", Inputs: []onnx.Value{{Name: "x", DType: tensor.Float32, Shape: onnx.Fixed(2)}}, Outputs: []onnx.Value{{Name: "last"}, {Name: "seen"}}}
	b := onnx.NewBuilder(g, "n")
	body := &onnx.Graph{Name: "body", Inputs: []onnx.Value{{Name: "k"}, {Name: "go"}, {Name: "v"}}, Outputs: []onnx.Value{{Name: "more"}, {Name: "w"}, {Name: "scan"}}}
	inner := b.Sub(body, "i")
	inner.Alias(inner.Op("Add", []string{"v", "x"}), "w")
	inner.Alias(inner.Op("ReduceSum", []string{"w"}, onnx.WithInt("keepdims", 0)), "scan")
	inner.Alias(inner.Op("Less", []string{"scan", b.Float(20)}), "more")
	out := b.Ops("Loop", 2, []string{b.Int64(10), "", "x"}, onnx.WithGraph("body", body))
	b.Alias(out[0], "last")
	b.Alias(out[1], "seen")
	got, err := refexec.Run(g, map[string]*tensor.Tensor{"x": tensor.Vector[float32](1, 2)})
	if err != nil {
		t.Fatal(err)
	}
	if want := []float64{7, 14}; !slices.Equal(tensor.Data[float64](got["last"]), want) {
		t.Errorf("carried value is %v, want %v", tensor.Data[float64](got["last"]), want)
	}
	if want := []float64{6, 9, 12, 15, 18, 21}; !slices.Equal(tensor.Data[float64](got["seen"]), want) {
		t.Errorf("scan output is %v, want %v", tensor.Data[float64](got["seen"]), want)
	}
}

func TestRunErrors(t *testing.T) {
	x := onnx.Value{Name: "x", DType: tensor.Float32, Shape: onnx.Fixed(1, 3)}
	one := map[string]*tensor.Tensor{"x": tensor.Zeros[float32](1, 3)}
	for name, tc := range map[string]struct {
		node   onnx.Node
		inputs map[string]*tensor.Tensor
		want   string
	}{
		"missing input":    {onnx.Node{Op: "Relu", Inputs: []string{"x"}}, nil, `input "x" is missing`},
		"wrong shape":      {onnx.Node{Op: "Relu", Inputs: []string{"x"}}, map[string]*tensor.Tensor{"x": tensor.Zeros[float32](1, 4)}, "want [1 3]"},
		"unknown operator": {onnx.Node{Name: "n7", Op: "Wobble", Inputs: []string{"x"}}, one, `node "n7" (Wobble)`},
		"foreign domain":   {onnx.Node{Op: "Relu", Domain: "com.microsoft", Inputs: []string{"x"}}, one, "com.microsoft"},
		"no such value":    {onnx.Node{Op: "Relu", Inputs: []string{"z"}}, one, `input "z" has no value`},
		"bad broadcast":    {onnx.Node{Op: "Add", Inputs: []string{"x", "c"}}, one, "cannot be broadcast"},
		"bad rank":         {onnx.Node{Op: "Conv", Inputs: []string{"x", "x"}}, one, "do not fit"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.node.Outputs = []string{"y"}
			g := &onnx.Graph{Inputs: []onnx.Value{x}, Nodes: []*onnx.Node{&tc.node}, Initializers: []onnx.Initializer{{Name: "c", Tensor: tensor.Zeros[float32](2)}}}
			_, err := refexec.Run(g, tc.inputs)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v does not say %q", err, tc.want)
			}
		})
	}
}
