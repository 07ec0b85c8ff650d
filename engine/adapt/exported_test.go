package adapt_test

import (
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// exportedModels are small networks of many families as PyTorch exports them, at several opsets: those that the gradients are
// recorded for.
func exportedModels(t *testing.T) map[string]*onnx.Model {
	t.Helper()
	f, err := os.Open("../autodiff/testdata/export.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			Name  string
			Model []byte
		}
	}
	if err := json.NewDecoder(r).Decode(&file); err != nil {
		t.Fatal(err)
	}
	models := map[string]*onnx.Model{}
	for _, c := range file.Cases {
		if len(c.Model) == 0 {
			continue
		}
		if models[c.Name], err = onnx.Parse(c.Model); err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
	}
	return models
}

// TestExportedNetworksAdapt takes networks as they come, and checks that an interaction lowers its own loss.
func TestExportedNetworksAdapt(t *testing.T) {
	compile := onRuntime(t)
	for what, m := range exportedModels(t) {
		t.Run(what, func(t *testing.T) {
			n, err := adapt.NewNetwork(m, adapt.Trainable{})
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range n.Params() {
				if strings.Contains(p, "running") || n.Source()[i].Len() < 2 && !strings.Contains(p, "bias") && !strings.Contains(p, "weight") {
					t.Errorf("%s is no weight", p)
				}
			}
			e := engine(t, n, compile)
			s := scribbled(n.Channels, n.Classes)
			for i, v := range s.X.Float32s() {
				s.X.Float32s()[i] = 6*v - 3 // some of these random networks are dead on positive images
			}
			c := quick()
			c.LearningRate, c.Lambda = 1e-2, 1
			_, next, r := interact(t, e, c, e.NewSets(1), s, 1)
			before, after := r.Losses[0][0]+r.Losses[0][1], r.Losses[1][0]+r.Losses[1][1]
			if !(after < before) || math.IsNaN(float64(after)) {
				t.Errorf("losses %v", r.Losses)
			}
			still := 0
			for i := range n.Params() {
				if same(next.Student[i].Float32s(), n.Source()[i].Float32s()) {
					still++
				}
			}
			if still > len(n.Params())/4 {
				t.Errorf("%d of %d weights have not moved", still, len(n.Params()))
			}
		})
	}
}

// TestAnswersOfAnotherSize refuses a network that answers at half the resolution, by name and not by a crash.
func TestAnswersOfAnotherSize(t *testing.T) {
	m := pointwise(2)
	b := onnx.NewBuilder(m.Graph, "half/")
	small := b.Op("MaxPool", []string{"y"}, onnx.WithInts("kernel_shape", 2, 2), onnx.WithInts("strides", 2, 2))
	m.Graph.Outputs = []onnx.Value{{Name: small, DType: tensor.Float32, Shape: onnx.Shape{{Symbol: "N"}, {Size: 2}, {Symbol: "h"}, {Symbol: "w"}}}}
	n := network(t, m, adapt.Trainable{})
	e := engine(t, n, onInterpreter)
	_, _, _, err := e.Interact(t.Context(), quick(), e.NewSets(1), scribbled(1, 2), 1)
	if err == nil || !strings.Contains(err.Error(), "8×8") {
		t.Errorf("error %v, want one that says what the network answers", err)
	}
}
