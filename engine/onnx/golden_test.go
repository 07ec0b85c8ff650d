package onnx_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scrawl/engine/onnx"
	"scrawl/engine/onnx/refexec"
	"scrawl/engine/tensor"
)

// golden is a model with the outputs that ONNX Runtime or PyTorch computes; testdata/make_goldens.py writes them and says what the fields mean.
type golden struct {
	Name    string             `json:"name"`
	Model   string             `json:"model"`
	Inputs  map[string]*packed `json:"inputs"`
	Outputs map[string]*packed `json:"outputs"`
	Dynamic map[string][]int   `json:"dynamic"`
}

// packed is a tensor in JSON: little-endian elements in base64.
type packed struct{ *tensor.Tensor }

func (p *packed) UnmarshalJSON(data []byte) error {
	var raw struct {
		Shape []int  `json:"shape"`
		Type  string `json:"type"`
		Data  []byte `json:"data"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	var err error
	switch raw.Type {
	case "float32":
		p.Tensor, err = unpack[float32](raw.Shape, raw.Data)
	case "float64":
		p.Tensor, err = unpack[float64](raw.Shape, raw.Data)
	case "int64":
		p.Tensor, err = unpack[int64](raw.Shape, raw.Data)
	case "int32":
		p.Tensor, err = unpack[int32](raw.Shape, raw.Data)
	case "bool":
		p.Tensor, err = unpack[bool](raw.Shape, raw.Data)
	default:
		err = fmt.Errorf("golden holds a tensor of type %q", raw.Type)
	}
	return err
}

func unpack[T tensor.Element](shape []int, data []byte) (*tensor.Tensor, error) {
	n, err := tensor.Count(shape)
	if err != nil {
		return nil, err
	}
	v := make([]T, n)
	if err := binary.Read(bytes.NewReader(data), binary.LittleEndian, v); err != nil {
		return nil, fmt.Errorf("golden of shape %v: %w", shape, err)
	}
	return tensor.New(shape, v)
}

func loadGoldens(tb testing.TB, file string) []*golden {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		tb.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		tb.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		tb.Fatal(err)
	}
	var content struct {
		Cases []*golden `json:"cases"`
	}
	if err := json.Unmarshal(text, &content); err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
	return content.Cases
}

// bytes returns the model file.
func (g *golden) bytes(tb testing.TB) []byte {
	tb.Helper()
	if strings.HasSuffix(g.Model, ".onnx") {
		data, err := os.ReadFile(filepath.Join("testdata", g.Model))
		if err != nil {
			tb.Fatal(err)
		}
		return data
	}
	var data []byte
	if err := json.Unmarshal([]byte(`"`+g.Model+`"`), &data); err != nil {
		tb.Fatal(err)
	}
	return data
}

func (g *golden) inputs() map[string]*tensor.Tensor {
	in := map[string]*tensor.Tensor{}
	for k, v := range g.Inputs {
		in[k] = v.Tensor
	}
	return in
}

func (g *golden) parse(tb testing.TB) *onnx.Model {
	tb.Helper()
	m, err := onnx.Parse(g.bytes(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func normalize(tb testing.TB, m *onnx.Model) *onnx.Model {
	tb.Helper()
	n, err := onnx.Normalize(m)
	if err != nil {
		tb.Fatal(err)
	}
	if err := onnx.Check(n.Graph); err != nil {
		tb.Fatal(err)
	}
	return n
}

func allGoldens(tb testing.TB) []*golden {
	return append(loadGoldens(tb, "operators.json.gz"), loadGoldens(tb, "exports.json.gz")...)
}

// TestAgainstOracles normalises every golden model, interprets it, and compares with ONNX Runtime's or PyTorch's outputs.
func TestAgainstOracles(t *testing.T) {
	for _, g := range allGoldens(t) {
		t.Run(g.Name, func(t *testing.T) {
			m := normalize(t, g.parse(t))
			got, err := refexec.Run(m.Graph, g.inputs())
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range g.Outputs {
				compare(t, name, got[name], want.Tensor)
			}
		})
	}
}

func compare(t *testing.T, name string, got, want *tensor.Tensor) {
	t.Helper()
	if got == nil {
		t.Fatalf("%s is missing", name)
	}
	if !slices.Equal(got.Shape(), want.Shape()) {
		t.Fatalf("%s has shape %v, want %v", name, got.Shape(), want.Shape())
	}
	a, b := numbers(got), numbers(want)
	for i := range a {
		tolerance := 0.0
		if want.DType().IsFloat() {
			tolerance = 2e-5 * (1 + math.Abs(b[i]))
		}
		if same := a[i] == b[i] || math.IsNaN(a[i]) && math.IsNaN(b[i]); !same && !(math.Abs(a[i]-b[i]) <= tolerance) {
			t.Fatalf("%s[%d] is %v, want %v", name, i, a[i], b[i])
		}
	}
}

func numbers(t *tensor.Tensor) []float64 {
	out := make([]float64, t.Len())
	for i := range out {
		switch t.DType() {
		case tensor.Float32:
			out[i] = float64(t.Float32s()[i])
		case tensor.Float64:
			out[i] = tensor.Data[float64](t)[i]
		case tensor.Int64:
			out[i] = float64(t.Int64s()[i])
		case tensor.Int32:
			out[i] = float64(tensor.Data[int32](t)[i])
		case tensor.Bool:
			if tensor.Data[bool](t)[i] {
				out[i] = 1
			}
		}
	}
	return out
}

// TestRoundTrip writes every golden model and reads it back: the same IR, and the same bytes the second time.
func TestRoundTrip(t *testing.T) {
	for _, g := range allGoldens(t) {
		m := g.parse(t)
		for _, m := range []*onnx.Model{m, normalize(t, m)} {
			first, err := m.Marshal()
			if err != nil {
				t.Fatalf("%s: %v", g.Name, err)
			}
			back, err := onnx.Parse(first)
			if err != nil {
				t.Fatalf("%s: %v", g.Name, err)
			}
			if diff := cmp.Diff(m, back, cmp.Comparer(equalTensors)); diff != "" {
				t.Errorf("%s: the model changes when it is written and read:\n%s", g.Name, diff)
			}
			second, err := back.Marshal()
			if err != nil || !bytes.Equal(first, second) {
				t.Errorf("%s: the bytes differ the second time (%v)", g.Name, err)
			}
		}
	}
}

func equalTensors(a, b *tensor.Tensor) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.DType() == b.DType() && slices.Equal(a.Shape(), b.Shape()) && slices.Equal(numbers(a), numbers(b))
}

// TestNormalizeAgain normalises what is normalised: nothing may change but names.
func TestNormalizeAgain(t *testing.T) {
	for _, g := range allGoldens(t) {
		once := normalize(t, g.parse(t))
		twice := normalize(t, once)
		if a, b := operators(once.Graph), operators(twice.Graph); !slices.Equal(a, b) {
			t.Errorf("%s: normalised once it has nodes %v, twice %v", g.Name, a, b)
		}
	}
}

func operators(g *onnx.Graph) []string {
	var ops []string
	for _, n := range g.Nodes {
		ops = append(ops, n.Op)
	}
	return ops
}

// TestInferAgainstExecution compares all that Infer says, with fixed and with symbolic inputs, with what the interpreter finds.
func TestInferAgainstExecution(t *testing.T) {
	for _, g := range allGoldens(t) {
		t.Run(g.Name, func(t *testing.T) {
			m := normalize(t, g.parse(t))
			values, err := refexec.Run(m.Graph, g.inputs())
			if err != nil {
				t.Fatal(err)
			}
			sizes := map[string]int64{}
			for _, in := range m.Graph.Inputs {
				bind(t, in.Shape, values[in.Name].Shape(), sizes)
			}
			checkFacts(t, m.Graph, values, sizes)
			if len(g.Dynamic) == 0 {
				return
			}
			for i, in := range m.Graph.Inputs {
				s := slices.Clone(in.Shape)
				for _, a := range g.Dynamic[in.Name] {
					// Axes of one size share a symbol, as those of the inputs of one network do.
					s[a] = onnx.Dim{Symbol: fmt.Sprintf("S%d", s[a].Size)}
				}
				m.Graph.Inputs[i].Shape = s
				bind(t, s, values[in.Name].Shape(), sizes)
			}
			checkFacts(t, m.Graph, values, sizes)
		})
	}
}

func bind(t *testing.T, s onnx.Shape, actual []int, sizes map[string]int64) {
	t.Helper()
	for i, d := range s {
		if !d.Known() {
			sizes[d.Symbol] = int64(actual[i])
		}
	}
}

// dataDependent lists the operators whose outputs' sizes, or ranks, no inference can know.
var dataDependent = []string{"NonZero", "Loop"}

func checkFacts(t *testing.T, g *onnx.Graph, values map[string]*tensor.Tensor, sizes map[string]int64) {
	t.Helper()
	facts, err := onnx.Infer(g)
	if err != nil {
		t.Fatal(err)
	}
	makers := map[string]*onnx.Node{}
	for _, n := range g.Nodes {
		for _, o := range n.Outputs {
			makers[o] = n
		}
	}
	for name, v := range values {
		f, ok := facts[name]
		if !ok {
			t.Errorf("nothing is said of %q", name)
			continue
		}
		free := makers[name] != nil && slices.Contains(dataDependent, makers[name].Op)
		if f.Shape == nil {
			if !free {
				t.Errorf("%q has no shape (by %v)", name, makers[name])
			}
			continue
		}
		if len(f.Shape) != v.Rank() {
			t.Errorf("%q: shape %v, but it is %v", name, f.Shape, v.Shape())
			continue
		}
		for i, d := range f.Shape {
			size, invented := d.Size, ""
			if !d.Known() {
				size, invented = onnx.EvalSymbol(d.Symbol, sizes)
			}
			if invented != "" && !free {
				t.Errorf("%q: shape %v has an invented size", name, f.Shape)
			}
			if invented == "" && size != int64(v.Shape()[i]) {
				t.Errorf("%q: shape %v, but it is %v with %v", name, f.Shape, v.Shape(), sizes)
			}
		}
		if f.DType.IsFloat() != v.DType().IsFloat() || (f.DType == tensor.Bool) != (v.DType() == tensor.Bool) {
			t.Errorf("%q: type %s, but it is %s", name, f.DType, v.DType())
		}
		if f.Value != nil {
			compare(t, "inferred value of "+name, f.Value, v)
		}
	}
}

// TestEveryOperatorHasAGolden keeps the interpreter's and the checker's operators in step with the goldens.
func TestEveryOperatorHasAGolden(t *testing.T) {
	seen := map[string]bool{}
	var visit func(g *onnx.Graph)
	visit = func(g *onnx.Graph) {
		for _, n := range g.Nodes {
			seen[n.Op] = true
			for _, a := range n.Attrs {
				if a.Graph != nil {
					visit(a.Graph)
				}
			}
		}
	}
	for _, g := range allGoldens(t) {
		m := g.parse(t)
		visit(m.Graph)
		visit(normalize(t, m).Graph)
	}
	for _, op := range refexec.Operators() {
		if !seen[op] {
			t.Errorf("no golden model has the operator %s", op)
		}
		n := &onnx.Node{Op: op, Outputs: []string{"y"}}
		if err := onnx.Check(&onnx.Graph{Nodes: []*onnx.Node{n}}); err != nil && strings.Contains(err.Error(), "not known") {
			t.Errorf("the interpreter knows an operator that Check does not: %v", err)
		}
	}
}
