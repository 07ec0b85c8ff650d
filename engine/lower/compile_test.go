package lower_test

import (
	"slices"
	"strings"
	"testing"

	"scrawl/engine/lower"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
)

// TestCompiler holds that a session of a rewritten model has the model's own interface, gives its answers and refuses devices that are not
// there.
func TestCompiler(t *testing.T) {
	lib := orttest.Library(t)
	m, in := layer{batch: 1, out: 32, in: 16, kernel: [2]int{3, 3}, stride: [2]int{1, 1}, dilation: [2]int{1, 1}, pads: [4]int{1, 1, 1, 1}, relu: true, height: 8, width: 8}.model(t)
	want := run(t, lib, m, in)
	for _, device := range []string{"cpu", "auto"} {
		c := lower.NewCompiler(lib, ort.Options{Device: device, Threads: 1, NoSpinning: true})
		c.Half = true // is for GPUs, and changes nothing here
		s, err := c.Compile(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Run(t.Context(), in, nil)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, want)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := lower.NewCompiler(lib, ort.Options{Device: "tpu"}).Compile(m); err == nil || !strings.Contains(err.Error(), "tpu") {
		t.Errorf("device tpu: %v", err)
	}
	if d, err := lib.Resolve("cuda:1"); err != nil || d.Index != 1 || d.Kind != ort.CUDA {
		t.Errorf("cuda:1 is %v (%v)", d, err)
	}
}

// TestFrozenModelsAreLeft holds that models whose weights are all constants are compiled as they are, which ONNX Runtime's own
// rewriting needs: their answers are the same to the last bit.
func TestFrozenModelsAreLeft(t *testing.T) {
	lib := orttest.Library(t)
	l := layer{batch: 1, out: 32, in: 48, kernel: [2]int{3, 3}, stride: [2]int{1, 1}, dilation: [2]int{1, 1}, pads: [4]int{1, 1, 1, 1}, relu: true, residual: true, height: 31, width: 29}
	for _, l.frozen = range []bool{true, false} {
		m, in := l.model(t)
		standard, lowered := run(t, lib, m, in), map[string]*tensor.Tensor(nil)
		s, err := lower.NewCompiler(lib, ort.Options{Threads: 1, NoSpinning: true}).Compile(m)
		if err != nil {
			t.Fatal(err)
		}
		if lowered, err = s.Run(t.Context(), in, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		same(t, lowered, standard)
		if equal := slices.Equal(lowered["dx"].Float32s(), standard["dx"].Float32s()); equal != l.frozen && target(t, lib).Block != 0 {
			t.Errorf("frozen %v: the same bits as ONNX Runtime alone gives: %v", l.frozen, equal)
		}
	}
}
