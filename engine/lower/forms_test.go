package lower_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
)

// tunable is a layer whose gradient can be computed with either operand as the filter.
var tunable = layer{batch: 1, out: 16, in: 16, kernel: [2]int{3, 3}, stride: [2]int{1, 1}, dilation: [2]int{1, 1}, pads: [4]int{1, 1, 1, 1}, height: 40, width: 24}

// TestTune measures one geometry and holds that what was measured is kept, used and not measured again.
func TestTune(t *testing.T) {
	lib := orttest.Library(t) // found before the cache is another one
	target(t, lib)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	m, in := tunable.model(t)
	o := ort.Options{Threads: 1, NoSpinning: true}
	measured := 0
	file, known, err := lower.Tune(t.Context(), lib, o, []*onnx.Model{m, m}, func(_, total int) { measured = total })
	if err != nil || known != 1 || measured != 1 {
		t.Fatalf("%d geometries known, %d measured (%v); one is wanted", known, measured, err)
	}
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := lower.Tune(t.Context(), lib, o, []*onnx.Model{m}, func(_, total int) { measured = total }); err != nil || measured != 0 {
		t.Errorf("%d geometries are measured again (%v)", measured, err)
	}
	if again, _ := os.ReadFile(file); !slices.Equal(first, again) {
		t.Error("measuring nothing has changed the file")
	}
	want := run(t, lib, m, in)
	var answers [2][]float32
	for i := range answers {
		s, err := lower.NewCompiler(lib, o).Compile(m)
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.Run(t.Context(), in, nil)
		if err != nil {
			t.Fatal(err)
		}
		same(t, out, want)
		answers[i] = out["dw"].Float32s()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(answers[0], answers[1]) {
		t.Error("two compilers with the same forms give different bits")
	}

	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := lower.Tune(t.Context(), lib, o, []*onnx.Model{m}, func(int, int) {}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a broken file: %v; its name and what to do are wanted", err)
	}
	s, err := lower.NewCompiler(lib, o).Compile(m)
	if err != nil {
		t.Fatalf("a broken file keeps networks from being compiled: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestForms holds that every form gives the same gradient, and that a form which does not fit is passed over.
func TestForms(t *testing.T) {
	lib := orttest.Library(t)
	to := target(t, lib)
	m, in := tunable.model(t)
	want := run(t, lib, m, in)
	const key = "[16 16 3 3] stride [1 1] dilation [1 1] pads [1 1 1 1] of 256x256"
	texts := map[string]bool{}
	for _, f := range []lower.Form{{Filter: "dy", Band: 16 << 10}, {Filter: "x", Band: 16 << 10}, {Filter: "x", Band: 1 << 20}, {Filter: "z", Band: 1 << 20}, {Filter: "x", Band: -1}} {
		to.Forms = lower.Forms{key: f}
		l, err := lower.CPU(m, to)
		if err != nil {
			t.Fatal(err)
		}
		same(t, run(t, lib, l, in), want)
		text, err := l.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		texts[string(text)] = true
	}
	if len(texts) != 4 {
		t.Errorf("five forms make %d graphs; three of them are real, and the default", len(texts))
	}
}
