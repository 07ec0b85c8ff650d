package ort_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
)

// traced runs a model once and returns the text of its trace.
func traced(t *testing.T) string {
	t.Helper()
	prefix := filepath.Join(t.TempDir(), "trace")
	s, err := orttest.Library(t).NewSession(model(t, "affine"), ort.Options{Profile: prefix})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, tensors{"x": tensor.Zeros[float32](2500, 3)}, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(prefix + "*.json")
	if len(files) != 1 {
		t.Fatalf("traces %v; one is wanted", files)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestTrace reads what ONNX Runtime really writes; what a GPU would write differs in the provider's name alone.
func TestTrace(t *testing.T) {
	text := traced(t)
	nodes, err := ort.ReadTrace(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	largest := 0
	for _, n := range nodes {
		if n.Provider != "CPU" || n.Op == "" || n.Node == "" || n.Runs != 1 || n.Took < 0 {
			t.Errorf("node %+v", n)
		}
		largest = max(largest, n.Elements)
	}
	if largest != 7500 {
		t.Errorf("the largest result has %d elements, the model's has 7500", largest)
	}
	var fallback *ort.FallbackError
	if err := ort.CheckPlacement(nodes); !errors.As(err, &fallback) || !strings.Contains(err.Error(), fallback.Nodes[0].Op) {
		t.Errorf("a run on the CPU passes as one on a GPU: %v", err)
	}
	nodes, err = ort.ReadTrace(strings.NewReader(strings.ReplaceAll(text, "CPUExecutionProvider", "CUDAExecutionProvider")))
	if err != nil {
		t.Fatal(err)
	}
	if err := ort.CheckPlacement(nodes); err != nil || nodes[0].Provider != "CUDA" {
		t.Errorf("a run on a GPU (%s) is reported: %v", nodes[0].Provider, err)
	}
}

func TestTraceRefuses(t *testing.T) {
	for _, text := range []string{"", "{}", "[]", `[{"cat":"Session","name":"session_initialization","dur":1,"args":{}}]`} {
		if _, err := ort.ReadTrace(strings.NewReader(text)); err == nil {
			t.Errorf("%q is read as a trace", text)
		}
	}
}
