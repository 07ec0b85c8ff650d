package adapt_test

import (
	"slices"
	"strings"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

// TestEnding gives networks with probabilities, or classes, at their end to those who want logits.
func TestEnding(t *testing.T) {
	model := func(op string, attrs map[string]onnx.Attr) *onnx.Model {
		m, err := train.UNet(train.UNetShape{Input: 1, Channels: []int{4, 8}, Groups: 2, Classes: 2}, 3)
		if err != nil {
			t.Fatal(err)
		}
		if op == "" {
			return m
		}
		g := m.Graph
		logits := g.Outputs[0].Name
		g.Nodes = append(g.Nodes, &onnx.Node{Name: "end", Op: op, Inputs: []string{logits}, Outputs: []string{"made"}, Attrs: attrs},
			&onnx.Node{Name: "hand on", Op: "Identity", Inputs: []string{"made"}, Outputs: []string{"answer"}})
		g.Outputs[0].Name = "answer"
		if op == "ArgMax" {
			g.Outputs[0].DType = tensor.Int64
		}
		return m
	}
	axis := func(a int64) map[string]onnx.Attr { return map[string]onnx.Attr{"axis": {Kind: onnx.AttrInt, Int: a}} }
	plain := network(t, model("", nil), adapt.Trainable{})
	x := noise(1, 1, 1, side, side)
	want, err := engine(t, plain, onInterpreter).Predict(t.Context(), plain.Source(), x)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		op    string
		attrs map[string]onnx.Attr
	}{{"Softmax", axis(1)}, {"Softmax", axis(-3)}, {"Sigmoid", nil}} {
		n := network(t, model(c.op, c.attrs), adapt.Trainable{})
		if n.Ending != c.op {
			t.Errorf("%s: the ending is said to be %q", c.op, n.Ending)
		}
		got, err := engine(t, n, onInterpreter).Predict(t.Context(), n.Source(), x)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Float32s(), want.Float32s()) {
			t.Errorf("%s %v: other probabilities than of the network without it", c.op, c.attrs)
		}
	}
	if n := network(t, model("Softmax", axis(2)), adapt.Trainable{}); n.Ending != "" || plain.Ending != "" {
		t.Errorf("a softmax over rows is taken for the end: %q", n.Ending)
	}
	if _, err := adapt.NewNetwork(model("ArgMax", axis(1)), adapt.Trainable{}); err == nil || !strings.Contains(err.Error(), "ArgMax") {
		t.Errorf("a network that answers classes: %v", err)
	}
}
