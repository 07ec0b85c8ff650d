package interact

import (
	"testing"

	"scrawl/adapters/morph"
)

func bits(w int, set ...int) morph.Mask {
	m := morph.New(w, 1)
	for _, i := range set {
		m.Bits[i] = true
	}
	return m
}

func TestObjectOfPrompt(t *testing.T) {
	got := objectOf([]float32{0.9, 0.9, 0.2, 0.5}, bits(4, 2), bits(4, 1))
	if want := bits(4, 0, 2); !got.Same(want) {
		t.Errorf("object %v, want %v", got.Bits, want.Bits)
	}
	if got := objectOf(nil, bits(4, 2), bits(4, 3)); !got.Same(bits(4, 2)) {
		t.Errorf("without a previous prediction: %v, want the positive stroke", got.Bits)
	}
}
