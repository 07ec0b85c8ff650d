package transform

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
		Focus(got, c.inside, c.object, c.focus)
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
		Focus(got, bits(len(image)).Not(), object, rapid.Float64Range(1, 100).Draw(t, "focus"))
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

func TestRankIsThatOfSortedValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float32Range(-2, 2), 1, 60).Draw(t, "values")
		p := rapid.Float64Range(0, 100).Draw(t, "percentile")
		sorted := slices.Sorted(slices.Values(values))
		if got, want := Rank(values, p), sorted[int(p/100*float64(len(sorted)-1)+0.5)]; got != want {
			t.Fatalf("percentile %v of %v is %v, want %v", p, sorted, got, want)
		}
		slices.Sort(values)
		if !slices.Equal(values, sorted) {
			t.Fatal("the values themselves have changed")
		}
	})
}
