package lower

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/tensor"
)

// Forms are ways to compute gradients of weights that were found to be the fastest, by the convolution's geometry on a typical image. They
// decide the order in which numbers are summed: with the same forms, the same network gives the same bits, on every start.
type Forms map[string]Form

// Form says which operand is the filter, "dy" or "x", and into bands of how many bytes it is cut.
type Form struct {
	Filter string `json:"filter"`
	Band   int64  `json:"band"`
}

const (
	filterDY = "dy"
	filterX  = "x"
)

// typicalSide is the image that forms are chosen for; graphs serve all sizes.
const typicalSide = 256

// typicalSizes gives the symbols of a graph's inputs the sizes they have for a typical image.
func typicalSizes(g *onnx.Graph) map[string]int64 {
	unit := map[string]int64{"D": 1, "H": 1, "W": 1, "N": 1, "S": 1}
	multiple := int64(1)
	for _, in := range g.Inputs {
		for _, d := range in.Shape {
			if k, ok := onnx.SizeOf(d, unit); ok && !d.Known() {
				multiple = max(multiple, k)
			}
		}
	}
	side := max(typicalSide/multiple, 1)
	return map[string]int64{"D": side, "H": side, "W": side, "N": 1, "S": 1}
}

// formKey names the geometry of a weight's gradient; "" when its size is not known.
func (s *scope) formKey(p weightPlan) string {
	shape := s.shape(p.x)
	h, ok := onnx.SizeOf(shape[2], s.typical)
	w, ok2 := onnx.SizeOf(shape[3], s.typical)
	if !ok || !ok2 {
		return ""
	}
	return fmt.Sprintf("%v stride %v dilation %v pads %v of %dx%d", p.sizes, p.win.stride, p.win.dilation, p.win.pads, h, w)
}

// machine is what forms depend on besides the convolution.
type machine struct {
	CPU     string `json:"cpu"`
	Runtime string `json:"onnx_runtime"`
	Threads int    `json:"threads"`
	Block   int64  `json:"block"`
}

func thisMachine(lib *ort.Library, threads int, t Target) machine {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	return machine{CPU: cpuName(), Runtime: lib.Version().String(), Threads: threads, Block: t.Block}
}

// cpuName is the model of the CPU, or its architecture where the system does not tell.
func cpuName() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}

// stored is the file that forms are kept in.
type stored struct {
	Machine machine `json:"machine"`
	Forms   Forms   `json:"forms"`
}

// file is where the forms of a machine are kept: in the user's cache, one file for each CPU, library and number of threads.
func (m machine) file() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("measured forms: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v", m))
	return filepath.Join(dir, "scrawl", "forms", hex.EncodeToString(sum[:8])+".json"), nil
}

// load reads the forms of a machine; none have been kept is no error.
func (m machine) load() (Forms, error) {
	name, err := m.file()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return Forms{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("measured forms: %w", err)
	}
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("measured forms in %s: %w; delete the file", name, err)
	}
	if s.Machine != m || s.Forms == nil {
		return Forms{}, nil
	}
	return s.Forms, nil
}

