package adapt_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
)

// TestGraphsForOthers writes the graphs of an interaction as files and has them looked at by ONNX's checker and by another version of ONNX Runtime: they
// are standard ONNX, and answer there what they answer here. Needs a Python, named by SCRAWL_PYTHON, with onnx and onnxruntime.
func TestGraphsForOthers(t *testing.T) {
	python := os.Getenv("SCRAWL_PYTHON")
	if python == "" || exec.Command(python, "-c", "import onnx, onnxruntime").Run() != nil {
		const how = "`pip install onnx onnxruntime`, and SCRAWL_PYTHON set to that Python"
		if os.Getenv("SCRAWL_REQUIRE") == "1" {
			t.Fatal("SCRAWL_REQUIRE=1: needs " + how)
		}
		t.Skip("SKIPPED, needs " + how)
	}
	folder := t.TempDir()
	compile := onRuntime(t)
	for what, n := range map[string]*adapt.Network{
		"conditioned": smallUNet(t, 4, 2, adapt.Trainable{}), "image": smallUNet(t, 1, 3, adapt.Trainable{}),
		"head": smallUNet(t, 1, 2, adapt.Trainable{Include: []string{"head.*"}}), "volume": network(t, meshNet(1, 2, -1, -1, -1, -1), adapt.Trainable{}),
		"one by one": network(t, insistent(meshNet(1, 2, 1, 5, 7, 6)), adapt.Trainable{}),
	} {
		for name, m := range interactionGraphs(t, n) {
			if what != "conditioned" && name != "pseudo" && name != "thesis" {
				continue
			}
			writeGraph(t, compile, filepath.Join(folder, strings.ReplaceAll(what+" "+name, " ", "_")), n, m)
		}
	}
	out, err := exec.Command(python, "testdata/check_graphs.py", folder).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	version := orttest.Library(t).Version()
	if strings.Contains(string(out), fmt.Sprintf("onnxruntime %v\n", version)) {
		t.Logf("the Python's ONNX Runtime has the version of this one, %v", version)
	}
}

// interactionGraphs are all the graphs that the thesis's policy, hindsight and training run.
func interactionGraphs(t *testing.T, n *adapt.Network) map[string]*onnx.Model {
	t.Helper()
	pseudo, err := n.PseudoGraph([]int{0})
	if err != nil {
		t.Fatal(err)
	}
	graphs := map[string]*onnx.Model{"predict": n.PredictGraph(false), "source": n.PredictGraph(true), "pseudo": pseudo}
	for name, o := range map[string]adapt.StepOptions{
		"thesis": {Batch: 1, Averages: 1, AveragePerStep: true}, "once": {Batch: 1, Averages: 1},
		"hindsight": {Batch: 4, Averages: 2, AveragePerStep: true}, "training": {Batch: 2, Averages: 1, AveragePerStep: true, Optimizer: adapt.AdamW, Dice: true, ClipNorm: 1},
	} {
		if graphs[name], err = n.StepGraph(o); err != nil {
			t.Fatal(err)
		}
	}
	return graphs
}

// writeGraph writes a graph with inputs for it, their shapes, and what it answers here.
func writeGraph(t *testing.T, compile adapt.Compiler, path string, n *adapt.Network, m *onnx.Model) {
	t.Helper()
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	s, err := compile(m)
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]*tensor.Tensor{}
	var shapes strings.Builder
	var raw []byte
	for i, v := range m.Graph.Inputs {
		x := inputFor(v, uint64(i))
		for k, p := range n.Params() {
			if strings.HasSuffix(v.Name, p) && !strings.Contains(v.Name, "moment") {
				x = n.Source()[k]
			}
		}
		in[v.Name] = x
		fmt.Fprintln(&shapes, "shape", strings.Trim(fmt.Sprint(x.Shape()), "[]"))
		if v.DType == tensor.Int64 {
			for _, v := range x.Int64s() {
				raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
			}
			continue
		}
		raw, err = binary.Append(raw, binary.LittleEndian, x.Float32s())
		if err != nil {
			t.Fatal(err)
		}
	}
	out, err := s.Run(t.Context(), in, nil)
	if err != nil {
		t.Fatalf("%s: %v", filepath.Base(path), err)
	}
	var answers []byte
	for _, o := range m.Graph.Outputs {
		if answers, err = binary.Append(answers, binary.LittleEndian, out[o.Name].Float32s()); err != nil {
			t.Fatal(err)
		}
	}
	for suffix, content := range map[string][]byte{".onnx": data, ".inputs.bin": raw, ".outputs.bin": answers, ".shapes": []byte(shapes.String())} {
		if err := os.WriteFile(path+suffix, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// inputFor makes a value for an input of an interaction graph: small positive numbers, three steps.
func inputFor(v onnx.Value, seed uint64) *tensor.Tensor {
	sizes := map[string]int{"N": 2, "S": 2, "D": 8, "H": side, "W": side}
	shape := make([]int, len(v.Shape))
	for i, d := range v.Shape {
		if shape[i] = int(d.Size); !d.Known() {
			shape[i] = sizes[d.Symbol]
		}
	}
	if v.DType == tensor.Int64 {
		x := tensor.Zeros[int64](shape...)
		for i := range x.Int64s() {
			x.Int64s()[i] = 3
		}
		return x
	}
	x := noise(seed, shape...)
	for i := range x.Float32s() {
		x.Float32s()[i] *= 0.1
	}
	return x
}
