package autodiff_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
)

// cudaRecord is where the table of operators has its column on CUDA from; TestOperatorsOnCUDA writes it.
const cudaRecord = "testdata/cuda.json"

// deviceRecord is what the recorded models did on one device.
type deviceRecord struct {
	Runtime   string             `json:"runtime"` // version of ONNX Runtime
	Device    string             `json:"device"`
	Operators map[string]*placed `json:"operators"`
	Differing []string           `json:"differing,omitempty"` // models whose answers or gradients are not the CPU's
	mu        sync.Mutex
}

// placed is what a record says of one operator.
type placed struct {
	Models    int `json:"models"`              // recorded models with it that were run
	Gradients int `json:"gradients,omitempty"` // of these, with their gradient
	Differing int `json:"differing,omitempty"` // of these, with an answer that is not the CPU's
	// Nodes of this operator, in these models and in the gradients, by the processor that the runtime chose for them.
	OnCUDA int `json:"on_cuda,omitempty"`
	OnCPU  int `json:"on_cpu,omitempty"`
}

func (r *deviceRecord) of(op string) *placed {
	if r.Operators == nil {
		r.Operators = map[string]*placed{}
	}
	if r.Operators[op] == nil {
		r.Operators[op] = &placed{}
	}
	return r.Operators[op]
}

// note adds a model that was run.
func (r *deviceRecord) note(c deviceCase, nodes []ort.NodeRun, same bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for op := range c.operators {
		p := r.of(op)
		p.Models++
		if c.gradient {
			p.Gradients++
		}
		if !same {
			p.Differing++
		}
	}
	if !same {
		r.Differing = append(r.Differing, c.name)
	}
	for _, n := range nodes {
		if n.Provider == "CUDA" {
			r.of(n.Op).OnCUDA++
		} else {
			r.of(n.Op).OnCPU++
		}
	}
}

// deviceCase is a recorded model to run on a device.
type deviceCase struct {
	name      string
	operators map[string]bool // of the model as it was recorded
	gradient  bool
	// build returns the model, with its gradient where that is recorded, and all that it takes; nil for a form that is refused where models
	// are read, which other tests look at.
	build func(*testing.T) (*onnx.Model, map[string]*tensor.Tensor)
	// check holds answers against those recorded, alike against the CPU's.
	check func(t *testing.T, got map[string]*tensor.Tensor)
	alike func(t *testing.T, got, cpu map[string]*tensor.Tensor)
}

// gradientCases are the group's models with their gradients, which PyTorch has computed.
func gradientCases(t *testing.T, group string) []deviceCase {
	var cases []deviceCase
	for _, g := range loadGoldens(t, group) {
		m, err := onnx.Parse(g.Model)
		if err != nil {
			t.Fatal(err)
		}
		cases = append(cases, deviceCase{
			name: group + "/" + g.Name, operators: operatorsOf(m.Graph), gradient: true,
			build: func(t *testing.T) (*onnx.Model, map[string]*tensor.Tensor) { return g.gradientModel(t, false) },
			check: g.compareFloat32,
			alike: func(t *testing.T, got, cpu map[string]*tensor.Tensor) {
				for name, want := range cpu {
					compare(t, name+" beside the CPU's", got[name], want, float32Tolerance, g.floor())
				}
			},
		})
	}
	return cases
}

// nodeCases are ONNX's own node tests, forward only.
func nodeCases(t *testing.T) []deviceCase {
	var file struct {
		Tensors []*packed
		Cases   []struct {
			Name       string
			Model      []byte
			Inputs     map[string]int
			RTol, ATol float64
		}
	}
	readCases(t, "../onnx/testdata/backend.json.gz", &file)
	var cases []deviceCase
	for _, c := range file.Cases {
		m, err := onnx.Parse(c.Model)
		if err != nil {
			t.Fatal(err)
		}
		in := map[string]*tensor.Tensor{}
		for name, i := range c.Inputs {
			in[name] = file.Tensors[i].Tensor
		}
		cases = append(cases, deviceCase{
			name: c.Name, operators: operatorsOf(m.Graph),
			build: func(*testing.T) (*onnx.Model, map[string]*tensor.Tensor) {
				n, err := onnx.Normalize(m)
				if err != nil || len(n.Graph.Inputs) == 0 {
					return nil, nil
				}
				return n, onlyInputs(n.Graph, in)
			},
			// What is right is the business of the test of the CPU, which knows the exceptions.
			check: func(*testing.T, map[string]*tensor.Tensor) {},
			alike: func(t *testing.T, got, cpu map[string]*tensor.Tensor) { compareElements(t, got, cpu, c.RTol, c.ATol) },
		})
	}
	return cases
}