func (m machine) save(f Forms) (string, error) {
	name, err := m.file()
	if err != nil {
		return "", err
	}
	data, err := json.MarshalIndent(stored{m, f}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("measured forms: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return "", fmt.Errorf("measured forms: %w", err)
	}
	if err := os.WriteFile(name+".new", append(data, '\n'), 0o644); err != nil {
		return "", fmt.Errorf("measured forms: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return "", fmt.Errorf("measured forms: %w", err)
	}
	return name, nil
}

// measured is this machine's target with the forms that have been kept for it. A file that cannot be read is as good as none.
func measured(lib *ort.Library, o ort.Options) Target {
	t := Probe(lib)
	if t.Block == 0 {
		return t
	}
	if f, err := thisMachine(lib, o.Threads, t).load(); err == nil {
		t.Forms = f
	}
	return t
}

// bands are the sizes that are tried.
var bands = []int64{128 << 10, 256 << 10, 512 << 10}

// Tune measures the forms of all weights' gradients in the models, on this machine and with the given options, and keeps them for
// compilers made later. Geometries that are known already are left as they are. progress is called before each geometry. It returns the
// name of the file and how many geometries it holds.
func Tune(ctx context.Context, lib *ort.Library, o ort.Options, models []*onnx.Model, progress func(done, total int)) (file string, known int, err error) {
	t := Probe(lib)
	if t.Block == 0 {
		return "", 0, errors.New("tune: the blocked kernels of ONNX Runtime cannot be used on this CPU, so there is nothing to choose")
	}
	here := thisMachine(lib, o.Threads, t)
	forms, err := here.load()
	if err != nil {
		return "", 0, fmt.Errorf("tune: %w", err)
	}
	open := map[string]gradientCase{}
	for _, m := range models {
		if err := collect(m, t, open); err != nil {
			return "", 0, fmt.Errorf("tune: %w", err)
		}
	}
	maps.DeleteFunc(open, func(key string, _ gradientCase) bool { _, ok := forms[key]; return ok })
	for i, key := range slices.Sorted(maps.Keys(open)) {
		progress(i, len(open))
		best, err := open[key].fastest(ctx, lib, o, t, key)
		if err != nil {
			return "", 0, fmt.Errorf("tune: convolution %s: %w", key, err)
		}
		forms[key] = best
	}
	progress(len(open), len(open))
	file, err = here.save(forms)
	return file, len(forms), err
}

// gradientCase is a weight's gradient on its own.
type gradientCase struct {
	sizes []int64
	win   window
	h, w  int64 // of x
}

// collect finds the weights' gradients of a model.
func collect(m *onnx.Model, t Target, into map[string]gradientCase) error {
	bodies, err := onnx.InferBodies(m.Graph)
	if err != nil {
		return err
	}
	typical := typicalSizes(m.Graph)
	for g, facts := range bodies {
		s := &scope{Target: t, from: g, facts: facts, typical: typical}
		for _, n := range g.Summaries {
			if n.Op != autodiff.ConvWeightGradient {
				continue
			}
			p := s.planWeightGradient(n)
			if !p.ok {
				continue
			}
			if key := s.formKey(p); key != "" {
				h, _ := onnx.SizeOf(s.shape(p.x)[2], typical)
				w, _ := onnx.SizeOf(s.shape(p.x)[3], typical)
				into[key] = gradientCase{p.sizes, p.win, h, w}
			}
		}
	}
	return nil
}

// model is the gradient alone, from x and dy.
func (c gradientCase) model() (*onnx.Model, map[string]*tensor.Tensor, error) {
	o := c.sizes[0]
	out := func(n int64, i int) int64 {
		return (n+c.win.pads[i]+c.win.pads[i+2]-c.win.extent(i))/c.win.stride[i] + 1
	}
	oh, ow := out(c.h, 0), out(c.w, 1)
	f32 := func(name string, sizes ...int64) onnx.Value {
		return onnx.Value{Name: name, DType: tensor.Float32, Shape: onnx.Fixed(sizes...)}
	}
	g := &onnx.Graph{Name: "gradient", Inputs: []onnx.Value{f32("x", 1, c.sizes[1], c.h, c.w), f32("w", c.sizes...), f32("dy", 1, o, oh, ow)}, Outputs: []onnx.Value{f32("dw", c.sizes...)}}
	b := onnx.NewBuilder(g, "g/")
	y := b.Op("Conv", []string{"x", "w"}, onnx.WithInts("kernel_shape", c.win.kernel...), onnx.WithInts("strides", c.win.stride...),
		onnx.WithInts("dilations", c.win.dilation...), onnx.WithInts("pads", c.win.pads...))
	grads, err := autodiff.Gradients(b, map[string]string{y: "dy"}, []string{"w"})
	if err != nil {
		return nil, nil, err
	}
	b.Alias(grads["w"], "dw")
	in := map[string]*tensor.Tensor{}
	for _, v := range g.Inputs {
		t := tensor.Zeros[float32](int(v.Shape[0].Size), int(v.Shape[1].Size), int(v.Shape[2].Size), int(v.Shape[3].Size))
		for i := range t.Float32s() {
			t.Float32s()[i] = float32(i%17-8) / 8
		}
		in[v.Name] = t
	}
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": onnx.Opset}, Graph: g}, in, nil
}

// fastest tries all forms in turn, several times each, and returns the one with the shortest run.
func (c gradientCase) fastest(ctx context.Context, lib *ort.Library, o ort.Options, t Target, key string) (best Form, err error) {
	m, in, err := c.model()
	if err != nil {
		return best, err
	}
	type candidate struct {
		form Form
		s    *ort.Session
		took time.Duration
	}
	var all []candidate
	defer func() {
		for _, c := range all {
			err = errors.Join(err, c.s.Close())
		}
	}()
	for _, filter := range []string{filterDY, filterX} {
		if filter == filterDY && c.sizes[0]%t.Block != 0 || filter == filterX && (c.sizes[1]%t.Block != 0 || !c.win.mirrors() || !slices.Equal(c.win.stride, []int64{1, 1})) {
			continue
		}
		for _, band := range bands {
			form := Form{filter, band}
			l, err := CPU(m, Target{Block: t.Block, Forms: Forms{key: form}})
			if err != nil {
				return best, err
			}
			s, err := lib.Compile(l, o)
			if err != nil {
				return best, err
			}
			all = append(all, candidate{form, s, 0})
		}
	}
	const rounds = 5
	for round := range rounds {
		for i := range all {
			start := time.Now()
			if _, err := all[i].s.Run(ctx, in, nil); err != nil {
				return best, err
			}
			if took := time.Since(start); round == 1 || round > 1 && took < all[i].took { // the first one warms up
				all[i].took = took
			}
		}
	}
	return slices.MinFunc(all, func(a, b candidate) int { return int(a.took - b.took) }).form, nil
}
