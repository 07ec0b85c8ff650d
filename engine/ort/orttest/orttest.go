// Package orttest gives tests the machine's ONNX Runtime.
package orttest

import (
	"os"
	"testing"

	"scrawl/engine/ort"
)

// Library returns the machine's ONNX Runtime, to be closed at the test's end by itself. Where there is none, the test is
// skipped with the command that installs one; it fails instead when the environment variable SCRAWL_REQUIRE is 1.
func Library(tb testing.TB) *ort.Library {
	tb.Helper()
	path, _, err := ort.Locate(tb.Context(), "")
	if err != nil {
		if os.Getenv("SCRAWL_REQUIRE") == "1" {
			tb.Fatalf("SCRAWL_REQUIRE=1: %v", err)
		}
		tb.Skipf("SKIPPED, no onnx runtime here; get it with `go run ./cmd/scrawl runtime install`: %v", err)
	}
	lib, err := ort.Open(path)
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