// compareElements demands |got − want| ≤ atol + rtol·|want| of each element, as ONNX's own runner of its tests does.
func compareElements(t *testing.T, got, want map[string]*tensor.Tensor, rtol, atol float64) {
	t.Helper()
	for name, w := range want {
		g := got[name]
		if g == nil || !slices.Equal(g.Shape(), w.Shape()) {
			t.Errorf("output %q is %v, want the shape %v", name, g, w.Shape())
			continue
		}
		a, b := numbers(g), numbers(w)
		for i := range b {
			same := a[i] == b[i] || math.IsNaN(a[i]) && math.IsNaN(b[i])
			if !same && !(math.Abs(a[i]-b[i]) <= atol+rtol*math.Abs(b[i])) {
				t.Errorf("element %d of output %q is %g, want %g", i, name, a[i], b[i])
				break
			}
		}
	}
}

// numbers are a tensor's elements whatever their type, true as 1.
func numbers(t *tensor.Tensor) []float64 {
	switch t.DType() {
	case tensor.Int64:
		return converted(t.Int64s())
	case tensor.Int32:
		return converted(tensor.Data[int32](t))
	case tensor.Uint8:
		return converted(tensor.Data[uint8](t))
	case tensor.Int8:
		return converted(tensor.Data[int8](t))
	case tensor.Bool:
		v := make([]float64, t.Len())
		for i, b := range tensor.Data[bool](t) {
			if b {
				v[i] = 1
			}
		}
		return v
	}
	return floats(t)
}

func converted[T int64 | int32 | uint8 | int8](from []T) []float64 {
	v := make([]float64, len(from))
	for i, x := range from {
		v[i] = float64(x)
	}
	return v
}

// runOn runs a model once on a device; trace, when not empty, is the prefix of the file that says where its nodes ran.
func runOn(t *testing.T, lib *ort.Library, device, trace string, m *onnx.Model, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	t.Helper()
	options := ort.Options{Device: device, Threads: 1, Profile: trace}
	compile := lib.Compile
	if device != "cpu" { // as the product does
		compile = func(m *onnx.Model, o ort.Options) (*ort.Session, error) { return lower.NewCompiler(lib, o).Compile(m) }
	}
	s, err := compile(m, options)
	if err != nil {
		return nil, err
	}
	values, err := s.Run(t.Context(), in, nil)
	return values, errors.Join(err, s.Close())
}

// runCase runs one model on the device and on the CPU and adds what comes of it to the record.
func (r *deviceRecord) runCase(t *testing.T, lib *ort.Library, device string, c deviceCase) {
	m, in := c.build(t)
	if m == nil {
		t.Skip("a form that is refused where models are read")
	}
	cpu, err := runOn(t, lib, "cpu", "", m, in)
	if err != nil {
		t.Skipf("a form that this runtime refuses on the CPU: %v", err)
	}
	prefix := filepath.Join(t.TempDir(), "trace")
	got, err := runOn(t, lib, device, prefix, m, in)
	if err != nil {
		t.Error(err)
		r.note(c, nil, false)
		return
	}
	if device != "cpu" && onlyMasked[c.name] {
		r.note(c, readTraces(t, prefix), false)
		t.Skip("its softmax of a row of −∞ alone is 0 on ONNX Runtime's CPU and NaN on its CUDA; ONNX does not say which")
	}
	c.check(t, got)
	c.alike(t, got, cpu)
	r.note(c, readTraces(t, prefix), !t.Failed())
}

// onlyMasked are ONNX's node tests of attention in which nothing may be attended to.
var onlyMasked = map[string]bool{
	"test_attention_23_boolmask_fullymasked_row_nan_robustness_expanded":        true,
	"test_attention_23_fullymasked_qk_matmul_output_mode3_zero_expanded":        true,
	"test_attention_24_fullymasked_qk_matmul_output_mode3_zero_expanded":        true,
	"test_attention_4d_causal_nonpad_negative_offset_structural_empty_expanded": true,
	"test_attention_causal_boolmask_nan_robustness_expanded":                    true,
	"test_attention_local_window_gqa_rank4_mask_expanded":                       true,
}

// readTraces reads the traces with this prefix. A model that the runtime computed while it compiled it has nothing to tell.
func readTraces(t *testing.T, prefix string) []ort.NodeRun {
	t.Helper()
	files, err := filepath.Glob(prefix + "*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no trace was written: %v", err)
	}
	var all []ort.NodeRun
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		nodes, err := ort.ReadTrace(f)
		_ = f.Close() // only read
		if err != nil && !errors.Is(err, ort.ErrNothingRan) {
			t.Fatal(err)
		}
		all = append(all, nodes...)
	}
	return all
}

// run runs all cases, several at a time.
func (r *deviceRecord) run(t *testing.T, lib *ort.Library, device string, cases []deviceCase) {
	t.Helper()
	r.Runtime = lib.Version().String()
	t.Run("models", func(t *testing.T) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				r.runCase(t, lib, device, c)
			})
		}
	})
	slices.Sort(r.Differing)
}

