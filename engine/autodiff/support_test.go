package autodiff_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
	"scrawl/engine/onnx/refexec"
)

var update = flag.Bool("update", false, "write operators.md anew")

// rewritten are operators that reading a model writes in terms of others, so that their gradients are those of the others.
var rewritten = []string{"Attention", "CastLike", "Constant", "Dropout", "Gelu", "GroupNormalization", "RMSNormalization", "Swish", "Upsample"}

// support is what the tests' own data say of one operator.
type support struct {
	opsets   map[int64]bool // of the models that hold it and are run
	nodes    int            // of ONNX's node tests that hold it
	recorded int            // gradients recorded from PyTorch of models that hold it
}

// evidence goes through all recorded models.
func evidence(t *testing.T) map[string]*support {
	t.Helper()
	found := map[string]*support{}
	see := func(model []byte, count func(*support)) {
		m, err := onnx.Parse(model)
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range slices.Sorted(maps.Keys(operatorsOf(m.Graph))) {
			s := found[op]
			if s == nil {
				s = &support{opsets: map[int64]bool{}}
				found[op] = s
			}
			s.opsets[m.Opsets[""]] = true
			count(s)
		}
	}
	for _, c := range modelsOf(t, "../onnx/testdata/backend.json.gz") {
		see(c, func(s *support) { s.nodes++ })
	}
	for _, c := range modelsOf(t, "../onnx/testdata/operators.json.gz") {
		see(c, func(*support) {})
	}
	for _, group := range groups {
		for _, g := range loadGoldens(t, group) {
			see(g.Model, func(s *support) { s.recorded++ })
		}
	}
	return found
}

// modelsOf reads the models of a file of cases.
func modelsOf(t *testing.T, path string) [][]byte {
	t.Helper()
	var file struct{ Cases []struct{ Model []byte } }
	readCases(t, path, &file)
	var models [][]byte
	for _, c := range file.Cases {
		models = append(models, c.Model)
	}
	return models
}

func readCases(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(r).Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func operatorsOf(g *onnx.Graph) map[string]bool {
	ops := map[string]bool{}
	for _, n := range g.Nodes {
		ops[n.Op] = true
		for _, a := range n.Attrs {
			if a.Graph != nil {
				maps.Copy(ops, operatorsOf(a.Graph))
			}
		}
	}
	return ops
}

const preamble = `# Operators

What Scrawl does with each operator of ONNX's default domain. Written by ` + "`go generate ./engine/autodiff`" + ` from the tests' own data; a test
fails when it is out of date.

- **read**: the opsets of the recorded models with this operator that are read, brought to opset %d, and run. All opsets from 7 to 26 are read.
- **node tests**: how many of ONNX's own backend node tests hold it; they run through the reference interpreter and through ONNX Runtime.
- **gradient**: has a vector-Jacobian product (*yes*), is written in terms of operators that have one when a model is read (*rewritten*), or carries
  none (–): what it computes is a constant to the gradient, or an error names the node, the operator and the way out.
- **numeric**: a property test holds the gradient to numeric differences in float64, on random shapes and attributes.
- **PyTorch**: how many recorded gradients of PyTorch, of single operators and of networks, go through it.
- **CPU**: forward and gradient run in ONNX Runtime's CPU provider in the tests.
- **CUDA**: %s

| operator | read | node tests | gradient | numeric | PyTorch | CPU | CUDA |
|---|---|---|---|---|---|---|---|
`

// claimed are all operators that models may hold.
func claimed() []string {
	all := slices.Concat(refexec.Operators(), rewritten)
	slices.Sort(all)
	return slices.Compact(all)
}

// cudaSays explains the last column; device is "" without a record.
func cudaSays(device string) string {
	if device == "" {
		return "not run: no record of a GPU is kept. The graphs hold standard operators only."
	}
	return "how many recorded models with it, their gradients included, gave the CPU's answers and PyTorch's gradients in the CUDA provider\n  (" + device +
		"). *By the CPU*: the share of its nodes, in models and gradients, that the runtime gave to the CPU there, as it does with\n  arithmetic on shapes and with forms that have no kernel."
}

// operatorTable writes the page.
func operatorTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	device, onCUDA := cudaColumn(t)
	fmt.Fprintf(&b, preamble, onnx.Opset, cudaSays(device))
	found, properties := evidence(t), operators()
	differentiable := autodiff.Operators()
	for _, op := range claimed() {
		s := found[op]
		if s == nil {
			t.Errorf("no recorded model has the operator %s", op)
			continue
		}
		gradient, numeric := "–", "–"
		switch {
		case slices.Contains(differentiable, op):
			gradient = "yes"
		case slices.Contains(rewritten, op):
			gradient = "rewritten"
		}
		if properties[op] != nil || slices.Contains(elsewhere, op) {
			numeric = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | yes | %s |\n", op, joined(slices.Sorted(maps.Keys(s.opsets))), count(s.nodes), gradient, numeric, count(s.recorded), onCUDA(op))
	}
	return b.String()
}

func count(n int) string {
	if n == 0 {
		return "–"
	}
	return fmt.Sprint(n)
}

func joined(opsets []int64) string {
	var s []string
	for _, v := range opsets {
		s = append(s, fmt.Sprint(v))
	}
	return strings.Join(s, " ")
}

// TestOperatorTable holds operators.md to what the tests hold.
func TestOperatorTable(t *testing.T) {
	want := operatorTable(t)
	const path = "operators.md"
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("operators.md is out of date (%v): run go generate ./engine/autodiff", err)
	}
}
