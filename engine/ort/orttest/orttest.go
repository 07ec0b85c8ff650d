// Package orttest gives tests the machine's ONNX Runtime.
package orttest

import (
	"os"
	"testing"

	"scrawl/engine/ort"
)

// Path returns where the machine's ONNX Runtime lies. Where there is none, the test is skipped with the command that
// installs one; it fails instead when the environment variable SCRAWL_REQUIRE is 1.
func Path(tb testing.TB) string {
	tb.Helper()
	path, _, err := ort.Locate(tb.Context(), "")
	if err != nil {
		if os.Getenv("SCRAWL_REQUIRE") == "1" {
			tb.Fatalf("SCRAWL_REQUIRE=1: %v", err)
		}
		tb.Skipf("SKIPPED, no onnx runtime here; get it with `go run ./cmd/scrawl runtime install`: %v", err)
	}
	return path
}

// Library opens the machine's ONNX Runtime, as found by [Path], and closes it at the test's end.
func Library(tb testing.TB) *ort.Library {
	tb.Helper()
	lib, err := ort.Open(Path(tb))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := lib.Close(); err != nil {
			tb.Errorf("at the test's end: %v", err)
		}
	})
	return lib
}

// CUDA is [Library] for tests on a GPU: where ONNX Runtime can use none, the test is skipped with the reason.
func CUDA(tb testing.TB) *ort.Library {
	tb.Helper()
	lib := Library(tb)
	for _, d := range lib.Devices() {
		if d.Device.Kind == ort.CUDA && d.Err != nil {
			tb.Skipf("SKIPPED, no GPU: %v", d.Err)
		}
	}
	return lib
}
