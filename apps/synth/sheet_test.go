package synth

import (
	"bytes"
	"image/png"
	"os"
	"testing"
)

// TestContactSheet leaves the sheet where SCRAWL_SHEET says, for looking at it.
func TestContactSheet(t *testing.T) {
	n := 4
	path := os.Getenv("SCRAWL_SHEET")
	if path != "" {
		n = 72
	}
	var out bytes.Buffer
	if err := ContactSheet(&out, 13, n, Options{}); err != nil {
		t.Fatal(err)
	}
	if path != "" {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	picture, err := png.Decode(&out)
	if err != nil {
		t.Fatal(err)
	}
	if picture.Bounds().Empty() {
		t.Error("the sheet is empty")
	}
}
