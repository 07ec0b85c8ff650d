package interact

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"scrawl/adapters/morph"
)

func bits(w int, set ...int) morph.Mask {
	m := morph.New(w, 1)
	for _, i := range set {
		m.Bits[i] = true
	}
	return m
}

func TestFocus(t *testing.T) {
	all := bits(10).Not()
	// An organ of 0.60 beside one of 0.58, in an image that spans air (0) and bone (1).
	image := []float32{0, 0.60, 0.60, 0.60, 0.60, 0.58, 0.58, 0.58, 0.58, 1}
	for _, c := range []struct {
		name           string
		focus          float64
		inside, object morph.Mask
		want           []float32
	}{
		{"too little is known of the object", 70, all, bits(10, 1, 2, 3), image},
		// 70 % of the differences are at most 0.02, so 0.58 … 0.62 is shown.
		{"neighbours are told apart", 70, all, bits(10, 1, 2, 3, 4), []float32{0, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0, 1}},
		// Everything is within 0.6, and there is nothing below 0 or above 1.
		{"nothing is cut off", 100, all, bits(10, 1, 2, 3, 4), image},
		{"padding does not count", 100, bits(10, 1, 2, 3, 4, 5, 6, 7, 8), bits(10, 1, 2, 3, 4), []float32{0, 1, 1, 1, 1, 0, 0, 0, 0, 1}},
		// Without the floor the differences of 0 would stretch nothing to everything.
		{"noise is not stretched", 30, all, bits(10, 1, 2, 3, 4), []float32{0, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0, 1}},
	} {
		got := slices.Clone(image)
		Input{Focus: c.focus}.focus(got, c.inside, c.object)
		for i := range got {
			if math.Abs(float64(got[i]-c.want[i])) > 1e-5 {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
				break
			}
		}
	}
}

func TestFocusKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		image := rapid.SliceOfN(rapid.Float32Range(0, 1), 4, 40).Draw(t, "image")
		object := morph.Mask{W: len(image), H: 1, Bits: rapid.SliceOfN(rapid.Bool(), len(image), len(image)).Draw(t, "object")}
		got := slices.Clone(image)
		Input{Focus: rapid.Float64Range(1, 100).Draw(t, "focus")}.focus(got, bits(len(image)).Not(), object)
		for i, a := range image {
			if !(got[i] >= 0 && got[i] <= 1) {
				t.Fatalf("%v becomes %v", a, got[i])
			}
			for k, b := range image {
				if a < b && got[i] > got[k] {
					t.Fatalf("%v < %v become %v > %v", a, b, got[i], got[k])
				}
			}
		}
	})
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
