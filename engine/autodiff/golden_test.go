package autodiff_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// golden is one differentiated model with PyTorch's answers; testdata/make_goldens.py writes them and says what the fields mean.
type golden struct {
	Name    string             `json:"name"`
	Op      string             `json:"op"`
	Model   []byte             `json:"model"`  // ONNX file; empty when it is that of an earlier golden with the same Shared
	Shared  string             `json:"shared"` // models exported once and recorded at several sizes
	Inputs  map[string]*packed `json:"inputs"`
	Outputs map[string]*packed `json:"outputs"`
	DY      map[string]*packed `json:"dy"`
	Grads   map[string]*packed `json:"grads"`
	Dynamic map[string][]int   `json:"dynamic"` // axes of inputs that a symbolic size may stand for
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
		err = fmt.Errorf("golden holds a tensor of type %q; want float32, float64, int64, int32 or bool", raw.Type)
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

// groups are the files of testdata, without their ending.
var groups = []string{
	"convolution", "normalization", "activation", "pooling", "resize", "shape", "arithmetic", "reduction", "linear", "chain", "export", "selection",
}

func loadGoldens(tb testing.TB, group string) []*golden {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", group+".json.gz"))
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
	var file struct {
		Cases []*golden `json:"cases"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		tb.Fatalf("%s: %v", group, err)
	}
	shared := map[string][]byte{}
	for _, g := range file.Cases {
		if g.Shared == "" {
			continue
		}
		if len(g.Model) > 0 {
			shared[g.Shared] = g.Model
		}
		g.Model = shared[g.Shared]
	}
	return file.Cases
}

// graph reads and normalises the golden's model. Parameters that have a recorded gradient become inputs of the graph, as they are in
// the engine's own graphs, and their values are returned.
func (g *golden) graph(tb testing.TB) (*onnx.Model, map[string]*tensor.Tensor) {
	tb.Helper()
	m, err := onnx.Parse(g.Model)
	if err != nil {
		tb.Fatalf("parse: %v", err)
	}
	if m, err = onnx.Normalize(m); err != nil {
		tb.Fatalf("normalize: %v", err)
	}
	params := map[string]*tensor.Tensor{}
	var rest []onnx.Initializer
	for _, init := range m.Graph.Initializers {
		if _, ok := g.Grads[init.Name]; !ok {
			rest = append(rest, init)
			continue
		}
		params[init.Name] = init.Tensor
		m.Graph.Inputs = append(m.Graph.Inputs, onnx.Value{Name: init.Name, DType: init.Tensor.DType(), Shape: fixedShape(init.Tensor)})
	}
	m.Graph.Initializers = rest
	return m, params
}

// inputs are the golden's own inputs and the given parameters.
func (g *golden) inputs(params map[string]*tensor.Tensor) map[string]*tensor.Tensor {
	in := map[string]*tensor.Tensor{}
	for k, v := range g.Inputs {
		in[k] = v.Tensor
	}
	for k, v := range params {
		in[k] = v
	}
	return in
}

func (g *golden) cotangents() map[string]*tensor.Tensor {
	dy := map[string]*tensor.Tensor{}
	for k, v := range g.DY {
		dy[k] = v.Tensor
	}
	return dy
}

func fixedShape(t *tensor.Tensor) onnx.Shape {
	s := make(onnx.Shape, t.Rank())
	for i, d := range t.Shape() {
		s[i] = onnx.Dim{Size: int64(d)}
	}
	return s
}

// symbolize puts symbols in place of the sizes that the golden allows to vary.
func (g *golden) symbolize(graph *onnx.Graph) {
	for i, in := range graph.Inputs {
		for _, axis := range g.Dynamic[in.Name] {
			graph.Inputs[i].Shape[axis] = onnx.Dim{Symbol: fmt.Sprintf("axis%d_of_%d", axis, graph.Inputs[i].Shape[axis].Size)}
		}
	}
	for i, out := range graph.Outputs {
		if len(g.Dynamic) > 0 && out.Shape != nil {
			for axis := range out.Shape { // sizes the file declares no longer hold
				graph.Outputs[i].Shape[axis] = onnx.Dim{Symbol: fmt.Sprintf("%s_axis%d", out.Name, axis)}
			}
		}
	}
}

// oracle is one of the independent checks of a gradient.
type oracle int

const (
	byPyTorch oracle = iota // recorded float64 gradients, evaluated by refexec
	byNumbers               // central differences of refexec's forward
	byRuntime               // recorded gradients, evaluated by ONNX Runtime in float32
	oracles
)

func (o oracle) String() string { return [...]string{"PyTorch", "numeric", "ONNX Runtime"}[o] }

// matrix counts, per operator, the checks that passed and failed.
type matrix struct {
	mu    sync.Mutex
	cells map[string]*[oracles][2]int
}

func (m *matrix) note(op string, o oracle, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cells == nil {
		m.cells = map[string]*[oracles][2]int{}
	}
	if m.cells[op] == nil {
		m.cells[op] = &[oracles][2]int{}
	}
	k := 0
	if !ok {
		k = 1
	}
	m.cells[op][o][k]++
}

func (m *matrix) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "checks passed/failed\n%-24s", "operator")
	for o := range oracles {
		fmt.Fprintf(&b, " %14s", o)
	}
	for _, op := range sortedKeys(m.cells) {
		fmt.Fprintf(&b, "\n%-24s", op)
		for o := range oracles {
			c := m.cells[op][o]
			cell := fmt.Sprintf("%d/%d", c[0], c[1])
			if c == [2]int{} {
				cell = "-"
			}
			fmt.Fprintf(&b, " %14s", cell)
		}
	}
	return b.String()
}