// TestOperatorsOnCUDA runs every recorded model, and its gradient where that is recorded, on the CUDA provider, holds the answers to the CPU's and
// the gradients to PyTorch's too, and notes on which processor the runtime ran each operator. With SCRAWL_CUDA_RECORD=FILE it writes what it
// found, which as testdata/cuda.json fills the column of operators.md. On a machine with a GPU and without Go:
//
//	go test -c -o autodiff.test ./engine/autodiff     # here; then there, in engine/autodiff of a checkout
//	SCRAWL_CUDA_RECORD=cuda.json ./autodiff.test -test.run '^TestOperatorsOnCUDA$'
func TestOperatorsOnCUDA(t *testing.T) {
	lib := orttest.CUDA(t)
	var cases []deviceCase
	for _, group := range groups {
		cases = append(cases, gradientCases(t, group)...)
	}
	r := &deviceRecord{Device: gpuName(t)}
	r.run(t, lib, "cuda", append(cases, nodeCases(t)...))
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range claimed() {
		if p := r.Operators[op]; p == nil || p.Models == 0 {
			t.Errorf("no model with %s was run", op)
		}
	}
	path := os.Getenv("SCRAWL_CUDA_RECORD")
	if path == "" {
		t.Logf("SCRAWL_CUDA_RECORD names no file to write:\n%s", data)
		return
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// gpuName asks the driver's own program; without it, the record says CUDA.
func gpuName(t *testing.T) string {
	out, err := exec.CommandContext(t.Context(), "nvidia-smi", "--query-gpu=name", "--format=csv,noheader").Output()
	name, _, _ := strings.Cut(string(out), "\n")
	if err != nil || name == "" {
		return "CUDA"
	}
	return strings.TrimSpace(name)
}

// TestDeviceRecord runs some models the way that TestOperatorsOnCUDA does, with the CPU for a device, and sees that a difference is noted.
func TestDeviceRecord(t *testing.T) {
	lib := orttest.Library(t)
	cases := gradientCases(t, "selection")
	for _, c := range nodeCases(t) {
		if strings.HasPrefix(c.name, "test_argmax") || strings.HasPrefix(c.name, "test_and") {
			cases = append(cases, c)
		}
	}
	r := &deviceRecord{}
	r.run(t, lib, "cpu", cases)
	for _, op := range []string{"TopK", "Trilu", "ArgMax", "And"} {
		p := r.Operators[op]
		if p == nil || p.Models == 0 || p.OnCPU == 0 || p.OnCUDA != 0 || p.Differing != 0 {
			t.Errorf("%s: %+v", op, p)
		}
	}
	if p := r.Operators["TopK"]; p != nil && p.Gradients == 0 {
		t.Error("no gradient of TopK was run")
	}
	wrong := deviceCase{name: "wrong", operators: map[string]bool{"And": true}}
	r.note(wrong, []ort.NodeRun{{Op: "And", Provider: "CUDA"}}, false)
	if p := r.Operators["And"]; p.Differing != 1 || p.OnCUDA != 1 || !slices.Equal(r.Differing, []string{"wrong"}) {
		t.Errorf("a difference is noted as %+v, %v", p, r.Differing)
	}
}

// cudaColumn reads the record; it returns what it was made on, and each operator's cell.
func cudaColumn(t *testing.T) (device string, cell func(op string) string) {
	t.Helper()
	data, err := os.ReadFile(cudaRecord)
	if errors.Is(err, os.ErrNotExist) {
		return "", func(string) string { return "not run" }
	}
	var r deviceRecord
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s, ONNX Runtime %s", r.Device, r.Runtime), func(op string) string { return r.Operators[op].String() }
}

func (p *placed) String() string {
	switch {
	case p == nil || p.Models == 0:
		return "not run"
	case p.Differing > 0:
		return fmt.Sprintf("%d of %d differ", p.Differing, p.Models)
	case p.OnCPU > 0 && p.OnCUDA == 0:
		return fmt.Sprintf("%d, by the CPU", p.Models)
	case p.OnCPU > 0:
		return fmt.Sprintf("%d, %d%% by the CPU", p.Models, int(math.Ceil(100*float64(p.OnCPU)/float64(p.OnCPU+p.OnCUDA))))
	}
	return fmt.Sprint(p.Models)
}

// TestCUDACell shows what the table says.
func TestCUDACell(t *testing.T) {
	for _, c := range []struct {
		p    *placed
		want string
	}{
		{nil, "not run"},
		{&placed{OnCUDA: 3}, "not run"}, // only as a part of other operators' gradients
		{&placed{Models: 4, OnCUDA: 3}, "4"},
		{&placed{Models: 4}, "4"},
		{&placed{Models: 4, OnCPU: 3}, "4, by the CPU"},
		{&placed{Models: 4, OnCUDA: 299, OnCPU: 1}, "4, 1% by the CPU"},
		{&placed{Models: 4, OnCUDA: 3, Differing: 1}, "1 of 4 differ"},
	} {
		if got := c.p.String(); got != c.want {
			t.Errorf("%+v is %q, want %q", c.p, got, c.want)
		}
	}
}
