package onnx_test

import (
	"testing"

	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
)

// TestNormalizedModelsRun writes every golden model in its normalised form and runs it with ONNX Runtime: it must be valid
// in onnx.Opset, and compute what the original did.
func TestNormalizedModelsRun(t *testing.T) {
	lib := orttest.Library(t)
	for _, g := range allGoldens(t) {
		t.Run(g.Name, func(t *testing.T) {
			data, err := normalize(t, g.parse(t)).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			s, err := lib.NewSession(data, ort.Options{Threads: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			got, err := s.Run(t.Context(), g.inputs(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range g.Outputs {
				compare(t, name, got[name], want.Tensor)
			}
		})
	}
}
