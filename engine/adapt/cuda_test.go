package adapt_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"scrawl/engine/adapt"
	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
)

// TestOnCUDA holds an interaction on a GPU against the CPU's, and that no work of it falls back to the CPU.
func TestOnCUDA(t *testing.T) {
	lib := orttest.CUDA(t)
	n := blockedUNet(t, adapt.Trainable{})
	prefix := filepath.Join(t.TempDir(), "trace")
	compiler := lower.NewCompiler(lib, ort.Options{Device: "cuda", Profile: prefix})
	var open []*ort.Session
	gpu := engine(t, n, closing(t, func(m *onnx.Model) (*ort.Session, error) {
		s, err := compiler.Compile(m)
		if err == nil {
			open = append(open, s)
		}
		return s, err
	}))
	s := adapt.Slice{X: noise(1, 1, 4, 64, 64), Scribble: filled(0.5, 1, 2, 64, 64), Marked: filled(1, 1, 1, 64, 64)}
	got, _, _, err := gpu.Interact(t.Context(), quick(), gpu.NewSets(1), s, 1)
	if err != nil {
		t.Fatal(err)
	}
	cpu := engine(t, n, onRuntime(t))
	want, _, _, err := cpu.Interact(t.Context(), quick(), cpu.NewSets(1), s, 1)
	if err != nil {
		t.Fatal(err)
	}
	if d := distance(got.Float32s(), want.Float32s()); d > 1e-3 {
		t.Errorf("answers of GPU and CPU differ by a share of %.2g", d)
	}
	for _, s := range open {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	files, _ := filepath.Glob(prefix + "*.json")
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		nodes, err := ort.ReadTrace(f)
		_ = f.Close() // only read
		if err != nil {
			t.Fatal(err)
		}
		if err := ort.CheckPlacement(nodes); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkOnCUDA is one interaction of the published method at 512² on a U-Net over ResNet-34: 16 augmented copies, 5 steps, the answer.
// It needs SCRAWL_PYTHON for the network.
func BenchmarkOnCUDA(b *testing.B) {
	lib := orttest.CUDA(b)
	r := rivals(b, startTwin(b, twinThreads(b)), "unet34")[0]
	for name, options := range map[string]map[string]string{"float32": nil, "tf32": {"use_tf32": "1"}} {
		for _, half := range []bool{false, true} {
			b.Run(name+map[bool]string{true: ", half answers"}[half], func(b *testing.B) {
				c := lower.NewCompiler(lib, ort.Options{Device: "cuda", CUDA: options})
				c.Half = half
				e, err := adapt.NewEngine(network(b, r.model, adapt.Trainable{}), r.images, closing(b, c.Compile))
				if err != nil {
					b.Fatal(err)
				}
				const size = 512
				s := adapt.Slice{X: noise(1, 1, 3, size, size), Scribble: filled(0.5, 1, 2, size, size), Marked: filled(1, 1, 1, size, size)}
				config := adapt.Thesis()
				config.FixedCopies, config.LearningRate = 16, 1e-6
				if _, _, _, err := e.Interact(b.Context(), config, e.NewSets(1), s, 1); err != nil { // builds the graphs and chooses algorithms
					b.Fatal(err)
				}
				total, runs := map[string]float64{}, 0
				for b.Loop() {
					_, _, report, err := e.Interact(b.Context(), config, e.NewSets(1), s, 1)
					if err != nil {
						b.Fatal(err)
					}
					for stage, t := range report.Seconds {
						total[stage] += t
					}
					runs++
				}
				seconds(b, total, runs)
			})
		}
	}
}

// TestTrace prints where the time of a step, of augmented copies and of an answer goes, by operator and node: of the network in the file that
// SCRAWL_TRACE names, on the device of SCRAWL_DEVICE, at the side SCRAWL_TRACE_SIDE (256). On a GPU, CUDA_LAUNCH_BLOCKING=1 gives each node its own time.
func TestTrace(t *testing.T) {
	path := os.Getenv("SCRAWL_TRACE")
	if path == "" {
		t.Skip("prints a profile of the network that SCRAWL_TRACE names")
	}
	size, err := strconv.Atoi(os.Getenv("SCRAWL_TRACE_SIDE"))
	if err != nil {
		size = 256
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	n := network(t, m, adapt.Trainable{})
	prefix := filepath.Join(t.TempDir(), "trace")
	compiler := lower.NewCompiler(orttest.Library(t), ort.Options{Device: os.Getenv("SCRAWL_DEVICE"), Profile: prefix})
	var open []*ort.Session
	e := engine(t, n, func(m *onnx.Model) (adapt.Session, error) {
		s, err := compiler.Compile(m)
		if err == nil {
			open = append(open, s)
		}
		return s, err
	})
	const runs = 3
	s := adapt.Slice{X: noise(1, 1, n.Channels, size, size), Scribble: filled(0.5, 1, n.Classes, size, size), Marked: filled(1, 1, 1, size, size)}
	c := adapt.Thesis()
	c.FixedCopies, c.LearningRate = 16, 1e-6
	for range runs {
		_, _, report, err := e.Interact(t.Context(), c, e.NewSets(1), s, 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(report.Seconds)
	}
	for _, s := range open {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	files, _ := filepath.Glob(prefix + "*.json")
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		nodes, err := ort.ReadTrace(f)
		_ = f.Close() // only read
		if err != nil {
			t.Log(err)
			continue
		}
		logTrace(t, filepath.Base(name), nodes)
	}
}

func logTrace(t *testing.T, name string, nodes []ort.NodeRun) {
	type sum struct {
		nodes, runs int
		took        time.Duration
	}
	by, total := map[string]*sum{}, time.Duration(0)
	for _, n := range nodes {
		key := n.Provider + " " + n.Op
		if by[key] == nil {
			by[key] = &sum{}
		}
		by[key].nodes, by[key].runs, by[key].took = by[key].nodes+1, by[key].runs+n.Runs, by[key].took+n.Took
		total += n.Took
	}
	t.Logf("%s: %d nodes, %v", name, len(nodes), total)
	for i, key := range slices.SortedFunc(maps.Keys(by), func(a, b string) int { return int(by[b].took - by[a].took) }) {
		if i < 14 {
			t.Logf("  %-28s %5d nodes %6d runs %v", key, by[key].nodes, by[key].runs, by[key].took)
		}
	}
	for i, n := range nodes {
		if i < 12 {
			t.Logf("    %s %s %s: %d runs, %v, %d elements", n.Provider, n.Op, n.Node, n.Runs, n.Took, n.Elements)
		}
	}
}
