package adapt_test

import (
	"os"
	"path/filepath"
	"testing"

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
