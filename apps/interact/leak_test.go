package interact

import (
	"testing"

	"scrawl/adapters/morph"
)

// block is a mask of w by h with a filled rectangle.
func block(w, h int, r morph.Rect) morph.Mask {
	m := morph.New(w, h)
	for y := r.Y0; y < r.Y1; y++ {
		for x := r.X0; x < r.X1; x++ {
			m.Set(x, y, true)
		}
	}
	return m
}

// An answer far from the neighbour's mask is cut off, in mm, and what is near it stays.
func TestWithinBoundsGrowth(t *testing.T) {
	const w, h = 64, 32
	before := block(w, h, morph.Rect{X0: 10, Y0: 10, X1: 20, Y1: 20})
	everything := maskProbability(block(w, h, morph.Rect{X1: w, Y1: h}))
	for _, c := range []struct {
		spacing float64
		reach   int // columns beyond the mask: (6 mm + 0.2·10 pixels) in pixels
	}{{1, 8}, {2, 5}} {
		got := within(everything, before, [2]float64{c.spacing, c.spacing}).mask(w, h)
		if inside := 19 + c.reach; !got.At(inside, 15) || got.At(inside+1, 15) {
			t.Errorf("at %g mm a pixel the answer reaches column %v, want %d", c.spacing, last(got, 15), inside)
		}
	}
}

func last(m morph.Mask, y int) int {
	at := -1
	for x := range m.W {
		if m.At(x, y) {
			at = x
		}
	}
	return at
}

// Tissue of another intensity than the object's on its anchor is left out; the object itself stays, noise and all.
func TestKeepLeavesOutOtherTissue(t *testing.T) {
	const w, h = 40, 30
	v := view{w: w, h: h, pixels: make([]float32, w*h)}
	for i := range v.pixels {
		v.pixels[i] = 0.6 + 0.02*float32(i%5-2)
		if i%w >= 20 {
			v.pixels[i] = 0.2
		}
	}
	object := block(w, h, morph.Rect{X0: 5, Y0: 5, X1: 15, Y1: 25})
	leak := maskProbability(block(w, h, morph.Rect{X0: 5, Y0: 5, X1: 35, Y1: 25}))
	got := appearanceOf(v, object).keep(leak, v).mask(w, h)
	if n := got.And(object).Count(); n != object.Count() {
		t.Errorf("%d of %d pixels of the object are kept", n, object.Count())
	}
	if n := got.And(block(w, h, morph.Rect{X0: 22, X1: w, Y1: h})).Count(); n > 0 {
		t.Errorf("%d pixels of other tissue are kept", n)
	}
	if all := appearanceOf(v, morph.New(w, h)).keep(leak, v).mask(w, h); all.Count() != leak.mask(w, h).Count() {
		t.Error("an empty anchor leaves something out")
	}
}
